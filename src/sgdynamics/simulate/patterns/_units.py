r"""Blocks of hidden units: their weights, what they send to the output, and their part of a step.

A step of a block takes the slopes of the loss at the present iterate,

.. math:: U \leftarrow (1 - h\lambda) U - h \nabla L(U) + \sigma \epsilon,

and then looks at the examples again. Blocks share nothing but the slopes that they read.

=========  ===============================================================  ==========================================
units see  forward                                                          streams of unit i
=========  ===============================================================  ==========================================
P          all examples that carry P, by two products of matrices           :math:`i \lceil d/2 \rceil + j`: entries j
                                                                            and :math:`\lceil d/2 \rceil + j`
Q          three rays in a plane, since relu is positively homogeneous:     :math:`i`: both entries
           the output at :math:`\alpha` times a ray is :math:`\alpha`
           times that at the ray
=========  ===============================================================  ==========================================

The first pair of normals of a stream makes the start, every later one the noise of a step. Noise in the
pre-activations has streams of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._normals import Floats, Words, fill_normals, open_streams

_REPLICA = np.uint64(0)
# Replicas of the streams of activation noise: one for each kind of unit.
_SEES_P, _SEES_Q = np.uint64(0), np.uint64(1)


class Step(NamedTuple):
    """One step, but for the slopes."""

    size: float
    keep: float  # 1 - h lambda
    noise: float  # deviation of what is added to a weight, in units of its deviation at the start; 0 for none
    activation_noise: float  # at the new iterate: deviation over |x|, in units of the same; 0 for none


class _Normals:
    """A pair of normals at a time from each of many streams."""

    def __init__(self, key: Words, replica: np.uint64, first: int, streams: int) -> None:
        self.states = np.empty((4, streams), np.uint64)
        self.left, self.right = np.empty((2, streams))
        open_streams(key, replica, first, self.states)

    def draw(self) -> tuple[Floats, Floats]:
        fill_normals(self.states, self.left, self.right)
        return self.left, self.right


class UnitsOfP:
    """Units that see P.

    ``inputs`` are the examples that carry it, (examples, dimension); ``output`` is what the block adds to each.
    """

    def __init__(
        self, units: slice, second_layer: Floats, inputs: Floats, scale: float, key: Words, activation_key: Words
    ) -> None:
        self.inputs, self.scale = inputs, scale
        self.second_layer = second_layer[units]
        examples, dimension = inputs.shape
        count = self.second_layer.size
        self.half, self.examples_half = (dimension + 1) // 2, (examples + 1) // 2
        self.normals = _Normals(key, _REPLICA, units.start * self.half, count * self.half)
        self.activation_key, self.first = activation_key, units.start
        self.activation_normals: _Normals | None = None
        self.lengths = np.sqrt((inputs**2).sum(axis=1))
        self.weights = np.zeros((count, dimension))
        self.before, self.active = np.empty((2, examples, count))
        self.gradient = np.empty((count, dimension))
        self.output = np.empty(examples)
        self._add_normals(scale)

    def _add_normals(self, deviation: float) -> None:
        left, right = (part.reshape(-1, self.half) for part in self.normals.draw())
        self.weights[:, : self.half] += deviation * left
        self.weights[:, self.half :] += deviation * right[:, : self.weights.shape[1] - self.half]

    def advance(self, slope: Floats, step: Step) -> None:
        """Take a step; ``slope`` is the derivative of the loss with respect to the output at each example."""
        np.multiply(self.before >= 0.0, slope[:, None], out=self.active)
        np.dot(self.active.T, self.inputs, out=self.gradient)
        self.gradient *= self.second_layer[:, None]
        self.weights *= step.keep
        self.weights -= step.size * self.gradient
        if step.noise:
            self._add_normals(step.noise * self.scale)

    def look(self, activation_noise: float) -> None:
        """Find the pre-activations of every example and the output."""
        np.dot(self.inputs, self.weights.T, out=self.before)
        if activation_noise:
            self._add_activation_noise(activation_noise * self.scale)
        np.maximum(self.before, 0.0, out=self.active)
        np.dot(self.active, self.second_layer, out=self.output)

    def _add_activation_noise(self, deviation: float) -> None:
        """Fresh in every unit and example."""
        count, half = self.second_layer.size, self.examples_half
        if self.activation_normals is None:
            self.activation_normals = _Normals(self.activation_key, _SEES_P, self.first * half, count * half)
        left, right = (part.reshape(count, half).T for part in self.activation_normals.draw())
        size = deviation * self.lengths[:, None]
        self.before[:half] += size[:half] * left
        self.before[half:] += size[half:] * right[: len(self.before) - half]

    def output_at(self, inputs: Floats) -> Floats:
        """What the block adds at other examples, without activation noise."""
        values: Floats = np.maximum(inputs @ self.weights.T, 0.0) @ self.second_layer
        return values


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
    """A step of the units that see Q; ``pull`` (ray, 2) is step size times slope times ray."""
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
        self.normals = _Normals(key, _REPLICA, units.start, count)
        self.activation_key, self.first = activation_key, units.start
        self.activation_normals: _Normals | None = None
        self.lengths = np.sqrt((rays**2).sum(axis=1))
        self.weights = scale * np.stack(self.normals.draw())
        self.before, self.activation_noise = np.empty((3, count)), np.zeros((3, count))
        self.output = np.empty(3)

    def advance(self, slope: Floats, step: Step) -> None:
        """Take a step; ``slope`` is the derivative of the loss with respect to the output on each ray."""
        if step.noise:
            left, right = self.normals.draw()
        else:
            left, right = self.normals.left, self.normals.right  # whatever was drawn last, times 0
        pull = step.size * slope[:, None] * self.rays
        _advance(self.weights, self.before, self.second_layer, pull, step.keep, step.noise * self.scale, left, right)

    def look(self, activation_noise: float) -> None:
        """Find the pre-activations on every ray and the output."""
        self._draw_activation_noise(activation_noise * self.scale)
        _look(self.weights, self.rays, self.before, self.activation_noise)
        _send(self.before, self.second_layer, self.output)

    def _draw_activation_noise(self, deviation: float) -> None:
        """Fresh in every unit and ray, and shared by the examples along a ray."""
        if deviation == 0.0:
            self.activation_noise[:] = 0.0
            return
        if self.activation_normals is None:
            self.activation_normals = _Normals(self.activation_key, _SEES_Q, 2 * self.first, 2 * self.second_layer.size)
        left, right = self.activation_normals.draw()
        self.activation_noise[0] = deviation * self.lengths[0] * left[::2]
        self.activation_noise[1] = deviation * self.lengths[1] * right[::2]
        self.activation_noise[2] = deviation * self.lengths[2] * left[1::2]
