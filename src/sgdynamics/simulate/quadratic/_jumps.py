r"""Mini-batch quadratics from one recorded step straight to the next.

The maps of the steps between are composed, mean and covariance: a jump is :math:`s \to M s + L z` with L lower
triangular. It has the law of all of its steps and takes two normals a mode, or one for plain SGD, which remembers
nothing.
"""

from __future__ import annotations

import math

import numpy as np

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._normals import normal_pair_of
from sgdynamics.simulate._streams import next_word
from sgdynamics.simulate._vector_math import fma
from sgdynamics.simulate.quadratic._cells import Floats, Integers, Method, Words
from sgdynamics.simulate.quadratic._lanes import LANES, begin, keep
from sgdynamics.simulate.quadratic._step_map import Modes, momentum_map, plain_map

# Rows of a jump: M11 and L11, which is all of plain SGD, then M12, M21, M22, L21, L22.
PLAIN_ROWS, ROWS = 2, 7


@inlined
def _hypotenuse(a: float, b: float) -> float:
    """Square root of a^2 + b^2, where the squares may leave the range of floats."""
    large, small = (abs(a), abs(b)) if abs(a) > abs(b) else (abs(b), abs(a))
    ratio = small / (large if large > 0.0 else 1.0)
    return large * math.sqrt(fma(ratio, ratio, 1.0))


@inlined
def _rotate(p: float, other_p: float, r: float, other_r: float) -> tuple[float, float, float]:
    """Two columns (p, r) turned so that the first row becomes (length, 0): length and the second row."""
    length = _hypotenuse(p, other_p)
    cosine, sine = (p / length, other_p / length) if length > 0.0 else (1.0, 0.0)
    return length, cosine * r + sine * other_r, cosine * other_r - sine * r


@kernel
def _compose_plain(record: Integers, rates: Floats, modes: Modes, jumps: Floats) -> None:
    h, d, m, root = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    count = modes.curvature.size
    for first in range(0, count, LANES):
        lanes = min(LANES, count - first)
        for i in range(lanes):
            h[i], d[i] = modes.curvature[first + i], modes.deviation[first + i]
        t = 0
        for at in range(record.size):
            for i in range(lanes):
                m[i], root[i] = 1.0, 0.0
            while t < record[at]:
                rate = rates[t]
                for i in range(lanes):
                    keep, kick = plain_map(rate, h[i], d[i])
                    m[i] *= keep
                    root[i] = _hypotenuse(keep * root[i], kick)
                t += 1
            for i in range(lanes):
                jumps[at, 0, first + i], jumps[at, 1, first + i] = m[i], root[i]


@kernel
def _compose_momentum(record: Integers, rates: Floats, modes: Modes, method: Method, jumps: Floats) -> None:
    """The covariance is carried as its root: [A L, b] is made triangular again by two rotations.

    A covariance of rank zero or one, which the first steps of a jump always have, then needs no special case and loses
    no digits.
    """
    h, d, jump = np.empty(LANES), np.empty(LANES), np.empty((ROWS, LANES))
    count = modes.curvature.size
    for first in range(0, count, LANES):
        lanes = min(LANES, count - first)
        for i in range(lanes):
            h[i], d[i] = modes.curvature[first + i], modes.deviation[first + i]
        t = 0
        for at in range(record.size):
            jump[:] = 0.0
            jump[0] = jump[4] = 1.0
            while t < record[at]:
                rate = rates[t]
                for i in range(lanes):
                    a11, a12, a21, a22, b1, b2 = momentum_map(rate, h[i], d[i], method)
                    m11, l11, m12, m21 = jump[0, i], jump[1, i], jump[2, i], jump[3, i]
                    m22, l21, l22 = jump[4, i], jump[5, i], jump[6, i]
                    jump[0, i], jump[3, i] = a11 * m11 + a12 * m21, a21 * m11 + a22 * m21
                    jump[2, i], jump[4, i] = a11 * m12 + a12 * m22, a21 * m12 + a22 * m22
                    p, r, rest = _rotate(a11 * l11 + a12 * l21, a12 * l22, a21 * l11 + a22 * l21, a22 * l22)
                    jump[1, i], jump[5, i], other = _rotate(p, b1, r, b2)
                    jump[6, i] = _hypotenuse(rest, other)
                t += 1
            for row in range(ROWS):
                for i in range(lanes):
                    jumps[at, row, first + i] = jump[row, i]


@kernel
def _compose_average(weights: Floats, rates: Floats, modes: Modes, method: Method, jumps: Floats) -> None:
    """The averaged point as one jump: its sensitivity (p, q) to the state, followed backwards."""
    h, d, p, q, variance = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    count = modes.curvature.size
    jumps[:] = 0.0
    for first in range(0, count, LANES):
        lanes = min(LANES, count - first)
        for i in range(lanes):
            h[i], d[i] = modes.curvature[first + i], modes.deviation[first + i]
            p[i], q[i], variance[i] = weights[rates.size], 0.0, 0.0
        for t in range(rates.size - 1, -1, -1):
            rate, weight = rates[t], weights[t]
            for i in range(lanes):
                a11, a12, a21, a22, b1, b2 = momentum_map(rate, h[i], d[i], method)
                along = p[i] * b1 + q[i] * b2
                variance[i] += along * along
                p[i], q[i] = a11 * p[i] + a21 * q[i] + weight, a12 * p[i] + a22 * q[i]
        for i in range(lanes):
            jumps[0, 0, first + i], jumps[0, 1, first + i] = p[i], math.sqrt(variance[i])
            if jumps.shape[1] > PLAIN_ROWS:
                jumps[0, 2, first + i] = q[i]


def room_for_jumps(count: int, modes: int, method: Method) -> Floats:
    """Room for the rows of every jump: both modes of each pair, and over again as far as a group of lanes may reach."""
    rows = PLAIN_ROWS if method.momentum == 0.0 else ROWS
    return np.empty((count, rows, 2, (modes + 1) // 2 + LANES - 1))


def compose(record: Integers, weights: Floats, rates: Floats, modes: Modes, method: Method, jumps: Floats) -> None:
    """Every jump from one recorded step to the next, or to the averaged point."""
    count = modes.curvature.size
    by_mode = np.empty((*jumps.shape[:2], count))
    if weights.size:
        _compose_average(weights, rates, modes, method, by_mode)
    elif method.momentum == 0.0:
        _compose_plain(record, rates, modes, by_mode)
    else:
        _compose_momentum(record, rates, modes, method, by_mode)
    left = 2 * (np.arange(jumps.shape[-1]) % ((count + 1) // 2))
    jumps[:] = by_mode[..., np.stack([left, np.minimum(left + 1, count - 1)])]


@inlined
def _jump(
    error: float, memory: float, normal: float, other: float, jumps: Floats, at: int, side: int, lane: np.uint64
) -> tuple[float, float]:
    """The state after a jump with momentum."""
    m11, l11, m12 = jumps[at, 0, side, lane], jumps[at, 1, side, lane], jumps[at, 2, side, lane]
    m21, m22 = jumps[at, 3, side, lane], jumps[at, 4, side, lane]
    l21, l22 = jumps[at, 5, side, lane], jumps[at, 6, side, lane]
    return (
        fma(m11, error, fma(m12, memory, l11 * normal)),
        fma(m21, error, fma(m22, memory, fma(l21, normal, l22 * other))),
    )


@kernel
def run_jumps(
    key: Words, replicas: Words, jumps: Floats, modes: Modes, method: Method, error: Floats, risk: Floats
) -> None:
    """Run every jump; each has two normals per mode in its stream, of which plain SGD uses the first."""
    pairs = (modes.curvature.size + 1) // 2
    plain = method.momentum == 0.0
    states = np.empty((4, LANES), np.uint64)
    e, w, g = np.empty((2, LANES)), np.empty((2, LANES)), np.empty((2, LANES))
    room = np.empty((3, LANES))
    for first in range(0, pairs * replicas.size, LANES):
        lanes = min(LANES, pairs * replicas.size - first)
        begin(key, replicas, modes, method, pairs, first, lanes, states, e, w, g)
        pair = first % pairs
        for at in range(jumps.shape[0]):
            if plain:
                for i in range(lanes):
                    left, right = normal_pair_of(states, i)
                    lane = np.uint64(pair + i)
                    e[0, i] = fma(jumps[at, 0, 0, lane], e[0, i], jumps[at, 1, 0, lane] * left)
                    e[1, i] = fma(jumps[at, 0, 1, lane], e[1, i], jumps[at, 1, 1, lane] * right)
                    # the same places in the stream as with momentum, without the work
                    state = (states[0, i], states[1, i], states[2, i], states[3, i])
                    _, state = next_word(state)
                    _, state = next_word(state)
                    states[0, i], states[1, i], states[2, i], states[3, i] = state
            else:
                for i in range(lanes):
                    left, right = normal_pair_of(states, i)
                    other_left, other_right = normal_pair_of(states, i)
                    lane = np.uint64(pair + i)
                    e[0, i], w[0, i] = _jump(e[0, i], w[0, i], left, other_left, jumps, at, 0, lane)
                    e[1, i], w[1, i] = _jump(e[1, i], w[1, i], right, other_right, jumps, at, 1, lane)
            keep(e, g, room, pairs, first, lanes, at, error, risk)
