r"""Critical rates averaged over the law of the start, mostly at target 0.

At the start :math:`\rho = \delta^2/4` with :math:`\delta^2` from Beta(1/2, n/2), whatever the parametrization, the
initial scale and the input; see :mod:`sgdynamics.models.uv`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.special import betainc, betaincc

from sgdynamics.domains import Numeric, positive
from sgdynamics.formula import formula, sqrt, where
from sgdynamics.models.uv.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory.uv.critical import c_sharp

_NORMAL = ("two linear layers", "one example", "target 0", "independent normal weights of equal variance")
_WIDE = (*_NORMAL, "width to infinity")
_ANY_TARGET = (_NORMAL[0], _NORMAL[1], _NORMAL[3])
_SIZES = 400


@formula(PARAMETERS, quantity="ratio", status="exact", symbolic=True, source="derived", assumptions=_NORMAL)
def mean_start_ratio(width: Numeric) -> Numeric:
    r"""Mean of :math:`\rho` at the start: :math:`\frac{1}{4(n+1)}`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> mean_start_ratio(7)
    0.03125
    """
    return 1 / (4 * (width + 1))


def _exceeds(rho: Numeric, width: Numeric) -> Numeric:
    """P(start ratio > rho), for any rho."""
    square = where(4 * rho < 1, where(rho > 0, 4 * rho, 0.0), 1.0)
    below = betainc(0.5, width / 2, square)
    # SciPy's complement loses four digits where it is next to 1.
    return where(below < 0.5, 1 - below, betaincc(0.5, width / 2, square))


@formula(
    PARAMETERS,
    c=Parameter("c", "learning rate times the ``units`` of every start", positive, 2.625),
    quantity="probability",
    status="exact",
    source="derived",
    assumptions=_NORMAL,
)
def first_rise_probability(c: Numeric, width: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Probability over starts that the first step raises the loss.

    In kernel units the loss rises where :math:`\rho < (c-2)/c^2`, or beyond :math:`c > 4` where :math:`\rho > 1/c`. In
    Hessian units, with :math:`h^* = (c^2+3c)/(c^2+6)`, where :math:`\rho < h^*(h^*-1)/3` or :math:`\rho > (1+3/c)/c`.

    Returns
    -------
    Numeric
        0 for :math:`c \le 2`.

    Examples
    --------
    >>> first_rise_probability(3.0, 2)  # 2 sqrt(c-2)/c
    0.666666666...
    """
    if units == "hessian":
        top = (c**2 + 3 * c) / (c**2 + 6)
        below, above = top * (c - 2) / (c**2 + 6), (1 + 3 / c) / c
    else:
        below, above = (c - 2) / c**2, 1 / c
    square = where(below > 0, where(4 * below < 1, 4 * below, 1.0), 0.0)
    return betainc(0.5, width / 2, square) + _exceeds(above, width)


@formula(PARAMETERS, quantity="probability", status="exact", source="derived", assumptions=_NORMAL)
def no_catapult_probability(width: Numeric) -> Numeric:
    r"""Probability :math:`P(\rho > 1/8)` of a start whose loss no convergent rate raises at the first step.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> no_catapult_probability(2)  # 1 - 1/sqrt(2)
    0.292893218...
    """
    return betaincc(0.5, width / 2, 0.5)


def _mean(width: Any, largest_angle: float, value: Callable[[Any, Any], Any]) -> Any:
    r"""Mean of ``value(square, complement)`` over starts with alignment :math:`\delta = \sin\theta` up to an angle.

    The density is :math:`\cos^{n-1}\theta`, concentrated within a few :math:`1/\sqrt n`; the quadratic change of
    variable takes up a root at the upper end.
    """
    nodes, weights = np.polynomial.legendre.leggauss(160)
    place, weights = (nodes + 1) / 2, weights * (nodes + 1)
    width = np.asarray(width)[..., np.newaxis]
    angle = np.minimum(largest_angle, 9.5 / np.sqrt(width)) * (1 - place**2)
    square = np.sin(angle) ** 2
    log_cosine = np.where(square < 0.5, np.log1p(-square) / 2, np.log(np.cos(angle)))
    density = weights * np.exp((width - 1) * log_cosine)
    return np.sum(density * value(square, np.cos(2 * angle)), axis=-1) / np.sum(density, axis=-1)


@formula(PARAMETERS, quantity="normalised rate", status="exact", source="derived", assumptions=_NORMAL)
def mean_c_loss(width: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Mean of :func:`c_loss` over the starts that have one, :math:`\rho \le 1/8`, by Gauss quadrature.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(mean_c_loss(128), 5), round(mean_c_loss(128, "hessian"), 5)
    (2.00794, 2.01951)
    """

    def value(square: Any, complement: Any) -> Any:  # complement = 1 - 8 rho
        scale = (1 + sqrt(1 + 3 * square)) / 2 if units == "hessian" else 1
        return 4 * scale / (1 + sqrt(complement))

    return _mean(width, np.pi / 4, value)


@formula(PARAMETERS, quantity="normalised rate", status="exact", source="derived", assumptions=_NORMAL)
def mean_c_max(width: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Mean of :func:`c_max` over starts, by Gauss quadrature.

    Returns
    -------
    Numeric
        4 in kernel units.

    Examples
    --------
    >>> round(mean_c_max(128, "hessian"), 5)
    4.02288
    """

    def value(square: Any, complement: Any) -> Any:
        return 2 * (1 + sqrt(1 + 3 * square)) if units == "hessian" else 4 + 0 * square

    return _mean(width, np.pi / 2, value)


@formula(PARAMETERS, quantity="normalised rate", status="exact", source="derived", assumptions=_NORMAL)
def mean_c_sharp(width: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Mean of :func:`c_sharp` over starts, by Gauss quadrature.

    Returns
    -------
    Numeric
        5/2 for a width to infinity.

    Examples
    --------
    >>> round(mean_c_sharp(128), 5), round(mean_c_sharp(128, "hessian"), 5)
    (2.51332, 2.52784)
    """

    def value(square: Any, complement: Any) -> Any:
        return c_sharp.function(square / 4, units)

    return _mean(width, np.pi / 2, value)


@formula(PARAMETERS, quantity="normalised rate", status="exact", source="derived", assumptions=_ANY_TARGET)
def mean_largest_c(width: Numeric, ratio: Numeric) -> Numeric:
    r"""Mean over starts of the largest learning rate times the kernel of the start, for any target.

    With the alignment :math:`\delta`, the kernel over its mean :math:`g` (:func:`ntk_quantile`) and :math:`t = \sqrt
    \kappa |y|/\bar\lambda_0` it is the mean, over both, of

    .. math:: \eta\lambda_0 = \frac{8}{1 + \sqrt{1 + 16 t^2/g^2 - 8 t\delta/g}},

    which is :func:`largest_learning_rate` at the start.

    Returns
    -------
    Numeric
        In kernel units; 4 at target 0. To five digits at width 1, where starts may be parallel to the target, and to
        rounding from width 8 on.

    Examples
    --------
    >>> round(mean_largest_c(16, 0.25), 4)  # target 2 at unit scales
    3.2877
    """
    width, ratio = np.broadcast_arrays(width, ratio)
    # ln g on an even grid: its density falls off fast on both sides, where such a sum is as exact as Gauss' rules
    grid = np.linspace(0, 1, _SIZES)[:, *[np.newaxis] * width.ndim]
    reach = 9.5 / np.sqrt(width)
    log_size = grid * (2 * reach + 40 / width) - (reach + 40 / width)
    density = np.exp(width * (log_size - np.expm1(log_size)))

    def value(square: Any, complement: Any) -> Any:
        aligned, across = np.sqrt(square), np.sqrt(1 - square)
        total: Any = 0.0
        for weight, size in zip(density / density.sum(axis=0), np.exp(log_size), strict=True):
            pull = 4 * (ratio / size)[..., np.newaxis]
            for sign in (1, -1):
                total = total + weight[..., np.newaxis] * 4 / (1 + np.hypot(1 - sign * pull * aligned, pull * across))
        return total

    return _mean(width, np.pi / 2, value)


@formula(
    PARAMETERS, quantity="normalised rate", status="asymptotic", symbolic=True, source="derived", assumptions=_WIDE
)
def wide_c_loss(width: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Mean critical rate c_crit (:func:`c_loss`) at width n, where that is large.

    .. math:: 2 + \frac{1}{n+1}, \qquad 2 + \frac{5/2}{n+1} \text{ in Hessian units.}

    The error is :math:`O(n^{-2})`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> wide_c_loss(127), wide_c_loss(127, "hessian")
    (2.0078125, 2.01953125)
    """
    return 2 + (5 if units == "hessian" else 2) / (2 * (width + 1))


@formula(
    PARAMETERS, quantity="normalised rate", status="asymptotic", symbolic=True, source="derived", assumptions=_WIDE
)
def wide_c_max(width: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Mean of :func:`c_max` for wide networks: 4 in kernel units, :math:`4 + \frac{3}{n+1}` in Hessian units.

    The error is :math:`O(n^{-2})`, and 0 in kernel units.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> wide_c_max(127, "hessian")
    4.0234375
    """
    return 4 + (3 if units == "hessian" else 0) / (width + 1)
