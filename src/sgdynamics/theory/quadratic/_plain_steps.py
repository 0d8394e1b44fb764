r"""Plain SGD in all modes over many steps: the affine maps of pieces of the run, abreast, and then one after the other.

Over any piece of a run the mean error is multiplied by :math:`f = \prod (1 - \eta_s h)` and the scaled variance
:math:`v = V/(h^2 C)`, whose steps are :math:`v \to (1-\eta h)^2 v + \eta^2`, becomes :math:`f^2 v + o`. The pieces do
not depend on each other, so a thousand of them take their steps at once; a rate of 0 is the identity and fills up the
short ones. A long stretch of one rate is a power of its step, by repeated squaring.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

# Stretches of one learning rate that are longer than this are jumped.
_LONGEST_WALK = 64
# Numbers that are worked on at once: the arrays of one step stay in the cache of a core.
_AT_ONCE = 16384
# Pieces over steps of a piece: putting a piece in its place costs less than a step of all.
_WIDTH = 2


def plain_steps(
    curvature: Array, schedule: Array, record: Indices, start: Array, noise_share: Array | None = None
) -> tuple[Array, Array]:
    """Mean and scaled variance at the recorded steps, shape (records, modes); ``start`` is the mean at step 0.

    With ``noise_share`` the centers of every step have that share of the variance C.
    """
    squares = schedule * schedule
    if noise_share is not None:
        squares *= noise_share
    first, last, jumped = _pieces(schedule, squares, record)
    factor, offset = np.empty((2, first.size, curvature.size))
    for which, maps in ((jumped, _powers), (~jumped, _walks)):
        factor[which], offset[which] = maps(curvature, schedule, squares, first[which], last[which])
    mean, spread = np.empty((record.size, curvature.size)), np.empty((record.size, curvature.size))
    at, noise = start.copy(), np.zeros_like(start)
    if record[0] == 0:
        mean[0], spread[0] = at, noise
    rows = np.searchsorted(record, last)
    recorded = record[rows] == last
    for piece, row in enumerate(np.where(recorded, rows, -1).tolist()):
        at *= factor[piece]
        if piece:  # 0 * inf is no number
            noise *= factor[piece]
            noise *= factor[piece]
        noise += offset[piece]
        if row >= 0:
            mean[row], spread[row] = at, noise
    return mean, spread


def _pieces(schedule: Array, squares: Array, record: Indices) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """First and last step of consecutive pieces, none across a record, and which of them are jumped."""
    end = int(record[-1])
    wall = np.zeros(end + 1, dtype=bool)  # marks, as sorting all bounds would take longer than all steps
    wall[[0, end]] = True
    wall[record] = True
    bound = wall.copy()
    bound[1:end] |= (np.diff(schedule[:end]) != 0) | (np.diff(squares[:end]) != 0)
    bounds = np.flatnonzero(bound)
    long = np.flatnonzero(np.diff(bounds) > _LONGEST_WALK)
    # what lies between the jumps and the records is cut into equal pieces, as many as they have steps
    wall[bounds[long]] = True
    wall[bounds[long + 1]] = True
    walls = np.flatnonzero(wall)
    start, length = walls[:-1], np.diff(walls)
    jumped = np.isin(start, bounds[long])
    walked = length[~jumped]
    longest = max(1, int(np.sqrt(walked.sum()) / _WIDTH))
    count = np.where(jumped, 1, -(-length // longest))
    owner = np.repeat(np.arange(start.size), count)
    number = np.arange(owner.size) - np.repeat(np.cumsum(count) - count, count)
    first = start[owner] + number * length[owner] // count[owner]
    last = start[owner] + (number + 1) * length[owner] // count[owner]
    return first, last, jumped[owner]


def _powers(curvature: Array, schedule: Array, squares: Array, first: Indices, last: Indices) -> tuple[Array, Array]:
    """Factor and offset of stretches of one rate, shape (pieces, modes), by repeated squaring."""
    steps = last - first
    power = 1.0 - schedule[first][:, None] * curvature
    power_offset = np.broadcast_to(squares[first][:, None], power.shape)
    factor, offset = np.ones_like(power), np.zeros_like(power)
    while steps.any():
        odd = (steps & 1 == 1)[:, None]
        offset = np.where(odd, offset * power**2 + power_offset, offset)
        factor = np.where(odd, factor * power, factor)
        power_offset = power_offset * power**2 + power_offset
        power = power**2
        steps >>= 1
    return factor, offset


def _walks(curvature: Array, schedule: Array, squares: Array, first: Indices, last: Indices) -> tuple[Array, Array]:
    """Factor and offset of pieces of changing rate, shape (pieces, modes), step by step."""
    longest = int((last - first).max(initial=0))
    place = np.arange(longest)[:, None] + first
    inside, place = place < last, np.minimum(place, schedule.size - 1)
    rates, noise = np.where(inside, schedule[place], 0.0), np.where(inside, squares[place], 0.0)
    # the pieces lie side by side, so that a step is a few long products
    factor, offset = np.ones((curvature.size, first.size)), np.zeros((curvature.size, first.size))
    height = max(1, _AT_ONCE // max(first.size, 1))
    for top in range(0, curvature.size, height):
        modes = slice(top, top + height)
        minus, product, total = -curvature[modes, None], factor[modes], offset[modes]
        keep = np.empty_like(product)
        for rate, square in zip(rates, noise, strict=True):
            np.multiply(minus, rate, out=keep)
            keep += 1.0
            product *= keep
            total *= keep
            total *= keep
            total += square
    return factor.T, offset.T
