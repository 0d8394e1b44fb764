r"""Orbits where no minimum is stable, abreast: where they end, and how fast neighbours part on the way.

The loop over lanes is the inner one, and the compiler makes vector instructions of it.

On the line an orbit is followed until it repeats. A state that comes back to the last bit is a cycle: where the orbit
ends is a matter of counting, and what it still adds to a sum a multiple of what one turn adds. Each orbit is compared
with its state at the last power of two (Brent 1980), so that neither the beginning nor the length of a cycle need be
known; lanes that are done are written out and the others move together. Chaos does not repeat.
"""

from __future__ import annotations

import math

import numpy as np

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._vector_math import fma, log
from sgdynamics.simulate.uv._core import Floats, cone_advance, no_return

__all__: list[str] = []

# Steps of one lane before it is the next one's turn: so few that the processor has several lanes in hand at once.
UNROLLED = 2
# Steps after which products are renormalised and orbits compared: no slope exceeds 9, and 9^16 is no large number.
STRIDE = 16


@inlined
def _roof(q: float) -> float:
    """The upper end of the invariant interval, less a rounding error: it is a fixed point, and an orbit would stay."""
    return (2.0 + q) * (1.0 - 2.0**-52)


@inlined
def line_step(x: float, q: float) -> float:
    """One step on the line; rounding may not carry it out of the interval."""
    rest = 1.0 + q - x
    return min(x * (rest * rest), _roof(q))


@inlined
def _advance(x: float, q: float, along: float, across: float) -> tuple[float, float, float]:
    """One step; the slope along the line and the root of that away from it multiplied on."""
    along *= (1.0 + q - x) * fma(-3.0, x, 1.0 + q)
    across *= 1.0 + x - q
    return line_step(x, q), along, across


@inlined
def _split(product: float) -> tuple[float, int]:
    """Mantissa, between 1 and 2 in size, and power of two; the mantissa of 0 is 0."""
    power = int((np.float64(product).view(np.int64) >> 52) & 2047) - 1023
    return product * np.int64((1023 - power) << 52).view(np.float64), power


@inlined
def _logarithm(mantissa: float, power: int) -> float:
    return log(abs(mantissa)) + power * math.log(2.0) if mantissa != 0.0 else -math.inf


@kernel
def follow_line(q: Floats, steps: int, x: Floats, along: Floats, across: Floats) -> None:
    """Move ``x`` by so many steps, and sum the logarithms of the slopes along the line and away from it."""
    live = q.size
    lane, last = np.arange(live), np.full(live, steps // STRIDE)
    at, target, seen = x.copy(), q.copy(), np.full(live, math.nan)
    # sums until the mark, and products since then less powers of two
    up, first, first_power = np.zeros(live), np.ones(live), np.zeros(live, np.int64)
    out, second, second_power = np.zeros(live), np.ones(live), np.zeros(live, np.int64)

    for _ in range(steps % STRIDE):
        for i in range(live):
            at[i], first[i], second[i] = _advance(at[i], target[i], first[i], second[i])
    turn, mark = 0, 0
    while live > 0:
        found = 0
        for i in range(live):
            first[i], power = _split(first[i])
            first_power[i] += power
            second[i], power = _split(second[i])
            second_power[i] += power
            found += 1 if (at[i] == seen[i]) | (turn == last[i]) else 0

        if found > 0:
            kept = 0
            for i in range(live):
                if at[i] == seen[i]:
                    # the products since the mark are those of one cycle
                    cycle = turn - mark
                    more = (last[i] - turn) // cycle
                    last[i] -= more * cycle
                    if more > 0:  # none of what may be infinite is nothing
                        up[i] += more * _logarithm(first[i], first_power[i])
                        out[i] += more * _logarithm(second[i], second_power[i])
                if turn == last[i]:
                    x[lane[i]] = at[i]
                    along[lane[i]] = up[i] + _logarithm(first[i], first_power[i])
                    across[lane[i]] = 2.0 * (out[i] + _logarithm(second[i], second_power[i]))
                else:
                    lane[kept], last[kept], target[kept] = lane[i], last[i], target[i]
                    at[kept], seen[kept] = at[i], seen[i]
                    up[kept], first[kept], first_power[kept] = up[i], first[i], first_power[i]
                    out[kept], second[kept], second_power[kept] = out[i], second[i], second_power[i]
                    kept += 1
            live = kept

        if turn >= 2 * mark:
            mark = turn
            for i in range(live):
                seen[i] = at[i]
                up[i] += _logarithm(first[i], first_power[i])
                first[i], first_power[i] = 1.0, 0
                out[i] += _logarithm(second[i], second_power[i])
                second[i], second_power[i] = 1.0, 0

        turn += 1
        for _ in range(STRIDE // UNROLLED):
            for i in range(live):
                point, value, one, other = at[i], target[i], first[i], second[i]
                for _ in range(UNROLLED):
                    point, one, other = _advance(point, value, one, other)
                at[i], first[i], second[i] = point, one, other


@kernel
def end_on_line(q: Floats, steps: int, x: Floats) -> None:
    """Move ``x`` by so many steps, as :func:`follow_line` does, without the slopes on the way."""
    live = q.size
    lane, last = np.arange(live), np.full(live, steps // STRIDE)
    at, target, seen = x.copy(), q.copy(), np.full(live, math.nan)
    for _ in range(steps % STRIDE):
        for i in range(live):
            at[i] = line_step(at[i], target[i])
    turn, mark = 0, 0
    while live > 0:
        found = 0
        for i in range(live):
            found += 1 if (at[i] == seen[i]) | (turn == last[i]) else 0
        if found > 0:
            kept = 0
            for i in range(live):
                if at[i] == seen[i]:
                    last[i] = turn + (last[i] - turn) % (turn - mark)
                if turn == last[i]:
                    x[lane[i]] = at[i]
                else:
                    lane[kept], last[kept], target[kept] = lane[i], last[i], target[i]
                    at[kept], seen[kept] = at[i], seen[i]
                    kept += 1
            live = kept
        if turn >= 2 * mark:
            mark = turn
            for i in range(live):
                seen[i] = at[i]
        turn += 1
        for _ in range(STRIDE // UNROLLED):
            for i in range(live):
                point, value = at[i], target[i]
                for _ in range(UNROLLED):
                    point = line_step(point, value)
                at[i] = point


@inlined
def cone_step(p: float, m: float, q: float) -> tuple[float, float]:
    """One step of the two sides of the cone; beyond return the first is infinite and stays so."""
    residual = 0.25 * (p - m) - q
    next_p, next_m, _, _, _ = cone_advance(p, m, residual, q)
    next_residual = 0.25 * (next_p - next_m) - q
    inside = (abs(next_residual) < no_return(q)) & (p < math.inf)  # NaN is not
    return next_p if inside else math.inf, next_m if inside else m


@kernel
def follow_cone(q: Floats, steps: int, p: Floats, m: Floats) -> None:
    """Move the two sides of the cone by so many steps."""
    target, side, other = q.copy(), p.copy(), m.copy()
    for t in range(0, steps, UNROLLED):
        if t + UNROLLED <= steps:
            for i in range(q.size):
                a, b = side[i], other[i]
                for _ in range(UNROLLED):
                    a, b = cone_step(a, b, target[i])
                side[i], other[i] = a, b
        else:
            for i in range(q.size):
                side[i], other[i] = cone_step(side[i], other[i], target[i])
    for i in range(q.size):
        p[i], m[i] = side[i], other[i]
