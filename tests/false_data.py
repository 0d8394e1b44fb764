"""Data in which claims are false: what a figure saved, altered one variable at a time.

A check earns its place by saying otherwise where its claim is otherwise. Each alteration makes another kind of claim
false:

*level along a dim*
    everywhere the mean over it: what was to rise, fall or differ does not,
*reversed along a dim*
    the other way round: what rose falls, what was first is last,
*tilted along a dim*
    up to twice as large at its end, or at its start: what was to be the same for all, or to change slowly, is not,
*mirrored*
    of the other sign: what was above zero is below,
*one more, larger, smaller*
    another number than the one that is claimed; a bound is broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[Any]

FACTORS = {"larger by half": 1.5, "smaller by half": 0.5, "a thousand-fold": 1e3, "a thousandth": 1e-3}


def alterations(data: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """What is done to which variable, and the data that come of it; those that change the order of things first."""
    every = [
        (kind, what, name, values.dims, altered)
        for name, values in data.variables.items()
        if name not in data.dims and values.dtype.kind in "iuf" and values.size
        for kind, what, altered in _altered(values)
    ]
    for _, what, name, dims, altered in sorted(every, key=lambda one: one[0]):
        yield f"{name}, {what}", data.assign({name: (dims, altered, data[name].attrs)})


def _altered(values: xr.Variable) -> Iterator[tuple[int, str, Array]]:
    numbers = values.values.astype(float)
    for axis, dim in enumerate(values.dims):
        if values.shape[axis] == 1:
            continue
        known = ~np.isnan(numbers)
        mean = np.where(known, numbers, 0.0).sum(axis, keepdims=True) / np.maximum(known.sum(axis, keepdims=True), 1)
        slope = np.linspace(1, 2, values.shape[axis]).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        yield 0, f"level along {dim}", np.broadcast_to(mean, numbers.shape).copy()
        yield 0, f"reversed along {dim}", np.flip(numbers, axis).copy()
        yield 1, f"tilted along {dim}", slope * numbers
        yield 1, f"tilted back along {dim}", np.flip(slope, axis) * numbers
    yield 1, "mirrored", -numbers
    yield 1, "one more", numbers + 1
    for what, factor in FACTORS.items():
        yield 2, what, factor * numbers
