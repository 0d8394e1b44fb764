"""The passes of many steps in arrays that are made once.

The system can need as long to hand out the arrays of a step as the step takes. Here nothing of their size is allocated
per step, and every number has the bits of the plain passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.activations import InPlace
from sgdynamics.simulate.trainer.losses import InPlaceLoss
from sgdynamics.simulate.trainer.network import Layers

Array = NDArray[Any]


class Workspace:
    """Values and derivatives of a plain network of real weights at a fixed number of examples, overwritten by every
    pass.
    """

    def __init__(self, widths: Sequence[int], activation: InPlace, loss: InPlaceLoss, examples: int) -> None:
        self.activation, self.loss, self.examples = activation, loss, examples
        columns = [*widths[1:], *widths[1:], 1]
        # in one piece: the system hands out a large one in large pages
        block = np.empty(examples * sum(columns))
        ends = np.cumsum(columns).tolist()
        parts = [
            block[examples * (end - width) : examples * end].reshape(examples, width)
            for width, end in zip(columns, ends, strict=True)
        ]
        depth = len(widths) - 1
        self.values = parts[:depth]  # a_1, ..., a_{L-1}, z_L
        self.deltas = parts[depth:-1]  # derivatives with respect to z_1, ..., z_L
        self.column = parts[-1]

    def _forward(self, layers: Layers, x: Array, targets: Array) -> None:
        """The values, and the slope of the loss summed over examples."""
        matmul, add, apply, biases = np.matmul, np.add, self.activation.apply, layers.biases
        value, last = x, len(self.values) - 1
        for layer, (weight, z) in enumerate(zip(layers.weights, self.values, strict=True)):
            matmul(value, weight, z)
            if biases is not None:
                add(z, biases[layer], z)
            if layer < last:
                apply(z)
            value = z
        self.loss.write_slope(value, targets, self.deltas[-1], self.column)

    def _mean_loss(self, targets: Array) -> float:
        return float(self.loss.value(self.values[-1], targets, self.column) / self.examples)

    def loss_value(self, layers: Layers, x: Array, targets: Array) -> float:
        """The mean loss."""
        self._forward(layers, x, targets)
        return self._mean_loss(targets)

    def write_gradient(self, layers: Layers, x: Array, targets: Array, into: Layers, want_loss: bool) -> float | None:
        """The gradient of the mean loss, written into views of a flat vector; the loss itself if it is wanted."""
        self._forward(layers, x, targets)
        matmul, column_sums, multiply_slope = np.matmul, np.add.reduce, self.activation.multiply_slope
        entering, deltas = [x, *self.values], self.deltas
        np.divide(deltas[-1], self.examples, deltas[-1])
        for layer in range(len(deltas) - 1, -1, -1):
            delta = deltas[layer]
            matmul(entering[layer].T, delta, into.weights[layer])
            if into.biases is not None:
                column_sums(delta, axis=0, out=into.biases[layer])
            if layer > 0:
                matmul(delta, layers.weights[layer].T, deltas[layer - 1])
                multiply_slope(deltas[layer - 1], entering[layer])
        return self._mean_loss(targets) if want_loss else None
