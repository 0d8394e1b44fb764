"""Stationary covariances of models whose directions do not separate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.models.quadratic import GaussianLeastSquares
from sgdynamics.theory.quadratic._gradient_noise import (
    GradientNoise,
    MatrixModel,
    gradient_noise,
    in_eigenbasis,
    transfer,
)
from sgdynamics.theory.quadratic._kernel import edge_gain, gradient_point_parts, kernel_parts
from sgdynamics.theory.quadratic._matrix_moments import batches_of_an_epoch
from sgdynamics.theory.quadratic._positive_map import kernel_matrices, radius, self_consistent_noise

__all__ = ["lagged_covariance", "regression_variance", "stationary_covariance"]

Array = NDArray[np.float64]


def regression_variance(model: GaussianLeastSquares, rate: float, momentum: float, nesterov: bool) -> Array:
    r"""Stationary variance per mode by the trace rule, +inf beyond the mean-square edge.

    The error of every mode feeds the noise of all others through one number, the expected squared prediction error at
    the gradient's point: the gradient noise of mode i is :math:`\lambda_i \sigma^2 / ((S - k_i')(1 - \sum_j r_j))`
    with the terms :math:`r = k'/(S - k')`.
    """
    gain = rate * model.feature_variance
    numerator, denominator = kernel_parts(gain, gain, momentum, nesterov)
    ahead, _ = gradient_point_parts(gain, gain, momentum, nesterov)
    room = model.batch_size * denominator - ahead
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((gain < edge_gain(momentum, nesterov)) & (room > 0), ahead / room, np.inf)
        if share.sum() >= 1:
            return np.full(gain.size, np.inf)
        variance: Array = model.label_noise * numerator / (room * model.feature_variance * (1 - share.sum()))
    return variance


def _epoch(noise: GradientNoise, rate: float, momentum: float, nesterov: bool, batches: int) -> tuple[Array, Array]:
    """Matrix of an epoch of reshuffled batches, and the covariance of the noise that it adds."""
    matrix, inlet, _ = transfer(noise.hessian, rate, momentum, nesterov)
    size = len(matrix)
    covariance, weight = np.zeros((size, size)), np.zeros((size, inlet.shape[1]))
    per_batch = inlet @ (batches / (batches - 1) * noise.sampled + noise.fresh) @ inlet.T
    for _ in range(batches):
        covariance = matrix @ covariance @ matrix.T + per_batch
        weight = matrix @ weight + inlet
    return np.linalg.matrix_power(matrix, batches), covariance - weight @ noise.sampled @ weight.T / (batches - 1)


def _settled(
    model: MatrixModel, rate: float, momentum: float, nesterov: bool, owner: str
) -> tuple[GradientNoise, Array, Array, int] | None:
    """Noise in the eigenbasis, curvatures, basis and batches of an epoch; None beyond the mean-square edge."""
    noise = gradient_noise(model)
    batches = batches_of_an_epoch(model, noise, owner)
    curvature, basis, noise = in_eigenbasis(noise)
    if rate * curvature[-1] >= edge_gain(momentum, nesterov):
        return None
    if noise.random and radius(noise, curvature, rate, momentum, nesterov) >= 1:
        return None
    return noise, curvature, basis, batches


def stationary_covariance(model: MatrixModel, rate: float, momentum: float, nesterov: bool) -> Array:
    """Covariance (mode, mode) of the iterates, of epoch ends where batches are reshuffled; +inf beyond the edge."""
    from scipy.linalg import solve_discrete_lyapunov

    infinite = np.full((model.modes, model.modes), np.inf)
    if isinstance(model, GaussianLeastSquares):
        variance = regression_variance(model, rate, momentum, nesterov)
        return infinite if np.isinf(variance).any() else np.diag(variance)
    settled = _settled(model, rate, momentum, nesterov, "stationary")
    if settled is None:
        return infinite
    noise, curvature, basis, batches = settled
    with one_blas_thread():
        if batches > 1:
            matrix, added = _epoch(noise, rate, momentum, nesterov, batches)
            size = curvature.size
            inside = solve_discrete_lyapunov(matrix, added)[:size, :size]
        else:
            kernel, ahead = kernel_matrices(curvature, rate, momentum, nesterov)
            inside = kernel * self_consistent_noise(noise, ahead)
        covariance: Array = basis @ inside @ basis.T
    return (covariance + covariance.T) / 2


def lagged_covariance(model: MatrixModel, rate: float, lags: Array, momentum: float, nesterov: bool) -> Array:
    """Covariance (lag, mode, mode) of iterates k steps apart, the later one first; +inf beyond the edge."""
    from scipy.linalg import solve_discrete_lyapunov

    settled = _settled(model, rate, momentum, nesterov, "autocovariance")
    if settled is None:
        return np.full((lags.size, model.modes, model.modes), np.inf)
    noise, curvature, basis, batches = settled
    if batches > 1:
        raise ValueError(
            "autocovariance: model must draw independent batches (reshuffled, the law changes within an epoch), got "
            "sampling 'reshuffled'"
        )
    size = curvature.size
    made = np.empty((lags.size, model.modes, model.modes))
    with one_blas_thread():
        kernel, ahead = kernel_matrices(curvature, rate, momentum, nesterov)
        gradient = self_consistent_noise(noise, ahead)
        matrix, inlet, _ = transfer(noise.hessian, rate, momentum, nesterov)
        state = kernel * gradient if momentum == 0 else solve_discrete_lyapunov(matrix, inlet @ gradient @ inlet.T)
        for row, lag in enumerate(lags):
            # given the present, batches to come only add what is independent of it
            later = np.linalg.matrix_power(matrix, int(lag)) @ state
            made[row] = basis @ later[:size, :size] @ basis.T
    return made
