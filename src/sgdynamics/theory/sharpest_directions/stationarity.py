r"""How often SGD overshoots along a direction: laws that need no network.

The setting is linear-Gaussian SGD along one eigenvector of the Hessian: the slope :math:`\bar g` of the loss obeys

.. math:: \bar g' = (1-x)\,\bar g - x\,\xi, \qquad q = \bar g + \xi, \qquad \xi\sim N(0, v), \qquad x = \eta\lambda .

At stationarity :math:`E\,\bar g^2 = v\,x/(2-x)` and :math:`x\,E\,q^2 = 2E\,\bar g^2`, whatever :math:`\eta`,
:math:`\lambda` and the batch size are.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from sgdynamics.domains import Numeric
from sgdynamics.formula import formula, sqrt, stable_below
from sgdynamics.theory._quotients import quotient
from sgdynamics.theory.sharpest_directions.parameters import PARAMETERS, stable_gain

_GAUSSIAN = ("quadratic along the direction", "additive Gaussian noise", "plain SGD")


@formula(
    PARAMETERS,
    edge=stable_below(gain=2),
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic along the direction", "additive noise", "plain SGD", "stationary"),
)
def stationary_slope_variance(gain: Numeric) -> Numeric:
    r"""Mean square of the slope of the loss at stationarity, in units of the variance of batch slopes.

    .. math:: \frac{E\,\bar g^2}{v} = \frac{x}{2-x}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> stationary_slope_variance(1.0)
    1.0
    """
    return gain / (2 - gain)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="share",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic along the direction", "additive noise", "plain SGD", "stationary"),
)
def stationary_minimiser(gain: Numeric) -> Numeric:
    r"""Ratio of sums of the mean minimiser at stationarity: 1/2, at every gain.

    .. math:: \frac{E\,\bar g^2}{x\,(E\,\bar g^2 + v)} = \frac12

    It needs only that the second moment along the direction is stationary, not that anything is Gaussian.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> stationary_minimiser(0.1), stationary_minimiser(1.9)
    (0.5, 0.5)
    """
    return 0.5 + 0 * gain


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="probability",
    status="exact",
    symbolic=False,
    source="derived",
    assumptions=(*_GAUSSIAN, "stationary"),
)
def increase_probability(gain: Numeric) -> Numeric:
    r"""Probability at stationarity that a step raises the loss along the direction: 1/2, at every gain.

    :math:`q` and :math:`\bar g - \tfrac12xq` are uncorrelated, hence independent, and the loss rises where their
    product is negative.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> increase_probability(0.1), increase_probability(1.9)
    (0.5, 0.5)
    """
    return 0.5 + 0 * gain


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="probability",
    status="exact",
    symbolic=False,
    source="derived",
    assumptions=(*_GAUSSIAN, "stationary"),
)
def overshoot_probability(gain: Numeric) -> Numeric:
    r"""Probability at stationarity that a step overshoots, of SGD or of Nudged-SGD: past the least loss in a direction.

    .. math:: P = \frac12 + \frac1\pi\arcsin\sqrt{x/2}

    The step overshoots where :math:`q` and :math:`xq - \bar g` have one sign; their correlation is
    :math:`\sqrt{x/2}`. From 1/2 at small gains by way of 3/4 at 1 to 1 at the edge of stability. Under Nudged-SGD the
    gain is that with the rate of the direction, :math:`\gamma\eta\lambda`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(overshoot_probability(0.5), 12), overshoot_probability(2.0)
    (0.666666666667, 1.0)
    """
    return 0.5 + np.arcsin(sqrt(gain / 2)) / np.pi


def _missed(gain: Numeric, limit: int, signal: Numeric) -> Numeric:
    """Probability that q <= 0 or limit |g| < gain |q|, for q of mean g > 0: two events that exclude each other."""
    return ndtr(-signal) + ndtr(quotient((signal, gain - limit), (gain,)))


@formula(
    PARAMETERS,
    quantity="probability",
    status="exact",
    symbolic=False,
    source="derived",
    assumptions=(*_GAUSSIAN, "at a given slope"),
)
def conditional_overshoot_probability(gain: Numeric, signal: Numeric) -> Numeric:
    r"""Probability that a step goes past the least loss along the direction, where the slope is known.

    .. math:: P = \Phi(-r) + \Phi\bigl(-r\,(1/x - 1)\bigr)

    Returns
    -------
    Numeric

    Examples
    --------
    >>> conditional_overshoot_probability(1.0, 1.0)  # 1/2 from too long steps, the rest from wrong signs
    0.65865...
    """
    return _missed(gain, 1, signal)


@formula(
    PARAMETERS,
    quantity="probability",
    status="exact",
    symbolic=False,
    source="derived",
    assumptions=(*_GAUSSIAN, "at a given slope"),
)
def conditional_increase_probability(gain: Numeric, signal: Numeric) -> Numeric:
    r"""Probability that a step raises the loss along the direction, where the slope is known.

    .. math:: P = \Phi(-r) + \Phi\bigl(-r\,(2/x - 1)\bigr)

    Returns
    -------
    Numeric

    Examples
    --------
    >>> conditional_increase_probability(2.0, 1.0)
    0.65865...
    """
    return _missed(gain, 2, signal)
