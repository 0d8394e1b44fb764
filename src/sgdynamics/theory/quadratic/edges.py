r"""How large a learning rate may be for the mean and for the second moment.

Where all batches share one Hessian the two agree, with each other and with the edge of almost every path
(:mod:`~sgdynamics.theory.quadratic.path_edges`). Random Hessians pull them apart: the mean feels the mean Hessian
alone, the second moment also its fluctuation.

Everything here but :func:`mean_edge` takes batches that are independent from step to step; see
:mod:`~sgdynamics.theory.quadratic.finite_data` for reshuffled ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast, overload

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Numeric, Spanned, Value, checked, flag, positive, swept, unit_interval
from sgdynamics.formula import law
from sgdynamics.models.quadratic import GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory._roots import bracketed_root, root_below
from sgdynamics.theory._symmetric_maps import edge_of_second_moment
from sgdynamics.theory.quadratic._gradient_noise import (
    ANY_MODEL,
    MATRIX_MODEL,
    GradientNoise,
    MatrixModel,
    gradient_noise,
    independent_noise,
    transfer,
)
from sgdynamics.theory.quadratic._kernel import edge_gain, variance_edge_gain
from sgdynamics.theory.quadratic._positive_map import radius
from sgdynamics.theory.quadratic._sweep import over_points, unswept
from sgdynamics.theory.quadratic.least_squares import trace_rule_term

__all__ = [
    "mean_edge",
    "mean_square_growth",
    "one_step_edge",
    "second_moment_edge",
]

Array = NDArray[np.float64]

# Rates at which the first crossing is bracketed, and up to how many directions the roots of a polynomial say that none
# was missed between two of them.
_GRID, _FEW = 64, 8


@overload
def mean_edge(model: MatrixModel, *, momentum: float | Value = 0.0, nesterov: bool = False) -> Value: ...
@overload
def mean_edge(model: MiniBatchQuadratic, *, momentum: Spanned = 0.0, nesterov: bool = False) -> Spanned: ...
@law(PARAMETERS, quantity="learning rate")
@checked(model=ANY_MODEL, momentum=unit_interval, nesterov=flag)
def mean_edge(model: MiniBatchQuadratic | MatrixModel, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Learning rate at which the mean ceases to be stable, :func:`stability_edge` of the largest mean curvature.

    Status: exact.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
    momentum : Numeric
        :math:`\beta` in [0, 1); an array or DataArray sweeps.

    Returns
    -------
    Numeric
        A float, or labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic
    >>> mean_edge(FiniteSumQuadratic([0.5, 1.5]))
    2.0
    """
    if isinstance(model, MiniBatchQuadratic):
        largest: Numeric = model.labelled()[0].max("mode")
        largest = unswept(largest)
    else:
        with one_blas_thread():
            largest = float(np.linalg.eigvalsh(gradient_noise(model).hessian)[-1])
    return edge_gain(momentum, nesterov) / largest


def _trace_rule_edge(model: GaussianLeastSquares, momentum: float, nesterov: bool) -> float:
    variances, draws = model.feature_variance, model.batch_size
    pole = float(variance_edge_gain(1 / draws, momentum, nesterov) / variances.max())

    def balance(rate: float) -> float:  # from -1 at a rate of 0 to 1 at the pole, 0 where the terms add to 1
        total = float(np.sum(trace_rule_term(rate * variances, draws, momentum=momentum, nesterov=nesterov)))
        return 1 - 2 / (1 + total)

    return root_below(balance, pole)


def _table(noise: GradientNoise, rate: float, momentum: float, nesterov: bool) -> Array:
    """The map of one step on second moments, on the entries of symmetric matrices of the state."""
    matrix, inlet, outlet = transfer(noise.hessian, rate, momentum, nesterov)
    rows, columns = np.triu_indices(len(matrix))
    table = np.empty((rows.size, rows.size))
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        unit = np.zeros_like(matrix)
        unit[row, column] = unit[column, row] = 1.0
        moved = matrix @ unit @ matrix.T + inlet @ noise.spread(outlet @ unit @ outlet.T) @ inlet.T
        table[:, place] = moved[rows, columns]
    return table


def _roots(noise: GradientNoise, limit: float, momentum: float, nesterov: bool) -> Array:
    """Rates below a limit at which 1 is an eigenvalue of the map of one step, sorted; some at 0 among them."""
    from scipy.linalg import eigvals

    # with rates in units of the limit, a displacement and a step are of one size whatever the unit of curvature
    scaled = replace(noise, hessian=limit * noise.hessian, spread=lambda matrix: limit * noise.spread(limit * matrix))
    with one_blas_thread():
        start, middle, end = (_table(scaled, share, momentum, nesterov) for share in (0.0, 0.5, 1.0))
        bent, one, none = 2 * (start - 2 * middle + end), np.eye(len(start)), np.zeros_like(start)
        shares = eigvals(
            np.block([[none, one], [one - start, -(end - start - bent)]]), np.block([[one, none], [none, bent]])
        )
    # a double root may have left the real line by the root of the rounding
    real = np.isfinite(shares) & (np.abs(shares.imag) < 1e-6) & (shares.real > 0) & (shares.real < 1)
    return np.sort(limit * shares.real[real])


def _between(roots: Array) -> Array:
    """Points that no two roots leave without one between them."""
    return np.concatenate([np.sqrt(roots[1:] * roots[:-1]), roots])


@overload
def second_moment_edge(model: MatrixModel, *, momentum: float | Value = 0.0, nesterov: bool = False) -> Value: ...
@overload
def second_moment_edge(model: MiniBatchQuadratic, *, momentum: Spanned = 0.0, nesterov: bool = False) -> Spanned: ...
@law(PARAMETERS, quantity="learning rate")
@checked(model=ANY_MODEL, momentum=swept(unit_interval), nesterov=flag)
def second_moment_edge(
    model: MiniBatchQuadratic | MatrixModel, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> Numeric:
    r"""Learning rate at which the second moment ceases to be stable.

    For plain SGD the largest :math:`\eta` with spectral radius :math:`\rho(E[(I-\eta H_B) \otimes (I-\eta H_B)]) \le
    1`. This is linear in :math:`\eta`: the edge is the reciprocal of the largest eigenvalue of
    :math:`E[H_B X H_B] = \mu (\bar H X + X \bar H)` on symmetric matrices. With momentum :math:`A_B`, the matrix of one
    update, takes the place of :math:`I - \eta H_B`; the edge is then the first rate at which gradient noise makes
    enough error to make itself. The spectral radius of the map, which is positive, is one of its eigenvalues, and the
    map is quadratic in the rate: up to 8 directions the edge is a root of :math:`\det(1 - E[A_B \otimes A_B])`, above
    it is found on a grid of 64 rates and refined. For Gaussian least squares it is the rate at which the terms of
    :func:`trace_rule_term` add to 1.

    The second moments of all pairs of directions are coupled, :math:`d(d+1)/2` numbers. Above 20 directions the map is
    applied and not tabulated, :math:`O(n d^3)` a time.

    Status: exact; with momentum and more than 8 directions that the first crossing is not missed between two of the 64
    rates is not proved.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Where all batches share one Hessian this is :func:`mean_edge`.

    Returns
    -------
    Numeric
        A float, or labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or examples of different curvature are reshuffled.

    Examples
    --------
    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic
    >>> second_moment_edge(FiniteSumQuadratic([0.5, 1.5]))
    1.6
    """
    if isinstance(model, MiniBatchQuadratic):
        return mean_edge(model, momentum=momentum, nesterov=nesterov)
    curvature, noise = independent_noise(model, "second_moment_edge")

    def core(momentum: Array) -> float:
        beta = float(momentum)
        if isinstance(model, GaussianLeastSquares):
            return _trace_rule_edge(model, beta, nesterov)
        limit = float(edge_gain(beta, nesterov) / curvature[-1])
        if not noise.random:
            return limit
        if curvature.size == 1:
            relative_variance = noise.spread(np.eye(1))[0, 0] / curvature[0] ** 2
            return float(variance_edge_gain(relative_variance, beta, nesterov) / curvature[0])
        if beta == 0:
            products = np.outer(curvature, curvature)
            return edge_of_second_moment(curvature, lambda matrix: products * matrix + noise.spread(matrix))

        def excess(rate: float) -> float:
            return radius(noise, curvature, rate, beta, nesterov) - 1

        grid = limit * np.append(np.arange(1, _GRID) / _GRID, 1 - 1e-12)
        if curvature.size <= _FEW:
            grid = np.sort(np.append(grid, _between(_roots(noise, limit, beta, nesterov))))
        below = grid[0]
        if excess(below) >= 0:
            return root_below(excess, below)
        # curvature noise diverges at the edge of the mean, if only there
        for rate in grid[1:]:
            if excess(rate) >= 0:
                return bracketed_root(excess, below, rate)
            below = rate
        return limit

    (made,) = over_points(core, [(momentum, [])], [[]], {})
    return unswept(made)


@law(PARAMETERS, quantity="factor")
@checked(model=MATRIX_MODEL, learning_rate=swept(positive), momentum=swept(unit_interval), nesterov=flag)
def mean_square_growth(
    model: MatrixModel, learning_rate: float | Value, *, momentum: float | Value = 0.0, nesterov: bool = False
) -> Value:
    r"""Asymptotic factor per step of the second moment, :math:`\rho(E[A_B \otimes A_B])`.

    :math:`A_B` is the matrix of one update, :math:`I - \eta H_B` for plain SGD. Directions that are flat for every
    batch, where nothing moves, are left out. The map is tabulated on symmetric matrices of the state: meant for up to
    some 30 directions.

    Status: exact.

    Parameters
    ----------
    model : FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares

    Returns
    -------
    Numeric
        Below 1 where stable in mean square. A float, or labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or examples of different curvature are reshuffled.

    Examples
    --------
    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic
    >>> round(mean_square_growth(FiniteSumQuadratic([0.5, 1.5]), 1.6), 12)
    1.0
    """
    _, noise = independent_noise(model, "mean_square_growth")

    def core(rate: Array, momentum: Array) -> float:
        with one_blas_thread():
            return float(np.abs(np.linalg.eigvals(_table(noise, float(rate), float(momentum), nesterov))).max())

    (made,) = over_points(core, [(learning_rate, []), (momentum, [])], [[]], {})
    return cast("Value", unswept(made))


@law(quantity="learning rate")
@checked(model=MATRIX_MODEL)
def one_step_edge(model: MatrixModel) -> float:
    r"""Largest learning rate at which no point's expected squared distance grows in any one step.

    .. math:: \lambda_{\max}\bigl\{ (I - \eta \bar H)^2 + \eta^2 \operatorname{Cov} \bigr\} \le 1, \qquad
        \operatorname{Cov} = E H_B^2 - \bar H^2,

    that is :math:`\eta = 2/\lambda_{\max}(\bar H^{-1/2} E[H_B^2] \bar H^{-1/2})`. From n examples without replacement
    :math:`\operatorname{Cov} = \frac{n-S}{S(n-1)} (\operatorname{mean} H_i^2 - \bar H^2)`.

    Status: bound, from below, of :func:`second_moment_edge` for plain SGD: sufficient for stability in mean square, not
    necessary in general; in one direction the two agree. Distances may grow in one step and shrink in the next.

    Parameters
    ----------
    model : FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If the model is none of these or examples of different curvature are reshuffled.

    Examples
    --------
    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic
    >>> model = FiniteSumQuadratic([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    >>> round(one_step_edge(model), 12), round(second_moment_edge(model), 12)
    (2.0, 2.0)
    """
    curvature, noise = independent_noise(model, "one_step_edge")
    second = np.diag(curvature**2) + noise.spread(np.eye(curvature.size))
    with one_blas_thread():
        scaled = second / np.sqrt(np.outer(curvature, curvature))
        return float(2 / np.linalg.eigvalsh((scaled + scaled.T) / 2)[-1])
