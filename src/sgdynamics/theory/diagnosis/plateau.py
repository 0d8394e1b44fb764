r"""How far two iterates of one run come apart: the radius and the memory of its stationary law."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked, complain, one, positive
from sgdynamics.formula import law
from sgdynamics.theory.diagnosis._arguments import confidence_level, matrix
from sgdynamics.theory.diagnosis.estimates import Array, Estimate, block_means, table

# Distances at lag k remember each other for k steps: lags up to one part of the record, blocks a little longer.
_BLOCKS = 12
_PARTS = 32
_GRID = 400
# The slowest memory that is tried, in windows of lags; and how much of the plateau must be reached to be seen.
_SLOWEST = 0.01
_REACHED = 1.0
_LAGS = 24


def _fit(distance: Array, lags: Array, *, signed: bool) -> tuple[Array, Array]:
    r"""Plateau and :math:`\operatorname{artanh} a` of :math:`A (1 - a^k)`, by least squares over rows, on a grid.

    Distances of iterates that overshoot alternate: :math:`a < 0`.
    """
    steepest = np.arctanh(np.exp(-_SLOWEST / lags[-1]))
    angle = np.linspace(-steepest if signed else 0.0, steepest, _GRID)
    shape = 1 - np.tanh(angle)[:, None] ** lags
    projection, size = distance @ shape.T, np.sum(shape**2, axis=1)
    taken = projection**2 / size  # what the fit takes off the sum of squares
    best = np.clip(np.argmax(taken, axis=1), 1, _GRID - 2)
    rows = np.arange(len(distance))
    left, middle, right = (taken[rows, best + shift] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    found = angle[best] + (angle[1] - angle[0]) * np.clip(shift, -1, 1)
    shape = 1 - np.tanh(found)[:, None] ** lags
    plateau = np.sum(distance * shape, axis=1) / np.sum(shape**2, axis=1)
    return plateau, found


def plateau_of_weights(weights: Array, *, stride: float, confidence: float) -> dict[str, Estimate]:
    """Plateau of the squared distances and gain of one step; intervals from leaving out one block at a time."""
    from scipy.stats import t as student

    longest = max(weights.shape[0] // _PARTS, 2)
    lags = np.unique(np.geomspace(1, longest, _LAGS).round().astype(int))
    starts = weights.shape[0] - longest
    distance = np.empty((starts, lags.size))
    for column, lag in enumerate(lags.tolist()):
        distance[:, column] = np.sum((weights[lag : lag + starts] - weights[:starts]) ** 2, axis=1)
    means = block_means(distance, _BLOCKS)
    whole = means.mean(axis=0)
    without = (_BLOCKS * whole - means) / (_BLOCKS - 1)
    signed = stride % 2 == 1  # an even number of steps, or a part of one, leaves no trace of the sign
    plateaus, angles = _fit(np.concatenate([whole[None], without]), lags, signed=signed)
    found = np.stack([np.log(plateaus), angles])
    spread = np.sqrt((_BLOCKS - 1) * np.var(found[:, 1:], axis=1))
    half = float(student.ppf((1 + confidence) / 2, _BLOCKS - 1)) * spread
    plateau, low, high = np.exp(found[0, 0] + np.array([0.0, -half[0], half[0]]))
    factor = np.tanh(found[1, 0] + np.array([0.0, half[1], -half[1]]))
    if not signed:
        factor = np.maximum(factor, 0.0)
    forgotten = float(np.abs(factor).max()) ** int(lags[-1])
    seen = forgotten <= np.exp(-_REACHED)
    gain, slowest, fastest = 1 - np.sign(factor) * np.abs(factor) ** (1 / stride)
    said = "" if signed else ", taken to be at most 1"
    return {
        "plateau": Estimate(
            float(plateau),
            float(low),
            float(high) if seen else np.inf,
            "squared distance of two iterates far apart, twice the squared radius",
        ),
        "gain": Estimate(
            float(gain),
            float(slowest) if seen else -np.inf,
            float(fastest),
            "mean gain of the directions that the distances are made of" + said,
        ),
    }


@law(quantity="report")
@checked(weights=matrix, stride=one(positive), confidence=one(confidence_level))
def distance_plateau(weights: Numeric, *, stride: float = 1, confidence: float = 0.95) -> xr.Dataset:
    r"""Fit :math:`2 d v\,(1 - a^k)` to the mean squared distances of iterates k steps apart.

    Needs the weights at equally spaced steps of a stationary stretch of the run, many times longer than it remembers. A
    plateau is only there if the distances bend: a straight rise (memory longer than the record) or a drift leaves it
    open above, and it is then reported as not identifiable.

    At gains above 1 iterates overshoot and distances alternate. That is seen where the stride is odd; with any other
    stride the gains :math:`x` and :math:`2 - x` look alike, and the gain is taken to be at most 1.

    Status: exact in expectation for one curvature and batches drawn independently; across a spectrum an effective gain,
    and of reshuffled batches another law. Lags go up to a thirty-second part of the record. Near the stability edge
    intervals of the gain are too short: at a gain of 1.9 those of 95% held the truth in .88 of runs.

    Parameters
    ----------
    weights : array, shape (records, parameters)
        Iterates.
    stride : float
        Steps between two records, > 0.
    confidence : float
        Of the interval, in (0, 1): by a jackknife over twelve contiguous blocks.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower``, ``upper`` and ``identifiable`` by ``quantity``: ``plateau`` :math:`2 d v` and ``gain``
        :math:`1-a` of one step.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or there are fewer than 40 records.

    Examples
    --------
    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> path = [np.zeros(300)]
    >>> for _ in range(1000):  # gain 0.2: v = 0.2/1.8, 2 d v = 66.7
    ...     path.append(0.8 * path[-1] + 0.2 * random.normal(size=300))
    >>> distance_plateau(np.array(path[100:])).estimate.values.round(1)
    array([66.3,  0.2])
    """
    points = np.asarray(weights)
    if points.shape[0] < 40:
        raise complain("distance_plateau", "weights", "at least 40 records", f"shape {points.shape}")
    if not np.ptp(points, axis=0).any():
        raise complain("distance_plateau", "weights", "iterates that move", points[0].tolist())
    found = plateau_of_weights(points, stride=stride, confidence=confidence)
    return table(found, confidence=confidence)
