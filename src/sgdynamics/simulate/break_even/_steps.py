r"""The kernel: one replica after the other, one step after the other, sums over the last ones.

Legend: h, b relative curvature and force of the batch; x weight, y curvature; s = yx and q = hs - b slopes of the mean
loss and of the batch's. ``rule.rate`` is that of y, ``own`` that of x, which differ in nudged modes.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import State, open_stream, whole_number

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

# A weight beyond this has diverged; its fourth power is still a float.
FAR = 1e60

# What is summed over the window, mode by mode.
FIELDS = (
    "mean_curvature",
    "second_moment",
    "squared_slope",
    "curved_square",
    "projection_variance",
    "increase_probability",
    "overshoot_probability",
    "dead_share",
)
CURVATURE, SQUARE, SLOPE, CURVED, VARIANCE, INCREASES, OVERSHOOTS, DEAD = range(len(FIELDS))


class Problem(NamedTuple):
    """The model, mode by mode."""

    curvatures: Floats  # (d, n)
    forces: Floats  # (d, n)
    x: Floats  # (d,), start
    y: Floats  # (d,), start
    sharpening: Floats  # (d,)
    moments: Floats  # (3, d): variances of h_i and b_i, their covariance
    restoring: float
    x_floor: float
    y_floor: float
    factor: float  # variance of a batch mean per variance of one example
    batch_size: int
    replacement: bool


class Rule(NamedTuple):
    """The steps and what is kept of them."""

    rate: float
    nudge: float  # factor on the rate of x in nudged modes
    nudged: int  # how many of the sharpest
    refresh: int  # steps after which they are chosen anew
    steps: int
    first: int  # step from which sums are taken


@inlined
def _draw(problem: Problem, order: Integers, state: State) -> State:
    """A batch as the first entries of ``order``.

    Without replacement this is the beginning of a Fisher-Yates shuffle: a uniform sample whatever the order was before,
    so the array is never put back.
    """
    n = order.size
    for i in range(problem.batch_size):
        first = 0 if problem.replacement else i
        drawn, state = whole_number(np.uint64(n - first), state)
        drawn += first
        if problem.replacement:
            order[i] = drawn
        else:
            order[i], order[drawn] = order[drawn], order[i]
    return state


@inlined
def _choose(y: Floats, count: int, chosen: NDArray[np.bool_]) -> None:
    """Mark the ``count`` largest; of equals the first."""
    for j in range(y.size):
        chosen[j] = False
    for _ in range(count):
        best = -1
        for j in range(y.size):
            if not chosen[j] and (best < 0 or y[j] > y[best]):
                best = j
        chosen[best] = True


@kernel
def runs(
    problem: Problem,
    rule: Rule,
    edges: Floats,
    key: NDArray[np.uint64],
    replicas: Integers,
    record: Integers,
    sums: Floats,
    largest: Floats,
    path: Floats,
    crossed: Integers,
    diverged: Integers,
) -> None:
    """Sums (replica, mode, field), largest y (replica, mode), path (replica, mode, record, 2) and first steps.

    They come as for a run that diverges before anything is recorded and reaches nothing: 0, -inf, inf and -1.
    """
    modes, n = problem.curvatures.shape
    full = problem.batch_size == n and not problem.replacement
    size = 1.0 / problem.batch_size
    order = np.empty(n, np.int64)
    x, y = np.empty(modes), np.empty(modes)
    chosen = np.empty(modes, np.bool_)
    for r in range(replicas.size):
        state = open_stream(key, np.uint64(replicas[r]), np.uint64(0))
        for i in range(n):
            order[i] = i
        for j in range(modes):
            x[j], y[j], chosen[j] = problem.x[j], problem.y[j], False
        at = 0
        for t in range(rule.steps + 1):
            for j in range(modes):
                if crossed[r, j] < 0 and y[j] >= edges[j]:
                    crossed[r, j] = t
            if at < record.size and record[at] == t:
                for j in range(modes):
                    path[r, j, at, 0], path[r, j, at, 1] = x[j], y[j]
                at += 1
            if t == rule.steps:
                break
            if not full:
                state = _draw(problem, order, state)
            if rule.nudged > 0 and t % rule.refresh == 0:
                _choose(y, rule.nudged, chosen)
            for j in range(modes):
                h, b = 1.0, 0.0
                if not full:
                    h, b = 0.0, 0.0
                    for i in range(problem.batch_size):
                        h += problem.curvatures[j, order[i]]
                        b += problem.forces[j, order[i]]
                    h, b = h * size, b * size
                own = rule.rate * rule.nudge if chosen[j] else rule.rate
                s = y[j] * x[j]
                q = h * s - b
                square = x[j] * x[j]
                if t >= rule.first:
                    spread = s * s * problem.moments[0, j] + problem.moments[1, j] - 2.0 * s * problem.moments[2, j]
                    curved = own * y[j]
                    sums[r, j, CURVATURE] += y[j]
                    sums[r, j, SQUARE] += square
                    sums[r, j, SLOPE] += s * s
                    sums[r, j, CURVED] += curved * (s * s + problem.factor * spread)
                    sums[r, j, VARIANCE] += spread
                    if 0.5 * curved * q * q > q * s:
                        sums[r, j, INCREASES] += 1.0
                    if curved * q * q > q * s:
                        sums[r, j, OVERSHOOTS] += 1.0
                    if y[j] <= problem.y_floor and 0.5 * problem.restoring * square > problem.sharpening[j]:
                        sums[r, j, DEAD] += 1.0
                    largest[r, j] = max(largest[r, j], y[j])
                moved = x[j] - own * q
                grown = y[j] + rule.rate * (problem.sharpening[j] - 0.5 * problem.restoring * h * square)
                if not (abs(moved) <= FAR and abs(grown) <= FAR):  # NaN too
                    diverged[r] = t + 1
                x[j] = math.copysign(max(abs(moved), problem.x_floor), moved)
                y[j] = max(grown, problem.y_floor)
            if diverged[r] >= 0:
                break
        if diverged[r] >= 0:
            for j in range(modes):
                largest[r, j] = math.inf
                for field in range(sums.shape[2]):
                    sums[r, j, field] = math.inf
