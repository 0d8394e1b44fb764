r"""Bounds of the mean-square edge that need no eigenvalue of a map on matrices.

With the noise share :math:`p = \frac{n-S}{S(n-1)}` of batches of S from n examples (:math:`1/S` with replacement), the
second moment of plain SGD moves as

.. math:: \Sigma' = \Sigma - \eta\, 2C(\Sigma) + \eta^2 D(\Sigma), \qquad
    C(\Sigma) = \tfrac12 (H\Sigma + \Sigma H), \qquad
    D(\Sigma) = (1-p) H \Sigma H + \frac pn \sum_i H_i \Sigma H_i,

which is also what happens where every step is one of full-batch descent with probability :math:`1-p`, and on a single
example with probability p: batches of any size are stable where this mixture is. The edge is two over the largest
value of :math:`\langle X, D X\rangle / \langle X, C X\rangle` over symmetric matrices, so that every :math:`X` that is
tried bounds it from above.
"""

from __future__ import annotations

import numpy as np

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked
from sgdynamics.formula import law
from sgdynamics.theory.quadratic._gradient_noise import MATRIX_MODEL, MatrixModel, independent_noise
from sgdynamics.theory.quadratic.random_curvature import mean_square_edge_gain

__all__ = ["top_direction_edge", "trace_edge"]


@law(quantity="learning rate")
@checked(model=MATRIX_MODEL)
def trace_edge(model: MatrixModel) -> float:
    r"""Learning rate beyond which SGD is unstable in mean square, from traces alone.

    .. math:: \eta \le \frac{2 \operatorname{tr} H}{(1-p) \|H\|_F^2 + \frac pn \sum_i \|H_i\|_F^2},

    :math:`X = I` in the bound of this module. It is the edge where the stationary covariance of the most dangerous
    noise is isotropic, for instance for orthogonal examples of equal size.

    Status: bound, from above, of :func:`second_moment_edge` for plain SGD and independent batches.

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
    >>> trace_edge(FiniteSumQuadratic([0.5, 1.5]))
    1.6
    """
    curvature, noise = independent_noise(model, "trace_edge")
    with one_blas_thread():
        spread = np.trace(noise.spread(np.eye(curvature.size)))
    return float(2 * curvature.sum() / (np.sum(curvature**2) + spread))


@law(quantity="learning rate")
@checked(model=MATRIX_MODEL)
def top_direction_edge(model: MatrixModel) -> float:
    r"""Learning rate beyond which SGD is unstable in mean square, from the sharpest direction alone.

    .. math:: \eta \le \frac{2 \lambda_1}{(1-p) \lambda_1^2 + \frac pn \sum_i (v_1^\top H_i v_1)^2},

    :math:`X = v_1 v_1^\top` in the bound of this module: the edge of the one direction, as if no other lent it noise
    (:func:`mean_square_edge_gain`). Never above :math:`2/\lambda_1`. For given examples it is
    :func:`sgdynamics.theory.break_even.sharpest_direction_edge`.

    Status: bound, from above, of :func:`second_moment_edge` for plain SGD and independent batches.

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
    >>> top_direction_edge(model)
    2.0
    """
    curvature, noise = independent_noise(model, "top_direction_edge")
    top, largest = np.zeros((curvature.size, curvature.size)), float(curvature[-1])
    top[-1, -1] = 1.0
    with one_blas_thread():
        spread = noise.spread(top)[-1, -1]
    return float(mean_square_edge_gain.function(spread / largest**2)) / largest
