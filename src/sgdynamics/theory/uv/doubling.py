r"""The cascade of period doublings on the edge line."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import checked, integer
from sgdynamics.formula import law

# Distances of neighbouring doublings shrink by this factor in the limit (Feigenbaum); a first guess, no result.
_SHRINKING = 4.669
# beyond it neighbours are closer than the rounding of the orbit allows
_MOST = 14


def _round(x: float, q: float, period: int) -> tuple[float, float, float, float, float]:
    """Point after a period, its derivatives in x and q, and those of the first in x and q."""
    at, in_x, in_q, in_xx, in_xq = x, 1.0, 0.0, 0.0, 0.0
    r = 1 + q
    for _ in range(period):
        slope = (r - at) * (r - 3 * at)
        bend = 6 * at - 4 * r
        in_xx, in_xq = bend * in_x**2 + slope * in_xx, (bend * in_q + 2 * r - 4 * at) * in_x + slope * in_xq
        in_x, in_q = slope * in_x, slope * in_q + 2 * at * (r - at)
        at *= (r - at) ** 2
    return at, in_x, in_q, in_xx, in_xq


def _flip(x: float, q: float, period: int) -> tuple[float, float]:
    """Newton's method for a cycle of this period with multiplier -1."""
    for _ in range(60):
        at, in_x, in_q, in_xx, in_xq = _round(x, q, period)
        off, excess = at - x, in_x + 1
        determinant = (in_x - 1) * in_xq - in_q * in_xx
        step_x = (in_xq * off - in_q * excess) / determinant
        step_q = ((in_x - 1) * excess - in_xx * off) / determinant
        x, q = x - step_x, q - step_q
        if abs(step_q) < 1e-15 * q:
            break
    return x, q


@functools.cache
def _doubling(which: int) -> float:
    """Where period 2^which turns into twice that."""
    if which < 2:
        return (1.0, math.sqrt(5) - 1)[which]
    period, last = 2**which, _doubling(which - 1)
    guess = last + (last - _doubling(which - 2)) / _SHRINKING
    # the cycle attracts just below its doubling, and is then close to where it will flip
    q, x = last + 0.9 * (guess - last), 0.5
    for _ in range(400 * period):
        x *= (1 + q - x) ** 2
    # of its points, the one next to the turning point of the map moves least
    cycle = [x := x * (1 + q - x) ** 2 for _ in range(period)]
    return _flip(min(cycle, key=lambda point: abs(point - (1 + q) / 3)), guess, period)[1]


@law(quantity="ratio")
@checked(count=integer(1, _MOST))
def period_doublings(count: int) -> NDArray[np.float64]:
    r"""Where the attractor on the edge line doubles its period: 1 to 2, 2 to 4, and so on.

    The k-th is the root in :math:`(x, q)` of "the cycle of period :math:`2^{k-1}` has multiplier -1" for the map
    :math:`x' = x(1+q-x)^2`, found by Newton's method with exact derivatives. The first two are 1 and
    :math:`\sqrt5 - 1`.

    Status: exact up to rounding, about 1e-13.

    Parameters
    ----------
    count : int
        How many, 1 to 14.

    Returns
    -------
    array, shape (count,)
        Values of :math:`q = \eta/\eta_c`, increasing.

    Raises
    ------
    ValueError, TypeError
        If count is outside its range.

    Examples
    --------
    >>> period_doublings(3)
    array([1.        , 1.23606798, 1.28803175])
    """
    return np.array([_doubling(which) for which in range(count)])


@law(quantity="ratio")
@checked()
def period_doubling_limit() -> float:
    r"""Where the period doublings accumulate and chaos begins on the edge line, :math:`q = 1.302283`.

    The limit of :func:`period_doublings` under Aitken's extrapolation.

    Status: exact up to rounding, about 1e-12.

    Returns
    -------
    float
        :math:`q = \eta/\eta_c`.

    Examples
    --------
    >>> round(period_doubling_limit(), 6)
    1.302283
    """
    first, second, third = period_doublings(12)[-3:]
    return float(third - (third - second) ** 2 / ((third - second) - (second - first)))
