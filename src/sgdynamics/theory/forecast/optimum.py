"""The best schedule of a given length under a fitted law, beside cosine, linear and the best decay after a plateau."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import checked, integer, one, positive
from sgdynamics.formula import law
from sgdynamics.models.schedules import constant, cosine, linear
from sgdynamics.theory.forecast._arguments import fitted_law
from sgdynamics.theory.forecast._law import Shape, curvatures, noise_at, noise_input, relaxation, step_maps, weights
from sgdynamics.theory.forecast._regression import shape_at
from sgdynamics.theory.forecast.prediction import predict

Array = NDArray[np.float64]

# Stretches of one rate that the optimum is made of; towards the end they are ever shorter.
_STRETCHES = 160
# Parts of the run that the decay after a plateau may take.
_DECAYS = np.linspace(0.02, 1.0, 50)
# Smallest rate to start the search from, in units of the peak; below this product sums of powers are taken at 1.
_LEAST, _CLOSE = 1e-4, 1e-5
# A search that gains no more than this share of the loss has come to its end.
_GAIN = 1e-8
_RULES = ("best", "cosine", "linear", "plateau_and_decay")


@law(quantity="report")
@checked(fitted=fitted_law, steps=integer(1), peak=one(positive), warmup=integer(0))
def best_schedule(fitted: xr.Dataset, steps: int, *, peak: float, warmup: int = 0) -> xr.Dataset:
    r"""The schedule of least final loss under the law, never rising after a linear warm-up to the peak.

    The rates are constant on 160 stretches that become shorter towards the end; below that many steps every step has
    its own. The gradient of the final loss by all of them comes from one backward pass.

    Status: heuristic on a network; exact where the law is, up to the stretches.

    Parameters
    ----------
    fitted : xarray.Dataset
        From :func:`fit`.
    steps : int
        Length of the run, >= 1, warm-up and all.
    peak : float
        Largest rate, > 0.
    warmup : int
        Steps of warm-up, below ``steps``; :math:`\eta_t = t/\text{warmup}` times the peak.

    Returns
    -------
    xarray.Dataset
        ``learning_rate`` (step) of the best schedule; ``loss``, ``loss_low``, ``loss_high`` by ``rule``: the best one,
        cosine and linear to 0, and a plateau with the linear decay to 0 of the best length (``decay``, a part of the
        run). Attributes ``gain`` over the best of the other three, ``error`` of the forecast at this length, and
        ``verdict``, which says whether the gain exceeds it.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the fitted runs hold one rate.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdynamics.theory.forecast import best_schedule, fit
    >>> step = np.arange(100, 2001, 100)
    >>> made = [(rates, step, 2 + 40 * (1 + np.cumsum(rates)[step - 1] / 0.01) ** -0.5 + 0.1 * rates[step - 1])
    ...         for rates in (constant(1.0, 2000), cosine(1.0, 2000))]
    >>> best = best_schedule(fit(made), 1000, peak=1.0)
    >>> bool((np.diff(best.learning_rate) <= 0).all()), bool(best.loss[0] <= best.loss[1:].min())
    (True, True)
    """
    if warmup >= steps:
        raise ValueError(f"best_schedule: warmup must be below steps = {steps}, got {warmup}")
    others = {
        "cosine": _warmed(np.asarray(cosine(peak, steps - warmup)), peak, warmup),
        "linear": _warmed(np.asarray(linear(peak, steps - warmup)), peak, warmup),
    }
    law = _Law(fitted, steps, peak, warmup)
    decays = [_warmed(_decayed(peak, steps - warmup, part), peak, warmup) for part in _DECAYS]
    values = [predict(fitted, rates).loss.item() for rates in decays]
    which = int(np.argmin(values))
    others["plateau_and_decay"] = decays[which]
    best = law.optimum([others["linear"], others["plateau_and_decay"]])
    found = {"best": best, **others}
    losses = xr.concat([predict(fitted, rates).isel(step=0, drop=True) for rates in found.values()], dim="rule")
    losses = losses.assign_coords(rule=list(_RULES))
    gain = float(losses.loss[1:].min() - losses.loss[0])
    error = float((losses.loss_high - losses.loss)[0])
    steps_axis = ("step", np.arange(1, steps + 1), {"long_name": "step", "units": "1"})
    attributes = {
        "gain": gain,
        "error": error,
        "decay": float(_DECAYS[which]),
        "confidence": fitted.attrs["confidence"],
        "verdict": _verdict(gain, error, str(losses.rule[1:].values[int(losses.loss.values[1:].argmin())])),
        "source": "theory.forecast.best_schedule",
    }
    rate = ("step", best, {"long_name": "learning rate", "units": "1"})
    return losses.assign(learning_rate=rate).assign_coords(step=steps_axis).assign_attrs(attributes)


def _verdict(gain: float, error: float, other: str) -> str:
    said = f"The best schedule ends {gain:.2g} below the next best, {other.replace('_', ' ')}"
    if gain > error:
        return f"{said}: more than the forecast's own error of {error:.2g}."
    return f"{said}: less than the forecast's own error of {error:.2g}, so that either may be better."


def _decayed(peak: float, steps: int, part: float) -> Array:
    decay = max(1, round(part * steps))
    return np.concatenate((constant(peak, steps - decay) if decay < steps else [], linear(peak, decay)))


def _warmed(rates: Array, peak: float, warmup: int) -> Array:
    return np.concatenate((peak * np.arange(1, warmup + 1) / max(warmup, 1), rates))


class _Law:
    """Final loss, up to its floor, of a warm-up and stretches of constant rate, with its gradient."""

    def __init__(self, fitted: xr.Dataset, steps: int, peak: float, warmup: int) -> None:
        self.unit, self.peak, self.warmup = fitted.attrs["unit"], peak, warmup
        self.shape: Shape = shape_at(fitted.place.values, fitted.attrs["reference"])
        _, self.start, self.amplitude = fitted.amplitude.values
        free = steps - warmup
        # as many stretches before any point as the square root of what is left tells: short ones at the end
        count = min(free, _STRETCHES)
        ends = np.rint(free * (1 - (1 - np.arange(count + 1) / count) ** 3)).astype(int)
        if count == free:
            ends = np.arange(free + 1)
        self.count = np.diff(np.unique(ends)).astype(float)
        self.curvature = curvatures(steps * peak / self.unit, max(1.0, peak / self.unit))
        self.weight = self.amplitude * weights(self.curvature, self.shape)
        self.ramp = peak / self.unit * np.arange(1, warmup + 1) / max(warmup, 1)
        self.time, self.noise = 0.0, np.zeros_like(self.curvature)  # after the warm-up
        for rate in self.ramp.tolist():
            self.time += rate
            brought = noise_input(np.array([rate]), np.array([self.time - rate / 2]), self.shape)
            self.noise = np.maximum(1 - rate * self.curvature, 0.0) ** 2 * self.noise + brought

    def spread(self, rates: Array) -> Array:
        """The schedule of these rates of the stretches."""
        return np.asarray(np.concatenate((self.ramp, np.repeat(rates, self.count.astype(int)))) * self.unit)

    def optimum(self, guesses: Sequence[Array]) -> Array:
        """The best rates, by descent in the logarithms of the ratios of neighbours, none of them above 1."""
        top = self.peak / self.unit
        starts = []
        for guess in guesses:
            means = np.add.reduceat(guess[self.warmup :], np.append(0, np.cumsum(self.count)[:-1]).astype(int))
            means = np.minimum(means / self.count / self.unit, top)
            drops = -np.diff(np.log(np.maximum(means, _LEAST * top)), prepend=np.log(top))
            starts.append(np.maximum(drops, 0.0))
        ends = [self._descended(start) for start in starts]
        best = min(ends, key=lambda drops: self.value(top * np.exp(-np.cumsum(drops)))[0])
        return self.spread(np.asarray(top * np.exp(-np.cumsum(best))))

    def _descended(self, start: Array) -> Array:
        from scipy.optimize import minimize

        top = self.peak / self.unit
        scale = abs(self.value(top * np.exp(-np.cumsum(start)))[0])
        if scale == 0:  # the fitted runs rest at the floor, and so does every other: nothing is better
            return start

        def objective(drops: Array) -> tuple[float, Array]:
            rates = top * np.exp(-np.cumsum(drops))
            value, slope = self.value(rates)
            return value / scale, -np.cumsum((slope * rates)[::-1])[::-1] / scale

        options = {"maxiter": 400, "maxfun": 500, "ftol": 1e-10, "gtol": 1e-8, "maxcor": 30}
        search = partial(minimize, objective, jac=True, method="L-BFGS-B", bounds=[(0.0, 12.0)] * start.size)
        found = search(start, options=options)
        while True:  # one short step ends a search: whether it was at an end, a fresh one from there tells
            last, found = found, search(found.x, options=options)
            if not found.fun < last.fun - _GAIN * abs(last.fun):
                return np.asarray(found.x)

    def value(self, rates: Array) -> tuple[float, Array]:
        """Loss above the floor at the end, and its derivatives by the rates of the stretches."""
        shape, count = self.shape, self.count
        middle = self.time + np.cumsum(rates * count) - rates * count / 2
        end = middle[-1] + rates[-1] * count[-1] / 2
        brought = noise_input(rates, middle, shape)
        keep, total = step_maps(rates, count, self.curvature)
        before = np.empty_like(keep)
        state = self.noise
        for place, (factor, added) in enumerate(zip(keep, brought[:, None] * total, strict=True)):
            before[place] = state
            state = factor * state + added
        loss = self.start * relaxation(np.array([end]), shape)[0] + self.weight @ state
        adjoint = np.empty_like(keep)
        back = self.weight
        for place in range(count.size - 1, -1, -1):
            adjoint[place] = back
            back = back * keep[place]
        reached = (adjoint * total).sum(axis=1)  # what a unit of noise per step of the stretch adds to the loss
        slope_keep, slope_total = self._map_slopes(rates, total)
        slope = (adjoint * before * slope_keep).sum(axis=1)
        slope += brought * (adjoint * slope_total).sum(axis=1)
        slope += (2 - shape.following) * brought / rates * reached
        level = noise_at(middle, shape)
        by_time = brought * reached * (level - 1 + shape.early) / level * self._fall(middle)
        later = np.cumsum(by_time[::-1])[::-1] - by_time / 2
        later += self.start * relaxation(np.array([end]), shape) * self._fall(np.array([end]))
        return float(loss), slope + later * count

    def _fall(self, time: Array) -> Array:
        """Derivative of the logarithm of the relaxation."""
        return -2 * self.shape.cutoff * self.shape.exponent / (1 + 2 * self.shape.cutoff * time)

    def _map_slopes(self, rates: Array, total: Array) -> tuple[Array, Array]:
        """Derivatives of factor and sum of every stretch by its rate."""
        count = self.count[:, None]
        stay = np.maximum(1 - rates[:, None] * self.curvature, 0.0)
        by_rate = np.where(stay > 0, -self.curvature, 0.0)
        power = stay ** (2 * count - 1)
        forgetting = 1 - stay * stay
        far = count * forgetting > _CLOSE
        # the sum of k^(2j), j < n, differentiated by k; near k = 1 the closed form cancels
        closed = 2 * (stay * total - count * power) / np.where(far, forgetting, 1.0)
        return 2 * count * power * by_rate, np.where(far, closed, count * (count - 1)) * by_rate
