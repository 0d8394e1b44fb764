r"""The curvature form: how strongly one training step on the rays bends the network between them.

On the rays :math:`z, z+\zeta, z-\zeta` a pattern-Q network is three numbers, and a linear one has curvature :math:`c =
g(z) - \tfrac12 (g(z+\zeta) + g(z-\zeta)) = 0`. With :math:`e = (1, -\tfrac12, -\tfrac12)` both the labels' pull and
:math:`c` point along :math:`e`, so that :math:`e^\top K e` is the rate at which Q is learnt. Amplitude 1 throughout;
with amplitude s it is :math:`s^2` times as large. With :math:`\theta = \arctan r`, the angle between the rays, and
correlation :math:`\rho`

.. math:: 2\pi\, e^\top K e = 2 \bigl(\arccos(\rho\cos\theta) - \arccos\rho\bigr)
    - \tfrac{1-r^2}{2} \bigl(\arccos(\rho\cos 2\theta) - \arccos\rho\bigr).
"""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import formula, sqrt, where
from sgdynamics.models.patterns.parameters import PARAMETERS
from sgdynamics.theory.patterns._angles import arctan, hypotenuse, pi

__all__ = ["curvature_form", "refreshed_curvature_form", "small_angle_curvature_form"]

# Gauss-Legendre on [0, 1]: twenty points integrate 1/sqrt(1+u) for u <= 1 to the last digit.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("frozen activation pattern", "Gaussian weights", "infinite width"),
)
def curvature_form(r: Numeric) -> Numeric:
    r"""The curvature form of a frozen activation pattern.

    .. math:: e^\top K e = \frac{(1+r^2) \arctan r}{2\pi},

    linear in the separation, by the kink of the kernel at angle 0.

    Returns
    -------
    Numeric
        For amplitude 1.

    Examples
    --------
    >>> curvature_form(0.1)
    0.016021386...
    """
    root = hypotenuse(1, r)
    return root * (root * arctan(r) / (2 * pi(r)))


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("Gaussian weights", "infinite width"),
)
def refreshed_curvature_form(separation: Numeric, correlation: Numeric) -> Numeric:
    r"""The curvature form between two times whose weights have a correlation below 1.

    The formula of the module's page. A refreshed kernel is smooth at angle 0, so that the form falls from order
    :math:`r` to order :math:`r^4`, as soon as :math:`\sqrt{2(1-\rho)}` exceeds :math:`r`.

    Returns
    -------
    Numeric
        For amplitude 1.

    Notes
    -----
    For :math:`4 r^2 < \sigma^2 = 1-\rho^2` the differences of the arccosines are evaluated as :math:`\rho t/\sigma +
    R(t)` with :math:`t` the differences 1 - cos, whose leading terms combine to :math:`\frac{\rho}{\sigma}
    \frac{r^4}{1+r^2} (1 + (1+\sqrt{1+r^2})^{-2})` and whose remainders are quadratures of one sign.

    Examples
    --------
    >>> refreshed_curvature_form(0.1, 1.0), refreshed_curvature_form(0.1, 0.2)
    (0.016021386..., 4.1138...e-06)
    """
    r, rho = separation, correlation
    if is_symbolic(r) or is_symbolic(rho):
        return _symbolic_form(r, rho)
    root = np.hypot(1, r)
    sine, inverse = r / root, 1 / root
    # sines and cosines of half the angle and of half of twice the angle
    half = sine / np.sqrt(2 * (1 + inverse)), np.sqrt((1 + inverse) / 2)
    whole = sine, inverse
    sigma = sqrt((1 - rho) * (1 + rho))
    near, far = (_arccos_gain(rho, sigma, *angle) for angle in (half, whole))
    direct = near / np.pi - (1 - r) / 2 * ((1 + r) * (far / (2 * np.pi)))
    safe = where(sigma == 0, 1.0, sigma)
    small = where(r < 1, r, 1.0)  # where the series is used
    root = sqrt(1 + small**2)
    leading = rho * (small / safe) * small**3 / root**2 * (1 + 1 / (1 + root) ** 2)
    terms = (_remainder(rho, safe, small**2 / (root * (1 + root))), _remainder(rho, safe, 2 * (small / root) ** 2))
    series = leading + 2 * terms[0] - (1 - small) * (1 + small) / 2 * terms[1]
    return where(2 * r < sigma, series / (2 * np.pi), direct)


def _arccos_gain(rho: Numeric, sigma: Numeric, sine: Numeric, cosine: Numeric) -> Numeric:
    r""":math:`\arccos(\rho\cos\theta) - \arccos\rho` from sine and cosine of :math:`\theta/2`.

    Without cancellation, as the angle between two directions.
    """
    other = np.hypot(np.sqrt(1 - rho), np.sqrt(2 * rho) * sine) * np.sqrt(1 - rho + 2 * rho * cosine**2)
    total = other + sigma
    # the sine and the cosine of the gain; the sine is a sum of terms >= 0
    difference = (2 * rho * cosine) ** 2 * sine * (sine / where(total == 0, 1.0, total))  # of the two sines
    turned = (cosine - sine) * (cosine + sine)
    return np.arctan2(2 * rho * sine**2 * sigma + rho * difference, rho**2 * turned + sigma * other)


def _remainder(rho: Numeric, sigma: Numeric, t: Numeric) -> Numeric:
    r""":math:`\arccos(\rho(1-t)) - \arccos\rho - \rho t/\sigma`, by integrating the derivative over t."""
    total: Numeric = 0.0
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        excess = (rho / sigma) ** 2 * node * t * (2 - node * t)
        root = sqrt(1 + excess)
        total = total - weight * excess / (root * (1 + root))
    return rho * t / sigma * total


def _symbolic_form(r: Numeric, rho: Numeric) -> Numeric:
    import sympy

    near = sympy.acos(rho / sympy.sqrt(1 + r**2)) - sympy.acos(rho)
    far = sympy.acos(rho * (1 - r**2) / (1 + r**2)) - sympy.acos(rho)
    return (2 * near - (1 - r**2) / 2 * far) / (2 * sympy.pi)


@formula(
    PARAMETERS,
    quantity="ratio",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("separation and refreshing angle much smaller than 1",),
)
def small_angle_curvature_form(separation: Numeric, refreshing_angle: Numeric) -> Numeric:
    r"""The curvature form for small separations and nearly frozen patterns.

    With :math:`\delta = \sqrt{2(1-\rho)}`, :math:`S_1 = \sqrt{r^2+\delta^2}`, :math:`S_2 = \sqrt{4r^2+\delta^2}`,

    .. math:: e^\top K e \approx \frac{1}{2\pi} \Bigl[2 S_1 - \tfrac32 \delta - \tfrac12 S_2\Bigr]
        = \frac{3 r^4}{\pi (S_1+S_2)(S_1+\delta)(S_2+\delta)}:

    :math:`r/(2\pi)` for :math:`\delta \ll r`, :math:`\tfrac38 r^4/(\pi\delta^3)` for :math:`\delta \gg r`.

    Returns
    -------
    Numeric
        For amplitude 1; the relative error is of order :math:`r^2 + \delta^2`.

    Examples
    --------
    >>> small_angle_curvature_form(0.1, 0.0)
    0.015915494...
    """
    r, delta = separation, refreshing_angle
    if is_symbolic(r) or is_symbolic(delta):
        near, far = sqrt(r**2 + delta**2), sqrt(4 * r**2 + delta**2)
        return 3 * r**4 / (pi(r + delta) * (near + far) * (near + delta) * (far + delta))
    scale = where(r > delta, r, delta)
    part, rest = r / scale, delta / scale
    near, far = np.hypot(part, rest), np.hypot(2 * part, rest)
    return 3 / np.pi * r * (part / (near + far)) * (part / (near + rest)) * (part / (far + rest))
