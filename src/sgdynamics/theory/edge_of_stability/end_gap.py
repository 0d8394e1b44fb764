r"""How far below :math:`2/\eta` gradient descent on :math:`\ell(xy)` ends when it starts above it.

Near a minimum :math:`xy = t` that is a little too sharp the product flips from side to side. Its distance
:math:`s = xy - t` obeys a one-dimensional map of slope close to -1, while each flip lowers the imbalance
:math:`y^2 - x^2` and with it the sharpness :math:`S` of the minimum. With the excess :math:`e = \eta S - 2` and
:math:`X = K s^2`, :math:`K` the flip coefficient, this is per step

.. math:: \dot X = 2X(e - X), \qquad \dot e = -\rho X.

The line :math:`X = e + \rho/2` is invariant and attracts while :math:`X > 0`; a run that started high above the edge
(:math:`e_0 \gg \rho`) follows it and stops at :math:`e_\infty = -\rho/2`. One that started close to it
(:math:`e_0 \ll \rho`) is reflected to :math:`-e_0`.

The drift is constant as long as the imbalance is most of :math:`x^2+y^2`. The uv network just below its critical rate
is the other case: there the drift is :math:`\rho + e` and runs follow :math:`X = 2e + \rho`, see
:func:`~sgdynamics.theory.edge_of_stability.critical_end_excess`.
"""

from __future__ import annotations

import math

import numpy as np

from sgdynamics.domains import Interval, Numeric, is_symbolic
from sgdynamics.formula import formula, sqrt
from sgdynamics.models.edge_of_stability.parameters import PARAMETERS
from sgdynamics.models.uv._pointwise import hypotenuse
from sgdynamics.theory._quotients import Parts, parts, total

_NEAR_THE_EDGE = ("learning rate to 0 at a fixed outer function, or the drift to 0", "start just above the edge")


@formula(
    PARAMETERS,
    quantity="factor",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("loss l(xy)", "gradient descent"),
)
def imbalance_factor(learning_rate: Numeric, slope: Numeric) -> Numeric:
    r"""What one step of gradient descent on :math:`\ell(xy)` multiplies :math:`y^2 - x^2` by: :math:`1-\eta^2\ell'^2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> imbalance_factor(0.5, 1.0)
    0.75
    """
    return (1 - learning_rate * slope) * (1 + learning_rate * slope)


@formula(
    PARAMETERS,
    quantity="sharpness",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("loss l(xy)", "at a minimum xy = t"),
)
def minimum_sharpness(imbalance: Numeric, minimum: Numeric, second_derivative: Numeric) -> Numeric:
    r"""Sharpness of the minimum of :math:`\ell(xy)` at a given imbalance.

    .. math:: S = \ell''(t)\,(x^2+y^2) = \ell''(t) \sqrt{(y^2-x^2)^2 + 4t^2}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> minimum_sharpness(3.75, 1.0, 2.0)  # x = 2, y = 1/2 in the example of Zhu et al.
    8.5
    """
    return second_derivative * hypotenuse(imbalance / 2, minimum) * 2


@formula(
    PARAMETERS,
    learning_rate=Interval("a number in (0, 1/2]", low=0, high=0.5, high_open=False),
    quantity="weight",
    status="exact",
    symbolic=True,
    source="zhu2022, eta-EoS minimum",
    assumptions=("loss (1 - xyzw)^2 / 2", "x = z, y = w"),
)
def four_factor_edge_point(learning_rate: Numeric) -> Numeric:
    r"""Where the minimum of :math:`\tfrac12(1-xyzw)^2` is that sits exactly at the edge :math:`S = 2/\eta`.

    In the coordinates :math:`c = \sqrt{x^2-y^2}`, :math:`d = xy` it is :math:`d = 1`,
    :math:`c = (\eta^{-2} - 4)^{1/4}`. Beyond :math:`\eta = 1/2` every minimum is too sharp.

    Returns
    -------
    Numeric
        :math:`c`.

    Examples
    --------
    >>> four_factor_edge_point(0.1)
    3.13016...
    """
    return sqrt(sqrt((1 - 2 * learning_rate) * (1 + 2 * learning_rate)) / learning_rate)


def _flip(rate: Numeric, minimum: Numeric, second: Numeric, third: Numeric, fourth: Numeric) -> Numeric:
    balance = rate * second * minimum
    return (
        2 * (rate * second * balance) ** 2 + 2 * rate * balance * third + (third / second) ** 2 - fourth / (3 * second)
    )


def _flip_parts(rate: Numeric, minimum: Numeric, second: Numeric, third: Numeric, fourth: Numeric) -> Parts:
    drive = (rate, second, rate, second, minimum)
    return total(
        parts((2.0, *drive, *drive)),
        parts((2.0, *drive, third), (second,)),
        parts((third, third), (second, second)),
        parts((-1.0, fourth), (3.0, second)),
    )


@formula(
    PARAMETERS,
    quantity="coefficient",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("loss l(xy)", "at the edge of stability", "imbalance held fixed"),
)
def flip_coefficient(
    learning_rate: Numeric,
    minimum: Numeric,
    second_derivative: Numeric,
    third_derivative: Numeric,
    fourth_derivative: Numeric,
) -> Numeric:
    r"""How strongly the oscillation about a minimum of :math:`\ell(xy)` saturates.

    With the imbalance held fixed and the minimum exactly at the edge, two steps move :math:`s = xy - t` by
    :math:`-2 K s^3 + O(s^4)`. With :math:`a, b, c` the second to fourth derivative of :math:`\ell` at :math:`t` and
    :math:`p = \eta a t`

    .. math:: K = 2 (\eta a p)^2 + 2 \eta p b + \frac{b^2}{a^2} - \frac{c}{3a}.

    Where it is negative the oscillation grows without saturating, and there is no end-gap law.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> flip_coefficient(0.1, 0.0, 1.0, 0.0, -3.0)  # sqrt(1 + z^2)
    1.0
    """
    arguments = (learning_rate, minimum, second_derivative, third_derivative, fourth_derivative)
    return _flip(*arguments) if any(map(is_symbolic, arguments)) else np.ldexp(*_flip_parts(*arguments))


@formula(
    PARAMETERS,
    quantity="coefficient",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("loss l(xy)", *_NEAR_THE_EDGE),
)
def gap_drift(
    learning_rate: Numeric,
    minimum: Numeric,
    second_derivative: Numeric,
    third_derivative: Numeric,
    fourth_derivative: Numeric,
) -> Numeric:
    r"""The drift :math:`\rho` with which the oscillation lowers the sharpness: :math:`\dot e = -\rho X`.

    .. math:: \rho = \frac{2 (1-p^2) (\eta a)^2}{K}, \qquad p = \eta a t,

    with the flip coefficient :math:`K`. As :math:`\eta \to 0` it is

    ============================================  ==================================
    :math:`\ell`                                  :math:`\rho`
    ============================================  ==================================
    :math:`\log\cosh z`                           :math:`3\eta^2`
    :math:`\sqrt{1+z^2}`                          :math:`2\eta^2`
    :math:`\tfrac14(z^2-1)^2` (Zhu et al.)        :math:`\eta^2`
    :math:`\tfrac12(z-t)^2`, :math:`q = \eta t`   :math:`(1-q^2)/q^2` (small as q -> 1)
    ============================================  ==================================

    At :math:`|p| \ge 1` it is not positive: no minimum is stable and oscillations do not end.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(gap_drift(0.1, 0.0, 1.0, 0.0, -3.0), 12)
    0.02
    """
    arguments = (learning_rate, minimum, second_derivative, third_derivative, fourth_derivative)
    if any(map(is_symbolic, arguments)):
        balance = learning_rate * second_derivative * minimum
        return 2 * (1 - balance) * (1 + balance) * (learning_rate * second_derivative) ** 2 / _flip(*arguments)
    one, balance = parts((1.0,)), parts((learning_rate, second_derivative, minimum))
    factors = [total(one, (-balance[0], balance[1])), total(one, balance)]
    factors += [parts((2.0, learning_rate, second_derivative, learning_rate, second_derivative))]
    flip = _flip_parts(*arguments)
    mantissa = math.prod(factor[0] for factor in factors) / flip[0]
    return np.ldexp(mantissa, sum(factor[1] for factor in factors) - flip[1])


@formula(
    PARAMETERS,
    quantity="sharpness",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("loss l(xy)", *_NEAR_THE_EDGE, "excess of the start much larger than the drift", "unbalanced start"),
)
def end_gap(learning_rate: Numeric, drift: Numeric) -> Numeric:
    r"""How far below the edge a run ends that started above it: :math:`2/\eta - S_\infty = \rho/(2\eta)`.

    For :math:`\log\cosh` that is :math:`\tfrac32\eta`, for :math:`\sqrt{1+z^2}` it is :math:`\eta`, in the example of
    Zhu et al. :math:`\tfrac12\eta`, wherever the run started.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> end_gap(0.1, drift=0.03)
    0.15
    """
    return drift / 2 / learning_rate
