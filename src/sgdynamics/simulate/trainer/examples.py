r"""Derivatives of every example's loss, and what can be had from them without holding them all.

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
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked, choice, complain
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.derivatives import Objective, data_domains, objective, trainable_domain
from sgdynamics.simulate.trainer.gradient_rows import GradientRows
from sgdynamics.simulate.trainer.losses import AnyLoss
from sgdynamics.simulate.trainer.network import AnyNetwork, Network
from sgdynamics.simulate.trainer.passes import backward, forward
from sgdynamics.simulate.trainer.user_network import UserExampleGradients, UserNetwork

__all__ = ["per_example_curvatures", "per_example_gradients"]

Array = NDArray[Any]


def _factors(what: Objective, net: Network) -> tuple[list[Array], list[Array]]:
    """What enters every layer of weights, and the derivatives of what leaves it, (examples, ...) each."""
    passed = forward(net.layers(), net.hidden, what.x)
    _, slope = what.loss.value_and_slope(passed.outputs, what.targets)
    return passed.entering, backward(net.layers(), net.hidden, passed, slope)


class ExampleGradients(GradientRows):
    """The gradients of all examples at one network, as factors: one pair of matrices a layer."""

    def __init__(self, what: Objective, net: Network) -> None:
        entering, self.deltas = _factors(what, net)
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
        return np.asarray(self.what.masked(np.concatenate(parts, axis=1)) + self.shift)

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


@checked(**data_domains, trainable=trainable_domain)
def per_example_gradients(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> Array:
    r"""The gradient of every example's loss; their mean over examples is :func:`gradient`.

    Parameters
    ----------
    net, x, y, loss, weight_decay
        As for :func:`loss_value`; the weight decay is part of every example's loss.
    trainable : array of bool, shape (parameters,), optional
        The gradients are zero at the other parameters.

    Returns
    -------
    array, shape (examples, parameters)
        Raw rows: their covariance is the gradient noise of batches of one.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import network, per_example_gradients
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> per_example_gradients(net, [[1.0], [3.0]], [1.0, 6.0], "mse")
    array([[1.],
           [0.]])
    """
    what = objective("per_example_gradients", net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    with one_blas_thread(), np.errstate(all="ignore"):
        if isinstance(net, UserNetwork):
            return UserExampleGradients(what, net).rows(slice(None))
        examples = what.x.shape[0]
        parts = []
        for entering, delta in zip(*_factors(what, net), strict=True):
            parts.append((entering[:, :, None] * delta[:, None, :]).reshape(examples, -1))
            if net.biases is not None:
                parts.append(delta)
        rows = np.concatenate(parts, axis=1)
        if weight_decay:
            rows += weight_decay * net.flat()
        kept: Array = what.masked(rows)
    return kept


@checked(**data_domains, v=arguments.columns, part=choice("whole", "gauss_newton"))
def per_example_curvatures(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    v: ArrayLike,
    loss: AnyLoss,
    *,
    weight_decay: float = 0.0,
    part: str = "whole",
) -> Array:
    r"""The second derivative of every example's loss along directions; their mean is :math:`v^T H v`.

    With :math:`z` the outputs of the network at an example and dots for derivatives along :math:`v`,

    .. math:: h_i = \dot z^T \frac{\partial^2\ell}{\partial z^2}\,\dot z
              + \frac{\partial\ell}{\partial z}\cdot\ddot z + \lambda |v|^2 .

    The first term is the Gauss-Newton part, never negative; the second vanishes where the example is fitted, and need
    not be small elsewhere.

    Parameters
    ----------
    net, x, y, loss, weight_decay
        As for :func:`loss_value`; the weight decay is part of every example's loss.
    v : array, shape (parameters,) or (parameters, directions)
        One direction, or several as columns; not normalised.
    part : {"whole", "gauss_newton"}
        All of it, or the first term alone.

    Returns
    -------
    array, shape (examples,) or (examples, directions)
        :math:`h_i = v^T H_i v`, or its Gauss-Newton part.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import network, per_example_curvatures
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> per_example_curvatures(net, [[1.0], [3.0]], [1.0, 6.0], [1.0], "mse")
    array([1., 9.])
    """
    what = objective("per_example_curvatures", net, x, y, loss, weight_decay)  # type: ignore[arg-type]
    given: Array = v  # type: ignore[assignment]
    arguments.length("per_example_curvatures", "v", given, net.size, "parameters")
    with one_blas_thread(), np.errstate(all="ignore"):
        found = curvatures_along(what, net, given.reshape(net.size, -1), part)
    return found[:, 0] if given.ndim == 1 else found


def example_gradients(what: Any, net: AnyNetwork) -> ExampleGradients | UserExampleGradients:
    """The gradients of all examples at one network."""
    return UserExampleGradients(what, net) if isinstance(net, UserNetwork) else ExampleGradients(what, net)


def curvatures_along(what: Any, net: AnyNetwork, directions: Array, part: str = "whole") -> Array:
    """Second derivatives of every example's loss along columns, (examples, directions)."""
    if isinstance(net, UserNetwork):
        if part == "gauss_newton":
            raise complain("per_example_curvatures", "part", "'whole' for a UserNetwork", part)
        found: Array = what.curvatures(net, directions)
        return found
    passes = what.linearization(net)
    kept = what.masked_columns(directions)
    columns = []
    for direction in np.ascontiguousarray(kept.T):
        layers = net.views(direction)
        if part == "gauss_newton":
            columns.append(passes.gauss_newton_curvatures(layers))
        else:
            columns.append(passes.curvatures(layers) + what.weight_decay * direction.dot(direction))
    return np.stack(columns, axis=1)
