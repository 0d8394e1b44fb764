r"""Decoupled weight decay on a quadratic: how far it pulls the mean, and what it does to the noise.

With the heavy ball :math:`u \leftarrow \beta u + \nabla`, :math:`w \leftarrow (1-\eta\lambda) w - \eta u`, and
:math:`\delta = \eta\lambda`, iterates obey

.. math:: w_{t+1} = (1-\delta+\beta-x)\, w_t - \beta(1-\delta)\, w_{t-1} + x c_t.

A penalty :math:`\tfrac12 \lambda |w|^2` in the loss does the same where there is no momentum. With momentum its
gradient is summed up like any other and pulls :math:`1/(1-\beta)` times as strongly.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric
from sgdynamics.formula import formula, stable_below
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory.quadratic._kernel import below_the_edge

__all__ = ["decayed_minimiser", "decayed_variance"]


def _edge(decay: Numeric, momentum: Numeric) -> Numeric:
    return (1 + momentum) * (2 - decay)


@formula(
    PARAMETERS,
    edge=stable_below(gain=_edge),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("decoupled weight decay", "additive noise", "stationary"),
)
def decayed_variance(gain: Numeric, decay: Numeric, *, momentum: Numeric = 0.0) -> Numeric:
    r"""Stationary variance of the iterates of SGD with decoupled weight decay, plain or with the heavy ball.

    .. math:: V = \frac{x^2 (1+d)}{(1-d)\, (x + \delta(1-\beta))\, ((1+\beta)(2-\delta) - x)}, \qquad
        d = \beta(1-\delta)

    Decay lowers the variance of directions flatter than :math:`\lambda(1-\beta)` and leaves sharp ones as they are.
    The edge is at :math:`x = (1+\beta)(2-\delta)`.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> decayed_variance(0.1, 0.0), decayed_variance(0.1, 0.1)
    (0.0526315..., 0.0277777...)
    """
    forget = (1 - momentum) + momentum * decay
    pull = gain + decay * (1 - momentum)
    return below_the_edge(gain**2 * (1 + momentum * (1 - decay)), forget * pull * (_edge(decay, momentum) - gain))


@formula(
    PARAMETERS,
    edge=stable_below(gain=_edge),
    quantity="share",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("decoupled weight decay", "constant learning rate"),
)
def decayed_minimiser(gain: Numeric, decay: Numeric, *, momentum: Numeric = 0.0) -> Numeric:
    r"""Where the mean comes to rest under decoupled weight decay, as a share of the minimiser.

    .. math:: \frac{\bar w_\infty}{w^*} = \frac{x}{x + \delta(1-\beta)} = \frac{h}{h + \lambda(1-\beta)}

    Ridge regression of strength :math:`\lambda(1-\beta)`, at any learning rate. A schedule that ends at 0 comes to the
    same point if it has the time. From :math:`x = (1+\beta)(2-\delta)` on the mean does not come to rest.

    Returns
    -------
    Numeric
        In (0, 1].

    Examples
    --------
    >>> decayed_minimiser(0.1, 0.1), round(decayed_minimiser(0.1, 0.1, momentum=0.9), 12)
    (0.5, 0.909090909091)
    """
    return gain / (gain + decay * (1 - momentum))
