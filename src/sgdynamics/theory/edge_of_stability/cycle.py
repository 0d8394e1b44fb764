r"""The self-stabilisation cycle: :math:`x' = -(1+\eta y)x`, :math:`y' = y + \eta(\alpha - \tfrac12\beta x^2)`.

:math:`x` is the weight along the top eigenvector, :math:`y = S - 2/\eta` the excess of its curvature,
:math:`\alpha = -\nabla L\cdot\nabla S` the progressive sharpening and :math:`\beta = |\nabla S|^2` the restoring
strength (of the part of :math:`\nabla S` orthogonal to the eigenvector).
"""

from __future__ import annotations

import math

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic, real
from sgdynamics.formula import formula, log, sqrt, where
from sgdynamics.models.edge_of_stability.parameters import PARAMETERS
from sgdynamics.models.uv._pointwise import hypotenuse
from sgdynamics.parameters import Parameter

_MAP = ("the truncated two-variable map",)


@formula(PARAMETERS, quantity="oscillation", status="exact", symbolic=True, source="damian2022, map", assumptions=_MAP)
def cycle_amplitude(sharpening: Numeric, restoring: Numeric) -> Numeric:
    r"""Amplitude :math:`\sqrt{2\alpha/\beta}` of the cycle on which x only flips and the curvature stays at the edge.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_amplitude(2.0, 1.0)
    2.0
    """
    return 2 * sqrt(sharpening / 2) / sqrt(restoring)


@formula(
    PARAMETERS,
    sharpening=real,
    quantity="second moment",
    status="exact",
    symbolic=True,
    source="cohen2024, central flow",
    assumptions=("one direction at the edge", "the curvature along it stays at 2/eta"),
)
def oscillation_variance(sharpening: Numeric, restoring: Numeric) -> Numeric:
    r"""Variance of the oscillation that holds the curvature at the edge: :math:`\Sigma = 2\alpha_+/\beta`.

    In the units of the weights, without a factor of the learning rate:
    :math:`\Sigma = 2\,\langle -\nabla L, \nabla S\rangle_+/|\nabla S|^2` is what makes
    :math:`\dot w = -\nabla L - \tfrac12\Sigma\nabla S` keep :math:`S`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> oscillation_variance(1.5, 2.0), oscillation_variance(-1.0, 2.0)
    (1.5, 0.0)
    """
    return where(sharpening > 0, 2 * (sharpening / restoring), 0 * restoring)


@formula(
    PARAMETERS,
    quantity="steps",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_MAP, "close to the cycle", "learning rate to 0"),
)
def cycle_period(learning_rate: Numeric, sharpening: Numeric) -> Numeric:
    r"""Steps in which a small deviation from the cycle comes round: :math:`2\pi/(\eta\sqrt{2\alpha})`.

    Its angle per step is :math:`\arctan(\eta\sqrt{2\alpha})` exactly. Large deviations take longer.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_period(0.01, 1.0)
    444.288...
    """
    return math.pi / (learning_rate * sqrt(sharpening / 2))


@formula(
    PARAMETERS,
    quantity="factor",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_MAP, "linearised in (ln|x|, y) about the cycle"),
)
def cycle_growth(learning_rate: Numeric, sharpening: Numeric) -> Numeric:
    r"""Growth per step of a small deviation from the cycle: :math:`\sqrt{1 + 2\alpha\eta^2} > 1`.

    The truncated map spirals out; what holds a network at the edge beyond many cycles is not in it.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(cycle_growth(1.0, 1.5), 12)
    2.0
    """
    return hypotenuse(1, learning_rate * (2 * sqrt(sharpening / 2)))


_SCALE = 2.0**20


def _invariant(size: Numeric, excess: Numeric, sharpening: Numeric, restoring: Numeric) -> Numeric:
    return excess * excess / 2 - sharpening * log(size) + restoring * size / 4 * size


@formula(
    PARAMETERS,
    excess=Parameter(r"y = S - 2/\eta", "sharpness beyond the edge", real, 0.25, "1/learning rate"),
    quantity="invariant",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("continuous-time limit of the map",),
)
def cycle_invariant(size: Numeric, excess: Numeric, sharpening: Numeric, restoring: Numeric) -> Numeric:
    r"""What the cycle conserves as :math:`\eta \to 0`: :math:`\tfrac12 y^2 - \alpha\ln|x| + \tfrac14\beta x^2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_invariant(1.0, 2.0, 1.0, 4.0)
    3.0
    """
    value = _invariant(size, excess, sharpening, restoring)
    if any(map(is_symbolic, (size, excess, sharpening, restoring))):
        return value
    # terms beyond the largest number, of either sign, are summed in another unit
    far = _SCALE * _invariant(size, excess / _SCALE**0.5, sharpening / _SCALE, restoring / _SCALE)
    return where(np.isfinite(value), value, far)


@formula(
    PARAMETERS,
    quantity="factor",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("the truncated two-variable map with a third derivative", "whole cycles", "learning rate to 0"),
)
def cycle_drift(learning_rate: Numeric, sharpening: Numeric, restoring: Numeric, asymmetry: Numeric = 0.0) -> Numeric:
    r"""How much a step adds to the invariant of the cycle, on average, per mean square of the excess.

    .. math:: \frac{\langle \Delta E \rangle}{\langle y^2 \rangle} = \alpha\eta^2
        \Bigl(2 - \frac{9\zeta^2}{\beta}\Bigr), \qquad E = \tfrac12 y^2 - \alpha\ln|x| + \tfrac14\beta x^2,

    for a loss with the term :math:`\tfrac12\zeta x^3` along the oscillating weight. The discrete steps make the cycle
    spiral out; the third derivative :math:`3\zeta` takes :math:`\tfrac94\eta^2\zeta^2x^2` off the growth of the
    oscillation in every step, and from :math:`\zeta^2 = 2\beta/9` on it spirals in, to the edge.

    Over whole cycles :math:`\beta\langle x^2 y^2\rangle = 2\alpha\langle y^2\rangle`,
    :math:`\beta\langle x^2\rangle = 2\alpha` and :math:`\beta^2\langle x^4\rangle = 4\alpha^2 + 8\alpha\langle
    y^2\rangle`, because :math:`y^3`, :math:`y` and :math:`y(\alpha - \tfrac12\beta x^2)` come back.

    Returns
    -------
    Numeric
        Negative where the oscillation dies out.

    Examples
    --------
    >>> round(cycle_drift(0.01, 1.0, 1.0), 12), round(cycle_drift(0.01, 1.0, 1.0, 0.6), 12)
    (0.0002, -0.000124)
    """
    skew = 3 * (asymmetry / sqrt(restoring))
    return sharpening * learning_rate * learning_rate * (2 - skew * skew)
