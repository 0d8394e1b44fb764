r"""Schedules, averages and the weights that they give to the same batch centers."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import xarray as xr

from sgdynamics.domains import Numbers, Numeric, average, checked, flag, real, summing_to_one, unit_interval
from sgdynamics.formula import law
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory._backward import center_weights_backward
from sgdynamics.theory.schedules._along_steps import (
    AnyNumbers,
    Array,
    column,
    gain_sequence,
    scalar,
    sweep,
    weight_sequence,
)
from sgdynamics.theory.schedules.parameters import PARAMETERS


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


@overload
def center_weights(gains: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]: ...
@overload
def center_weights(gains: Numbers) -> tuple[float | Array, Array]: ...
@law(quantity="center weights")
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
    start_weight, weights = sweep(_center_weights, [gains], ["step"], ["", "step"])
    return scalar(start_weight), weights


def _gains_from_weights(start_weight: Array, weights: Array) -> Array:
    start = np.broadcast_to(column(start_weight), (*weights.shape[:-1], 1))
    everything = np.concatenate([start, weights], axis=-1)
    try:
        everything = summing_to_one("gains_from_weights", "weights", "such that all sum to 1", everything)
    except ValueError:
        first, rest = float(np.ravel(start)[0]), float(np.ravel(weights.sum(axis=-1))[0])
        raise ValueError(
            f"gains_from_weights: start_weight and weights must sum to 1, got {first!r} and {rest!r}"
        ) from None
    partial = np.cumsum(everything, axis=-1)  # forward sums: 1 minus the tail sum would cancel
    size = np.cumsum(np.abs(everything), axis=-1)
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
        return np.where(untouched[..., 1:], 1.0, everything[..., 1:] / partial[..., 1:])


@overload
def gains_from_weights(start_weight: Numbers | float, weights: Numbers) -> Array: ...
@overload
def gains_from_weights(start_weight: xr.DataArray, weights: Numbers | xr.DataArray) -> xr.DataArray: ...
@overload
def gains_from_weights(start_weight: Numbers | float, weights: xr.DataArray) -> xr.DataArray: ...
@law(quantity="gain")
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
    (gains,) = sweep(_gains_from_weights, [start_weight, weights], ["", "step"], ["step"])
    return gains


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


@overload
def average_center_weights(
    average: Numbers, base_gains: Numbers | float, *, momentum: Numbers | float = 0.0, nesterov: bool = False
) -> tuple[float | Array, Array]: ...
@overload
def average_center_weights(
    average: xr.DataArray,
    base_gains: AnyNumbers,
    *,
    momentum: AnyNumbers = 0.0,
    nesterov: bool = False,
) -> tuple[xr.DataArray, xr.DataArray]: ...
@overload
def average_center_weights(
    average: Numbers,
    base_gains: xr.DataArray,
    *,
    momentum: AnyNumbers = 0.0,
    nesterov: bool = False,
) -> tuple[xr.DataArray, xr.DataArray]: ...
@overload
def average_center_weights(
    average: Numbers, base_gains: Numbers | float, *, momentum: xr.DataArray, nesterov: bool = False
) -> tuple[xr.DataArray, xr.DataArray]: ...
@law(PARAMETERS, quantity="center weights")
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

    start_weight, weights = sweep(core, [average, base_gains, momentum], ["iterate", "step", ""], ["", "step"])
    return scalar(start_weight), weights


@overload
def average_to_gains(average: Numbers, base_gains: Numbers | float) -> Array: ...
@overload
def average_to_gains(average: xr.DataArray, base_gains: AnyNumbers) -> xr.DataArray: ...
@overload
def average_to_gains(average: Numbers, base_gains: xr.DataArray) -> xr.DataArray: ...
@law(quantity="gain")
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


@overload
def gains_to_average(gains: Numbers, base_gains: Numbers | float) -> Array: ...
@overload
def gains_to_average(gains: xr.DataArray, base_gains: AnyNumbers) -> xr.DataArray: ...
@overload
def gains_to_average(gains: Numbers, base_gains: xr.DataArray) -> xr.DataArray: ...
@law(quantity="average")
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
    (made,) = sweep(_gains_to_average, [gains, base_gains], ["step", "step"], ["iterate"])
    return made


@law(quantity="report")
@checked(average=average, base_gains=real)
def equivalence(average: Numeric, base_gains: Numeric) -> xr.Dataset:
    """The schedule of an average, with an outcome instead of an error.

    Status: exact at one curvature, pathwise.

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
