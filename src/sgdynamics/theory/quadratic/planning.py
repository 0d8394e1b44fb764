r"""Learning-rate schedules that are best for one step, or for a whole horizon."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Numeric, checked, instance_of, integer, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory.quadratic._sweep import over_modes

Array = NDArray[np.float64]

# The sweeps are monotone and converge linearly; this many have never been needed.
_MOST_SWEEPS = 1000
# Schedules without noise, of 1, 2, ... rates, that sweeps start from beside the greedy one.
_MOST_STARTS = 4


def _best_rate(cost: Array, curvature: Array, second_moment: Array, variance: Array, largest: float) -> float:
    """Minimise sum_i cost_i E e_i^2, a parabola, over one step; 0 where there is nothing left to gain."""
    slope = float(np.sum(cost * curvature * second_moment))
    bend = float(np.sum(cost * curvature**2 * (second_moment + variance)))
    return min(slope / bend, largest) if bend > 0 else 0.0


def _step(second_moment: Array, gain: Array, variance: Array) -> Array:
    return (1 - gain) ** 2 * second_moment + gain**2 * variance


def _greedy(
    curvature: Array,
    variance: Array,
    displacement: Array,
    multiplicity: Array,
    steps: int,
    largest: float = math.inf,
) -> Array:
    second_moment = displacement**2
    schedule = np.empty(steps)
    for t in range(steps):
        schedule[t] = _best_rate(multiplicity * curvature, curvature, second_moment, variance, largest)
        second_moment = _step(second_moment, schedule[t] * curvature, variance)
    return schedule


def _without_noise(curvature: Array, displacement: Array, multiplicity: Array, steps: int) -> Array:
    """The best rates for the mean alone, falling: reciprocals of the Ritz values of conjugate gradients."""
    curvatures, which = np.unique(curvature, return_inverse=True)
    residual = np.zeros(curvatures.size)
    np.add.at(residual, which, multiplicity * (curvature * displacement) ** 2)
    seen = residual > 0
    basis = np.sqrt(residual[seen] / residual.sum())[:, None]
    while basis.shape[1] < min(steps, int(seen.sum())):
        longer = curvatures[seen] * basis[:, -1]
        for _ in range(2):  # the second time for rounding
            longer = longer - basis @ (basis.T @ longer)
        basis = np.column_stack([basis, longer / np.linalg.norm(longer)])
    rates: Array = 1 / np.linalg.eigvalsh(basis.T @ (curvatures[seen, None] * basis))
    return rates


def _optimal(
    curvature: Array,
    variance: Array,
    displacement: Array,
    multiplicity: Array,
    steps: int,
    largest: float = math.inf,
) -> Array:
    def risk(schedule: Array) -> float:
        second_moment = displacement**2
        for rate in schedule:
            second_moment = _step(second_moment, rate * curvature, variance)
        return float(np.sum(multiplicity * curvature * second_moment))

    starts = [_greedy(curvature, variance, displacement, multiplicity, steps, largest)]
    if np.any(curvature * displacement):
        with one_blas_thread():
            chosen = range(1, 1 + min(steps, np.unique(curvature).size, _MOST_STARTS))
            quiet = [
                np.minimum(_without_noise(curvature, displacement, multiplicity, count), largest) for count in chosen
            ]
        for rates in quiet:
            second_moment = displacement**2
            for rate in rates:
                second_moment = _step(second_moment, rate * curvature, variance)
            rest = _greedy(curvature, variance, np.sqrt(second_moment), multiplicity, steps - rates.size, largest)
            starts.append(np.concatenate([rates, rest]))
    ends = (_descended(start, curvature, variance, displacement, multiplicity, largest) for start in starts)
    return min(ends, key=risk)


def _descended(
    schedule: Array,
    curvature: Array,
    variance: Array,
    displacement: Array,
    multiplicity: Array,
    largest: float,
) -> Array:
    """The local minimum that sweeps over one rate at a time reach."""
    steps = schedule.size
    final_cost = multiplicity * curvature / 2
    costs = np.empty((steps, curvature.size))
    best = np.inf
    for _ in range(_MOST_SWEEPS):
        costs[-1] = final_cost
        for t in range(steps - 1, 0, -1):
            costs[t - 1] = (1 - schedule[t] * curvature) ** 2 * costs[t]
        second_moment = displacement**2
        # Forward and in place: with the later rates fixed each rate minimises a parabola exactly, so the risk never
        # rises.
        for t in range(steps):
            schedule[t] = _best_rate(costs[t], curvature, second_moment, variance, largest)
            second_moment = _step(second_moment, schedule[t] * curvature, variance)
        risk = float(np.sum(final_cost * second_moment))
        if risk >= best * (1 - 1e-13):
            break
        best = risk
    return schedule


def _planned(
    plan: Callable[[Array, Array, Array, Array, int], Array], model: MiniBatchQuadratic, steps: int
) -> Numeric:
    def core(curvature: Array, variance: Array, displacement: Array, multiplicity: Array) -> Array:
        return plan(curvature, variance, displacement, multiplicity, steps)

    (schedule,) = over_modes(core, model, [], [["step"]], {"step": steps})
    labelled = any(hasattr(getattr(model, name), "dims") for name in model.domains)
    return schedule.assign_coords(step=np.arange(1, steps + 1)) if labelled else schedule.values


@law(PARAMETERS, quantity="schedule")
@checked(model=instance_of(MiniBatchQuadratic), steps=integer(1))
def greedy_schedule(model: MiniBatchQuadratic, steps: int) -> Array | xr.DataArray:
    r"""The learning rates that each minimise the expected risk after their own step.

    .. math:: \eta_t = \frac{\sum_i n_i h_i^2 v_i}{\sum_i n_i h_i^3 (v_i + C_i/B)}, \qquad v = \operatorname{E} e^2.

    In one direction this is the Kalman gain and optimal for every horizon, :math:`1/v_t = 1/v_0 + tB/C`; across a
    spectrum it is not.

    Status: exact.

    Parameters
    ----------
    model : MiniBatchQuadratic
        With a displacement: from the minimiser there is nothing to gain and the schedule is 0.

    Returns
    -------
    array, shape (steps,)
        A DataArray with the dim ``step``, lazy where the model is, if the model is made of DataArrays.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> greedy_schedule(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), 3)
    array([0.5       , 0.33333333, 0.25      ])
    """
    return cast("Array | xr.DataArray", _planned(_greedy, model, steps))


@law(PARAMETERS, quantity="schedule")
@checked(model=instance_of(MiniBatchQuadratic), steps=integer(1), largest=optional(one(positive)))
def optimal_schedule(model: MiniBatchQuadratic, steps: int, *, largest: float | None = None) -> Array | xr.DataArray:
    r"""The schedule with the lowest expected risk after the last step that is found from several starts.

    With the costate :math:`p_T = n h/2`, :math:`p_{t-1} = (1-\eta_t h)^2 p_t`, every rate solves
    :math:`\eta_t = \sum p_t h v_{t-1} / \sum p_t h^2 (v_{t-1} + C/B)`. Sweeps forward in place, with the costates of
    the last backward pass, minimise over one rate at a time and so never raise the risk; they stop when it no longer
    falls by a relative 1e-13.

    Where noise is weak there are many minima. The sweeps start from the greedy schedule and from those that are best
    without noise (reciprocals of Ritz values, as conjugate gradients find them) for the first 1 to 4 steps and greedy
    for the rest; the best end is returned.

    Status: exact stationarity; a local minimum, that there is none below it is not proved.

    Parameters
    ----------
    model : MiniBatchQuadratic
        With a displacement: from the minimiser there is nothing to gain and the schedule is 0.
    largest : float, optional
        Largest learning rate that is allowed, > 0. Without it single steps may go far beyond the edge where that pays.

    Returns
    -------
    array, shape (steps,)
        A DataArray with the dim ``step``, lazy where the model is, if the model is made of DataArrays.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    An average of iterates is not a schedule across a spectrum and may beat the best one.

    Examples
    --------
    >>> optimal_schedule(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), 3)
    array([0.5       , 0.33333333, 0.25      ])
    """
    limit = math.inf if largest is None else float(largest)
    return cast("Array | xr.DataArray", _planned(functools.partial(_optimal, largest=limit), model, steps))
