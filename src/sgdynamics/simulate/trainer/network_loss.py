"""A loss of the outputs of the trainer's own networks, with exact derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.factored_gradients import FactoredGradients
from sgdynamics.simulate.trainer.linearization import Linearization
from sgdynamics.simulate.trainer.losses import InPlaceLoss, Loss
from sgdynamics.simulate.trainer.mean_loss import MeanLoss
from sgdynamics.simulate.trainer.network import Network
from sgdynamics.simulate.trainer.passes import Passes, forward, value_and_gradient
from sgdynamics.simulate.trainer.workspace import Workspace

if TYPE_CHECKING:
    from sgdynamics.simulate.trainer.objective import Objective

Array = NDArray[Any]


class HessianProducts:
    """Products of the Hessian at one point with vectors, one at a time; the passes are computed once."""

    def __init__(self, net: Network, passes: Linearization) -> None:
        self.net, self.passes = net, passes

    def __call__(self, v: Array) -> Array:
        """H v."""
        result = np.empty(v.shape, np.result_type(v, self.passes.dtype))
        self.passes.write_product(self.net.views(v), self.net.views(result))
        return result


class NetworkLoss(MeanLoss):
    """The mean of a loss of the outputs."""

    knows_gauss_newton = True

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def value_and_gradient(self, net: Network, x: Array, targets: Array) -> tuple[Any, Array]:
        """The loss, and its gradient as one new vector."""
        result = np.empty_like(net.flat())
        value = value_and_gradient(net.layers(), net.hidden, self.loss, x, targets, net.views(result))
        return value, result

    def gradient(self, net: Network, x: Array, targets: Array) -> Array:
        """The gradient as one new vector, by backpropagation."""
        return self.value_and_gradient(net, x, targets)[1]

    def value(self, net: Network, x: Array, targets: Array) -> Any:
        """The loss, by a forward pass alone."""
        total, _ = self.loss.value_and_slope(forward(net.layers(), net.hidden, x).outputs, targets)
        return total / x.shape[0]

    def linearization(self, net: Network, x: Array, targets: Array) -> Linearization:
        """The passes at the weights of a network."""
        return Linearization(net.layers(), net.hidden, self.loss, x, targets)

    def products(self, net: Network, x: Array, targets: Array) -> HessianProducts:
        """Products of the Hessian with vectors, by Pearlmutter's R-operator."""
        return HessianProducts(net, self.linearization(net, x, targets))

    def gradient_rows(self, what: Objective) -> FactoredGradients:
        """The gradients of all examples, as factors."""
        return FactoredGradients(what, self.loss)

    def curvatures(self, what: Objective, directions: Array, part: str) -> Array:
        """Second derivatives of every example's loss along columns, or their Gauss-Newton part."""
        passes = self.linearization(what.net, what.x, what.targets)
        columns = []
        for direction in np.ascontiguousarray(what.masked_columns(directions).T):
            layers = what.net.views(direction)
            if part == "gauss_newton":
                columns.append(passes.gauss_newton_curvatures(layers))
            else:
                columns.append(passes.curvatures(layers) + what.weight_decay * direction.dot(direction))
        return np.stack(columns, axis=1)

    def passes(self, net: Network, examples: int) -> Workspace | Passes:
        """Loss and gradient of many batches of so many examples, where it can be in arrays that are made once."""
        in_place = net.hidden.activation.in_place
        if net.hidden.plain and in_place is not None and isinstance(self.loss, InPlaceLoss):
            return Workspace(net.widths, in_place, self.loss, examples)
        return Passes(net.hidden, self.loss)
