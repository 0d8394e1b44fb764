"""Sweeps of functions of sequences: a core works on arrays with the steps last; labels are put on again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numbers, Numeric, closed_unit_interval, real, sequence

Array: TypeAlias = NDArray[np.float64]
AnyNumbers: TypeAlias = Numbers | float | xr.DataArray

gain_sequence = sequence(real, "finite gains (learning rate times curvature), one per step")
weight_sequence = sequence(real, "finite weights of the batch centers, one per step")
relative_rates = sequence(
    closed_unit_interval, "learning rates as fractions in [0, 1] of the base learning rate, one per step"
)


_FIRST_STEP = {"step": 1, "iterate": 0}


def sweep(
    core: Callable[..., Any], arguments: Sequence[Numeric], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[Any, ...]:
    """Run a core whose arguments and results lie along "step" (1..T), "iterate" (0..T) or nothing ("")."""
    if not any(isinstance(argument, xr.DataArray) for argument in arguments):
        result = core(*arguments)
        return result if isinstance(result, tuple) else (result,)
    named = []
    steps = 0
    for argument, along in zip(arguments, inputs, strict=True):
        if not isinstance(argument, xr.DataArray):
            argument = xr.DataArray(argument, dims=[along] if along and np.ndim(argument) else [])
        elif along == "iterate":
            argument = argument.rename(step="iterate")
        if along and along not in argument.dims:  # a constant base gain, to be broadcast along the steps
            argument = argument.expand_dims({along: 1}, axis=-1)
        elif along:
            steps = argument.sizes[along] - (along == "iterate")
        named.append((argument, [along] if along else []))
    sizes = {"step": steps, "iterate": steps + 1}
    given = {dim for _, dims in named for dim in dims}
    result = xr.apply_ufunc(
        core,
        *(argument for argument, _ in named),
        input_core_dims=[dims for _, dims in named],
        output_core_dims=[[along] if along else [] for along in outputs],
        exclude_dims=given,
        dask="parallelized",
        output_dtypes=[np.float64] * len(outputs),
        dask_gufunc_kwargs={
            "allow_rechunk": True,
            "output_sizes": {dim: sizes[dim] for dim in outputs if dim},
        },
    )
    results = result if isinstance(result, tuple) else (result,)
    return tuple(_relabelled(item, along, sizes) for item, along in zip(results, outputs, strict=True))


def _relabelled(item: xr.DataArray, along: str, sizes: dict[str, int]) -> xr.DataArray:
    if not along:
        return item
    first = _FIRST_STEP[along]
    item = item.rename({along: "step"}) if along != "step" else item
    return item.assign_coords(step=np.arange(first, first + sizes[along]))


def column(value: Numeric) -> Numeric:
    """A sweep against an array along steps: the step axis is added last."""
    return value if np.ndim(value) == 0 else np.asarray(value)[..., None]


def scalar(value: Any) -> Any:
    return float(value) if isinstance(value, np.ndarray | np.float64) and np.ndim(value) == 0 else value
