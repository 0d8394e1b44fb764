r"""Chains of scalar weights, the deepest networks with the fewest parameters.

.. math:: f(w) = \prod_{i=1}^{D} w_i, \qquad L(w) = \tfrac12 (f - y)^2 .

Gradient flow conserves every difference :math:`w_i^2 - w_j^2`: all squares move by the same amount :math:`\tau`. The
minimum that it reaches is therefore known without integrating, by the root of :math:`\prod_i (w_i^2 + \tau) = y^2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import xarray as xr

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numbers,
    Numeric,
    Values,
    check_arguments,
    checked,
    complain,
    integer,
    nonnegative,
    real,
)
from sgdynamics.models.deep_linear._domains import Floats, chain_weights
from sgdynamics.models.deep_linear._eigenvalues import top_eigenvalue

__all__ = ["ScalarChain", "balanced_chain"]

# Newton's method in the logarithm falls onto the root from above: within 1/D of it per step at first, then
# quadratically. Depth 100 needs 20 steps.
NEWTON_STEPS = 200


def on_chains(
    core: Callable[..., Any], weights: Numeric, *others: Numeric, outputs: Sequence[Sequence[str]] = ((),)
) -> Any:
    """Apply ``core(weights, *others)``, weights of shape (..., layer) and others of shape (...), and label the results.

    ``outputs`` are the new dims of every result.
    """
    if not any(isinstance(value, xr.DataArray) for value in (weights, *others)):
        arrays = [np.asarray(value) for value in (weights, *others)]
        sizes = [arrays[0].shape[:-1], *(array.shape for array in arrays[1:])]
        try:
            np.broadcast_shapes(*sizes)
        except ValueError:
            text = "chains, as many as there are targets and learning rates or one of a kind"
            raise complain(core.__name__, "weights", text, f"shapes {sizes}") from None
        with np.errstate(all="ignore"):
            found = core(*arrays)
        return found if len(outputs) > 1 or np.ndim(found) else float(found)
    for value, axes in zip((weights, *others), (1, *(0 for _ in others)), strict=True):
        if not isinstance(value, xr.DataArray) and np.ndim(value) > axes:
            text = "one chain and plain targets and rates numbers, where another argument is a DataArray"
            raise complain(core.__name__, "weights", text, f"an array of shape {np.shape(value)}")
        if value is not weights and isinstance(value, xr.DataArray) and "layer" in value.dims:
            raise complain(core.__name__, "weights", "alone in having the dim 'layer'", f"another with {value.dims}")
    labelled = weights if isinstance(weights, xr.DataArray) else xr.DataArray(weights, dims="layer")
    if labelled.chunks is not None:
        labelled = labelled.chunk(layer=-1)
    depth = labelled.sizes["layer"]
    with np.errstate(all="ignore"):
        return xr.apply_ufunc(
            core,
            labelled.drop_vars("layer", errors="ignore"),
            *others,
            input_core_dims=[["layer"], *([] for _ in others)],
            output_core_dims=[list(dims) for dims in outputs],
            dask="parallelized",
            output_dtypes=[np.float64] * len(outputs),
            dask_gufunc_kwargs={"output_sizes": {dim: depth for dims in outputs for dim in dims if dim != "layer"}},
        )


# ---------------------------------------------------------------------------------------------------------------------
# Plain arrays: weights (..., layer), targets (...)


def output(weights: Floats) -> Floats:
    """The product of the weights, taken from the first layer on."""
    return np.asarray(np.cumprod(weights, axis=-1)[..., -1])


def others_product(weights: Floats) -> Floats:
    """Product of all other weights, for every weight; no division, so that weights may vanish."""
    ones = np.ones_like(weights[..., :1])
    before = np.concatenate([ones, np.cumprod(weights, axis=-1)[..., :-1]], axis=-1)
    after = np.concatenate([ones, np.cumprod(weights[..., ::-1], axis=-1)[..., :-1]], axis=-1)[..., ::-1]
    return np.asarray(before * after)


def loss(weights: Floats, target: Floats) -> Floats:
    return np.asarray(0.5 * (output(weights) - target) ** 2)


def gradient(weights: Floats, target: Floats) -> Floats:
    return np.asarray((output(weights) - target)[..., None] * others_product(weights))


def step(weights: Floats, target: Floats, rate: Floats) -> Floats:
    return weights - rate[..., None] * gradient(weights, target)


def hessian(weights: Floats, target: Floats) -> Floats:
    """The outer product of the gradient of the output, plus the residual times the Hessian of the output."""
    depth = weights.shape[-1]
    slope = others_product(weights)
    made = slope[..., :, None] * slope[..., None, :]
    residual = output(weights) - target
    if residual.shape != made.shape[:-2]:  # several targets for one chain
        made = np.broadcast_to(made, (*np.broadcast_shapes(residual.shape, made.shape[:-2]), depth, depth)).copy()
    for i in range(depth):
        for j in range(i):
            bend = residual * np.prod(np.delete(weights, (i, j), axis=-1), axis=-1)
            made[..., i, j] += bend
            made[..., j, i] += bend
    return made


def sharpness(weights: Floats, target: Floats) -> Floats:
    """The largest eigenvalue; +inf where the Hessian overflows."""
    with one_blas_thread():
        return top_eigenvalue(hessian(weights, target))


def flow_solution(weights: Floats, target: Floats) -> Floats:
    """Absolute values of the weights at the end of gradient flow."""
    size = np.abs(weights)
    smallest = size.min(axis=-1, keepdims=True)
    # roots of what squares are above the smallest one; the squares themselves may be no numbers
    root = np.where(smallest == 0, size, np.sqrt(size - smallest) * np.sqrt(size + smallest))
    # the smallest square t solves prod(t + root^2) = y^2; the logarithm of the product is convex in s = log t
    with np.errstate(divide="ignore"):
        excess, goal = 2 * np.log(root), 2 * np.log(np.abs(target))
    s = goal / weights.shape[-1]
    for _ in range(NEWTON_STEPS):
        logs = np.logaddexp(s[..., None], excess)
        value = logs.sum(axis=-1) - goal
        slope = np.exp(s[..., None] - logs).sum(axis=-1)
        lower = s - value / slope
        if not (lower < s).any():  # at the root, rounding stops the descent
            break
        s = np.where(lower < s, lower, s)
    # a target of 0 leaves t = 0
    return np.asarray(np.hypot(np.exp(s / 2)[..., None], root))


def flow_sharpness(weights: Floats, target: Floats) -> Floats:
    """At a minimum the Hessian is the outer product of the gradient of the output with itself."""
    return np.asarray((others_product(flow_solution(weights, target)) ** 2).sum(axis=-1))


def imbalance(weights: Floats) -> Floats:
    """The largest difference of two squared weights."""
    squares = weights * weights
    return np.asarray(squares.max(axis=-1) - squares.min(axis=-1))


# ---------------------------------------------------------------------------------------------------------------------
# The public model


@dataclass(frozen=True, eq=False, repr=False)
class ScalarChain(Shown):
    r"""A chain :math:`f = \prod_i w_i` with the loss :math:`\tfrac12 (f-y)^2`.

    Weights have one entry per layer, :math:`D \ge 1` of them, along the last axis or the dim ``layer`` of a DataArray;
    other axes and dims are swept over, and dask-backed DataArrays stay lazy.

    Parameters
    ----------
    target : Numeric
        :math:`y`, any finite number; sweeps.

    Raises
    ------
    ValueError, TypeError
        If the target is not finite.

    Examples
    --------
    >>> chain = ScalarChain(1.0)
    >>> chain.loss([2.0, 1.0]), chain.sharpness([2.0, 0.5]), chain.flow_sharpness([2.0, 0.5])
    (0.5, 4.25, 4.25)
    """

    target: Numeric

    domains: ClassVar[Mapping[str, Domain]] = {"target": real}

    def __post_init__(self) -> None:
        fields = check_arguments(type(self).__name__, self.domains, {"target": self.target})
        object.__setattr__(self, "target", fields["target"])

    @checked(weights=chain_weights)
    def output(self, weights: Numeric) -> Numeric:
        r"""The product of the weights.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (...)
        """
        return on_chains(output, weights)

    @checked(weights=chain_weights)
    def loss(self, weights: Numeric) -> Numeric:
        r"""Half the squared error.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (...)
        """
        return on_chains(loss, weights, self.target)

    @checked(weights=chain_weights)
    def gradient(self, weights: Numeric) -> Numeric:
        r"""Gradient of the loss, :math:`(f-y) \prod_{j \ne i} w_j`.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (..., layer)
        """
        return on_chains(gradient, weights, self.target, outputs=[["layer"]])

    @checked(weights=chain_weights, learning_rate=nonnegative)
    def step(self, weights: Numeric, learning_rate: Numeric) -> Numeric:
        r"""One step of gradient descent.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)
        learning_rate : Numeric, shape (...)
            :math:`\eta \ge 0`.

        Returns
        -------
        Numeric, shape (..., layer)
        """
        return on_chains(step, weights, self.target, learning_rate, outputs=[["layer"]])

    @checked(weights=chain_weights)
    def hessian(self, weights: Numeric) -> Numeric:
        r"""Hessian of the loss.

        .. math:: H_{ii} = \prod_{k \ne i} w_k^2, \qquad
            H_{ij} = (2f - y) \prod_{k \ne i,j} w_k \quad (i \ne j)

        Where no weight vanishes this is the rank-one matrix :math:`f(2f-y)\, u u^\top` with :math:`u_i = 1/w_i`, less
        the diagonal :math:`f(f-y)\, u_i^2`; at a minimum the diagonal is gone and one eigenvalue is left.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (..., layer, layer)
            Of a DataArray: dims ``layer`` and ``other_layer``.
        """
        return on_chains(hessian, weights, self.target, outputs=[["layer", "other_layer"]])

    @checked(weights=chain_weights)
    def sharpness(self, weights: Numeric) -> Numeric:
        r"""The largest eigenvalue of the Hessian; :math:`y^2 \sum_i w_i^{-2}` at a minimum.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (...)
            +inf where the Hessian overflows.
        """
        return on_chains(sharpness, weights, self.target)

    @checked(weights=chain_weights)
    def imbalance(self, weights: Numeric) -> Numeric:
        r"""The largest difference of two squared weights, conserved by gradient flow.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (...)
        """
        return on_chains(imbalance, weights)

    @checked(weights=chain_weights)
    def flow_solution(self, weights: Numeric) -> Numeric:
        r"""Absolute weights of the minimum that gradient flow reaches: :math:`\sqrt{w_i^2 + \tau}`.

        :math:`\tau` is the root of :math:`\prod_i (w_i^2 + \tau) = y^2` above :math:`-\min_i w_i^2`. Flow changes the
        sign of no weight but the smallest one, and of that one only if the output starts with the wrong sign.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (..., layer)

        Notes
        -----
        If the output has the wrong sign or vanishes and two weights tie for the smallest, flow ends at a saddle
        instead: a set of starts of measure zero.
        """
        return on_chains(flow_solution, weights, self.target, outputs=[["layer"]])

    @checked(weights=chain_weights)
    def flow_sharpness(self, weights: Numeric) -> Numeric:
        r"""Sharpness of the gradient-flow solution: that of the minimum which gradient flow reaches from here.

        .. math:: S = y^2 \sum_i \frac{1}{w_i^2 + \tau}

        Gradient descent does not increase it while no weight changes sign and :math:`S \le 2\sqrt2/\eta`.

        Parameters
        ----------
        weights : Numeric, shape (..., layer)

        Returns
        -------
        Numeric, shape (...)

        Notes
        -----
        Kreisler et al. 2023.
        """
        return on_chains(flow_sharpness, weights, self.target)


@checked(target=nonnegative, depth=integer(1))
def balanced_chain(target: Values | Numbers | float, depth: int) -> Values:
    r"""Equal weights whose product is the given number: :math:`w_i = y^{1/D}`.

    Parameters
    ----------
    target : Numeric
        :math:`y \ge 0`; sweeps.
    depth : int
        :math:`D \ge 1`.

    Returns
    -------
    Numeric, shape (..., layer)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> balanced_chain(9.0, 2)
    array([3., 3.])
    """
    ones = np.ones(depth)
    if isinstance(target, xr.DataArray):
        return target ** (1 / depth) * xr.DataArray(ones, dims="layer")
    return cast("Values", np.multiply.outer(np.asarray(target) ** (1 / depth), ones))
