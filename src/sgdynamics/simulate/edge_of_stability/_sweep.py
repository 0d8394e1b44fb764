"""Orbits over sweeps of starts and learning rates, and what is said about their states."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import Numeric, complain
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate.edge_of_stability._kernels import Floats, Integers, Kernel
from sgdynamics.sweeps import spanned, steps_to_record

# Orbits in one task.
BLOCK = 128

# A loss that can be 0 is at its minimum when this is all that is left of it, in a unit of the model's own.
AT_REST = 1e-20


def _run(*inputs: Floats, orbits: Kernel, parameters: Floats, record: Integers) -> tuple[Floats, ...]:
    """Every component of the state, shapes (..., step), and the step of divergence, over broadcast cells."""
    *starts, rates = np.broadcast_arrays(*inputs)
    shape = rates.shape
    flat = np.stack([np.ravel(start) for start in starts], axis=1)
    flat_rates = rates.flatten()  # a copy, as kernels ask whether an array is theirs to write
    path = np.empty((flat.shape[0], record.size, flat.shape[1]))
    diverged = np.empty(flat.shape[0], np.int64)
    run_all(
        functools.partial(orbits, parameters, flat[block], flat_rates[block], record, path[block], diverged[block])
        for block in slices(flat.shape[0], BLOCK)
    )
    components = [np.ascontiguousarray(path[:, :, i]).reshape(*shape, record.size) for i in range(flat.shape[1])]
    return (*components, diverged.astype(np.float64).reshape(shape))


def sweep(
    owner: str,
    orbits: Kernel,
    parameters: tuple[float, float],
    starts: Mapping[str, Numeric],
    learning_rate: Numeric,
    steps: int,
    record: Numeric,
) -> xr.Dataset:
    """The states at the recorded steps, under their names, and the step of divergence."""
    kept = steps_to_record(owner, record, steps)
    arrays = [spanned(owner, name, value, axis="start", reserved=["step"]) for name, value in starts.items()]
    lengths = {array.sizes["start"] for array in arrays if "start" in array.dims}
    if len(lengths) > 1:
        sizes = [array.sizes.get("start", 1) for array in arrays]
        raise complain(owner, next(iter(starts)), f"as many starts as {', '.join(list(starts)[1:])}", sizes)
    made = xr.apply_ufunc(
        _run,
        *arrays,
        spanned(owner, "learning_rate", learning_rate, axis="learning_rate", reserved=["step"]),
        output_core_dims=[["step"]] * len(arrays) + [[]],
        kwargs={"orbits": orbits, "parameters": np.array(parameters, dtype=np.float64), "record": kept},
        dask="parallelized",
        output_dtypes=[np.float64] * (len(arrays) + 1),
        dask_gufunc_kwargs={"output_sizes": {"step": kept.size}},
    )
    data = xr.Dataset({**dict(zip(starts, made, strict=False)), "divergence_step": made[-1].astype(np.int32)})
    data = data.assign_coords(step=("step", kept, {"long_name": "step", "units": "1"}))
    return data


NAMES = {
    "loss": ("loss", "loss"),
    "sharpness": ("top Hessian eigenvalue", "1/learning rate"),
    "gap": ("2/learning_rate - sharpness", "1/learning rate"),
    "curvature": ("curvature along the oscillating weight", "1/learning rate"),
    "ntk": ("neural tangent kernel", "1/learning rate"),
    "residual": ("residual", "1"),
    "moment": ("moment T_1", "1/learning rate"),
    "divergence_step": ("step at which the orbit has diverged, -1 for never", "1"),
}


def described(
    data: xr.Dataset,
    learning_rate: Numeric,
    loss: xr.DataArray,
    sharpness: xr.DataArray,
    source: str,
    unit: Numeric | None,
) -> xr.Dataset:
    """Add what is said about the states; after a divergence everything is infinite.

    ``unit`` is the loss that counts as one in what a run converges to; None where the loss has no lower bound.
    """
    alive = np.isfinite(data[next(iter(data.data_vars))])
    data["loss"] = loss.where(alive, np.inf)
    data["sharpness"] = sharpness.where(alive, np.inf)
    gap = 2 / spanned("", "learning_rate", learning_rate, axis="learning_rate") - data.sharpness
    data["gap"] = gap.transpose(*data.sharpness.dims)
    outcome = xr.full_like(data.divergence_step, Outcome.UNSETTLED, dtype=np.int8)
    members = [Outcome.DIVERGED, Outcome.UNSETTLED]
    if unit is not None:
        members.insert(1, Outcome.CONVERGED)
        left = data.loss.isel(step=-1, drop=True) / unit
        outcome = outcome.where((left > AT_REST).transpose(*outcome.dims), Outcome.CONVERGED)
    data["outcome"] = outcome.where(data.divergence_step < 0, Outcome.DIVERGED).astype(np.int8)
    data.outcome.attrs = outcome_attributes(*members)
    for name in data.data_vars:
        if name != "outcome":
            text, units = NAMES.get(str(name), (f"weight {name}", "1"))
            data[name].attrs = {"long_name": text, "units": units}
    return data.assign_attrs(source=source, version=sgdynamics.__version__)


def over(fact: Callable[..., Any], *values: xr.DataArray) -> xr.DataArray:
    """A pointwise fact of a model, cell by cell; lazy where the values are."""
    made: xr.DataArray = xr.apply_ufunc(fact, *values, dask="parallelized", output_dtypes=[np.float64])
    return made
