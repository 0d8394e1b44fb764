r"""Averages, schedules and merges: three ways to weigh the same mini-batch centers.

At one curvature :math:`h` the last iterate of SGD and every average of the iterates are affine combinations
:math:`P_0 x_0 + \sum_j w_j c_j` of the start and the batch centers, with weights that do not depend on the draw. Two
procedures with the same weights are the same point, batch by batch. Everything here is in gains :math:`g_j = \eta_j h`.

The equivalence is exact at one curvature and for one horizon :math:`T`; across a spectrum only trivial schedules
have an exact average (:func:`average_for_every_curvature`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import (
    Numeric,
    average,
    checked,
    closed_unit_interval,
    count,
    flag,
    positive,
    real,
    sequence,
    unit_interval,
    whole,
)
from sgdynamics.formula import decay, formula, geometric_sum, where
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory._backward import center_weights_backward

__all__ = [
    "SOURCES",
    "NoEquivalentSchedule",
    "average_center_weights",
    "average_for_every_curvature",
    "average_to_gains",
    "binomial_average",
    "center_weights",
    "ema_heavy_ball_gain",
    "ema_heavy_ball_momentum",
    "ema_schedule_gain",
    "equivalence",
    "gains_from_weights",
    "gains_to_average",
    "schedule_free_weights",
    "swa_schedule_gain",
    "two_point_schedule_gain",
    "wsm_average",
]

SOURCES = ("sandler2023", "tian2025", "defazio2024")

Array = NDArray[np.float64]

gain_sequence = sequence(real, "finite gains (learning rate times curvature), one per step")
weight_sequence = sequence(real, "finite weights of the batch centers, one per step")
relative_rates = sequence(
    closed_unit_interval, "learning rates as fractions in [0, 1] of the base learning rate, one per step"
)


class NoEquivalentSchedule(ValueError):
    """No schedule gives the asked weights.

    Attributes
    ----------
    first_bad_index : int
        Index, from 0, of the first entry of the schedule that does not exist.
    """

    def __init__(self, message: str, first_bad_index: int) -> None:
        super().__init__(message, first_bad_index)
        self.first_bad_index = first_bad_index

    def __str__(self) -> str:
        return str(self.args[0])


# ---------------------------------------------------------------------------------------------------------------------
# Sweeps: a core works on arrays with the steps last; DataArrays are brought into that form and labelled again

_FIRST_STEP = {"step": 1, "iterate": 0}


def _sweep(
    core: Callable[..., Any], arguments: Sequence[Numeric], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[Any, ...]:
    """Run a core whose arguments and results lie along "step" (1..T), "iterate" (0..T) or nothing ("")."""
    if not any(isinstance(argument, xr.DataArray) for argument in arguments):
        result = core(*arguments)
        return result if isinstance(result, tuple) else (result,)
    named = []
    steps = 0
    for argument, along in zip(arguments, inputs, strict=True):
        if not isinstance(argument, xr.DataArray):
            argument = xr.DataArray(argument, dims=[along] if along and np.ndim(argument) else [])
        elif along == "iterate":
            argument = argument.rename(step="iterate")
        if along and along not in argument.dims:  # a constant base gain, to be broadcast along the steps
            argument = argument.expand_dims({along: 1}, axis=-1)
        elif along:
            steps = argument.sizes[along] - (along == "iterate")
        named.append((argument, [along] if along else []))
    sizes = {"step": steps, "iterate": steps + 1}
    given = {dim for _, dims in named for dim in dims}
    result = xr.apply_ufunc(
        core,
        *(argument for argument, _ in named),
        input_core_dims=[dims for _, dims in named],
        output_core_dims=[[along] if along else [] for along in outputs],
        exclude_dims=given,
        dask="parallelized",
        output_dtypes=[np.float64] * len(outputs),
        dask_gufunc_kwargs={
            "allow_rechunk": True,
            "output_sizes": {dim: sizes[dim] for dim in outputs if dim},
        },
    )
    results = result if isinstance(result, tuple) else (result,)
    return tuple(_relabelled(item, along, sizes) for item, along in zip(results, outputs, strict=True))


def _relabelled(item: xr.DataArray, along: str, sizes: dict[str, int]) -> xr.DataArray:
    if not along:
        return item
    first = _FIRST_STEP[along]
    item = item.rename({along: "step"}) if along != "step" else item
    return item.assign_coords(step=np.arange(first, first + sizes[along]))


def _column(value: Numeric) -> Numeric:
    """A sweep against an array along steps: the step axis is added last."""
    return value if np.ndim(value) == 0 else np.asarray(value)[..., None]


# ---------------------------------------------------------------------------------------------------------------------
# Schedules <-> center weights


def _products_after(gains: Array) -> Array:
    r""":math:`\prod_{s>j} (1-g_s)` for j = 0..T."""
    after = np.ones((*gains.shape[:-1], gains.shape[-1] + 1))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        np.cumprod((1 - gains)[..., ::-1], axis=-1, out=after[..., :-1][..., ::-1])
    # NaN arises only where an overflowed product meets a gain of exactly 1, which wipes it out
    return np.where(np.isnan(after), 0.0, after)


def _center_weights(gains: Array) -> tuple[Array, Array]:
    after = _products_after(gains)
    with np.errstate(invalid="ignore"):
        weights = np.where(gains == 0, 0.0, gains * after[..., 1:])
    return after[..., 0], weights


@checked(gains=gain_sequence)
def center_weights(gains: Numeric) -> tuple[Numeric, Numeric]:
    r"""Weights of the start and of every batch center in the last iterate of SGD.

    .. math:: P_0 = \prod_s (1-g_s), \qquad w_j = g_j \prod_{s>j} (1-g_s), \qquad P_0 + \sum_j w_j = 1.

    Status: exact, pathwise, for any gains.

    Parameters
    ----------
    gains : array, shape (..., T), or a DataArray with the dim ``step``
        :math:`g_j = \eta_j h`, any finite numbers.

    Returns
    -------
    start_weight : float or array, shape (...)
    weights : array, shape (..., T)

    Raises
    ------
    ValueError, TypeError
        If gains are not finite numbers along steps.

    See Also
    --------
    gains_from_weights : The inverse.

    Examples
    --------
    >>> center_weights([0.5, 0.25, 0.1])
    (0.3375, array([0.3375, 0.225 , 0.1   ]))
    """
    start_weight, weights = _sweep(_center_weights, [gains], ["step"], ["", "step"])
    return _scalar(start_weight), weights


def _scalar(value: Any) -> Any:
    return float(value) if isinstance(value, np.ndarray | np.float64) and np.ndim(value) == 0 else value


def _gains_from_weights(start_weight: Array, weights: Array) -> Array:
    start = np.broadcast_to(_column(start_weight), (*weights.shape[:-1], 1))
    everything = np.concatenate([start, weights], axis=-1)
    partial = np.cumsum(everything, axis=-1)  # forward sums: 1 minus the tail sum would cancel
    size = np.cumsum(np.abs(everything), axis=-1)
    if np.any(np.abs(partial[..., -1] - 1) > 1e-9 * np.maximum(1.0, size[..., -1])):
        first, total = float(np.ravel(start)[0]), float(np.ravel(partial[..., -1])[0])
        raise ValueError(
            f"gains_from_weights: start_weight and weights must sum to 1, got {first!r} and {total - first!r}"
        )
    rounding = 4 * np.finfo(float).eps * size
    untouched = size < np.finfo(float).tiny  # nothing of what came before is left: any gains do, 1 among them
    bad = (np.abs(partial) <= rounding) & ~untouched
    if bad.any():
        # Q_j = 0 asks of step j that it removes what is left of the past, and of the next to bring it back
        index = int(np.argmax(bad.reshape(-1, bad.shape[-1]).any(axis=0))) - 1
        raise NoEquivalentSchedule(
            "gains_from_weights: no schedule has these weights: the start and the first "
            f"{index + 1} centers weigh 0 together but not one by one",
            max(index, 0),
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(untouched[..., 1:], 1.0, weights / partial[..., 1:])


@checked(start_weight=real, weights=weight_sequence)
def gains_from_weights(start_weight: Numeric, weights: Numeric) -> Numeric:
    r"""The gains whose last iterate weighs the start and the centers as given.

    .. math:: g_j = \frac{w_j}{P_0 + \sum_{s \le j} w_s}

    Status: exact. Gains outside [0, 1] are returned as they are. Where the start and all centers so far weigh
    nothing, any gain does and 1 is returned.

    Parameters
    ----------
    start_weight : Numeric
        :math:`P_0`.
    weights : array, shape (..., T), or a DataArray with the dim ``step``
        :math:`w_1..w_T`, with :math:`P_0 + \sum_j w_j = 1`.

    Returns
    -------
    array, shape (..., T)

    Raises
    ------
    NoEquivalentSchedule
        If a partial sum vanishes although its terms do not.
    ValueError, TypeError
        If the weights do not sum to 1 or are not finite.

    Examples
    --------
    >>> gains_from_weights(0.3375, [0.3375, 0.225, 0.1])
    array([0.5 , 0.25, 0.1 ])
    """
    (gains,) = _sweep(_gains_from_weights, [start_weight, weights], ["", "step"], ["step"])
    return gains


# ---------------------------------------------------------------------------------------------------------------------
# Averages <-> schedules


def _average_center_weights(average: Array, base_gains: Array, momentum: Array, nesterov: bool) -> tuple[Array, Array]:
    steps = average.shape[-1] - 1
    gains = np.asarray(base_gains)
    if gains.ndim and gains.shape[-1] not in (steps, 1):
        raise ValueError(
            f"average_center_weights: base_gains must have one gain per step, {steps}, got {gains.shape[-1]}"
        )
    shape = np.broadcast_shapes(average.shape[:-1], gains.shape[:-1], np.shape(momentum))
    average = np.broadcast_to(average, (*shape, steps + 1))
    gains = np.broadcast_to(gains, (*shape, steps))
    weights = np.empty((*shape, steps + 1))
    if shape:
        pass_back = center_weights_backward(lambda j: gains[..., j - 1], average, momentum, nesterov)
        for j, weight in pass_back:
            weights[..., j] = weight
    else:  # Python floats are several times faster than numpy scalars in a long loop
        listed = gains.tolist()
        floats = _Floats(average.tolist())
        for j, weight in center_weights_backward(lambda j: listed[j - 1], floats, float(momentum), nesterov):
            weights[j] = weight
    return weights[..., 0], weights[..., 1:]


class _Floats:
    """A list of floats, read like an array along its last axis."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.shape = (len(values),)

    def __getitem__(self, index: tuple[Any, int]) -> float:
        return self.values[index[1]]


@checked(average=average, base_gains=real, momentum=unit_interval, nesterov=flag)
def average_center_weights(
    average: Numeric, base_gains: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> tuple[Numeric, Numeric]:
    r"""Weights of the start and of every batch center in an average of the iterates of a base run.

    For plain SGD, :math:`S_{T+1} = 0`, :math:`S_j = \alpha_j + (1-b_{j+1}) S_{j+1}`, :math:`w_j = b_j S_j`,
    :math:`P_0 = S_0`; with momentum by the same backward pass on the two-component state, started at rest.

    Status: exact, pathwise.

    Parameters
    ----------
    average : array, shape (..., T + 1), or a DataArray with the dim ``step``
        Weights :math:`\alpha_0..\alpha_T` that sum to 1.
    base_gains : Numeric, shape (..., T) or scalar
        Gains of the base run.
    momentum : Numeric
        In [0, 1).
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

    Returns
    -------
    start_weight : float or array, shape (...)
    weights : array, shape (..., T)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or lengths disagree.

    Examples
    --------
    >>> average_center_weights([0.0, 0.5, 0.5], 0.5)
    (0.375, array([0.375, 0.25 ]))
    """

    def core(average: Array, base_gains: Array, momentum: Array) -> tuple[Array, Array]:
        return _average_center_weights(average, base_gains, momentum, nesterov)

    start_weight, weights = _sweep(core, [average, base_gains, momentum], ["iterate", "step", ""], ["", "step"])
    return _scalar(start_weight), weights


@checked(average=average, base_gains=real)
def average_to_gains(average: Numeric, base_gains: Numeric) -> Numeric:
    r"""The schedule whose last iterate is the given average of a base run of SGD.

    Status: exact at one curvature, pathwise, for this horizon. Convex averages of base gains in [0, 1] always have
    such a schedule, with gains in [0, 1].

    Parameters
    ----------
    average : array, shape (..., T + 1), or a DataArray with the dim ``step``
        Weights :math:`\alpha_0..\alpha_T` that sum to 1.
    base_gains : Numeric, shape (..., T) or scalar
        Gains :math:`b_j` of the base run.

    Returns
    -------
    array, shape (..., T)
        Gains; outside [0, 1] where the average asks for it, never clipped.

    Raises
    ------
    NoEquivalentSchedule
        If no schedule reproduces the average.
    ValueError, TypeError
        If an argument is outside its range or lengths disagree.

    See Also
    --------
    gains_to_average : The inverse.
    equivalence : The same as a Dataset, without raising.

    Examples
    --------
    >>> average_to_gains([0.0, 1 / 3, 1 / 3, 1 / 3], 1.0)  # averaging the centers themselves is the 1/j schedule
    array([1.        , 0.5       , 0.33333333])
    """
    return gains_from_weights(*average_center_weights(average, base_gains))


def _gains_to_average(gains: Array, base_gains: Array) -> Array:
    if np.ndim(base_gains) and np.shape(base_gains)[-1] not in (gains.shape[-1], 1):
        raise ValueError(
            f"gains_to_average: base_gains must have one gain per step, {gains.shape[-1]}, "
            f"got {np.shape(base_gains)[-1]}"
        )
    shape = np.broadcast_shapes(gains.shape, np.shape(base_gains))
    gains, base = np.broadcast_to(gains, shape), np.broadcast_to(base_gains, shape)
    if np.any(base == 0):
        raise ValueError("gains_to_average: base_gains must be different from 0 (a step that does not move is no step)")
    after = _products_after(gains)
    relative = gains / base
    made = np.empty((*shape[:-1], shape[-1] + 1))
    made[..., 0] = after[..., 1] * (1 - relative[..., 0])
    # S_j - (1-b_{j+1}) S_{j+1}, arranged so that nothing cancels for small gains
    made[..., 1:-1] = after[..., 2:] * (
        (relative[..., :-1] - relative[..., 1:]) + gains[..., 1:] * (1 - relative[..., :-1])
    )
    made[..., -1] = relative[..., -1]
    return made


@checked(gains=gain_sequence, base_gains=real)
def gains_to_average(gains: Numeric, base_gains: Numeric) -> Numeric:
    r"""The average of a base run of SGD that is the last iterate of the given schedule.

    With :math:`r_j = g_j/b_j` and :math:`P_{>j} = \prod_{s>j} (1-g_s)`,

    .. math:: \alpha_0 = P_{>1} (1-r_1), \quad \alpha_j = P_{>j+1} \bigl[ r_j - r_{j+1} + g_{j+1} (1-r_j) \bigr],
        \quad \alpha_T = r_T.

    Status: exact at one curvature, pathwise. The weights sum to 1; for :math:`0 < b_j \le 1` they are convex if
    :math:`r` does not increase and stays in [0, 1].

    Parameters
    ----------
    gains : array, shape (..., T), or a DataArray with the dim ``step``
        Gains of the schedule to emulate.
    base_gains : Numeric, shape (..., T) or scalar
        Gains :math:`b_j \ne 0` of the base run.

    Returns
    -------
    array, shape (..., T + 1)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, a base gain is 0, or lengths disagree.

    Examples
    --------
    >>> gains_to_average([0.075, 0.05, 0.025], 0.1)
    array([0.2315625, 0.2559375, 0.2625   , 0.25     ])
    """
    (made,) = _sweep(_gains_to_average, [gains, base_gains], ["step", "step"], ["iterate"])
    return made


@checked(average=average, base_gains=real)
def equivalence(average: Numeric, base_gains: Numeric) -> xr.Dataset:
    """The schedule of an average, with an outcome instead of an error.

    Parameters
    ----------
    average : array, shape (T + 1,)
        Weights over the iterates that sum to 1.
    base_gains : Numeric, shape (T,) or scalar
        Gains of the base run.

    Returns
    -------
    xarray.Dataset
        ``gain`` (NaN throughout where no schedule exists) and ``center_weight`` along ``step``; ``start_weight``;
        ``outcome``; ``first_bad_index`` (-1 where a schedule exists).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or lengths disagree.

    Examples
    --------
    >>> Outcome(int(equivalence([0.0, 0.5, 0.5], 0.1).outcome)).sentence
    'One schedule with gains in [0, 1] reproduces the average.'
    """
    if isinstance(average, xr.DataArray):
        average = average.values
    if isinstance(base_gains, xr.DataArray):
        base_gains = base_gains.values
    if average.ndim != 1:
        raise ValueError(f"equivalence: average must be one average, 1-D, got shape {average.shape}")
    start_weight, weights = average_center_weights(average, base_gains)
    first_bad_index = -1
    try:
        gains = gains_from_weights(start_weight, weights)
        inside = np.all((gains >= 0) & (gains <= 1))
        outcome = Outcome.EQUIVALENT if inside else Outcome.EQUIVALENT_OUTSIDE_UNIT_INTERVAL
    except NoEquivalentSchedule as error:
        gains = np.full(weights.shape, np.nan)
        outcome, first_bad_index = Outcome.NOT_EQUIVALENT, error.first_bad_index
    possible = (Outcome.EQUIVALENT, Outcome.EQUIVALENT_OUTSIDE_UNIT_INTERVAL, Outcome.NOT_EQUIVALENT)
    return xr.Dataset(
        {
            "gain": ("step", gains, {"long_name": "gain of the equivalent schedule", "units": "1"}),
            "center_weight": ("step", weights, {"long_name": "weight of the batch center", "units": "1"}),
            "start_weight": ((), start_weight, {"long_name": "weight of the start", "units": "1"}),
            "outcome": ((), np.int8(outcome), outcome_attributes(*possible)),
            "first_bad_index": ((), np.int32(first_bad_index), {"long_name": "first entry without a gain, or -1"}),
        },
        coords={"step": np.arange(1, weights.size + 1)},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Closed forms of equivalent schedules


@formula(
    gain=positive, beta=unit_interval, remaining=whole, status="exact", source="derived", assumptions=("one curvature",)
)
def ema_schedule_gain(gain: Numeric, beta: Numeric, remaining: Numeric) -> Numeric:
    r"""Gain, with ``remaining`` steps to go, of the schedule that ends on the exponential moving average of SGD.

    With :math:`a = 1-x` and :math:`k` steps to go

    .. math:: g = \frac{(1-\beta)\, x\, (\beta^{k+1} - a^{k+1})}{x \beta^{k+1} - (1-\beta) a^{k+1}}
        = \frac{(1-\beta)\, x}{x + a^{k+1} (\beta-a) / (\beta^{k+1}-a^{k+1})},

    evaluated in the second form by a geometric sum in the smaller of :math:`a/\beta` and :math:`\beta/a`, which
    neither underflows nor cancels at :math:`a = \beta`. The schedule starts near :math:`\min(x, 1-\beta)` and ends
    at :math:`x (1-\beta)`.

    Parameters
    ----------
    gain : Numeric
        :math:`x` of the base run, > 0, dimensionless.
    beta : Numeric
        Decay of the average, in [0, 1).
    remaining : Numeric
        :math:`k = T - j`, steps after step j, >= 0.

    Returns
    -------
    Numeric
        The gain of step j.

    Examples
    --------
    >>> ema_schedule_gain(0.1, 0.9, [0, 1, 10])
    array([0.01      , 0.01818182, 0.055     ])
    """
    survival = 1 - gain
    slower = abs(survival) > beta
    one = where(slower, survival, where(beta == 0, 1.0, beta))
    gap = where(slower, (1 - beta) - gain, gain - (1 - beta)) / one
    memory = survival / geometric_sum(gap, remaining + 1) * where(slower, 1.0, decay(gap, remaining))
    return (1 - beta) * gain / (gain + memory)


@formula(
    gain=positive,
    step=count,
    steps=count,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("one curvature", "step <= steps"),
)
def swa_schedule_gain(gain: Numeric, step: Numeric, steps: Numeric) -> Numeric:
    r"""Gain of the schedule that ends on the uniform average of :math:`x_1..x_T` of SGD.

    .. math:: \frac{1}{g_j} = \frac1x + \frac{j-1}{1 - (1-x)^{T-j+1}}

    At :math:`x = 1` this is the :math:`1/j` schedule. It ends at :math:`x/T`.

    Parameters
    ----------
    gain : Numeric
        :math:`x` of the base run, > 0, dimensionless.
    step : Numeric
        :math:`j`, in 1..T.
    steps : Numeric
        :math:`T`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> swa_schedule_gain(0.1, 2, 100)
    0.090908...
    """
    return gain / (1 + (step - 1) / geometric_sum(gain, steps - step + 1))


@formula(
    gain=positive,
    separation=count,
    remaining=whole,
    status="exact",
    source="derived",
    assumptions=("one curvature", "separation <= number of steps"),
)
def two_point_schedule_gain(gain: Numeric, separation: Numeric, remaining: Numeric) -> Numeric:
    r"""Gain, with ``remaining`` steps to go, of the schedule that ends on the midpoint of :math:`x_T` and
    :math:`x_{T-k}`.

    :math:`x` as long as :math:`k` or more steps remain; then, with :math:`m` steps to go,
    :math:`x/(1 + (1-x)^{-m})`: the schedule drops to almost nothing and ramps up to :math:`x/2`.

    Parameters
    ----------
    gain : Numeric
        :math:`x` of the base run, > 0, dimensionless.
    separation : Numeric
        :math:`k >= 1` steps between the two points.
    remaining : Numeric
        :math:`m = T - j`, steps after step j, >= 0.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_point_schedule_gain(0.1, 20, [0, 10, 19, 20])
    array([0.05      , 0.02585334, 0.01190088, 0.1       ])
    """
    left = decay(gain, remaining)
    return where(remaining >= separation, gain, gain * left / (1 + left))


@formula(gain=real, beta=unit_interval, status="exact", symbolic=True, source="derived", assumptions=("one curvature",))
def ema_heavy_ball_momentum(gain: Numeric, beta: Numeric) -> Numeric:
    r"""Momentum of the heavy-ball run that is, step by step, the exponential moving average of SGD.

    The average :math:`y_t = \beta y_{t-1} + (1-\beta) x_t` of SGD at gain :math:`x` is SGD with heavy ball at momentum
    :math:`(1-x)\beta` and gain :math:`x(1-\beta)` (:func:`ema_heavy_ball_gain`), started at rest, for every t.

    Parameters
    ----------
    gain : Numeric
        :math:`x` of the averaged run, dimensionless.
    beta : Numeric
        Decay of the average, in [0, 1).

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ema_heavy_ball_momentum(0.1, 0.9)
    0.81...
    """
    return (1 - gain) * beta


@formula(gain=real, beta=unit_interval, status="exact", symbolic=True, source="derived", assumptions=("one curvature",))
def ema_heavy_ball_gain(gain: Numeric, beta: Numeric) -> Numeric:
    r"""Gain of the heavy-ball run that is, step by step, the exponential moving average of SGD.

    :math:`x (1-\beta)`; see :func:`ema_heavy_ball_momentum`.

    Parameters
    ----------
    gain : Numeric
        :math:`x` of the averaged run, dimensionless.
    beta : Numeric
        Decay of the average, in [0, 1).

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ema_heavy_ball_gain(0.5, 0.5)
    0.25
    """
    return gain * (1 - beta)


# ---------------------------------------------------------------------------------------------------------------------
# Averages that emulate a decay, given as fractions r_j of the base learning rate


@checked(fractions=relative_rates)
def wsm_average(fractions: Numeric) -> Numeric:
    r"""Tail-sum weights: the average that re-weighs the recorded updates of a base run by the fractions.

    .. math:: \alpha_0 = 1 - r_1, \quad \alpha_j = r_j - r_{j+1}, \quad \alpha_T = r_T

    Status: exact for flat directions (the limit of :func:`gains_to_average` as the gain goes to 0) and for recorded
    updates of any optimiser; no re-run with noise at finite curvature.

    Parameters
    ----------
    fractions : array, shape (..., T), or a DataArray with the dim ``step``
        :math:`r_j` in [0, 1], target learning rate over base learning rate.

    Returns
    -------
    array, shape (..., T + 1)
        Negative where the fractions increase.

    Raises
    ------
    ValueError, TypeError
        If fractions leave [0, 1].

    Notes
    -----
    Tian et al. 2025.

    Examples
    --------
    >>> wsm_average([0.75, 0.5, 0.25])
    array([0.25, 0.25, 0.25, 0.25])
    """

    def core(r: Array) -> Array:
        ends = np.ones((*r.shape[:-1], 1))
        padded = np.concatenate([ends, r, 0 * ends], axis=-1)
        made: Array = padded[..., :-1] - padded[..., 1:]
        return made

    (made,) = _sweep(core, [fractions], ["step"], ["iterate"])
    return made


@checked(fractions=relative_rates)
def binomial_average(fractions: Numeric) -> Numeric:
    r"""The average that contracts the start like the decay does, at every curvature.

    The weights are the coefficients of :math:`\prod_j (1 - r_j + r_j t)`, so that :math:`\sum_i \alpha_i a^i` is the
    decay's own contraction for every :math:`a = 1-x`. The noise weights are not matched.

    Status: exact for the bias only.

    Parameters
    ----------
    fractions : array, shape (..., T), or a DataArray with the dim ``step``
        :math:`r_j` in [0, 1], target learning rate over base learning rate. The work grows as the square of T.

    Returns
    -------
    array, shape (..., T + 1)

    Raises
    ------
    ValueError, TypeError
        If fractions leave [0, 1].

    Examples
    --------
    >>> binomial_average([0.75, 0.5, 0.25])
    array([0.09375, 0.40625, 0.40625, 0.09375])
    """

    def core(r: Array) -> Array:
        made = np.zeros((*r.shape[:-1], r.shape[-1] + 1))
        made[..., 0] = 1
        for j in range(r.shape[-1]):
            fraction = r[..., j, None]
            made[..., 1 : j + 2] = (1 - fraction) * made[..., 1 : j + 2] + fraction * made[..., : j + 1]
            made[..., 0] *= 1 - r[..., j]
        return made

    (made,) = _sweep(core, [fractions], ["step"], ["iterate"])
    return made


@checked(fractions=relative_rates)
def average_for_every_curvature(fractions: Numeric) -> Array:
    r"""The average that equals the given decay at every curvature at once, where there is one.

    One set of weights reproduces a schedule batch by batch for every curvature if and only if the schedule is the
    base learning rate, then one partial step, then nothing: :math:`r = (1, .., 1, r_m, 0, .., 0)`. The weights are
    then :math:`1-r_m` on :math:`x_{m-1}` and :math:`r_m` on :math:`x_m`.

    Status: exact. (The weight of :math:`c_T` forces :math:`\alpha_T = r_T`; the weight of :math:`c_{T-1}`, a
    polynomial in the curvature, forces :math:`r_T = r_{T-1} r_T`; and so on down.)

    Parameters
    ----------
    fractions : array, shape (T,)
        :math:`r_j` in [0, 1], target learning rate over base learning rate.

    Returns
    -------
    array, shape (T + 1,)

    Raises
    ------
    NoEquivalentSchedule
        For every other schedule; ``first_bad_index`` is the first entry that breaks the pattern.
    ValueError, TypeError
        If fractions leave [0, 1].

    Examples
    --------
    >>> average_for_every_curvature([1.0, 0.3, 0.0])
    array([0. , 0.7, 0.3, 0. ])
    """
    values = np.asarray(fractions)
    if values.ndim != 1:
        raise ValueError(f"average_for_every_curvature: fractions must be one schedule, 1-D, got shape {values.shape}")
    # after anything below 1 only zeros may follow
    broken = np.flatnonzero((values[1:] != 0) & (values[:-1] != 1))
    if broken.size:
        index = int(broken[0]) + 1
        raise NoEquivalentSchedule(
            "average_for_every_curvature: fractions must be 1, .., 1, one value in [0, 1], 0, .., 0: "
            f"entry {index} is {values[index]} after {values[index - 1]}, and no other schedule has an average that is "
            "exact at every curvature",
            index,
        )
    made: Array = wsm_average(values)
    return made


# ---------------------------------------------------------------------------------------------------------------------
# Schedule-Free and primal averaging


def _schedule_free_weights(gains: Array, interpolation: Array) -> tuple[Array, Array]:
    steps = gains.shape[-1]
    shape = np.broadcast_shapes(gains.shape[:-1], np.shape(interpolation))
    weights = np.empty((*shape, steps))
    base, averaged = np.zeros(shape), np.ones(shape)  # adjoints of z_t and x_t
    for t in range(steps, 0, -1):
        gain = gains[..., t - 1]
        base, averaged = base + averaged / t, averaged * (1 - 1 / t)
        weight = gain * base
        weights[..., t - 1] = weight
        base, averaged = base - (1 - interpolation) * weight, averaged - interpolation * weight
    return base + averaged, weights


@checked(gains=gain_sequence, interpolation=closed_unit_interval)
def schedule_free_weights(gains: Numeric, interpolation: Numeric) -> tuple[Numeric, Numeric]:
    r"""Weights of the start and of every batch center in the averaged point of Schedule-Free SGD.

    The method interpolates, steps and averages: :math:`y_t = (1-b) z_{t-1} + b x_{t-1}`,
    :math:`z_t = z_{t-1} - g_t (y_t - c_t)`, :math:`x_t = (1 - 1/t) x_{t-1} + z_t/t`, with :math:`z_0 = x_0`.
    :math:`b = 0` is Polyak averaging, :math:`b = 1` primal averaging.

    Status: exact, pathwise, at one curvature. For large :math:`b` the equivalent schedule
    (:func:`gains_from_weights`) leaves [0, 1].

    Parameters
    ----------
    gains : array, shape (..., T), or a DataArray with the dim ``step``
        Gains of the base sequence.
    interpolation : Numeric
        :math:`b`, in [0, 1].

    Returns
    -------
    start_weight : float or array, shape (...)
    weights : array, shape (..., T)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Defazio et al. 2024.

    Examples
    --------
    >>> import numpy as np
    >>> _, weights = schedule_free_weights(np.full(100, 0.3), 0.9)
    >>> print(f"{(weights**2).sum():.6f}")
    0.041688
    """
    start_weight, weights = _sweep(_schedule_free_weights, [gains, interpolation], ["step", ""], ["", "step"])
    return _scalar(start_weight), weights
