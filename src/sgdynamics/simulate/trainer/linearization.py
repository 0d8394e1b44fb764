r"""The passes through a network, kept for products of the Hessian with directions.

Differentiating each line of the forward and the backward pass along a direction :math:`(V, c)` gives the product of the
Hessian with that direction (Pearlmutter's R-operator), exact to rounding, at about the cost of two gradients. With dots
for derivatives along the direction, all of it are products of pairs,

.. math:: \dot z_l = (a_{l-1}, \dot a_{l-1})\begin{pmatrix}V_l\\ W_l\end{pmatrix} + c_l, \qquad
          \dot g_l = \begin{pmatrix}a_{l-1}\\ \dot a_{l-1}\end{pmatrix}^T\begin{pmatrix}\dot\delta_l\\ \delta_l
          \end{pmatrix}, \qquad
          \dot\delta_{l-1} = (\dot\delta_l, \delta_l)\begin{pmatrix}W_l^T\\ V_l^T\end{pmatrix}\varphi'(z_{l-1})
          + (\delta_lW_l^T)\,\varphi''(z_{l-1})\,\dot z_{l-1},

where pairs stand side by side or on top of each other: one matrix product each, and no sum of two. This is a plain
network, with :math:`a` the activation's values; residual connections add to the values, and to :math:`\dot\delta W^T`,
what passes by a layer, and a normalisation puts its Jacobian, and its derivative, in front of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sgdynamics.simulate.trainer.hidden import Hidden
from sgdynamics.simulate.trainer.losses import Loss
from sgdynamics.simulate.trainer.network import Layers
from sgdynamics.simulate.trainer.normalisation import Normalised
from sgdynamics.simulate.trainer.passes import backward_steps, forward

Array = NDArray[Any]


# Examples that go through the first passes together: what is needed only for a moment stays in the cache.
BLOCK = 256


class _Memory:
    """Arrays out of one piece: a system hands out one large piece faster than many."""

    def __init__(self, numbers: int, dtype: DTypeLike) -> None:
        self._left = np.empty(numbers, dtype)

    def take(self, *shape: int) -> Array:
        size = math.prod(shape)
        taken, self._left = self._left[:size], self._left[size:]
        return taken.reshape(shape)


@dataclass
class _Pairs:
    """Where products are computed, by layer of weights.

    A pair of two matrices is read side by side, as (examples, 2 fan), or on top of each other, as (2 examples, fan).
    The first layer has one half of every pair, as x does not move.
    """

    values: list[Array]  # (examples, 2, fan_in): a and its tangent
    changes: list[Array]  # (examples, 2, fan_out): the tangent of delta, and delta
    tangents: list[Array]  # (examples, fan_out): of z
    below: list[Array]  # (2, fan_in, fan_out): V on top of W
    beside: list[Array]  # (fan_in, 2, fan_out): W beside V

    def converted(self, dtype: DTypeLike) -> _Pairs:
        """The same for another kind of numbers."""
        return _Pairs(*([array.astype(dtype) for array in getattr(self, field.name)] for field in fields(self)))


class Linearization:
    """One forward and one backward pass, kept for as many Hessian-vector products as wanted.

    The products share memory: one at a time.
    """

    def __init__(self, layers: Layers, hidden: Hidden, loss: Loss, x: Array, targets: Array) -> None:
        self.weights, self.hidden = layers.weights, hidden
        self.dtype = np.result_type(x, *layers.weights, *(layers.biases or ()))
        self._prepare(x)
        for first in range(0, len(x), BLOCK):
            self._pass(layers, loss, x, targets, slice(first, first + BLOCK))
        self.curving = loss.curving(self.outputs, targets, self.slope)
        self._complex: _Pairs | None = None

    def _prepare(self, x: Array) -> None:
        """Memory for everything that has a row for each example."""
        examples, shapes = len(x), [weight.shape for weight in self.weights]
        hidden = [fan_in for fan_in, _ in shapes[1:]]
        memory = _Memory(examples * (4 * sum(hidden) + sum(3 * fan_out for _, fan_out in shapes)), self.dtype)
        self._pairs = _Pairs(
            [x.astype(self.dtype, copy=False)[:, None], *(memory.take(examples, 2, fan) for fan in hidden)],
            [memory.take(examples, 1 + (layer > 0), fan_out) for layer, (_, fan_out) in enumerate(shapes)],
            [memory.take(examples, fan_out) for _, fan_out in shapes],
            [np.stack([weight] * (1 + (layer > 0))) for layer, weight in enumerate(self.weights)],
            [np.stack([weight] * (1 + (layer > 0)), axis=1) for layer, weight in enumerate(self.weights)],
        )
        self.outputs, self.slope = np.empty((2, examples, shapes[-1][1]), self.dtype)  # and of the loss in the outputs
        self.slopes = [memory.take(examples, fan) for fan in hidden]
        # dl/dh phi''(z): how the backward pass bends with z; absent where phi'' = 0
        bent = self.hidden.activation.bend is not None
        self.bends = [memory.take(examples, fan) if bent else None for fan in hidden]
        # what phi'' takes: in a plain network of activations of the value, what enters the next layer
        self.shares = self.hidden.plain and self.hidden.activation.of_value
        entering = [values[:, 0] for values in self._pairs.values[1:]]
        self.kept = entering if self.shares else [np.empty_like(features) for features in entering]
        self.normalised: list[Normalised] = []
        if self.hidden.layer_norm is not None:
            self.normalised = [Normalised(features, np.empty((examples, 1), self.dtype)) for features in entering]
            self.features_back = [np.empty_like(features) for features in entering]  # dl/de

    def _pass(self, layers: Layers, loss: Loss, x: Array, targets: Array, rows: slice) -> None:
        """Forward and backward through some of the examples."""
        passed, bend = forward(layers, self.hidden, x[rows]), self.hidden.activation.bend
        self.outputs[rows] = passed.outputs
        self.slope[rows] = loss.value_and_slope(passed.outputs, targets[rows])[1]
        delta = self.slope[rows] / len(x)
        for layer, back in backward_steps(layers, self.hidden, passed, delta):
            before, bends = layer - 1, self.bends[layer - 1]
            self._pairs.values[layer][rows, 0] = passed.entering[layer]
            self._pairs.changes[layer][rows, 1] = delta
            self.slopes[before][rows] = back.slope
            if bend is not None and bends is not None:
                np.multiply(back.stream, bend(passed.kept[before]), out=bends[rows])
            if not self.shares:
                self.kept[before][rows] = passed.kept[before]
            if self.normalised:
                self.normalised[before].spread[rows] = passed.normalised[before].spread
                self.features_back[before][rows] = back.features
            delta = back.delta

    @property
    def values(self) -> list[Array]:
        """What enters every layer: x, a_1, ..., a_{L-1} in a plain network."""
        return [pair[:, 0] for pair in self._pairs.values]

    @property
    def deltas(self) -> list[Array]:
        """The derivatives of the mean loss in z_1, ..., z_L; that in z_1 is not kept."""
        return [pair[:, -1] for pair in self._pairs.changes]

    def curvature(self, direction: Array) -> Array:
        """The Hessian of the mean loss in the outputs times a direction of them."""
        return np.asarray(self.curving(direction) / len(self.slope))

    def _pairs_for(self, direction: Layers) -> _Pairs:
        if np.result_type(self.dtype, direction.weights[0]) == self.dtype:
            return self._pairs
        if self._complex is None:
            self._complex = self._pairs.converted(np.complex128)
        return self._complex

    def _moved(self, direction: Layers) -> tuple[_Pairs, list[Array]]:
        """The tangents of all values along a direction; those of h_1, ..., h_{L-1}."""
        pairs = self._pairs_for(direction)
        streams: list[Array] = []
        for layer, step in enumerate(direction.weights):
            values, below, tangent = pairs.values[layer], pairs.below[layer], pairs.tangents[layer]
            below[0] = step
            np.matmul(_side_by_side(values), below.reshape(-1, below.shape[-1]), out=tangent)
            if direction.biases is not None:
                tangent += direction.biases[layer]
            if layer + 1 < len(self.weights):
                moved = pairs.values[layer + 1][:, 1]
                np.multiply(tangent, self.slopes[layer], out=moved)
                if self.hidden.adds(layer, step):
                    moved += streams[-1]
                streams.append(moved.copy() if self.normalised else moved)
                if self.normalised:
                    moved[:] = self.normalised[layer].along(streams[-1])
        return pairs, streams

    def write_product(self, direction: Layers, into: Layers) -> None:
        """The Hessian of the mean loss times a direction, written into views of a flat vector."""
        pairs, streams = self._moved(direction)
        np.divide(self.curving(pairs.tangents[-1]), len(self.slope), out=pairs.changes[-1][:, 0])
        behind = None  # what passes by the layer behind, see passes.backward_steps
        for layer in range(len(self.weights) - 1, -1, -1):
            values, changes = pairs.values[layer], pairs.changes[layer]
            np.matmul(_stacked(values).T, _stacked(changes), out=into.weights[layer])
            if into.biases is not None:
                np.add.reduce(changes[:, 0], axis=0, out=into.biases[layer])
            if layer > 0:
                beside, change, bend = pairs.beside[layer], pairs.changes[layer - 1][:, 0], self.bends[layer - 1]
                beside[:, 1] = direction.weights[layer]
                np.matmul(_side_by_side(changes), _side_by_side(beside).T, out=change)
                if self.normalised:
                    here, back = self.normalised[layer - 1], self.features_back[layer - 1]
                    change[:] = here.along(change) + here.turned(back, streams[layer - 1], values[:, 1])
                if behind is not None:
                    change += behind
                behind = change.copy() if self.hidden.adds(layer - 1, self.weights[layer - 1]) else None
                change *= self.slopes[layer - 1]
                if bend is not None:
                    tangent = pairs.tangents[layer - 1]
                    tangent *= bend
                    change += tangent

    def gauss_newton_curvatures(self, direction: Layers) -> Array:
        """The part of :meth:`curvatures` that the curvature of the loss in the outputs makes."""
        moved = self._moved(direction)[0].tangents[-1]
        return np.asarray((moved * self.curving(moved)).sum(axis=1))

    def curvatures(self, direction: Layers) -> Array:
        """The second derivative of every example's loss along a direction."""
        pairs, streams = self._moved(direction)
        second = np.zeros_like(pairs.tangents[0])  # second derivatives of z along the direction
        stream = None  # of h of the layer before
        for layer in range(1, len(self.weights)):
            tangent, bend = pairs.tangents[layer - 1], self.hidden.activation.bend
            bent = second * self.slopes[layer - 1]
            if bend is not None:
                bent += bend(self.kept[layer - 1]) * tangent**2
            if stream is not None and self.hidden.adds(layer - 1, self.weights[layer - 1]):
                bent += stream
            stream = bent
            if self.normalised:
                here, moved = self.normalised[layer - 1], streams[layer - 1]
                bent = here.along(bent) + here.turned(moved, moved, pairs.values[layer][:, 1])
            second = bent @ self.weights[layer]
            second += 2 * (pairs.values[layer][:, 1] @ direction.weights[layer])
        moved = pairs.tangents[-1]
        return np.asarray((moved * self.curving(moved) + self.slope * second).sum(axis=1))


def _side_by_side(pair: Array) -> Array:
    return pair.reshape(pair.shape[0], -1)


def _stacked(pair: Array) -> Array:
    return pair.reshape(-1, pair.shape[-1])
