r"""The passes through a network: forward and backward.

With :math:`a_0 = x`, :math:`z_l = a_{l-1}W_l + b_l`, :math:`a_l = \varphi(z_l)` and :math:`\delta_l =
\partial\ell/\partial z_l`,

.. math:: \delta_{l-1} = (\delta_l W_l^T)\,\varphi'(z_{l-1}), \qquad
          \partial\ell/\partial W_l = a_{l-1}^T\delta_l, \qquad \partial\ell/\partial b_l = 1^T\delta_l .
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.losses import Loss
from sgdynamics.simulate.trainer.network import Activation, Layers

Array = NDArray[Any]


def forward(layers: Layers, activation: Activation, x: Array) -> list[Array]:
    """The values x, a_1, ..., a_{L-1}, and the outputs z_L."""
    weights, biases = layers
    values = [x]
    last = len(weights) - 1
    for layer, weight in enumerate(weights):
        z = values[-1] @ weight
        if biases is not None:
            z += biases[layer]
        values.append(z if layer == last else activation.apply(z))
    return values


def backward(layers: Layers, activation: Activation, values: list[Array], slope: Array) -> list[Array]:
    """The derivatives with respect to z_1, ..., z_L, from the one with respect to z_L."""
    deltas = [slope]
    for layer in range(len(layers.weights) - 1, 0, -1):
        deltas.append((deltas[-1] @ layers.weights[layer].T) * activation.slope(values[layer]))
    return deltas[::-1]


def write_gradient(values: list[Array], deltas: list[Array], into: Layers) -> None:
    """Derivatives with respect to weights and biases, written into views of a flat vector."""
    for layer, delta in enumerate(deltas):
        np.matmul(values[layer].T, delta, out=into.weights[layer])
        if into.biases is not None:
            np.add.reduce(delta, axis=0, out=into.biases[layer])


def value_and_gradient(
    layers: Layers, activation: Activation, loss: Loss, x: Array, targets: Array, into: Layers
) -> Any:
    """The mean loss; its gradient is written into views of a flat vector."""
    values = forward(layers, activation, x)
    total, slope = loss.value_and_slope(values[-1], targets)
    slope /= x.shape[0]
    write_gradient(values, backward(layers, activation, values, slope), into)
    return total / x.shape[0]
