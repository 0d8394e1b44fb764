"""Means over many replicas, drawn a block at a time so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def replica_mean(
    statistic: Callable[[Indices], xr.DataArray], replicas: int, block: int = 4096
) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean of a statistic over independent replicas, and its standard error.

    Parameters
    ----------
    statistic : callable
        Takes the indices of some replicas, returns one value for each along the dim ``replica``, and along any others.
    replicas : int
        How many there are.
    block : int
        How many are held at once. The sums go over the same blocks in the same order whatever draws them.

    Returns
    -------
    tuple of DataArray
        Mean and standard error, without the dim ``replica``.
    """
    total = squares = xr.DataArray(0.0)
    for first in range(0, replicas, block):
        values = statistic(np.arange(first, min(first + block, replicas)))
        total = total + values.sum("replica")
        squares = squares + (values**2).sum("replica")
    mean = total / replicas
    spread = (squares / replicas - mean**2).clip(min=0.0)  # of one repeated value it is rounding, of either sign
    return mean, (spread / (replicas - 1)) ** 0.5
