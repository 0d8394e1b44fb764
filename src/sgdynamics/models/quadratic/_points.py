"""Points of a model, one value per mode, and what is computed for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric
from sgdynamics.models.quadratic._matrices import matrix_vector

__all__ = ["half_square", "of_points", "one_per_mode", "one_start"]

Array = NDArray[np.float64]


def one_per_mode(owner: str, name: str, value: Any, modes: int) -> Array:
    """A point: one value per mode, or one for all of them."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.shape[-1] not in (1, modes):
        raise ValueError(f"{owner}: {name} must have one value per mode, {modes}, got shape {array.shape}")
    return np.broadcast_to(array, (*array.shape[:-1], modes))


def one_start(owner: str, displacement: Any, modes: int) -> Array:
    """The start of a model: one point."""
    if np.ndim(displacement) > 1:
        raise ValueError(
            f"{owner}: displacement must be a scalar or have one value per mode, {modes}, "
            f"got shape {np.shape(displacement)}"
        )
    return one_per_mode(owner, "displacement", displacement, modes)


def of_points(owner: str, core: Callable[[Array], Any], error: Numeric, modes: int) -> Numeric:
    """A number for every point, along the last axis or along the dim ``mode`` of a DataArray; a float for one point."""

    def at(values: Array) -> Any:
        found = core(one_per_mode(owner, "error", values, modes))
        return float(found) if np.ndim(found) == 0 else found

    if isinstance(error, xr.DataArray):
        if error.sizes.get("mode") != modes:
            raise ValueError(f"{owner}: error must have a dim 'mode' of size {modes}, got {dict(error.sizes)}")
        return xr.apply_ufunc(at, error, input_core_dims=[["mode"]], dask="parallelized", output_dtypes=[np.float64])
    return at(error)


def half_square(owner: str, hessian: Array, error: Numeric) -> Numeric:
    r""":math:`\tfrac12 e^\top H e`, see :func:`of_points`."""
    return of_points(
        owner,
        lambda point: 0.5 * np.einsum("...i,...i->...", point, matrix_vector(hessian, point)),
        error,
        len(hessian),
    )
