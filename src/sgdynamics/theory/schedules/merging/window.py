r"""One window of a run, mode by mode: what a weighted point is made of, and what it risks.

SGD with momentum, :math:`u_j = \beta u_{j-1} + h (e_{j-1} - \xi_j)`, :math:`e_j = e_{j-1} - \eta_j u_j`, is linear in
the start :math:`e_0`, its velocity :math:`u_0` and the centers :math:`\xi_1..\xi_T`, and so is every average of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.quadratic import stationary_variance
from sgdynamics.theory.schedules._along_steps import Array


def _center_weights(rates: Array, averages: Array, curvature: Array, momentum: float) -> Iterator[Array]:
    """Weights (run, mode) of the centers T..1, then of the start, then of its velocity, in averages of several runs.

    The adjoint of the state is pulled back step by step; an average adds its weight to the adjoint of the point.
    """
    point = np.multiply.outer(averages[:, -1], np.ones_like(curvature))
    pull = np.zeros_like(point)
    for j in range(rates.shape[1] - 1, -1, -1):
        velocity = pull - rates[:, j, None] * point
        force = curvature * velocity
        yield -force
        pull = momentum * velocity
        point = point + force + averages[:, j, None]
    yield point
    yield pull


@dataclass(frozen=True)
class Moments:
    """Expected excess risks (run, mode): what is left of the start, of its velocity, and the noise of the batches."""

    start: Array
    velocity: Array
    noise: Array

    @property
    def bias(self) -> Array:
        """All that the start leaves."""
        return self.start + self.velocity

    @property
    def risk(self) -> Array:
        """Everything."""
        return self.bias + self.noise


@dataclass(frozen=True)
class Window:
    """The law of the start, the noise and the share of every mode in the risk."""

    curvature: Array
    noise: Array
    share: Array  # n h / 2
    start: Array  # second moments of e_0, of e_0 u_0 and of u_0
    mixed: Array
    speed: Array
    momentum: float

    @classmethod
    def of(cls, model: MiniBatchQuadratic, rate: float, momentum: float, at_rest: bool) -> Self:
        """The window of a run that has settled at ``rate``, or that starts from the displacement of the model."""
        curvature, noise, displacement, multiplicity = (field.values for field in model.labelled())
        nothing = np.zeros_like(curvature)
        if displacement.any():
            start, mixed, speed = displacement**2, nothing, nothing
        else:
            start = noise * stationary_variance(rate * curvature, momentum=momentum)
            # e_j^2 = (e_{j-1} - eta u_j)^2 and e_{j-1} u_j = (beta u_{j-1} + h e_{j-1}) e_{j-1}, on average
            mixed = nothing if at_rest else -curvature * start / (1 + momentum)
            speed = nothing if at_rest else -2 * mixed / rate
        return cls(curvature, noise, multiplicity * curvature / 2, start, mixed, speed, momentum)

    def moments(self, rates: Array, averages: Array) -> tuple[Moments, Moments]:
        """Of averages of several runs on the same batches, and of their differences from the last of them."""
        size = len(rates)
        squares, ends = np.zeros((2 * size, self.curvature.size)), []
        for step, weights in enumerate(_center_weights(rates, averages, self.curvature, self.momentum)):
            rows = np.concatenate([weights, weights - weights[-1]])
            if step < rates.shape[1]:
                squares += rows**2
            else:
                ends.append(rows)
        start, velocity = ends
        parts = (
            self.start * start**2,
            (2 * self.mixed * start + self.speed * velocity) * velocity,
            self.noise * squares,
        )
        return (
            Moments(*(self.share * part[:size] for part in parts)),
            Moments(*(self.share * part[size:] for part in parts)),
        )

    def transition(self, rate: float) -> tuple[Array, Array]:
        """Matrix of one step on (e, u) or on e alone, and what the center adds to it, both by mode."""
        gain = rate * self.curvature
        if self.momentum == 0:
            return (1 - gain)[:, None, None], gain[:, None]
        ones = np.ones_like(gain)
        matrix = [[1 - gain, -rate * self.momentum * ones], [self.curvature, self.momentum * ones]]
        return np.moveaxis(np.array(matrix), -1, 0), np.stack([gain, -self.curvature], axis=-1)

    def start_covariance(self) -> Array:
        """Of (e, u) or of e alone, by mode."""
        if self.momentum == 0:
            return self.start[:, None, None]
        return np.moveaxis(np.array([[self.start, self.mixed], [self.mixed, self.speed]]), -1, 0)
