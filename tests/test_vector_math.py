"""The mathematics of vectorised loops: how many units in the last place it is off, and the same bits in any loop."""

import math

import numpy as np
import pytest

from sgdynamics.simulate import _vector_math
from sgdynamics.simulate._kernel import kernel

wide = np.longdouble
PI = wide("3.14159265358979323846264338327950288")

needs_wide = pytest.mark.skipif(
    np.finfo(wide).nmant < 63, reason="the reference needs a long double wider than a double"
)


@kernel
def logarithms(x, out):
    for i in range(x.size):
        out[i] = _vector_math.log(x[i])


@kernel
def exponentials(x, out):
    for i in range(x.size):
        out[i] = _vector_math.exp_of_negative(x[i])


@kernel
def hyperbolic_tangents(x, out):
    for i in range(x.size):
        out[i] = _vector_math.tanh(x[i])


@kernel
def directions(words, cosine, sine):
    for i in range(words.size):
        cosine[i], sine[i] = _vector_math.direction(words[i])


@kernel
def fused(a, b, c, out):
    for i in range(a.size):
        out[i] = _vector_math.fma(a[i], b[i], c[i])


@kernel
def signed(words, out):
    for i in range(words.size):
        out[i] = _vector_math.as_signed(words[i])


def test_words_as_signed_numbers_are_rounded_once():
    rng = np.random.default_rng(2)
    edges = [side * 2**power + off for power in range(64) for side in (1, -1) for off in range(-3, 4)]
    halves = [2**62 + 2**9 * odd + off for odd in range(1, 40) for off in (-1, 0, 1)]  # on both sides of a tie
    given = np.array([n for n in edges + halves if -(2**63) <= n < 2**63], np.int64)
    given = np.concatenate([given, rng.integers(-(2**63), 2**63, 100_000)])
    found = np.empty(given.size)
    signed(given.view(np.uint64), found)
    assert found.tolist() == [float(n) for n in given.tolist()]


def units_off(found, exact):
    """The largest error in units in the last place of what was found."""
    return float(np.max(np.abs(found - exact) / np.spacing(np.abs(found)).astype(wide)))


def log_arguments():
    rng = np.random.default_rng(0)
    return np.concatenate(
        [
            2.0 ** -rng.uniform(0, 53, 300_000),
            1 - 2.0 ** -rng.uniform(1, 53, 300_000),
            np.exp(rng.uniform(-700, 700, 100_000)),
            # on both sides of where the exponent changes
            math.sqrt(0.5) * 2.0 ** rng.integers(-20, 20, 10_000) * (1 + 1e-12 * rng.standard_normal(10_000)),
            [2.0**-53, 0.5, 0.75, 2.0, np.finfo(float).tiny, np.finfo(float).max],
        ]
    )


def exponents():
    rng = np.random.default_rng(2)
    # magnitudes of all kinds, everything that is not zero, and on both sides of where the power of two changes
    halves = math.log(2) * (rng.integers(0, 1000, 10_000) + 0.5) * (1 + 1e-12 * rng.standard_normal(10_000))
    return -np.concatenate(
        [np.exp(rng.uniform(-700, 6, 200_000)), rng.uniform(0, 1, 100_000), rng.uniform(0, 746, 200_000), halves]
    )


def angles():
    rng = np.random.default_rng(3)
    size = np.concatenate([np.exp(rng.uniform(-700, 6, 200_000)), rng.uniform(0, 3, 400_000), -0.5 * exponents()])
    return np.concatenate([size, -size])


def angle_words():
    rng = np.random.default_rng(1)
    near = np.concatenate([[0, 1, 2, 3], 2 ** rng.integers(0, 61, 1000), 2**61 - 1 - rng.integers(0, 100, 100)])
    near = np.concatenate([near, 2**61 + near, 2**62 - 1 - near]).astype(np.uint64)
    quarters = np.concatenate([near + np.uint64(quarter << 62) for quarter in range(4)])
    return np.concatenate([rng.integers(0, 2**64, 500_000, dtype=np.uint64), quarters])


@needs_wide
def test_the_logarithm_is_within_one_unit():
    x = log_arguments()
    x = x[x != 1]
    found = np.empty_like(x)
    logarithms(x, found)
    assert units_off(found, np.log(x.astype(wide))) < 1


def test_the_logarithm_of_one_is_zero():
    found = np.full(3, np.nan)
    logarithms(np.ones(3), found)
    assert np.array_equal(found, np.zeros(3))


def evaluated(loop, x):
    out = np.full_like(x, np.nan)
    loop(x, out)
    return out


@needs_wide
def test_the_exponential_is_within_one_unit_and_subnormal_where_it_is():
    x = exponents()
    exact = np.exp(x.astype(wide))
    found = evaluated(exponentials, x)
    assert units_off(found, exact) < 1
    assert ((found > 0) & (found < np.finfo(float).tiny)).any()


@needs_wide
def test_the_hyperbolic_tangent_is_within_two_and_a_half_units():
    x = angles()
    assert units_off(evaluated(hyperbolic_tangents, x), np.tanh(x.astype(wide))) < 2.5


def test_ends_of_the_exponential_and_of_the_hyperbolic_tangent():
    tiny = 5e-324
    x = np.array([0.0, -0.0, -tiny, -746.0, -1e308, -np.inf, np.nan])
    np.testing.assert_array_equal(evaluated(exponentials, x), [1, 1, 1, 0, 0, 0, np.nan])
    x = np.array([0.0, tiny, 1e-310, 1e-300, 22.0, 1e308, np.inf, np.nan])
    wanted = np.array([0.0, tiny, 1e-310, 1e-300, 1, 1, 1, np.nan])
    for sign in (1, -1):
        found = evaluated(hyperbolic_tangents, sign * x)
        np.testing.assert_array_equal(found, sign * wanted)
        np.testing.assert_array_equal(np.signbit(found[:-1]), sign < 0)


@needs_wide
def test_cosine_and_sine_are_within_three_units_even_at_their_zeros():
    words = angle_words()
    cosine, sine = np.empty((2, words.size))
    directions(words, cosine, sine)
    # a long double holds the angle without loss
    rest = (words << np.uint64(2)).view(np.int64).astype(wide) * (PI / 4) * wide(2.0**-63)
    c, s = np.cos(rest), np.sin(rest)
    quarters = (words >> np.uint64(63)).astype(int) + 2 * ((words >> np.uint64(62)).astype(int) & 1)
    for found, exact in ((cosine, np.choose(quarters, [c, -s, -c, s])), (sine, np.choose(quarters, [s, c, -s, -c]))):
        off = exact != 0
        assert units_off(found[off], exact[off]) < 3
        assert (found[~off] == 0).all()


def test_a_direction_has_length_one():
    cosine, sine = np.empty((2, 500_000))
    directions(np.random.default_rng(2).integers(0, 2**64, cosine.size, dtype=np.uint64), cosine, sine)
    np.testing.assert_allclose(cosine**2 + sine**2, 1, rtol=0, atol=1e-15)


def test_a_fused_multiply_add_rounds_once():
    a = np.array([1 + 2.0**-30, 1e308, np.inf, 3.0])
    b = np.array([1 - 2.0**-30, 10.0, 0.0, 4.0])
    c = np.array([-1.0, -np.inf, 1.0, 5.0])
    out = np.empty(4)
    fused(a, b, c, out)
    assert out[0] == -(2.0**-60)  # the rounded product is 1
    assert out[1] == -np.inf
    assert np.isnan(out[2])
    assert out[3] == 17.0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 33, 100])
def test_a_number_has_the_same_bits_wherever_it_stands(size):
    x, words = log_arguments()[:1000], angle_words()[:1000]
    below, angle = exponents()[::500][:1000], angles()[::1000][:1000]
    whole, cosine, sine = np.empty((3, 1000))
    logarithms(x, whole)
    exponential, tangent = evaluated(exponentials, below), evaluated(hyperbolic_tangents, angle)
    directions(words, cosine, sine)
    for first in range(0, 1000 - size, size):
        part = slice(first, first + size)
        found = np.empty((3, size))
        logarithms(x[part], found[0])
        directions(words[part], found[1], found[2])
        assert np.array_equal(found, [whole[part], cosine[part], sine[part]])
        assert np.array_equal(evaluated(exponentials, below[part]), exponential[part])
        assert np.array_equal(evaluated(hyperbolic_tangents, angle[part]), tangent[part])
