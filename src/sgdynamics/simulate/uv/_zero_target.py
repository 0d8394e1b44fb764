r"""Orbits with target 0, where the map has no parameter and a step takes six operations.

With :math:`q = 0` output and residual are one, and squared residual :math:`S = s^2` and kernel :math:`l` are closed
(see ``_core`` for the letters):

.. math:: S' = S\,(1 - l + S)^2, \qquad l' = \tfrac12\bigl[(1-s)^2 P + (1+s)^2 M\bigr] = l - (4 - l)\,S,

or, with the gap :math:`c = 4 - l`,

.. math:: S' = S\,(c - 3 + S)^2, \qquad c' = c\,(1 + S).

The gap never changes sign and only grows away from 0: positive, the run is bounded and the kernel falls; negative, it
diverges. The sharpness is :math:`\tfrac12\bigl(l + \sqrt{l^2 + 12 S}\bigr)`, the positive root of
:math:`x^2 - l x - 3S`.

======  =========  ====================================================================================================
form    carries    used
======  =========  ====================================================================================================
GAP     S, c       from l = 1/4 up: the sign of the gap, which decides over divergence, keeps all its digits
KERNEL  S, l       below: the kernel keeps its digits however small it is
======  =========  ====================================================================================================

Rounding enters the kernel as a few units in the last place of its start, and stays: where a catapult lands at a kernel
of 1/32, kernel and sharpness agree with the residual form of ``_core`` to 1e-12, and the squared imbalance
:math:`D = l^2 - 4S` to as little as :math:`10^{-15}/l^2`.

All cells run side by side, in lanes, all from step 0; some thousands of them stay in the nearest caches. In each round
every group of lanes takes the same number of steps without a root, in passes that the compiler turns into vector
instructions. Only where a lane of the group may have reached a new peak of the sharpness, or diverged, the group takes
these steps once more, with the root and a count. Once a quarter of the lanes is done, all records are written and the
others move together. A lane that is done may run on until then: it is done when

- S reached 16, the level of no return;
- or l < 2 and :math:`S \le 2^{-58} l^2`: then kernel and gap have their last bits, as what is added is below half a
  unit in the last place; so has the sharpness, as 12 S is below that of l^2; and S can only fall, as
  :math:`|1 - l| < 1`.

So nothing that is recorded can change any more, in any bit. Each round is as long as all before it together: few lanes
live long, and a look costs as much as several steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._vector_math import fma
from sgdynamics.simulate.uv._core import Floats, Integers

__all__: list[str] = []

# The two forms. They differ in type, so that each has its kernel, which can still be kept on disk.
Form: TypeAlias = int | None
GAP: Form = None
KERNEL: Form = 1

# From where the gap is carried; the largest kernel of a start below the level of no return.
LOW, STEEP = 1 / 4, 7.0
NO_RETURN = 16.0

# Steps of all lanes together up to which they are few: plain loops take a few milliseconds.
FEW = 2**20

# Lanes in one pass, enough to keep several vectors under way; steps in one pass; steps in the first round.
GROUP = 64
UNROLLED = 4
STRIDE = 8


class FreeStarts(NamedTuple):
    """Squared residual, scaled kernel and sharpness of every cell at step 0."""

    height: Floats
    ntk: Floats
    sharpness: Floats


class FreeRecords(NamedTuple):
    """What is kept of every cell, in scaled units; infinite after divergence. May be the arrays of the starts."""

    peak_height: Floats
    final_sharpness: Floats
    peak_sharpness: Floats
    divergence_step: Integers  # -1 for never


@inlined
def kernel_of(form: Form, second: float) -> float:
    """The scaled kernel l."""
    return 4.0 - second if form is None else second


@inlined
def advance(form: Form, square: float, second: float) -> tuple[float, float]:
    """One step of the two numbers of a form."""
    if form is None:
        rest = (second - 3.0) + square
        return square * (rest * rest), fma(second, square, second)
    rest = (1.0 - second) + square
    return square * (rest * rest), fma(second - 4.0, square, second)


@inlined
def sharpness_of(form: Form, square: float, second: float) -> float:
    """The scaled sharpness."""
    ntk = kernel_of(form, second)
    return 0.5 * (ntk + math.sqrt(fma(12.0, square, ntk * ntk)))


@kernel
def run_free(form: Form, starts: FreeStarts, steps: int, stride: int, exits: bool, out: FreeRecords) -> None:
    """Run some thousand cells, or any number.

    ``stride`` is the length of the first round. Neither it nor ``exits`` changes a bit.
    """
    live = starts.height.size
    full = (live + GROUP - 1) // GROUP * GROUP
    # what lies behind the last lane runs along to fill up a group, and is never read
    square, second, peak, top, final = np.empty(full), np.empty(full), np.empty(full), np.empty(full), np.empty(full)
    lane, stays = np.empty(full, np.uint64), np.empty(full, np.uint64)
    # of one group, while it runs without roots: S, the second number and the peak of S; with roots: count and old peak
    a, b, c = np.empty(GROUP), np.empty(GROUP), np.empty(GROUP)

    for i in range(live):
        square[i], second[i] = starts.height[i], kernel_of(form, starts.ntk[i])
        peak[i], top[i] = square[i], starts.sharpness[i]
        lane[i], out.divergence_step[i] = i, -1

    t = 0
    while live > 0:
        n = t if t > stride else stride
        n = n if n < steps - t else steps - t
        n -= n % UNROLLED if n > UNROLLED else 0
        for g in range(0, live, GROUP):
            h = g + GROUP
            x, y, tall, high = square[g:h], second[g:h], peak[g:h], top[g:h]

            # the steps without roots, and how many lanes need roots
            again = n % UNROLLED  # the last few steps of a run all have roots
            if again == 0:
                for j in range(GROUP):
                    a[j], b[j], c[j] = x[j], y[j], 0.0
                for _ in range(n // UNROLLED):
                    for j in range(GROUP):
                        u, v, most = a[j], b[j], c[j]
                        for _ in range(UNROLLED):
                            u, v = advance(form, u, v)
                            most = u if u > most else most
                        a[j], b[j], c[j] = u, v, most
                for j in range(GROUP):
                    before, most, bar = tall[j], c[j], high[j]
                    first, last = kernel_of(form, y[j]), kernel_of(form, b[j])
                    largest = first if first > last else last
                    rises = bar * (bar - largest) <= 3.0 * most + 1e-14 * (bar * bar)  # far more than all rounding
                    again += 1 if (before < NO_RETURN) & (rises | (most >= NO_RETURN)) else 0
                    c[j] = most if most > before else before

            if again == 0:
                for j in range(GROUP):
                    x[j], y[j], tall[j] = a[j], b[j], c[j]
            else:
                for j in range(GROUP):
                    a[j], c[j] = 1.0, tall[j]
                for _ in range(n):
                    for j in range(GROUP):
                        u, v = advance(form, x[j], y[j])
                        x[j], y[j] = u, v
                        most, now, bar = tall[j], sharpness_of(form, u, v), high[j]
                        most = u if u > most else most
                        tall[j], high[j] = most, now if now > bar else bar
                        a[j] += 1.0 if most < NO_RETURN else 0.0
                for j in range(GROUP if h < live else live - g):  # behind the last lane lies what is long written
                    if c[j] < NO_RETURN and tall[j] >= NO_RETURN:
                        out.divergence_step[lane[np.uint64(g + j)]] = t + np.int64(a[j])
        t += n

        # who is done
        busy = 0
        for i in range(live):
            last = kernel_of(form, second[i])
            frozen = square[i] <= (last * last * 2.0**-58 if last < 2.0 else 0.0)
            done = (t == steps) | (exits & (frozen | (peak[i] >= NO_RETURN)))
            stays[i] = 0 if done else 1
            busy += 0 if done else 1
        if 4 * busy > 3 * live:
            continue

        # records of all, because a branch would cost more: those who stay write theirs again
        for i in range(live):
            final[i] = math.inf if peak[i] >= NO_RETURN else sharpness_of(form, square[i], second[i])
        kept = np.uint64(0)
        for i in range(live):
            most, bar, at = peak[i], top[i], lane[i]
            diverged = most >= NO_RETURN
            out.final_sharpness[at] = final[i]
            out.peak_height[at] = math.inf if diverged else most
            out.peak_sharpness[at] = math.inf if diverged else bar
            square[kept], second[kept], peak[kept], top[kept], lane[kept] = square[i], second[i], most, bar, at
            kept += stays[i]
        live = busy


@kernel
def run_few(form: Form, starts: FreeStarts, steps: int, out: FreeRecords) -> None:
    """The same records in plain loops, which take a quarter of the time to compile and six times as long to run.

    The exits are those of :func:`run_free`, looked for at every step.
    """
    for i in range(starts.height.size):
        square, second = starts.height[i], kernel_of(form, starts.ntk[i])
        peak, top, now, diverged = square, starts.sharpness[i], 0.0, -1
        for t in range(steps):
            square, second = advance(form, square, second)
            now = sharpness_of(form, square, second)
            if square >= NO_RETURN:
                square, now, diverged = math.inf, math.inf, t + 1
            peak = square if square > peak else peak
            top = now if now > top else top
            last = kernel_of(form, second)
            if diverged > 0 or (last < 2.0 and square <= last * last * 2.0**-58):
                break
        out.peak_height[i], out.final_sharpness[i], out.peak_sharpness[i] = peak, now, top
        out.divergence_step[i] = diverged
