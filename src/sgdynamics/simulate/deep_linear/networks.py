"""Gradient descent on products of matrices, all replicas and learning rates abreast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
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
from sgdynamics.models.deep_linear import DeepLinearNetwork, networks
from sgdynamics.models.deep_linear._domains import weight_matrices
from sgdynamics.simulate.deep_linear._labels import BLOW_UP, described, outcomes
from sgdynamics.sweeps import spanned, steps_to_record

__all__ = ["network_trajectory"]

Floats: TypeAlias = NDArray[np.float64]
Layers: TypeAlias = tuple[Floats, ...]

RESERVED = ("replica", "step", "hidden_layer")


def imbalance_norms(layers: Layers) -> Floats:
    """Frobenius norm of the imbalance of every hidden layer, shape (..., hidden layers)."""
    found = [np.sqrt((matrix**2).sum(axis=(-2, -1))) for matrix in networks.imbalances(layers)]
    empty = np.empty((*layers[0].shape[:-2], 0))
    return np.stack(found, axis=-1) if found else empty


def _run(
    rates: Floats,
    *,
    start: Layers,
    model: DeepLinearNetwork,
    record: NDArray[np.int64],
    tolerance: float,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Loss, sharpness, imbalance (..., replica, step[, hidden layer]); outcome, divergence step (..., replica)."""
    target, covariance = model.matrices
    lead = start[0].shape[:-2]
    shape = (*rates.shape, *lead)
    layers = tuple(np.broadcast_to(layer, (*shape, *layer.shape[-2:])) for layer in start)
    per_run = rates.reshape(*rates.shape, *[1] * len(lead), 1, 1)
    loss = np.empty((*shape, record.size))
    sharpness = np.empty_like(loss)
    imbalance = np.empty((*loss.shape, len(start) - 1))
    diverged = np.full(shape, -1)
    t = 0
    with one_blas_thread(), np.errstate(all="ignore"):
        of_zero = 0.5 * np.sum((target @ covariance) * target)
        limit = BLOW_UP * np.maximum(networks.loss(layers, target, covariance), of_zero)
        for at, step in enumerate(record):
            while t < step:
                slopes = networks.gradients(layers, target, covariance)
                layers = tuple(layer - per_run * slope for layer, slope in zip(layers, slopes, strict=True))
                t += 1
                blown = (diverged < 0) & ~(networks.loss(layers, target, covariance) <= limit)
                if blown.any():
                    diverged[blown] = t
                dead = diverged >= 0
                if dead.any():  # zeros stay where they are and cost no overflow
                    layers = tuple(np.where(dead[..., None, None], 0.0, layer) for layer in layers)
            dead = diverged >= 0
            loss[..., at] = np.where(dead, np.inf, networks.loss(layers, target, covariance))
            sharpness[..., at] = np.where(dead, np.inf, networks.sharpness(layers, target, covariance))
            imbalance[..., at, :] = np.where(dead[..., None], np.inf, imbalance_norms(layers))
    return loss, sharpness, imbalance, outcomes(loss[..., -1], diverged, tolerance), diverged.astype(np.float64)


@checked(
    model=instance_of(DeepLinearNetwork),
    weights=weight_matrices,
    learning_rate=nonnegative,
    steps=integer(1),
    record=optional(increasing_steps),
    tol=one(nonnegative),
)
def network_trajectory(
    model: DeepLinearNetwork,
    weights: Sequence[ArrayLike],
    learning_rate: Numeric,
    *,
    steps: int,
    record: Numeric = None,
    tol: float = 1e-12,
) -> xr.Dataset:
    r"""Gradient descent on deep linear networks.

    Parameters
    ----------
    model : DeepLinearNetwork
    weights : sequence of array, shapes (fan_out, fan_in) or (replica, fan_out, fan_in)
        Where the runs start, as from :func:`initial_weights` or ``balanced_network``.
    learning_rate : Numeric
        :math:`\eta \ge 0`. A 1-D array spans a dim of its own; a DataArray sweeps by its dims, lazily where it is
        backed by dask.
    steps : int
        :math:`T \ge 1`.
    record : array of int, optional
        Increasing steps in 0..T to keep; the last one where nothing is said. The whole Hessian is formed and
        diagonalised at each of them.
    tol : float
        Loss at the last recorded step up to which a run counts as converged.

    Returns
    -------
    Dataset
        ``loss`` and ``sharpness`` (..., replica, step), ``imbalance`` (..., replica, step, hidden_layer), the Frobenius
        norm of :math:`W_{j+1}^\top W_{j+1} - W_j W_j^\top`, ``outcome`` and ``divergence_step`` (..., replica). A run
        has diverged when its loss exceeds :math:`10^{12}` times the larger of its start and the loss of the zero map;
        everything from there on is +inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes disagree.

    Examples
    --------
    >>> from sgdynamics.models.deep_linear import balanced_network
    >>> model = DeepLinearNetwork([[1.0, 0.0], [0.0, 0.5]])
    >>> start = balanced_network(0.1 * model.target, 3)
    >>> runs = network_trajectory(model, start, [0.3, 0.6], steps=400, record=[400])
    >>> runs.sharpness.squeeze().values.round(6), runs.outcome.values  # its two-cycle lies beyond the edge 2/3
    (array([3., 3.]), array([40, 40], dtype=int8))
    """
    start: Layers = model.fitting("network_trajectory", weights)  # type: ignore[arg-type]
    replicas = start[0].shape[:-2]
    if len(replicas) > 1:
        text = "matrices of shapes (fan_out, fan_in) or (replica, fan_out, fan_in)"
        raise complain("network_trajectory", "weights", text, f"shapes {[layer.shape for layer in start]}")
    kept = steps_to_record("network_trajectory", record, steps)
    many = ["replica"] * len(replicas)
    sizes = {"step": kept.size, "hidden_layer": len(start) - 1}
    if replicas:
        sizes["replica"] = replicas[0]
    names = ("loss", "sharpness", "imbalance", "outcome", "divergence_step")
    found = xr.apply_ufunc(
        _run,
        spanned(
            "network_trajectory",
            "learning_rate",
            learning_rate,
            axis="learning_rate",
            reserved=["replica", "step", "hidden_layer"],
        ),
        input_core_dims=[[]],
        output_core_dims=[[*many, "step"], [*many, "step"], [*many, "step", "hidden_layer"], many, many],
        kwargs={"start": start, "model": model, "record": kept, "tolerance": float(tol)},
        dask="parallelized",
        output_dtypes=[np.float64] * len(names),
        dask_gufunc_kwargs={"output_sizes": sizes},
    )
    data = xr.Dataset(
        dict(zip(names, found, strict=True)),
        coords={"step": kept},
        attrs={"source": "saxe2013", "version": sgdynamics.__version__},
    )
    data["imbalance"].attrs = {"long_name": "Frobenius norm of the imbalance of two layers", "units": "1"}
    return described(data)
