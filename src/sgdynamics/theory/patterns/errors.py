r"""Errors on P-only examples, the errors that tell the two algorithms apart."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf, ndtr, owens_t

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import exp, formula, sqrt, where
from sgdynamics.models.patterns.parameters import PARAMETERS

__all__ = ["mean_classifier_cosine", "p_only_error"]


# Gauss-Legendre on [0, 1]: exact to rounding where the pole of the integrand is further than _FAR from its start.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2
_FAR = 2.0


@formula(PARAMETERS, quantity="probability", status="exact", source="derived", assumptions=("a linear rule",))
def p_only_error(cosine: Numeric, margin: Numeric) -> Numeric:
    r"""Error on P-only examples of a linear rule with a given cosine to the true direction.

    With :math:`G = \gamma_0\sqrt d`, :math:`k = c/\sqrt{1-c^2}` and T Owen's function

    .. math:: 2 \int_0^\infty \varphi(u)\, \Phi(-k(G+u))\, du = \Phi(-cG) - 2 T(cG, k)
        = \frac1\pi \int_0^{\arccos c} \exp\Bigl(-\frac{c^2 G^2}{2 \sin^2\psi}\Bigr) d\psi;

    :math:`\arccos(c)/\pi` without margin. The last expression is for :math:`c \ge 0`; the error at :math:`-c` is 1 less
    that at c.

    Returns
    -------
    Numeric
        In [0, 1].

    Notes
    -----
    Owen's function is read on the side where the difference does not cancel. Where the error is small,
    :math:`cG\sqrt{1+k^2} > 2`, both differences do: the last integral is then taken by quadrature, so that tiny errors
    keep their digits.

    Examples
    --------
    >>> p_only_error(0.8, 1.0)
    0.0235296...
    >>> p_only_error(0.5, 0.0)
    0.3333333...
    """
    c = abs(cosine)
    sine = sqrt((1 - c) * (1 + c))
    h = c * margin
    steep = c > sine
    k = where(steep, 1.0, c / where(steep, 1.0, sine))
    inverse = where(steep, sine / where(steep, c, 1.0), 1.0)
    reach = h * where(steep, 1 / where(inverse == 0, 1.0, inverse), k)  # k h
    flat = ndtr(-h) - 2 * owens_t(h, k)
    sharp = 2 * owens_t(reach, inverse) - ndtr(-reach) * erf(h / math.sqrt(2))
    error = where(np.hypot(h, reach) > _FAR, _tail(h, reach), where(steep, sharp, flat))
    error = where(sine == 0, 0.0, error)
    return where(cosine < 0, 1 - error, error)


def _tail(h: Numeric, reach: Numeric) -> Numeric:
    r""":math:`\frac1\pi \int_k^\infty e^{-h^2(1+x^2)/2}/(1+x^2)\, dx`, with ``reach`` = k h.

    With :math:`u = h (x-k)/\sqrt 2`, :math:`p = h/\sqrt 2`, :math:`q = kh/\sqrt 2` it is :math:`e^{-p^2-q^2}/\pi` times

    .. math:: \int_0^\infty e^{-u(u+2q)} \frac{p}{p^2 + (q+u)^2}\, du .
    """
    p, q = (where(root < 40, root, 40.0) / math.sqrt(2) for root in (h, reach))  # beyond, it is below any number
    end = 40 / (sqrt(q**2 + 40) + q)  # where the exponent is 40
    total: Numeric = 0.0
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        u = node * end
        total = total + weight * exp(-u * (u + 2 * q)) * p / (p**2 + (q + u) ** 2)
    return exp(-(p**2) - q**2) * end * total / math.pi


@formula(
    PARAMETERS,
    quantity="correlation",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("large dimension and many examples", "the rule is the mean of label times input"),
)
def mean_classifier_cosine(dimension: Numeric, examples: Numeric, margin: Numeric) -> Numeric:
    r"""Cosine to the true direction of the mean of :math:`y x_1` over some examples.

    .. math:: c = \frac{M \sqrt{n/d}}{\sqrt{1 + M^2 n/d}}, \qquad M = \gamma_0 \sqrt d + \sqrt{2/\pi}

    What one step of descent from the origin makes of all examples that carry P. Off by terms of order 1/d.

    Returns
    -------
    Numeric
        In (0, 1).

    Examples
    --------
    >>> mean_classifier_cosine(100, 380, 0.0)
    0.841...
    """
    signal = (margin + math.sqrt(2 / math.pi)) * sqrt(examples) / sqrt(dimension)
    if is_symbolic(signal):
        return signal / sqrt(1 + signal**2)
    return where(signal > 1, 1 / np.hypot(1, 1 / signal), signal / np.hypot(1, where(signal > 1, 1.0, signal)))
