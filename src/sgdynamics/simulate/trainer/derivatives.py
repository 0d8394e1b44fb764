r"""The training loss and its derivatives: gradient and Hessian products.

.. math:: L(\theta) = \frac1n \sum_i \ell(f_\theta(x_i), y_i) + \frac\lambda2 |\theta|^2 ,

with :math:`\ell` half the squared error summed over outputs (``"mse"``), the cross-entropy (``"cross_entropy"``) or any
other, as callables. A mask of trainable parameters makes :math:`L` a function of these alone: the others count as
constants, also in the weight decay.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Domain, checked, nonnegative, one, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.linearization import Linearization
from sgdynamics.simulate.trainer.losses import (
    AnyLoss,
    InPlaceLoss,
    Loss,
    OwnLoss,
    as_loss,
    as_targets,
    check_examples,
    loss_domain,
)
from sgdynamics.simulate.trainer.network import AnyNetwork, Layers, Network, any_network
from sgdynamics.simulate.trainer.passes import Passes, forward, value_and_gradient
from sgdynamics.simulate.trainer.problem import Problem
from sgdynamics.simulate.trainer.user_network import UserNetwork, user_objective
from sgdynamics.simulate.trainer.workspace import Workspace

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = [
    "gradient",
    "hessian_operator",
    "hessian_vector_product",
    "loss_value",
]

Array = NDArray[Any]

decay_domain = one(nonnegative)
trainable_domain = optional(arguments.mask)


@dataclass(frozen=True, eq=False)
class Objective(Problem):
    """A problem and the loss of the trainer's networks on it."""

    loss: Loss

    def value(self, net: Network) -> Any:
        """The loss; +inf where it overflows."""
        outputs = forward(net.layers(), net.hidden, self.x).outputs
        total, _ = self.loss.value_and_slope(outputs, self.targets)
        value = total / self.x.shape[0]
        if self.weight_decay:
            value = value + self.decay(net.flat())
        return value if math.isfinite(value.real) else math.inf

    def gradient(self, net: Network) -> Array:
        """The gradient as one vector."""
        vector = net.flat()
        result = np.empty_like(vector)
        into = net.views(result)
        value_and_gradient(net.layers(), net.hidden, self.loss, self.x, self.targets, into)
        return self.masked(result + self.weight_decay * vector if self.weight_decay else result)

    def linearization(self, net: Network) -> Linearization:
        """The passes at the weights of a network."""
        return Linearization(net.layers(), net.hidden, self.loss, self.x, self.targets)

    def products(self, net: Network) -> HessianProducts:
        """Products of the Hessian with vectors."""
        return HessianProducts(self, net)

    def workspace(self, net: Network, examples: int) -> Workspace | Passes:
        """Loss and gradient of many batches of so many examples, where it can be in arrays that are made once."""
        in_place = net.hidden.activation.in_place
        if net.hidden.plain and in_place is not None and isinstance(self.loss, InPlaceLoss):
            return Workspace(net.widths, in_place, self.loss, examples)
        return Passes(net.hidden, self.loss)


def objective(
    owner: str,
    net: AnyNetwork,
    x: Array,
    y: Array,
    loss: str | OwnLoss,
    weight_decay: float = 0.0,
    trainable: Array | None = None,
) -> Any:
    """Checked data as an objective of a network: one of ours or a user's."""
    if isinstance(net, UserNetwork):
        return user_objective(owner, net, x, y, loss, weight_decay, trainable)
    x = arguments.matrix.check(owner, "x", x)
    if not isinstance(loss, OwnLoss):  # whose targets are what its callables take
        y = arguments.columns.check(owner, "y", y)
    check_examples(owner, x, net.widths[0], y, net.widths[-1], loss)
    if trainable is not None:
        arguments.length(owner, "trainable", trainable, net.size, "parameters")
    return Objective(x, as_targets(y, net.widths[-1], loss), weight_decay, trainable, as_loss(loss))


class HessianProducts:
    """Products of the Hessian at one point with vectors, one at a time; the passes are computed once."""

    def __init__(self, what: Objective, net: Network) -> None:
        self.what, self.net = what, net
        self.passes = what.linearization(net)
        self.dtype = self.passes.dtype

    def direction(self, v: Array) -> Layers:
        """A flat vector as layers, its frozen entries at zero."""
        return self.net.views(self.what.masked(v))

    def __call__(self, v: Array) -> Array:
        """H v."""
        result = np.empty(v.shape, np.result_type(v, self.dtype))
        self.passes.write_product(self.direction(v), self.net.views(result))
        if self.what.weight_decay:
            result += self.what.weight_decay * v
        return self.what.masked(result)


data_domains: dict[str, Domain] = {
    "net": any_network,
    "x": arguments.examples,
    "y": arguments.examples,
    "loss": loss_domain,
    "weight_decay": decay_domain,
}


@checked(**data_domains, trainable=trainable_domain)
def loss_value(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> Any:
    r"""The mean loss over examples.

    Parameters
    ----------
    net : Network or UserNetwork
        Where the loss is taken. Complex weights give a complex loss (complex-step derivatives).
    x : array, shape (examples, inputs)
        Inputs. For a UserNetwork x and y are whatever it takes, examples along the first axis.
    y : array
        For ``"mse"`` targets of shape (examples, outputs), or (examples,) for one output. For ``"cross_entropy"``
        integer labels of shape (examples,), or class probabilities of shape (examples, outputs), which make the
        expected loss under label noise exact. For callables whatever they take, examples along the first axis.
    loss : {"mse", "cross_entropy", "own"}, or sequence of callables
        ``"mse"`` is half the squared error summed over outputs; ``"own"`` is what a UserNetwork computes. Any other as
        two or three functions of the outputs (examples, outputs) and of y: ``(value, slope)``, the loss of every
        example, (examples,), and its derivative with respect to the outputs, (examples, outputs); or ``(value, slope,
        second derivative)``, without which what needs curvature is refused: (examples, outputs, outputs), or (examples,
        outputs) where that is diagonal.
    weight_decay : float
        :math:`\lambda` in :math:`\frac\lambda2 |\theta|^2`, >= 0, part of the loss.
    trainable : array of bool, shape (parameters,), optional
        Which parameters the weight decay counts.

    Returns
    -------
    float
        :math:`L(\theta)`; +inf where it overflows.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import loss_value, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> loss_value(net, [[1.0], [3.0]], [1.0, 6.0], "mse")
    0.25
    >>> import numpy as np
    >>> absolute = (lambda z, y: np.abs(z[:, 0] - y), lambda z, y: np.sign(z - y[:, None]))
    >>> loss_value(net, [[1.0], [3.0]], [1.0, 6.0], absolute)
    0.5
    """
    what = objective("loss_value", net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    with one_blas_thread(), np.errstate(all="ignore"):
        value = what.value(net)
    return value if np.iscomplexobj(value) else float(value)


@checked(**data_domains, trainable=trainable_domain)
def gradient(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> Array:
    r"""The gradient of :func:`loss_value` as one vector, by backpropagation.

    Parameters
    ----------
    net, x, y, loss, weight_decay
        As for :func:`loss_value`.
    trainable : array of bool, shape (parameters,), optional
        The gradient is zero at the other parameters.

    Returns
    -------
    array, shape (parameters,)
        :math:`\nabla L` in the order of ``net.flat()``; complex if the weights are.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import gradient, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> gradient(net, [[1.0], [3.0]], [1.0, 6.0], "mse")
    array([0.5])
    """
    what = objective("gradient", net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    with one_blas_thread(), np.errstate(all="ignore"):
        found: Array = what.gradient(net)
    return found


@checked(**data_domains, v=arguments.vector, trainable=trainable_domain)
def hessian_vector_product(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    v: ArrayLike,
    loss: AnyLoss,
    *,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> Array:
    r"""The Hessian of :func:`loss_value` times a vector, exact (Pearlmutter's R-operator).

    The kink of relu contributes no second derivative. For many products at the same weights use
    :func:`hessian_operator`.

    Parameters
    ----------
    net, x, y, loss, weight_decay
        As for :func:`loss_value`.
    v : array, shape (parameters,)
        The direction.
    trainable : array of bool, shape (parameters,), optional
        Rows and columns of the other parameters count as zero.

    Returns
    -------
    array, shape (parameters,)
        :math:`H v`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import hessian_vector_product, network
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> hessian_vector_product(net, [[1.0], [3.0]], [1.0, 6.0], [1.0], "mse")
    array([5.])
    """
    what = objective("hessian_vector_product", net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    direction: Array = v  # type: ignore[assignment]
    arguments.length("hessian_vector_product", "v", direction, net.size, "parameters")
    with one_blas_thread(), np.errstate(all="ignore"):
        found: Array = what.products(net)(direction)
    return found


@checked(**data_domains, trainable=trainable_domain)
def hessian_operator(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> LinearOperator:
    r"""The Hessian of :func:`loss_value` as a SciPy linear operator.

    The passes at the weights of ``net`` are computed once; the operator stays at these weights if the network is
    edited.

    Parameters
    ----------
    net, x, y, loss, weight_decay, trainable
        As for :func:`hessian_vector_product`.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator, shape (parameters, parameters)
        ``operator @ v`` is :math:`H v`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import hessian_operator, network
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> hessian_operator(net, [[1.0], [3.0]], [1.0, 6.0], "mse") @ [2.0]
    array([10.])
    """
    from scipy.sparse.linalg import LinearOperator

    what = objective("hessian_operator", net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    with one_blas_thread(), np.errstate(all="ignore"):
        products = what.products(net.at(net.flat()))
    one_at_a_time = threading.Lock()

    def matvec(v: Array) -> Array:
        with one_at_a_time, one_blas_thread(), np.errstate(all="ignore"):
            found: Array = products(np.ravel(v))
        return found

    return LinearOperator((net.size, net.size), matvec=matvec, rmatvec=matvec, dtype=net.flat().dtype)
