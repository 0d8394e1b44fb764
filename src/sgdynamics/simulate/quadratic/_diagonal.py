r"""Ensembles of mini-batch quadratics by Monte Carlo.

Every method carries, in each mode, the pair :math:`s = (e, w)` of the error and what the next step remembers of the
past. A step is one affine map with one standard normal :math:`z` for the batch center
:math:`\xi = \sigma z`, :math:`\sigma^2 = C/B`; with gain :math:`g = \eta h` and :math:`q = 1 - g`

.. math:: s_t = A_t s_{t-1} + b_t z_t.

==========  ==================  ======================================  ===========================
method      :math:`w`           rows of :math:`A`                       :math:`b`
==========  ==================  ======================================  ===========================
heavy ball  velocity :math:`u`  :math:`(q, -\eta\beta), (h, \beta)`     :math:`(g\sigma, -h\sigma)`
Nesterov    :math:`e_{t-1}`     :math:`((1+\beta)q, -\beta q), (1, 0)`  :math:`(g\sigma, 0)`
==========  ==================  ======================================  ===========================

Plain SGD is heavy ball with :math:`\beta = 0`.

``steps`` draws every :math:`z_t`. ``jumps`` composes the maps between two recorded steps, mean and covariance, and
draws the result: the same law with as many normals as there are recorded steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import next_word, normal_pair, open_stream
from sgdynamics.simulate.quadratic._cells import BLOCK, Floats, Integers, Method, Words, diverged_to_infinity, row

# ---------------------------------------------------------------------------------------------------------------------
# One step


class Modes(NamedTuple):
    """One value per mode."""

    curvature: Floats
    deviation: Floats  # standard deviation of the batch center
    start: Floats
    risk_weight: Floats


@inlined
def _transition(
    rate: float, curvature: float, deviation: float, method: Method
) -> tuple[float, float, float, float, float, float]:
    """A, row by row, and b of one step."""
    gain = rate * curvature
    keep = 1.0 - gain
    beta = method.momentum
    if method.nesterov:
        return (1.0 + beta) * keep, -beta * keep, 1.0, 0.0, gain * deviation, 0.0
    return keep, -rate * beta, curvature, beta, gain * deviation, -curvature * deviation


@inlined
def _advance(
    error: float, memory: float, normal: float, rate: float, curvature: float, deviation: float, method: Method
) -> tuple[float, float]:
    """The state after one step."""
    a11, a12, a21, a22, b1, b2 = _transition(rate, curvature, deviation, method)
    return a11 * error + a12 * memory + b1 * normal, a21 * error + a22 * memory + b2 * normal


@inlined
def _record(modes: Modes, replica: int, at: int, mode: int, value: float, error: Floats, risk: Floats) -> None:
    value = diverged_to_infinity(value)
    error[replica, at, mode] = value
    risk[replica, at] += diverged_to_infinity(modes.risk_weight[mode] * value * value)


# ---------------------------------------------------------------------------------------------------------------------
# Every step drawn


@kernel
def _steps(
    key: Words,
    replicas: Words,
    record: Integers,
    rates: Floats,
    weights: Floats,
    modes: Modes,
    method: Method,
    error: Floats,
    risk: Floats,
) -> None:
    """Run every step; ``weights`` is empty or makes the averaged point, the one record at the last step."""
    count = modes.curvature.size
    averaged = weights.size > 0
    for r in range(replicas.size):
        for left in range(0, count, 2):
            right = min(left + 1, count - 1)  # the last of an odd number of modes is its own neighbour
            h_left, h_right = modes.curvature[left], modes.curvature[right]
            sigma_left, sigma_right = modes.deviation[left], modes.deviation[right]
            e_left, e_right = modes.start[left], modes.start[right]
            w_left = e_left if method.nesterov else 0.0
            w_right = e_right if method.nesterov else 0.0
            y_left = weights[0] * e_left if averaged else 0.0
            y_right = weights[0] * e_right if averaged else 0.0
            state = open_stream(key, replicas[r], np.uint64(left // 2))
            t = 0
            for at in range(record.size):
                while t < record[at]:
                    z_left, z_right, state = normal_pair(state)
                    e_left, w_left = _advance(e_left, w_left, z_left, rates[t], h_left, sigma_left, method)
                    e_right, w_right = _advance(e_right, w_right, z_right, rates[t], h_right, sigma_right, method)
                    t += 1
                    if averaged and weights[t] != 0.0:  # what the average leaves out may be infinite
                        y_left += weights[t] * e_left
                        y_right += weights[t] * e_right
                _record(modes, r, at, left, y_left if averaged else e_left, error, risk)
                if right != left:
                    _record(modes, r, at, right, y_right if averaged else e_right, error, risk)


# ---------------------------------------------------------------------------------------------------------------------
# Exact jumps


@kernel
def _compose(record: Integers, rates: Floats, modes: Modes, method: Method, maps: Floats, roots: Floats) -> None:
    """Every jump from one recorded step to the next, s -> M s + L z with L lower triangular.

    The covariance is carried as its root: [A L, b] is made triangular again by two rotations. A covariance of rank
    zero or one, which the first steps of a jump always have, then needs no special case and loses no digits.
    """
    for mode in range(modes.curvature.size):
        t = 0
        for at in range(record.size):
            m11, m12, m21, m22 = 1.0, 0.0, 0.0, 1.0
            l11, l21, l22 = 0.0, 0.0, 0.0
            while t < record[at]:
                a11, a12, a21, a22, b1, b2 = _transition(rates[t], modes.curvature[mode], modes.deviation[mode], method)
                m11, m21 = a11 * m11 + a12 * m21, a21 * m11 + a22 * m21
                m12, m22 = a11 * m12 + a12 * m22, a21 * m12 + a22 * m22
                p1, p2, p3 = a11 * l11 + a12 * l21, a12 * l22, b1
                r1, r2, r3 = a21 * l11 + a22 * l21, a22 * l22, b2
                # rotate columns 1 and 2, then 1 and 3: the first row becomes (l11, 0, 0)
                length = math.hypot(p1, p2)
                if length != 0.0:
                    r1, r2 = (p1 * r1 + p2 * r2) / length, (p1 * r2 - p2 * r1) / length
                l11 = math.hypot(length, p3)
                if l11 != 0.0:
                    r1, r3 = (length * r1 + p3 * r3) / l11, (length * r3 - p3 * r1) / l11
                l21 = r1
                l22 = math.hypot(r2, r3)
                t += 1
            maps[at, mode, 0], maps[at, mode, 1], maps[at, mode, 2], maps[at, mode, 3] = m11, m12, m21, m22
            roots[at, mode, 0], roots[at, mode, 1], roots[at, mode, 2] = l11, l21, l22


@kernel
def _compose_average(weights: Floats, rates: Floats, modes: Modes, method: Method, maps: Floats, roots: Floats) -> None:
    """The averaged point as one jump: its sensitivity (p, q) to the state, followed backwards."""
    for mode in range(modes.curvature.size):
        p, q = weights[rates.size], 0.0
        variance = 0.0
        for t in range(rates.size - 1, -1, -1):
            a11, a12, a21, a22, b1, b2 = _transition(rates[t], modes.curvature[mode], modes.deviation[mode], method)
            variance += (p * b1 + q * b2) ** 2
            p, q = a11 * p + a21 * q + weights[t], a12 * p + a22 * q
        maps[0, mode, 0], maps[0, mode, 1], maps[0, mode, 2], maps[0, mode, 3] = p, q, 0.0, 0.0
        roots[0, mode, 0], roots[0, mode, 1], roots[0, mode, 2] = math.sqrt(variance), 0.0, 0.0


@inlined
def _jump(error: float, memory: float, normal: float, other: float, jump: Floats, root: Floats) -> tuple[float, float]:
    return (
        jump[0] * error + jump[1] * memory + root[0] * normal,
        jump[2] * error + jump[3] * memory + root[1] * normal + root[2] * other,
    )


@kernel
def _jumps(
    key: Words,
    replicas: Words,
    maps: Floats,
    roots: Floats,
    modes: Modes,
    method: Method,
    error: Floats,
    risk: Floats,
) -> None:
    """Run every jump; each takes two normals per mode, of which plain SGD uses the first."""
    count = modes.curvature.size
    plain = method.momentum == 0.0
    for r in range(replicas.size):
        for left in range(0, count, 2):
            right = min(left + 1, count - 1)
            e_left, e_right = modes.start[left], modes.start[right]
            w_left = e_left if method.nesterov else 0.0
            w_right = e_right if method.nesterov else 0.0
            y_left, y_right = 0.0, 0.0
            state = open_stream(key, replicas[r], np.uint64(left // 2))
            for at in range(maps.shape[0]):
                z_left, z_right, state = normal_pair(state)
                if plain:  # the same places in the stream as with momentum, without the work
                    _, state = next_word(state)
                    _, state = next_word(state)
                else:
                    y_left, y_right, state = normal_pair(state)
                e_left, w_left = _jump(e_left, w_left, z_left, y_left, maps[at, left], roots[at, left])
                e_right, w_right = _jump(e_right, w_right, z_right, y_right, maps[at, right], roots[at, right])
                _record(modes, r, at, left, e_left, error, risk)
                if right != left:
                    _record(modes, r, at, right, e_right, error, risk)


# ---------------------------------------------------------------------------------------------------------------------
# Many cells, many replicas


def run(
    schedule: Floats,
    momentum: Floats,
    curvature: Floats,
    variance: Floats,
    start: Floats,
    multiplicity: Floats,
    average: Floats | None = None,
    *,
    key: Words,
    replicas: Integers,
    record: Integers,
    nesterov: bool,
    by_jumps: bool,
) -> tuple[Floats, Floats]:
    """Error and excess risk, shapes (..., replica, step, mode) and (..., replica, step), over broadcast cells."""
    momentum = np.asarray(momentum)[..., None]
    average = np.empty(0) if average is None else average
    with np.errstate(all="ignore"):
        per_mode = (curvature, np.sqrt(variance), start, 0.5 * multiplicity * curvature)
    shape = np.broadcast_shapes(*(array.shape[:-1] for array in (schedule, average, momentum, *per_mode)))
    count = curvature.shape[-1]
    error = np.empty((*shape, replicas.size, record.size, count))
    risk = np.zeros((*shape, replicas.size, record.size))
    indices = replicas.astype(np.uint64)

    composing: list[Callable[[], None]] = []
    drawing: list[Callable[[], None]] = []
    for cell in np.ndindex(shape):
        modes = Modes(*(row(array, cell) for array in per_mode))
        method = Method(float(row(momentum, cell)[0]), nesterov)
        rates, weights = row(schedule, cell), row(average, cell)
        draw = functools.partial(_steps, key, record=record, rates=rates, weights=weights, modes=modes, method=method)
        if by_jumps:
            maps, roots = np.empty((record.size, count, 4)), np.empty((record.size, count, 3))
            if weights.size:
                composing.append(functools.partial(_compose_average, weights, rates, modes, method, maps, roots))
            else:
                composing.append(functools.partial(_compose, record, rates, modes, method, maps, roots))
            draw = functools.partial(_jumps, key, maps=maps, roots=roots, modes=modes, method=method)
        drawing += [
            functools.partial(draw, indices[block], error=error[cell][block], risk=risk[cell][block])
            for block in slices(replicas.size, BLOCK)
        ]
    run_all(composing)
    run_all(drawing)
    return error, risk
