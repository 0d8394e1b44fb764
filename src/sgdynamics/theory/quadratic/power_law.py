r"""Power-law spectra: how the bias decays, and the constant learning rate that balances it against noise.

:math:`h_i = i^{-a}` and :math:`h_i e_{0,i}^2 = i^{-b}`; the risk of the start decays with the exponent :math:`\kappa =
(b-1)/a`.
"""

from __future__ import annotations

import math

from scipy.special import gammaln

from sgdynamics.domains import Numeric, positive
from sgdynamics.formula import exp, formula, log, where
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.parameters import Parameter

_STIRLING = 1e16  # beyond, log Gamma(k) is k (log k - 1) to the last digit
_LOG_2 = math.log(2)
_WINDOW = (
    "infinitely many modes",
    "gains below 2",
    "1 << 2 * rate * steps",
    "(2 * rate * steps * smallest curvature)^kappa << 1",
)


def _decay(curvature_exponent: Numeric, source_exponent: Numeric) -> tuple[Numeric, Numeric]:
    """The exponent of the decay, and its logarithm where the exponent itself is beyond the floats."""
    above_one = source_exponent - 1
    return above_one / curvature_exponent, log(above_one) - log(curvature_exponent)


@formula(
    PARAMETERS,
    time=positive,
    curvature_exponent=positive,
    quantity="loss",
    status="asymptotic",
    source="derived",
    assumptions=_WINDOW,
)
def power_law_bias(time: Numeric, curvature_exponent: Numeric, source_exponent: Numeric) -> Numeric:
    r"""Excess risk left of the start after flow time :math:`\tau = \eta t`.

    .. math:: \tfrac12 \sum_i i^{-b} (1-\eta i^{-a})^{2t} \to \frac{\Gamma(\kappa)}{2a} (2\tau)^{-\kappa}, \qquad \kappa
        = \frac{b-1}{a}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> power_law_bias(1500.0, 1.5, 2.0)
    0.00216997...
    """
    kappa, log_kappa = _decay(curvature_exponent, source_exponent)
    scale = _LOG_2 + log(time)
    exponent = where(kappa > _STIRLING, kappa * (log_kappa - 1 - scale), gammaln(kappa + 1) - kappa * scale)
    # Gamma(kappa)/(2 a) is Gamma(kappa + 1)/(2 (b - 1)), where kappa may be too small for a float
    return exp(exponent - _LOG_2 - log(source_exponent - 1))


@formula(
    PARAMETERS,
    steps=Parameter("t", "number of steps", positive, 7.0),
    curvature_exponent=positive,
    quantity="learning rate",
    status="asymptotic",
    source="derived",
    assumptions=(*_WINDOW, "noise floor proportional to the learning rate"),
)
def power_law_optimal_rate(
    steps: Numeric, curvature_exponent: Numeric, source_exponent: Numeric, noise: Numeric
) -> Numeric:
    r"""Constant learning rate that minimises bias plus noise after a given number of steps.

    The minimum over :math:`\eta` of :math:`\frac{\Gamma(\kappa)}{2a}(2\eta t)^{-\kappa} + N\eta`:

    .. math:: \eta^* = \Bigl( \frac{\kappa\,\Gamma(\kappa)}{2 a N} \Bigr)^{1/(\kappa+1)} (2t)^{-\kappa/(\kappa+1)}.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> power_law_optimal_rate(1e4, 1.5, 2.0, noise=0.1)
    0.036868...
    """
    kappa, log_kappa = _decay(curvature_exponent, source_exponent)
    scale = _LOG_2 + log(curvature_exponent) + log(noise)
    gammas = where(kappa > _STIRLING, log_kappa - 1, gammaln(kappa + 1) / (kappa + 1))
    return exp(gammas - scale / (kappa + 1) - (_LOG_2 + log(steps)) / (1 + 1 / kappa))


@formula(
    PARAMETERS,
    curvature_exponent=positive,
    quantity="steps",
    status="asymptotic",
    source="derived",
    assumptions=(*_WINDOW, "noise floor proportional to the learning rate"),
)
def power_law_crossover_steps(
    learning_rate: Numeric, curvature_exponent: Numeric, source_exponent: Numeric, noise: Numeric
) -> Numeric:
    r"""Number of steps after which the noise floor :math:`N\eta` exceeds what is left of the start.

    .. math:: t^\times = \frac{1}{2\eta} \Bigl( \frac{\Gamma(\kappa)}{2 a N \eta} \Bigr)^{1/\kappa}

    Returns
    -------
    Numeric
        Steps.

    Examples
    --------
    >>> power_law_crossover_steps(0.1, 1.5, 2.0, noise=0.1)
    1516...
    """
    kappa, log_kappa = _decay(curvature_exponent, source_exponent)
    scale = _LOG_2 + log(curvature_exponent) + log(noise) + log(learning_rate)
    exponent = where(kappa > _STIRLING, log_kappa - 1 - scale / kappa, (gammaln(kappa) - scale) / kappa)
    return exp(exponent - _LOG_2 - log(learning_rate))
