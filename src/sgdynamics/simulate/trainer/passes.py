r"""The passes through a network: forward and backward.

With :math:`e_0 = x`, :math:`z_l = e_{l-1}W_l + b_l`, what hidden layers make of it, :math:`h_l = \varphi(z_l) +
r_lh_{l-1}` and :math:`e_l = N(h_l)`, and :math:`\delta_l = \partial\ell/\partial z_l`,

.. math:: \frac{\partial\ell}{\partial h_l} = J_l(\delta_{l+1}W_{l+1}^T)
          + r_{l+1}\frac{\partial\ell}{\partial h_{l+1}}, \qquad
          \delta_l = \frac{\partial\ell}{\partial h_l}\,\varphi'(z_l), \qquad
          \frac{\partial\ell}{\partial W_l} = e_{l-1}^T\delta_l, \qquad
          \frac{\partial\ell}{\partial b_l} = 1^T\delta_l ,

with :math:`J` the Jacobian of the normalisation. In a plain network :math:`e_l = h_l = \varphi(z_l)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.hidden import Hidden
from sgdynamics.simulate.trainer.losses import Loss
from sgdynamics.simulate.trainer.network import Layers
from sgdynamics.simulate.trainer.normalisation import Normalised, normalise

Array = NDArray[Any]


class Passed(NamedTuple):
    """What a forward pass leaves for those backward."""

    entering: list[Array]  # what enters every layer of weights: x, e_1, ..., e_{L-1}
    kept: list[Array]  # by hidden layer, what the derivatives of the activation take
    normalised: list[Normalised]  # by hidden layer; empty without normalisation
    outputs: Array  # z_L


def _linear(layers: Layers, layer: int, entering: Array) -> Array:
    z = entering @ layers.weights[layer]
    if layers.biases is not None:
        z += layers.biases[layer]
    return np.asarray(z)


def forward(layers: Layers, hidden: Hidden, x: Array) -> Passed:
    """The forward pass."""
    activation, stream = hidden.activation, x
    entering: list[Array] = [x]
    kept: list[Array] = []
    normalised: list[Normalised] = []
    for layer, weight in enumerate(layers.weights[:-1]):
        z = _linear(layers, layer, entering[-1])
        value = activation.value(z)
        kept.append(value if activation.of_value else z)
        stream = value + stream if hidden.adds(layer, weight) else value
        if hidden.layer_norm is None:
            entering.append(stream)
        else:
            normalised.append(normalise(stream, hidden.layer_norm))
            entering.append(normalised[-1].features)
    return Passed(entering, kept, normalised, _linear(layers, -1, entering[-1]))


class Back(NamedTuple):
    """What the backward pass finds at a hidden layer: derivatives of the loss, and the slope of the activation."""

    features: Array  # dl/de
    stream: Array  # dl/dh
    slope: Any  # phi'
    delta: Array  # dl/dz


def backward_steps(layers: Layers, hidden: Hidden, passed: Passed, slope: Array) -> Iterator[tuple[int, Back]]:
    """The backward pass from the derivative with respect to z_L, hidden layers L-1, ..., 1."""
    delta, behind = slope, None  # behind: the derivative with respect to h_{l+1}, where that has h_l in it
    for layer in range(len(layers.weights) - 1, 0, -1):
        features = delta @ layers.weights[layer].T
        stream = passed.normalised[layer - 1].along(features) if passed.normalised else features
        if behind is not None:
            stream = stream + behind
        behind = stream if hidden.adds(layer - 1, layers.weights[layer - 1]) else None
        slope_here = hidden.activation.slope(passed.kept[layer - 1])
        delta = stream * slope_here
        yield layer, Back(features, stream, slope_here, delta)


def backward(layers: Layers, hidden: Hidden, passed: Passed, slope: Array) -> list[Array]:
    """The derivatives with respect to z_1, ..., z_L, from the one with respect to z_L."""
    deltas = [slope, *(back.delta for _, back in backward_steps(layers, hidden, passed, slope))]
    return deltas[::-1]


def write_gradient(entering: list[Array], deltas: list[Array], into: Layers) -> None:
    """Derivatives with respect to weights and biases, written into views of a flat vector."""
    for layer, delta in enumerate(deltas):
        np.matmul(entering[layer].T, delta, out=into.weights[layer])
        if into.biases is not None:
            np.add.reduce(delta, axis=0, out=into.biases[layer])


def value_and_gradient(layers: Layers, hidden: Hidden, loss: Loss, x: Array, targets: Array, into: Layers) -> Any:
    """The mean loss; its gradient is written into views of a flat vector."""
    passed = forward(layers, hidden, x)
    total, slope = loss.value_and_slope(passed.outputs, targets)
    slope /= x.shape[0]
    write_gradient(passed.entering, backward(layers, hidden, passed, slope), into)
    return total / x.shape[0]


class Passes:
    """Loss and gradient of batches, in the form that the loop of a run takes, for any hidden layers and loss."""

    def __init__(self, hidden: Hidden, loss: Loss) -> None:
        self.hidden, self.loss = hidden, loss

    def loss_value(self, layers: Layers, x: Array, targets: Array) -> float:
        """The mean loss."""
        outputs = forward(layers, self.hidden, x).outputs
        return float(self.loss.value_and_slope(outputs, targets)[0] / len(x))

    def write_gradient(self, layers: Layers, x: Array, targets: Array, into: Layers, want_loss: bool) -> float | None:
        """The gradient of the mean loss, written into views of a flat vector; the loss itself if it is wanted."""
        value = value_and_gradient(layers, self.hidden, self.loss, x, targets, into)
        return float(value) if want_loss else None
