"""What every ensemble of quadratics shares: the kinds of arrays, the update, the cells of a sweep."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric
from sgdynamics.simulate._kernel import inlined

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

# Replicas in one task: long enough to hide the cost of handing it out, short enough to keep all threads busy.
BLOCK = 64


class Method(NamedTuple):
    """How a step uses the past."""

    momentum: float
    nesterov: bool


@inlined
def diverged_to_infinity(value: float) -> float:
    """The value, or infinity for a NaN: every input is finite, so that it can only be a difference of infinities."""
    return math.inf if math.isnan(value) else value


def row(array: Floats, cell: tuple[int, ...]) -> Floats:
    """The values of one cell of a sweep, in the one layout that kernels are compiled for."""
    leading = array.shape[:-1]
    own = tuple(0 if size == 1 else i for size, i in zip(leading, cell[len(cell) - len(leading) :], strict=True))
    return np.require(array[own], np.float64, ["C", "W"])


RESERVED = ("replica", "step", "mode")


def swept(owner: str, name: str, value: Numeric, axis: str | None) -> xr.DataArray:
    """An argument as a DataArray whose dims, but for its own axis, are swept; labels along that axis are dropped."""
    if not isinstance(value, xr.DataArray):
        if np.ndim(value) != (axis is not None):
            shape = "1-D" if axis is not None else "a number"
            raise ValueError(f"{owner}: {name} must be {shape} or a DataArray, got shape {np.shape(value)}")
        return xr.DataArray(value, dims=[] if axis is None else [axis])
    wrong = [dim for dim in value.dims if dim in RESERVED and dim != axis]
    if wrong:
        raise ValueError(f"{owner}: {name} must be swept over dims other than {RESERVED}, got {value.dims}")
    array: xr.DataArray = value
    if axis == "step":
        array = array.drop_vars([label for label, coord in array.coords.items() if "step" in coord.dims])
    if axis in array.dims and array.chunks is not None:
        array = array.chunk({axis: -1})  # every cell needs the whole of it
    return array
