r"""Curvature noise as a positive map of the gradient noise, and the edge where it feeds itself.

At stationarity gradient noise :math:`G` gives the points at which gradients are taken the covariance
:math:`\kappa \circ G`, entry by entry in the eigenbasis of the mean Hessian, and these make gradient noise
:math:`E[\Delta (\kappa \circ G) \Delta]`. So :math:`G = K(G) + F` with
:math:`K(G) = E[\Delta (\kappa \circ G) \Delta]` and the covariance :math:`F` of the force. Both parts keep positive
semidefinite matrices so, hence a stationary second moment exists if and only if the mean is stable and the spectral
radius of :math:`K` is below 1. That is the same condition as spectral radius
:math:`\rho(E[A_B \otimes A_B]) < 1` for the matrix :math:`A_B` of one update, momentum included, but on the
:math:`d(d+1)/2` entries of one symmetric matrix, and :math:`\sqrt\kappa \circ E[\Delta (\sqrt\kappa \circ G) \Delta]`
is a symmetric map with the same spectrum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.theory._symmetric_maps import SymmetricMatrices, largest_eigenvalue
from sgdynamics.theory.quadratic._gradient_noise import GradientNoise
from sgdynamics.theory.quadratic._kernel import gradient_point_parts, kernel_parts

__all__ = ["kernel_matrices", "radius", "self_consistent_noise"]

Array = NDArray[np.float64]


def kernel_matrices(curvature: Array, rate: float, momentum: float, nesterov: bool) -> tuple[Array, Array]:
    """What gradient noise is to be multiplied by, for the covariance of the iterates and of the gradient's points."""
    gain, pairs = rate * curvature, np.outer(curvature, curvature)
    made = []
    for parts in (kernel_parts, gradient_point_parts):
        numerator, denominator = parts(gain[:, None], gain[None, :], momentum, nesterov)
        made.append(numerator / denominator / pairs)
    return made[0], made[1]


def _symmetrised(noise: GradientNoise, kernel: Array) -> Callable[[Array], Array]:
    root = np.sqrt(kernel)
    return lambda matrix: root * noise.spread(root * matrix)


def radius(noise: GradientNoise, curvature: Array, rate: float, momentum: float, nesterov: bool) -> float:
    """Spectral radius of K, for a rate at which the mean is stable; 0 if all batches have the same curvature."""
    if not noise.random:
        return 0.0
    _, kernel = kernel_matrices(curvature, rate, momentum, nesterov)
    return largest_eigenvalue(_symmetrised(noise, kernel), curvature.size)


def self_consistent_noise(noise: GradientNoise, kernel: Array) -> Array:
    """The solution G of G = K(G) + F for the kernel of the gradient's points, where the spectral radius is below 1."""
    from scipy.sparse.linalg import cg

    if not noise.random:
        return noise.force
    root = np.sqrt(kernel)
    space = SymmetricMatrices(len(kernel))
    symmetrised = _symmetrised(noise, kernel)
    right = space.vector(root * noise.force)
    with one_blas_thread():
        operator = space.operator(lambda matrix: matrix - symmetrised(matrix))
        if isinstance(operator, np.ndarray):
            solution = np.asarray(np.linalg.solve(operator, right), dtype=np.float64)
        else:
            solution = cg(operator, right, rtol=1e-13, maxiter=4 * right.size)[0]
    noisy: Array = space.matrix(solution) / root
    return noisy
