r"""Why a large rate first may end better on test data: the order in which directions are learned.

Gradient descent on a training risk :math:`\tfrac12 \sum h_i e_i^2` is judged by a test risk :math:`\tfrac12 \sum k_i
e_i^2` of other curvatures. Two runs that end at the same training risk differ in how they have shared it out. Small
rates leave it in the flat directions. Rates beyond :math:`2/(h_s + h_f)` leave it in the sharp one, where a small rate
afterwards takes it away at once. Whether that is better is a matter of the test risk alone: it is, if flat directions
count more there, :math:`k_f/h_f > k_s/h_s`. Where the two Hessians are in proportion the order does not matter, and in
the opposite case the large rate ends worse. No ReLU, no memorising and no noise is needed for this.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import decay, formula, where
from sgdynamics.models.quadratic.parameters import PARAMETERS

__all__ = ["learning_order_rate", "risk_odds_factor", "risk_transfer"]

_SETTING = ("gradient descent, or the mean of SGD", "two directions")


@formula(PARAMETERS, quantity="learning rate", status="exact", symbolic=True, source="derived", assumptions=_SETTING)
def learning_order_rate(sharp: Numeric, flat: Numeric) -> Numeric:
    r"""Learning rate beyond which the flat one of two directions is learned before the sharp one.

    :math:`|1 - \eta h_s| = |1 - \eta h_f|` at :math:`\eta = 2/(h_s + h_f)`, just below the edge :math:`2/h_s` where the
    other direction is much flatter.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> learning_order_rate(1.0, 0.25)
    1.6
    """
    return 2 / (sharp + flat)


@formula(PARAMETERS, quantity="factor", status="exact", symbolic=True, source="derived", assumptions=_SETTING)
def risk_odds_factor(learning_rate: Numeric, steps: Numeric, sharp: Numeric, flat: Numeric) -> Numeric:
    r"""What a number of steps does to the odds of the flat direction in the training risk.

    .. math:: \rho_T = \rho_0 \Bigl( \frac{1-\eta h_f}{1-\eta h_s} \Bigr)^{2T}, \qquad
        \rho = \frac{h_f e_f^2}{h_s e_s^2}

    Factors of several rates multiply. Above 1 below :func:`learning_order_rate`, below 1 beyond it; at
    :math:`\eta = 1/h_s`, which learns the sharp direction in one step, infinite.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(risk_odds_factor(0.5, 1, 1.0, 0.25), 12), round(risk_odds_factor(1.9, 10, 1.0, 0.25), 6)
    (3.0625, 2.1e-05)
    """
    ratio = (1 - learning_rate * flat) / (1 - learning_rate * sharp)
    below_one = learning_rate * (flat - sharp) / (1 - learning_rate * sharp)  # 1 - ratio, with its digits
    if is_symbolic(ratio):
        return ratio ** (2 * steps)
    return where(abs(below_one) < 0.5, decay(below_one, 2 * steps), ratio ** (2 * steps))


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("two directions", "common eigenvectors"),
)
def risk_transfer(odds: Numeric, sharp_ratio: Numeric, flat_ratio: Numeric) -> Numeric:
    r"""Test risk over training risk, by how the training risk is shared out.

    .. math:: \frac{R_\text{test}}{R_\text{training}} = \frac{1}{1+\rho} \frac{k_s}{h_s}
        + \frac{\rho}{1+\rho} \frac{k_f}{h_f}

    Runs that end at one training risk so rank by their odds: the same for all where the two ratios are equal.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> risk_transfer(3.0, 1.0, 5.0)
    4.0
    """
    return (sharp_ratio + odds * flat_ratio) / (1 + odds)
