r"""How long a series remembers itself, and what that leaves of an interval.

Means over contiguous blocks are taken as a straight line plus errors that are partly independent and partly an
Ornstein-Uhlenbeck process of memory :math:`\tau`,

.. math:: \operatorname{Cov}(y_i, y_j) \propto (1 - w)\,\delta_{ij} + w\, \overline{e^{-|t - t'|/\tau}},

the bar being the mean over the records of the two blocks. What the blocks say of :math:`\tau` (from half a block to a
multiple of the record) and :math:`w` is their likelihood with the line integrated out; the law of its slope, or of its
middle, is the mixture of Student laws over both. A memory of more than a tenth of the record cannot be told from a
trend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]

# Blocks that show any errors about a line, with more than one degree of freedom.
FEWEST = 4
# Memories: how many, from half a block to a multiple of the record. A slope is tried against wanderings of any length;
# what never changes across the record cannot be told from the middle, and is none of its errors.
_MEMORIES, _SHORTEST = 12, 0.5
_LONGEST = {"middle": 0.3, "slope": 50.0}
# Shares of the errors that have it.
_SHARES = np.array([0.1, 0.4, 0.8, 1.0])
# Before the blocks are seen, errors are as likely independent as not.
_INDEPENDENT = 0.5
# Records of ten memories are long enough to see it.
_LONG = 0.1


@dataclass(frozen=True)
class Trend:
    """What blocks say of a line: a mixture of Student laws, and how likely the memory is a long one."""

    location: Array
    scale: Array
    probability: Array
    freedom: int
    long_memory: float

    @property
    def hidden(self) -> bool:
        """Whether the memory is more likely than not longer than a tenth of the record."""
        return self.long_memory > 0.5

    @property
    def estimate(self) -> float:
        """Its mean."""
        return float(self.probability @ self.location)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Between its quantiles."""
        return self._quantile((1 - confidence) / 2), self._quantile((1 + confidence) / 2)

    def inflation(self, confidence: float) -> float:
        """Width of the interval over that of independent errors, at least 1."""
        low, high = self.interval(confidence)
        plain = 2 * float(stdtrit(self.freedom, (1 + confidence) / 2)) * float(self.scale[-1])
        return max((high - low) / plain, 1.0)

    def _quantile(self, level: float) -> float:
        ends = self.location + float(stdtrit(self.freedom, level)) * self.scale
        low, high = float(ends.min()), float(ends.max())
        for _ in range(60):  # the quantile of a mixture lies between those of its parts
            middle = 0.5 * (low + high)
            below = self.probability @ stdtr(self.freedom, (middle - self.location) / self.scale)
            low, high = (middle, high) if below < level else (low, middle)
        return high


def line(means: Array, place: Array, length: int, *, of: str) -> Trend | None:
    """The ``"slope"`` or the ``"middle"`` of a line through the means of blocks of ``length`` records.

    The last part of the mixture is that of independent errors. None where the means have no errors at all, or are too
    few to show any.
    """
    blocks = means.size
    if blocks < FEWEST:
        return None
    powers = np.vander(place - place.mean(), 2, increasing=of == "slope")
    basis, triangle = np.linalg.qr(powers, mode="complete")
    regressor, rest = basis[:, 1], basis[:, 2:]
    unit = 1 / triangle[1, 1]
    value, errors = float(regressor @ means), rest.T @ means
    if np.abs(errors).max() <= blocks * np.finfo(float).eps * np.abs(means).max():
        return None
    freedom = errors.size
    parts = []  # memory in records, logarithm of prior and likelihood, location, scale
    even = (1 - _INDEPENDENT) / (_MEMORIES * _SHARES.size)
    for memory in np.geomspace(_SHORTEST * length, _LONGEST[of] * length * blocks, _MEMORIES):
        within = _covariance(blocks, length, memory)
        power, axes = np.linalg.eigh(rest.T @ within @ rest)
        size = float(power.mean())
        power = np.maximum(power / size, np.finfo(float).eps)
        across = axes.T @ (rest.T @ (within @ regressor)) / size
        own = float(regressor @ within @ regressor) / size
        turned = axes.T @ errors
        for share in _SHARES:
            variance = 1 - share + share * power
            square = float(np.sum(turned**2 / variance))
            likelihood = np.log(even) - 0.5 * np.sum(np.log(variance)) - 0.5 * freedom * np.log(square)
            location = value - float(np.sum(share * across * turned / variance))
            spread = 1 - share + share * own - float(np.sum((share * across) ** 2 / variance))
            parts.append((memory, likelihood, location, np.sqrt(square / freedom * max(spread, 0.0))))
    square = float(errors @ errors)
    parts.append((0.0, np.log(_INDEPENDENT) - 0.5 * freedom * np.log(square), value, np.sqrt(square / freedom)))
    memory, likelihood, location, scale = np.array(parts).T
    probability = np.exp(likelihood - likelihood.max())
    probability /= probability.sum()
    return Trend(
        location=unit * location,
        scale=abs(unit) * scale,
        probability=probability,
        freedom=freedom,
        long_memory=float(probability[memory > _LONG * length * blocks].sum()),
    )


def _covariance(blocks: int, length: int, memory: float) -> Array:
    """Of the block means of a process that forgets like exp(-lag/memory)."""
    shift = np.arange(1 - length, length)
    weight = (length - np.abs(shift)) / length**2
    lag = np.arange(blocks)[:, None] * length + shift
    by_block = np.exp(-np.abs(lag) / memory) @ weight
    found: Array = by_block[np.abs(np.subtract.outer(np.arange(blocks), np.arange(blocks)))]
    return found
