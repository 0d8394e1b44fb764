r"""The law of the start: two independent numbers, whatever the width.

With i.i.d. normal weights :math:`A = |h+v|^2/2` and :math:`B = |h-v|^2/2` are independent, each a multiple of
:math:`\chi^2_n`. Hence the *alignment* of the layers :math:`\delta = (A-B)/(A+B)` and their size :math:`A+B` are
independent; :math:`\delta^2` is Beta(1/2, n/2) with a fair sign, and :math:`A+B` a multiple of :math:`\chi^2_{2n}`. The
output is :math:`f_0 = \delta\lambda_0/(2\sqrt\kappa)`.

Quantile functions turn two uniform numbers into a start, at a cost that does not depend on the width.
"""

from __future__ import annotations

from scipy.special import betainccinv, betaincinv, gammainccinv, gammaincinv, ndtri

from sgdynamics.domains import Numeric
from sgdynamics.formula import formula, sqrt, where
from sgdynamics.models.uv.parameters import PARAMETERS

_NORMAL = ("two linear layers", "one example", "independent normal weights of equal variance")
_WIDE = 3e5
# From here on the square of an alignment times the width is a chi-square of one degree, in every digit.
_NORMAL_FROM = 2.0**54
# The ratio r as a series in eta, eta^2/2 = r - 1 - log r, and the corrections of eta of order 1/n and 1/n^2 (Temme
# 1992). At these widths |eta| < 0.071.
_RATIO = (1, 1, 1 / 3, 1 / 36, -1 / 270, 1 / 4320, 1 / 17010, -139 / 5443200, 1 / 204120)
_FIRST = (-1 / 3, 1 / 36, 1 / 1620, -7 / 6480, 5 / 18144, -11 / 382725)
_SECOND = (-7 / 405, -7 / 2592, 533 / 204120)


def _polynomial(coefficients: tuple[float, ...], at: Numeric) -> Numeric:
    value: Numeric = 0.0
    for coefficient in reversed(coefficients):
        value = coefficient + at * value
    return value


@formula(PARAMETERS, quantity="ratio", status="exact", source="derived", assumptions=_NORMAL)
def alignment_quantile(probability: Numeric, width: Numeric) -> Numeric:
    r"""Quantile of the initial alignment :math:`\delta_0 = 2\sqrt\kappa f_0/\lambda_0` of the two layers.

    :math:`(1+\delta)/2` is Beta(n/2, n/2). Written through the square, which is Beta(1/2, n/2), so that an alignment
    near 0 keeps its digits at any width, and far out through the complement of the probability.

    Returns
    -------
    Numeric
        In [-1, 1], odd about probability 1/2.

    Examples
    --------
    >>> alignment_quantile(0.75, 2)
    0.5
    >>> alignment_quantile(0.75, 10**8)  # a normal quantile over the root of the width
    6.744897...e-05
    """
    lower = probability < 0.5
    # of the two differences from 1 the one that is used is exact
    center, tail = abs(2 * probability - 1), 2 * where(lower, probability, 1 - probability)
    far, narrow = tail < 0.5, width < _NORMAL_FROM
    # what is not used is asked for 0, where nothing needs to be sought: the inverses are most of the cost of a start
    out, inside = where(far, tail, 1.0), where(far, 0.0, center)
    square = where(far, betainccinv(0.5, width / 2, out), betaincinv(0.5, width / 2, inside))
    # the square times the width is that of a normal variable, to a part in the width
    normal = 2 * where(far, gammainccinv(0.5, where(narrow, 1.0, out)), gammaincinv(0.5, where(narrow, 0.0, inside)))
    return where(lower, -1, 1) * where(narrow, sqrt(square), sqrt(normal) / sqrt(width))


@formula(PARAMETERS, quantity="ratio", status="exact", source="derived", assumptions=_NORMAL)
def ntk_quantile(probability: Numeric, width: Numeric) -> Numeric:
    r"""Quantile of the initial kernel over its mean, :math:`\chi^2_{2n}/2n`.

    From a width of 3e5 on by Temme's uniform expansion in 1/n, to rounding: library inverses of the incomplete gamma
    function are wrong in the lower tail of such widths.

    Independent of the alignment. The mean kernel is :math:`2\sigma^2|x|^2` in every parametrization.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ntk_quantile(0.5, 1)
    0.6931471805...
    """
    below = where(width < _WIDE, width, 1.0)
    normal = ndtri(where(probability > 0, probability, 0.5)) / sqrt(width)
    shifted = normal + (_polynomial(_FIRST, normal) + _polynomial(_SECOND, normal) / width) / width
    wide = where(probability > 0, _polynomial(_RATIO, shifted), 0.0)
    return where(width < _WIDE, gammaincinv(below, probability) / below, wide)


@formula(PARAMETERS, quantity="ratio", status="exact", symbolic=True, source="derived", assumptions=_NORMAL[:2])
def start_ratio(alignment: Numeric) -> Numeric:
    r"""What the first steps depend on at target 0: :math:`\rho = \kappa f_0^2/\lambda_0^2 = \delta^2/4`.

    Returns
    -------
    Numeric
        In [0, 1/4].

    Examples
    --------
    >>> start_ratio(0.5)
    0.0625
    """
    return alignment**2 / 4
