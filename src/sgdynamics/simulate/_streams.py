r"""Random streams keyed by what they are for.

Every stream is a xoshiro256++ generator whose four state words are hashed by SplitMix64 from the key

.. math:: (\text{seed}, \text{purpose}, \text{replica}, \text{direction pair}),

so that a number depends on its logical place alone: not on threads, chunks, the other replicas, or the learning rate.
The hash is one-to-one in the replica and in the direction pair: neighbours never share a state.

Normals come in pairs by Box-Muller, exactly two 64-bit words for the two directions of a pair, so that every normal
has a fixed place in its stream and nothing is cached.

Notes
-----
Generator: Blackman & Vigna, Scrambled linear pseudorandom number generators (2021). Hash: Steele, Lea & Flood, Fast
splittable pseudorandom number generators (2014).
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined
from sgdynamics.simulate._vector_math import as_signed, direction_begun, direction_ended, log

__all__ = ["Purpose", "Seed", "State", "next_word", "normal_pair", "open_stream", "stream_key", "whole_number"]

Seed: TypeAlias = int | np.random.SeedSequence
W = TypeVar("W", np.uint64, NDArray[np.uint64])
State: TypeAlias = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


class Purpose(IntEnum):
    """What a stream is for; no two uses of one seed may share a word."""

    QUADRATIC_STEPS = 1
    QUADRATIC_JUMPS = 2
    QUADRATIC_FULL = 3
    QUADRATIC_FINITE_SUM = 4
    QUADRATIC_LEAST_SQUARES = 5
    UV_START = 10
    DEEP_LINEAR_START = 12
    PATTERNS_P = 30
    PATTERNS_Q = 31
    PATTERNS_ACTIVATION = 32
    PATTERNS_BATCHES = 33
    BREAK_EVEN_M1 = 40
    BREAK_EVEN_M2 = 41


# Typed shift counts and constants: between a uint64 and a plain int Numba would fall back to float64.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_11, _17, _23, _27, _30, _31, _41, _45, _19, _1 = map(np.uint64, (11, 17, 23, 27, 30, 31, 41, 45, 19, 1))
_UNIT = 2.0**-53
_32, _LOW, _RANGE = np.uint64(32), np.uint64(2**32 - 1), np.uint64(2**32)


def _absorb(state: Any, word: Any) -> Any:
    """Hash one more word: the output of SplitMix64 at ``state ^ word``, one-to-one in either."""
    z = (state ^ word) + _GOLDEN
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


absorb = inlined(_absorb)


def open_many(key: NDArray[np.uint64], replicas: NDArray[np.uint64], pairs: NDArray[np.uint64]) -> Any:
    """:func:`open_stream` for arrays, whose shapes are broadcast."""
    return tuple(_absorb(_absorb(word, replicas), pairs) for word in key)


@inlined
def open_stream(key: NDArray[np.uint64], replica: np.uint64, pair: np.uint64) -> State:
    """State at the beginning of the stream of a replica and a direction pair."""
    return (
        absorb(absorb(key[0], replica), pair),
        absorb(absorb(key[1], replica), pair),
        absorb(absorb(key[2], replica), pair),
        absorb(absorb(key[3], replica), pair),
    )


def next_words(state: tuple[W, W, W, W]) -> tuple[W, tuple[W, W, W, W]]:
    """One step of xoshiro256++, of a stream or of an array of them: 64 random bits and the next state."""
    s0, s1, s2, s3 = state
    total = s0 + s3
    word = ((total << _23) | (total >> _41)) + s0
    shifted = s1 << _17
    # not in place: they may be arrays
    s2 = s2 ^ s0
    s3 = s3 ^ s1
    s1 = s1 ^ s2
    s0 = s0 ^ s3
    s2 = s2 ^ shifted
    s3 = (s3 << _45) | (s3 >> _19)
    return word, (s0, s1, s2, s3)


next_word = inlined(next_words)


@inlined
def uniform(word: np.uint64) -> float:
    """In (0, 1]: the logarithm is finite, and no normal exceeds 8.58."""
    return as_signed((word >> _11) + _1) * _UNIT


@inlined
def radius_at(log_of_uniform: float) -> float:
    """Distance from 0 of a pair of normals."""
    return math.sqrt(-2.0 * log_of_uniform)


@inlined
def box_muller(first: np.uint64, second: np.uint64) -> tuple[float, float]:
    """Two independent standard normals from two random words."""
    cosine, sine = direction_begun(second)
    return direction_ended(second, radius_at(log(uniform(first))), cosine, sine)


@inlined
def normal_pair(state: State) -> tuple[float, float, State]:
    """The normals of the two directions of a pair and the next state."""
    first, state = next_word(state)
    second, state = next_word(state)
    left, right = box_muller(first, second)
    return left, right, state


@inlined
def whole_number(bound: np.uint64, state: State) -> tuple[np.int64, State]:
    """Uniform in 0..bound-1, for a bound below 2^32.

    The high half of a word times the bound; the few products that would make some numbers likelier are drawn again
    (Lemire 2019, with 32 bits).
    """
    word, state = next_word(state)
    product = (word >> _32) * bound
    if product & _LOW < bound:
        too_likely = (_RANGE - bound) % bound
        while product & _LOW < too_likely:
            word, state = next_word(state)
            product = (word >> _32) * bound
    return np.int64(product >> _32), state


def stream_key(seed: Seed, purpose: Purpose) -> NDArray[np.uint64]:
    """The part of a stream's key that all replicas share, hashed.

    Parameters
    ----------
    seed : int or SeedSequence
        An integer stands for the SeedSequence made of it.
    purpose : Purpose

    Returns
    -------
    array of uint64, shape (4,)
        One word for each state word.
    """
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    words = np.empty(3, dtype=np.uint64)
    words[:2] = sequence.generate_state(2, np.uint64)
    words[2] = purpose
    key = np.arange(4, dtype=np.uint64)
    for word in words:
        key = _absorb(key, word)  # not worth a kernel
    return key
