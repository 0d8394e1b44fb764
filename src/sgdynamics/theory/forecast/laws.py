r"""What the law of a loss curve is made of, and what it contains: known laws as limits, and a worst case beside it."""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, checked, one, positive
from sgdynamics.formula import expm1, formula, law, log1p
from sgdynamics.parameters import Parameter
from sgdynamics.theory.forecast._arguments import one_schedule
from sgdynamics.theory.forecast.parameters import PARAMETERS

_SPECTRUM = ("curvatures with a power-law density and an exponential cut-off", "small gains")


@formula(PARAMETERS, quantity="share", status="exact", symbolic=True, source="derived", assumptions=_SPECTRUM)
def spectrum_left(time: Numeric, exponent: Numeric, cutoff: Numeric) -> Numeric:
    r"""What is left of a risk, or of the noise of one step, once the rates since then sum to S.

    .. math:: \frac{1}{\Gamma(\alpha) h_c^\alpha} \int_0^\infty h^{\alpha-1} e^{-h/h_c} e^{-2hS}\, dh
        = (1 + 2 h_c S)^{-\alpha}

    For :math:`h_c S \gg 1` the power law :math:`S^{-\alpha}`.

    Returns
    -------
    Numeric
        In (0, 1].

    Examples
    --------
    >>> spectrum_left(12.0, 0.5, 1.0)
    0.2
    """
    return (1 + 2 * cutoff * time) ** -exponent


@formula(
    PARAMETERS,
    exponent=Parameter(
        r"\beta", r"without a cut-off from below there is no stationary noise for :math:`q \le 1`", positive, 0.7
    ),
    quantity="share",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_SPECTRUM, "stationary before the drop", "noise exponent above 1"),
)
def drop_gained(time: Numeric, exponent: Numeric, cutoff: Numeric) -> Numeric:
    r"""Part of what a drop of the rate gains in the end that it has gained once the rates since then sum to S.

    The noise of a mode is stationary at :math:`\eta w(h)/2h`, :math:`w \propto h^{1+\beta} e^{-h/h_c}` in the
    logarithm of h, and goes to its new level as :math:`e^{-2hS}`:

    .. math:: \frac{\int w(h)\, h^{-1} (1 - e^{-2hS})\, d\ln h}{\int w(h)\, h^{-1}\, d\ln h}
        = 1 - (1 + 2 h_c S)^{-\beta}

    the drop term of the multi-power law with :math:`C = 2h_c` and without its power of the rate, :math:`\gamma = 0`:
    its exponent is that of the forgetting of noise less one, :math:`\beta = q - 1`.

    Returns
    -------
    Numeric
        In [0, 1).

    Examples
    --------
    >>> drop_gained(12.0, 0.5, 1.0)
    0.8
    """
    return -expm1(-exponent * log1p(2 * cutoff * time))


@law(quantity="loss")
@checked(schedule=one_schedule, distance=one(positive), gradient_bound=one(positive))
def last_iterate_bound(schedule: Numeric, *, distance: float, gradient_bound: float) -> float:
    r"""Largest suboptimality of the last iterate of the subgradient method on a convex function.

    .. math:: \frac{D^2 + G^2 \sum_t \eta_t^2}{2 \sum_t \eta_t}
        + \frac{G^2}{2} \sum_{k<T} \frac{\eta_k}{\sum_{t>k} \eta_t}
        \frac{\sum_{t \ge k} \eta_t^2}{\sum_{t \ge k} \eta_t}

    The mean :math:`A_k` of the values from k on, weighted by the rates, exceeds the value at k by at most
    :math:`G^2 \sum_{t \ge k} \eta_t^2 / 2 \sum_{t \ge k} \eta_t`, and :math:`A_{k+1} - A_k = \eta_k (A_k - f_k) /
    \sum_{t>k} \eta_t`: the sum leads from :math:`A_1` to the last value, :math:`A_T`.

    Status: bound, for the iterate at which the last of the rates > 0 is applied. A worst case, for comparison with the
    law of :func:`fit`; source Defazio et al. 2023.

    Parameters
    ----------
    schedule : array, shape (T,)
        Learning rates, not all 0.
    distance : float
        D, of the start from a minimiser.
    gradient_bound : float
        G, of the norm of every subgradient.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.models.schedules import constant, linear
    >>> last_iterate_bound(constant(0.1, 100), distance=1.0, gradient_bound=1.0)
    0.358...
    >>> last_iterate_bound(linear(0.2, 100), distance=1.0, gradient_bound=1.0)
    0.257...
    """
    rates = np.asarray(schedule)
    rates = rates[: np.flatnonzero(rates)[-1] + 1] if rates.any() else rates[:0]
    if not rates.size:
        raise ValueError("last_iterate_bound: schedule must have a rate > 0, got zeros")
    left, squares = np.cumsum(rates[::-1])[::-1], np.cumsum(rates[::-1] ** 2)[::-1]
    later = (rates[:-1] / left[1:]) @ (squares[:-1] / left[:-1])
    return float((distance**2 + gradient_bound**2 * squares[0]) / (2 * left[0]) + gradient_bound**2 / 2 * later)
