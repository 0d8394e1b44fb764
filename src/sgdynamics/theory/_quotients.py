"""Products over products and their sums, whose parts may be larger or smaller than any number though the whole is not.

And what a product leaves of a limit, where its rounding would be all that is left.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import sqrt, where

__all__ = ["Parts", "difference_of_quotients", "left_by_product", "parts", "quotient", "root_of_quotient", "total"]

# A mantissa and an exponent of 2; what they stand for may be beyond the numbers.
Parts: TypeAlias = tuple[Numeric, Numeric]

# below the exponent of any product of a few numbers
_LEAST = -(2**20)


def parts(over: Sequence[Numeric], under: Sequence[Numeric] = ()) -> Parts:
    """Mantissa and exponent of a product over a product."""
    mantissa: Numeric = 1.0
    exponent: Numeric = 0
    for factor in over:
        part, power = np.frexp(factor)
        mantissa, exponent = mantissa * part, exponent + power
    for factor in under:
        part, power = np.frexp(factor)
        mantissa, exponent = mantissa / part, exponent - power
    return mantissa, exponent


def quotient(over: Sequence[Numeric], under: Sequence[Numeric] = ()) -> Numeric:
    """The product of some factors over that of others, by their mantissas and exponents.

    Examples
    --------
    >>> float(quotient((1e200, 1e200), (1e250, 2.0)))
    5e+149
    """
    if any(map(is_symbolic, (*over, *under))):
        return math.prod(over) / math.prod(under)
    return np.ldexp(*parts(over, under))


def left_by_product(limit: float, first: Numeric, second: Numeric) -> Numeric:
    """A limit less a product of two factors, with the rounding of the product taken back (Dekker).

    Examples
    --------
    >>> float(left_by_product(2.0, 0.5, 0.5))
    1.75
    """
    if is_symbolic(first) or is_symbolic(second):
        return limit - first * second
    (a, power), (b, exponent) = np.frexp(first), np.frexp(second)
    halves = []
    for part in (a, b):
        wide = (2**27 + 1) * part
        high = wide - (wide - part)
        halves.append((high, part - high))
    (a_high, a_low), (b_high, b_low) = halves
    product = a * b
    rounding = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    exponent = power + exponent
    scale = np.maximum(exponent, 0)
    rest = np.ldexp(limit, -scale) - np.ldexp(product, exponent - scale) - np.ldexp(rounding, exponent - scale)
    return np.ldexp(rest, scale)


def root_of_quotient(over: Sequence[Numeric], under: Sequence[Numeric] = ()) -> Numeric:
    """The square root of a product over a product.

    Examples
    --------
    >>> float(root_of_quotient((2.0**600, 2.0**600)) / 2.0**600)
    1.0
    """
    if any(map(is_symbolic, (*over, *under))):
        return sqrt(math.prod(over) / math.prod(under))
    mantissa, exponent = parts(over, under)
    odd = exponent % 2
    return np.ldexp(np.sqrt(np.ldexp(mantissa, odd)), (exponent - odd) // 2)


def difference_of_quotients(
    over: Sequence[Numeric],
    under: Sequence[Numeric],
    other_over: Sequence[Numeric],
    other_under: Sequence[Numeric] = (),
) -> Numeric:
    """A product over a product, less another of the kind.

    Examples
    --------
    >>> big = 2.0**600
    >>> float(difference_of_quotients((3.0, big, big), (big,), (big, big), (big,)) / big)
    2.0
    """
    if any(map(is_symbolic, (*over, *under, *other_over, *other_under))):
        return math.prod(over) / math.prod(under) - math.prod(other_over) / math.prod(other_under)
    (mantissa, exponent), (other, power) = parts(over, under), parts(other_over, other_under)
    exponent, power = where(mantissa == 0, power, exponent), where(other == 0, exponent, power)
    common = np.maximum(exponent, power)
    return np.ldexp(np.ldexp(mantissa, exponent - common) - np.ldexp(other, power - common), common)


def total(*terms: Parts) -> Parts:
    """The sum of such products, to the rounding of the largest.

    Examples
    --------
    >>> print(f"{float(np.ldexp(*total(parts((1e200, 1e200), (1e300,)), parts((1e100,))))):.3g}")
    2e+100
    """
    # a term that vanishes sets no scale
    powers = [np.where(mantissa == 0, _LEAST, exponent) for mantissa, exponent in terms]
    largest = functools.reduce(np.maximum, powers)
    scaled = [np.ldexp(mantissa, power - largest) for (mantissa, _), power in zip(terms, powers, strict=True)]
    return sum(scaled[1:], scaled[0]), np.where(largest == _LEAST, 0, largest)
