r"""The passes through a network: forward, backward, and their directional derivatives.

With :math:`a_0 = x`, :math:`z_l = a_{l-1}W_l + b_l`, :math:`a_l = \varphi(z_l)` and :math:`\delta_l =
\partial\ell/\partial z_l`,

.. math:: \delta_{l-1} = (\delta_l W_l^T)\,\varphi'(z_{l-1}), \qquad
          \partial\ell/\partial W_l = a_{l-1}^T\delta_l, \qquad \partial\ell/\partial b_l = 1^T\delta_l .

Differentiating each line along a direction :math:`(V, c)` gives the product of the Hessian with that direction
(Pearlmutter's R-operator), exact to rounding, at about the cost of two gradients.
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


class Linearization:
    """One forward and one backward pass, kept for as many Hessian-vector products as wanted."""

    def __init__(self, layers: Layers, activation: Activation, loss: Loss, x: Array, targets: Array) -> None:
        self.layers, self.activation, self.loss, self.targets = layers, activation, loss, targets
        self.values = forward(layers, activation, x)
        _, self.slope = loss.value_and_slope(self.values[-1], targets)
        self.deltas = backward(layers, activation, self.values, self.slope / x.shape[0])
        hidden = range(1, len(layers.weights))
        self.slopes = [activation.slope(self.values[layer]) for layer in hidden]
        # (delta_l W_l^T) phi''(z_{l-1}): how the backward pass bends with z_{l-1}; absent where phi'' = 0
        self.bends = [
            None
            if activation.bend is None
            else (self.deltas[layer] @ layers.weights[layer].T) * activation.bend(self.values[layer])
            for layer in hidden
        ]

    def _tangents(self, direction: Layers) -> tuple[list[Array | None], list[Array]]:
        """Derivatives of the values a_0..a_{L-1} (None is zero) and of z_1..z_L along a direction."""
        weights, values = self.layers.weights, self.values
        last = len(weights) - 1
        moved: list[Array | None] = [None]
        moved_z: list[Array] = []
        for layer, weight in enumerate(weights):
            z = values[layer] @ direction.weights[layer]
            previous = moved[-1]
            if previous is not None:
                z += previous @ weight
            if direction.biases is not None:
                z += direction.biases[layer]
            moved_z.append(z)
            if layer < last:
                moved.append(z * self.slopes[layer])
        return moved, moved_z

    def write_product(self, direction: Layers, into: Layers) -> None:
        """The Hessian of the mean loss times a direction, written into views of a flat vector."""
        weights, values, deltas = self.layers.weights, self.values, self.deltas
        moved, moved_z = self._tangents(direction)
        change = self.loss.curvature(self.slope, self.targets, moved_z[-1]) / values[0].shape[0]
        for layer in range(len(weights) - 1, -1, -1):
            np.matmul(values[layer].T, change, out=into.weights[layer])
            previous = moved[layer]
            if previous is not None:
                into.weights[layer] += previous.T @ deltas[layer]
            if into.biases is not None:
                np.add.reduce(change, axis=0, out=into.biases[layer])
            if layer > 0:
                back = change @ weights[layer].T
                back += deltas[layer] @ direction.weights[layer].T
                change = back * self.slopes[layer - 1]
                bend = self.bends[layer - 1]
                if bend is not None:
                    change += bend * moved_z[layer - 1]

    def gauss_newton_curvatures(self, direction: Layers) -> Array:
        """The part of :meth:`curvatures` that the curvature of the loss in the outputs makes."""
        moved = self._tangents(direction)[1][-1]
        return np.asarray((moved * self.loss.curvature(self.slope, self.targets, moved)).sum(axis=1))

    def curvatures(self, direction: Layers) -> Array:
        """The second derivative of every example's loss along a direction."""
        weights, values = self.layers.weights, self.values
        moved, moved_z = self._tangents(direction)
        second: Array | None = None  # second derivatives of a_l along the direction
        last = len(weights) - 1
        for layer, weight in enumerate(weights):
            z = np.zeros_like(moved_z[layer])
            if second is not None:
                z += second @ weight
            previous = moved[layer]
            if previous is not None:
                z += 2 * (previous @ direction.weights[layer])
            if layer < last:
                second = z * self.slopes[layer]
                if self.activation.bend is not None:
                    second = second + self.activation.bend(values[layer + 1]) * moved_z[layer] ** 2
        bent = self.loss.curvature(self.slope, self.targets, moved_z[-1])
        return np.asarray((moved_z[-1] * bent + self.slope * z).sum(axis=1))
