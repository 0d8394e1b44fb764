r"""Rules that stand in for the exact edge in several directions: sums over the spectrum, and bounds on it.

For Gaussian features :math:`\operatorname{mean} H_i X H_i = 2HXH + \operatorname{tr}(HX) H`: directions talk to each
other through one number, and the edge is where shares of all directions add to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdynamics.domains import ArrayOf, Numeric, checked, complain, count, is_symbolic, nonnegative, one, positive
from sgdynamics.formula import formula, law, sqrt, stable_below
from sgdynamics.models.break_even.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory._quotients import quotient, root_of_quotient

__all__ = [
    "critical_interaction_aware_sharpness",
    "frobenius_bound",
    "kernel_norm_edge",
    "kernel_norm_share",
    "noise_alignment",
    "rise_multiple",
    "trace_rule_edge",
]

_SPECTRUM = ArrayOf((1,), "eigenvalues >= 0 of shape (d,), not all 0", nonnegative)


@formula(
    PARAMETERS,
    edge=stable_below(gain=2),
    quantity="share",
    status="heuristic",
    symbolic=True,
    source="derived",
    assumptions=("many directions of comparable share", "independent batches", "plain SGD"),
)
def kernel_norm_share(gain: Numeric, batch_factor: Numeric) -> Numeric:
    r"""What one direction adds to the norm of the noise kernel of Agarwala and Pennington, whose edge is at 1.

    .. math:: \frac{c_S x_j}{2 - x_j}, \qquad x_j = \eta\lambda_j

    The trace rule without the noise that a direction makes itself: never above it, so that its edge is never below that
    of the trace rule. With k outputs and modes that are spread over all of them the norm is the sum divided by k.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> kernel_norm_share(0.5, 0.25)
    0.083333...
    """
    return batch_factor * gain / (2 - gain)


def _occupied(owner: str, eigenvalues: ArrayLike) -> np.ndarray:
    """Those that are not 0."""
    values = np.asarray(eigenvalues)
    if not values.any():
        raise complain(owner, "eigenvalues", _SPECTRUM.text, eigenvalues)
    return values[values > 0]


def _crossing(values: np.ndarray, self_noise: float, noise: float) -> float:
    """Root of noise * sum x/(2 - (1 + self_noise) x) = 1, in 1/(1 + sum), which falls from 1 to 0 at the pole."""
    from scipy.optimize import brentq

    pole = 2 / ((1 + self_noise) * values.max())

    def balance(share: float) -> float:
        gains = share * pole * values
        with np.errstate(divide="ignore"):
            total = noise * np.sum(gains / (2 - (1 + self_noise) * gains))
        return float(1 / (1 + total) - 0.5)

    return float(pole * brentq(balance, 0.0, 1.0, xtol=1e-300, rtol=1e-15))


@law(quantity="learning rate")
@checked(eigenvalues=_SPECTRUM, batch_factor=one(nonnegative))
def trace_rule_edge(eigenvalues: ArrayLike, batch_factor: float) -> float:
    r"""Learning rate at which the shares of :func:`sgdynamics.theory.quadratic.trace_rule_term` add to 1.

    .. math:: \eta c_S \sum_j \frac{\lambda_j}{2 - \eta\lambda_j (1 + c_S)} = 1

    Status: exact for the fourth moments of Gaussian features; heuristic for the sample spectrum of finitely many
    examples.

    Parameters
    ----------
    eigenvalues : array, shape (d,)
        :math:`\lambda_j \ge 0`, not all 0.
    batch_factor : float
        :math:`c_S \ge 0`; 0 gives :math:`2/\lambda_1`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> round(trace_rule_edge([1.0], 1.0), 12), round(trace_rule_edge([1.0] * 10, 1.0), 12)
    (0.666666666667, 0.166666666667)
    """
    values = _occupied("trace_rule_edge", eigenvalues)
    return float(2 / values.max()) if batch_factor == 0 else _crossing(values, batch_factor, batch_factor)


@law(quantity="learning rate")
@checked(eigenvalues=_SPECTRUM, batch_factor=one(nonnegative), outputs=one(count))
def kernel_norm_edge(eigenvalues: ArrayLike, batch_factor: float, *, outputs: float = 1) -> float:
    r"""Learning rate at which the norm of the noise kernel is 1, by :func:`kernel_norm_share`.

    .. math:: \frac{c_S}{k} \sum_j \frac{\eta\lambda_j}{2 - \eta\lambda_j} = 1

    Status: heuristic; never below :func:`trace_rule_edge`.

    Parameters
    ----------
    eigenvalues : array, shape (d,)
        :math:`\lambda_j \ge 0`, not all 0.
    batch_factor : float
        :math:`c_S \ge 0`; 0 gives :math:`2/\lambda_1`.
    outputs : int
        :math:`k \ge 1`, over which modes are spread.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> round(kernel_norm_edge([1.0], 1.0), 12), round(kernel_norm_edge([1.0] * 10, 1.0), 12)
    (1.0, 0.181818181818)
    """
    values = _occupied("kernel_norm_edge", eigenvalues)
    return float(2 / values.max()) if batch_factor == 0 else _crossing(values, 0.0, batch_factor / outputs)


@formula(
    PARAMETERS,
    quantity="curvature",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic loss", "independent batches"),
)
def critical_interaction_aware_sharpness(
    learning_rate: Numeric, squared_gradient: Numeric, batch_second_moment: Numeric
) -> Numeric:
    r"""Interaction-aware sharpness at which one step of SGD leaves the expected loss as it is.

    .. math:: \mathrm{IAS} = \frac{\operatorname{tr}(H S_b)}{\operatorname{tr} S_b}, \qquad
        \mathrm{IAS}_{\text{crit}} = \frac2\eta \frac{|\bar g|^2}{\operatorname{tr} S_b},
        \qquad S_b = E g_B g_B^\top

    since :math:`E\,\Delta L = -\eta|\bar g|^2 + \tfrac12\eta^2 \operatorname{tr}(H S_b)`. Above it the loss rises.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> critical_interaction_aware_sharpness(0.1, 1.0, 4.0)
    5.0
    """
    return quotient((2, squared_gradient), (learning_rate, batch_second_moment))


@formula(
    PARAMETERS,
    loss=Parameter("L", "with all that cannot be fitted away", nonnegative, 0.5, "loss"),
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic loss",),
)
def rise_multiple(decrease: Numeric, bend: Numeric, loss: Numeric, rise: Numeric = 0.2) -> Numeric:
    r"""Multiple of a step that raises the loss by a share of itself: a proxy for stability, and no test of an edge.

    Along :math:`\alpha` times a step :math:`u` the loss changes by :math:`-\alpha A + \tfrac12\alpha^2 B`, with
    :math:`A = \eta\, u\cdot\nabla L` and :math:`B = \eta^2 u^THu`, which is :math:`rL` at

    .. math:: \alpha^* = \frac{A + \sqrt{A^2 + 2BrL}}{B}.

    Where the loss stays on average, :math:`B = 2A`, whatever the spectrum, and

    .. math:: \alpha^* = \tfrac12 \Bigl(1 + \sqrt{1 + 4rL/A}\Bigr):

    of expected numbers it measures how large the loss is against what a step takes off it to first order, and says
    nothing of a curvature. A loss that cannot be fitted away raises it without end.

    Returns
    -------
    Numeric
        For :math:`r \to 0` the critical rate over the learning rate.

    Examples
    --------
    >>> rise_multiple(1.0, 2.0, 0.0), rise_multiple(1.0, 2.0, 3.75)
    (1.0, 1.5)
    """
    middle, reach = quotient((decrease,), (bend,)), root_of_quotient((2, rise, loss), (bend,))
    return middle + (sqrt(middle**2 + reach**2) if is_symbolic(middle + reach) else np.hypot(middle, reach))


@formula(
    PARAMETERS,
    loss=positive,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("loss measured from its minimum",),
)
def noise_alignment(noise_curvature: Numeric, loss: Numeric, squared_frobenius: Numeric) -> Numeric:
    r"""How strongly gradient noise points where the loss is curved, :math:`\mu = \operatorname{tr}(KH)/(2L|H|_F^2)`.

    The noise of one step adds :math:`\tfrac12\eta^2 c_S \operatorname{tr}(KH) = \eta^2 c_S\,\mu |H|_F^2 L` to the loss.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> noise_alignment(4.0, 0.5, 8.0)
    0.5
    """
    return quotient((noise_curvature,), (2, loss, squared_frobenius))


@formula(
    PARAMETERS,
    alignment=Parameter(r"\mu", "the smallest value of :func:`noise_alignment`", nonnegative, 0.25),
    quantity="curvature",
    status="bound",
    symbolic=True,
    source="derived",
    assumptions=("quadratic loss", "independent batches", "noise alignment at least this at every point"),
)
def frobenius_bound(learning_rate: Numeric, batch_factor: Numeric, alignment: Numeric) -> Numeric:
    r"""Norm of the Hessian that no minimum stable in mean square exceeds, :math:`|H|_F \le 1/(\eta\sqrt{c_S\mu})`.

    The mean step leaves a loss >= 0 and the noise adds :math:`\eta^2 c_S\,\mu|H|_F^2 L`: above the bound the expected
    loss grows in every step. For fresh examples :math:`\sqrt{S/\mu}/\eta`. +inf without noise.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> frobenius_bound(0.1, 0.25, 4.0)
    10.0
    """
    return root_of_quotient((1,), (learning_rate, learning_rate, batch_factor, alignment))
