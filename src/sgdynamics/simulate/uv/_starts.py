"""Starts of networks, drawn from the exact law of the start by two uniform numbers each."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from sgdynamics.models.uv import UVNetwork
from sgdynamics.simulate._streams import next_words, open_many
from sgdynamics.simulate.uv._core import Floats, Integers

__all__: list[str] = []

Words: TypeAlias = NDArray[np.uint64]

_12 = np.uint64(12)


def _uniforms(key: Words, widths: Words, seeds: Words) -> tuple[Floats, Floats]:
    """Two uniform numbers inside (0, 1) for every width and seed index.

    Array by array: a kernel takes longer to compile than this takes for a million starts, which is little beside the
    quantile functions.
    """
    state = open_many(key, seeds, widths[:, np.newaxis])
    first, state = next_words(state)
    second, _ = next_words(state)
    # the middles of 2^52 equal parts: neither 0 nor 1 can come out
    return ((first >> _12) + 0.5) * 2.0**-52, ((second >> _12) + 0.5) * 2.0**-52


def draw_starts(key: Words, seeds: Integers, model: UVNetwork, zero_output: bool) -> tuple[Floats, Floats]:
    """Output and kernel at the start, shape (..., seed), of a model whose fields have shape (..., 1)."""
    widths = np.asarray(model.width)
    uniforms = _uniforms(key, widths.ravel().astype(np.uint64), seeds.astype(np.uint64))
    alignment, size = (array.reshape((*widths.shape[:-1], seeds.size)) for array in uniforms)
    if zero_output:  # without the last layer the kernel is that of the hidden one, a multiple of chi^2 of n
        half = widths / 2
        ntk = model.mean_ntk / 2 * (gammaincinv(half, size) / half)
        return np.zeros_like(ntk), ntk
    output, ntk = model.start(alignment, size)
    return np.asarray(output), np.asarray(ntk)
