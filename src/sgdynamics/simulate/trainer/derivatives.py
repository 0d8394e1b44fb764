"""The training loss and its derivatives, exact: fronts of :class:`Objective` for one answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Domain, checked
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.losses import AnyLoss, loss_domain
from sgdynamics.simulate.trainer.network import AnyNetwork, any_network
from sgdynamics.simulate.trainer.objective import Objective, an_objective

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = [
    "gradient",
    "hessian_operator",
    "hessian_vector_product",
    "loss_value",
]

Array = NDArray[Any]

data_domains: dict[str, Domain] = {
    "net": any_network,
    "x": arguments.examples,
    "y": arguments.examples,
    "loss": loss_domain,
}


@checked(**data_domains)
def loss_value(net: AnyNetwork, x: ArrayLike, y: ArrayLike, loss: AnyLoss) -> Any:
    r"""The mean loss over examples; ``Objective(net, x, y, loss).loss_value()``.

    Parameters
    ----------
    net, x, y, loss
        As for :class:`Objective`, which takes weight decay, too.

    Returns
    -------
    float
        :math:`L(\theta)`; +inf where it overflows; complex if the weights are.

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
    """
    return Objective.of("loss_value", net, x, y, loss).loss_value()


@checked(**data_domains)
def gradient(net: AnyNetwork, x: ArrayLike, y: ArrayLike, loss: AnyLoss) -> Array:
    r"""The gradient of :func:`loss_value` as one vector, by backpropagation.

    Parameters
    ----------
    net, x, y, loss
        As for :class:`Objective`, which takes weight decay, too.

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
    return Objective.of("gradient", net, x, y, loss).gradient()


@checked(**data_domains, v=arguments.vector)
def hessian_vector_product(net: AnyNetwork, x: ArrayLike, y: ArrayLike, v: ArrayLike, loss: AnyLoss) -> Array:
    r"""The Hessian of :func:`loss_value` times a vector, exact (Pearlmutter's R-operator).

    The kink of relu contributes no second derivative. For many products at the same weights use
    :func:`hessian_operator`.

    Parameters
    ----------
    net, x, y, loss
        As for :class:`Objective`, which takes weight decay, too.
    v : array, shape (parameters,)
        The direction.

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
    return Objective.of("hessian_vector_product", net, x, y, loss).hessian_vector_product(v)


@checked(objective=an_objective)
def hessian_operator(objective: Objective) -> LinearOperator:
    r"""The Hessian of an objective as a SciPy linear operator.

    What its products share is computed once; the operator stays at these weights if the network is edited.

    Parameters
    ----------
    objective : Objective
        Where the Hessian is taken.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator, shape (parameters, parameters)
        ``operator @ v`` is :math:`H v`.

    Raises
    ------
    ValueError, TypeError
        If the argument is no objective.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, hessian_operator, network
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> hessian_operator(Objective(net, [[1.0], [3.0]], [1.0, 6.0], "mse")) @ [2.0]
    array([10.])
    """
    from scipy.sparse.linalg import LinearOperator

    weights = objective.flat()
    with one_blas_thread(), np.errstate(all="ignore"):
        products = objective.at(weights).products()
    one_at_a_time = threading.Lock()

    def matvec(v: Array) -> Array:
        with one_at_a_time, one_blas_thread(), np.errstate(all="ignore"):
            return products(np.ravel(v))

    return LinearOperator((weights.size, weights.size), matvec=matvec, rmatvec=matvec, dtype=weights.dtype)
