r"""Learning-rate schedules and weight averages as arrays.

A **schedule** is a float array of learning rates :math:`\eta_1, \dots, \eta_T`, one per step, finite and >= 0. An
**average** is a float array of weights :math:`\alpha_0, \dots, \alpha_T` over the iterates :math:`x_0` (the start)
to :math:`x_T` that sums to 1. There are no classes: whatever builds such an array is a schedule or an average.

Swept parameters (a learning rate, a decay) may be arrays or DataArrays: the steps are then the last axis, or the dim
``step``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import (
    Domain,
    Numbers,
    Numeric,
    Values,
    checked,
    choice,
    flag,
    integer,
    nonnegative,
    optional,
    positive,
    sequence,
    unit_interval,
)
from sgdynamics.models._schedule_words import in_words

__all__ = [
    "SOURCES",
    "constant",
    "cosine",
    "describe",
    "ema",
    "inverse_sqrt",
    "linear",
    "power_decay",
    "step_decay",
    "swa",
    "tail",
    "two_point",
    "warmup_stable_decay",
]

SOURCES = ("sandler2023",)

# The domain of every argument that is a schedule.
schedule_of_rates: Domain = sequence(nonnegative, "a schedule: finite learning rates >= 0, one per step")


def along_step(value: Values | Numbers | float, profile: NDArray[np.float64], first: int = 1) -> Values:
    """The outer product of a swept value and a profile over the steps ``first``, ``first`` + 1, ..."""
    if isinstance(value, xr.DataArray):
        steps = np.arange(first, first + profile.size)
        return value * xr.DataArray(profile, dims="step", coords={"step": steps})
    return cast("Values", np.multiply.outer(value, profile))


def _fractions(steps: int, first_at_rate: bool) -> NDArray[np.float64]:
    return (np.arange(steps) if first_at_rate else np.arange(1, steps + 1)) / steps


@checked(rate=nonnegative, steps=integer(1))
def constant(rate: Values | Numbers | float, steps: int) -> Values:
    r"""A constant schedule.

    Parameters
    ----------
    rate : Numeric
        Learning rate, >= 0.
    steps : int
        Number of steps :math:`T`, >= 1.

    Returns
    -------
    array, shape (..., steps)
        :math:`\eta_j = \eta`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> constant(0.1, 3)
    array([0.1, 0.1, 0.1])
    """
    return along_step(rate, np.ones(steps))


@checked(rate=nonnegative, steps=integer(1), final=nonnegative, first_at_rate=flag)
def linear(
    rate: Values | Numbers | float, steps: int, final: Values | Numbers | float = 0.0, *, first_at_rate: bool = False
) -> Values:
    r"""A linear schedule from just below ``rate`` to ``final``.

    Parameters
    ----------
    rate : Numeric
        Learning rate :math:`\eta` that the line starts from at step 0, >= 0.
    steps : int
        Number of steps :math:`T`, >= 1.
    final : Numeric
        Learning rate of the last step, >= 0.
    first_at_rate : bool
        Whether the first step is at ``rate`` itself: :math:`j-1` in the place of :math:`j`, as PyTorch's schedulers
        count, so that ``final`` is what would come after the last step.

    Returns
    -------
    array, shape (..., steps)
        :math:`\eta_j = \eta + (\eta_\text{final} - \eta)\, j/T`, :math:`j = 1..T`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> linear(0.4, 4)
    array([0.3, 0.2, 0.1, 0. ])
    >>> linear(0.4, 4, first_at_rate=True)
    array([0.4, 0.3, 0.2, 0.1])
    """
    done = _fractions(steps, first_at_rate)
    return along_step(rate, 1 - done) + along_step(final, done)


@checked(rate=nonnegative, steps=integer(1), final=nonnegative, first_at_rate=flag)
def cosine(
    rate: Values | Numbers | float, steps: int, final: Values | Numbers | float = 0.0, *, first_at_rate: bool = False
) -> Values:
    r"""Half a cosine from ``rate`` to ``final``.

    Parameters
    ----------
    rate : Numeric
        Learning rate :math:`\eta` that the curve starts from at step 0, >= 0.
    steps : int
        Number of steps :math:`T`, >= 1.
    final : Numeric
        Learning rate of the last step, >= 0.
    first_at_rate : bool
        Whether the first step is at ``rate`` itself: :math:`j-1` in the place of :math:`j`, as PyTorch's schedulers
        count, so that ``final`` is what would come after the last step.

    Returns
    -------
    array, shape (..., steps)
        :math:`\eta_j = \eta_\text{final} + (\eta - \eta_\text{final})(1 + \cos(\pi j/T))/2`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> cosine(1.0, 2)
    array([0.5, 0. ])
    >>> cosine(1.0, 2, first_at_rate=True)
    array([1. , 0.5])
    """
    left = np.cos(np.pi / 2 * _fractions(steps, first_at_rate)) ** 2
    if not first_at_rate:
        left[-1] = 0.0
    return along_step(rate, left) + along_step(final, 1 - left)


@checked(rate=nonnegative, steps=integer(1), factor=nonnegative, every=integer(1))
def step_decay(rate: Values | Numbers | float, steps: int, factor: Values | Numbers | float, every: int) -> Values:
    r"""A staircase: the learning rate is multiplied by ``factor`` after every ``every`` steps.

    Parameters
    ----------
    rate : Numeric
        Learning rate of the first stair, >= 0.
    steps : int
        Number of steps, >= 1.
    factor : Numeric
        Ratio of one stair to the one before, >= 0.
    every : int
        Length of a stair in steps, >= 1.

    Returns
    -------
    array, shape (..., steps)
        :math:`\eta_j = \eta\, f^{\lfloor (j-1)/\text{every} \rfloor}`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> step_decay(1.0, 4, 0.5, every=2)
    array([1. , 1. , 0.5, 0.5])
    """
    stair = np.arange(steps) // every
    if isinstance(factor, xr.DataArray):
        return cast(
            "Values", rate * factor ** xr.DataArray(stair, dims="step", coords={"step": np.arange(1, steps + 1)})
        )
    powers = np.power.outer(factor, stair)
    return along_step(rate, powers) if powers.ndim == 1 else np.multiply(np.asarray(rate)[..., None], powers)


Shape: TypeAlias = Literal["linear", "cosine", "one_minus_sqrt"]

_SHAPES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda left: left,
    "cosine": lambda left: np.sin(np.pi / 2 * left) ** 2,
    "one_minus_sqrt": lambda left: left / (1 + np.sqrt(1 - left)),
}


@checked(rate=nonnegative, steps=integer(1), warmup=integer(0), decay=integer(0), shape=choice(*_SHAPES))
def warmup_stable_decay(
    rate: Values | Numbers | float, steps: int, warmup: int, decay: int, *, shape: Shape = "linear"
) -> Values:
    r"""Linear warm-up, a plateau, and a decay to zero.

    Parameters
    ----------
    rate : Numeric
        Learning rate of the plateau, >= 0.
    steps : int
        Number of steps :math:`T`, >= 1.
    warmup : int
        Steps of the warm-up, :math:`\eta_j = \eta j/\text{warmup}`.
    decay : int
        Steps of the decay, with :math:`s = (T-j)/\text{decay}`. ``warmup + decay <= steps``.
    shape : {"linear", "cosine", "one_minus_sqrt"}
        :math:`\eta s`, :math:`\eta (1 - \cos \pi s)/2` or :math:`\eta (1 - \sqrt{1-s})`. Powers of s are in
        :func:`power_decay`.

    Returns
    -------
    array, shape (..., steps)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or warm-up and decay overlap.

    Examples
    --------
    >>> warmup_stable_decay(1.0, 6, warmup=2, decay=2)
    array([0.5, 1. , 1. , 1. , 0.5, 0. ])
    >>> warmup_stable_decay(1.0, 5, warmup=0, decay=4, shape="one_minus_sqrt")
    array([1.        , 0.5       , 0.29289322, 0.1339746 , 0.        ])
    """
    if warmup + decay > steps:
        raise ValueError(
            f"warmup_stable_decay: warmup + decay must be at most steps = {steps}, got warmup {warmup}, decay {decay}"
        )
    j = np.arange(1, steps + 1)
    up = j / warmup if warmup else np.ones(steps)
    down = (steps - j) / decay if decay else np.ones(steps)
    return along_step(rate, np.minimum(up, _SHAPES[shape](np.minimum(down, 1.0))))


@checked(rate=nonnegative, steps=integer(1), exponent=nonnegative, decay=optional(positive))
def power_decay(rate: Values | Numbers | float, steps: int, exponent: float, decay: float | None = None) -> Values:
    r"""A plateau and then a power of the steps that are left.

    Parameters
    ----------
    rate : Numeric
        Learning rate of the plateau, >= 0.
    steps : int
        Number of steps :math:`T`, >= 1.
    exponent : float
        :math:`p \ge 0`: 0 is a constant rate, 1 a linear decay.
    decay : float, optional
        Steps of the decay, > 0. Default: all of them.

    Returns
    -------
    array, shape (..., steps)
        :math:`\eta_j = \eta \min(1, (T-j)/\text{decay})^p`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> power_decay(1.0, 4, exponent=2.0)
    array([0.5625, 0.25  , 0.0625, 0.    ])
    >>> power_decay(1.0, 4, exponent=1.0, decay=2)
    array([1. , 1. , 0.5, 0. ])
    """
    left = steps - np.arange(1, steps + 1)
    return along_step(rate, np.minimum(left / (steps if decay is None else decay), 1.0) ** exponent)


@checked(rate=nonnegative, steps=integer(1), warmup=integer(1))
def inverse_sqrt(rate: Values | Numbers | float, steps: int, warmup: int) -> Values:
    r"""Linear warm-up and then a decay like one over the root of the step, which needs no horizon.

    Parameters
    ----------
    rate : Numeric
        Largest learning rate, that of step ``warmup``, >= 0.
    steps : int
        Number of steps, >= 1.
    warmup : int
        :math:`w \ge 1`.

    Returns
    -------
    array, shape (..., steps)
        :math:`\eta_j = \eta \min(j/w, \sqrt{w/j})`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> inverse_sqrt(1.0, 8, warmup=2).round(3)
    array([0.5  , 1.   , 0.816, 0.707, 0.632, 0.577, 0.535, 0.5  ])
    """
    j = np.arange(1, steps + 1)
    return along_step(rate, np.minimum(j / warmup, np.sqrt(warmup / j)))


@checked(schedule=schedule_of_rates)
def describe(schedule: Numeric) -> str:
    """What a schedule is, in words: constant pieces, lines and a half cosine at its end.

    Parameters
    ----------
    schedule : array, shape (steps,)
        One schedule.

    Returns
    -------
    str
        A sentence; of more than five pieces it says their number and the range of the rates.

    Raises
    ------
    ValueError, TypeError
        If it is not one schedule.

    Examples
    --------
    >>> describe(warmup_stable_decay(0.3, 100, warmup=10, decay=20))
    '100 steps: 10 in a line from 0.03 to 0.3, 70 at 0.3, 20 in a line from 0.285 to 0'
    >>> describe(cosine(1.0, 1000))
    '1000 steps: 1000 in half a cosine from 1 to 0'
    """
    rates = np.asarray(schedule)
    if rates.ndim != 1:
        raise ValueError(f"describe: schedule must be one schedule, 1-D, got shape {rates.shape}")
    return in_words(rates)


@checked(beta=unit_interval, steps=integer(0))
def ema(beta: Values | Numbers | float, steps: int) -> Values:
    r"""The exponential moving average as weights over the iterates.

    The convention is :math:`y_0 = x_0`, :math:`y_t = \beta y_{t-1} + (1-\beta) x_t`, with no bias correction: the
    start keeps :math:`\beta^T`. PyTorch's ``AveragedModel`` starts at the first update instead, :math:`y_1 = x_1`:
    that average has no weight on the start and :math:`\beta^{T-1}` on :math:`x_1`.

    Parameters
    ----------
    beta : Numeric
        Decay of the average, in [0, 1).
    steps : int
        Number of steps :math:`T`, >= 0.

    Returns
    -------
    array, shape (..., steps + 1)
        :math:`\alpha_0 = \beta^T`, :math:`\alpha_t = (1-\beta)\beta^{T-t}`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> ema(0.5, 2)
    array([0.25, 0.25, 0.5 ])
    """
    age = np.arange(steps, -1, -1)
    is_start = (age == steps).astype(float)
    if isinstance(beta, xr.DataArray):
        coordinate = {"step": np.arange(steps + 1)}
        powers = beta ** xr.DataArray(age, dims="step", coords=coordinate)
        return powers * (1 - beta * xr.DataArray(1 - is_start, dims="step", coords=coordinate))
    return cast("Values", np.power.outer(beta, age) * (1 - np.multiply.outer(beta, 1 - is_start)))


@checked(steps=integer(1), start=integer(0))
def swa(steps: int, start: int = 0) -> NDArray[np.float64]:
    r"""The uniform average of the iterates after step ``start`` (stochastic weight averaging, Polyak averaging).

    Parameters
    ----------
    steps : int
        Number of steps :math:`T`, >= 1.
    start : int
        The average runs over :math:`x_{\text{start}+1}, \dots, x_T`; ``start < steps``.

    Returns
    -------
    array, shape (steps + 1,)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> swa(4, start=2)
    array([0. , 0. , 0. , 0.5, 0.5])
    """
    if start >= steps:
        raise ValueError(f"swa: start must be an integer in 0..steps-1 = {steps - 1}, got {start}")
    return tail(steps, steps - start)


@checked(steps=integer(1), points=integer(1), stride=integer(1))
def tail(steps: int, points: int, stride: int = 1) -> NDArray[np.float64]:
    r"""The uniform average of the last ``points`` iterates that are ``stride`` steps apart, the last one :math:`x_T`.

    Parameters
    ----------
    steps : int
        Number of steps :math:`T`, >= 1.
    points : int
        Number of points, >= 1.
    stride : int
        Steps between two of them, >= 1. ``(points - 1) * stride <= steps``.

    Returns
    -------
    array, shape (steps + 1,)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the points reach back beyond the start.

    Examples
    --------
    >>> tail(4, points=2, stride=3)
    array([0. , 0.5, 0. , 0. , 0.5])
    """
    if (points - 1) * stride > steps:
        raise ValueError(f"tail: (points - 1) * stride must be at most steps = {steps}, got {(points - 1) * stride}")
    weights = np.zeros(steps + 1)
    weights[steps - stride * np.arange(points)] = 1 / points
    return weights


@checked(steps=integer(1), separation=integer(1))
def two_point(steps: int, separation: int) -> NDArray[np.float64]:
    r"""The midpoint of :math:`x_T` and :math:`x_{T-k}`.

    Parameters
    ----------
    steps : int
        Number of steps :math:`T`, >= 1.
    separation : int
        :math:`k`, in 1..T.

    Returns
    -------
    array, shape (steps + 1,)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> two_point(3, separation=2)
    array([0. , 0.5, 0. , 0.5])
    """
    if separation > steps:
        raise ValueError(f"two_point: separation must be an integer in 1..steps = {steps}, got {separation}")
    return tail(steps, 2, separation)
