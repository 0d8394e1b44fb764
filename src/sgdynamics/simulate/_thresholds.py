"""Thresholds along a grid of learning rates that is read from below, and what is said of them over networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["ABOVE", "first_hit", "last_before", "with_statistics"]

Array = NDArray[Any]

BELOW, INSIDE, ABOVE = -1, 0, 1
CENSORED = {"flag_values": np.array([BELOW, INSIDE, ABOVE], dtype=np.int8), "flag_meanings": "below inside above"}


def first_hit(hit: Array, c: Array) -> tuple[Array, Array]:
    """The first point of the grid, the last axis, at which something is so, and on which side that is not known."""
    found, first = hit.any(axis=-1), hit.argmax(axis=-1)
    side = np.where(found, np.where(first == 0, BELOW, INSIDE), ABOVE)
    return np.where(found, c[first], c[-1]), side.astype(np.int8)


def last_before(lost: Array, good: Array, c: Array) -> tuple[Array, Array]:
    """The last good point of the grid before the first lost one, and on which side it is not known."""
    reached = (~np.logical_or.accumulate(lost, axis=-1)) & good
    last = c.size - 1 - reached[..., ::-1].argmax(axis=-1)
    found = reached.any(axis=-1)
    side = np.where(found, np.where(last == c.size - 1, ABOVE, INSIDE), BELOW)
    return np.where(found, c[last], c[0]), side.astype(np.int8)


def _over_seeds(values: Array, censored: Array) -> tuple[Array, Array, Array]:
    """Mean, its standard error and the number of the censored along the last axis."""
    count = values.shape[-1]
    mean = values.mean(axis=-1)
    error = values.std(axis=-1, ddof=1) / math.sqrt(count) if count > 1 else np.full_like(mean, math.inf)
    return mean, error, (censored != INSIDE).sum(axis=-1).astype(np.int32)


def with_statistics(name: str, text: str, value: xr.DataArray, censored: xr.DataArray) -> dict[str, xr.DataArray]:
    """A threshold by network, its flags, and mean, standard error and number of the censored over networks."""
    # In one piece along the seeds: sums over chunks would depend in their last bits on how they are cut.
    mean, error, lost = xr.apply_ufunc(
        _over_seeds,
        *(part if part.chunks is None else part.chunk(seed=-1) for part in (value, censored)),
        input_core_dims=[["seed"], ["seed"]],
        output_core_dims=[[], [], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64, np.int32],
    )
    return {
        name: value.assign_attrs(long_name=text, units="1"),
        f"{name}_censored": censored.assign_attrs(long_name=f"{text}: side on which it is unknown", **CENSORED),
        f"{name}_mean": mean.assign_attrs(long_name=f"mean over networks: {text}", units="1"),
        f"{name}_standard_error": error.assign_attrs(long_name=f"standard error: {text}", units="1"),
        f"{name}_censored_count": lost.assign_attrs(long_name=f"networks without a value: {text}", units="1"),
    }
