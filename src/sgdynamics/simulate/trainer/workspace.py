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
from sgdynamics.simulate.trainer.elementwise import average
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
        matmul, enter = np.matmul, self.activation.enter
        biases = layers.bias_or_none
        value = x
        for weight, z, bias in zip(layers.weights[:-1], self.values, biases, strict=False):
            matmul(value, weight, z)
            enter(z, bias)
            value = z
        z = self.values[-1]
        matmul(value, layers.weights[-1], z)
        self.loss.write_slope(z, biases[-1], targets, self.deltas[-1], self.column)

    def _mean_loss(self, targets: Array) -> float:
        return float(self.loss.value(self.values[-1], targets, self.column) / self.examples)

    def loss_value(self, layers: Layers, x: Array, targets: Array) -> float:
        """The mean loss."""
        self._forward(layers, x, targets)
        return self._mean_loss(targets)

    def write_gradient(self, layers: Layers, x: Array, targets: Array, into: Layers, want_loss: bool) -> float | None:
        """The gradient of the mean loss, written into views of a flat vector; the loss itself if it is wanted."""
        self._forward(layers, x, targets)
        matmul, leave = np.matmul, self.activation.leave
        entering, deltas = [x, *self.values], self.deltas
        sums = into.bias_or_none
        average(deltas[-1], self.examples, sums[-1])
        for layer in range(len(deltas) - 1, -1, -1):
            delta = deltas[layer]
            matmul(entering[layer].T, delta, into.weights[layer])
            if layer > 0:
                matmul(delta, layers.weights[layer].T, deltas[layer - 1])
                leave(deltas[layer - 1], entering[layer], sums[layer - 1])
        return self._mean_loss(targets) if want_loss else None
