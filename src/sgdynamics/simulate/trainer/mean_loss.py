"""What an objective asks of whatever computes its loss: the mean over examples and its derivatives, at any weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from sgdynamics.simulate.trainer.gradient_rows import GradientRows

if TYPE_CHECKING:
    from sgdynamics.simulate.trainer.objective import Objective

Array = NDArray[Any]


class MeanLoss(ABC):
    """The mean loss over examples, without weight decay, of the networks of one kind.

    There are two kinds: the trainer's own with a loss of their outputs, and a user's, whose callables compute it.
    """

    # whether the Gauss-Newton part of a curvature can be told from the rest
    knows_gauss_newton: ClassVar[bool] = False

    @abstractmethod
    def value(self, net: Any, x: Array, targets: Array) -> Any:
        """The loss."""

    @abstractmethod
    def gradient(self, net: Any, x: Array, targets: Array) -> Array:
        """The gradient as one new vector."""

    def value_and_gradient(self, net: Any, x: Array, targets: Array) -> tuple[Any, Array]:
        """Both, where one pass gives both."""
        return self.value(net, x, targets), self.gradient(net, x, targets)

    @abstractmethod
    def products(self, net: Any, x: Array, targets: Array) -> Callable[[Array], Array]:
        """Products of the Hessian with vectors, in new arrays, one at a time."""

    @abstractmethod
    def gradient_rows(self, what: Objective) -> GradientRows:
        """The gradients of all examples of an objective, weight decay included, frozen entries at zero."""

    @abstractmethod
    def curvatures(self, what: Objective, directions: Array, part: str) -> Array:
        """Second derivatives of every example's loss along columns, (examples, directions), weight decay included."""

    @abstractmethod
    def passes(self, net: Any, examples: int) -> Any:
        """Loss and gradient of many batches of so many examples, in the form that the loop of a run takes."""
