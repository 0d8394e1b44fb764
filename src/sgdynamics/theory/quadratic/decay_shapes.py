r"""How much of the noise of a plateau a decay of the learning rate leaves, by the shape of the decay.

One direction at small gains: the variance follows :math:`dv/dt = -2 h \eta v + h^2 \eta^2 C`, from its plateau
:math:`h\eta C/2` on. What is left depends on how the rate comes to 0: with :math:`\eta (s/D)^p`, s steps before the
end, it falls like :math:`D^{-p/(p+1)}`. Steeper powers forget less of the noise of the plateau, and make less of their
own at the end.
"""

from __future__ import annotations

from scipy.special import gamma, hyp1f1

from sgdynamics.domains import Numeric, positive
from sgdynamics.formula import exp, formula, log, where
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.parameters import Parameter

_STEPS = Parameter("D", "steps of the decay", positive, 7.0)

__all__ = ["decay_noise_left", "late_decay_noise_left"]

_SMALL_GAINS = ("one direction", "additive noise", "from a plateau", "gain << 1", "steps >> 1")


@formula(PARAMETERS, steps=_STEPS, quantity="share", status="asymptotic", source="derived", assumptions=_SMALL_GAINS)
def decay_noise_left(gain: Numeric, steps: Numeric, exponent: Numeric) -> Numeric:
    r"""Share of the plateau's variance that is left after a decay :math:`\eta (s/D)^p` over D steps.

    .. math:: \frac{v_\text{end}}{v_\text{plateau}} = q\, U^{-q} \gamma(q, U) = {}_1F_1(q; q+1; -U), \qquad
        q = \frac{p}{p+1}, \quad U = \frac{2xD}{p+1},

    with the lower incomplete gamma function; U is twice the curvature times the flow time of the decay. Linear:
    :math:`\sqrt{\pi}\, \operatorname{erf}(\sqrt U)/(2\sqrt U)` with :math:`U = xD`. Long decays leave
    :math:`\Gamma(1+q)\, U^{-q}`.

    Returns
    -------
    Numeric
        In (0, 1].

    Examples
    --------
    >>> round(decay_noise_left(0.01, 1000, 1.0), 4), round(decay_noise_left(0.01, 1000, 2.0), 4)
    (0.2802, 0.2547)
    """
    power, span = exponent / (1 + exponent), 2 * gain * steps / (1 + exponent)
    long = span > 1e6  # there the rest is below any rounding
    late = late_decay_noise_left.function(gain, steps, exponent)
    return where(long, late, hyp1f1(power, 1 + power, -where(long, 1.0, span)))


@formula(
    PARAMETERS,
    steps=_STEPS,
    quantity="share",
    status="asymptotic",
    source="derived",
    assumptions=(*_SMALL_GAINS, "gain * steps >> 1"),
)
def late_decay_noise_left(gain: Numeric, steps: Numeric, exponent: Numeric, amplitude: Numeric = 1.0) -> Numeric:
    r"""Share of the plateau's variance that a long decay leaves, of any shape that ends as :math:`c\,\eta (s/D)^p`.

    .. math:: \frac{v_\text{end}}{v_\text{plateau}} \to c^{1/(p+1)}\, \Gamma(1+q)\, U^{-q}, \qquad q = \frac{p}{p+1},
        \quad U = \frac{2xD}{p+1}.

    Only the end of a long decay counts. A cosine has :math:`p = 2, c = \pi^2/4`; one minus the root of time, :math:`p =
    1, c = 1/2`, leaves :math:`1/\sqrt2` of what a linear decay leaves.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(late_decay_noise_left(0.01, 1000, 1.0), 4), round(late_decay_noise_left(0.01, 1000, 1.0, 0.5), 4)
    (0.2802, 0.1982)
    """
    power = exponent / (1 + exponent)
    log_span = log(gain) + log(steps) + log(2 / (1 + exponent))  # the product may be beyond the floats
    return gamma(1 + power) * exp(log(amplitude) / (1 + exponent) - power * log_span)
