r"""Momentum at the edge: which learning rate of gradient descent has the same two-cycles.

The heavy ball :math:`w_{t+1} = w_t - \eta g(w_t) + \beta(w_t - w_{t-1})` moves on a cycle of two points, where
:math:`w_{t-1} = w_{t+1}`, by

.. math:: (1+\beta)\,(w_{t+1} - w_t) = -\eta\, g(w_t):

its two-cycles are those of gradient descent at the rate :math:`\eta/(1+\beta)`, for any loss and in any dimension, and
so is the edge where they are born, a curvature of :math:`2(1+\beta)/\eta`. All that is known of two-cycles holds with
that rate put in. What is not shared is whether a cycle attracts: momentum lets it double sooner.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric
from sgdynamics.formula import formula
from sgdynamics.models.edge_of_stability.parameters import PARAMETERS

__all__ = ["two_cycle_rate", "two_cycle_threshold"]


@formula(
    PARAMETERS,
    quantity="learning rate",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("any differentiable loss", "full batch", "on a cycle of two points"),
)
def two_cycle_rate(learning_rate: Numeric, momentum: Numeric, *, nesterov: bool = False) -> Numeric:
    r"""Learning rate of gradient descent that has the two-cycles, and the edge, of a run with momentum.

    .. math:: \frac{\eta}{1+\beta} \text{ (heavy ball)}, \qquad \frac{1+2\beta}{1+\beta}\,\eta \text{ (Nesterov)},

    with Nesterov's momentum for the two points where the gradient is taken.

    Returns
    -------
    Numeric
        For :func:`sgdynamics.theory.uv.two_cycle`, divided by the critical rate, for
        :func:`sgdynamics.theory.deep_linear.cycle_rate`, and for the edge :math:`2/\eta`.

    Examples
    --------
    >>> two_cycle_rate(0.3, 0.5), two_cycle_rate(0.3, 0.5, nesterov=True)
    (0.2, 0.4)
    """
    return learning_rate * (1 + 2 * momentum) / (1 + momentum) if nesterov else learning_rate / (1 + momentum)


@formula(
    PARAMETERS,
    quantity="factor",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("one direction", "heavy ball", "full batch"),
)
def two_cycle_threshold(momentum: Numeric) -> Numeric:
    r"""Multiplier of a two-cycle under gradient descent at which it doubles under the heavy ball.

    .. math:: m = (1 - \eta' h_+)(1 - \eta' h_-) = -\Bigl(\frac{1-\beta}{1+\beta}\Bigr)^2, \qquad \eta' =
        \frac{\eta}{1+\beta},

    with the curvatures :math:`h_\pm` at its points. The two steps of the heavy ball have a matrix of determinant
    :math:`\beta^2` and trace :math:`(1+\beta)^2 m - 2\beta`, and a cycle attracts where that trace is within
    :math:`\pm(1+\beta^2)`: for m between this number and 1, where the cycle is born. Without momentum it is -1; with
    much of it cycles are stable only where their multiplier is positive.

    Returns
    -------
    Numeric
        In [-1, 0).

    Examples
    --------
    >>> two_cycle_threshold(0.0), round(two_cycle_threshold(0.9), 5)
    (-1.0, -0.00277)
    """
    ratio = (1 - momentum) / (1 + momentum)
    return -(ratio * ratio)
