"""Units that see Q: two weights each, and pre-activations on three rays."""

from __future__ import annotations

import numpy as np

from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._normals import Floats, Words
from sgdynamics.simulate.patterns._units import Normals, Step

_REPLICA = np.uint64(0)
_ACTIVATION_REPLICA = np.uint64(1)


@kernel
def _advance(
    weights: Floats,
    before: Floats,
    second_layer: Floats,
    pull: Floats,
    keep: float,
    noise: float,
    left: Floats,
    right: Floats,
) -> None:
    """A step of the units that see Q."""
    for i in range(second_layer.size):
        along, across = 0.0, 0.0
        for ray in range(3):
            active = 1.0 if before[ray, i] >= 0.0 else 0.0
            along += active * pull[ray, 0]
            across += active * pull[ray, 1]
        weights[0, i] = keep * weights[0, i] - second_layer[i] * along + noise * left[i]
        weights[1, i] = keep * weights[1, i] - second_layer[i] * across + noise * right[i]


@kernel
def _look(weights: Floats, rays: Floats, before: Floats, activation_noise: Floats) -> None:
    """Pre-activations (ray, unit) on top of their noise."""
    for i in range(weights.shape[1]):
        for ray in range(3):
            before[ray, i] = weights[0, i] * rays[ray, 0] + weights[1, i] * rays[ray, 1] + activation_noise[ray, i]


@kernel
def _look_and_send(weights: Floats, rays: Floats, second_layer: Floats, before: Floats, output: Floats) -> None:
    """The same without noise, and the output on the three rays in the same order, in one pass."""
    first, second, third = 0.0, 0.0, 0.0
    for i in range(second_layer.size):
        for ray in range(3):
            before[ray, i] = weights[0, i] * rays[ray, 0] + weights[1, i] * rays[ray, 1]
        first += second_layer[i] * max(before[0, i], 0.0)
        second += second_layer[i] * max(before[1, i], 0.0)
        third += second_layer[i] * max(before[2, i], 0.0)
    output[0], output[1], output[2] = first, second, third


@kernel
def _send(before: Floats, second_layer: Floats, output: Floats) -> None:
    """Output on the three rays, summed in the order of the units."""
    first, second, third = 0.0, 0.0, 0.0
    for i in range(second_layer.size):
        first += second_layer[i] * max(before[0, i], 0.0)
        second += second_layer[i] * max(before[1, i], 0.0)
        third += second_layer[i] * max(before[2, i], 0.0)
    output[0], output[1], output[2] = first, second, third


class UnitsOfQ:
    """Units that see Q. ``rays`` are the three rays, (3, 2); ``output`` is what the block adds on each."""

    def __init__(
        self, units: slice, second_layer: Floats, rays: Floats, scale: float, key: Words, activation_key: Words
    ) -> None:
        self.rays, self.scale = rays, scale
        self.second_layer = second_layer[units]
        count = self.second_layer.size
        self.normals = Normals(key, _REPLICA, units.start, count)
        self.activation_key, self.first = activation_key, units.start
        self.activation_normals: Normals | None = None
        self.lengths = np.sqrt((rays**2).sum(axis=1))
        self.weights = scale * np.stack(self.normals.draw())
        self.before, self.activation_noise = np.empty((3, count)), np.zeros((3, count))
        self.output = np.empty(3)

    def advance(self, pull: Floats, step: Step) -> None:
        """Take a step; ``pull`` (ray, 2) is step size times slope times ray."""
        if step.noise:
            self.normals.draw()
        noise = step.noise * self.scale  # where it is 0, whatever was drawn last does no harm
        left, right = self.normals.left, self.normals.right
        _advance(self.weights, self.before, self.second_layer, pull, step.keep, noise, left, right)

    def look(self, activation_noise: float) -> None:
        """Find the pre-activations on every ray and the output."""
        if activation_noise == 0.0:
            _look_and_send(self.weights, self.rays, self.second_layer, self.before, self.output)
            return
        self._draw_activation_noise(activation_noise * self.scale)
        _look(self.weights, self.rays, self.before, self.activation_noise)
        _send(self.before, self.second_layer, self.output)

    def _draw_activation_noise(self, deviation: float) -> None:
        """Fresh in every unit and ray, and shared by the examples along a ray."""
        if self.activation_normals is None:
            self.activation_normals = Normals(
                self.activation_key, _ACTIVATION_REPLICA, 2 * self.first, 2 * self.second_layer.size
            )
        left, right = self.activation_normals.draw()
        self.activation_noise[0] = deviation * self.lengths[0] * left[::2]
        self.activation_noise[1] = deviation * self.lengths[1] * right[::2]
        self.activation_noise[2] = deviation * self.lengths[2] * left[1::2]
