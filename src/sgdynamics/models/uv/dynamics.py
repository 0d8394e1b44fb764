r"""One gradient step of the uv network, in function space.

The loss is :math:`\tfrac12 (f-y)^2` on one example. Its gradient descent closes in the output :math:`f` and the neural
tangent kernel :math:`\lambda`, for every width and target; the width enters through :math:`\kappa` alone.

Legend: :math:`\phi = \eta\sqrt\kappa f`, :math:`q = \eta\sqrt\kappa y`, :math:`s = \phi - q`, :math:`l =
\eta\lambda`, :math:`P = l + 2\phi`, :math:`M = l - 2\phi`. What is possible is the cone :math:`P, M \ge 0`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdynamics.domains import Interval, Numeric, Value, checked, complain, is_symbolic, nonnegative, positive, real
from sgdynamics.formula import exp, formula, log, sqrt, where
from sgdynamics.models.uv._pointwise import pointwise
from sgdynamics.models.uv.parameters import PARAMETERS

_ONE_EXAMPLE = ("two linear layers", "one example", "half the squared error")
log_coordinate: Interval = Interval("a number, or -inf on the boundary of the cone", low=-np.inf, low_open=False)


def inside_cone(owner: str, output: Numeric, ntk: Numeric, kappa: Numeric) -> None:
    """Refuse points that no weights have; a step in (output, ntk) may leave the cone by rounding, which is let pass."""
    if is_symbolic(output) or is_symbolic(ntk) or is_symbolic(kappa):
        return
    floor = 2 * np.sqrt(kappa) * abs(output)
    bad = np.atleast_1d(np.asarray(ntk < floor * (1 - 1e-9)))
    if bad.any():
        low = np.broadcast_to(floor, bad.shape)[bad].flat[0]
        raise complain(
            owner,
            "ntk",
            f"at least 2 sqrt(kappa) |output| = {float(low)}, which holds for all weights",
            float(np.broadcast_to(ntk, bad.shape)[bad].flat[0]),
        )


def _product(one: Any, other: Any) -> tuple[Any, Any]:
    """A product and its rounding error, exactly; of numbers within [2^-500, 2^500]."""
    product = one * other
    high, low = (part * 134217729.0 for part in (one, other))  # 2^27 + 1 halves the digits
    high, low = high - (high - one), low - (low - other)
    return product, ((high * low - product) + high * (other - low) + (one - high) * low) + (one - high) * (other - low)


def cone_sides(output: Any, ntk: Any, kappa: Any) -> tuple[Any, Any]:
    r""":math:`\lambda - 2\sqrt\kappa|f|` and :math:`\lambda + 2\sqrt\kappa|f|` of numbers, to rounding.

    Near the boundary of the cone the first is as small as the rounding of a root and a product, which are therefore
    carried along. Below 0, where no weights are, it is 0.
    """
    size = np.maximum(np.asarray(ntk, float), np.sqrt(kappa) * abs(output))
    unit = np.ldexp(1.0, np.frexp(np.where((size > 0) & np.isfinite(size), size, 1.0))[1])
    power = np.frexp(kappa)[1] // 2  # the root of kappa as a number near 1 times a power of two
    near_one = np.ldexp(kappa, -2 * power)
    root = np.sqrt(near_one)
    square, error = _product(root, root)
    correction = ((near_one - square) - error) / (2 * root)
    reach = np.ldexp(abs(output), power + 1) / unit
    product, error = _product(np.where(reach > 1e-100, reach, 0.0), root)
    product = np.where(reach > 1e-100, product, reach * root)
    lower = (ntk / unit - product) - (error + reach * correction)
    return np.maximum(lower, 0.0) * unit, ntk + product * unit


def squared_imbalance(output: Any, ntk: Any, kappa: Any) -> Any:
    """The expression of :func:`imbalance` for weights, which have a point of the cone."""
    reach = 2 * sqrt(kappa) * output
    return (ntk - reach) * (ntk + reach)


@formula(
    PARAMETERS,
    ntk=nonnegative,
    quantity="squared kernel",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_ONE_EXAMPLE,
)
def imbalance(output: Numeric, ntk: Numeric, kappa: Numeric) -> Numeric:
    r"""Squared imbalance of the two layers, :math:`D = \lambda^2 - 4\kappa f^2 \ge 0`, without cancellation.

    Gradient flow conserves it; a gradient step multiplies it by :math:`(1-s^2)^2`. It is :math:`PM/\eta^2`, and 0
    exactly where the two layers are parallel and equally long. Below :math:`\lambda = 2\sqrt\kappa|f|` there are no
    weights, and the value is 0.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> imbalance(0.5, 2.0, 1.0)
    3.0
    """
    if any(map(is_symbolic, (output, ntk, kappa))):
        return where(ntk >= 2 * sqrt(kappa) * abs(output), squared_imbalance(output, ntk, kappa), 0)
    lower, upper = cone_sides(output, ntk, kappa)
    return lower * upper


def flow_root(output: Any, ntk: Any, kappa: Any, to: Any) -> Any:
    r""":math:`\sqrt{D + 4\kappa g^2}` for a number g, without squares where these could cancel or overflow."""
    if any(map(is_symbolic, (output, ntk, kappa, to))):
        return sqrt(squared_imbalance(output, ntk, kappa) + 4 * kappa * to**2)
    lower, upper = cone_sides(output, ntk, kappa)
    return np.hypot(np.sqrt(lower) * np.sqrt(upper), 2 * np.sqrt(kappa) * to)


def plain_step(output: Any, ntk: Any, learning_rate: Any, kappa: Any, target: Any) -> tuple[Any, Any]:
    """The step of :func:`function_step`, as it stands."""
    change = learning_rate * (output - target)
    return output - change * (ntk - kappa * output * change), ntk + kappa * change * (ntk * change - 4 * output)


@checked(output=real, ntk=nonnegative, learning_rate=nonnegative, kappa=positive, target=real)
def function_step(
    output: float | Value,
    ntk: float | Value,
    learning_rate: float | Value,
    *,
    kappa: float | Value,
    target: float | Value = 0.0,
) -> tuple[Value, Value]:
    r"""One step of gradient descent in output and kernel, exact for every width.

    .. math::

        f' = f - \eta\,\Delta\,(\lambda - \eta\kappa f \Delta), \qquad
        \lambda' = \lambda + \eta\kappa\Delta\,(\eta\lambda\Delta - 4f), \qquad \Delta = f - y.

    Status: exact. Near the boundary of the cone rounding can carry a point out of it, and where :math:`f` nearly
    cancels its own step, its digits go with it; orbits on the boundary are better followed by :func:`cone_step`.

    Parameters
    ----------
    output, ntk : Numeric
        :math:`f` and :math:`\lambda \ge 2\sqrt\kappa|f|`.
    learning_rate : Numeric
        :math:`\eta \ge 0`.
    kappa : Numeric
        :math:`\kappa > 0`, see :class:`UVNetwork`.
    target : Numeric
        :math:`y`.

    Returns
    -------
    output, ntk : Numeric
        Infinite where they leave the range of a float.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes do not broadcast.

    Examples
    --------
    >>> function_step(1.0, 3.0, 0.5, kappa=1.0)
    (-0.25, 1.75)
    """

    def core(output: Any, ntk: Any, learning_rate: Any, kappa: Any, target: Any) -> tuple[Any, Any]:
        inside_cone("function_step", output, ntk, kappa)
        new_output, new_ntk = plain_step(output, ntk, learning_rate, kappa, target)
        if any(map(is_symbolic, (output, ntk, learning_rate, kappa, target))):
            return new_output, new_ntk
        # infinity less infinity: the terms of highest degree have won, f (eta Delta)^2 and lambda (eta Delta)^2
        return (
            where(np.isnan(new_output), np.copysign(np.inf, output), new_output),
            where(np.isnan(new_ntk), np.inf, new_ntk),
        )

    made = pointwise(
        "function_step", core, 2, output=output, ntk=ntk, learning_rate=learning_rate, kappa=kappa, target=target
    )
    return made[0], made[1]


@checked(output=real, ntk=nonnegative, learning_rate=positive, kappa=positive)
def to_cone(
    output: float | Value, ntk: float | Value, learning_rate: float | Value, *, kappa: float | Value
) -> tuple[Value, Value]:
    r"""The coordinates in which a step multiplies: :math:`P = \eta(\lambda + 2\sqrt\kappa f)`, :math:`M` with a minus.

    In weights they are :math:`\eta\kappa|h \pm v|^2`, hence never negative.

    Status: exact.

    Parameters
    ----------
    output, ntk : Numeric
        :math:`f` and :math:`\lambda \ge 2\sqrt\kappa|f|`.
    learning_rate : Numeric
        :math:`\eta > 0`.
    kappa : Numeric
        :math:`\kappa > 0`.

    Returns
    -------
    plus, minus : Numeric
        0 where rounding of the arguments would make them negative.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, no weights have such an output and kernel, or shapes do not broadcast.

    Examples
    --------
    >>> to_cone(0.5, 2.0, 0.5, kappa=1.0)
    (1.5, 0.5)
    """

    def core(output: Any, ntk: Any, learning_rate: Any, kappa: Any) -> tuple[Any, Any]:
        inside_cone("to_cone", output, ntk, kappa)
        reach = 2 * sqrt(kappa) * output
        plus, minus = learning_rate * (ntk + reach), learning_rate * (ntk - reach)
        if any(map(is_symbolic, (output, ntk, learning_rate, kappa))):
            return plus, minus
        return np.maximum(plus, 0.0), np.maximum(minus, 0.0)

    made = pointwise("to_cone", core, 2, output=output, ntk=ntk, learning_rate=learning_rate, kappa=kappa)
    return made[0], made[1]


@checked(plus=nonnegative, minus=nonnegative, learning_rate=positive, kappa=positive)
def from_cone(
    plus: float | Value, minus: float | Value, learning_rate: float | Value, *, kappa: float | Value
) -> tuple[Value, Value]:
    r"""Output and kernel back from :math:`(P, M)`: :math:`f = (P-M)/(4\eta\sqrt\kappa)`, :math:`\lambda = (P+M)/2\eta`.

    Status: exact.

    Parameters
    ----------
    plus, minus : Numeric
        :math:`P, M \ge 0`.
    learning_rate : Numeric
        :math:`\eta > 0`.
    kappa : Numeric
        :math:`\kappa > 0`.

    Returns
    -------
    output, ntk : Numeric

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes do not broadcast.

    Examples
    --------
    >>> from_cone(1.5, 0.5, 0.5, kappa=1.0)
    (0.5, 2.0)
    """

    def core(plus: Any, minus: Any, learning_rate: Any, kappa: Any) -> tuple[Any, Any]:
        return (plus - minus) / (4 * learning_rate * sqrt(kappa)), (plus + minus) / (2 * learning_rate)

    made = pointwise("from_cone", core, 2, plus=plus, minus=minus, learning_rate=learning_rate, kappa=kappa)
    return made[0], made[1]


@checked(plus=nonnegative, minus=nonnegative, q=real)
def cone_step(plus: float | Value, minus: float | Value, q: float | Value) -> tuple[Value, Value]:
    r"""One step of gradient descent as two multiplications.

    .. math:: P' = (1-s)^2 P, \qquad M' = (1+s)^2 M, \qquad s = \tfrac14(P-M) - q.

    Status: exact. Stays in the cone by construction: a coordinate that is 0 stays 0, a tiny one keeps its digits.

    Parameters
    ----------
    plus, minus : Numeric
        :math:`P, M \ge 0`, see :func:`to_cone`.
    q : Numeric
        Scaled target :math:`\eta\sqrt\kappa y`.

    Returns
    -------
    plus, minus : Numeric
        Infinite where they leave the range of a float.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes do not broadcast.

    Examples
    --------
    >>> cone_step(1.5, 0.5, 0.0)
    (0.84375, 0.78125)
    """

    def core(plus: Any, minus: Any, q: Any) -> tuple[Any, Any]:
        residual = (plus - minus) / 4 - q
        up, down = 1 - residual, 1 + residual
        # this order, because 0 times the square of a huge factor would not be a number
        return up * (up * plus), down * (down * minus)

    made = pointwise("cone_step", core, 2, plus=plus, minus=minus, q=q)
    return made[0], made[1]


@checked(log_plus=log_coordinate, log_minus=log_coordinate, q=real)
def log_cone_step(log_plus: float | Value, log_minus: float | Value, q: float | Value) -> tuple[Value, Value]:
    r"""One step of gradient descent in :math:`\ln P` and :math:`\ln M`, which diverging orbits do not overflow soon.

    .. math:: \ln P' = \ln P + 2\ln|1-s|, \qquad \ln M' = \ln M + 2\ln|1+s|.

    Status: exact; once the larger coordinate is beyond the range of a float, :math:`|s|` is its quarter.

    Parameters
    ----------
    log_plus, log_minus : Numeric
        :math:`\ln P` and :math:`\ln M`; -inf on the boundary of the cone.
    q : Numeric
        Scaled target :math:`\eta\sqrt\kappa y`.

    Returns
    -------
    log_plus, log_minus : Numeric

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes do not broadcast.

    Examples
    --------
    >>> log_cone_step(800.0, 0.0, 1.0)  # the cube of e^800, over 16
    (2397.2274112..., 1597.2274112...)
    """

    def core(log_plus: Any, log_minus: Any, q: Any) -> tuple[Any, Any]:
        larger = np.maximum(log_plus, log_minus)
        # logarithm of the difference, of which nothing cancels
        apart = where(log_plus == log_minus, -np.inf, larger + log(-np.expm1(-abs(log_plus - log_minus))))
        residual = np.sign(log_plus - log_minus) * exp(apart) / 4 - q
        residual = where(log_plus == log_minus, -q, residual)
        up, down = log(abs(1 - residual)), log(abs(1 + residual))
        # beyond e^600 what is added to the residual is below its rounding
        huge = apart > 600
        size = where(huge, apart - np.log(4.0), 0.0)
        return log_plus + 2 * where(huge, size, up), log_minus + 2 * where(huge, size, down)

    made = pointwise("log_cone_step", core, 2, log_plus=log_plus, log_minus=log_minus, q=q)
    return made[0], made[1]
