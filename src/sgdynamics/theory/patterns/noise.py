r"""The noise part of the weights: its variance under each learning rate, and how fast it turns the activation pattern.

Every entry is a chain :math:`\tilde U_{t+1} = (1-\eta\lambda) \tilde U_t - \eta \xi_t` with :math:`\xi_t \sim N(0,
\tau_\xi^2)`. What decides is not its size but its motion: relu is homogeneous, so a pattern that has stopped moving is
frozen however large the weights.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric, nonnegative, positive, whole
from sgdynamics.formula import decay, formula, sqrt, stable_below

__all__ = ["annealed_variance", "annealed_variance_ratio", "refreshing_angle", "stationary_noise_variance"]


@formula(
    learning_rate=positive,
    weight_decay=positive,
    edge=stable_below(learning_rate=lambda weight_decay: 2 / weight_decay),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("stationary",),
)
def stationary_noise_variance(learning_rate: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Stationary variance of the noise part of a weight.

    .. math:: \frac{\eta^2 \tau_\xi^2}{1 - (1-\eta\lambda)^2} = \frac{\eta\, \tau_\xi^2}{\lambda (2-\eta\lambda)}

    Parameters
    ----------
    learning_rate, weight_decay : Numeric
        :math:`\eta, \lambda > 0`; +inf from :math:`\eta\lambda = 2` on.

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


@formula(
    large_rate=positive,
    small_rate=positive,
    weight_decay=positive,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("both rates below 2/weight_decay", "stationary under either rate"),
)
def annealed_variance_ratio(large_rate: Numeric, small_rate: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Stationary variance of the noise under the small rate over that under the large one.

    .. math:: \frac{v_2}{v_1} = \frac{\eta_2}{\eta_1} \frac{2-\eta_1\lambda}{2-\eta_2\lambda}

    Reached only after a time of order :math:`1/(2\lambda)`.

    Parameters
    ----------
    large_rate, small_rate, weight_decay : Numeric
        :math:`\eta_1, \eta_2, \lambda > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> annealed_variance_ratio(8.0, 0.08, 0.01)
    0.00960384...
    """
    return small_rate / large_rate * (2 - large_rate * weight_decay) / (2 - small_rate * weight_decay)


@formula(
    large_rate=positive,
    small_rate=positive,
    weight_decay=positive,
    steps=whole,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("both rates below 2/weight_decay", "stationary under the large rate at the start"),
)
def annealed_variance(large_rate: Numeric, small_rate: Numeric, weight_decay: Numeric, steps: Numeric) -> Numeric:
    r"""Variance of the noise some steps after annealing, in units of its stationary value under the large rate.

    .. math:: v_n = R + (1-R) (1-\eta_2\lambda)^{2n}, \qquad R = \frac{\eta_2}{\eta_1}
        \frac{2-\eta_1\lambda}{2-\eta_2\lambda}

    Parameters
    ----------
    large_rate, small_rate, weight_decay : Numeric
        :math:`\eta_1, \eta_2, \lambda > 0`.
    steps : Numeric
        :math:`n \ge 0` steps with the small rate.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> annealed_variance(8.0, 0.08, 0.01, 6000)
    0.00967...
    """
    ratio = annealed_variance_ratio.function(large_rate, small_rate, weight_decay)
    return ratio + (1 - ratio) * decay(small_rate * weight_decay, 2 * steps)


@formula(
    time=nonnegative,
    rate_ratio=positive,
    weight_decay=positive,
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("weight decay times time, and it times the result's square, much smaller than 1",),
)
def refreshing_angle(time: Numeric, rate_ratio: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Angle by which the noise of the small rate turns the activation pattern within a time.

    .. math:: \delta = \sqrt{2(1-\rho)} \approx \sqrt{2 \lambda T\, \eta_2/\eta_1}

    A kink between rays of separation r survives while :math:`\delta \ll r`: the wall of the small rate. With
    ``rate_ratio`` 1 it is that of the large rate.

    Parameters
    ----------
    time : Numeric
        Training time :math:`T \ge 0` (sum of learning rates).
    rate_ratio : Numeric
        :math:`\eta_1/\eta_2 > 0`, large rate over small rate.
    weight_decay : Numeric
        :math:`\lambda > 0`.

    Returns
    -------
    Numeric
        Radians.

    Examples
    --------
    >>> refreshing_angle(2300.0, 1000.0, 3e-4)
    0.03714...
    """
    return sqrt(2 * weight_decay * time / rate_ratio)
