"""Steps to a target risk: every crossing, or the certainty that there is none."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, instance_of, positive
from sgdynamics.formula import decay, geometric_sum
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.outcome import Outcome, outcome_attributes

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Curve:
    r"""Expected excess risk at a constant learning rate as a sum of monotone curves, one per mode.

    Mode i is at :math:`\tfrac12 n h [e_0^2 \rho^k + \sigma^2 g^2 (1-\rho^k)/(1-\rho)]` with :math:`\rho = (1-g)^2`: it
    moves from its start to its stationary value without turning, so that two steps bracket everything in between.
    """

    weight: Array  # n h / 2
    gain: Array
    start: Array  # e_0^2
    noise: Array  # sigma^2

    @functools.cached_property
    def _forget(self) -> Array:
        return self.gain * (2 - self.gain)  # 1 - rho, accurate for small gains

    def modes(self, step: float) -> Array:
        spread = self.noise * self.gain**2 * geometric_sum(self._forget, step)
        with np.errstate(over="ignore", invalid="ignore"):
            kept = self.start * decay(self._forget, step)
            risks: Array = self.weight * (kept + np.where(self.noise > 0, spread, 0.0))
            return risks

    @functools.cached_property
    def _limit(self) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            stationary = np.where(self._forget > 0, self.noise * self.gain / (2 - self.gain), np.inf)
        still = (self.noise == 0) & ((self._forget == 0) | (self.start == 0))
        limit: Array = self.weight * np.where(still, self.start, stationary)
        return limit

    @functools.cached_property
    def _falling(self) -> NDArray[np.bool_]:
        return self._limit < self.modes(0.0)

    @functools.cache  # noqa: B019 - the curve lives as long as one search
    def parts(self, step: float) -> tuple[float, float]:
        """Sum of the falling and of the rising modes; the step may be inf."""
        modes = self._limit if math.isinf(step) else self.modes(step)
        return float(modes[self._falling].sum()), float(modes[~self._falling].sum())

    def risk(self, step: float) -> float:
        return sum(self.parts(step))

    def may_cross(self, target: float, first: float, last: float) -> bool:
        """Whether the risk can be on both sides of the target in first..last."""
        falling_first, rising_first = self.parts(first)
        falling_last, rising_last = self.parts(last)
        return falling_last + rising_first <= target < falling_first + rising_last


def _crossings(curve: _Curve, target: float) -> list[int]:
    """All steps k >= 1 at which the risk is on the other side of the target than at k - 1."""
    horizon = 1
    resolution = np.finfo(float).eps * max(target, float(np.sum(curve.weight * curve.start)))
    while curve.may_cross(target, horizon, math.inf):
        horizon *= 2
        falling, rising = curve.parts(horizon)
        falling_limit, rising_limit = curve.parts(math.inf)
        # closer to the plateau than floating point tells apart
        if falling - falling_limit <= resolution and rising_limit - rising <= resolution:
            break
    found = []
    pending = [(0, horizon)]
    while pending:
        first, last = pending.pop()
        if not curve.may_cross(target, first, last):
            continue
        if last - first == 1:
            if (curve.risk(first) <= target) != (curve.risk(last) <= target):
                found.append(last)
            continue
        middle = (first + last) // 2
        pending += [(middle, last), (first, middle)]
    return found


def _sensitivities(curve: _Curve, target: float, step: int, learning_rate: float, batch_size: float) -> list[float]:
    """Real-valued crossing before ``step`` and its derivatives in rate, batch size and target."""
    from scipy.optimize import brentq

    def gap(k: float) -> float:
        return float(curve.modes(k).sum()) - target

    ends = (step - 1, step)
    if gap(step - 1) * gap(step) < 0:
        k = brentq(gap, *ends, xtol=1e-12)
    else:  # the target is the risk at one end, up to rounding
        k = float(min(ends, key=lambda end: abs(gap(end))))
    a = 1 - curve.gain
    curvature = curve.gain / learning_rate
    with np.errstate(divide="ignore", invalid="ignore"):
        plateau = curve.noise * curve.gain / (2 - curve.gain)
        left = np.abs(a) ** (2 * k)
        log_keep = np.where(a == 0, 0.0, 2 * np.log(np.abs(a)))
        per_step = float(np.sum(curve.weight * (curve.start - plateau) * left * log_keep))
        left_slope = -2 * k * curvature * np.sign(a) * np.abs(a) ** (2 * k - 1)
        plateau_slope = curve.noise * 2 * curvature / (2 - curve.gain) ** 2
        per_rate = float(np.sum(curve.weight * ((curve.start - plateau) * left_slope + plateau_slope * (1 - left))))
        per_batch = -float(np.sum(curve.weight * plateau * (1 - left))) / batch_size
    if per_step == 0:  # a gain of 1 gets there in one step: the curve jumps and k has no derivatives
        return [k, math.nan, math.nan, math.nan]
    return [k, -per_rate / per_step, -per_batch / per_step, 1 / per_step]


@checked(model=instance_of(MiniBatchQuadratic), learning_rate=positive, target=positive)
def steps_to_target(model: MiniBatchQuadratic, learning_rate: Numeric, target: Numeric) -> xr.Dataset:
    r"""Steps of SGD at a constant learning rate until the expected excess risk is at or below a target.

    The risk across a spectrum need not fall monotonically: it can dip below the target and come back. Every crossing is
    found by branch and bound, since each mode alone moves monotonically to its plateau; where none is found, there is
    none at any number of steps.

    Status: exact. The derivatives are those of the real-valued solution of R(k) = target, by implicit differentiation.

    Parameters
    ----------
    model : MiniBatchQuadratic
    learning_rate : Numeric
        > 0; also beyond the stability edge.
    target : Numeric
        Excess risk, > 0.

    Returns
    -------
    xarray.Dataset
        Over the dims of the sweep: ``first_step`` (int64, the first step at or below the target, 0 if the start is, -1
        for never), ``crossing_count``, ``crossing_step`` along ``crossing`` (a step at which the risk changes sides, -1
        where there are fewer), ``outcome``; and for the first crossing, NaN if there is none, ``real_step`` with its
        derivatives ``real_step_per_learning_rate``, ``real_step_per_batch_size`` and ``real_step_per_target``. Lazy
        input is computed.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    See Also
    --------
    moments : The curve itself, for any schedule and with momentum.

    Examples
    --------
    >>> model = MiniBatchQuadratic([1.0, 0.1], 0.1, displacement=[1.0, 0.0])
    >>> found = steps_to_target(model, 0.3, [0.05, 0.001])
    >>> found.first_step.values, found.outcome.values
    (array([ 4, -1]), array([10, 11], dtype=int8))
    """
    curvature, variance, displacement, multiplicity = model.labelled()
    swept = xr.broadcast(
        multiplicity * curvature / 2,
        _named("learning_rate", learning_rate) * curvature,
        displacement**2,
        variance,
        _named("target", target),
        xr.DataArray(model.batch_size),
        _named("learning_rate", learning_rate),
        exclude=["mode"],
    )
    *fields, goals, batch_sizes, rates = (
        item.transpose(..., "mode", missing_dims="ignore").compute() for item in swept
    )
    dims, shape = goals.dims, goals.shape
    first = np.empty(shape, dtype=np.int64)
    real = np.full((4, *shape), np.nan)
    crossings = np.empty(shape, dtype=object)
    for point in np.ndindex(shape):
        curve = _Curve(*(field.values[point] for field in fields))
        goal = float(goals.values[point])
        found = crossings[point] = _crossings(curve, goal)
        first[point] = 0 if curve.risk(0) <= goal else found[0] if found else -1
        if found:
            rate, batch_size = float(rates.values[point]), float(batch_sizes.values[point])
            real[(slice(None), *point)] = _sensitivities(curve, goal, found[0], rate, batch_size)
    padded = np.full((*shape, max(map(len, crossings.flat))), -1, dtype=np.int64)
    for point in np.ndindex(shape):
        padded[point][: len(crossings[point])] = crossings[point]
    code = np.where(first < 0, np.int8(Outcome.NEVER_REACHED), np.int8(Outcome.REACHED))
    described = {
        "first_step": (dims, first, "first step at or below the target", "1"),
        "crossing_count": (dims, (padded >= 0).sum(-1), "number of crossings", "1"),
        "crossing_step": ((*dims, "crossing"), padded, "step after a crossing", "1"),
        "real_step": (dims, real[0], "real-valued first crossing", "1"),
        "real_step_per_learning_rate": (dims, real[1], "derivative of real_step in the learning rate", "curvature"),
        "real_step_per_batch_size": (dims, real[2], "derivative of real_step in the batch size", "1"),
        "real_step_per_target": (dims, real[3], "derivative of real_step in the target", "1/loss"),
    }
    data = {
        name: xr.DataArray(values, dims=along, attrs={"long_name": text, "units": unit})
        for name, (along, values, text, unit) in described.items()
    }
    verdicts = outcome_attributes(Outcome.REACHED, Outcome.NEVER_REACHED)
    data["outcome"] = xr.DataArray(code, dims=dims, attrs=verdicts)
    return xr.Dataset(data, coords=goals.coords)


def _named(name: str, value: Numeric) -> xr.DataArray:
    """A swept argument: a plain 1-D array spans an axis of its own name."""
    if isinstance(value, xr.DataArray):
        return value
    if np.ndim(value) > 1:
        raise ValueError(f"steps_to_target: {name} must be a scalar, 1-D or a DataArray, got shape {np.shape(value)}")
    return xr.DataArray(value, dims=[name] if np.ndim(value) else [], coords={name: value} if np.ndim(value) else {})
