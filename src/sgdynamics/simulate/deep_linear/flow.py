"""Gradient flow, integrated: what the conserved quantities say without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Interval, checked, complain, instance_of, nonnegative, one
from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain, chains, networks
from sgdynamics.models.deep_linear._domains import chain_weights, weight_matrices
from sgdynamics.simulate.deep_linear._labels import described
from sgdynamics.simulate.deep_linear.networks import imbalance_norms

__all__ = ["chain_flow", "network_flow"]

Floats: TypeAlias = NDArray[np.float64]

tolerance_domain: Interval = Interval("a number in (0, 0.01]", low=0, high=0.01, high_open=False)


def _integrated(
    owner: str, downhill: Callable[[Floats], Floats], start: Floats, time: ArrayLike, rtol: float
) -> tuple[Floats, Floats]:
    """Times and weights (times, weights) along the flow."""
    from scipy.integrate import solve_ivp

    times = np.atleast_1d(np.asarray(time, dtype=np.float64))
    if times.ndim != 1 or (np.diff(times) <= 0).any():
        raise complain(owner, "time", "a 1-D array of strictly increasing times >= 0", time)
    end = float(times[-1]) or 1.0  # an interval of no length gives no values
    # errors are relative to the start or, from 0, to how far its velocity goes; at rest any scale will do
    scale = float(np.abs(start).max()) or end * float(np.abs(downhill(start)).max()) or 1.0
    found = solve_ivp(
        lambda _, weights: downhill(weights),
        (0.0, end),
        start,
        method="DOP853",
        t_eval=times,
        rtol=rtol,
        atol=1e-3 * rtol * scale,
    )
    return times, found.y.T


@checked(model=instance_of(ScalarChain), weights=chain_weights, time=nonnegative, tol=one(tolerance_domain))
def chain_flow(model: ScalarChain, weights: ArrayLike, time: ArrayLike, *, tol: float = 1e-10) -> xr.Dataset:
    r"""Gradient flow :math:`\dot w = -\nabla L` of one chain.

    Parameters
    ----------
    model : ScalarChain
        With one number as its target.
    weights : array, shape (layer,)
        The start.
    time : array, shape (times,), or float
        Strictly increasing times >= 0 to record; learning rate times step.
    tol : float
        Relative tolerance of the integrator (an explicit Runge-Kutta method of order 8).

    Returns
    -------
    Dataset
        ``output``, ``loss``, ``sharpness``, ``flow_sharpness``, ``imbalance`` (time) and ``weight`` (time, layer).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> found = chain_flow(ScalarChain(1.0), [0.3, 0.8, 1.5], 40.0)
    >>> round(float(found.sharpness[-1] / found.flow_sharpness[0]), 6)
    1.0
    """
    start = np.asarray(weights, dtype=np.float64)
    if start.ndim != 1:
        raise complain("chain_flow", "weights", "of shape (layer,)", f"shape {start.shape}")
    if np.ndim(model.target):
        raise complain("chain_flow", "model", "a chain with one number as its target", model.target)
    target = np.asarray(model.target)
    times, path = _integrated("chain_flow", lambda w: -chains.gradient(w, target), start, time, tol)
    with np.errstate(all="ignore"):
        data = xr.Dataset(
            {
                "output": ("time", chains.output(path)),
                "loss": ("time", chains.loss(path, target)),
                "sharpness": ("time", chains.sharpness(path, target)),
                "flow_sharpness": ("time", chains.flow_sharpness(path, target)),
                "imbalance": ("time", chains.imbalance(path)),
                "weight": (("time", "layer"), path),
            },
            coords={"time": times},
            attrs={"source": "kreisler2023", "version": sgdynamics.__version__},
        )
    data["imbalance"].attrs = {"long_name": "largest difference of two squared weights", "units": "1"}
    return described(data)


@checked(model=instance_of(DeepLinearNetwork), weights=weight_matrices, time=nonnegative, tol=one(tolerance_domain))
def network_flow(
    model: DeepLinearNetwork, weights: Sequence[ArrayLike], time: ArrayLike, *, tol: float = 1e-10
) -> xr.Dataset:
    r"""Gradient flow of one deep linear network.

    Parameters
    ----------
    model : DeepLinearNetwork
    weights : sequence of array, shapes (fan_out, fan_in)
        The start.
    time : array, shape (times,), or float
        Strictly increasing times >= 0 to record; learning rate times step.
    tol : float
        Relative tolerance of the integrator (an explicit Runge-Kutta method of order 8).

    Returns
    -------
    Dataset
        ``loss``, ``sharpness`` (time), ``imbalance`` (time, hidden_layer) and ``singular_value`` (time, mode) of the
        end-to-end map.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes disagree.

    Examples
    --------
    Each mode follows Saxe's logistic curve:

    >>> from sgdynamics.models.deep_linear import balanced_network
    >>> from sgdynamics.theory.deep_linear import two_layer_strength
    >>> model = DeepLinearNetwork([[2.0, 0.0], [0.0, 1.0]])
    >>> found = network_flow(model, balanced_network([[0.01, 0.0], [0.0, 0.01]], 2), [2.0])
    >>> found.singular_value.values.round(6), round(two_layer_strength(2.0, 0.01, 2.0), 6)
    (array([[1.874841, 0.355461]]), 1.874841)
    """
    start = model.fitting("network_flow", weights)  # type: ignore[arg-type]
    if start[0].ndim != 2:
        text = "matrices of shapes (fan_out, fan_in)"
        raise complain("network_flow", "weights", text, f"shapes {[layer.shape for layer in start]}")
    shapes = [layer.shape for layer in start]
    ends = np.cumsum([layer.size for layer in start])[:-1]
    target, covariance = model.matrices

    def layers_of(vector: Floats) -> tuple[Floats, ...]:
        parts = np.split(vector, ends, axis=-1)
        return tuple(part.reshape(*vector.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True))

    def downhill(vector: Floats) -> Floats:
        return -np.concatenate([slope.ravel() for slope in networks.gradients(layers_of(vector), target, covariance)])

    with one_blas_thread():
        flat = np.concatenate([layer.ravel() for layer in start])
        times, path = _integrated("network_flow", downhill, flat, time, tol)
        layers = layers_of(path)
        data = xr.Dataset(
            {
                "loss": ("time", networks.loss(layers, target, covariance)),
                "sharpness": ("time", networks.sharpness(layers, target, covariance)),
                "imbalance": (("time", "hidden_layer"), imbalance_norms(layers)),
                "singular_value": (("time", "mode"), np.linalg.svd(networks.below(layers)[-1], compute_uv=False)),
            },
            coords={"time": times},
            attrs={"source": "saxe2013", "version": sgdynamics.__version__},
        )
    data["imbalance"].attrs = {"long_name": "Frobenius norm of the imbalance of two layers", "units": "1"}
    data["singular_value"].attrs = {"long_name": "singular value of the end-to-end map", "units": "1"}
    return described(data)
