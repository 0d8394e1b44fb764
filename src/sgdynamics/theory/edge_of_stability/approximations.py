r"""Flows and diffusions in place of the discrete map, in the time :math:`\eta k`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import ArrayOf, Numeric, checked, function, nonnegative, one
from sgdynamics.formula import expm1, formula, law
from sgdynamics.models.edge_of_stability.parameters import PARAMETERS

Array = NDArray[np.float64]
Field = Callable[[Array], Any]


A_POINT = ArrayOf((1,), "a 1-D array of finite real numbers")


def _flow(velocity: Field, point: Array, end: float) -> Array:
    from scipy.integrate import solve_ivp

    if end == 0:
        return point.copy()
    # errors are relative to the start or, from 0, to how far its velocity goes
    length = float(np.abs(point).max()) or end * float(np.abs(velocity(point)).max())
    if length == 0:
        return point.copy()
    with np.errstate(all="ignore"):
        solution = solve_ivp(
            lambda _, w: velocity(w), (0.0, end), point, method="DOP853", rtol=1e-12, atol=1e-14 * length, t_eval=(end,)
        )
    if not solution.success:
        return np.full(point.shape, np.inf)  # the flow leaves the range of floats in finite time
    made: Array = solution.y[:, -1]
    return made


@law(quantity="weight")
@checked(gradient=function, start=A_POINT, time=one(nonnegative))
def gradient_flow(gradient: Field, start: Numeric, time: float) -> Array:
    r"""Where gradient flow :math:`\dot w = -\nabla L` is after some time.

    Gradient descent takes the time :math:`\eta` per step.

    Status: exact but for the tolerance of the integrator; of descent an approximation of first order.

    Parameters
    ----------
    gradient : callable
        Takes weights of shape (n,), returns the gradient.
    start : array_like, shape (n,)
    time : float
        >= 0.

    Returns
    -------
    array, shape (n,)
        Infinite if the flow ends before that time.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> gradient_flow(lambda w: w, [1.0], time=1.0).round(6)
    array([0.367879])
    """
    return _flow(lambda w: -np.asarray(gradient(w)), start, time)


@law(quantity="weight")
@checked(
    gradient=function,
    hessian=function,
    start=A_POINT,
    learning_rate=one(nonnegative),
    time=one(nonnegative),
)
def modified_flow(gradient: Field, hessian: Field, start: Numeric, learning_rate: float, time: float) -> Array:
    r"""Where gradient flow on :math:`L + \tfrac{\eta}{4}|\nabla L|^2` is after some time.

    The correction makes the flow agree with one step of gradient descent to :math:`O(\eta^3)`, by backward error
    analysis: :math:`\dot w = -(I + \tfrac{\eta}{2} H)\nabla L`.

    Status: exact but for the tolerance of the integrator; of descent an approximation of second order.

    Parameters
    ----------
    gradient, hessian : callable
        Take weights of shape (n,), return shapes (n,) and (n, n).
    start : array_like, shape (n,)
    learning_rate : float
        :math:`\eta \ge 0`.
    time : float
        >= 0.

    Returns
    -------
    array, shape (n,)
        Infinite if the flow ends before that time.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    On a quadratic the rate of decay h becomes h(1 + eta h/2):

    >>> modified_flow(lambda w: w, lambda w: [[1.0]], [1.0], learning_rate=0.1, time=1.0).round(6)
    array([0.349938])
    """

    def velocity(w: Array) -> Array:
        slope = np.asarray(gradient(w))
        made: Array = -(slope + 0.5 * learning_rate * np.asarray(hessian(w)) @ slope)
        return made

    return _flow(velocity, start, time)


@formula(
    PARAMETERS,
    quantity="second moment",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("linear stochastic differential equation", "start without variance"),
)
def ornstein_uhlenbeck_variance(pull: Numeric, diffusion: Numeric, time: Numeric) -> Numeric:
    r"""Variance of :math:`dX = -k X\,dt + \sqrt D\,dB` after a time: :math:`\frac{D}{2k}(1 - e^{-2kt})`.

    SGD on a quadratic of curvature :math:`h` with batch centers of variance :math:`\sigma^2` is approximated by
    :math:`k = h`, :math:`D = \eta h^2\sigma^2`, and to one order more by :math:`k = h(1+\tfrac12\eta h)` with
    :math:`D = \eta h^2\sigma^2(1+\eta h)`. A corrected pull alone gives a variance that is further off.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ornstein_uhlenbeck_variance(1.0, 2.0, 50.0)
    1.0
    """
    return -(diffusion / pull) * expm1(-2 * pull * time) / 2
