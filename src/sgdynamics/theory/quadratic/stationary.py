r"""The stationary law of the iterates, and the edge where it ceases to exist.

One direction of curvature :math:`h`, constant learning rate :math:`\eta`, independent batch centers of variance
:math:`\sigma^2`; gain :math:`x = \eta h`. Variances are in units of :math:`\sigma^2`.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric
from sgdynamics.formula import formula, sqrt, stable_below, where
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory.quadratic._kernel import below_the_edge, edge_gain


@formula(
    PARAMETERS,
    edge=stable_below(gain=edge_gain),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def stationary_variance(gain: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Stationary variance of the iterates of SGD, with or without momentum.

    .. math:: V = \frac{x}{2-x}, \qquad
        V_\text{heavy ball} = \frac{x (1+\beta)}{(1-\beta)(2(1+\beta) - x)}, \qquad
        V_\text{Nesterov} = \frac{x (1+\beta q)}{(1-\beta q)(1 + q (1+2\beta))}, \quad q = 1-x.

    Returns
    -------
    Numeric
        Variance in units of the center variance; broadcasts; symbolic for symbolic input.

    Examples
    --------
    >>> stationary_variance(0.1)
    0.052631...
    >>> stationary_variance(0.1, momentum=0.9)
    0.513513...
    """
    if nesterov:
        q = 1 - gain
        forget = (1 - momentum) + momentum * gain
        return below_the_edge(gain * (1 + momentum * q), forget * ((2 - gain) + 2 * momentum * q))
    return below_the_edge(gain * (1 + momentum), (1 - momentum) * ((2 - gain) + 2 * momentum))


@formula(
    PARAMETERS,
    edge=stable_below(learning_rate=lambda curvature, momentum, nesterov: edge_gain(momentum, nesterov) / curvature),
    quantity="loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def stationary_risk(
    learning_rate: Numeric,
    curvature: Numeric,
    center_variance: Numeric,
    batch_size: Numeric = 1,
    *,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
) -> Numeric:
    r"""Stationary excess risk of one direction in the units of the loss.

    .. math:: R = \tfrac12 h \frac{C}{B} V(\eta h)

    Its derivatives (``stationary_risk.derivative("batch_size")`` and the like) are the sensitivities of the plateau.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> stationary_risk(0.5, 1.0, 3.0, batch_size=2)
    0.25
    """
    gain = learning_rate * curvature
    variance = stationary_variance.function(gain, momentum=momentum, nesterov=nesterov)
    return curvature * center_variance / batch_size * variance / 2


@formula(
    PARAMETERS,
    quantity="learning rate",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise",),
)
def stability_edge(curvature: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Largest stable learning rate, with or without momentum: there the iterates cease to be stable.

    .. math:: \eta = \frac{2(1+\beta)}{h} \text{ (heavy ball)}, \qquad \frac{2(1+\beta)}{(1+2\beta)\, h} \text{
        (Nesterov)}

    Curvature and learning rate may change places: at a given rate the result is the sharpness at which it is unstable.

    With additive noise the same matrix contracts mean, second moment and every path, so that the edges of the mean, in
    mean square and almost surely coincide. Curvature noise pulls them apart.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> stability_edge(4.0), stability_edge(4.0, momentum=0.5)
    (0.5, 0.75)
    """
    return edge_gain(momentum, nesterov) / curvature


@formula(PARAMETERS, quantity="factor", status="exact", source="derived", assumptions=("additive noise",))
def contraction_factor(gain: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Asymptotic factor per step by which the mean error shrinks, or grows.

    The spectral radius of the transfer matrix with trace :math:`1+\beta-x` and determinant :math:`\beta` (heavy ball),
    or :math:`(1+\beta)q` and :math:`\beta q` (Nesterov, :math:`q = 1-x`). The second moment has its square; its
    logarithm is the Lyapunov exponent of every path.

    Returns
    -------
    Numeric
        Below 1 where stable, 1 at the edge.

    Examples
    --------
    >>> contraction_factor(0.1), contraction_factor(0.5, momentum=0.25)
    (0.9, 0.5)
    """
    # trace^2 - 4 determinant is a product: next to critical damping the difference would cancel, and far out overflow
    q = 1 - gain
    if nesterov:
        scale, trace, determinant = 1 + momentum, q, momentum * q
        factors = q, ((1 - momentum) / scale) ** 2 - gain
    else:
        scale, trace, determinant = 1.0, 1 + momentum - gain, momentum + 0 * gain
        factors = (1 - sqrt(momentum)) ** 2 - gain, (1 + sqrt(momentum)) ** 2 - gain
    real = scale * (abs(trace) / 2 + sqrt(abs(factors[0])) * sqrt(abs(factors[1])) / 2)
    return where((factors[0] >= 0) == (factors[1] >= 0), real, sqrt(abs(determinant)))
