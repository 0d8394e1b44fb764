"""Products over products, by mantissas and exponents, against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.theory._quotients import difference_of_quotients, left_by_product, parts, quotient, total

EPSILON = 2.0**-52


def far(largest):
    """Numbers of any size up to a power of ten either way."""
    return st.floats(-largest, largest).map(lambda exponent: 10.0**exponent)


def off(found, exact):
    """The relative error."""
    return abs(Fraction(float(found)) - exact) / abs(exact)


@given(st.sampled_from([1.0, 2.0]), st.floats(0.1, 20.0), st.integers(-4, 4), st.floats(-52, -1))
def test_what_a_product_leaves_of_a_limit_keeps_its_digits(limit, first, ulps, distance):
    second = limit / first * (1 + 2.0**distance) + ulps * np.spacing(limit / first)
    exact = Fraction(limit) - Fraction(first) * Fraction(float(second))
    if exact:
        assert off(left_by_product(limit, first, second), exact) <= 2 * EPSILON


def test_the_plain_difference_would_lose_them_all():
    first, second = 1 + 2.0**-40, 1 - 2.0**-40
    assert left_by_product(1.0, first, second) == 2.0**-80
    assert 1.0 - first * second == 0.0


@given(far(300), far(300), far(300))
def test_parts_of_a_product_may_leave_the_range_of_a_float(a, b, c):
    exact = Fraction(a) * Fraction(b) / Fraction(c)
    if 1e-300 < exact < 1e300:
        assert off(quotient((a, b), (c,)), exact) <= 2 * EPSILON


def test_terms_beyond_any_float_cancel_exactly():
    assert float(np.ldexp(*total(parts((1e200, 1e200), (1e250,)), parts((-1e150,))))) == 0.0
    assert float(total(parts((3.0, 1e300, 1e300)), parts((-3.0, 1e300, 1e300)))[0]) == 0.0
    assert float(difference_of_quotients((1e300, 1e300), (1e300,), (1e300,))) == 0.0
