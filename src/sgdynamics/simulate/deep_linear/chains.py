r"""Gradient descent on chains of scalar weights.

The kernel takes the steps and keeps the weights at the steps that are recorded. What is said about the weights there
is left to the pointwise facts of the model.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import (
    Numeric,
    checked,
    complain,
    increasing_steps,
    instance_of,
    integer,
    nonnegative,
    one,
    optional,
)
from sgdynamics.models.deep_linear import ScalarChain, chains
from sgdynamics.models.deep_linear._domains import chain_weights
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.deep_linear._labels import BLOW_UP, described, outcomes
from sgdynamics.sweeps import spanned, steps_to_record

__all__ = ["chain_trajectory"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

# Chains in one task.
BLOCK = 256


@kernel
def _descend(
    start: Floats, targets: Floats, rates: Floats, record: Integers, weights: Floats, divergence_step: Integers
) -> None:
    """Run every chain; what comes after a divergence is infinite."""
    depth = start.shape[1]
    after = np.empty(depth)  # product of the weights above each
    for chain in range(start.shape[0]):
        w = start[chain].copy()
        target, rate = targets[chain], rates[chain]
        output = 1.0
        for i in range(depth):
            output *= w[i]
        limit = BLOW_UP * max((output - target) ** 2, target * target)
        divergence_step[chain] = -1
        t = 0
        for at in range(record.size):
            while t < record[at] and divergence_step[chain] < 0:
                residual = output - target
                product = 1.0
                for i in range(depth - 1, -1, -1):
                    after[i] = product
                    product *= w[i]
                before, output = 1.0, 1.0
                for i in range(depth):
                    old = w[i]
                    w[i] = old - rate * (residual * (before * after[i]))
                    before *= old
                    output *= w[i]
                t += 1
                if not (output - target) ** 2 <= limit:  # NaN too
                    divergence_step[chain] = t
            for i in range(depth):
                weights[chain, at, i] = w[i] if divergence_step[chain] < 0 else np.inf


def _run(
    weights: Floats, target: Floats, rate: Floats, *, record: Integers, tolerance: float
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats, Floats]:
    """Everything that is said about the runs; shapes (..., layer) and (...) broadcast."""
    shape = np.broadcast_shapes(weights.shape[:-1], target.shape, rate.shape)
    depth = weights.shape[-1]

    # copies: what is broadcast may be read-only, and Numba compiles anew for every mixture of such arrays and others
    def flat(array: Floats) -> Floats:
        return np.array(np.broadcast_to(array, shape), order="C").ravel()

    start = np.array(np.broadcast_to(weights, (*shape, depth)), order="C").reshape(-1, depth)
    targets, rates = flat(target), flat(rate)
    path = np.empty((start.shape[0], record.size, depth))
    diverged = np.empty(start.shape[0], np.int64)
    run_all(
        functools.partial(_descend, start[block], targets[block], rates[block], record, path[block], diverged[block])
        for block in slices(start.shape[0], BLOCK)
    )
    alive = np.asarray(np.isfinite(path).all(axis=-1))
    finite = np.where(alive[..., None], path, 1.0)
    goal = targets[:, None]
    said = [
        np.where(alive, value, np.inf)
        for value in (
            chains.output(finite),
            chains.loss(finite, goal),
            chains.sharpness(finite, goal),
            chains.flow_sharpness(finite, goal),
            chains.imbalance(finite),
        )
    ]
    end = outcomes(said[1][:, -1], diverged, tolerance)
    many, layered = (*shape, record.size), (*shape, record.size, depth)
    output, loss, sharpness, flow_sharpness, imbalance = (value.reshape(many) for value in said)
    return (
        output,
        loss,
        sharpness,
        flow_sharpness,
        imbalance,
        path.reshape(layered),
        end.reshape(shape),
        diverged.astype(np.float64).reshape(shape),
    )


@checked(
    model=instance_of(ScalarChain),
    weights=chain_weights,
    learning_rate=nonnegative,
    steps=integer(1),
    record=optional(increasing_steps),
    tol=one(nonnegative),
)
def chain_trajectory(
    model: ScalarChain,
    weights: Numeric,
    learning_rate: Numeric,
    *,
    steps: int,
    record: Numeric = None,
    tol: float = 1e-12,
) -> xr.Dataset:
    r"""Gradient descent on chains of scalar weights.

    Parameters
    ----------
    model : ScalarChain
    weights : Numeric, shape (layer,) or (replica, layer), or a DataArray with the dim ``layer``
        Where the runs start.
    learning_rate : Numeric
        :math:`\eta \ge 0`. A 1-D array spans a dim of its own; a DataArray sweeps by its dims, ``replica`` for a rate
        per run.
    steps : int
        :math:`T \ge 1`.
    record : array of int, optional
        Increasing steps in 0..T to keep; the last one where nothing is said.
    tol : float
        Loss at the last recorded step up to which a run counts as converged.

    Where an argument is backed by dask, the result is lazy.

    Returns
    -------
    Dataset
        ``output``, ``loss``, ``sharpness``, ``flow_sharpness`` (of the minimum that gradient flow would reach),
        ``imbalance`` (largest difference of two squared weights; all over ``step``), ``weight`` (step, layer),
        ``outcome`` and ``divergence_step``. A run has diverged when its loss exceeds :math:`10^{12}` times the larger
        of its start and :math:`y^2/2`; everything from there on is +inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Runs on ``SGDYNAMICS_THREADS`` threads, or one per core, with the same bits for any number of them.

    Examples
    --------
    A start whose flow solution is too sharp ends at the edge of stability, just below 2/0.4 = 5:

    >>> from sgdynamics.outcome import Outcome
    >>> runs = chain_trajectory(ScalarChain(1.0), [2.5, 0.5, 0.7, 0.9], 0.4, steps=4000, record=[0, 4000])
    >>> runs.flow_sharpness.values.round(2), Outcome(int(runs.outcome)).sentence
    (array([6.2 , 4.99]), 'The run ends at a minimum.')
    """
    kept = steps_to_record("chain_trajectory", record, steps)
    if not isinstance(weights, xr.DataArray):
        if weights.ndim > 2:
            text = "of shape (layer,) or (replica, layer), or a DataArray"
            raise complain("chain_trajectory", "weights", text, f"shape {weights.shape}")
        weights = xr.DataArray(weights, dims=("replica", "layer")[2 - weights.ndim :])
    if weights.chunks is not None:
        weights = weights.chunk(layer=-1)
    target = model.target
    if not isinstance(target, xr.DataArray) and np.ndim(target):
        raise complain("chain_trajectory", "model", "a chain whose target is a number or a DataArray", target)
    names = ("output", "loss", "sharpness", "flow_sharpness", "imbalance", "weight", "outcome", "divergence_step")
    dims = [*([["step"]] * 5), ["step", "layer"], [], []]
    with np.errstate(all="ignore"):
        found = xr.apply_ufunc(
            _run,
            weights.drop_vars("layer", errors="ignore"),
            target,
            spanned(
                "chain_trajectory", "learning_rate", learning_rate, axis="learning_rate", reserved=["step", "layer"]
            ),
            input_core_dims=[["layer"], [], []],
            output_core_dims=dims,
            kwargs={"record": kept, "tolerance": float(tol)},
            dask="parallelized",
            output_dtypes=[np.float64] * len(names),
            dask_gufunc_kwargs={"output_sizes": {"step": kept.size}},
        )
    data = xr.Dataset(
        dict(zip(names, found, strict=True)),
        coords={"step": kept},
        attrs={"source": "kreisler2023", "version": sgdynamics.__version__},
    )
    data["imbalance"].attrs = {"long_name": "largest difference of two squared weights", "units": "1"}
    return described(data)
