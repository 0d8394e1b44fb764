"""What every ensemble of quadratics shares: the kinds of arrays, the update, the cells of a sweep."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric
from sgdynamics.simulate._kernel import inlined
from sgdynamics.sweeps import spanned

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
    """An argument over what it spans beside an axis of its own, whose labels are dropped."""
    reserved = [dim for dim in RESERVED if dim != axis]
    array = spanned(owner, name, value, axis=axis, reserved=reserved)
    if axis == "step":
        array = array.drop_vars([label for label, coord in array.coords.items() if "step" in coord.dims])
    if axis in array.dims and array.chunks is not None:
        array = array.chunk({axis: -1})  # every cell needs the whole of it
    return array
