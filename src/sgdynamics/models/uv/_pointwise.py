"""Running a function of several numbers on whatever they are: floats, arrays, DataArrays, lazy ones, SymPy symbols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import sqrt


def hypotenuse(one: Numeric, other: Numeric) -> Numeric:
    """The root of the sum of two squares, none of which is formed."""
    if is_symbolic(one) or is_symbolic(other):
        return sqrt(one**2 + other**2)
    return np.hypot(one, other)


def pointwise(owner: str, core: Callable[..., tuple[Any, ...]], outputs: int, **values: Numeric) -> tuple[Any, ...]:
    """Apply ``core(**values)``, which returns ``outputs`` results; two floats in, floats out."""
    if any(map(is_symbolic, values.values())):
        return core(**values)
    labelled = [name for name, value in values.items() if isinstance(value, xr.DataArray)]
    _check_shapes(owner, values, labelled)

    def block(*parts: Any) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            results = core(**dict(zip(values, parts, strict=True)))
        shape = np.broadcast_shapes(*map(np.shape, parts))
        return tuple(np.array(np.broadcast_to(result, shape)) for result in results)

    if labelled and outputs == 1:
        return (
            xr.apply_ufunc(
                lambda *parts: block(*parts)[0], *values.values(), dask="parallelized", output_dtypes=[np.float64]
            ),
        )
    if labelled:
        labels: tuple[Any, ...] = xr.apply_ufunc(
            block,
            *values.values(),
            output_core_dims=[[]] * outputs,
            dask="parallelized",
            output_dtypes=[np.float64] * outputs,
        )
        return labels
    results = block(*values.values())
    return tuple(float(result) if result.ndim == 0 else result for result in results)


def _check_shapes(owner: str, values: dict[str, Numeric], labelled: list[str]) -> None:
    arrays = {name: value.shape for name, value in values.items() if isinstance(value, np.ndarray) and value.ndim}
    if labelled and arrays:
        name, shape = next(iter(arrays.items()))
        raise ValueError(
            f"{owner}: {name} must be a scalar or a DataArray where another argument is one, "
            f"got an array of shape {shape}"
        )
    try:
        np.broadcast_shapes(*arrays.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in arrays.items())
        raise ValueError(f"{owner}: shapes must broadcast, got {listed}") from None
