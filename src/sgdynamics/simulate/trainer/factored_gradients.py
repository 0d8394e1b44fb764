r"""The gradients of all examples at one network, as factors: what can be had from them without holding them all.

With biases as one more row of the weights, the gradient of an example in one layer is the outer product of the values
that enter the layer, :math:`a`, and the derivative with respect to what leaves it, :math:`\delta`. So for all
:math:`n` examples together

.. math:: g_i\cdot v = \sum_l a_i^T V_l\,\delta_i, \qquad
          g_i\cdot g_j = \sum_l (a_i\cdot a_j)(\delta_i\cdot\delta_j), \qquad
          \sum_i c_i g_i = \Big(\sum_i c_i\, a_i\delta_i^T\Big)_l

cost about as much as a gradient (a Gram matrix: :math:`n^2` times the widths), and no array of examples times
parameters is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.gradient_rows import GradientRows
from sgdynamics.simulate.trainer.losses import Loss
from sgdynamics.simulate.trainer.passes import backward, forward

if TYPE_CHECKING:
    from sgdynamics.simulate.trainer.objective import Objective

Array = NDArray[Any]


class FactoredGradients(GradientRows):
    """The gradients of all examples of an objective: one pair of matrices a layer."""

    def __init__(self, what: Objective, loss: Loss) -> None:
        net = what.net
        passed = forward(net.layers(), net.hidden, what.x)
        _, slope = loss.value_and_slope(passed.outputs, what.targets)
        entering, self.deltas = passed.entering, backward(net.layers(), net.hidden, passed, slope)
        ones = np.ones((what.x.shape[0], 1))
        biases = net.biases is not None
        self.entering = [np.hstack([value, ones]) if biases else value for value in entering]
        # the weight decay's part, the same in every example
        self.shift = what.masked(what.weight_decay * net.flat())
        self.what, self.examples, self.size = what, what.x.shape[0], net.size
        sizes = [a.shape[1] * d.shape[1] for a, d in zip(self.entering, self.deltas, strict=True)]
        self.places = [slice(stop - size, stop) for size, stop in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]

    def _pieces(self) -> Iterator[tuple[Array, Array, slice]]:
        """What enters a layer, the derivatives of what leaves it, and its place in the flat vector."""
        return zip(self.entering, self.deltas, self.places, strict=True)

    def rows(self, chosen: slice) -> Array:
        """The gradients of some examples themselves, (some, parameters)."""
        parts = [(a[chosen, :, None] * d[chosen, None, :]).reshape(len(d[chosen]), -1) for a, d, _ in self._pieces()]
        found = self.what.masked(np.concatenate(parts, axis=1))
        return np.asarray(found + self.shift if self.what.weight_decay else found)

    def project(self, directions: Array) -> Array:
        """Components along the columns of ``directions`` (parameters, k): (examples, k)."""
        kept = self.what.masked_columns(directions)
        found = np.broadcast_to(self.shift @ kept, (self.examples, kept.shape[1])).copy()
        for a, d, place in self._pieces():
            tangents = (a @ kept[place].reshape(a.shape[1], -1)).reshape(self.examples, d.shape[1], -1)
            found += np.einsum("ijk,ij->ik", tangents, d)
        return found

    def combine(self, weights: Array) -> Array:
        """Weighted sums over examples, weights (examples, k): (parameters, k)."""
        found = np.empty((self.size, weights.shape[1]))
        for a, d, place in self._pieces():
            weighted = (d[:, :, None] * weights[:, None, :]).reshape(self.examples, -1)
            found[place] = (a.T @ weighted).reshape(-1, weights.shape[1])
        if self.what.trainable is not None:
            found *= self.what.trainable[:, None]
        return np.asarray(found + self.shift[:, None] * weights.sum(axis=0))

    def mean(self) -> Array:
        """The gradient of the mean loss."""
        return self.combine(np.full((self.examples, 1), 1 / self.examples))[:, 0]

    def gram(self) -> Array:
        """Scalar products of the gradients, (examples, examples)."""
        found = np.zeros((self.examples, self.examples))
        for a, d, place in self._pieces():
            if self.what.trainable is None:
                found += (a @ a.T) * (d @ d.T)
                continue
            # outputs whose trainable weights are the same inputs go together
            patterns, group = np.unique(self.what.trainable[place].reshape(a.shape[1], -1), axis=1, return_inverse=True)
            for number, pattern in enumerate(patterns.T):
                of_group = d[:, group == number]
                found += (a[:, pattern] @ a[:, pattern].T) * (of_group @ of_group.T)
        if self.what.weight_decay:
            along = self.project(self.shift[:, None])[:, 0] - 0.5 * self.shift.dot(self.shift)
            found += along[:, None] + along
        return found

    def squared_norms(self) -> Array:
        """The squared length of every gradient, (examples,)."""
        found = np.zeros(self.examples)
        for a, d, place in self._pieces():
            if self.what.trainable is None:
                found += (a * a).sum(axis=1) * (d * d).sum(axis=1)
            else:
                found += (((a * a) @ self.what.trainable[place].reshape(a.shape[1], -1)) * (d * d)).sum(axis=1)
        if self.what.weight_decay:
            found += 2 * self.project(self.shift[:, None])[:, 0] - self.shift.dot(self.shift)
        return found
