"""The best schedule among plateaus that end in a power of the steps left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import checked, instance_of, integer, nonnegative, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.models.schedules import power_decay
from sgdynamics.theory.quadratic._plain_steps import plain_steps
from sgdynamics.theory.quadratic._sweep import over_modes

__all__ = ["best_power_decay"]

Array = NDArray[np.float64]

# Where the search starts: shares of the edge, shares of the run, exponents; and the largest exponent that it looks at.
_STARTS: tuple[Sequence[float], ...] = ((0.03, 0.4), (0.2, 0.9), (1.0,))
_STEEPEST = 20.0


@law(PARAMETERS, quantity="report")
@checked(
    model=instance_of(MiniBatchQuadratic),
    steps=integer(1),
    rate=optional(one(positive)),
    decay=optional(one(positive)),
    exponent=optional(one(nonnegative)),
)
def best_power_decay(
    model: MiniBatchQuadratic,
    steps: int,
    *,
    rate: float | None = None,
    decay: float | None = None,
    exponent: float | None = None,
) -> xr.Dataset:
    r"""Plateau, length and exponent of a decay with the lowest expected risk after the last step.

    Of schedules :math:`\eta \min(1, (T-j)/D)^p` (:func:`sgdynamics.models.schedules.power_decay`), by the exact risk of
    :func:`moments`. What is given is kept: ``exponent=1`` with a rate asks for the best length of a linear cooldown.

    Status: exact risk of a schedule that a simplex search from four starts ends at; that none is better is not proved.

    Parameters
    ----------
    model : MiniBatchQuadratic
        With a displacement: from the minimiser there is nothing to gain.
    rate : float, optional
        :math:`\eta > 0`. Searched up to the edge of the mean, :math:`2/\max h`.
    decay : float, optional
        :math:`D > 0`. Searched from 1 to T.
    exponent : float, optional
        :math:`p \ge 0`. Searched up to 20.

    Returns
    -------
    xarray.Dataset
        ``rate``, ``decay``, ``exponent`` and ``excess_risk``, each over the dims of any sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> model = MiniBatchQuadratic([1.0, 0.1], 1.0, displacement=3.0)
    >>> best = best_power_decay(model, 100, rate=0.5, exponent=1.0)
    >>> round(best.decay.item()), round(best.excess_risk.item(), 4)
    (92, 0.0193)
    """
    from scipy.optimize import minimize

    given = (rate, decay, exponent)
    last = np.array([steps])

    def core(curvature: Array, variance: Array, displacement: Array, multiplicity: Array) -> tuple[float, ...]:
        edge = 2 / float(curvature.max())
        # logarithms of the share of the edge and of the length: the search knows no unit of the rate
        bounds = [(np.log(1e-6), 0.0), (0.0, np.log(steps)), (0.0, _STEEPEST)]
        free = [place for place, value in enumerate(given) if value is None]

        def at(point: Array) -> tuple[float, float, float]:
            found = list(given)
            for place, value in zip(free, point, strict=True):
                found[place] = float(value) if place == 2 else float((edge, 1.0)[place] * np.exp(value))
            return found[0], found[1], found[2]  # type: ignore[return-value]

        def risk(point: Array) -> float:
            plateau, length, power = at(point)
            schedule = power_decay(plateau, steps, power, length)
            with np.errstate(over="ignore", invalid="ignore"):
                mean, spread = plain_steps(curvature, schedule, last, displacement)
                second = mean[0] ** 2 + curvature**2 * variance * spread[0]
                return float(0.5 * np.sum(multiplicity * curvature * second))

        if not free:
            return (*at(np.empty(0)), risk(np.empty(0)))
        limits = [bounds[place] for place in free]
        ends = []
        for start in {tuple(scale[place] for place in free) for scale in product(*_STARTS)}:
            inside = {0: lambda share: np.log(share), 1: lambda share: np.log(max(1.0, share * steps))}
            point = np.array([inside.get(place, float)(share) for place, share in zip(free, start, strict=True)])
            unit = risk(point) or 1.0  # so that the scale of the loss does not matter
            search = minimize(
                lambda x, unit=unit: risk(x) / unit,
                point,
                method="Nelder-Mead",
                bounds=limits,
                options={"xatol": 1e-5, "fatol": 1e-13, "maxfev": 1000},
            )
            ends.append(search.x)
        best = min(ends, key=risk)
        return (*at(best), risk(best))

    made = over_modes(core, model, [], [[], [], [], []], {})
    described = {
        "rate": ("learning rate of the plateau", "1/curvature"),
        "decay": ("length of the decay", "step"),
        "exponent": ("exponent of the decay", "1"),
        "excess_risk": ("expected excess risk", "loss"),
    }
    data = {
        name: values.assign_attrs(long_name=described[name][0], units=described[name][1])
        for name, values in zip(described, made, strict=True)
    }
    return xr.Dataset(data).assign_attrs(source="theory.quadratic.best_power_decay")
