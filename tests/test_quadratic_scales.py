"""Mini-batch quadratics at any scale: edges scale with the curvature, small and large numbers keep their digits."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sgdynamics
from sgdynamics.domains import Interval, average
from sgdynamics.models.quadratic import FiniteSumQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.theory import break_even
from sgdynamics.theory.quadratic import (
    almost_sure_edge,
    mean_edge,
    mean_square_edge_gain,
    one_step_edge,
    optimal_schedule,
    random_curvature_variance,
    reshuffled_edge,
    second_moment_edge,
    stationary_variance,
    steps_to_target,
    tail_index,
    trace_rule_term,
    used_batch_loss,
)
from sgdynamics.theory.schedules import gains_from_weights


def powers(low, high):
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


# ---------------------------------------------------------------------------------------------------------------------
# Edges and indices in other units

MATRICES = np.array([[[1.0, 0.3], [0.3, 0.2]], [[0.4, -0.1], [-0.1, 0.9]], [[0.3, 0.0], [0.0, 0.3]]])
UNITS = powers(-12, 12)
EDGES = {
    "almost sure, examples": lambda c: almost_sure_edge(FiniteSumQuadratic([0.5 * c, 1.5 * c])),
    "almost sure, momentum": lambda c: almost_sure_edge(FiniteSumQuadratic([0.5 * c, 1.5 * c]), momentum=0.5),
    "almost sure, spread": lambda c: almost_sure_edge(FiniteSumQuadratic([1e-9 * c, 1e-4 * c, c], batch_size=2)),
    "almost sure, Gaussian": lambda c: almost_sure_edge(GaussianLeastSquares([c], 1.0, batch_size=2)),
    "reshuffled": lambda c: reshuffled_edge(
        FiniteSumQuadratic(c * np.array([0.1, 0.2, 0.5, 1.5]), batch_size=2, sampling="reshuffled")
    ),
    "reshuffled, momentum": lambda c: reshuffled_edge(
        FiniteSumQuadratic(c * np.array([0.1, 0.5, 1.5]), sampling="reshuffled"), momentum=0.5
    ),
    "mean": lambda c: mean_edge(FiniteSumQuadratic(c * MATRICES)),
    "mean square": lambda c: second_moment_edge(FiniteSumQuadratic(c * MATRICES)),
    "mean square, momentum": lambda c: second_moment_edge(FiniteSumQuadratic(c * MATRICES), momentum=0.6),
    "mean square, Gaussian": lambda c: second_moment_edge(GaussianLeastSquares([c, 0.1 * c], 1.0), momentum=0.6),
    "one step": lambda c: one_step_edge(FiniteSumQuadratic(c * MATRICES)),
    "examples": lambda c: break_even.mean_square_edge(c * MATRICES, 2),
    "strict": lambda c: break_even.strict_edge(c * MATRICES, 2),
    "trace rule": lambda c: break_even.trace_rule_edge([c, 0.3 * c], 0.25),
    "kernel norm": lambda c: break_even.kernel_norm_edge([c, 0.3 * c], 0.25),
}
EDGES_HERE = {name: edge(1.0) for name, edge in EDGES.items()}


@pytest.mark.parametrize("name", EDGES)
@settings(max_examples=8)
@given(UNITS)
@example(1e9)
@example(1e12)
def test_an_edge_is_a_reciprocal_of_curvature(name, unit):
    assert math.isclose(EDGES[name](unit) * unit, EDGES_HERE[name], rel_tol=1e-11)


@settings(max_examples=8)
@given(UNITS)
def test_the_tail_index_has_no_unit(unit):
    kappa = tail_index(FiniteSumQuadratic([0.5 * unit, 1.5 * unit]), 1.7 / unit)
    assert math.isclose((0.15**kappa + 1.55**kappa) / 2, 1, rel_tol=1e-13)


@settings(max_examples=40)
@given(powers(-20, -1), powers(-20, 0), st.booleans())
def test_small_curvatures_stay_apart_beside_a_large_one(small, ratio, momentum):
    """Two examples: the mean logarithm is log |1 - a| + log |1 - b|, whose first crossing solves a quadratic."""
    a, b = small * ratio, 1.0
    # (1 - x a)(1 - x b) = -1
    with mpmath.workdps(60):
        p, q = mpmath.mpf(a) * b, mpmath.mpf(a) + b
        discriminant = q * q - 8 * p
        expected = float((q - mpmath.sqrt(discriminant)) / (2 * p))
    assert math.isclose(almost_sure_edge(FiniteSumQuadratic([a, b])), expected, rel_tol=1e-12)


@settings(max_examples=40)
@given(
    st.lists(st.floats(-6, 0).map(lambda p: 10**p), min_size=2, max_size=5),
    st.floats(0, 0.999999),
    st.booleans(),
    st.integers(1, 4),
)
def test_at_the_trace_rule_edge_the_terms_add_to_one(variances, momentum, nesterov, draws):
    edge = second_moment_edge(
        GaussianLeastSquares(variances, 1.0, batch_size=draws), momentum=momentum, nesterov=nesterov
    )
    below, above = (
        np.sum(trace_rule_term(edge * factor * np.array(variances), draws, momentum=momentum, nesterov=nesterov))
        for factor in (1 - 1e-7, 1 + 1e-7)
    )
    assert below < 1 < above


@pytest.mark.parametrize("probability", [1e-3, 1e-6])
@pytest.mark.parametrize("momentum", [0.9, 0.999])
def test_a_rare_feature_sets_the_edge_with_momentum(probability, momentum):
    """Two features that never meet: each has the edge of one direction."""
    rare = FiniteSumQuadratic(
        [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]],
        probabilities=[probability, 1 - probability],
        sampling="replacement",
    )
    alone = [
        2 * (1 - momentum**2) / ((1 - momentum) + (1 - p) / p * (1 + momentum)) / p
        for p in (probability, 1 - probability)
    ]
    assert math.isclose(second_moment_edge(rare, momentum=momentum), min(alone), rel_tol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# First crossings


def growth_of_epochs(curvatures, rate):
    """Over all orders of four examples, two batches of two."""
    pairs = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    made = [[1 - rate * (curvatures[i] + curvatures[j]) / 2 for i, j in epoch] for epoch in pairs]
    return sum((a * b) ** 2 for a, b in made) / 3


@settings(max_examples=40)
@given(st.lists(st.floats(-3, 0), min_size=4, max_size=4))
@example(np.log10([0.07421527290457142, 0.15847034524028192, 1.0, 0.06821884609465954]).tolist())
def test_below_the_edge_of_reshuffled_epochs_every_rate_is_stable(exponents):
    curvatures = 10 ** np.array(exponents)
    edge = reshuffled_edge(FiniteSumQuadratic(curvatures, batch_size=2, sampling="reshuffled"))
    below = edge * np.concatenate([np.linspace(0, 1, 4001)[1:-1], [1 - 1e-9]])
    assert growth_of_epochs(curvatures, below).max() < 1 + 1e-14
    assert math.isclose(growth_of_epochs(curvatures, edge), 1, rel_tol=1e-9)


def exact_risk(modes, rate, step):
    """At 60 digits, each mode (curvature, center variance, displacement)."""
    total = mpmath.mpf(0)
    for h, noise, start in modes:
        gain = mpmath.mpf(rate) * mpmath.mpf(h)
        rho = (1 - gain) ** 2
        summed = step if rho == 1 else (1 - rho**step) / (1 - rho)
        total += mpmath.mpf(h) / 2 * (mpmath.mpf(start) ** 2 * rho**step + mpmath.mpf(noise) * gain**2 * summed)
    return total


modes = st.tuples(powers(-3, 0), st.one_of(st.just(0.0), powers(-30, 6)), st.one_of(st.just(0.0), powers(-6, 6)))


@settings(max_examples=40)
@given(st.lists(modes, min_size=1, max_size=3), powers(-5, 0.29), powers(-40, 8), st.booleans())
@example([(1.0, 0.0, 1.0)], 0.5, 1e-20, False)
@example([(1.0, 0.0, 1.0)], 1e-6, 1e-50, False)
@example([(1.0, 1e-10, 1e6)], 0.5, 2e-11, False)
@example([(1.0, 1.0, 1.0)], 0.5, 0.0, True)
def test_the_first_step_at_a_target_is_the_first_and_never_is_never(modes, rate, target, on_the_plateau):
    plateau = [h / 2 * v * rate * h / (2 - rate * h) for h, v, _ in modes]
    if on_the_plateau:
        target = sum(plateau) * (1 + target) or 1e-30
    curvature, variance, start = np.array(modes).T
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), rate, target)
    first = found.first_step.item()
    with mpmath.workdps(60):
        goal = mpmath.mpf(target)
        rounding = sum(plateau) * 1e-14 + target * 1e-14

        def gap(step):
            return exact_risk(modes, rate, step) - goal

        if first >= 0:
            assert gap(first) <= rounding
            if first > 0:
                assert gap(first - 1) >= -rounding
                for step in (first // 2, first // 3, first // 10):
                    assert gap(step) >= -rounding
        else:
            for step in itertools.chain(range(10), (10**power for power in range(1, 12))):
                assert gap(step) >= -rounding
        for crossing in found.crossing_step.values.ravel():
            if crossing > 0:
                assert gap(int(crossing)) * gap(int(crossing) - 1) <= 0 or abs(gap(int(crossing))) < rounding


def test_steps_to_a_target_in_numbers():
    def first(variance, displacement, rate, target):
        return steps_to_target(MiniBatchQuadratic(1.0, variance, displacement=displacement), rate, target).first_step

    assert first(0.0, 1.0, 0.5, 1e-20) == 33
    assert first(0.0, 1.0, 1e-6, 1e-50) == 57_218_026
    assert first(1e-10, 1e6, 0.5, 2e-11) == 39
    with pytest.raises(ValueError, match="steps_to_target: learning_rate must be such that 64 bits count the steps"):
        first(0.0, 1.0, 1e-30, 1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Weights in single precision


@settings(max_examples=10)
@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_an_average_in_single_precision_is_an_average(steps, seed):
    weights = np.random.default_rng(seed).uniform(size=steps + 1)
    weights /= weights.sum()
    single = average.check("f", "average", weights.astype(np.float32))
    assert abs(single.sum() - 1) < 1e-9
    np.testing.assert_allclose(single, weights, rtol=5e-7)
    with pytest.raises(ValueError, match=r"f: average must be weights .* that sum to 1"):
        average.check("f", "average", weights * 1.00001)


@settings(max_examples=10)
@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_probabilities_and_weights_of_iterates_may_be_in_single_precision(number, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 1, size=number)
    weights /= weights.sum()
    single = weights.astype(np.float32)
    kept = FiniteSumQuadratic(np.ones(number), probabilities=single, sampling="replacement").probabilities
    assert abs(np.sum(kept) - 1) < 1e-9
    np.testing.assert_allclose(kept, weights, rtol=5e-7)
    np.testing.assert_allclose(
        gains_from_weights(single[0], single[1:]), gains_from_weights(weights[0], weights[1:]), rtol=1e-5
    )
    with pytest.raises(ValueError, match="sum to 1"):
        FiniteSumQuadratic(np.ones(number), probabilities=weights * 1.00001, sampling="replacement")
    with pytest.raises(ValueError, match="sum to 1"):
        gains_from_weights(weights[0], weights[1:] + 1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Schedules where noise is weak


def end_of(model, rates):
    second = model.displacement**2
    for rate in rates:
        gain = rate * model.curvature
        second = (1 - gain) ** 2 * second + gain**2 * model.center_variance
    return 0.5 * np.sum(model.multiplicity * model.curvature * second)


def test_the_best_schedule_is_not_the_valley_of_the_greedy_one():
    model = MiniBatchQuadratic(
        [0.13102743719172175, 0.012800853655527196, 0.03079172673331237],
        1e-6,
        multiplicity=[55.72046967846638, 56.02420402485973, 9.00211430209404],
        displacement=[24.946428494647428, 0.6159255042444934, 0.26342769703307495],
    )
    assert end_of(model, optimal_schedule(model, 3)) <= end_of(model, (78.11958412, 32.47607883, 7.63198931)) * 1.000001


@settings(max_examples=40)
@given(st.lists(st.tuples(powers(-2, 0), powers(-2, 2)), min_size=2, max_size=4), st.integers(1, 3))
def test_without_noise_no_schedule_is_better(modes, steps):
    """The mean is a polynomial in the curvature that is 1 at 0: least squares in its other coefficients."""
    curvature, displacement = np.array(modes).T
    model = MiniBatchQuadratic(curvature, 0.0, displacement=displacement)
    weights = np.sqrt(curvature / 2) * displacement
    powers_of = (curvature / curvature.max())[:, None] ** np.arange(1, steps + 1)
    coefficients = np.linalg.lstsq(weights[:, None] * powers_of, -weights, rcond=None)[0]
    least = np.sum((weights * (1 + powers_of @ coefficients)) ** 2)
    start = np.sum(weights**2)
    assert end_of(model, optimal_schedule(model, steps)) <= least * (1 + 1e-6) + 1e-12 * start


# ---------------------------------------------------------------------------------------------------------------------
# Next to the edge


@settings(max_examples=40)
@given(powers(-12, 0), st.integers(1, 50), st.booleans(), st.integers(-3, 3))
def test_at_the_edge_a_variance_is_large_or_infinite_and_never_negative(complement, draws, nesterov, ulps):
    momentum = 1 - complement
    options = {"momentum": momentum, "nesterov": nesterov}
    for law, edge in (
        (lambda gain: stationary_variance(gain, **options), mean_square_edge_gain(0.0, **options)),
        (lambda gain: random_curvature_variance(gain, 0.3, **options), mean_square_edge_gain(0.3, **options)),
        (lambda gain: trace_rule_term(gain, draws, **options), mean_square_edge_gain(1 / draws, **options)),
    ):
        gain = edge
        for _ in range(abs(ulps)):
            gain = np.nextafter(gain, math.copysign(math.inf, ulps))
        assert law(float(gain)) > 1e8


def test_one_direction_beyond_its_edge_is_not_stable():
    assert trace_rule_term(0.99, 1, momentum=0.1) > 1e10
    assert math.isclose(
        mean_square_edge_gain(1e-8, momentum=1 - 1e-15, nesterov=True), 1.3333333133333338, rel_tol=1e-15
    )


def test_the_loss_of_a_used_batch_is_not_negative():
    assert math.isclose(used_batch_loss(1 - 1e-12, 0), 1.9999115140982547e-24, rel_tol=1e-9)
    assert used_batch_loss(1.0, 0) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Every exact formula of the row keeps its digits

DIGITS = [
    formula
    for formula in sgdynamics.formulas(kind="formula")
    if formula.symbolic and formula.name.split(".")[1] in ("quadratic", "schedules")
]


def drawn_from(domain):
    """Numbers of a domain in logarithmic space, those next to its ends and to 2, the edge of SGD, among them."""
    if not isinstance(domain, Interval):
        return st.booleans()
    if domain.integer:
        return st.integers(int(domain.low), 60)
    if domain.high <= 2:
        share = st.one_of(powers(-12, -0.5), powers(-12, -0.5).map(lambda p: 1 - p), st.floats(0.3, 0.7))
        return share.map(lambda part: part * domain.high)
    if domain.low > 0:
        return powers(-6, 2).map(lambda above: domain.low + above)
    return st.one_of(powers(-30, 6), st.floats(0.2, 1.9), powers(-12, -1).map(lambda below: 2 - below))


@pytest.mark.parametrize("formula", DIGITS, ids=lambda formula: formula.name)
@settings(max_examples=12)
@given(st.data())
def test_a_formula_keeps_its_digits(formula, data):
    """Against its own mathematics at 200 digits: what is tested is the evaluation, proofs hold the mathematics."""
    given_ = {name: data.draw(drawn_from(domain), label=name) for name, domain in formula.domains.items()}
    try:
        value = formula(**given_)
    except ValueError:  # two arguments that do not go together
        return
    if math.isinf(value):
        return
    exact = {k: sympy.Float(v, 200) if isinstance(v, float) else v for k, v in given_.items()}
    exact = {k: sympy.Integer(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in exact.items()}
    expected = float(sympy.N(formula.function(**exact), 40))
    if math.isnan(expected):  # its plain form is 0/0 here
        return
    assert math.isclose(value, expected, rel_tol=1e-11, abs_tol=1e-290)
