"""Products over products, whose parts may be larger or smaller than any number though the whole is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic

__all__ = ["quotient"]


def quotient(over: Sequence[Numeric], under: Sequence[Numeric] = ()) -> Numeric:
    """The product of some factors over that of others, by their mantissas and exponents.

    Examples
    --------
    >>> float(quotient((1e200, 1e200), (1e250, 2.0)))
    5e+149
    """
    if any(map(is_symbolic, (*over, *under))):
        return math.prod(over) / math.prod(under)
    mantissa: Numeric = 1.0
    exponent: Numeric = 0
    for factor in over:
        part, power = np.frexp(factor)
        mantissa, exponent = mantissa * part, exponent + power
    for factor in under:
        part, power = np.frexp(factor)
        mantissa, exponent = mantissa / part, exponent - power
    return np.ldexp(mantissa, exponent)
