r"""The converse of a merge: the one schedule that comes closest to an average, across a spectrum."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Numeric, average, checked, complain, instance_of, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.merging.plan import check_stability, window_of
from sgdynamics.theory.schedules.merging.window import Window
from sgdynamics.theory.schedules.weights import NoEquivalentSchedule, average_to_gains

# Where along the logarithms of the curvatures the search may start.
_STARTS = (0.25, 0.5, 0.75)


class _Misfit:
    """Weights of start and centers, of the average less those of a schedule, scaled so that their squares add up to
    the distance; and their derivatives by the learning rates.
    """

    def __init__(self, window: Window, base: Array, weights: Array) -> None:
        self.window, self.steps = window, base.size
        noise = np.tile(window.noise, (base.size, 1))
        self.scale = np.sqrt(window.share * np.concatenate([window.start[None], noise])).T
        self.wanted = self._unrolled(base, weights)

    def _points(self, rates: Array) -> Array:
        """What x_0..x_T weigh the start and the centers with (mode, point, weight)."""
        points = np.zeros((self.window.curvature.size, self.steps + 1, self.steps + 1))
        points[:, 0, 0] = 1.0
        for j, rate in enumerate(rates.tolist(), 1):
            gain = rate * self.window.curvature
            points[:, j] = (1 - gain)[:, None] * points[:, j - 1]
            points[:, j, j] += gain
        return points

    def _unrolled(self, rates: Array, weights: Array) -> Array:
        made: Array = np.einsum("k,mkj->mj", weights, self._points(rates))
        return made

    def residuals(self, rates: Array) -> Array:
        """Scaled misfit, all modes in a row."""
        made: Array = (self.scale * (self._points(rates)[:, -1] - self.wanted)).ravel()
        return made

    def jacobian(self, rates: Array) -> Array:
        r""":math:`\partial x_T / \partial \eta_k = h \prod_{s>k} (1-\eta_s h) (c_k - x_{k-1})`."""
        curvature = self.window.curvature[:, None]
        keep = 1 - rates * curvature
        after = np.ones_like(keep)
        after[:, :-1] = np.cumprod(keep[:, :0:-1], axis=1)[:, ::-1]
        slopes = -self._points(rates)[:, :-1]
        steps = np.arange(self.steps)
        slopes[:, steps, steps + 1] += 1.0
        slopes *= (curvature * after)[..., None] * self.scale[:, None, :]
        made: Array = np.swapaxes(slopes, 1, 2).reshape(-1, self.steps)
        return made

    @property
    def risk(self) -> float:
        """Of the average."""
        return float(np.sum((self.scale * self.wanted) ** 2))


@law(quantity="report")
@checked(
    weights=average,
    base_learning_rate=schedule_of_rates,
    model=instance_of(MiniBatchQuadratic),
    largest=optional(one(positive)),
)
def schedule_of_merge(
    weights: Numeric,
    base_learning_rate: Numeric,
    model: MiniBatchQuadratic,
    *,
    largest: float | None = None,
) -> xr.Dataset:
    r"""The schedule whose last iterate comes closest to an average of a run of plain SGD, across a spectrum.

    Minimises :math:`\operatorname{E} \tfrac12 |x_\alpha - x_\text{schedule}|_H^2` on shared batches over the learning
    rates, by bounded least squares, from the best of the schedules that are exact at one curvature
    (:func:`average_to_gains`).

    Status: exact in its residual, under the model; the schedule is a local optimum of a problem that is not convex.

    Parameters
    ----------
    weights : array, shape (T + 1,)
        Weights of :math:`x_0..x_T` that sum to 1; 0 where nothing was saved.
    base_learning_rate : array, shape (T,)
        Learning rates of the run that is averaged.
    model : MiniBatchQuadratic
        The spectrum. The window starts from the stationary law of the first base learning rate, or from the
        displacement if the model has one.
    largest : float, optional
        Upper bound of the learning rates. None is twice the largest base learning rate.

    Returns
    -------
    xarray.Dataset
        ``learning_rate`` (step); ``residual``, the distance to the average over its risk ``average_risk``;
        ``schedule_risk``; ``start_residual`` of the schedule that the search began with.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, lengths disagree, or the base run is unstable under the model.

    Notes
    -----
    Memory and work grow as modes times :math:`T^2`.

    Examples
    --------
    >>> from sgdynamics.models.schedules import constant, tail
    >>> one_curvature = MiniBatchQuadratic([1.0], 1.0)
    >>> found = schedule_of_merge(tail(3, 2), constant(0.5, 3), one_curvature)  # exact at one curvature
    >>> found.learning_rate.values.round(4), bool(found.residual < 1e-12)
    (array([0.5 , 0.5 , 0.25]), True)
    """
    from scipy.optimize import least_squares

    made, base = np.asarray(weights), np.asarray(base_learning_rate)
    owner = "schedule_of_merge"
    if base.ndim != 1 or made.shape != (base.size + 1,):
        raise ValueError(
            f"{owner}: weights must be one average with one weight more than base_learning_rate has steps, "
            f"got shapes {made.shape} and {base.shape}"
        )
    check_stability(owner, base, model, None, 0.0)
    bound = 2 * float(base.max()) if largest is None else float(largest)
    if bound == 0:
        raise complain(owner, "base_learning_rate", "> 0 in some step", base.tolist())
    with one_blas_thread(), np.errstate(under="ignore"):
        misfit = _Misfit(window_of(owner, model, base, 0.0, True), base, made)
        if not misfit.risk > 0:
            raise complain(owner, "model", "one under which the average has an expected risk > 0", misfit.risk)
        start = _start(misfit, base, made, bound)
        unit = math.sqrt(misfit.risk)  # the search stops at a gradient of absolute size
        found = least_squares(
            lambda rates: misfit.residuals(rates) / unit,
            start,
            lambda rates: misfit.jacobian(rates) / unit,
            bounds=(0.0, bound),
            x_scale=bound,
            xtol=1e-10,
            ftol=1e-12,
        )
        points = misfit._points(found.x)[:, -1]
    values = {
        "residual": (2 * found.cost, "distance to the average over its risk", "1"),
        "start_residual": (
            float(np.sum(misfit.residuals(start) ** 2)) / misfit.risk,
            "residual of the schedule that the search began with",
            "1",
        ),
        "average_risk": (misfit.risk, "expected excess risk of the average", "loss"),
        "schedule_risk": (
            float(np.sum((misfit.scale * points) ** 2)),
            "expected excess risk of the schedule",
            "loss",
        ),
    }
    rates = ("step", found.x, {"long_name": "learning rate", "units": "1/curvature"})
    return xr.Dataset(
        {"learning_rate": rates}
        | {name: ((), value, {"long_name": text, "units": units}) for name, (value, text, units) in values.items()},
        coords={"step": ("step", np.arange(1, base.size + 1), {"long_name": "step", "units": "1"})},
    )


def _start(misfit: _Misfit, base: Array, weights: Array, bound: float) -> Array:
    """The best of the schedules that are exact at one curvature, and of the base run itself; inside the bounds."""
    candidates = [base]
    for curvature in np.exp(np.quantile(np.log(misfit.window.curvature), _STARTS)):
        try:
            candidates.append(average_to_gains(weights, base * curvature) / curvature)
        except NoEquivalentSchedule:
            continue
    inside = [np.clip(candidate, 1e-3 * bound, (1 - 1e-3) * bound) for candidate in candidates]
    return min(inside, key=lambda rates: float(np.sum(misfit.residuals(rates) ** 2)))
