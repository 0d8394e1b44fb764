r"""The noise part of the weights: its variance under each learning rate, and how fast it turns the activation pattern.

Every entry is a chain :math:`\tilde U_{t+1} = (1-\eta\lambda) \tilde U_t - \eta \xi_t` with :math:`\xi_t \sim N(0,
\tau_\xi^2)`. What decides is not its size but its motion: relu is homogeneous, so a pattern that has stopped moving is
frozen however large the weights.
"""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import decay, exp, formula, geometric_sum, sqrt, stable_below, where
from sgdynamics.models.patterns.parameters import PARAMETERS
from sgdynamics.theory._quotients import quotient

__all__ = [
    "annealed_variance",
    "annealed_variance_ratio",
    "noise_correlation",
    "refreshing_angle",
    "stationary_noise_variance",
]


@formula(
    PARAMETERS,
    edge=stable_below(learning_rate=lambda weight_decay: 2 / weight_decay),
    quantity="second moment",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("stationary",),
)
def stationary_noise_variance(learning_rate: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Stationary variance of the noise part of a weight.

    .. math:: \frac{\eta^2 \tau_\xi^2}{1 - (1-\eta\lambda)^2} = \frac{\eta\, \tau_\xi^2}{\lambda (2-\eta\lambda)}

    Returns
    -------
    Numeric
        In units of :math:`\tau_\xi^2`, the variance of the noise in the gradient.

    Examples
    --------
    >>> stationary_noise_variance(8.0, 0.01)
    416.66...
    """
    return learning_rate / (weight_decay * (2 - learning_rate * weight_decay))


def _larger(one: Numeric, other: Numeric) -> Numeric:
    return where(one > other, one, other)


@formula(
    PARAMETERS,
    edge=stable_below(
        weight_decay=lambda large_rate, small_rate: 2 / where(large_rate > small_rate, large_rate, small_rate)
    ),
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("stationary under either rate",),
)
def annealed_variance_ratio(large_rate: Numeric, small_rate: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Stationary variance of the noise under the small rate over that under the large one.

    .. math:: \frac{v_2}{v_1} = \frac{\eta_2}{\eta_1} \frac{2-\eta_1\lambda}{2-\eta_2\lambda}

    Reached only after a time of order :math:`1/(2\lambda)`.

    Returns
    -------
    Numeric
        +inf where either rate is at or beyond :math:`2/\lambda` and so has no stationary law.

    Examples
    --------
    >>> annealed_variance_ratio(8.0, 0.08, 0.01)
    0.00960384...
    """
    return quotient((small_rate, 2 - large_rate * weight_decay), (large_rate, 2 - small_rate * weight_decay))


@formula(
    PARAMETERS,
    edge=stable_below(large_rate=lambda weight_decay: 2 / weight_decay),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("stationary under the large rate at the start",),
)
def annealed_variance(large_rate: Numeric, small_rate: Numeric, weight_decay: Numeric, steps: Numeric) -> Numeric:
    r"""Variance of the noise some steps after annealing, in units of its stationary value under the large rate.

    .. math:: v_n = a^{2n} + \frac{\eta_2^2 \lambda (2-\eta_1\lambda)}{\eta_1} \sum_{i<n} a^{2i}, \qquad
        a = 1-\eta_2\lambda,

    which is :math:`R + (1-R)\, a^{2n}` with :math:`R` of :func:`annealed_variance_ratio` where that exists. Beyond
    :math:`\eta_2\lambda = 2` it grows without bound.

    Returns
    -------
    Numeric
        +inf where the large rate is at or beyond :math:`2/\lambda` and so has no stationary law.

    Examples
    --------
    >>> annealed_variance(8.0, 0.08, 0.01, 6000)
    0.00967...
    """
    gain = small_rate * weight_decay
    if is_symbolic(gain):
        kicks = geometric_sum(gain * (2 - gain), steps)
        return (
            decay(gain, 2 * steps) + small_rate**2 * weight_decay * (2 - large_rate * weight_decay) / large_rate * kicks
        )
    kick = quotient((small_rate, small_rate, weight_decay, 2 - large_rate * weight_decay), (large_rate,))
    kicks = geometric_sum(gain * (2 - gain), steps)  # of the squares of 1 - gain
    return decay(gain, 2 * steps) + where(steps == 0, 0.0, kick * kicks)


@formula(
    PARAMETERS,
    edge=stable_below(
        weight_decay=lambda large_rate, small_rate: 2 / where(large_rate > small_rate, large_rate, small_rate)
    ),
    quantity="correlation",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("stationary under the large rate at the start",),
)
def noise_correlation(large_rate: Numeric, small_rate: Numeric, weight_decay: Numeric, steps: Numeric) -> Numeric:
    r"""Correlation of the noise part of a weight between the end of the large rate and some steps later.

    .. math:: \rho_n = \frac{a^n}{\sqrt{v_n}} = \pm \bigl(1 + R\,(a^{-2n} - 1)\bigr)^{-1/2}, \qquad a = 1-\eta_2\lambda,

    with :math:`v_n` of :func:`annealed_variance`, :math:`R` of :func:`annealed_variance_ratio` and the sign of
    :math:`a^n`. Its arc cosine over :math:`\pi` is the share of units whose activity on an input has changed. For small
    rates it is the :math:`\rho` of :func:`refreshing_angle`.

    Returns
    -------
    Numeric
        +inf where either rate is at or beyond :math:`2/\lambda`: there is no stationary law.

    Examples
    --------
    >>> noise_correlation(8.0, 0.08, 0.01, 600)
    0.99234475...
    """
    changed = annealed_variance.function(large_rate, small_rate, weight_decay, steps)
    return decay(small_rate * weight_decay, steps) / sqrt(changed)


@formula(
    PARAMETERS,
    quantity="angle",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(
        "weight decay times the small rate small",
        "stationary under the large rate at the start",
    ),
)
def refreshing_angle(time: Numeric, rate_ratio: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Angle by which the noise of the small rate turns the activation pattern within a time.

    .. math:: \delta = \sqrt{2(1-\rho)}, \qquad \rho = \Bigl(1 + \frac{\eta_2}{\eta_1}
        \bigl(e^{2\lambda T} - 1\bigr)\Bigr)^{-1/2},

    with :math:`\rho` the correlation of the noise part of a weight over that time: what the weight decay forgets of the
    noise of the large rate, the small one replaces. :math:`\sqrt{2\lambda T\,\eta_2/\eta_1}` for :math:`\lambda T \ll
    1`. A kink between rays of separation r survives while :math:`\delta \ll r`: the wall of the small rate. With
    ``rate_ratio`` 1 it is that of the large rate.

    Returns
    -------
    Numeric
        Radians, at most :math:`\sqrt 2`.

    Examples
    --------
    >>> refreshing_angle(2300.0, 1000.0, 3e-4)
    0.0544...
    """
    elapsed = 2 * weight_decay * time
    if is_symbolic(elapsed) or is_symbolic(rate_ratio):
        return sqrt(2 * (1 - 1 / sqrt(1 + (exp(elapsed) - 1) / rate_ratio)))
    elapsed = quotient((2, weight_decay, time))
    long = elapsed > 1
    growth = where(elapsed > 0, np.expm1(where(long, 1.0, elapsed)) / where(elapsed > 0, elapsed, 1.0), 1.0)
    short = sqrt(2 * growth) * sqrt(weight_decay) * sqrt(time) / sqrt(rate_ratio)
    lost = where(long, np.exp(elapsed - np.log(rate_ratio)) - 1 / rate_ratio, short**2)
    root = sqrt(1 + where(lost > 1, 1.0, lost))
    near = where(long, sqrt(lost), short) * sqrt(2 / (root * (1 + root)))
    return where(lost > 1, sqrt(2 * (1 - 1 / sqrt(1 + lost))), near)
