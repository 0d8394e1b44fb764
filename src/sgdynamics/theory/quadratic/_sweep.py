"""Running a function of plain arrays over the modes of a model, with labels, sweeps and laziness kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.models.quadratic import MiniBatchQuadratic


def over_modes(
    core: Callable[..., Any],
    model: MiniBatchQuadratic,
    arguments: Sequence[tuple[Any, Sequence[str]]],
    outputs: Sequence[Sequence[str]],
    sizes: dict[str, int],
) -> tuple[xr.DataArray, ...]:
    """Apply ``core(curvature, variance, displacement, multiplicity, *arguments)`` for every point of a sweep.

    ``arguments`` are pairs of a value and its core dims; ``outputs`` are the dims of the results, ``sizes`` the lengths
    of new ones.
    """
    fields: list[tuple[Any, Sequence[str]]] = [(field, ["mode"]) for field in model.labelled()]
    return over_points(core, [*fields, *arguments], outputs, sizes, aligned=("mode",))


def over_points(
    core: Callable[..., Any],
    arguments: Sequence[tuple[Any, Sequence[str]]],
    outputs: Sequence[Sequence[str]],
    sizes: dict[str, int],
    aligned: Sequence[str] = (),
) -> tuple[xr.DataArray, ...]:
    """Apply ``core(*arguments)`` for every point of a sweep; core dims that are not ``aligned`` may change size."""
    named = [
        (value if isinstance(value, xr.DataArray) else xr.DataArray(value, dims=list(dims)), list(dims))
        for value, dims in arguments
    ]
    result = xr.apply_ufunc(
        core,
        *(value for value, _ in named),
        input_core_dims=[dims for _, dims in named],
        output_core_dims=[list(dims) for dims in outputs],
        exclude_dims={dim for _, dims in named for dim in dims if dim not in aligned},
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64] * len(outputs),
        dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": sizes},
    )
    return result if isinstance(result, tuple) else (result,)


def unswept(value: Any) -> Any:
    """A float where nothing was swept."""
    return float(value) if value.ndim == 0 and not hasattr(value.data, "dask") else value
