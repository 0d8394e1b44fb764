r"""What every mini-batch quadratic is to the first two moments: its gradient noise, and the linear map of one update.

A mini-batch gradient at the error :math:`p` is :math:`H p + \Delta p - f` with the mean Hessian :math:`H`, curvature
noise :math:`\Delta` and force :math:`f`, both of mean 0 and fresh in every step. Given the second moment :math:`X` and
the mean :math:`m` of the point, the gradient noise has the covariance

.. math:: G = E[\Delta X \Delta] - E[\Delta m f^\top] - E[f m^\top \Delta] + E[f f^\top],

and that is all that the first two moments of the iterates can see. With the state :math:`s` of an update,
:math:`s' = A s - J (\Delta p - f)`, :math:`p = P s`, and

.. math:: m' = A m, \qquad S' = A S A^\top + J G J^\top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import instance_of
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic

__all__ = [
    "ANY_MODEL",
    "MATRIX_MODEL",
    "GradientNoise",
    "MatrixModel",
    "gradient_noise",
    "in_eigenbasis",
    "independent_noise",
    "require_independent_batches",
    "transfer",
]

Array = NDArray[np.float64]
MatrixModel: TypeAlias = FullQuadratic | FiniteSumQuadratic | GaussianLeastSquares
MATRIX_MODEL = instance_of(FullQuadratic, FiniteSumQuadratic, GaussianLeastSquares)
ANY_MODEL = instance_of(MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic, GaussianLeastSquares)

# A curvature below this fraction of the terms of which it is the sum is the rounding of 0.
_FLAT = 1e-12
# So is one whose square is nothing beside that of the largest in float64.
_NOTHING = 1e-150


def _nothing(point: Array) -> Array:
    return np.zeros((point.shape[0], point.shape[0]))


@dataclass(frozen=True)
class GradientNoise:
    """The first two moments of the gradient of one mini-batch."""

    hessian: Array  # H
    sampled: Array  # E f f', the part that belongs to which examples are drawn
    fresh: Array  # E f f', the part that is independent of everything
    random: bool  # whether curvature differs from batch to batch
    spread: Callable[[Array], Array] = _nothing  # X -> E Delta X Delta
    cross: Callable[[Array], Array] = _nothing  # m -> E Delta m f'

    @property
    def force(self) -> Array:
        """Covariance of the force."""
        return self.sampled + self.fresh

    def covariance(self, second_moment: Array, mean: Array) -> Array:
        """Covariance of the gradient noise at a random point."""
        if not self.random:
            return self.force
        cross = self.cross(mean)
        return self.spread(second_moment) - cross - cross.T + self.force


def _finite_sum(model: FiniteSumQuadratic) -> GradientNoise:
    draws = model.batch_size
    factor = batch_factor("gradient_noise", model.examples, draws, model.sampling == "replacement")
    weights, hessians, mean = model.probabilities, model.hessians, model.mean_hessian
    with one_blas_thread():
        forces = model.forces
        sampled = factor * (weights[:, None] * forces).T @ forces
        fresh = np.einsum("n,nij->ij", weights, hessians @ model.center_covariance @ hessians) / draws

    def spread(second_moment: Array) -> Array:
        each = np.einsum("n,nij->ij", weights, hessians @ second_moment @ hessians)
        made: Array = factor * (each - mean @ second_moment @ mean)
        return made

    def cross(point: Array) -> Array:
        made: Array = factor * (weights[:, None] * (hessians @ point)).T @ forces
        return made

    random = factor > 0 and bool((hessians[weights > 0] != hessians[weights > 0][0]).any())
    return GradientNoise(mean, sampled, fresh, random, spread, cross)


def _least_squares(model: GaussianLeastSquares) -> GradientNoise:
    variances, draws = model.feature_variance, model.batch_size
    hessian = np.diag(variances)

    def spread(second_moment: Array) -> Array:
        # for Gaussian features E phi phi' X phi phi' = 2 L X L + L tr(L X)
        trace = (variances * np.diagonal(second_moment)).sum()
        made: Array = (np.outer(variances, variances) * second_moment + trace * hessian) / draws
        return made

    return GradientNoise(hessian, np.zeros_like(hessian), model.label_noise / draws * hessian, True, spread)


def gradient_noise(model: MatrixModel) -> GradientNoise:
    """The gradient noise of one mini-batch of a model; of one batch of an epoch where it is reshuffled."""
    if isinstance(model, FullQuadratic):
        with one_blas_thread():
            force = model.hessian @ model.batch_center_covariance @ model.hessian
        return GradientNoise(model.hessian, np.zeros_like(force), force, random=False)
    return _finite_sum(model) if isinstance(model, FiniteSumQuadratic) else _least_squares(model)


def in_eigenbasis(noise: GradientNoise) -> tuple[Array, Array, GradientNoise]:
    """Curvatures that are not 0, their eigenvectors as columns, and the noise in these coordinates.

    Where the mean Hessian is flat so is every other one: nothing moves there and nothing is lost.
    """
    with one_blas_thread():
        curvature, basis = np.linalg.eigh(noise.hessian)
        terms = np.einsum("ik,ij,jk->k", np.abs(basis), np.abs(noise.hessian), np.abs(basis))
        kept = curvature > np.maximum(_FLAT * terms, _NOTHING * curvature[-1])
        curvature, basis = curvature[kept], basis[:, kept]

        def inside(matrix: Array) -> Array:
            made: Array = basis.T @ matrix @ basis
            return made

        def spread(second_moment: Array) -> Array:
            return inside(noise.spread(basis @ second_moment @ basis.T))

        def cross(point: Array) -> Array:
            return inside(noise.cross(basis @ point))

        rotated = GradientNoise(
            np.diag(curvature), inside(noise.sampled), inside(noise.fresh), noise.random, spread, cross
        )
    return curvature, basis, rotated


def transfer(
    hessian: Array, rate: float, momentum: float, nesterov: bool, average: float | None = None
) -> tuple[Array, Array, Array]:
    """A, J and P of one update.

    The state is the error, with momentum followed by the velocity u (heavy ball) or by the last step (Nesterov). With
    ``average``, the weight of the new iterate in an average, a running sum stands at its end.
    """
    size = len(hessian)
    one, slope = np.eye(size), rate * hessian
    if momentum == 0:
        matrix, inlet, outlet = one - slope, rate * one, one
    elif nesterov:
        ahead = momentum * (one - slope)
        matrix = np.block([[one - slope, ahead], [-slope, ahead]])
        inlet, outlet = np.vstack([rate * one, rate * one]), np.hstack([one, momentum * one])
    else:
        matrix = np.block([[one - slope, -rate * momentum * one], [hessian, momentum * one]])
        inlet, outlet = np.vstack([rate * one, -one]), np.hstack([one, 0 * one])
    if average is None:
        return matrix, inlet, outlet
    before = np.zeros((len(matrix), size))
    return (
        np.block([[matrix, before], [average * matrix[:size], one]]),
        np.vstack([inlet, average * inlet[:size]]),
        np.hstack([outlet, np.zeros((size, size))]),
    )


def require_independent_batches(model: Any, noise: GradientNoise | None, owner: str) -> None:
    """Refuse a model whose batches depend on each other, where that matters."""
    if isinstance(model, FiniteSumQuadratic) and model.sampling == "reshuffled" and (noise is None or noise.random):
        raise ValueError(
            f"{owner}: model must draw independent batches where Hessians differ (theory.quadratic.reshuffled_edge is "
            "the edge of reshuffled ones), got sampling 'reshuffled'"
        )


def independent_noise(model: MatrixModel, owner: str) -> tuple[Array, GradientNoise]:
    """Curvatures that are not 0 and the noise in their eigenbasis, of a model that draws independent batches."""
    noise = gradient_noise(model)
    require_independent_batches(model, noise, owner)
    curvature, _, noise = in_eigenbasis(noise)
    return curvature, noise
