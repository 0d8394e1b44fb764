r"""The tangent kernel of a deep linear network at its random start, exactly, at any depth and width.

One output, one example with :math:`|x|^2` equal to the number of inputs. In NTK parametrisation every layer is
:math:`h_l = W_l h_{l-1}/\sqrt{n_{l-1}}` with standard normal entries. The kernel is :math:`K = \sum_l q_{l-1} |b_l|^2`
with :math:`q_l = |h_l|^2/n_l` and :math:`b_l` the gradient of the output with respect to :math:`h_l`. It is the only
nonzero eigenvalue of the Gauss-Newton matrix, hence the sharpness up to the residual times the curvature of the output.

The two factors of a term are independent and have mean 1: :math:`E K = D`. Two different terms share the layers between
them through a product M of Gaussian matrices, and their product has the mean of :math:`q_{l-1}^2 |b_m|^4 |M|_F^4`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sgdynamics.domains import Numeric, checked, is_symbolic
from sgdynamics.formula import decayed, formula, law, where
from sgdynamics.models.deep_linear._domains import hidden_widths
from sgdynamics.models.deep_linear.parameters import PARAMETERS

_NTK_START = ("NTK parametrisation", "standard normal weights", "one output", "one example with |x|^2 = inputs")


def _binomial_tail(gain: Numeric, depth: Numeric) -> Numeric:
    r""":math:`\sum_i \binom{D}{i+3} (-x)^i`, by its series where the closed form would cancel."""
    pairs = depth * (depth - 1) / 2
    power = 1 - decayed(gain, depth)
    closed = (pairs - (depth - (1 - power) / gain) / gain) / gain
    if is_symbolic(closed):
        return closed
    series: Numeric = 1.0
    for i in range(14, 0, -1):  # every term is below D x/4 of the one before: 14 reach 1e-19
        series = 1 - (depth - i - 2) * gain / (i + 3) * series
    return where(depth * gain < 0.5, pairs * (depth - 2) / 3 * series, closed)


def _variance(depth: Numeric, width: Numeric) -> Numeric:
    r"""The sum over pairs of terms, less :math:`D^2`, with nothing left that cancels as :math:`n \to \infty`.

    With :math:`g = 1 + 2/n` and :math:`b = 1 - 1/n`: the moments of a product of Gaussian matrices mix the powers of g
    and b, the two eigenvalues of their recursion from layer to layer.
    """
    gain = 3 / (width + 2)  # 1 - b/g
    shrunk = 1 - 1 / width
    grown = -decayed(-2 / width, depth - 1)  # g^{D-1} - 1
    grown_less = -decayed(-2 / width, depth - 2)
    pairs = depth * (depth - 1) / 2
    mixed = pairs * (shrunk * grown_less - 1 / width)
    mixed = mixed - shrunk * (1 + grown_less) * gain * _binomial_tail(gain, depth)
    return depth * (depth + 2) / 3 * grown + 4 * mixed / 3


@formula(PARAMETERS, quantity="squared kernel", status="exact", symbolic=True, source="derived", assumptions=_NTK_START)
def initial_ntk_variance(depth: Numeric, width: Numeric) -> Numeric:
    r"""Variance of the tangent kernel at the start; its mean is the depth, at any width.

    .. math:: \operatorname{Var} K = \frac{D(D+2)}{3} g^{D-1} + \frac{4b}{3} \sum_{i=1}^{D-1} i\, g^{i-1} b^{D-1-i}
        - D^2, \qquad g = 1 + \frac2n,\ b = 1 - \frac1n

    For wide networks :math:`\tfrac23 D (D-1)(2D-1)/n`; where the depth is not small against the width it grows
    exponentially in their ratio.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> initial_ntk_variance(2, 16), initial_ntk_variance(1, 16)
    (0.25, 0.0)
    """
    return _variance(depth, width)


@formula(PARAMETERS, quantity="variance", status="exact", symbolic=True, source="derived", assumptions=_NTK_START)
def initial_ntk_relative_variance(depth: Numeric, width: Numeric) -> Numeric:
    r"""Variance of the tangent kernel at the start over its squared mean, :math:`\operatorname{Var} K / D^2`.

    Its root is the spread of the normalised learning rate :math:`\eta K` between seeds at one learning rate.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> initial_ntk_relative_variance(2, 16) ** 0.5
    0.25
    """
    return _variance(depth, width) / depth**2


@formula(
    PARAMETERS,
    quantity="kernel",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("weights of variance 1/fan_in", "one output", "one example with |x|^2 = inputs"),
)
def standard_initial_ntk(depth: Numeric, width: Numeric, inputs: Numeric) -> Numeric:
    r"""Mean tangent kernel at the start in standard parametrisation, where it grows with the width.

    .. math:: d + (D-1)\, n:

    every layer counts with its fan-in. With as many inputs as hidden units it is the width times the mean D of the NTK
    parametrisation.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> standard_initial_ntk(3, 100, 10)
    210.0
    """
    return inputs + (depth - 1) * width


def _grown(one: float, other: float) -> float:
    """(1 + a)(1 + b) - 1."""
    return one + other + one * other


class NtkMoments(NamedTuple):
    """Mean and variance of the tangent kernel at the start."""

    mean: float
    variance: float


@law(quantity="report")
@checked(widths=hidden_widths)
def initial_ntk_moments(widths: Sequence[int]) -> NtkMoments:
    r"""Mean and variance of the tangent kernel at the start, hidden widths all different if need be.

    With :math:`g_k = 1 + 2/n_k` the product of terms l < m has the mean :math:`\prod_{k<l} g_k \prod_{k \ge m} g_k \,
    T_{l,m}`, and along a product of Gaussian matrices :math:`T = E|M|_F^4/n^2` and :math:`S = E|M M^\top|_F^2/n` obey

    .. math:: T_k = T_{k-1} + \frac{2 S_{k-1}}{n_k n_{k-1}}, \qquad
        S_k = T_{k-1} + \frac{n_k + 1}{n_{k-1}} S_{k-1}, \qquad T = S = 1 \text{ for one layer.}

    Status: exact, in NTK parametrisation with standard normal weights, one output and one example.

    Parameters
    ----------
    widths : sequence of int
        Of the hidden layers; none of them for a network of depth 1.

    Returns
    -------
    NamedTuple
        ``mean``, the depth, and ``variance``.

    Raises
    ------
    ValueError, TypeError
        If a width is not an integer >= 1.

    Examples
    --------
    >>> initial_ntk_moments([16])
    NtkMoments(mean=2.0, variance=0.25)
    >>> round(initial_ntk_moments([16, 4, 16]).variance, 6)
    7.660156
    """
    depth = len(widths) + 1
    # of every product what it is above 1, so that nothing cancels in the end
    below, above = [0.0], [0.0]  # products of g over the layers below, and above
    for width in widths:
        below.append(_grown(below[-1], 2 / width))
    for width in widths[::-1]:
        above.append(_grown(above[-1], 2 / width))
    variance = depth * below[-1]  # the squares of all terms
    for first in range(len(widths)):
        spread, square = 0.0, 1.0  # T less 1, and S
        for last in range(first, len(widths)):
            if last > first:
                ratio = widths[last - 1]
                spread, square = (
                    spread + 2 * square / widths[last] / ratio,
                    1 + spread + (widths[last] + 1) / ratio * square,
                )
            variance += 2 * _grown(_grown(below[first], spread), above[len(widths) - 1 - last])
    return NtkMoments(float(depth), variance)
