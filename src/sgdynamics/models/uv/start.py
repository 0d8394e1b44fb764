r"""The law of the start: two independent numbers, whatever the width.

With i.i.d. normal weights :math:`A = |h+v|^2/2` and :math:`B = |h-v|^2/2` are independent, each a multiple of
:math:`\chi^2_n`. Hence the *alignment* of the layers :math:`\delta = (A-B)/(A+B)` and their size :math:`A+B` are
independent; :math:`\delta^2` is Beta(1/2, n/2) with a fair sign, and :math:`A+B` a multiple of :math:`\chi^2_{2n}`. The
output is :math:`f_0 = \delta\lambda_0/(2\sqrt\kappa)`.

Quantile functions turn two uniform numbers into a start, at a cost that does not depend on the width.
"""

from __future__ import annotations

from scipy.special import betaincinv, gammaincinv, ndtri

from sgdynamics.domains import Interval, Numeric, count, unit_interval
from sgdynamics.formula import formula, sqrt, where

_NORMAL = ("two linear layers", "one example", "independent normal weights of equal variance")
_WIDE = 3e5
alignment_range = Interval("a number in [-1, 1]", low=-1, high=1, low_open=False, high_open=False)


@formula(probability=unit_interval, width=count, status="exact", source="derived", assumptions=_NORMAL)
def alignment_quantile(probability: Numeric, width: Numeric) -> Numeric:
    r"""Quantile of the initial alignment :math:`\delta_0 = 2\sqrt\kappa f_0/\lambda_0` of the two layers.

    :math:`(1+\delta)/2` is Beta(n/2, n/2). Written through the square, which is Beta(1/2, n/2), so that an alignment
    near 0 keeps its digits at any width.

    Parameters
    ----------
    probability : Numeric
        In [0, 1).
    width : Numeric
        :math:`n \ge 1`.

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
    signed = 2 * probability - 1
    size = sqrt(betaincinv(0.5, width / 2, abs(signed)))
    return where(signed < 0, -size, size)


@formula(probability=unit_interval, width=count, status="exact", source="derived", assumptions=_NORMAL)
def ntk_quantile(probability: Numeric, width: Numeric) -> Numeric:
    r"""Quantile of the initial kernel over its mean, :math:`\chi^2_{2n}/2n`.

    From a width of 3e5 on by the Cornish-Fisher series, whose error is below 1e-14 there: library inverses of the
    incomplete gamma function are wrong in the lower tail of such widths.

    Independent of the alignment. The mean kernel is :math:`2\sigma^2|x|^2` in every parametrization.

    Parameters
    ----------
    probability : Numeric
        In [0, 1).
    width : Numeric
        :math:`n \ge 1`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ntk_quantile(0.5, 1)
    0.6931471805...
    """
    below = where(width < _WIDE, width, 1.0)
    z, root = ndtri(where(probability > 0, probability, 0.5)), sqrt(width)
    series = z + ((z**2 - 1) / 3 + ((z**3 - 7 * z) / 36 - (3 * z**4 + 7 * z**2 - 16) / (810 * root)) / root) / root
    wide = where(probability > 0, 1 + series / root, 0.0)
    return where(width < _WIDE, gammaincinv(below, probability) / below, wide)


@formula(alignment=alignment_range, status="exact", symbolic=True, source="derived", assumptions=_NORMAL[:2])
def start_ratio(alignment: Numeric) -> Numeric:
    r"""What the first steps depend on at target 0: :math:`\rho = \kappa f_0^2/\lambda_0^2 = \delta^2/4`.

    Parameters
    ----------
    alignment : Numeric
        :math:`\delta_0 = 2\sqrt\kappa f_0/\lambda_0` in [-1, 1].

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
