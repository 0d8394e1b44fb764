"""Edges that depend on more than second moments of independent Gaussian batches, against paths and enumerated steps."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.theory.quadratic import (
    almost_sure_edge_gain,
    mean_edge,
    mean_square_edge_gain,
    reshuffled_edge,
    reshuffled_growth,
    stability_edge,
    trace_rule_term,
)

# ---------------------------------------------------------------------------------------------------------------------
# Almost every path under curvature noise with heavy tails


def growth_of_paths(gain, width, momentum, steps=1000, replicas=2000, seed=1):
    """Logarithmic growth per step of errors, rescaled at every step, and its standard error."""
    rng = np.random.default_rng(seed)
    error, before, grown = np.ones(replicas), np.ones(replicas), np.zeros(replicas)
    for _ in range(steps):
        curvature = 1 + width * rng.standard_cauchy(replicas)
        error, before = (1 + momentum - gain * curvature) * error - momentum * before, error
        size = np.hypot(error, before)
        error, before, grown = error / size, before / size, grown + np.log(size)
    rates = grown / steps
    return rates.mean(), rates.std() / math.sqrt(replicas)


@pytest.mark.parametrize(("width", "momentum"), [(0.5, 0.0), (0.3, 0.5), (0.02, 0.9), (0.5, 0.9)])
def test_paths_cease_to_shrink_at_the_edge_of_almost_every_one(width, momentum):
    edge = almost_sure_edge_gain(width, momentum=momentum)
    for factor, sign in ((0.9, -1), (1.0, 0), (1.1, 1)):
        growth, error = growth_of_paths(factor * edge, width, momentum)
        if sign:
            assert sign * growth > 4 * error
        else:
            assert abs(growth) < 4 * error + 2 / 1000  # where a path starts counts once


@given(st.floats(0.0, 3.0), st.floats(0.0, 0.95))
def test_momentum_raises_the_edge_only_where_noise_is_weak(width, momentum):
    edge = almost_sure_edge_gain(width, momentum=momentum)
    assert edge <= stability_edge(1.0, momentum=momentum) * (1 + 1e-12)
    if width == 0:
        assert edge == pytest.approx(stability_edge(1.0, momentum=momentum), rel=1e-12)
    # as in mean square, there is a width beyond which momentum lowers it
    assert almost_sure_edge_gain(10.0, momentum=0.5) < almost_sure_edge_gain(10.0)
    assert almost_sure_edge_gain(0.01, momentum=0.5) > almost_sure_edge_gain(0.01)
    assert mean_square_edge_gain(10.0, momentum=0.5) < mean_square_edge_gain(10.0)


def test_without_momentum_it_is_the_integral_over_the_law():
    from scipy.integrate import quad

    def mean_log(gain, width):
        # the law as tan of a uniform angle
        def integrand(angle):
            return math.log(abs(1 - gain - gain * width * math.tan(angle))) / math.pi

        pole = math.atan((1 - gain) / (gain * width))
        return sum(quad(integrand, *ends, limit=400)[0] for ends in ((-math.pi / 2, pole), (pole, math.pi / 2)))

    for width in (0.2, 1.0):
        assert abs(mean_log(almost_sure_edge_gain(width), width)) < 1e-7
        assert mean_log(1.05 * almost_sure_edge_gain(width), width) > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# Reshuffled epochs with momentum


def squares_after(curvatures, rate, momentum, nesterov, epochs):
    """E e^2 over all sequences of epochs, run out one by one, from two starts with and without speed."""
    points = [(1.0, 1.0), (1.0, 0.0)]
    for _ in range(epochs):
        moved = []
        for order, (error, before) in itertools.product(itertools.permutations(curvatures), points):
            now, last = error, before
            for curvature in order:
                ahead = now + momentum * (now - last)
                now, last = ahead - rate * curvature * (ahead if nesterov else now), now
            moved.append((now, last))
        points = moved
    return np.mean(np.square(points))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("curvatures", "epochs"), [((0.4, 1.6), 14), ((0.4, 1.6, 0.9), 5)])
def test_growth_is_that_of_all_orders_of_all_epochs(curvatures, epochs, nesterov):
    model = FiniteSumQuadratic(curvatures, sampling="reshuffled")
    made = reshuffled_growth(model, 3.0, momentum=0.6, nesterov=nesterov)
    squares = [squares_after(curvatures, 3.0, 0.6, nesterov, count) for count in (epochs - 1, epochs)]
    assert made == pytest.approx(squares[1] / squares[0], rel=1e-2)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_growth_is_one_at_the_edge_and_below_one_before(nesterov, batch_size):
    model = FiniteSumQuadratic([0.5, 1.5, 1.0, 0.2], sampling="reshuffled", batch_size=batch_size)
    edge = reshuffled_edge(model, momentum=0.5, nesterov=nesterov)
    assert reshuffled_growth(model, edge, momentum=0.5, nesterov=nesterov) == pytest.approx(1, abs=1e-9)
    rates = xr.DataArray(edge * np.linspace(0.01, 0.99, 40), dims="rate")
    assert np.all(reshuffled_growth(model, rates, momentum=0.5, nesterov=nesterov) < 1)
    assert reshuffled_growth(model, 1.02 * edge, momentum=0.5, nesterov=nesterov) > 1


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("curvatures", [("1/2", "3/2"), ("3/10", "1", "2")])
def test_the_edge_is_the_smallest_root_of_a_determinant_counted_exactly(curvatures, nesterov):
    import sympy

    rate, momentum = sympy.Symbol("rate", positive=True), sympy.Rational(2, 5)
    values = [sympy.Rational(value) for value in curvatures]
    mean_map = sympy.zeros(4, 4)
    for order in itertools.permutations(values):
        product = sympy.eye(2)
        for curvature in order:
            kept = 1 - rate * curvature
            ahead = [(1 + momentum) * kept, -momentum * kept] if nesterov else [kept + momentum, -momentum]
            product = (sympy.Matrix([ahead, [1, 0]]) * product).expand()
        mean_map += sympy.kronecker_product(product, product) / sympy.factorial(len(values))
    determinant = sympy.Poly((sympy.eye(4) - mean_map).det(method="berkowitz"), rate)
    model = FiniteSumQuadratic([float(value) for value in values], sampling="reshuffled")
    edge = reshuffled_edge(model, momentum=0.4, nesterov=nesterov)
    near = [sympy.Rational(edge * factor) for factor in (1e-6, 1 - 1e-9, 1 + 1e-9)]
    assert determinant.count_roots(near[0], near[1]) == 0  # by Sturm's theorem, in whole numbers
    assert determinant.count_roots(near[1], near[2]) == 1


def test_a_window_of_rates_that_grow_is_found_however_narrow():
    model, momentum = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled"), 0.3892
    edge = reshuffled_edge(model, momentum=momentum)
    rates = xr.DataArray(edge * np.array([0.999, 1.003, 1.03]), dims="rate")
    growth = reshuffled_growth(model, rates, momentum=momentum) - 1
    assert growth[0] < 0 < growth[1]
    assert growth[2] < 0  # stable again three hundredths further
    # which a grid of a 64th of the edge of the mean steps over
    grid = xr.DataArray(np.arange(1, 45) * mean_edge(model, momentum=momentum) / 64, dims="rate")
    assert edge < grid[-1]
    assert np.all(reshuffled_growth(model, grid, momentum=momentum) < 1)
    assert reshuffled_edge(model, momentum=momentum - 0.001) > 1.2 * edge


def test_a_vanishing_momentum_is_none_and_equal_examples_have_the_edge_of_the_mean():
    model = FiniteSumQuadratic([0.5, 1.5, 1.0, 0.2], sampling="reshuffled", batch_size=2)
    assert reshuffled_edge(model, momentum=1e-9) == pytest.approx(reshuffled_edge(model), rel=1e-6)
    swept = xr.DataArray([0.0, 0.5], dims="momentum")
    np.testing.assert_allclose(
        reshuffled_edge(model, momentum=swept), [reshuffled_edge(model), reshuffled_edge(model, momentum=0.5)]
    )
    same = FiniteSumQuadratic([2.0, 2.0], sampling="reshuffled")
    for nesterov in (False, True):
        edge = stability_edge(2.0, momentum=0.7, nesterov=nesterov)
        assert reshuffled_edge(same, momentum=0.7, nesterov=nesterov) == pytest.approx(edge, rel=1e-9)


def test_momentum_takes_away_what_reshuffling_gives():
    # one example a batch: plain SGD is stable beyond the edge of the mean, whatever the order; momentum feels the order
    model = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    assert reshuffled_edge(model) > mean_edge(model)
    assert reshuffled_edge(model, momentum=0.5) < mean_edge(model, momentum=0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Least squares on features that are not Gaussian


def three_points(kurtosis):
    """A symmetric law of variance 1 on three points, with its probabilities."""
    reach, chance = math.sqrt(kurtosis), 1 / kurtosis
    return [(reach, chance / 2), (-reach, chance / 2)] + ([(0.0, 1 - chance)] if chance < 1 else [])


def second_moment_map(variances, law, rate):
    """E of the Kronecker square of one step on one example, over all values of independent features."""
    size, total = len(variances), 0.0
    for point in itertools.product(law, repeat=size):
        features = np.sqrt(variances) * [value for value, _ in point]
        step = np.eye(size) - rate * np.outer(features, features)
        total = total + math.prod(chance for _, chance in point) * np.kron(step, step)
    return total


@pytest.mark.parametrize("kurtosis", [1.0, 1.5, 3.0, 9.0])
def test_the_trace_rule_holds_for_independent_features_of_any_kurtosis(kurtosis):
    variances = np.array([1.0, 0.6, 0.3])
    law = three_points(kurtosis)

    def total(rate):
        return np.sum(trace_rule_term(rate * variances, 1, kurtosis=kurtosis))

    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) < 1 else (low, middle)
    radius = max(abs(np.linalg.eigvals(second_moment_map(variances, law, low))))
    assert radius == pytest.approx(1, abs=1e-9)
    # below the edge, noise of the labels leaves the second moments that the terms say
    rate, size = 0.6 * low, 3
    noise = rate**2 * np.diag(variances).ravel()
    rest = np.linalg.solve(np.eye(size**2) - second_moment_map(variances, law, rate), noise).reshape(size, size)
    terms = trace_rule_term(rate * variances, 1, kurtosis=kurtosis)
    np.testing.assert_allclose(np.diagonal(rest), terms / (variances * (1 - terms.sum())), rtol=1e-9)


def test_features_with_a_common_length_are_not_described_by_their_kurtosis():
    # signs times a common length that is 0 or sqrt 3: kurtosis 3 as Gaussian features, but directions go together
    variances, rate = np.array([1.0, 0.6, 0.3]), 0.3
    signs = second_moment_map(variances, three_points(1.0), 3 * rate)
    common = signs / 3 + np.eye(9) * 2 / 3
    noise = rate**2 * np.diag(variances).ravel()
    rest = np.diagonal(np.linalg.solve(np.eye(9) - common, noise).reshape(3, 3))
    terms = trace_rule_term(rate * variances, 1)
    assert np.all(abs(rest / (terms / (variances * (1 - terms.sum()))) - 1) > 0.05)


def test_many_equal_directions_hardly_see_the_kurtosis():
    for kurtosis in (1.0, 9.0):
        share = 400 * trace_rule_term(2 / 400, 1, kurtosis=kurtosis)
        assert share == pytest.approx(1, rel=0.03)
    assert trace_rule_term(0.5, 1, kurtosis=9.0) == math.inf
    # a batch of one, one direction: the edge of relative variance kurtosis - 1
    for kurtosis in (1.0, 1.5, 2.0, 9.0):
        edge = mean_square_edge_gain(kurtosis - 1)
        assert trace_rule_term(edge * (1 - 1e-12), 1, kurtosis=kurtosis) == pytest.approx(1, abs=1e-9)
