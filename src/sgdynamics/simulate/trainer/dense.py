r"""The whole Hessian of a network, a block for every two layers.

A product with every unit vector passes through the network once for every parameter. But what the parameters of a
layer do, they do through its pre-activations, of which there are few: with :math:`\bar a_l = (a_l, 1)` the gradient is
:math:`\bar a_{l-1}^T\delta_l`, and

.. math:: \frac{\partial^2 L}{\partial W_{l,ij}\,\partial W_{m,kq}} = \sum_n \bar a_{l-1,i}
          \left[\bar a_{m-1,k}\frac{\partial\delta_{m,q}}{\partial z_{l,j}}
          + \frac{\partial a_{m-1,k}}{\partial z_{l,j}}\,\delta_{m,q}\right], \qquad l \le m ,

the second term absent for :math:`l = m`. A matrix product for every unit of a layer does the sum over examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked
from sgdynamics.simulate.trainer.linearization import Linearization
from sgdynamics.simulate.trainer.network import Network
from sgdynamics.simulate.trainer.network_loss import NetworkLoss
from sgdynamics.simulate.trainer.objective import Objective, an_objective

__all__ = ["hessian_matrix"]

Array = NDArray[Any]


@checked(objective=an_objective)
def hessian_matrix(objective: Objective) -> Array:
    r"""The Hessian of an objective as a matrix, exact.

    For all of it, many times faster than a product of :func:`hessian_operator` for every parameter; for a few of its
    largest eigenvalues :func:`top_eigenpairs` needs neither. Networks with residual connections or normalisation, and
    those of other frameworks, take the products. The kink of relu contributes no second derivative. Memory: a few
    arrays (examples, width, width), and the matrix.

    Parameters
    ----------
    objective : Objective
        Where the Hessian is taken.

    Returns
    -------
    array, shape (parameters, parameters)
        Symmetric; complex if the weights are. Rows and columns of parameters that are not trainable are zero.

    Raises
    ------
    ValueError, TypeError
        If the argument is no objective.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, hessian_matrix, network
    >>> net = network([1, 1, 1], "linear", biases=False, seed=0).with_flat([2.0, 3.0])
    >>> hessian_matrix(Objective(net, [[1.0]], [5.0], "mse"))
    array([[9., 7.],
           [7., 4.]])
    """
    net, mean = objective.net, objective.mean
    with one_blas_thread(), np.errstate(all="ignore"):
        if not isinstance(mean, NetworkLoss) or not isinstance(net, Network) or not net.hidden.plain:
            product = objective.products()
            columns = np.array([product(unit) for unit in np.eye(objective.size)])
            return np.asarray((columns + columns.T) / 2)
        passes = mean.linearization(net, objective.x, objective.targets)
        matrix = _matrix(passes, biases=net.biases is not None)
        matrix[np.diag_indices_from(matrix)] += objective.weight_decay
        if objective.trainable is not None:
            matrix[~objective.trainable] = 0.0
            matrix[:, ~objective.trainable] = 0.0
    return matrix


def _matrix(passes: Linearization, biases: bool) -> Array:
    """The Hessian of the mean loss from the passes through the network."""
    entering = [np.insert(value, value.shape[1], 1.0, axis=1) if biases else value for value in passes.values]
    widths = [weight.shape[1] for weight in passes.weights]
    ends = np.cumsum([0, *(value.shape[1] * width for value, width in zip(entering, widths, strict=True))])
    matrix = np.empty((ends[-1], ends[-1]), passes.dtype)
    for lower, width in enumerate(widths):
        rows = slice(ends[lower], ends[lower + 1])
        moved = _outputs_moved(passes, lower)
        bent = np.stack([passes.curvature(direction) for direction in moved[-1]])
        for upper in range(len(widths) - 1, lower - 1, -1):
            columns = slice(ends[upper], ends[upper + 1])
            # dz_m/dz_l at the layer below, where that moves
            below = moved[upper - 1 - lower] if upper > lower else None
            for unit in range(width):
                right = entering[upper][:, :, None] * bent[unit][:, None, :]
                if below is not None:
                    risen = below[unit] * passes.slopes[upper - 1]
                    right[:, : risen.shape[1]] += risen[:, :, None] * passes.deltas[upper][:, None, :]
                matrix[rows, columns][unit::width] = entering[lower].T @ right.reshape(len(right), -1)
            if below is not None:
                matrix[columns, rows] = matrix[rows, columns].T
                bend = passes.bends[upper - 1]
                bent = bent @ passes.weights[upper].T * passes.slopes[upper - 1]
                if bend is not None:
                    bent += below * bend
    return matrix


def _outputs_moved(passes: Linearization, layer: int) -> list[Array]:
    """The derivatives of z_l, z_{l+1}, ..., z_L with respect to z_l, each (units of l, examples, units)."""
    width, examples = passes.weights[layer].shape[1], len(passes.slope)
    unit = np.eye(width, dtype=passes.dtype)[:, None, :]
    moved = [np.broadcast_to(unit, (width, examples, width))]
    for slopes, weight in zip(passes.slopes[layer:], passes.weights[layer + 1 :], strict=True):
        moved.append((moved[-1] * slopes) @ weight)
    return moved
