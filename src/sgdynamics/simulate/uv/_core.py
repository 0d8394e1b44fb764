r"""Two ways to carry an orbit of the uv network, each exact where the other loses digits.

Legend, in units in which learning rate and width are gone: residual :math:`s = \eta\sqrt\kappa(f-y)`, target
:math:`q = \eta\sqrt\kappa y`, output :math:`\phi = s + q`, kernel :math:`l = \eta\lambda`, the two sides of the cone
:math:`P = l + 2\phi` and :math:`M = l - 2\phi`, squared imbalance :math:`D = PM`. One step of gradient descent is

.. math:: s' = s(1 - l + s\phi), \qquad P' = (1-s)^2 P, \qquad M' = (1+s)^2 M, \qquad D' = (1-s^2)^2 D.

=========  ==============  ==========================================================================================
form       carries         used
=========  ==============  ==========================================================================================
residual   :math:`s, D`    :math:`|q| \le 1`, where runs settle: the residual keeps its digits however small it gets
cone       :math:`P, M`    :math:`|q| > 1`, where no minimum is stable: an orbit collapses on :math:`M = 0` and touches
                           :math:`P = 0`, and neither side is ever crossed
=========  ==============  ==========================================================================================

In both, kernel and sharpness are sums and roots of what is not negative: nothing leaves the cone of what weights can
be. The sharpness is :math:`\tfrac12\bigl(l + \sqrt{4(2s+q)^2 + D}\bigr)`.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined

__all__: list[str] = []

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

# Largest squared imbalance, or side of the cone, that one more step may meet.
HUGE = 1e150


@inlined
def no_return(q: float) -> float:
    r"""The size of the residual from which almost no orbit comes back: :math:`4 + 3|q|`.

    It is a statement about almost every orbit: :math:`|s|` may fall once more, and some orbits, of measure zero, run
    into a fixed point. It means :math:`|\phi| \ge 4 + 2|q|`, so :math:`l \ge 8 + 4|q|`. From there the kernel does not
    fall over two steps:
    with :math:`q \ge 0` a fall needs :math:`0 < s < 4q/(l-4)` and is less than :math:`4qs`, and the next step, from
    :math:`s' \le -(6+3q)s`, lifts it by more than :math:`4q|s'|`.
    """
    return 4.0 + 3.0 * abs(q)


# ---------------------------------------------------------------------------------------------------------------------
# Residual and imbalance; the kernel is carried along, as the next step needs it again


@inlined
def residual_advance(s: float, d: float, ntk: float, q: float) -> tuple[float, float, float, float, float]:
    """One step of (s, D, l); then the residual and the scaled sharpness."""
    # the product keeps its digits near |s| = 1, the difference falls to 1 evenly as s does to 0
    shrink = (1.0 - s) * (1.0 + s) if abs(s) > 0.5 else 1.0 - s * s
    s = s * (1.0 - ntk + s * (s + q))
    d = shrink * (shrink * d)  # this order, because 0 times the square of a huge factor would not be a number
    f, slope = s + q, 2.0 * s + q
    ntk = math.sqrt(d + 4.0 * f * f)
    return s, d, ntk, s, 0.5 * (ntk + math.sqrt(d + 4.0 * slope * slope))


@inlined
def residual_frozen(s: float, d: float, ntk: float, q: float) -> bool:
    """Whether kernel and sharpness have their last bits and the residual can only shrink, for ever."""
    size = abs(s)
    if size > 1e-8:  # 1 - s^2 is not 1 then; s has no unit
        return False
    if size == 0.0:
        return True
    # every output and slope still to come lies between these; rounding is monotone
    low, high = abs(q) - 2.0 * size, abs(q) + 2.0 * size
    rest = d + 4.0 * q * q
    if d + 4.0 * low * low != rest or d + 4.0 * high * high != rest or 1.0 - size * size != 1.0:
        return False
    return abs(1.0 - ntk) + size * high < 1.0


# ---------------------------------------------------------------------------------------------------------------------
# The two sides of the cone; the residual is carried along


@inlined
def cone_advance(p: float, m: float, s: float, q: float) -> tuple[float, float, float, float, float]:
    """One step of (P, M, s); then the residual and the scaled sharpness."""
    up, down = 1.0 - s, 1.0 + s
    p, m = up * (up * p), down * (down * m)
    s = 0.25 * (p - m) - q
    slope = 2.0 * s + q
    return p, m, s, s, 0.5 * (0.5 * (p + m) + math.sqrt(p * m + 4.0 * slope * slope))


@inlined
def wide_advance(p: float, m: float, s: float, q: float) -> tuple[float, float, float, float]:
    """The same step and the sharpness, for as long as they are in range: nothing large is squared. Slower."""
    up, down = 1.0 - s, 1.0 + s
    s = s * (1.0 - 0.5 * p - 0.5 * m + s * (s + q))
    p, m = up * (up * p), down * (down * m)
    return p, m, s, 0.5 * (0.5 * p + 0.5 * m + math.hypot(math.sqrt(p) * math.sqrt(m), 2.0 * (2.0 * s + q)))
