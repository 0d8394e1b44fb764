r"""Losses of the outputs of a network: values, slopes and curvatures per example.

Half the squared error summed over outputs, the cross-entropy :math:`\log\sum_j e^{z_j} - \langle t, z\rangle` of
targets :math:`t` that are class probabilities, and any other as callables. Nothing here divides by the number of
examples, takes absolute values or casts to real.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import Domain, choice, complain
from sgdynamics.simulate.trainer.arguments import length
from sgdynamics.simulate.trainer.elementwise import residual, softmax_residual
from sgdynamics.simulate.trainer.user_network import OWN_LOSS

Array = NDArray[Any]
# A direction in the outputs, (examples, outputs), to the second derivative times it.
Curving: TypeAlias = Callable[[Array], Array]


class Loss(ABC):
    """A loss of outputs (examples, outputs) and targets, summed over examples."""

    @abstractmethod
    def value_and_slope(self, outputs: Array, targets: Array) -> tuple[Any, Array]:
        """Loss and slope in new arrays."""

    @abstractmethod
    def curving(self, outputs: Array, targets: Array, slope: Array) -> Curving:
        """The second derivative with respect to the outputs, as what it does to a direction."""


@dataclass(frozen=True, eq=False)
class InPlaceLoss(Loss):
    """A loss of targets of the outputs' shape that needs no new arrays.

    ``write_slope(z, biases, targets, slope, column)`` fills the slope at the outputs z + b, and may use up z and a
    column (examples, 1); ``value(z, targets, column)`` makes the loss of what it left there. ``bend(targets, slope)``
    is :meth:`curving`, for which the slope says enough.
    """

    write_slope: Callable[[Array, Array | None, Array, Array, Array], None]
    value: Callable[[Array, Array, Array], Any]
    bend: Callable[[Array, Array], Curving]

    def value_and_slope(self, outputs: Array, targets: Array) -> tuple[Any, Array]:
        """Loss and slope in new arrays."""
        outputs = outputs.copy()
        slope, column = np.empty_like(outputs), np.empty_like(outputs[:, :1])
        self.write_slope(outputs, None, targets, slope, column)
        return self.value(outputs, targets, column), slope

    def curving(self, outputs: Array, targets: Array, slope: Array) -> Curving:
        """The second derivative with respect to the outputs, as what it does to a direction."""
        return self.bend(targets, slope)


@dataclass(frozen=True, eq=False)
class OwnLoss(Loss):
    """A loss as callables of outputs and targets.

    Attributes
    ----------
    value : callable
        The loss of every example, (examples,).
    slope : callable
        Its derivative with respect to the outputs, (examples, outputs).
    second : callable, optional
        Its second derivative, (examples, outputs, outputs), or (examples, outputs) if that is diagonal.
    """

    value: Callable[[Array, Array], Any]
    slope: Callable[[Array, Array], Any]
    second: Callable[[Array, Array], Any] | None

    def __str__(self) -> str:
        return OWN_LOSS

    def value_and_slope(self, outputs: Array, targets: Array) -> tuple[Any, Array]:
        """Loss and slope in new arrays."""
        values = _returned("value", self.value(outputs, targets), outputs.shape[:1])
        return values.sum(), _returned("slope", self.slope(outputs, targets), outputs.shape).copy()

    def curving(self, outputs: Array, targets: Array, slope: Array) -> Curving:
        """The second derivative with respect to the outputs, as what it does to a direction."""
        if self.second is None:
            text = "a triple (value, slope, second derivative) of callables where curvature is measured"
            raise complain("network", "loss", text, "a pair")
        found = self.second(outputs, targets)
        if np.ndim(found) == 2:
            diagonal = _returned("second derivative", found, outputs.shape)
            return lambda direction: diagonal * direction
        matrices = _returned("second derivative", found, (*outputs.shape, outputs.shape[1]))
        return lambda direction: np.asarray(np.einsum("ijk,ik->ij", matrices, direction))


def _returned(part: str, found: Any, shape: tuple[int, ...]) -> Array:
    array = np.asarray(found)
    if array.shape != shape:
        raise complain("network", "loss", f"callables whose {part} has shape {shape}", f"shape {array.shape}")
    return array


def _half_squared_error(outputs: Array, targets: Array, column: Array) -> Any:
    residual = (outputs - targets).ravel()
    return 0.5 * residual.dot(residual)


def _cross_entropy(shifted: Array, targets: Array, total: Array) -> Any:
    return np.log(total).sum() - targets.ravel().dot(shifted.ravel())


def _softmax_curving(targets: Array, slope: Array) -> Curving:
    probabilities = slope + targets

    def curved(direction: Array) -> Array:
        weighted = probabilities * direction
        return np.asarray(weighted - probabilities * weighted.sum(axis=1, keepdims=True))

    return curved


LOSSES = {
    "mse": InPlaceLoss(residual, _half_squared_error, lambda targets, slope: lambda direction: direction),
    "cross_entropy": InPlaceLoss(softmax_residual, _cross_entropy, _softmax_curving),
}
AnyLoss: TypeAlias = str | Sequence[Callable[[Array, Array], Any]] | OwnLoss

named_loss: Domain = choice(*LOSSES)
_OF_THE_TRAINER = (
    f"one of {', '.join(map(repr, LOSSES))}, or two or three callables of outputs and targets: "
    "(value, slope) or (value, slope, second derivative)"
)


@dataclass(frozen=True)
class _ALoss:
    text: str = f"{_OF_THE_TRAINER}; {OWN_LOSS!r} for a UserNetwork"

    def check(self, owner: str, name: str, value: Any) -> str | OwnLoss:
        if isinstance(value, OwnLoss):
            return value
        if isinstance(value, str):
            if value not in (*LOSSES, OWN_LOSS):
                raise complain(owner, name, self.text, value)
            return value
        if not isinstance(value, Sequence) or not all(map(callable, value)):
            raise complain(owner, name, self.text, value, TypeError)
        if len(value) not in (2, 3):
            raise complain(owner, name, self.text, value)
        return OwnLoss(value[0], value[1], value[2] if len(value) == 3 else None)


# the name 'own' is for networks whose callables compute the loss
loss_domain: Domain = _ALoss()


def as_loss(loss: str | OwnLoss) -> Loss:
    """A checked loss as what the passes take."""
    return LOSSES[loss] if isinstance(loss, str) else loss


def check_examples(owner: str, x: Array, inputs: int, y: Array, outputs: int, loss: AnyLoss) -> None:
    """Refuse examples that do not fit a network, or targets that do not fit the loss."""
    if loss == OWN_LOSS:
        raise complain(owner, "loss", f"{_OF_THE_TRAINER}, for a network made by network(...)", loss)
    if x.shape[1] != inputs:
        raise complain(owner, "x", f"of shape (examples, {inputs})", f"shape {x.shape}")
    length(owner, "y", y, x.shape[0], "examples")
    if isinstance(loss, OwnLoss):
        return
    if loss == "cross_entropy" and y.ndim == 1:
        good = (y >= 0) & (y < outputs) & (y == np.floor(y))
        if not good.all():
            raise complain(owner, "y", f"integer labels in 0..{outputs - 1}", y[~good][0].item())
        return
    single = loss == "mse" and outputs == 1 and y.ndim == 1
    if not single and y.shape != (x.shape[0], outputs):
        raise complain(owner, "y", f"of shape ({x.shape[0]}, {outputs}) for the loss {loss!r}", f"shape {y.shape}")
    if loss == "cross_entropy":
        good = (y >= 0).all(axis=1) & (np.abs(y.sum(axis=1) - 1) <= 1e-9)
        if not good.all():
            raise complain(owner, "y", "rows of probabilities >= 0 that sum to 1", y[~good][0].tolist())


def as_targets(y: Array, outputs: int, loss: str | OwnLoss) -> Array:
    """Checked targets as the loss takes them: a matrix (examples, outputs), labels as rows of the identity; as they
    are for callables.
    """
    if y.ndim == 2 or isinstance(loss, OwnLoss):
        return y
    return np.eye(outputs)[y.astype(np.int64)] if loss == "cross_entropy" else y[:, None]
