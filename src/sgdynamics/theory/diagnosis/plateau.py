r"""How far two iterates of one run come apart: the radius and the memory of its stationary law."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked, complain, integer
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


def _fit(distance: Array, lags: Array) -> tuple[Array, Array]:
    r"""Plateau and rate of :math:`A (1 - e^{-\kappa k})`, by least squares over rows; the rate on a fine grid."""
    rate = np.geomspace(_SLOWEST / lags[-1], 20.0, _GRID)
    shape = -np.expm1(-np.outer(rate, lags))
    projection, size = distance @ shape.T, np.sum(shape**2, axis=1)
    gain = projection**2 / size  # what the fit takes off the sum of squares
    best = np.clip(np.argmax(gain, axis=1), 1, _GRID - 2)
    rows = np.arange(len(distance))
    left, middle, right = (gain[rows, best + shift] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    found = rate[best] * (rate[1] / rate[0]) ** np.clip(shift, -1, 1)
    shape = -np.expm1(-found[:, None] * lags)
    plateau = np.sum(distance * shape, axis=1) / np.sum(shape**2, axis=1)
    return plateau, found


def plateau_of_weights(weights: Array, *, stride: int, confidence: float) -> dict[str, Estimate]:
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
    logs = np.log(_fit(np.concatenate([whole[None], without]), lags))
    spread = np.sqrt((_BLOCKS - 1) * np.var(logs[:, 1:], axis=1))
    half = float(student.ppf((1 + confidence) / 2, _BLOCKS - 1)) * spread
    (plateau, rate), (low, slow), (high, fast) = np.exp([logs[:, 0], logs[:, 0] - half, logs[:, 0] + half])
    seen = slow * lags[-1] >= _REACHED
    gain, slowest, fastest = -np.expm1(-np.array([rate, slow, fast]) / stride)
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
            "mean gain of the directions that the distances are made of",
        ),
    }


@checked(weights=matrix, stride=integer(1), confidence=confidence_level)
def distance_plateau(weights: Numeric, *, stride: int = 1, confidence: float = 0.95) -> xr.Dataset:
    r"""Fit :math:`2 d v\,(1 - a^k)` to the mean squared distances of iterates k steps apart.

    Needs the weights at equally spaced steps of a stationary stretch of the run, many times longer than it remembers. A
    plateau is only there if the distances bend: a straight rise (memory longer than the record) or a drift leaves it
    open above, and it is then reported as not identifiable.

    Status: exact in expectation for one curvature; across a spectrum an effective gain. Lags go up to a
    thirty-second part of the record.

    Parameters
    ----------
    weights : array, shape (records, parameters)
        Iterates.
    stride : int
        Steps between two records.
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
