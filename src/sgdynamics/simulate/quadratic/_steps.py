"""Mini-batch quadratics with every mini-batch drawn."""

from __future__ import annotations

import numpy as np

from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._normals import draw, drawn
from sgdynamics.simulate.quadratic._cells import Floats, Integers, Method, Words
from sgdynamics.simulate.quadratic._lanes import LANES, begin, keep, load
from sgdynamics.simulate.quadratic._step_map import Modes, momentum_step, plain_step


@kernel
def run_steps(
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
    """Run every step; ``weights`` is empty or makes the averaged point, the one record at the last step.

    Of the left and the right mode of every lane: error e, memory w, average y, curvature h, deviation d.
    """
    pairs = (modes.curvature.size + 1) // 2
    averaged = weights.size > 0
    plain = method.momentum == 0.0
    states = np.empty((4, LANES), np.uint64)
    e, w, y = np.empty((2, LANES)), np.empty((2, LANES)), np.empty((2, LANES))
    h, d, g = np.empty((2, LANES)), np.empty((2, LANES)), np.empty((2, LANES))
    room = np.empty((3, LANES))
    words, parts = np.empty((2, LANES), np.uint64), np.empty((3, LANES))
    for first in range(0, pairs * replicas.size, LANES):
        lanes = min(LANES, pairs * replicas.size - first)
        begin(key, replicas, modes, method, pairs, first, lanes, states, e, w, g)
        load(modes.curvature, pairs, first, lanes, h)
        load(modes.deviation, pairs, first, lanes, d)
        for i in range(lanes):
            y[0, i], y[1, i] = (weights[0] * e[0, i], weights[0] * e[1, i]) if averaged else (0.0, 0.0)
        t = 0
        for at in range(record.size):
            while t < record[at]:
                rate = rates[t]
                draw(states, lanes, words, parts)
                if plain:
                    for i in range(lanes):
                        left, right = drawn(words, parts, i)
                        e[0, i] = plain_step(e[0, i], left, rate, h[0, i], d[0, i])
                        e[1, i] = plain_step(e[1, i], right, rate, h[1, i], d[1, i])
                else:
                    for i in range(lanes):
                        left, right = drawn(words, parts, i)
                        e[0, i], w[0, i] = momentum_step(e[0, i], w[0, i], left, rate, h[0, i], d[0, i], method)
                        e[1, i], w[1, i] = momentum_step(e[1, i], w[1, i], right, rate, h[1, i], d[1, i], method)
                t += 1
                if averaged and weights[t] != 0.0:  # what the average leaves out may be infinite
                    for i in range(lanes):
                        y[0, i] += weights[t] * e[0, i]
                        y[1, i] += weights[t] * e[1, i]
            if averaged:
                keep(y, g, room, pairs, first, lanes, at, error, risk)
            else:
                keep(e, g, room, pairs, first, lanes, at, error, risk)
