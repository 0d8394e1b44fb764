r"""The self-stabilisation cycle: :math:`x' = -(1+\eta y)x`, :math:`y' = y + \eta(\alpha - \tfrac12\beta x^2)`.

:math:`x` is the weight along the top eigenvector, :math:`y = S - 2/\eta` the excess of its curvature,
:math:`\alpha = -\nabla L\cdot\nabla S` the progressive sharpening and :math:`\beta = |\nabla S|^2` the restoring
strength (of the part of :math:`\nabla S` orthogonal to the eigenvector).
"""

from __future__ import annotations

import math

from sgdynamics.domains import Numeric, positive, real
from sgdynamics.formula import formula, log, sqrt, where

_MAP = ("the truncated two-variable map",)


@formula(
    sharpening=positive, restoring=positive, status="exact", symbolic=True, source="damian2022, map", assumptions=_MAP
)
def cycle_amplitude(sharpening: Numeric, restoring: Numeric) -> Numeric:
    r"""Amplitude :math:`\sqrt{2\alpha/\beta}` of the cycle on which x only flips and the curvature stays at the edge.

    Parameters
    ----------
    sharpening, restoring : Numeric
        :math:`\alpha > 0` and :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_amplitude(2.0, 1.0)
    2.0
    """
    return sqrt(2 * sharpening / restoring)


@formula(
    sharpening=real,
    restoring=positive,
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

    Parameters
    ----------
    sharpening : Numeric
        :math:`\alpha = \langle -\nabla L, \nabla S\rangle`; without sharpening there is no oscillation.
    restoring : Numeric
        :math:`\beta = |\nabla S|^2 > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> oscillation_variance(1.5, 2.0), oscillation_variance(-1.0, 2.0)
    (1.5, 0.0)
    """
    return where(sharpening > 0, 2 * sharpening / restoring, 0 * restoring)


@formula(
    learning_rate=positive,
    sharpening=positive,
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_MAP, "close to the cycle", "learning rate to 0"),
)
def cycle_period(learning_rate: Numeric, sharpening: Numeric) -> Numeric:
    r"""Steps in which a small deviation from the cycle comes round: :math:`2\pi/(\eta\sqrt{2\alpha})`.

    Its angle per step is :math:`\arctan(\eta\sqrt{2\alpha})` exactly. Large deviations take longer.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`.
    sharpening : Numeric
        :math:`\alpha > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_period(0.01, 1.0)
    444.288...
    """
    return 2 * math.pi / (learning_rate * sqrt(2 * sharpening))


@formula(
    learning_rate=positive,
    sharpening=positive,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_MAP, "linearised in (ln|x|, y) about the cycle"),
)
def cycle_growth(learning_rate: Numeric, sharpening: Numeric) -> Numeric:
    r"""Growth per step of a small deviation from the cycle: :math:`\sqrt{1 + 2\alpha\eta^2} > 1`.

    The truncated map spirals out; what holds a network at the edge beyond many cycles is not in it.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`.
    sharpening : Numeric
        :math:`\alpha > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_growth(1.0, 1.5)
    2.0
    """
    return sqrt(1 + 2 * sharpening * learning_rate**2)


@formula(
    size=positive,
    excess=real,
    sharpening=positive,
    restoring=positive,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("continuous-time limit of the map",),
)
def cycle_invariant(size: Numeric, excess: Numeric, sharpening: Numeric, restoring: Numeric) -> Numeric:
    r"""What the cycle conserves as :math:`\eta \to 0`: :math:`\tfrac12 y^2 - \alpha\ln|x| + \tfrac14\beta x^2`.

    Parameters
    ----------
    size : Numeric
        :math:`|x| > 0`.
    excess : Numeric
        :math:`y = S - 2/\eta`.
    sharpening, restoring : Numeric
        :math:`\alpha > 0` and :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> cycle_invariant(1.0, 2.0, 1.0, 4.0)
    3.0
    """
    return excess**2 / 2 - sharpening * log(size) + restoring * size**2 / 4
