"""A schedule in words: the pieces that an array of learning rates is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_words"]

Array = NDArray[np.float64]

# Rates are the same to this part of the largest one; more pieces than these are counted, not listed.
_CLOSE, _MOST = 1e-9, 5


def in_words(rates: Array) -> str:
    """One schedule, from its first step to its last."""
    steps = f"{rates.size} step{'s' if rates.size > 1 else ''}"
    pieces = _pieces(rates)
    if len(pieces) <= _MOST:
        return f"{steps}: {', '.join(pieces)}"
    ends = f"from {rates[0]:.4g} to {rates[-1]:.4g}"
    return f"{steps} in {len(pieces)} pieces {ends}, all between {rates.min():.4g} and {rates.max():.4g}"


def _pieces(rates: Array) -> list[str]:
    close = _CLOSE * float(rates.max())
    ends: list[tuple[int, int, str]] = []
    first = 0
    while first < rates.size:
        length, shape = _longest(rates[first:], close)
        if length == 1 and ends and ends[-1][2] == "in a curve":
            ends[-1] = (ends[-1][0], first + 1, "in a curve")
        else:
            ends.append((first, first + length, "in a curve" if length == 1 else shape))
        first += length
    return [_said(rates[start:end], shape) for start, end, shape in ends]


def _said(rates: Array, shape: str) -> str:
    if shape == "constant" or rates.size == 1:
        return f"{rates.size} at {rates[-1]:.4g}"
    return f"{rates.size} {shape} from {rates[0]:.4g} to {rates[-1]:.4g}"


def _longest(rates: Array, close: float) -> tuple[int, str]:
    """How long the piece is that the rates begin with, and what it is."""
    constant = _run(abs(rates - rates[0]) <= close)
    if constant < rates.size and _is_half_cosine(rates, close):
        return rates.size, "in half a cosine"
    slopes = np.diff(rates)
    line = 1 + _run(abs(slopes - slopes[:1]) <= close)
    return (line, "in a line") if line > 2 and constant < 2 else (constant, "constant")


def _is_half_cosine(rates: Array, close: float) -> bool:
    """Whether all rates lie on half a cosine, which ends with them or, as PyTorch counts, a step later."""
    steps = rates.size
    if steps < 4:
        return False
    fits = []
    for done in (np.arange(1, steps + 1) / steps, np.arange(steps) / steps):
        left = np.cos(np.pi / 2 * done) ** 2
        start, end = np.linalg.solve([[left[0], 1 - left[0]], [left[-1], 1 - left[-1]]], rates[[0, -1]])
        fits.append(np.max(abs(end + (start - end) * left - rates)) <= close)
    return any(fits)


def _run(member: NDArray[np.bool_]) -> int:
    """How many entries are true before the first that is not."""
    return int(member.size if member.all() else np.argmin(member))
