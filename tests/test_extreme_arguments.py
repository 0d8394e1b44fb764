"""Formulas at the ends of their ranges, against their definitions in as many digits as it takes.

Arguments are drawn evenly in the exponent of their distance from the ends of the domain. A value in the range of a
float must be right, one beyond it is infinite or 0, and none is NaN.
"""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.edge_of_stability import ProductLoss, SelfStabilization
from sgdynamics.models.uv import alignment_quantile, hessian_eigenvalues, log_cone_step, ntk_quantile
from sgdynamics.theory import deep_linear, edge_of_stability, uv

DIGITS = 700
LARGEST, SMALLEST = mp.mpf(np.finfo(float).max), mp.mpf(np.finfo(float).tiny)

size = st.floats(-307, 307).map(lambda power: 10.0**power)
real = st.tuples(size, st.sampled_from([-1.0, 1.0])).map(math.prod)
moderate = st.floats(-100, 100).map(lambda power: 10.0**power)
signed = st.tuples(moderate, st.sampled_from([-1.0, 1.0])).map(math.prod)
fraction = st.one_of(
    st.floats(-307, -0.31).map(lambda power: 10.0**power), st.floats(-15, -0.31).map(lambda power: 1 - 10.0**power)
)


def flips(rate, minimum, second, third, fourth):
    """The four terms of the flip coefficient."""
    p = rate * second * minimum
    return [2 * (rate * second * p) ** 2, 2 * rate * p * third, (third / second) ** 2, -fourth / (3 * second)]


def drift(rate, minimum, second, third, fourth):
    """The drift, and two terms of sum 0 that say how much is lost where its factors are differences."""
    p, terms = rate * second * minimum, flips(rate, minimum, second, third, fourth)
    scale = 2 * (rate * second) ** 2 / mp.fsum(terms)
    value = (1 - p * p) * scale
    lost = scale * (abs(p) * (1 + abs(p)) + abs(1 - p * p) * max(map(abs, terms)) / abs(mp.fsum(terms)))
    return [value, lost, -lost]


# formula, its arguments, its definition: one number, or terms to be summed, to the rounding of the largest
CASES = {
    "balanced_eigenvalue": (
        deep_linear.balanced_eigenvalue,
        (moderate, moderate, st.integers(1, 9).map(float)),
        lambda a, b, d: mp.fsum(
            mp.power(a, 2 * (d - j) / d) * mp.power(b, 2 * (j - 1) / d) for j in range(1, int(d) + 1)
        ),
    ),
    "two_layer_learning_time": (
        deep_linear.two_layer_learning_time,
        (fraction, fraction, size),
        lambda p, o, s: (mp.log(p * (1 - o)) - mp.log(o * (1 - p))) / (2 * s),
    ),
    "infinite_depth_learning_time": (
        deep_linear.infinite_depth_learning_time,
        (fraction, fraction, moderate),
        lambda p, o, s: (mp.log(p * (1 - o)) - mp.log(o * (1 - p)) + 1 / o - 1 / p) / s**2,
    ),
    "two_layer_flow_sharpness": (
        deep_linear.two_layer_flow_sharpness,
        (real, real),
        lambda i, y: mp.sqrt(i**2 + 4 * y**2),
    ),
    "end_excess": (
        edge_of_stability.end_excess,
        (size, moderate),
        lambda e, r: -r / 2 * (1 + mp.lambertw(-(1 + 2 * e / r) * mp.exp(-(1 + 2 * e / r)))),
    ),
    "critical_end_excess": (
        edge_of_stability.critical_end_excess,
        (size, size),
        lambda e, r: -r * e / (2 * e + r),
    ),
    "minimum_sharpness": (
        edge_of_stability.minimum_sharpness,
        (real, real, moderate),
        lambda i, y, a: a * mp.sqrt(i**2 + 4 * y**2),
    ),
    "cycle_amplitude": (edge_of_stability.cycle_amplitude, (size, size), lambda a, b: mp.sqrt(2 * a / b)),
    "oscillation_variance": (edge_of_stability.oscillation_variance, (size, size), lambda a, b: 2 * a / b),
    "cycle_period": (edge_of_stability.cycle_period, (size, size), lambda r, a: 2 * mp.pi / (r * mp.sqrt(2 * a))),
    "cycle_growth": (edge_of_stability.cycle_growth, (size, size), lambda r, a: mp.sqrt(1 + 2 * a * r**2)),
    "cycle_invariant": (
        edge_of_stability.cycle_invariant,
        (size, real, size, size),
        lambda x, y, a, b: [y**2 / 2, -a * mp.log(x), b * x**2 / 4],
    ),
    "reduced_invariant": (
        edge_of_stability.reduced_invariant,
        (real, size, size),
        lambda e, x, r: [term * mp.exp(-2 * e / r) for term in (x, -e, -r / 2)],
    ),
    "flip_coefficient": (edge_of_stability.flip_coefficient, (size, real, size, real, real), flips),
    "gap_drift": (edge_of_stability.gap_drift, (size, real, size, real, real), drift),
    "equal_chain_sharpness": (
        deep_linear.equal_chain_sharpness,
        (size, real, st.integers(1, 300).map(float)),
        lambda w, y, d: [(2 * d - 1) * w ** (2 * d - 2), -(d - 1) * y * w ** (d - 2)],
    ),
    "SelfStabilization.sharpness": (
        SelfStabilization(1.3, 0.7).sharpness,
        (real, real),
        lambda x, s: (s + mp.sqrt(s**2 + 4 * mp.mpf(0.7) * x**2)) / 2,
    ),
    "ProductLoss square_root": (
        ProductLoss("square_root").loss,
        (real, real),
        lambda x, y: mp.sqrt(1 + (x * y) ** 2) - 1,
    ),
    "ProductLoss quartic": (
        ProductLoss("quartic", target=1e154).loss,
        (signed, signed),
        lambda x, y: ((x * y) ** 2 - mp.mpf(1e154) ** 2) ** 2 / 4,
    ),
    "ProductLoss quartic slope": (
        ProductLoss("quartic", target=1e154).slope,
        (signed, signed),
        lambda x, y: x * y * ((x * y) ** 2 - mp.mpf(1e154) ** 2),
    ),
    "ProductLoss square sharpness": (
        ProductLoss("square").sharpness,
        (real, real),
        lambda x, y: (x * x + y * y + mp.sqrt((x * x - y * y) ** 2 + 16 * (x * y) ** 2)) / 2,
    ),
    "critical_learning_rate": (
        uv.critical_learning_rate,
        (size, real),
        lambda k, y: 1 / (mp.sqrt(k) * abs(y)),
    ),
}


def agrees(made, exact, tolerance):
    """Whether a float is an exact number, up to rounding; beyond the range of floats it is infinite or next to 0."""
    assert not math.isnan(made)
    if abs(exact) > LARGEST * (1 - tolerance):
        return math.isinf(made) and (made > 0) == (exact > 0)
    if abs(exact) < SMALLEST / mp.mpf(tolerance):
        return abs(made) <= 2 * SMALLEST / mp.mpf(tolerance)
    return abs(mp.mpf(made) - exact) <= tolerance * abs(exact)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_formula_is_its_definition_wherever_its_arguments_are_floats(name, data):
    function, strategies, definition = CASES[name]
    arguments = [data.draw(strategy) for strategy in strategies]
    with np.errstate(all="ignore"):
        made = float(function(*arguments))
    with mp.workdps(DIGITS):
        exact = definition(*map(mp.mpf, arguments))
        terms = exact if isinstance(exact, list) else [mp.re(exact)]
        value, largest = mp.fsum(terms), max(map(abs, terms))
        if largest > 100 * abs(value) and abs(value) <= LARGEST:  # of both signs: as many digits as the terms leave
            assert abs(made - value) <= 2e-12 * largest
        else:
            assert agrees(made, value, 2e-12)


def test_the_quartic_at_its_minima_is_0_however_far_they_are_out():
    for side in (1, -1):
        model = ProductLoss("quartic", target=1e160)
        assert float(model.loss(1e80, side * 1e80)) == 0
        assert float(model.slope(1e80, side * 1e80)) == 0


def test_false_values_are_seen():
    with mp.workdps(60):
        assert not agrees(1.0, mp.mpf(1) + mp.mpf(1e-11), 2e-12)
        assert not agrees(math.inf, mp.mpf(10) ** 300, 2e-12)
        assert not agrees(-math.inf, mp.mpf(10) ** 400, 2e-12)
        assert not agrees(0.0, mp.mpf(10) ** -200, 2e-12)
        with pytest.raises(AssertionError):
            agrees(math.nan, mp.mpf(1), 2e-12)


def test_values_at_the_ends():
    assert deep_linear.balanced_eigenvalue(5e-324, 1, 3) == pytest.approx(1, rel=1e-14)
    # an integral over the layers: (a^2 - b^2)/(log a^2 - log b^2) times the depth
    assert deep_linear.balanced_eigenvalue(2.0, 3.0, 1e15) == pytest.approx(1e15 * 5 / math.log(9 / 4), rel=1e-12)
    assert deep_linear.infinite_depth_learning_time(1e-300, 1e-300, 1.0) == 0
    assert deep_linear.two_layer_learning_time(1 - 1e-16, 1e-300, 1.0) == pytest.approx(363.7561642, rel=1e-9)
    assert SelfStabilization(1.3, 0.7).sharpness(1e-9, -3.0) == pytest.approx(0.7e-18 / 3, rel=1e-14)
    assert not math.isnan(edge_of_stability.end_excess(1e308, 1e308))
    assert log_cone_step(700.0, 700.0, 0.0) == (700.0, 700.0)


@given(st.floats(600, 1200), st.floats(-12, 1), st.floats(-1e3, 1e3))
def test_two_large_sides_of_the_cone_step_by_their_difference(larger, apart, q):
    log_plus, log_minus = larger, larger - 10**apart
    with mp.workdps(40 + int(larger / 2)):
        plus, minus = mp.exp(mp.mpf(log_plus)), mp.exp(mp.mpf(log_minus))
        s = (plus - minus) / 4 - mp.mpf(q)
        expected = [float(mp.mpf(log_plus) + 2 * mp.log(abs(1 - s))), float(mp.mpf(log_minus) + 2 * mp.log(abs(1 + s)))]
    assert log_cone_step(log_plus, log_minus, q) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("width", [[10**12] * 3, [10**6, 3 * 10**9, 10**12, 7], [1] * 40, []])
def test_the_variance_of_the_kernel_keeps_its_digits_at_any_width(width):
    with mp.workdps(80):
        below = [mp.mpf(1)]
        for n in width:
            below.append(below[-1] * (1 + mp.mpf(2) / n))
        second = (len(width) + 1) * below[-1]
        for first in range(len(width)):
            spread = square = mp.mpf(1)
            for last in range(first, len(width)):
                if last > first:
                    low, high = mp.mpf(width[last - 1]), mp.mpf(width[last])
                    spread, square = spread + 2 * square / (high * low), spread + (high + 1) / low * square
                second += 2 * below[first] * spread * below[-1] / below[last + 1]
        expected = float(second - (len(width) + 1) ** 2)
    assert deep_linear.initial_ntk_moments(width).variance == pytest.approx(expected, rel=1e-13)


@settings(max_examples=25)
@given(st.floats(-300, -0.31), st.integers(1, 300))
def test_the_alignment_far_out_is_a_beta_quantile(power, width):
    """By the mass beyond it; odd about 1/2."""
    made = alignment_quantile(10**power, width)
    with mp.workdps(60):
        if 1 + made > 1e-6:
            a = mp.mpf(width) / 2
            mass = mp.betainc(a, mp.mpf(1) / 2, 0, 1 - mp.mpf(made) ** 2, regularized=True) / 2
            density = (1 - mp.mpf(made) ** 2) ** (a - 1) / mp.beta(a, mp.mpf(1) / 2)
            assert abs(mass - mp.mpf(10**power)) <= 1e-13 * abs(made) * density
        else:
            assert made >= -1
    if power > -2:
        assert alignment_quantile(1 - 10**power, width) == pytest.approx(-made, rel=1e-12)


@pytest.mark.parametrize(
    ("probability", "width", "expected"),
    [(1e-20, 10**6, -0.00926214375254389), (1e-10, 1000, -0.19919384111197974), (0.0, 5, -1.0)],
)
def test_alignments_far_out(probability, width, expected):
    assert alignment_quantile(probability, width) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("width", [300_000])
@pytest.mark.parametrize("probability", [1e-300, 1e-5])
def test_the_kernel_far_out_is_a_gamma_quantile_at_large_width(width, probability):
    made = ntk_quantile(probability, width)
    with mp.workdps(50):
        n, x = mp.mpf(width), mp.mpf(made)
        density = mp.exp(n * mp.log(n * x) - n * x - mp.loggamma(n))  # of the logarithm
        mass = mp.gammainc(n, 0, n * x, regularized=True)
        assert abs(mass - mp.mpf(probability)) <= 4e-16 * density


@given(moderate, moderate, st.floats(-16, 0), st.sampled_from([-1.0, 1.0]), st.floats(-3, 3))
def test_hessian_eigenvalues_keep_their_digits_up_to_the_boundary_of_the_cone(ntk, kappa, apart, sign, size):
    output = sign * (1 - 10**apart) * ntk / (2 * math.sqrt(kappa))
    target = 2 * output + 10**size * abs(output) * (size > 0)  # at twice the output only the imbalance is left
    with mp.workdps(80):
        f, trace, k, y = map(mp.mpf, (output, ntk, kappa, target))
        expected = float((trace + mp.sqrt(max(trace**2 - 4 * k * f**2, 0) + 4 * k * (2 * f - y) ** 2)) / 2)
    assert hessian_eigenvalues(output, ntk, target=target, kappa=kappa)[0] == pytest.approx(expected, rel=1e-13)
