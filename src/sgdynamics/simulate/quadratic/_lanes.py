"""Many streams abreast: a lane is the pair of directions of a replica that share a stream.

Lanes are numbered replica by replica and pair by pair, and run in groups of ``LANES``, whatever replicas they belong
to. Loops over the lanes of a group, in local arrays, are what the compiler runs on whole vectors. No lane sees another:
its bits depend neither on the group nor on its place in it.
"""

from __future__ import annotations

import numpy as np

from sgdynamics.simulate._kernel import inlined
from sgdynamics.simulate._streams import open_stream
from sgdynamics.simulate.quadratic._cells import Floats, Method, Words, diverged_to_infinity
from sgdynamics.simulate.quadratic._step_map import Modes

# Enough to fill the vectors of any processor, few enough to stay in the nearest cache; no power of two, so that rows of
# arrays do not lie whole pages apart, where a processor takes a load for one of what it has just stored.
LANES = 192


@inlined
def open_lanes(key: Words, replicas: Words, pairs: int, first: int, lanes: int, states: Words) -> None:
    """The streams of a group, at their beginning."""
    replica, pair = divmod(first, pairs)
    for i in range(lanes):
        states[0, i], states[1, i] = replicas[replica], np.uint64(pair)
        pair += 1
        if pair == pairs:
            replica, pair = replica + 1, 0
    for i in range(lanes):
        state = open_stream(key, states[0, i], states[1, i])
        states[0, i], states[1, i], states[2, i], states[3, i] = state


@inlined
def load(values: Floats, pairs: int, first: int, lanes: int, out: Floats) -> None:
    """One value per mode to the left and the right mode of every lane of a group."""
    pair = first % pairs
    for i in range(lanes):
        out[0, i] = values[2 * pair]
        out[1, i] = values[min(2 * pair + 1, values.size - 1)]  # the last of an odd number is its own neighbour
        pair = pair + 1 if pair + 1 < pairs else 0


@inlined
def begin(
    key: Words,
    replicas: Words,
    modes: Modes,
    method: Method,
    pairs: int,
    first: int,
    lanes: int,
    states: Words,
    error: Floats,
    memory: Floats,
    risk_weight: Floats,
) -> None:
    """The streams of a group, and every lane at its start."""
    open_lanes(key, replicas, pairs, first, lanes, states)
    load(modes.start, pairs, first, lanes, error)
    load(modes.risk_weight, pairs, first, lanes, risk_weight)
    for i in range(lanes):
        memory[0, i], memory[1, i] = (error[0, i], error[1, i]) if method.nesterov else (0.0, 0.0)


@inlined
def keep(
    values: Floats,
    risk_weight: Floats,
    room: Floats,
    pairs: int,
    first: int,
    lanes: int,
    at: int,
    error: Floats,
    risk: Floats,
) -> None:
    """Write the points of a group as those of a recorded step and add their risk, pair after pair, to that so far."""
    for i in range(lanes):
        left, right = diverged_to_infinity(values[0, i]), diverged_to_infinity(values[1, i])
        room[0, i], room[1, i] = left, right
        room[2, i] = risk_weight[0, i] * left * left + risk_weight[1, i] * right * right
    count = error.shape[2]
    replica, pair = divmod(first, pairs)
    i = 0
    while i < lanes:
        here = min(lanes - i, pairs - pair)  # lanes of this replica
        whole = min(here, count // 2 - pair)  # of these, pairs of two modes
        for k in range(whole):
            error[replica, at, np.uint64(2 * (pair + k))] = room[0, np.uint64(i + k)]
            error[replica, at, np.uint64(2 * (pair + k) + 1)] = room[1, np.uint64(i + k)]
        total = risk[replica, at]
        for k in range(whole):
            total += room[2, np.uint64(i + k)]
        if whole < here:
            value = room[0, i + whole]
            error[replica, at, count - 1] = value
            total += risk_weight[0, i + whole] * value * value
        risk[replica, at] = diverged_to_infinity(total)
        i += here
        replica, pair = replica + 1, 0
