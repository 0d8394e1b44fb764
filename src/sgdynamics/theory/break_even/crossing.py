r"""Where a sharpening run breaks even: the path of curvature against distance meets the edge.

While SGD is stable the distance :math:`\psi` to the minimiser along the sharpest direction shrinks and the curvature
:math:`\lambda = \Lambda(\psi)` grows. With the gradient variance along the direction proportional to the curvature the
edge lies at :math:`2/\eta - \alpha c_S/\psi^2`. The two meet once,

.. math:: \Lambda(\psi) = \frac2\eta - \frac{\alpha c_S}{\psi^2},

and the curvature there is smaller for a larger learning rate or a smaller batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import (
    Numeric,
    checked,
    complain,
    flag,
    function,
    integer,
    is_symbolic,
    nonnegative,
    one,
    positive,
)
from sgdynamics.formula import formula, law, sqrt, stable_below
from sgdynamics.models.break_even.parameters import PARAMETERS
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory._quotients import left_by_product, root_of_quotient

__all__ = ["break_even_crossing", "break_even_curvature", "break_even_distance", "break_even_slope", "proof_conditions"]

# Distances at which a path is looked at, on a logarithmic grid.
_POINTS = 256


@formula(
    PARAMETERS,
    quantity="curvature",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(
        "one direction",
        "one minimiser for all examples",
        "independent batches",
        "gradient variance along the direction proportional to the curvature",
        "curvature inversely proportional to the distance until then",
    ),
)
def break_even_curvature(
    learning_rate: Numeric,
    batch_size: Numeric,
    examples: Numeric,
    *,
    alignment: Numeric,
    path_constant: Numeric,
    replacement: bool = False,
) -> Numeric:
    r"""Curvature at which a run breaks even on the path :math:`\Lambda(\psi) = C/\psi`.

    The positive root of :math:`\alpha c_S \lambda^2/C^2 + \lambda = 2/\eta`,

    .. math:: \lambda = \frac{4/\eta}{1 + \sqrt{1 + 8\alpha c_S/(\eta C^2)}}.

    It falls with the learning rate and rises with the batch size, from :math:`C\sqrt{2/(\alpha c_S\eta)}` where noise
    rules to :math:`2/\eta` for the full batch: slopes of -1/2 and -1 in a log-log plot against the rate.

    Returns
    -------
    Numeric

    Raises
    ------
    ValueError
        If the batch is larger than the set.

    Examples
    --------
    >>> break_even_curvature(0.1, 1, 1024, alignment=0.05, path_constant=1.0)
    12.36067977...
    """
    factor = batch_factor("break_even_curvature", examples, batch_size, replacement)
    full_batch = learning_rate / 4
    noise = root_of_quotient((learning_rate, alignment, factor), (2, path_constant, path_constant))
    both = sqrt(full_batch**2 + noise**2) if is_symbolic(full_batch + noise) else np.hypot(full_batch, noise)
    return 1 / (full_batch + both)


@formula(
    PARAMETERS,
    quantity="exponent",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("as of break_even_curvature",),
)
def break_even_slope(
    learning_rate: Numeric,
    batch_size: Numeric,
    examples: Numeric,
    *,
    alignment: Numeric,
    path_constant: Numeric,
    replacement: bool = False,
) -> Numeric:
    r"""Slope of the break-even curvature against the learning rate, both as logarithms.

    .. math:: \frac{d\ln\lambda}{d\ln\eta} = -\frac12 \Bigl(1 + \frac1{\sqrt{1 + 8\alpha c_S/(\eta C^2)}}\Bigr)

    of :func:`break_even_curvature`: -1 for the full batch, -1/2 where noise rules, never outside. With
    :math:`\lambda_K = \alpha\lambda_H`, as is assumed, it is the slope of the gradient variance along the direction,
    too, at the break-even point. On a plateau, where the distance is that of the oscillation and not of the path, that
    variance goes with the square of the curvature (:func:`plateau_projection_variance`).

    Returns
    -------
    Numeric
        In [-1, -1/2].

    Raises
    ------
    ValueError
        If the batch is larger than the set.

    Examples
    --------
    >>> break_even_slope(0.1, 1, 1024, alignment=0.05, path_constant=1.0)
    -0.72360679...
    """
    factor = batch_factor("break_even_slope", examples, batch_size, replacement)
    noise = root_of_quotient((8, alignment, factor), (learning_rate, path_constant, path_constant))
    root = sqrt(1 + noise**2) if is_symbolic(noise) else np.hypot(1, noise)
    return -(1 + 1 / root) / 2


@formula(
    PARAMETERS,
    edge=stable_below(curvature=lambda learning_rate: 2 / learning_rate),
    quantity="distance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(
        "one direction",
        "one minimiser for all examples",
        "independent batches",
        "gradient variance along the direction proportional to the curvature",
    ),
)
def break_even_distance(
    curvature: Numeric, learning_rate: Numeric, batch_factor: Numeric, alignment: Numeric
) -> Numeric:
    r"""Distance from the minimiser at which a given curvature breaks even.

    .. math:: \psi = \sqrt{\frac{\alpha c_S}{2/\eta - \lambda}}

    Nearer to the minimiser the relative spread of the curvatures is larger, and SGD unstable. +inf from
    :math:`\lambda = 2/\eta` on, where it is unstable at any distance.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> break_even_distance(15.0, 0.1, 1.0, 0.05)
    0.1
    """
    return root_of_quotient((learning_rate, alignment, batch_factor), (left_by_product(2, learning_rate, curvature),))


def _path(owner: str, path: Callable[[float], float], distance: float) -> float:
    value = path(distance)
    try:
        curvature = float(value)
    except (TypeError, ValueError):
        raise complain(owner, "path", "a callable from a distance to a curvature", value, TypeError) from None
    if not math.isfinite(curvature):
        raise complain(owner, "path", f"finite between the distances, also at {distance!r}", value)
    return curvature


_SETTING = {
    "path": function,
    "start": one(positive),
    "nearest": one(positive),
    "learning_rate": one(positive),
    "batch_size": integer(1),
    "examples": integer(1),
    "alignment": one(nonnegative),
    "replacement": flag,
}


def _grid(owner: str, start: float, nearest: float) -> NDArray[np.float64]:
    """Distances from the start inwards."""
    if nearest >= start:
        raise complain(owner, "nearest", f"below start = {start}", nearest)
    return np.geomspace(start, nearest, _POINTS)


@law(PARAMETERS, quantity="report")
@checked(**_SETTING)
def break_even_crossing(
    path: Callable[[float], float],
    start: float,
    *,
    nearest: float,
    learning_rate: float,
    batch_size: int,
    examples: int,
    alignment: float,
    replacement: bool = False,
) -> xr.Dataset:
    r"""Where any path of curvature against distance first meets the edge, coming from afar.

    The first root of :math:`D(\psi) = 2/\eta - \alpha c_S/\psi^2 - \Lambda(\psi)` on the way from ``start`` to
    ``nearest``, bracketed on a logarithmic grid of 256 distances and refined.

    Status: exact, where D crosses 0 only once (:func:`proof_conditions`) or not twice between two of the distances.

    Parameters
    ----------
    path : callable
        :math:`\Lambda`, from one distance to one curvature, finite on the way.
    start : float
        :math:`\psi_0 > 0`.
    nearest : float
        Smallest distance that the run may reach, in (0, start).

    Returns
    -------
    xarray.Dataset
        ``distance``, ``curvature`` and ``gradient_variance`` (along the direction, :math:`\alpha\lambda`) at the
        break-even point, and ``outcome``: reached, or never reached with the values at ``nearest``. Where the start is
        unstable already the point is the start, distance and all.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or the path is not finite.

    Examples
    --------
    >>> setting = dict(nearest=1e-3, learning_rate=0.1, batch_size=1, examples=1024, alignment=0.05)
    >>> found = break_even_crossing(lambda distance: 1 / distance, 1.0, **setting)
    >>> round(found.curvature.item(), 5), round(found.distance.item(), 6)
    (12.36068, 0.080902)
    """
    from scipy.optimize import brentq

    owner = "break_even_crossing"
    distances = _grid(owner, start, nearest)
    noise = float(alignment * batch_factor(owner, examples, batch_size, replacement))

    def room(distance: float) -> float:
        return 2 / learning_rate - noise / distance**2 - _path(owner, path, distance)

    rooms = np.array([room(float(distance)) for distance in distances])
    reached = bool((rooms <= 0).any())
    place = int(np.argmax(rooms <= 0)) if reached else _POINTS - 1
    distance = float(distances[place])
    if reached and place and rooms[place] < 0:
        distance = float(brentq(room, distances[place], distances[place - 1], xtol=1e-300, rtol=1e-15))
    curvature = _path(owner, path, distance)
    verdict = Outcome.REACHED if reached else Outcome.NEVER_REACHED
    return xr.Dataset(
        {
            "distance": ((), distance, {"long_name": "distance from the minimiser", "units": "weight"}),
            "curvature": ((), curvature, {"long_name": "curvature along the direction", "units": "1/learning rate"}),
            "gradient_variance": (
                (),
                float(alignment) * curvature,
                {"long_name": "gradient variance along the direction", "units": "squared gradient"},
            ),
            "outcome": ((), np.int8(verdict), outcome_attributes(Outcome.REACHED, Outcome.NEVER_REACHED)),
        },
        attrs={
            "source": "sgdynamics.theory.break_even.break_even_crossing",
            "version": sgdynamics.__version__,
            "sentence": verdict.sentence,
        },
    )


_CONDITIONS = {
    "stable at the start": "room below the edge at the start, over the edge of the full batch",
    "path sharpens": "smallest logarithmic slope of the curvature, in falling distance",
    "edge falls with distance": "smallest logarithmic slope of the loss of room by noise, in falling distance",
    "room shrinks": "smallest slope of the room in log distance, over the edge of the full batch",
    "crossed once": "1 less the number of further crossings",
}


@law(PARAMETERS, quantity="report")
@checked(**_SETTING)
def proof_conditions(
    path: Callable[[float], float],
    start: float,
    *,
    nearest: float,
    learning_rate: float,
    batch_size: int,
    examples: int,
    alignment: float,
    replacement: bool = False,
) -> xr.Dataset:
    r"""Conditions under which the break-even point is unique and moves as claimed, each with its margin.

    The claim that the break-even curvature falls with the learning rate and rises with the batch size needs a start
    that is stable, a path that sharpens as the distance shrinks, and hence a room
    :math:`D(\psi) = 2/\eta - \alpha c_S/\psi^2 - \Lambda(\psi)` that shrinks all the way: then it has one zero, and
    :math:`\partial D/\partial\eta < 0`, :math:`\partial D/\partial c_S < 0` move it outwards. Checked on a logarithmic
    grid of 256 distances.

    Status: heuristic, a check on a grid: no proof for the path between its points.

    Parameters
    ----------
    path : callable
        :math:`\Lambda`, from one distance to one curvature, finite on the way.
    start : float
        :math:`\psi_0 > 0`.
    nearest : float
        Smallest distance, in (0, start).

    Returns
    -------
    xarray.Dataset
        ``holds`` (condition) and ``margin`` (condition), positive where it holds, with what it measures as ``meaning``.
        The full batch has no noise and its edge does not fall: a margin of 0 that holds.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or the path is not finite.

    Examples
    --------
    >>> setting = dict(nearest=1e-2, learning_rate=0.1, batch_size=1, examples=1024, alignment=0.05)
    >>> proof_conditions(lambda distance: 1 / distance, 1.0, **setting).holds.values.all()
    np.True_
    >>> proof_conditions(lambda distance: 5.0, 1.0, **setting).holds.sel(condition="path sharpens").item()
    False
    """
    owner = "proof_conditions"
    distances = _grid(owner, start, nearest)
    noise = float(alignment * batch_factor(owner, examples, batch_size, replacement))
    curvatures = np.array([_path(owner, path, float(distance)) for distance in distances])
    full = 2 / learning_rate
    lost = noise / distances**2
    room = full - lost - curvatures
    stride = np.log(distances[0] / distances[1])
    scale = np.maximum(np.abs(curvatures[1:]), np.abs(curvatures[:-1]))
    crossings = int(np.count_nonzero((room[1:] <= 0) != (room[:-1] <= 0)))
    margins = [
        room[0] / full,
        float((np.diff(curvatures) / np.where(scale == 0, 1.0, scale)).min() / stride),
        2.0 if noise else 0.0,
        float((-np.diff(room)).min() / stride / full),
        float(2 - max(crossings, 1)),
    ]
    holds = [
        margin > 0 or (name == "edge falls with distance") for name, margin in zip(_CONDITIONS, margins, strict=True)
    ]
    return xr.Dataset(
        {
            "holds": ("condition", holds, {"long_name": "whether the condition holds", "units": "1"}),
            "margin": ("condition", margins, {"long_name": "margin by which it holds", "units": "1"}),
            "meaning": ("condition", list(_CONDITIONS.values()), {"long_name": "what the margin measures"}),
        },
        {"condition": list(_CONDITIONS)},
        {"source": f"sgdynamics.theory.break_even.{owner}", "version": sgdynamics.__version__},
    )
