r"""How large a learning rate may be for almost every path, and how heavy the tails are where variances diverge.

A path feels only the mean logarithm of its multipliers. Between the edge in mean square and the almost-sure edge the
iterates have a stationary law of infinite variance, with the tail index of :func:`tail_index`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, positive, swept
from sgdynamics.formula import law
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, MiniBatchQuadratic
from sgdynamics.theory.quadratic._gradient_noise import (
    ANY_MODEL,
    MatrixModel,
    gradient_noise,
    require_independent_batches,
)
from sgdynamics.theory.quadratic._scalar_law import CurvatureLaw, curvature_law
from sgdynamics.theory.quadratic._sweep import over_points, unswept
from sgdynamics.theory.quadratic.edges import mean_edge

__all__ = ["almost_sure_edge", "tail_index"]

Array = NDArray[np.float64]


def _one_curvature(model: Any, owner: str) -> CurvatureLaw | None:
    """Law of the curvature of a batch; None where all batches share one Hessian."""
    if isinstance(model, MiniBatchQuadratic | FullQuadratic):
        return None
    if isinstance(model, FiniteSumQuadratic) and not gradient_noise(model).random:
        return None
    if model.modes > 1:
        raise ValueError(
            f"{owner}: model must have one mode (the Lyapunov exponent of a product of random matrices has no closed "
            f"form) or one Hessian for all batches, got {model.modes} modes"
        )
    return curvature_law(model, owner)


@law(quantity="learning rate")
@checked(model=ANY_MODEL)
def almost_sure_edge(model: MiniBatchQuadratic | MatrixModel) -> Numeric:
    r"""Learning rate at which almost every path ceases to be stable.

    In one direction a path is a product of independent factors: it contracts almost surely if and only if
    :math:`E \log |1 - \eta h_B| < 0`. By Jensen's inequality the edge is never below that in mean square. It is the
    first crossing: a rate close to the reciprocal of one of the curvatures, which then kills the error in one step, can
    be stable again beyond it.

    Plain SGD. With momentum, or in several directions, a path is a product of random matrices and no closed
    form exists. A reshuffled epoch has the same edge as batches drawn without replacement, since the logarithm of a
    product is a sum.

    Status: exact.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Of one mode, or with the same Hessian for all batches, for which all edges agree.

    Returns
    -------
    Numeric
        A float; for a swept MiniBatchQuadratic labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If the model has several modes and random Hessians, or more than 4096 different batches.

    Examples
    --------
    >>> round(almost_sure_edge(FiniteSumQuadratic([0.5, 1.5])), 10)
    2.6666666667
    """
    law = _one_curvature(model, "almost_sure_edge")
    return mean_edge(model) if law is None else law.almost_sure_edge()


@law(quantity="exponent")
@checked(model=ANY_MODEL, learning_rate=swept(positive))
def tail_index(model: MiniBatchQuadratic | MatrixModel, learning_rate: Numeric) -> Numeric:
    r"""Tail index of the stationary law in one direction of random curvature.

    The positive solution :math:`\kappa` of :math:`E |1 - \eta h_B|^\kappa = 1`, for plain SGD: then :math:`P(|e| > t)`
    decays like :math:`t^{-\kappa}` (Kesten's theorem on random affine recursions, for noise that does not vanish and
    multipliers whose logarithms are not all multiples of one number). The variance is infinite from :math:`\kappa = 2`
    on, which is the edge in mean square.

    Status: exact.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Of one mode, or with the same Hessian for all batches, which has no power-law tail.
    learning_rate : Numeric
        > 0; a DataArray sweeps.

    Returns
    -------
    Numeric
        A float, or labelled as the sweep. +inf if no batch expands the error, 0 where the mean
        logarithm is not negative and no stationary law exists, as at the almost-sure edge; at rates beyond it that
        are stable again it is positive again.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the model is reshuffled, has several modes and random Hessians, or more
        than 4096 different batches.

    Examples
    --------
    >>> round(tail_index(FiniteSumQuadratic([0.5, 1.5]), 1.45), 4)
    4.2858
    """
    require_independent_batches(model, None, "tail_index")
    law = _one_curvature(model, "tail_index")
    if law is None:
        edge = mean_edge(model)

        def core(rate: Array) -> float:
            return np.inf if rate < edge else 0.0
    else:

        def core(rate: Array) -> float:
            return law.tail_index(float(rate))

    (made,) = over_points(core, [(learning_rate, [])], [[]], {})
    return unswept(made)
