r"""Products of matrices, fitted to a target map.

.. math:: W = W_D \cdots W_1, \qquad L = \tfrac12 \operatorname{tr}\bigl[(W-A)\, \Sigma\, (W-A)^\top\bigr],

with the input covariance :math:`\Sigma`, the identity for whitened inputs. With :math:`A_j = W_D \cdots W_{j+1}`,
:math:`B_j = W_{j-1} \cdots W_1` and :math:`E = (W-A)\Sigma` the gradients are :math:`G_j = A_j^\top E B_j^\top`.

Matrices act on columns: :math:`W_j` has shape (fan_out, fan_in), the transpose of the trainer's. Leading axes, shared
by all layers, are as many networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, Numeric, check_arguments, checked, complain, integer, nonnegative, optional
from sgdynamics.models.deep_linear._domains import (
    Floats,
    Layers,
    finite_matrix,
    input_covariance_matrix,
    weight_matrices,
)
from sgdynamics.models.deep_linear._eigenvalues import top_eigenvalue

__all__ = ["DeepLinearNetwork", "balanced_network"]


# ---------------------------------------------------------------------------------------------------------------------
# Plain arrays: layers of shape (..., fan_out, fan_in)


def transposed(matrix: Floats) -> Floats:
    return np.swapaxes(matrix, -1, -2)


def below(layers: Layers) -> list[Floats]:
    """B_1..B_{D+1}: what the input has gone through before every layer; the last one is the whole product."""
    size = layers[0].shape[-1]
    products = [np.broadcast_to(np.eye(size), (*layers[0].shape[:-2], size, size))]
    for layer in layers:
        products.append(layer @ products[-1])
    return products


def above(layers: Layers) -> list[Floats]:
    """A_1..A_D: what is still to come after every layer."""
    size = layers[-1].shape[-2]
    products = [np.broadcast_to(np.eye(size), (*layers[-1].shape[:-2], size, size))]
    for layer in layers[:0:-1]:
        products.append(products[-1] @ layer)
    return products[::-1]


def gradients(layers: Layers, target: Floats, covariance: Floats) -> Layers:
    lower, upper = below(layers), above(layers)
    error = (lower[-1] - target) @ covariance
    return tuple(transposed(a) @ error @ transposed(b) for a, b in zip(upper, lower[:-1], strict=True))


def loss(layers: Layers, target: Floats, covariance: Floats) -> Floats:
    error = below(layers)[-1] - target
    return np.asarray(0.5 * ((error @ covariance) * error).sum(axis=(-2, -1)))


def hessian(layers: Layers, target: Floats, covariance: Floats) -> Floats:
    """Parameters in the order W_1, W_2, ..., each row by row."""
    lower, upper = below(layers), above(layers)
    error = (lower[-1] - target) @ covariance
    lead = error.shape[:-2]
    sizes = [layer.shape[-2] * layer.shape[-1] for layer in layers]
    starts = np.cumsum([0, *sizes])
    made = np.empty((*lead, starts[-1], starts[-1]))
    for i in range(len(layers)):
        middle = np.broadcast_to(np.eye(layers[i].shape[-2]), (*lead, *[layers[i].shape[-2]] * 2))
        for j in range(i, len(layers)):
            # Gauss-Newton: dW = A_i dW_i B_i, so that the block is (A_i' A_j) x (B_i S B_j')
            outer = transposed(upper[i]) @ upper[j]
            inner = lower[i] @ covariance @ transposed(lower[j])
            block = outer[..., :, None, :, None] * inner[..., None, :, None, :]
            if j > i:  # dW = A_j dW_j (W_{j-1}..W_{i+1}) dW_i B_i, weighed with the error
                pulled = lower[i] @ transposed(error) @ upper[j]  # B_i E' A_j, (fan_in of i, fan_out of j)
                block = block + transposed(middle)[..., :, None, None, :] * pulled[..., None, :, :, None]
            block = block.reshape(*lead, sizes[i], sizes[j])
            made[..., starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = block
            made[..., starts[j] : starts[j + 1], starts[i] : starts[i + 1]] = transposed(block)
            if j > i:
                middle = layers[j] @ middle
    return made


def sharpness(layers: Layers, target: Floats, covariance: Floats) -> Floats:
    """The largest eigenvalue; +inf where the Hessian overflows."""
    return top_eigenvalue(hessian(layers, target, covariance))


def imbalances(layers: Layers) -> Layers:
    return tuple(transposed(upper) @ upper - lower @ transposed(lower) for lower, upper in itertools.pairwise(layers))


def _plain(value: Floats) -> Numeric:
    return float(value) if value.ndim == 0 else value


# ---------------------------------------------------------------------------------------------------------------------
# The public model


@dataclass(frozen=True, eq=False, repr=False)
class DeepLinearNetwork(Shown):
    r"""A product of matrices with the quadratic loss around a target map.

    Weights are sequences :math:`W_1, \dots, W_D` of matrices of shapes (..., fan_out, fan_in), the leading axes the
    same for all.

    Parameters
    ----------
    target : array, shape (outputs, inputs)
        The map :math:`A`.
    input_covariance : array, shape (inputs, inputs), optional
        :math:`\Sigma`, symmetric positive semidefinite; the identity where nothing is said.

    Raises
    ------
    ValueError, TypeError
        If a matrix is not finite, the covariance is not one, or shapes disagree.

    Examples
    --------
    >>> network = DeepLinearNetwork([[2.5, 0.0], [0.0, 1.0]])
    >>> round(network.sharpness(balanced_network(network.target, 4)), 4)
    15.8114
    """

    target: ArrayLike
    _: KW_ONLY
    input_covariance: ArrayLike | None = None

    domains: ClassVar[Mapping[str, Domain]] = {"target": finite_matrix, "input_covariance": input_covariance_matrix}

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.domains}
        fields = check_arguments(type(self).__name__, self.domains, given)
        inputs = fields["target"].shape[1]
        if fields["input_covariance"] is None:
            fields["input_covariance"] = np.eye(inputs)
        if fields["input_covariance"].shape != (inputs, inputs):
            shape = fields["input_covariance"].shape
            raise complain(type(self).__name__, "input_covariance", f"of shape ({inputs}, {inputs})", f"shape {shape}")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def matrices(self) -> tuple[Floats, Floats]:
        """Target and input covariance."""
        return np.asarray(self.target), np.asarray(self.input_covariance)

    def fitting(self, owner: str, weights: Layers) -> Layers:
        """The weights, if they map inputs to outputs."""
        outputs, inputs = self.matrices[0].shape
        found = (weights[-1].shape[-2], weights[0].shape[-1])
        if found != (outputs, inputs):
            raise complain(owner, "weights", f"matrices whose product is {outputs} x {inputs}", f"{found}")
        return weights

    @checked(weights=weight_matrices)
    def output(self, weights: Sequence[ArrayLike]) -> Floats:
        r"""The end-to-end map :math:`W_D \cdots W_1`.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)

        Returns
        -------
        array, shape (..., outputs, inputs)
        """
        with one_blas_thread():
            return below(self.fitting("output", weights))[-1]  # type: ignore[arg-type]

    @checked(weights=weight_matrices)
    def loss(self, weights: Sequence[ArrayLike]) -> float | Floats:
        r"""Half the squared error, summed over outputs and averaged over inputs.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)

        Returns
        -------
        float or array, shape (...)
        """
        with one_blas_thread():
            return cast("float | Floats", _plain(loss(self.fitting("loss", weights), *self.matrices)))  # type: ignore[arg-type]

    @checked(weights=weight_matrices)
    def gradient(self, weights: Sequence[ArrayLike]) -> Layers:
        r"""Gradient of the loss in every layer.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)

        Returns
        -------
        tuple of array, shapes (..., fan_out, fan_in)
        """
        with one_blas_thread():
            return gradients(self.fitting("gradient", weights), *self.matrices)  # type: ignore[arg-type]

    @checked(weights=weight_matrices, learning_rate=nonnegative)
    def step(self, weights: Sequence[ArrayLike], learning_rate: float) -> Layers:
        r"""One step of gradient descent.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)
        learning_rate : float
            :math:`\eta \ge 0`; or an array over the leading axes.

        Returns
        -------
        tuple of array, shapes (..., fan_out, fan_in)
        """
        rate = np.asarray(learning_rate)[..., None, None]
        slopes = self.gradient(weights)
        return tuple(np.asarray(layer) - rate * slope for layer, slope in zip(weights, slopes, strict=True))

    @checked(weights=weight_matrices)
    def hessian(self, weights: Sequence[ArrayLike]) -> Floats:
        r"""The whole Hessian of the loss, parameters in the order :math:`W_1, W_2, \dots`, each row by row.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)

        Returns
        -------
        array, shape (..., parameters, parameters)
        """
        with one_blas_thread():
            return hessian(self.fitting("hessian", weights), *self.matrices)  # type: ignore[arg-type]

    @checked(weights=weight_matrices)
    def sharpness(self, weights: Sequence[ArrayLike]) -> float | Floats:
        r"""The largest eigenvalue of the Hessian, of which every entry is formed: for small networks.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)

        Returns
        -------
        float or array, shape (...)
        """
        with one_blas_thread():
            return cast("float | Floats", _plain(sharpness(self.fitting("sharpness", weights), *self.matrices)))  # type: ignore[arg-type]

    @checked(weights=weight_matrices)
    def imbalance(self, weights: Sequence[ArrayLike]) -> Layers:
        r""":math:`W_{j+1}^\top W_{j+1} - W_j W_j^\top` for every pair of neighbours, conserved by gradient flow.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)

        Returns
        -------
        tuple of array, shapes (..., width, width)
            One per hidden layer.
        """
        with one_blas_thread():
            return imbalances(self.fitting("imbalance", weights))  # type: ignore[arg-type]

    @checked(weights=weight_matrices, learning_rate=nonnegative)
    def imbalance_change(self, weights: Sequence[ArrayLike], learning_rate: float) -> Layers:
        r"""What one step of gradient descent adds to the imbalance, exactly.

        .. math:: \eta^2 \bigl(G_{j+1}^\top G_{j+1} - G_j G_j^\top\bigr)

        The terms of first order cancel because :math:`W_{j+1}^\top G_{j+1} = G_j W_j^\top`.

        Parameters
        ----------
        weights : sequence of array, shapes (..., fan_out, fan_in)
        learning_rate : float
            :math:`\eta \ge 0`; or an array over the leading axes.

        Returns
        -------
        tuple of array, shapes (..., width, width)
        """
        squared = np.asarray(learning_rate)[..., None, None] ** 2
        with one_blas_thread():
            return tuple(squared * change for change in imbalances(self.gradient(weights)))


@checked(target=finite_matrix, depth=integer(1), width=optional(integer(1)))
def balanced_network(target: ArrayLike, depth: int, width: int | None = None) -> Layers:
    r"""Balanced weights whose product is the given map: every layer has its singular values to the power :math:`1/D`.

    With :math:`A = U S V^\top` the first layer is :math:`S^{1/D} V^\top`, the last one :math:`U S^{1/D}`, and those
    between are :math:`S^{1/D}`, each filled up with zeros. The balanced minimum of a target; for a multiple of it, a
    balanced start whose modes never mix.

    Parameters
    ----------
    target : array, shape (outputs, inputs)
        :math:`A`.
    depth : int
        :math:`D \ge 1`.
    width : int, optional
        Of the hidden layers, at least the smaller dimension of the target, which it is where nothing is said.

    Returns
    -------
    tuple of array, shapes (fan_out, fan_in)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the hidden layers are too narrow.

    Examples
    --------
    >>> first, second = balanced_network([[4.0, 0.0]], 2)
    >>> abs(first), abs(second)
    (array([[2., 0.]]), array([[2.]]))
    """
    matrix = np.asarray(target)
    outputs, inputs = matrix.shape
    rank = min(outputs, inputs)
    hidden = rank if width is None else width
    if hidden < rank:
        raise complain("balanced_network", "width", f"at least {rank}, the smaller dimension of the target", width)
    if depth == 1:
        return (matrix.copy(),)
    with one_blas_thread():
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.zeros((hidden, hidden))
    root[np.arange(rank), np.arange(rank)] = values ** (1 / depth)
    first = np.zeros((hidden, inputs))
    first[:rank] = root[:rank, :rank] @ right
    last = np.zeros((outputs, hidden))
    last[:, :rank] = left @ root[:rank, :rank]
    return (first, *(root.copy() for _ in range(depth - 2)), last)
