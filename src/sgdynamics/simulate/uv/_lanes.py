"""Many orbits abreast, each followed for as long as something that is recorded can still change.

The lanes of a block sit side by side in local buffers, a few steps are unrolled within each lane, and the compiler
makes vector instructions of the loop over lanes. After those few steps the lanes that are done are written out and the
others move together, so that no lane waits for another.

A lane is done when its residual passes the level of no return, or when no recorded bit can change any more; the bits
are those of the run without exits.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate.uv._core import (
    HUGE,
    Floats,
    Integers,
    cone_advance,
    no_return,
    residual_advance,
    residual_frozen,
)

__all__: list[str] = []

# Steps between two looks at who is done: enough to hide the look, few enough to be unrolled and so vectorised.
UNROLLED = 8


# The two forms of ``_core``. They differ in type, so that each has its kernels, which can still be kept on disk.
Form: TypeAlias = int | None
RESIDUAL: Form = None
CONE: Form = 1


@inlined
def advance(form: Form, a: float, b: float, c: float, q: float) -> tuple[float, float, float, float, float]:
    """One step of the three numbers of a form; then the residual and the scaled sharpness."""
    if form is None:
        return residual_advance(a, b, c, q)
    return cone_advance(a, b, c, q)


@inlined
def _frozen(form: Form, a: float, b: float, c: float, q: float) -> bool:
    """Whether no record can change any more; where no minimum is stable nothing settles."""
    if form is None:
        return residual_frozen(a, b, c, q)
    return False


class Starts(NamedTuple):
    """The three numbers of every lane and its target; residual squared and scaled sharpness at step 0."""

    a: Floats
    b: Floats
    c: Floats
    q: Floats
    height: Floats
    sharpness: Floats


class Records(NamedTuple):
    """What is kept of every lane, in scaled units."""

    final_sharpness: Floats
    peak_height: Floats
    peak_sharpness: Floats
    divergence_step: Integers
    marked: Floats  # the state at the marked step, shape (3, lanes); NaN where the lane was done before


@inlined
def _one(
    form: Form, a: float, b: float, c: float, q: float, level: float, height: float, now: float, top: float, age: float
) -> tuple[float, float, float, float, float, float, float]:
    """One step of a lane that may have diverged already; no branch, so that lanes run abreast."""
    next_a, next_b, next_c, residual, sharpness = advance(form, a, b, c, q)
    alive = (abs(residual) < level) & (next_b < HUGE)  # NaN is not alive
    a = next_a if alive else math.inf  # stays: every step from here is infinite or NaN
    b = next_b if alive else b
    c = next_c if alive else c
    now = sharpness if alive else now
    square = residual * residual
    age = age + 1.0 if alive else age
    return a, b, c, square if square > height else height, now, now if now > top else top, age


@kernel
def run_lanes(form: Form, lanes: Integers, starts: Starts, steps: int, mark: int, out: Records) -> None:
    """Run the given lanes of a block from step 0, and note their state at the marked step on the way."""
    live = lanes.size
    lane = lanes.copy()
    a, b, c, q = np.empty(live), np.empty(live), np.empty(live), np.empty(live)
    height, now, top, age = np.empty(live), np.empty(live), np.empty(live), np.empty(live)
    level = np.empty(live)
    for i in range(live):
        at = lane[i]
        a[i], b[i], c[i], q[i] = starts.a[at], starts.b[at], starts.c[at], starts.q[at]
        height[i], now[i], top[i] = starts.height[at], starts.sharpness[at], starts.sharpness[at]
        age[i], level[i] = 0.0, no_return(q[i])

    # who begins beyond return
    kept = 0
    for i in range(live):
        if abs(a[i] if form is None else c[i]) >= level[i]:
            at = lane[i]
            out.final_sharpness[at], out.peak_height[at], out.peak_sharpness[at] = math.inf, math.inf, math.inf
            out.divergence_step[at] = 0
        else:
            lane[kept], a[kept], b[kept], c[kept], q[kept] = lane[i], a[i], b[i], c[i], q[i]
            level[kept], height[kept], now[kept], top[kept] = level[i], height[i], now[i], top[i]
            kept += 1
    live = kept

    t = 0
    while live > 0:
        if t == mark:
            for i in range(live):
                out.marked[0, lane[i]], out.marked[1, lane[i]], out.marked[2, lane[i]] = a[i], b[i], c[i]
        if (mark if t < mark else steps) - t >= UNROLLED:
            t += UNROLLED
            for i in range(live):
                x, y, z, target, bound = a[i], b[i], c[i], q[i], level[i]
                tall, new, high, old = height[i], now[i], top[i], age[i]
                for _ in range(UNROLLED):
                    x, y, z, tall, new, high, old = _one(form, x, y, z, target, bound, tall, new, high, old)
                a[i], b[i], c[i], height[i], now[i], top[i], age[i] = x, y, z, tall, new, high, old
        else:
            t += 1
            for i in range(live):
                a[i], b[i], c[i], height[i], now[i], top[i], age[i] = _one(
                    form, a[i], b[i], c[i], q[i], level[i], height[i], now[i], top[i], age[i]
                )
        kept = 0
        for i in range(live):
            diverged = a[i] == math.inf
            if diverged or t == steps or _frozen(form, a[i], b[i], c[i], q[i]):
                at = lane[i]
                out.final_sharpness[at] = math.inf if diverged else now[i]
                out.peak_height[at] = math.inf if diverged else height[i]
                out.peak_sharpness[at] = math.inf if diverged else top[i]
                out.divergence_step[at] = int(age[i]) + 1 if diverged else -1
            else:
                lane[kept], a[kept], b[kept], c[kept], q[kept] = lane[i], a[i], b[i], c[i], q[i]
                level[kept], height[kept], now[kept], top[kept] = level[i], height[i], now[i], top[i]
                age[kept] = age[i]
                kept += 1
        live = kept
