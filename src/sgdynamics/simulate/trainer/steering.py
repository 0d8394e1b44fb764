r"""Update rules that treat the sharpest directions differently: Nudged-SGD, dominant and bulk SGD.

All are one rule: with :math:`V` orthonormal columns that span the :math:`K` sharpest directions,

.. math:: w \leftarrow w - \eta\,\big[\text{bottom}\cdot g + (\text{top}-\text{bottom})\,VV^Tg\big] ,

a learning rate :math:`\eta\cdot\text{top}` inside the span and :math:`\eta\cdot\text{bottom}` outside. The field's
names are factors: (gamma, 1) is Nudged-SGD, (1, 0) dominant and (0, 1) bulk SGD.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked, complain, function, integer, nonnegative, one, optional, unit_interval
from sgdynamics.simulate.trainer.curvature import tolerance, top_eigenpairs
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.updates import Update

__all__ = ["bulk_sgd", "dominant_sgd", "hessian_eigenvectors", "nudged_sgd", "steered_sgd"]

Array = NDArray[Any]
Eigenvectors: TypeAlias = Callable[[Array], Array]


class SteeringState(NamedTuple):
    """What a steered run carries from step to step: arrays and a number, never edited in place."""

    steps: int
    basis: Array
    velocity: Array


def _orthonormal(owner: str, vectors: Any, size: int) -> Array:
    """An orthonormal basis of the span of the columns; infinite where they are not finite."""
    found = np.asarray(vectors)
    text = f"a callable that returns {size} rows and at least one column of linearly independent numbers"
    if found.dtype.kind not in "iuf" or found.ndim != 2 or found.shape[0] != size or not 0 < found.shape[1] <= size:
        raise complain(owner, "eigenvectors", text, getattr(found, "shape", found))
    if not np.isfinite(found).all():
        return np.full(found.shape, np.inf)
    basis, triangle = np.linalg.qr(found)
    diagonal = np.abs(np.diagonal(triangle))
    if diagonal.min() <= 1e-10 * diagonal.max():
        raise complain(owner, "eigenvectors", text, found)
    return basis


def _rule(
    owner: str, eigenvectors: Eigenvectors, top: float, bottom: float, refresh: int | None, beta: float
) -> Update:
    def update(weights: Array, gradient: Array, rate: float, state: Any) -> tuple[Array, Any]:
        with one_blas_thread(), np.errstate(all="ignore"):
            steps = 0 if state is None else state.steps
            if state is None or (refresh is not None and steps % refresh == 0):
                basis = _orthonormal(owner, eigenvectors(weights.copy()), weights.size)
            else:
                basis = state.basis
            velocity = gradient.copy() if state is None or beta == 0 else beta * state.velocity + gradient
            step = bottom * velocity + (top - bottom) * (basis @ (basis.T @ velocity))
            return weights - rate * step, SteeringState(steps + 1, basis, velocity)

    return update


_factor = one(nonnegative)
_STEERED = {"eigenvectors": function, "refresh": optional(integer(1)), "beta": one(unit_interval)}


@checked(**_STEERED, top=_factor, bottom=_factor)
def steered_sgd(
    eigenvectors: Eigenvectors, *, top: float, bottom: float, refresh: int | None = 1, beta: float = 0.0
) -> Update:
    r"""SGD with one factor on the learning rate inside a span of directions, and another one outside.

    Parameters
    ----------
    eigenvectors : callable
        ``eigenvectors(weights) -> array (parameters, K)``, for instance :func:`hessian_eigenvectors`. The columns are
        orthonormalised, which leaves their span; linearly dependent ones are refused. Where they are infinite, because
        the Hessian overflows, the run has diverged and the weights become infinite.
    top, bottom : float
        Factors inside and outside the span, >= 0.
    refresh : int, optional
        Steps between two calls of ``eigenvectors``, >= 1: the first call is at the first step, with the weights before
        it. Once an epoch is the number of batches in an epoch. None: once and for all, the authors' "constant top".
    beta : float
        Heavy-ball momentum, in [0, 1). The factors act on the velocity in the step alone and are not fed back into it
        (the authors' order): :math:`u \leftarrow \beta u + g`, then :math:`w` moves by the steered :math:`-\eta u`.

    Returns
    -------
    callable
        ``update(weights, gradient, rate, state) -> weights, state``. The state is a NamedTuple of the number of steps,
        the basis and the velocity; it determines the rest of a run.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or eigenvectors do not fit the weights.

    Examples
    --------
    >>> import numpy as np
    >>> rule = steered_sgd(lambda weights: np.array([[1.0], [0.0]]), top=0.5, bottom=2.0)
    >>> rule(np.zeros(2), np.array([1.0, 1.0]), 0.1, None)[0]
    array([-0.05, -0.2 ])
    """
    return _rule("steered_sgd", eigenvectors, top, bottom, refresh, beta)


@checked(**_STEERED, gamma=_factor)
def nudged_sgd(eigenvectors: Eigenvectors, *, gamma: float, refresh: int | None = 1, beta: float = 0.0) -> Update:
    r"""Nudged-SGD: the learning rate is :math:`\gamma\eta` along the sharpest directions and :math:`\eta` elsewhere.

    .. math:: w \leftarrow w - \eta\,[g - (1-\gamma)VV^Tg] .

    Parameters
    ----------
    eigenvectors, refresh, beta
        As for :func:`steered_sgd`.
    gamma : float
        :math:`\gamma`, >= 0. 1 is SGD, bit for bit; 0 is :func:`bulk_sgd`; above 1 the sharp directions are
        accentuated.

    Returns
    -------
    callable
        ``update(weights, gradient, rate, state) -> weights, state``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or eigenvectors do not fit the weights.

    Examples
    --------
    >>> import numpy as np
    >>> rule = nudged_sgd(lambda weights: np.array([[1.0], [0.0]]), gamma=0.1)
    >>> rule(np.zeros(2), np.array([1.0, 1.0]), 0.1, None)[0]
    array([-0.01, -0.1 ])
    """
    return _rule("nudged_sgd", eigenvectors, gamma, 1.0, refresh, beta)


@checked(**_STEERED)
def dominant_sgd(eigenvectors: Eigenvectors, *, refresh: int | None = 1, beta: float = 0.0) -> Update:
    r"""Dominant SGD: only the part of the step along the sharpest directions, :math:`w \leftarrow w - \eta VV^Tg`.

    With ``refresh=None`` the directions stay those of the first step.

    Parameters
    ----------
    eigenvectors, refresh, beta
        As for :func:`steered_sgd`.

    Returns
    -------
    callable
        ``update(weights, gradient, rate, state) -> weights, state``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or eigenvectors do not fit the weights.

    Examples
    --------
    >>> import numpy as np
    >>> rule = dominant_sgd(lambda weights: np.array([[1.0], [0.0]]))
    >>> rule(np.ones(2), np.array([1.0, 1.0]), 0.1, None)[0]
    array([0.9, 1. ])
    """
    return _rule("dominant_sgd", eigenvectors, 1.0, 0.0, refresh, beta)


@checked(**_STEERED)
def bulk_sgd(eigenvectors: Eigenvectors, *, refresh: int | None = 1, beta: float = 0.0) -> Update:
    r"""Bulk SGD: all of the step but its part along the sharpest directions, :math:`w \leftarrow w - \eta(g-VV^Tg)`.

    Parameters
    ----------
    eigenvectors, refresh, beta
        As for :func:`steered_sgd`.

    Returns
    -------
    callable
        ``update(weights, gradient, rate, state) -> weights, state``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or eigenvectors do not fit the weights.

    Examples
    --------
    >>> import numpy as np
    >>> rule = bulk_sgd(lambda weights: np.array([[1.0], [0.0]]))
    >>> rule(np.ones(2), np.array([1.0, 1.0]), 0.1, None)[0]
    array([1. , 0.9])
    """
    return _rule("bulk_sgd", eigenvectors, 0.0, 1.0, refresh, beta)


@checked(objective=real_objective, k=integer(1), tol=tolerance)
def hessian_eigenvectors(objective: Objective, *, k: int, tol: float = 1e-3) -> Eigenvectors:
    r"""The eigenvectors of the ``k`` largest (algebraic) eigenvalues of the Hessian, as a function of the weights.

    Every call starts afresh, so that it depends on the weights alone. For a cheap look hand over some of the examples,
    :meth:`Objective.batch`.

    Parameters
    ----------
    objective : Objective
        Its own weights do not matter.
    k : int
        Number of eigenvectors, in 1..number of trainable parameters.
    tol : float
        Residual relative to the spectral scale, in (0, 1).

    Returns
    -------
    callable
        ``eigenvectors(weights) -> array (parameters, k)``, orthonormal; +inf where the Hessian overflows. A search that
        does not end raises RuntimeError.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, hessian_eigenvectors, network
    >>> net = network([2, 1], "linear", biases=False, seed=0)
    >>> top = hessian_eigenvectors(Objective(net, [[2.0, 0.0], [0.0, 1.0]], [0.0, 0.0], "mse"), k=1)
    >>> abs(top(net.flat())).ravel()
    array([1., 0.])
    """
    if k > objective.trainable_size:
        text = f"at most the {objective.trainable_size} trainable parameters"
        raise complain("hessian_eigenvectors", "k", text, k)

    def eigenvectors(weights: Array) -> Array:
        if not np.isfinite(weights).all():
            return np.full((objective.size, k), np.inf)
        found = top_eigenpairs(objective.at(weights), k=k, tol=tol)
        if np.isnan(found.values).any():
            raise RuntimeError(f"hessian_eigenvectors: no eigenvectors after {found.iterations} Hessian products")
        return found.vectors

    return eigenvectors
