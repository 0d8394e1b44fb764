"""Standard normals for many streams at once: one loop over streams, which the compiler runs on whole vectors."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import next_word, normal_pair, open_stream, radius_of

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.uint64]


@inlined
def normal_pair_of(states: Words, stream: int) -> tuple[float, float]:
    """The next two normals of one stream, whose state moves on."""
    state = (states[0, stream], states[1, stream], states[2, stream], states[3, stream])
    left, right, state = normal_pair(state)
    states[0, stream], states[1, stream], states[2, stream], states[3, stream] = state
    return left, right


@inlined
def draw(states: Words, streams: int, words: Words, radius: Floats) -> None:
    """The next two words of so many streams, and the distance from 0 of the normals that they stand for.

    Two short passes instead of one together with what is done with the normals: a processor looks ahead over more
    streams where it needs fewer instructions for each.
    """
    for i in range(streams):
        state = (states[0, i], states[1, i], states[2, i], states[3, i])
        words[0, i], state = next_word(state)
        words[1, i], state = next_word(state)
        states[0, i], states[1, i], states[2, i], states[3, i] = state
    for i in range(streams):
        radius[i] = radius_of(words[0, i])


@kernel
def open_streams(key: Words, replica: np.uint64, first: int, states: Words) -> None:
    """Consecutive streams at their beginning, numbered from ``first``; states have shape (4, streams)."""
    for i in range(states.shape[1]):
        states[0, i], states[1, i], states[2, i], states[3, i] = open_stream(key, replica, np.uint64(first + i))


@kernel
def fill_normals(states: Words, left: Floats, right: Floats) -> None:
    """The next pair of normals of every stream."""
    # one array for each word of a state: only then does the compiler see that they do not overlap, and use vectors
    first, second, third, fourth = states[0], states[1], states[2], states[3]
    for i in range(left.size):
        left[i], right[i], state = normal_pair((first[i], second[i], third[i], fourth[i]))
        first[i], second[i], third[i], fourth[i] = state
