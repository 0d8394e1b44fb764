"""Exact mean and covariance at any step for models whose directions do not separate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.theory.quadratic._gradient_noise import GradientNoise, MatrixModel, gradient_noise, transfer

__all__ = ["batches_of_an_epoch", "matrix_moments"]

Array = NDArray[np.float64]


def batches_of_an_epoch(model: MatrixModel, noise: GradientNoise, owner: str) -> int:
    """Number of batches that share one partition of the examples; 1 if batches are independent."""
    if not isinstance(model, FiniteSumQuadratic) or model.sampling != "reshuffled":
        return 1
    if noise.random:
        raise ValueError(
            f"{owner}: model must have one Hessian for all examples where it is reshuffled (products of different "
            f"Hessians over an epoch have no closed moments), got {model.examples} examples of different curvature"
        )
    return model.examples // model.batch_size


class _State:
    r"""Mean and covariance of the state.

    Reshuffled, the forces of the m batches of an epoch add to 0: each has the covariance of one batch of a simple
    random sample and any two the covariance :math:`-1/(m-1)` times that. The covariance of :math:`\sum_k W_k f_k` is
    then :math:`\frac{m}{m-1} \sum_k W_k F W_k^\top - \frac{1}{m-1} (\sum_k W_k) F (\sum_k W_k)^\top`: a recursion as
    for independent batches, and a debt that is paid when the epoch is over.
    """

    def __init__(self, noise: GradientNoise, start: Array, batches: int, size: int) -> None:
        self.noise = noise
        self.batches = batches
        self.mean = np.zeros(size)
        self.mean[: start.size] = start
        self.covariance = np.zeros((size, size))
        self.weight = np.zeros((size, start.size))  # sum of W_k so far in this epoch
        self.used = 0

    def step(self, matrix: Array, inlet: Array, outlet: Array) -> None:
        if self.noise.random:
            point = outlet @ self.mean
            second = outlet @ self.covariance @ outlet.T + np.outer(point, point)
            noise = self.noise.covariance(second, point)
        else:
            inflation = self.batches / (self.batches - 1) if self.batches > 1 else 1.0
            noise = inflation * self.noise.sampled + self.noise.fresh
        self.mean = matrix @ self.mean
        self.covariance = matrix @ self.covariance @ matrix.T + inlet @ noise @ inlet.T
        if self.batches > 1:
            self.weight = matrix @ self.weight + inlet
            self.used += 1
            if self.used == self.batches:
                self.covariance = self.covariance - self._debt()
                self.weight = np.zeros_like(self.weight)
                self.used = 0

    def _debt(self) -> Array:
        debt: Array = self.weight @ self.noise.sampled @ self.weight.T / max(self.batches - 1, 1)
        return debt

    def read(self, size: int, average: bool) -> tuple[Array, Array]:
        """Mean and covariance of the iterate, or of the average at the end of the state."""
        part = slice(-size, None) if average else slice(0, size)
        covariance = self.covariance - self._debt() if self.used else self.covariance
        return self.mean[part], covariance[part, part]


def matrix_moments(
    model: MatrixModel, schedule: Array, average: Array | None, momentum: float, nesterov: bool, record: Array
) -> tuple[Array, Array]:
    """Mean (recorded, mode) and covariance (recorded, mode, mode)."""
    noise = gradient_noise(model)
    size = model.modes
    batches = batches_of_an_epoch(model, noise, "moments")
    blocks = (1 if momentum == 0 else 2) + (average is not None)
    state = _State(noise, model.start, batches, blocks * size)
    if average is not None:
        state.mean[-size:] = average[0] * model.start
    mean, covariance = np.empty((record.size, size)), np.empty((record.size, size, size))
    rows = {int(step): row for row, step in enumerate(record)}
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for step in range(int(record[-1]) + 1):
            if step:
                weight = None if average is None else float(average[step])
                state.step(*transfer(noise.hessian, float(schedule[step - 1]), momentum, nesterov, weight))
            if step in rows:
                mean[rows[step]], covariance[rows[step]] = state.read(size, average is not None)
    # what has overflowed turns to inf - inf a step later
    return tuple(np.where(np.isnan(values), np.inf, values) for values in (mean, covariance))  # type: ignore[return-value]
