"""A schedule as pieces of nearly one rate: what the law is summed over, instead of every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

# Within a piece the rate moves by this part of its largest value at most, and intrinsic time by this part of itself.
# Midpoints are used, so that both errors are of second order.
_RATE = 0.01
_TIME = 0.05


@dataclass(frozen=True)
class Pieces:
    """Mean rate and number of steps of consecutive pieces, and the pieces after which a record lies.

    Attributes
    ----------
    rate, count : array, shape (pieces,)
    start : array, shape (pieces,)
        Intrinsic time, the sum of the rates, before the piece.
    recorded : array of int, shape (records,)
        Number of pieces up to every record.
    """

    rate: Array
    count: Array
    start: Array
    recorded: Indices

    @property
    def end(self) -> Array:
        """Intrinsic time after every piece."""
        return self.start + self.rate * self.count

    @property
    def middle(self) -> Array:
        """Intrinsic time half way."""
        return self.start + 0.5 * self.rate * self.count

    def at_records(self, after: Array, before: float) -> Array:
        """What holds after the pieces, at the records; ``before`` holds at step 0."""
        return np.concatenate(([before], after))[self.recorded]


def pieces_of(schedule: Array, record: Indices) -> Pieces:
    """Cut a schedule, up to its last record, at the records and wherever rate or intrinsic time has moved."""
    rates = schedule[: int(record[-1])]
    moved = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(rates)))))
    time = np.cumsum(rates)
    largest = rates.max(initial=0.0)
    cuts = [np.array([0, rates.size]), record]
    if largest > 0:
        cuts.append(_crossings(moved / (_RATE * largest)))
        cuts.append(_crossings(np.log1p(time / largest) / np.log1p(_TIME)))
    bounds = np.unique(np.concatenate(cuts))
    count = np.diff(bounds).astype(float)
    total = np.concatenate(([0.0], time))[bounds]
    return Pieces(np.diff(total) / count, count, total[:-1], np.searchsorted(bounds, record))


def _crossings(level: Array) -> Indices:
    """Where a growing quantity passes from one whole number to the next."""
    return np.flatnonzero(np.diff(np.floor(level))) + 1
