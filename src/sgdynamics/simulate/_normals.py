"""Standard normals for many streams at once, in loops over streams, which the compiler runs on whole vectors.

A pair of normals takes some hundred operations, most of which wait for the one before. A processor looks ahead over
more streams where it needs fewer instructions for each, and a compiler keeps constants in registers where they are few:
so there are four short loops one after the other, each a function of its own, with what is between them in the nearest
cache.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined, kernel, stay_apart
from sgdynamics.simulate._streams import next_word, normal_pair, open_stream, radius_at, uniform
from sgdynamics.simulate._vector_math import direction_begun, direction_ended, log_begun, log_ended

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.uint64]


@inlined
def normal_pair_of(states: Words, stream: int) -> tuple[float, float]:
    """The next two normals of one stream, whose state moves on."""
    state = (states[0, stream], states[1, stream], states[2, stream], states[3, stream])
    left, right, state = normal_pair(state)
    states[0, stream], states[1, stream], states[2, stream], states[3, stream] = state
    return left, right


@kernel
def _next_words(states: Words, streams: int, words: Words) -> None:
    """Two words of every stream, whose state moves on."""
    stay_apart()
    for i in range(streams):
        state = (states[0, i], states[1, i], states[2, i], states[3, i])
        words[0, i], state = next_word(state)
        words[1, i], state = next_word(state)
        states[0, i], states[1, i], states[2, i], states[3, i] = state


@kernel
def _begin_logarithms(words: Words, streams: int, parts: Floats) -> None:
    """Of a uniform number for each of the first words."""
    stay_apart()
    for i in range(streams):
        parts[0, i], parts[1, i], parts[2, i] = log_begun(uniform(words[0, i]))


@kernel
def _end_radii(streams: int, parts: Floats) -> None:
    """In place of the first parts."""
    stay_apart()
    for i in range(streams):
        parts[0, i] = radius_at(log_ended(parts[0, i], parts[1, i], parts[2, i]))


@kernel
def _begin_directions(words: Words, streams: int, parts: Floats) -> None:
    """In place of the other parts."""
    stay_apart()
    for i in range(streams):
        parts[1, i], parts[2, i] = direction_begun(words[1, i])


@inlined
def draw(states: Words, streams: int, words: Words, parts: Floats) -> None:
    """What :func:`drawn` makes the next normals of so many streams from; two rows of words, three of parts."""
    _next_words(states, streams, words)
    _begin_logarithms(words, streams, parts)
    _end_radii(streams, parts)
    _begin_directions(words, streams, parts)


@inlined
def drawn(words: Words, parts: Floats, i: int) -> tuple[float, float]:
    """The two normals of a stream."""
    return direction_ended(words[1, i], parts[0, i], parts[1, i], parts[2, i])


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
