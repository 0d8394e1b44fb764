r"""Where a measured run breaks even, and what it could have known of it beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import Interval, checked, choice, complain, count, instance_of, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory.break_even._run import SAMPLINGS, Measured, growth, measured
from sgdynamics.theory.quadratic import mean_square_edge_gain

__all__ = ["predicted_break_even"]

Array = NDArray[np.float64]

_FRACTION = Interval("a number in (0, 1)", low=0, high=1)
_OUTCOMES = (Outcome.EDGE_REACHED, Outcome.EDGE_NOT_REACHED, Outcome.STALLED_BELOW_EDGE, Outcome.DIVERGED)
# At half the edge the discrete step has doubled the fluctuations of a slow run: nearer, the edge is felt.
_FAR = 0.5
# A share of the edge this near to 1 is 1, and a sharpness that rises by this share of itself is constant.
_ROUNDING = 1e-9


def _crossing(step: Array, share: Array, level: float) -> tuple[float, float]:
    """Step at which the share of the edge first reaches the level, and its place between the measurements."""
    above = np.flatnonzero(share >= level)
    if not above.size:
        return math.inf, math.nan
    i = int(above[0])
    if i == 0:
        return float(step[0]), 0.0
    part = float((level - share[i - 1]) / (share[i] - share[i - 1]))
    return float(step[i - 1] + part * (step[i] - step[i - 1])), i - 1 + part


def _at(values: Array, place: float) -> float:
    return float(np.interp(place, np.arange(values.size), values))


@dataclass(frozen=True)
class _Route:
    """What one route says: the break-even step, the sharpness there, and gradient variances there."""

    step: float
    sharpness: float
    noises: dict[str, float]


def _at_the_crossing(run: Measured, place: float, step: float) -> _Route:
    return _Route(step, _at(run.edge, place), {name: _at(values, place) for name, values in run.noises.items()})


def _beforehand(run: Measured, window: slice, reference: tuple[Array, Array] | None) -> _Route:
    """From the window alone: relative spread and noise as they are there, growth as there or as in the reference."""
    sharpness, spread = run.sharpness[window], run.curvature_variance[window]
    relative = run.batch_factor * spread.mean() / (sharpness**2).mean()
    edge = float(mean_square_edge_gain.function(relative)) / run.learning_rate
    noises = {name: float(values[window].mean() / sharpness.mean() * edge) for name, values in run.noises.items()}
    time = run.learning_rate * run.step[window]
    if sharpness[-1] >= edge:  # no growth needs to be guessed
        return _Route(_crossing(run.step[window], sharpness, edge)[0], edge, noises)
    if reference is not None:
        past = (reference[0] >= time[-1]) & (reference[1] >= edge)
        if not past.any():
            return _Route(math.inf, edge, noises)
        i = int(np.argmax(past))
        before = max(i - 1, 0)
        at = np.interp(edge, reference[1][[before, i]], reference[0][[before, i]])
        return _Route(float(at) / run.learning_rate, edge, noises)
    rise = float(np.polyfit(time, sharpness, 1)[0])
    if rise * (time[-1] - time[0]) <= _ROUNDING * sharpness.mean():
        return _Route(math.inf, edge, noises)
    return _Route(float(run.step[window][-1] + (edge - sharpness[-1]) / (rise * run.learning_rate)), edge, noises)


def _early_window(share: Array, early: float) -> slice:
    reached = np.flatnonzero(share >= early)
    return slice(0, max(2, int(reached[0]) if reached.size else share.size))


def _late(values: Array) -> float:
    return float(values[-max(1, values.size // 4) :].mean())


def _conditions(
    run: Measured,
    share: Array,
    last: int,
    early: _Route,
    tolerance: float,
    reference: tuple[Array, Array] | None,
) -> dict[str, tuple[float, str]]:
    """Margins of what the prediction assumes, positive where it holds, and what each measures."""
    before = slice(0, max(2, last + 1))
    rises = np.diff(run.sharpness[before])
    edge = run.edge[before]
    found = {
        "stable at the start": (1 - share[0], "1 less the sharpness over the edge, at the start"),
        "sharpness rises": (
            float(np.sign(rises).mean()),
            "share of rises less share of falls of the sharpness, until the break-even point or the end",
        ),
        "spread follows the curvature": (
            float(tolerance - np.max(np.abs(edge / edge[-1] - 1))),
            "tolerance less the largest change of the edge until then",
        ),
        "edge is reached": (float(share.max() - (1 - tolerance)), "largest share of the edge, less 1 - tolerance"),
        "edge holds the sharpness": (
            float(tolerance - abs(_late(run.sharpness) / _late(run.edge) - 1)),
            "tolerance less the distance of the late sharpness from the edge, relative",
        ),
        "batches are independent": (1.0 if run.independent else -1.0, "1 for fresh batches, -1 for reshuffled ones"),
    }
    for name, values in run.noises.items():
        ratio = values[before] / run.sharpness[before]
        told = early.noises[name] / early.sharpness
        change = abs(ratio[-1] / told - 1) if told else math.inf
        found[f"{name.replace('_', ' ')} follows the curvature"] = (
            float(tolerance - change),
            "tolerance less the change of the ratio of the two since the early window",
        )
    if reference is not None:
        time = run.learning_rate * run.step[before]
        free = np.interp(time, *reference)
        found["sharpness follows the reference"] = (
            float(np.min(run.sharpness[before] / free) - (1 - tolerance)),
            "smallest ratio to the reference at the same time until then, less 1 - tolerance",
        )
    return found


def _verdict(run: Measured, share: Array, early: _Route, tolerance: float, reference: Any) -> Outcome:
    if share.max() >= 1 - tolerance:
        return Outcome.EDGE_REACHED
    if run.diverged:
        return Outcome.DIVERGED
    if reference is not None:
        time = run.learning_rate * run.step
        within = reference[1][reference[0] <= time[-1]]
        far = within.size == 0 or within.max() < (1 - tolerance) * early.sharpness
    else:
        far = share.max() <= _FAR
    return Outcome.EDGE_NOT_REACHED if far else Outcome.STALLED_BELOW_EDGE


@law(quantity="report")
@checked(
    run=instance_of(xr.Dataset),
    learning_rate=optional(one(positive)),
    batch_size=optional(one(count)),
    examples=optional(one(count)),
    sampling=optional(choice(*SAMPLINGS)),
    reference=optional(instance_of(xr.Dataset)),
    early=one(_FRACTION),
    tol=one(_FRACTION),
)
def predicted_break_even(
    run: xr.Dataset,
    *,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    examples: int | None = None,
    sampling: Literal["full_batch", "replacement", "without_replacement", "reshuffled"] | None = None,
    reference: xr.Dataset | None = None,
    early: float = 0.5,
    tol: float = 0.15,
) -> xr.Dataset:
    r"""Break-even step, sharpness and gradient variance of a measured run, by the edge of its sharpest direction.

    The edge is where :math:`\rho = (1-\eta\lambda)^2 + \eta^2 c_S s^2` is 1, with the sharpness :math:`\lambda` and the
    variance :math:`s^2` of the per-example curvatures along the top eigenvector. The share of the edge,

    .. math:: r = \frac{\eta\lambda}{2} \Bigl( 1 + c_S \frac{s^2}{\lambda^2} \Bigr),

    is 1 there. Two routes to the break-even point:

    ``measured``
        the first step with r = 1, between measurements by a line; if r comes within the tolerance of 1 and no nearer,
        the first step where it does. The sharpness is that of the edge with the spread as it is at this step.
    ``early``
        only what is known by the time r reaches ``early``: relative spread :math:`s^2/\lambda^2` and gradient variance
        over :math:`\lambda` stay what they were on average, and the sharpness goes on to grow as it did, on a line in
        the time :math:`\eta t`, or as in ``reference``; +inf if it does not grow. A run that begins at or beyond its
        edge broke even before: its first step.

    Status: heuristic. One direction only: other directions and their noise can hold the sharpness below its edge; then
    the prediction is too high, and the outcome says that it stalls.

    Parameters
    ----------
    run : Dataset
        Of one run at a constant learning rate, along ``step`` or ``measured_step``: ``sharpness`` and
        ``curvature_variance``, of which a ``direction`` is the first one; with ``gradient_variance`` and
        ``projection_variance`` if these are to be predicted. What the trainer's instruments ``tracked_eigenpairs``,
        ``projected_steps`` (with the tracker's directions) and ``gradient_covariance`` measure. Measurements that are
        not finite end the run.
    learning_rate : float, optional
        :math:`\eta`. None: the attribute of the run, or from its times.
    batch_size, examples : int, optional
        :math:`S`, and :math:`n` for batches without replacement. None: the attributes of the run.
    sampling : {"full_batch", "replacement", "without_replacement", "reshuffled"}, optional
        None: the attribute of the run, else without replacement. Reshuffled batches are treated as fresh ones, which
        they are not: a condition says so.
    reference : Dataset, optional
        A run at a small learning rate, with ``sharpness``: how the sharpness grows without an edge.
    early : float
        Share of the edge up to which the early route looks, in (0, 1).
    tol : float
        Relative accuracy that is asked of the edge and of the conditions, in (0, 1).

    Returns
    -------
    xarray.Dataset
        By ``route``: ``break_even_step`` (+inf if none), ``break_even_sharpness``, and ``gradient_variance`` and
        ``projection_variance`` if measured; ``sharpness_error``, the sharpness over the largest one of the run, less 1
        (of the early route: how far it was off), ``late_sharpness_error`` over the mean of the last quarter.
        Along the steps: ``second_moment_factor`` :math:`\rho`, ``edge_curvature`` and ``edge_share`` r.
        ``margin`` and ``holds`` by ``condition``, with its ``meaning``: positive where the assumption holds.
        ``largest_sharpness``, ``late_sharpness`` and ``outcome``: edge reached, not reached, stalled below the edge (by
        the reference, which would have reached it; without one, where more than half of the edge is reached), diverged.
        The measured route is +inf where the edge is not reached.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or the run lacks what is needed.

    Examples
    --------
    A sharpness that grows until an edge at :math:`2/\eta(1 + 1/4)` clips it:

    >>> import numpy as np, xarray as xr
    >>> step = np.arange(0, 6001, 100)
    >>> sharpness = np.minimum(1 + step / 200, 16.0)
    >>> run = xr.Dataset(
    ...     {"sharpness": ("step", sharpness), "curvature_variance": ("step", sharpness**2)},
    ...     {"step": step, "time": ("step", 0.1 * step)},
    ...     {"batch_size": 4.0, "sampling": "replacement"},
    ... )
    >>> found = predicted_break_even(run)
    >>> found.break_even_step.values.round(6), found.break_even_sharpness.values.round(6)
    (array([3000., 3000.]), array([16., 16.]))
    >>> found.attrs["sentence"][:20], bool(found.holds.all())
    ('The run breaks even:', True)
    """
    owner = "predicted_break_even"
    what, along = measured(owner, run, learning_rate, batch_size, examples, sampling)
    free = None if reference is None else growth(owner, reference)
    if free is not None and free[0].size < 2:
        raise complain(owner, "reference", "of at least two finite measurements", reference)
    share = what.sharpness / what.edge
    top = float(share.max())
    level = min(top, 1.0) if top >= 1 - _ROUNDING else 1 - tol
    step, place = _crossing(what.step, share, level)
    window = _early_window(share, float(early))
    before = _beforehand(what, window, free)
    reached = math.isfinite(step)
    nothing = _Route(math.inf, math.inf, dict.fromkeys(what.noises, math.inf))
    routes = {"measured": _at_the_crossing(what, place, step) if reached else nothing, "early": before}
    last = int(place) if reached else share.size - 1
    conditions = _conditions(what, share, last, before, tol, free)
    outcome = _verdict(what, share, before, tol, free)
    return _table(what, share, along, routes, conditions, outcome, level)


def _table(
    run: Measured,
    share: Array,
    along: str,
    routes: dict[str, _Route],
    conditions: dict[str, tuple[float, str]],
    outcome: Outcome,
    level: float,
) -> xr.Dataset:
    sharpness = np.array([route.sharpness for route in routes.values()])
    largest, late = float(run.sharpness.max()), _late(run.sharpness)
    margins = np.array([margin for margin, _ in conditions.values()])
    curvature = "curvature"
    data: dict[str, Any] = {
        "break_even_step": ("route", [route.step for route in routes.values()], "predicted break-even step", "1"),
        "break_even_sharpness": ("route", sharpness, "predicted sharpness at the break-even point", curvature),
        "sharpness_error": ("route", sharpness / largest - 1, "prediction over the largest sharpness, less 1", "1"),
        "late_sharpness_error": ("route", sharpness / late - 1, "prediction over the late sharpness, less 1", "1"),
        "second_moment_factor": (along, run.factor, "factor per step of the second moment", "1"),
        "edge_curvature": (along, run.edge, "curvature at the edge", curvature),
        "edge_share": (along, share, "sharpness over that of the edge", "1"),
        "margin": ("condition", margins, "margin by which the condition holds", "1"),
        "holds": ("condition", margins >= 0, "whether the condition holds", "1"),
        "meaning": ("condition", [text for _, text in conditions.values()], "what the margin measures", "1"),
        "largest_sharpness": ((), largest, "largest sharpness of the run", curvature),
        "late_sharpness": ((), late, "mean sharpness of the last quarter of the measurements", curvature),
    }
    for name in run.noises:
        data[name] = (
            "route",
            [route.noises[name] for route in routes.values()],
            f"predicted {name.replace('_', ' ')} at the break-even point",
            "squared gradient",
        )
    found = xr.Dataset(
        {
            name: (dims, values, {"long_name": text, "units": units})
            for name, (dims, values, text, units) in data.items()
        },
        {"route": list(routes), "condition": list(conditions), along: run.step.astype(np.int64)},
    )
    found["outcome"] = ((), np.int8(outcome), outcome_attributes(*_OUTCOMES))
    return found.assign_attrs(
        source="sgdynamics.theory.break_even.predicted_break_even",
        version=sgdynamics.__version__,
        sentence=outcome.sentence,
        learning_rate=run.learning_rate,
        batch_factor=run.batch_factor,
        level=level,
    )
