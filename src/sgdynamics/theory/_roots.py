"""Roots between two points, to the rounding of the root itself, whatever its scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bracketed_root", "root_below"]

_FINEST = 4 * np.finfo(float).eps  # the finest relative tolerance that SciPy takes
_NOWHERE = 1e-300  # the absolute one must be positive: below every root that a problem in float64 has


def bracketed_root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root between two points at which the function has different signs.

    Examples
    --------
    >>> bracketed_root(lambda rate: rate - 3e-200, 0.0, 1e-100)
    3e-200
    """
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=_NOWHERE, rtol=_FINEST, maxiter=2000))


def root_below(function: Callable[[float], float], high: float) -> float:
    """The root below a point, of a function that is negative close to 0 and not negative at that point.

    Examples
    --------
    >>> round(root_below(lambda rate: 1e9 * rate - 1, 1.0), 15)
    1e-09
    """
    low = high / 2
    while function(low) >= 0:
        low, high = low / 2, low
    return bracketed_root(function, low, high)
