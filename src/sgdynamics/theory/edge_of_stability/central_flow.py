r"""The central flow: gradient flow that may not cross the edge, with the oscillation that this takes.

With :math:`U` the eigenvectors of the Hessian :math:`H` at the edge and :math:`\Sigma` the covariance of the
oscillation along them,

.. math:: \dot w = -\nabla L - \tfrac12 \sum_{ij} \Sigma_{ij} \nabla(u_i^\top H u_j), \qquad
    \Sigma \succeq 0, \quad \tfrac{2}{\eta} I - U^\top H U \succeq 0, \quad
    \bigl\langle \Sigma, \tfrac{d}{dt} U^\top H U \bigr\rangle = 0,

in the time :math:`\eta k`. At the edge this is the semidefinite complementarity problem

.. math:: 0 \preceq \Sigma \perp R \succeq 0, \qquad
    R_{ij} = \bigl\langle \nabla(u_i^\top H u_j),\ \nabla L + \tfrac12 \textstyle\sum_{kl} \Sigma_{kl}
    \nabla(u_k^\top H u_l) \bigr\rangle,

the optimality conditions of the convex problem
:math:`\min_{\Sigma \succeq 0} |\nabla L + \tfrac12 \Sigma : \nabla H|^2`: the velocity is the steepest descent that
raises no curvature beyond the edge. For one direction
:math:`\Sigma = 2 \langle -\nabla L, \nabla S \rangle_+ / |\nabla S|^2`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import Numeric, checked, complain, function, integer, one, optional, positive, real
from sgdynamics.formula import law
from sgdynamics.theory.edge_of_stability._complementarity import complementary
from sgdynamics.theory.edge_of_stability.approximations import A_POINT, Field

Array = NDArray[np.float64]

# What an eigenvalue at the edge is off by, relative to the edge, when it is at the edge as far as one can tell.
_ROUNDING = 16 * float(np.finfo(float).eps)


def _covariance(gradient: Array, bends: Array, slack: Array) -> Array:
    """Solve the problem above for k directions, with ``slack`` added to R."""
    found = complementary(slack + bends @ gradient, bends)
    if found is None:
        raise ArithmeticError(
            "oscillation_covariance: no covariance was found that satisfies the complementarity problem; where slack "
            "is not positive semidefinite and the curvature gradients depend on each other there may be none"
        )
    return found


@law(quantity="second moment")
@checked(gradient=A_POINT, curvature_gradients=real, slack=optional(real))
def oscillation_covariance(gradient: Numeric, curvature_gradients: Numeric, slack: Numeric = None) -> Array:
    r"""The covariance of the oscillation that keeps several directions at the edge.

    Solves :math:`0 \preceq \Sigma \perp R \succeq 0` with
    :math:`R_{ij} = C_{ij} + \langle \nabla H_{ij}, \nabla L + \tfrac12\sum_{kl}\Sigma_{kl}\nabla H_{kl}\rangle`; the
    gap to the edge after a time :math:`\tau` is then :math:`\tau R` if it is :math:`\tau C` now.

    Status: exact: what is returned satisfies the conditions to rounding.

    Parameters
    ----------
    gradient : array_like, shape (n,)
        :math:`\nabla L`.
    curvature_gradients : array_like, shape (k, k, n)
        :math:`\nabla H_{ij} = \nabla (u_i^\top H u_j)`, symmetric in the first two axes.
    slack : array_like, shape (k, k), optional
        :math:`C`, symmetric; 0 where all directions are at the edge.

    Returns
    -------
    array, shape (k, k)
        :math:`\Sigma`. All conditions have been checked to hold to 1e-9 of the terms in them. Where the curvature
        gradients depend on each other there may be several solutions; one of them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes disagree.
    ArithmeticError
        If no solution was found. Only without a positive semidefinite slack may there be none.

    Examples
    --------
    The flow sharpens both directions, the second one twice as fast:

    >>> bends = [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]
    >>> oscillation_covariance([-1.0, -2.0], bends)
    array([[2., 0.],
           [0., 4.]])
    """
    slope = np.asarray(gradient)
    bends = np.asarray(curvature_gradients)
    if bends.ndim != 3 or bends.shape[0] != bends.shape[1] or bends.shape[2] != slope.size:
        text = f"of shape (k, k, {slope.size})"
        raise complain("oscillation_covariance", "curvature_gradients", text, curvature_gradients)
    gap = np.zeros(bends.shape[:2]) if slack is None else np.asarray(slack)
    if gap.shape != bends.shape[:2]:
        raise complain("oscillation_covariance", "slack", f"of shape {bends.shape[:2]}", slack)
    return _covariance(slope, (bends + bends.swapaxes(0, 1)) / 2, (gap + gap.T) / 2)


def _top(hessian: Field, point: Array, directions: int) -> tuple[Array, Array]:
    """The largest eigenvalues, falling, and their eigenvectors."""
    values, vectors = np.linalg.eigh(np.asarray(hessian(point), dtype=np.float64))
    return values[: -directions - 1 : -1], vectors[:, : -directions - 1 : -1]


def _bends(hessian: Field, point: Array, basis: Array, length: float) -> Array:
    """Gradients of u_i' H u_j, from differences of the Hessian along the eigenvectors."""
    width = float(np.cbrt(np.finfo(float).eps)) * max(length, float(np.abs(point).max()))
    rows = [
        ((np.asarray(hessian(point + width * u)) - np.asarray(hessian(point - width * u))) @ basis).T / (2 * width)
        for u in basis.T
    ]
    made: Array = np.array(rows)
    return (made + made.swapaxes(0, 1)) / 2


def _turn(basis: Array, onto: Array) -> Array:
    """The rotation within the span of ``basis`` that brings it closest to ``onto``."""
    left, _, right = np.linalg.svd(basis.T @ onto)
    made: Array = left @ right
    return made


def _substep(
    gradient: Field, hessian: Field, point: Array, span: float, edge: float, count: int, length: float
) -> tuple[Array, Array]:
    """The point after a time, by the midpoint rule, and the covariance in weight space on the way there.

    The gap to the edge is asked to be complementary to the covariance at the end of the substep, so that an error of
    one substep is made good by the next.
    """
    values, basis = _top(hessian, point, count)
    gap = edge - values
    gap[np.abs(gap) <= _ROUNDING * edge] = 0.0
    gap = np.diag(gap)

    def velocity(at: Array, frame: Array, slack: Array) -> tuple[Array, Array]:
        slope, bends = np.asarray(gradient(at), dtype=np.float64), _bends(hessian, at, frame, length)
        covariance = _covariance(slope, bends, slack)
        return -(slope + 0.5 * np.einsum("ij,ijn->n", covariance, bends)), covariance

    middle = point + span / 2 * velocity(point, basis, gap / (span / 2))[0]
    frame = _top(hessian, middle, count)[1]
    frame = frame @ _turn(frame, basis)
    speed, covariance = velocity(middle, frame, gap / span)
    return point + span * speed, frame @ covariance @ frame.T


def _probe(owner: str, name: str, field: Field, point: Array, shape: tuple[int, ...]) -> None:
    made = np.shape(field(point))
    if made != shape:
        raise complain(owner, name, f"a callable that returns an array of shape {shape}", made)


@law(quantity="report")
@checked(
    loss=function,
    gradient=function,
    hessian=function,
    start=A_POINT,
    learning_rate=one(positive),
    steps=integer(1),
    points=optional(integer(1)),
    directions=integer(1),
)
def central_flow(
    loss: Callable[[Array], Any],
    gradient: Field,
    hessian: Field,
    start: Numeric,
    learning_rate: float,
    *,
    steps: int,
    points: int | None = None,
    directions: int = 1,
) -> xr.Dataset:
    r"""The central flow of gradient descent, and what it predicts for the oscillating run.

    Time goes in substeps of the midpoint rule; in each the complementarity problem of the module's page is solved for
    the gap that the top eigenvalues will have at its end. The error of the integration is of second order in the
    length of a substep. Third derivatives are differences of the Hessian.

    Status: heuristic: an average over cycles, whose error against descent is of the order of the
    rate; see ``error_budget``.

    Parameters
    ----------
    loss, gradient, hessian : callable
        Take weights of shape (n,), return a number and shapes (n,) and (n, n).
    start : array_like, shape (n,)
        A point no sharper than :math:`2/\eta`.
    learning_rate : float
        :math:`\eta > 0` of the gradient descent that the flow stands for.
    steps : int
        How many of its steps the flow covers, a time of :math:`\eta` each.
    points : int, optional
        Number of substeps, all recorded, at least ``steps``; twice as many where nothing is said.
    directions : int
        How many of the largest eigenvalues are watched. It must be at least the number that come to the edge; more
        do no harm.

    Returns
    -------
    Dataset
        Along ``step``, 0..steps in ``points`` equal parts: ``weights`` (parameter), ``sharpness`` (top eigenvalue at
        the flow), ``flow_loss`` (the loss at the flow), ``variance`` (trace of the covariance of the oscillation, over
        the substep that ends there), ``weight_variance`` (its diagonal, per parameter) and ``loss``, the predicted mean
        loss :math:`L(w) + \tfrac12 \operatorname{tr} H\Sigma`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or a callable returns another shape.
    ArithmeticError
        If the complementarity problem of a substep has no solution that was found. It has one wherever no watched
        curvature is beyond the edge; one that is, by the error of a substep, may have none where the curvature
        gradients depend on each other. More ``points`` help.

    Notes
    -----
    Cohen et al. 2024 define the flow; their own solver is another one. The flow is a statement about small
    oscillations: the loss is expanded to third order along them.

    Examples
    --------
    The loss :math:`\tfrac12 v x^2 - v` sharpens at rate 1 until the oscillation in x holds v at 2/eta = 20:

    >>> flow = central_flow(
    ...     lambda w: w[1] * (w[0] ** 2 / 2 - 1),
    ...     lambda w: np.array([w[0] * w[1], w[0] ** 2 / 2 - 1]),
    ...     lambda w: np.array([[w[1], w[0]], [w[0], 0.0]]),
    ...     start=[0.0, 19.0],
    ...     learning_rate=0.1,
    ...     steps=30,
    ... )
    >>> last = flow.isel(step=-1)
    >>> float(last.sharpness.round(6)), float(last.variance.round(6)), float(last.loss.round(6))
    (20.0, 2.0, 0.0)
    """
    owner = "central_flow"
    point, rate = start, learning_rate
    points = 2 * steps if points is None else points
    if points < steps:
        raise complain(owner, "points", f"at least steps = {steps}, for stability", points)
    if directions > point.size:
        raise complain(owner, "directions", f"at most the number of parameters, {point.size}", directions)
    _probe(owner, "loss", loss, point, ())
    _probe(owner, "gradient", gradient, point, (point.size,))
    _probe(owner, "hessian", hessian, point, (point.size, point.size))
    edge = 2 / rate
    if _top(hessian, point, 1)[0][0] > edge * (1 + 1e-9):
        raise complain(owner, "start", f"a point of sharpness at most 2/learning_rate = {edge}", start)

    path = np.empty((points + 1, point.size))
    covariances = np.zeros((points + 1, point.size, point.size))
    path[0] = point
    # by which differences of the Hessian are taken: the weights of the start or, where they are 0, its first step
    length = float(np.abs(point).max()) or rate * float(np.abs(gradient(point)).max()) or 1.0
    for k in range(points):
        path[k + 1], covariances[k + 1] = _substep(
            gradient, hessian, path[k], steps * rate / points, edge, directions, length
        )

    hessians = np.array([hessian(w) for w in path], dtype=np.float64)
    losses = np.array([float(loss(w)) for w in path])
    step = np.arange(points + 1) * (steps / points)
    return xr.Dataset(
        {
            "weights": (("step", "parameter"), path, {"long_name": "weights", "units": "weight"}),
            "sharpness": (
                "step",
                np.linalg.eigvalsh(hessians)[:, -1],
                {"long_name": "sharpness", "units": "1/learning rate"},
            ),
            "flow_loss": ("step", losses, {"long_name": "loss at the flow", "units": "loss"}),
            "loss": (
                "step",
                losses + 0.5 * np.einsum("tij,tij->t", hessians, covariances),
                {"long_name": "predicted mean loss", "units": "loss"},
            ),
            "variance": (
                "step",
                np.trace(covariances, axis1=1, axis2=2),
                {"long_name": "variance of the oscillation", "units": "weight^2"},
            ),
            "weight_variance": (
                ("step", "parameter"),
                np.diagonal(covariances, axis1=1, axis2=2).copy(),
                {"long_name": "variance of the oscillation per parameter", "units": "weight^2"},
            ),
        },
        coords={
            "step": ("step", step, {"long_name": "step of gradient descent", "units": "1"}),
            "time": ("step", rate * step, {"long_name": "learning rate times step", "units": "1/curvature"}),
        },
        attrs={"source": "cohen2024", "learning_rate": rate, "version": sgdynamics.__version__},
    )
