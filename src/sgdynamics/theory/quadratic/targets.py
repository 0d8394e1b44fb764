"""Steps to a target risk: every crossing, or the certainty that there is none."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, complain, instance_of, positive
from sgdynamics.formula import decay, geometric_sum, law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory._roots import bracketed_root

Array = NDArray[np.float64]

_MOST_STEPS = np.iinfo(np.int64).max


def _staggered_sum(gain: Array, count: float) -> Array:
    r""":math:`\sum_{i<n} i (1-x)^{i-1} = \sum_j \tbinom n{j+2} (j+1) (-x)^j`, for :math:`(n + 10) x` up to one half."""
    series = np.ones_like(gain)
    for j in range(16, -1, -1):
        series = 1 - (count - j - 2) * (j + 2) / ((j + 3) * (j + 1)) * gain * series
    made: Array = count * (count - 1) / 2 * series
    return made


@dataclass(frozen=True, eq=False)
class _Mode:
    """The modes at a constant learning rate."""

    weight: Array  # n h / 2
    gain: Array
    start: Array  # e_0^2
    noise: Array  # sigma^2

    @functools.cached_property
    def forget(self) -> Array:
        return self.gain * (2 - self.gain)  # 1 - rho, accurate for small gains

    @functools.cached_property
    def still(self) -> NDArray[np.bool_]:
        """Modes that nothing moves, at any gain."""
        return np.asarray((self.start == 0) & (self.noise == 0), dtype=np.bool_)

    @functools.cached_property
    def below_one(self) -> Array:
        """Gains up to 1 that are as fast, 1 for what is still; rho^k has all its digits in them, at any gain."""
        below_one: Array = np.where(self.still, 1.0, np.minimum(self.gain, 2 - self.gain))
        return below_one

    @functools.cached_property
    def plateau(self) -> Array:
        """Stationary risks, of use below the edge."""
        with np.errstate(divide="ignore", invalid="ignore"):
            plateau: Array = np.where(self.noise > 0, self.weight * self.noise * self.gain / (2 - self.gain), 0.0)
            return plateau

    def risks(self, step: float) -> Array:
        """Risks after a step, which may be inf."""
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isinf(step):
                settled = np.where(self.forget > 0, self.plateau, math.inf)
                last: Array = np.where((self.forget == 0) & (self.noise == 0), self.weight * self.start, settled)
                return last
            spread = self.noise * self.gain**2 * geometric_sum(self.forget, step)
            kept = np.where(self.start > 0, self.start * decay(self.forget, step), 0.0)
            risks: Array = self.weight * (kept + np.where(self.noise > 0, spread, 0.0))
            return risks

    def slopes(self, k: float, learning_rate: float) -> tuple[float, float, float]:
        """Derivatives of the risk in the step, in the learning rate and in the logarithm of the noise."""
        curvature, at_edge = self.gain / learning_rate, self.forget == 0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            left = np.asarray(decay(self.below_one, 2 * k))
            summed = geometric_sum(np.where(self.still, 1.0, self.forget), k)
            speed = np.where(at_edge, 1.0, -2 * np.log1p(-self.below_one) / self.forget)  # -log rho/(1 - rho)
            step = np.where(left == 0, 0.0, left * speed * (self.noise * self.gain**2 - self.start * self.forget))
            faded = np.where(left == 0, 0.0, -2 * k * curvature * left / (1 - self.gain))  # slope of rho^k in the rate
            turned = 2 * curvature * (1 - self.gain)  # slope of 1 - rho
            closed = (turned * summed + faded) / self.forget
            near = (k + 10) * np.abs(self.forget) < 0.5
            noisy = 2 * curvature * self.gain * summed - self.gain**2 * np.where(
                near, turned * _staggered_sum(self.forget, k), closed
            )
            rate = self.start * faded + np.where(self.noise > 0, self.noise * noisy, 0.0)
            noise = self.noise * self.gain**2 * summed
        return float(self.weight @ step), float(self.weight @ rate), float(self.weight @ noise)


@dataclass(frozen=True, eq=False)
class _Curve:
    r"""Expected excess risk at a constant learning rate, minus a target, as a sum of monotone curves.

    Mode i is at :math:`p_i + a_i \rho_i^k` with :math:`\rho = (1-g)^2`, its plateau :math:`p = \tfrac12 n h \sigma^2
    g/(2-g)` and its amplitude :math:`a = \tfrac12 n h e_0^2 - p`. Plateaus join the target: what is left falls to 0 or
    rises to 0 and keeps its digits however small it becomes. Modes whose plateau is twice the target or more, as close
    to their edge, would take its digits, and those beyond their edge have none: they count as they are. Equal gains are
    one curve. Two steps bracket everything in between.
    """

    mode: _Mode
    target: float

    @functools.cached_property
    def _settling(self) -> NDArray[np.bool_]:
        """Modes whose plateau joins the target."""
        joins = (self.mode.forget > 0) & (self.mode.plateau <= 2 * self.target)
        return np.asarray(joins | self.mode.still, dtype=np.bool_)

    @functools.cached_property
    def room(self) -> float:
        """Target above the plateaus that join it."""
        return self.target - float(self.mode.plateau[self._settling].sum())

    @functools.cached_property
    def _decaying(self) -> tuple[Array, Array]:
        """Amplitudes and gains in [0, 1] of the settling modes, one for each speed and the slowest first."""
        gain, which = np.unique(self.mode.below_one[self._settling], return_inverse=True)
        amplitude = np.zeros(gain.size)
        np.add.at(amplitude, which, (self.mode.weight * self.mode.start - self.mode.plateau)[self._settling])
        if self.room == 0 and gain.size and self._settling.all() and gain[0] < 1:
            # which sign is left for long is that of the slowest mode, also where all of them underflow
            gain = np.where(gain == 1, 1.0, (gain - gain[0]) / (1 - gain[0]))
        return amplitude, gain

    @functools.cached_property
    def _known(self) -> dict[float, tuple[float, float, Array]]:
        return {}

    def parts(self, step: float) -> tuple[float, float, Array]:
        """Sums of what falls to 0 and, positive, of what rises to 0, and the other modes; the step may be inf."""
        if step not in self._known:
            amplitude, gain = self._decaying
            left = np.where(gain > 0, 0.0, 1.0) if math.isinf(step) else np.asarray(decay(gain, 2 * step))
            falling, rising = np.maximum(amplitude, 0.0) @ left, np.maximum(-amplitude, 0.0) @ left
            others = np.empty(0) if self._settling.all() else self.mode.risks(step)[~self._settling]
            self._known[step] = float(falling), float(rising), others
        return self._known[step]

    @functools.cached_property
    def _start(self) -> float:
        return float((self.mode.weight * self.mode.start).sum()) - self.target

    def gap(self, step: float) -> float:
        """Risk above the target, or something of its sign."""
        falling, rising, others = self.parts(step)
        return self._start if step == 0 else falling - rising + float(others.sum()) - self.room

    def may_cross(self, first: float, last: float) -> bool:
        """Whether the risk can be on both sides of the target in first..last."""
        begin, end = self.parts(first), self.parts(last)
        low = end[0] - begin[1] + float(np.minimum(begin[2], end[2]).sum()) - self.room
        high = begin[0] - end[1] + float(np.maximum(begin[2], end[2]).sum()) - self.room
        if first == 0:  # where the start is at the target up to rounding
            low, high = min(low, self._start), max(high, self._start)
        return low <= 0 < high


def _crossings(curve: _Curve) -> list[int]:
    """All steps k >= 1 at which the risk is on the other side of the target than at k - 1."""
    horizon = 1
    while curve.may_cross(horizon, math.inf):
        horizon *= 2
    found = []
    pending = [(0, horizon)]
    while pending:
        first, last = pending.pop()
        if not curve.may_cross(first, last):
            continue
        if last - first == 1:
            if (curve.gap(first) <= 0) != (curve.gap(last) <= 0):
                found.append(last)
            continue
        middle = (first + last) // 2
        pending += [(middle, last), (first, middle)]
    return found


def _sensitivities(curve: _Curve, step: int, learning_rate: float, batch_size: float) -> list[float]:
    """Real-valued crossing before ``step`` and its derivatives in rate, batch size and target."""
    ends = (step - 1, step)
    if curve.gap(step - 1) * curve.gap(step) < 0:
        k = bracketed_root(curve.gap, *ends)
    else:  # the target is the risk at one end, up to rounding
        k = float(min(ends, key=lambda end: abs(curve.gap(end))))
    per_step, per_rate, per_noise = curve.mode.slopes(k, learning_rate)
    if per_step == 0:  # a gain of 1 gets there in one step: the curve jumps and k has no derivatives
        return [k, math.nan, math.nan, math.nan]
    return [k, -per_rate / per_step, per_noise / batch_size / per_step, 1 / per_step]


@law(quantity="steps")
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
        If an argument is outside its range, or a crossing takes more than 2^63 steps.

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
        rate, batch_size = float(rates.values[point]), float(batch_sizes.values[point])
        curve = _Curve(_Mode(*(field.values[point] for field in fields)), float(goals.values[point]))
        found = crossings[point] = _crossings(curve)
        if found and found[-1] > _MOST_STEPS:
            raise complain("steps_to_target", "learning_rate", "such that 64 bits count the steps", rate)
        first[point] = 0 if curve.gap(0) <= 0 else found[0] if found else -1
        if found:
            real[(slice(None), *point)] = _sensitivities(curve, found[0], rate, batch_size)
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
