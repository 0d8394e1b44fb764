r"""Units that see P: two products of matrices a step, and around them kernels that touch every number once.

Rows are units everywhere, so that a sum over units runs over rows and the compiler takes many examples or weights at a
time, each with its sum in a fixed order. Examples are columns, and the gradient has units as columns too: in these
layouts the products are fastest.
"""

from __future__ import annotations

import numpy as np

from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._normals import Floats, Words
from sgdynamics.simulate.patterns._units import Normals, Step

_REPLICA = np.uint64(0)
_ACTIVATION_REPLICA = np.uint64(0)


@kernel
def _send(before: Floats, second_layer: Floats, output: Floats) -> None:
    """Output at every example, summed in the order of the units; leaves 1 where a unit is active and 0 elsewhere."""
    output[:] = 0.0
    for i in range(second_layer.size):
        weight = second_layer[i]
        for j in range(output.size):
            value = before[i, j]
            output[j] += weight * max(value, 0.0)
            before[i, j] = 1.0 if value >= 0.0 else 0.0


@kernel
def _advance(
    weights: Floats, gradient: Floats, second_layer: Floats, keep: float, noise: float, left: Floats, right: Floats
) -> None:
    """A step of the units that see P.

    ``gradient``, (column, unit), is that for a second layer of ones, times the step size.
    """
    units, columns = weights.shape
    half = (columns + 1) // 2
    for i in range(units):
        weight, first = second_layer[i], i * half
        for j in range(half):
            weights[i, j] = keep * weights[i, j] - weight * gradient[j, i] + noise * left[first + j]
        for j in range(columns - half):
            k = half + j
            weights[i, k] = keep * weights[i, k] - weight * gradient[k, i] + noise * right[first + j]


@kernel
def _add(values: Floats, deviation: Floats, left: Floats, right: Floats) -> None:
    """Add normals, with a deviation for every column."""
    units, columns = values.shape
    half = (columns + 1) // 2
    for i in range(units):
        first = i * half
        for j in range(half):
            values[i, j] += deviation[j] * left[first + j]
        for j in range(columns - half):
            values[i, half + j] += deviation[half + j] * right[first + j]


class UnitsOfP:
    """Units that see P.

    ``inputs`` are the examples that carry it, (dimension, examples); ``output`` is what the block adds to each.
    """

    def __init__(
        self, units: slice, second_layer: Floats, inputs: Floats, scale: float, key: Words, activation_key: Words
    ) -> None:
        self.inputs, self.scale = inputs, scale
        self.second_layer = second_layer[units]
        dimension, examples = inputs.shape
        count = self.second_layer.size
        half = (dimension + 1) // 2
        self.normals = Normals(key, _REPLICA, units.start * half, count * half)
        self.activation_key, self.first = activation_key, units.start
        self.activation_normals: Normals | None = None
        self.lengths = np.sqrt((inputs**2).sum(axis=0))
        self.weights, self.gradient = np.zeros((count, dimension)), np.empty((dimension, count))
        self.active = np.empty((count, examples))
        self.output = np.empty(examples)
        _add(self.weights, np.full(dimension, scale), *self.normals.draw())

    def advance(self, pull: Floats, step: Step) -> None:
        """Take a step; ``pull`` (dimension, example) is step size times slope times example."""
        np.dot(pull, self.active.T, out=self.gradient)
        if step.noise:
            self.normals.draw()
        noise = step.noise * self.scale  # where it is 0, whatever was drawn last does no harm
        left, right = self.normals.left, self.normals.right
        _advance(self.weights, self.gradient, self.second_layer, step.keep, noise, left, right)

    def look(self, activation_noise: float) -> None:
        """Find the output, and which units are active at which example."""
        before = np.dot(self.weights, self.inputs, out=self.active)
        if activation_noise:
            self._add_activation_noise(before, activation_noise * self.scale)
        _send(before, self.second_layer, self.output)

    def _add_activation_noise(self, before: Floats, deviation: float) -> None:
        """Fresh in every unit and example."""
        if self.activation_normals is None:
            half = (self.output.size + 1) // 2
            streams = self.second_layer.size * half
            self.activation_normals = Normals(self.activation_key, _ACTIVATION_REPLICA, self.first * half, streams)
        _add(before, deviation * self.lengths, *self.activation_normals.draw())

    def output_at(self, inputs: Floats) -> Floats:
        """What the block adds at other examples, (examples, dimension), without activation noise."""
        values: Floats = np.maximum(inputs @ self.weights.T, 0.0) @ self.second_layer
        return values
