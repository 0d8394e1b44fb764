"""Least squares that a few wild losses do not move: floor, start and noise for a shape, and then the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sgdynamics.theory.forecast._law import Runs, Shape

Array = NDArray[np.float64]

# What is taken to be likely of the shape before any loss is seen, with the standard deviation: exponents about those of
# spectra of networks, in logarithms; a cut-off somewhere below the inverse of the largest rate; noise that does not
# follow the rate, as in a quadratic; and a quarter of the noise early, as log-odds.
LIKELY = np.array([np.log(0.5), np.log(0.1), 0.0, 0.0, -1.0])
SPREAD = np.array([0.4, 1.0, 0.3, 0.3, 1.0])
_STARTS = (np.log([0.3, 0.6]), np.log([0.02, 0.2]), np.log([0.7, 1.3]), [0.0, 0.3], [-1.0])
# Residuals beyond so many standard deviations count by their size, not by its square.
_WILD = 1.5
_ROUNDS = 2
_SMALLEST = 1e-9
# Numbers of the law.
_NUMBERS = LIKELY.size + 3


def shape_at(place: Array, reference: float) -> Shape:
    """The shape at a place of the search: logarithms of what is positive, log-odds of what is a part."""
    exponent, cutoff, noise_exponent = np.exp(place[:3]).tolist()
    return Shape(exponent, cutoff, noise_exponent, float(place[3]), float(expit(place[4])), reference)


@dataclass(frozen=True)
class Regression:
    """What was found: the place of the shape, the three amplitudes, residuals and what they say of the noise.

    Attributes
    ----------
    place : array, shape (5,)
    amplitudes : array, shape (3,)
    residual : list of array
        Logarithm of loss over law, run by run.
    deviation : float
        Standard deviation of the residual.
    inflation : float
        How many times as large sums of residuals are, squared, as those of independent ones.
    """

    place: Array
    amplitudes: Array
    residual: list[Array]
    deviation: float
    inflation: float


def regress(runs: Runs, losses: Sequence[Array]) -> Regression:
    """Fit all numbers of the law to the logarithm of the losses."""
    from scipy.optimize import least_squares

    loss = np.concatenate(losses)
    ends = np.cumsum([part.size for part in losses])[:-1]
    roughness = np.concatenate([np.diff(np.log(part), 2) for part in losses])
    deviation = max(float(np.sqrt(np.mean(roughness**2) / 6)), _SMALLEST)
    inflation = 1.0

    def fitted(place: Array) -> tuple[Array, Array]:
        law = np.concatenate(runs.columns(shape_at(place, runs.longest)))
        amplitudes = _amplitudes(law, loss, _WILD * deviation)
        return amplitudes, np.log(loss / (law @ amplitudes))

    def misfit(place: Array) -> Array:
        scaled = _tamed(fitted(place)[1], _WILD * deviation) / (deviation * np.sqrt(inflation))
        return np.concatenate((scaled, (place - LIKELY) / SPREAD))

    place = _best(misfit, [np.array(start) for start in product(*_STARTS)])
    for _ in range(_ROUNDS):
        found = least_squares(
            misfit, place, bounds=(LIKELY - 4 * SPREAD, LIKELY + 4 * SPREAD), x_scale=SPREAD, xtol=1e-4, ftol=1e-5
        )
        place = found.x
        amplitudes, residual = fitted(place)
        middle = float(np.median(np.abs(residual))) / 0.6745  # standard deviation of a normal law from its median
        deviation = max(float(np.sqrt(np.mean(_tamed(residual, _WILD * middle) ** 2))), _SMALLEST)
        parts = np.split(residual, ends)
        inflation = _inflation(parts)
    return Regression(place, amplitudes, parts, deviation, inflation)


def _best(misfit: Callable[[Array], Array], places: Sequence[Array]) -> Array:
    return min(places, key=lambda place: float(np.sum(misfit(place) ** 2)))


def _amplitudes(law: Array, loss: Array, wild: float) -> Array:
    """Amplitudes >= 0 by iteratively reweighted least squares of the relative residual."""
    from scipy.optimize import nnls

    scale = np.maximum(np.abs(law).max(axis=0), np.finfo(float).tiny)
    scaled = law / scale
    weight = 1 / loss
    found = nnls(scaled * weight[:, None], loss * weight)[0]
    for _ in range(_ROUNDS):
        residual = np.abs(np.log(loss / (scaled @ found)))
        tamed = weight * np.sqrt(np.minimum(1.0, wild / np.maximum(residual, np.finfo(float).tiny)))
        found = nnls(scaled * tamed[:, None], loss * tamed)[0]
    return np.asarray(found / scale)


def _tamed(residual: Array, wild: float) -> Array:
    """Half its square is Huber's loss."""
    size = np.abs(residual)
    return np.sign(residual) * np.where(size <= wild, size, np.sqrt(wild * np.maximum(2 * size - wild, 0.0)))


def _inflation(parts: Sequence[Array]) -> float:
    """Variance of sums of residuals over that of independent ones: the largest over lengths of blocks.

    The fit takes one degree of freedom a number of the law from the sums, however long they are.
    """
    total = sum(float(part @ part) for part in parts)
    count = sum(part.size for part in parts)
    largest, length = 1.0, 1
    while total > 0:
        length *= 2
        sums = np.concatenate([part[: part.size // length * length].reshape(-1, length).sum(axis=1) for part in parts])
        if sums.size < 2 * _NUMBERS:
            break
        largest = max(largest, float(sums @ sums) / (sums.size - _NUMBERS) / length * count / total)
    return largest
