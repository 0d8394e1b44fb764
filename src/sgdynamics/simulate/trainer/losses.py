r"""Losses of the outputs of a network: values, slopes and curvatures per example.

Half the squared error summed over outputs, and the cross-entropy :math:`\log\sum_j e^{z_j} - \langle t, z\rangle` of
targets :math:`t` that are class probabilities. Nothing here divides by the number of examples, takes absolute values or
casts to real.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import choice, complain
from sgdynamics.simulate.trainer.arguments import length
from sgdynamics.simulate.trainer.user_network import OWN_LOSS

Array = NDArray[Any]


class Loss(NamedTuple):
    """A loss of outputs (examples, outputs) and targets of the same shape, summed over examples.

    ``write_slope(outputs, targets, slope, column)`` fills the slope, and may use up the outputs and a column (examples,
    1); ``value(outputs, targets, column)`` makes the loss of what it left there.
    """

    write_slope: Callable[[Array, Array, Array, Array], None]
    value: Callable[[Array, Array, Array], Any]
    # (slope, targets, direction) -> second derivative with respect to the outputs, times the direction
    curvature: Callable[[Array, Array, Array], Array]

    def value_and_slope(self, outputs: Array, targets: Array) -> tuple[Any, Array]:
        """Loss and slope in new arrays."""
        outputs = outputs.copy()
        slope, column = np.empty_like(outputs), np.empty_like(outputs[:, :1])
        self.write_slope(outputs, targets, slope, column)
        return self.value(outputs, targets, column), slope


def _residual(outputs: Array, targets: Array, slope: Array, column: Array) -> None:
    np.subtract(outputs, targets, slope)


def _half_squared_error(outputs: Array, targets: Array, column: Array) -> Any:
    residual = (outputs - targets).ravel()
    return 0.5 * residual.dot(residual)


def _softmax_residual(outputs: Array, targets: Array, slope: Array, column: Array) -> None:
    # Shifted by the largest real part, which leaves the loss unchanged and keeps the exponentials finite.
    largest = column.real
    np.maximum.reduce(outputs.real, axis=1, keepdims=True, out=largest)
    np.subtract(outputs, largest, outputs)
    np.exp(outputs, slope)
    np.add.reduce(slope, axis=1, keepdims=True, out=column)
    np.divide(slope, column, slope)
    np.subtract(slope, targets, slope)


def _cross_entropy(shifted: Array, targets: Array, total: Array) -> Any:
    return np.log(total).sum() - targets.ravel().dot(shifted.ravel())


def _softmax_curvature(slope: Array, targets: Array, direction: Array) -> Array:
    probabilities = slope + targets
    weighted = probabilities * direction
    return np.asarray(weighted - probabilities * weighted.sum(axis=1, keepdims=True))


LOSSES = {
    "mse": Loss(_residual, _half_squared_error, lambda slope, targets, direction: direction),
    "cross_entropy": Loss(_softmax_residual, _cross_entropy, _softmax_curvature),
}

# the last is for networks whose callables compute the loss
loss_name = choice(*LOSSES, OWN_LOSS)


def check_examples(owner: str, x: Array, inputs: int, y: Array, outputs: int, loss: str) -> None:
    """Refuse examples that do not fit a network, or targets that do not fit the loss."""
    if loss not in LOSSES:
        raise complain(owner, "loss", f"one of {', '.join(map(repr, LOSSES))} for a network of the trainer's", loss)
    if x.shape[1] != inputs:
        raise complain(owner, "x", f"of shape (examples, {inputs})", f"shape {x.shape}")
    length(owner, "y", y, x.shape[0], "examples")
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


def some_examples(owner: str, x: Array, y: Array, subset: Array) -> tuple[Array, Array]:
    """The examples of the given numbers."""
    if subset.max() >= len(x):
        raise complain(owner, "subset", f"example numbers in 0..{len(x) - 1}", int(subset.max()))
    return x[subset], y[subset]


def as_targets(y: Array, outputs: int, loss: str) -> Array:
    """Checked targets as a matrix (examples, outputs); labels become rows of the identity."""
    if y.ndim == 2:
        return y
    return np.eye(outputs)[y.astype(np.int64)] if loss == "cross_entropy" else y[:, None]
