"""Optimisers beside plain SGD, against runs of them written out: averages of momentum, weight decay, Adam, signs."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import close, edge_of, linear_form
from scipy import stats

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, tail, two_point
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import (
    adam_gain,
    adam_momentum_gain,
    average_variance,
    decayed_minimiser,
    decayed_variance,
    ema_variance,
    heavy_ball_equivalent_gain,
    moments,
    preconditioned,
    sign_descent_variance,
    stationary,
    stationary_variance,
    tail_variance,
    two_point_variance,
)

shares = st.floats(0.02, 0.95)
momenta = st.one_of(st.just(0.0), st.floats(0.1, 0.9))
seeds = st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------------------------------------------------------------
# Averages of a run with momentum that is at rest


@given(shares, momenta, st.booleans(), seeds)
def test_the_average_of_a_run_at_rest_weighs_every_center_as_the_unrolled_run_does(share, momentum, nesterov, seed):
    gain = share * edge_of(momentum, nesterov)
    weights = np.random.default_rng(seed).normal(size=12)
    weights /= weights.sum()
    _, centers = linear_form(np.full(500, gain), momentum=momentum, nesterov=nesterov)
    expected = np.sum((weights @ centers[-12:]) ** 2)
    assert close(average_variance(gain, weights, momentum=momentum, nesterov=nesterov), expected, 1e-6)


@given(shares, momenta, st.booleans(), st.floats(0.0, 0.97))
def test_the_closed_form_of_the_exponential_average_is_that_of_its_weights(share, momentum, nesterov, beta):
    gain = share * edge_of(momentum, nesterov)
    options = {"momentum": momentum, "nesterov": nesterov}
    assert close(average_variance(gain, ema(beta, 1500), **options), ema_variance(gain, beta, **options), 1e-9)


@given(st.floats(0.02, 1.95), st.integers(1, 40), st.integers(1, 5))
def test_without_momentum_they_are_the_known_ones(gain, points, stride):
    assert close(average_variance(gain, tail(200, points, stride)), tail_variance(gain, points, stride), 1e-9)
    assert close(average_variance(gain, two_point(200, points)), two_point_variance(gain, points), 1e-9)


@given(shares, st.floats(0.0, 0.9), st.booleans())
def test_long_averages_see_the_noise_alone(share, momentum, nesterov):
    gain = share * edge_of(momentum, nesterov)
    options = {"momentum": momentum, "nesterov": nesterov}
    assert average_variance(gain, tail(5000, 5000), **options) == pytest.approx(1 / 5000, rel=0.2)
    assert ema_variance(gain, 1 - 1e-6, **options) == pytest.approx(0.5e-6, rel=1e-3)


def test_two_points_of_an_oscillation_may_be_worth_more_than_two_runs():
    halved = stationary_variance(0.5, momentum=0.9) / 2
    assert average_variance(0.5, two_point(4, 4), momentum=0.9) < 0.5 * halved
    # never so for plain SGD below a gain of 1
    assert np.all(two_point_variance(0.5, np.arange(1, 20)) > stationary_variance(0.5) / 2)


def test_beyond_the_edge_there_is_no_average_and_sweeps_keep_their_labels():
    swept = xr.DataArray([0.5, 3.1], dims="rate", coords={"rate": [5, 31]})
    made = average_variance(swept, [0.5, 0.5], momentum=0.5)
    assert made.dims == ("rate",)
    assert made.values[1] == math.inf
    assert made.values[0] == average_variance(0.5, [0.5, 0.5], momentum=0.5)
    assert ema_variance(3.1, 0.5, momentum=0.5) == math.inf


def test_an_ensemble_has_these_averages():
    model = MiniBatchQuadratic(1.0, 1.0)
    for average, momentum in ((tail(300, 20), 0.8), (two_point(300, 10), 0.8), (ema(0.9, 300), 0.5)):
        run = ensemble(model, constant(0.4, 300), replicas=40_000, seed=3, average=average, momentum=momentum)
        measured = run.error.values.ravel()
        predicted = average_variance(0.4, average, momentum=momentum)
        assert abs(np.mean(measured**2) - predicted) < 4 * predicted * math.sqrt(2 / measured.size)


# ---------------------------------------------------------------------------------------------------------------------
# Weight decay and dampening


def centers_in(matrix, shock, steps):
    """Weight of every past center in the first component of a state that a matrix moves."""
    weights, state = [], np.array(shock, dtype=float)
    for _ in range(steps):
        weights.append(state[0])
        state = matrix @ state
    return np.array(weights)


@given(shares, st.floats(0.0, 0.9), momenta)
def test_decoupled_decay_of_an_unrolled_run(share, decay, momentum):
    gain = share * (1 + momentum) * (2 - decay)
    matrix = np.array([[1 - decay - gain, -gain * momentum], [1.0, momentum]])  # of (w, u)
    weights = centers_in(matrix, [gain, -1.0], 3000)
    assert close(decayed_variance(gain, decay, momentum=momentum), np.sum(weights**2), 1e-8)
    assert close(decayed_minimiser(gain, decay, momentum=momentum), np.sum(weights), 1e-8)
    beyond = 1.0001 * gain / share
    assert decayed_variance(beyond, decay, momentum=momentum) == math.inf == decayed_minimiser(beyond, decay)
    growth = np.linalg.eigvals([[1 - decay - beyond, -beyond * momentum], [1.0, momentum]])
    assert max(abs(growth)) > 1


def test_with_momentum_a_penalty_in_the_loss_pulls_harder_than_decoupled_decay():
    gain, decay, momentum = 0.2, 0.1, 0.9
    # the penalty is curvature: rest where x (w - 1) + decay w = 0
    assert decayed_minimiser(gain, decay) == pytest.approx(gain / (gain + decay))
    assert decayed_minimiser(gain, decay, momentum=momentum) == pytest.approx(gain / (gain + decay / 10))


@given(shares, st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_dampening_scales_every_gain(share, momentum, dampening):
    gain = share * 2 * (1 + momentum) / (1 - dampening)
    plain = heavy_ball_equivalent_gain(gain, momentum, dampening)
    matrix = np.array([[1 - gain * (1 - dampening), -gain * momentum], [1 - dampening, momentum]])
    weights = centers_in(matrix, [gain * (1 - dampening), dampening - 1], 3000)
    assert close(plain / (2 - plain), np.sum(weights**2), 1e-8)
    assert heavy_ball_equivalent_gain(1.0001 * gain / share, momentum, dampening) == math.inf


# ---------------------------------------------------------------------------------------------------------------------
# Preconditioners


@given(st.floats(-0.5, 1.5), seeds, momenta)
def test_a_fixed_preconditioner_is_another_quadratic(exponent, seed, momentum):
    rng = np.random.default_rng(seed)
    curvature, variance, start = 10 ** rng.uniform(-1, 0, 3), rng.uniform(0.5, 2, 3), rng.normal(size=3)
    scale = curvature**-exponent
    rates = 0.1 / (scale * curvature).max() * rng.uniform(0.5, 1.5, 30)
    model = MiniBatchQuadratic(curvature, variance, displacement=start, multiplicity=[1.0, 2.0, 3.0], batch_size=2)
    made = moments(preconditioned(model, exponent), rates, momentum=momentum).excess_risk.item()
    risk = 0.0
    for i in range(3):  # every direction unrolled at its own gains
        from_start, centers = linear_form(rates * scale[i] * curvature[i], momentum=momentum)
        second = (from_start[-1] * start[i]) ** 2 + variance[i] / 2 * np.sum(centers[-1] ** 2)
        risk += 0.5 * (i + 1) * curvature[i] * second
    assert close(made, risk, 1e-9)


def test_newtons_method_is_one_gain_and_the_identity_is_no_preconditioner():
    model = MiniBatchQuadratic([1.0, 0.01], 1.0, displacement=1.0)
    assert np.ptp(preconditioned(model, 1.0).curvature) == 0
    same = preconditioned(model, 0.0)
    np.testing.assert_array_equal(same.curvature, model.curvature)
    np.testing.assert_array_equal(same.multiplicity, model.multiplicity)
    # what is left of the start falls faster, the noise is larger
    slow, fast = (moments(one, constant(0.5, 40)) for one in (model, preconditioned(model, 1.0)))
    assert np.all(np.abs(fast.mean_error) <= np.abs(slow.mean_error))
    assert stationary(preconditioned(model, 1.0), 0.5).excess_risk > stationary(model, 0.5).excess_risk


# ---------------------------------------------------------------------------------------------------------------------
# Adam


def adam(rate, curvature, sigma, beta_2, steps, replicas, seed, momentum=0.0):
    """Mean square of the last iterate and its standard error; every run starts at rest as the law has it."""
    rng = np.random.default_rng(seed)
    gain = adam_gain(rate / sigma)
    variance = sigma**2 * gain / (2 - gain)
    error, first = rng.normal(0, math.sqrt(variance), replicas), np.zeros(replicas)
    second = np.full(replicas, curvature**2 * (variance + sigma**2))
    for _ in range(steps):
        gradient = curvature * (error - rng.normal(0, sigma, replicas))
        first = momentum * first + (1 - momentum) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        error = error - rate * first / np.sqrt(second)
    squares = error**2
    return squares.mean(), squares.std() / math.sqrt(replicas), variance


@pytest.mark.parametrize(("rate", "curvature"), [(0.3, 5.0), (3.0, 5.0), (3.0, 0.01), (20.0, 1.0)])
def test_adam_comes_to_rest_at_the_gain_that_its_own_gradients_leave(rate, curvature):
    measured, error, variance = adam(rate, curvature, 1.0, 0.9999, 1000, 20_000, seed=5)
    assert abs(measured - variance) < 4 * error + 3e-3 * variance  # a second moment of 10^4 steps is not yet constant
    assert 4 * error < 0.05 * variance


def test_adam_with_a_short_second_moment_is_another_law():
    measured, error, variance = adam(0.2, 1.0, 1.0, 0.5, 400, 20_000, seed=6)
    assert variance - measured > 5 * error


def test_momentum_hardly_matters_to_adam_at_small_rates_and_does_at_large_ones():
    for rate, close_by in ((0.03, True), (3.0, False)):
        measured, error, variance = adam(rate, 1.0, 1.0, 0.9999, 1500, 10_000, seed=7, momentum=0.9)
        assert (abs(measured / variance - 1) < 4 * error / variance + 0.03) == close_by


@given(st.floats(-12, 12).map(lambda power: 10**power), st.floats(0.0, 0.999))
def test_the_gain_with_momentum_makes_the_gradients_that_it_divides_by(rate, momentum):
    gain = adam_momentum_gain(rate, momentum=momentum)
    edge = 2 * (1 + momentum) / (1 - momentum)
    assert 0 < gain <= edge * (1 + 1e-12)
    if gain < 0.999 * edge:
        left = stationary_variance((1 - momentum) * gain, momentum=momentum)
        assert gain == pytest.approx(rate / math.sqrt(1 + left), rel=1e-10)
    assert adam_momentum_gain(rate) == pytest.approx(adam_gain(rate), rel=1e-13)


def test_the_cubic_of_adam_with_momentum_follows_from_the_heavy_ball():
    import sympy

    gain, rate, momentum = sympy.symbols("gain rate momentum", positive=True)
    left = stationary_variance((1 - momentum) * gain, momentum=momentum)
    cubic = 2 * gain**2 * (1 + momentum + momentum * gain) - rate**2 * (2 * (1 + momentum) - (1 - momentum) * gain)
    closed = gain**2 * (1 + left) - rate**2
    assert sympy.simplify(closed * (2 * (1 + momentum) - (1 - momentum) * gain) - cubic) == 0


def adam_over_time(rate, momentum, beta_2, steps=2400, replicas=2000):
    """Mean square of runs at rest over the law, averaged over steps, and its standard error."""
    rng = np.random.default_rng(11)
    gain = adam_momentum_gain(rate, momentum=momentum)
    law = stationary_variance((1 - momentum) * gain, momentum=momentum)
    error, first, total = rng.normal(0, math.sqrt(law), replicas), np.zeros(replicas), np.zeros(replicas)
    second = np.full(replicas, 1 + law)
    for step in range(steps):
        gradient = error - rng.normal(size=replicas)
        first = momentum * first + (1 - momentum) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        error = error - rate * first / np.sqrt(second)
        if step >= 400:
            total += error**2
    ratios = total / (steps - 400) / law
    return ratios.mean(), ratios.std() / math.sqrt(replicas)


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.5), (1.0, 0.9), (5.0, 0.9), (30.0, 0.95)])
def test_adam_with_momentum_comes_to_rest_at_its_gain(rate, momentum):
    ratio, error = adam_over_time(rate, momentum, 0.9999)
    assert abs(ratio - 1) < 4 * error + 1e-3
    assert error < 5e-3
    # without the momentum in the law it would be wrong by far more
    plain = stationary_variance(adam_gain(rate))
    law = stationary_variance((1 - momentum) * adam_momentum_gain(rate, momentum=momentum), momentum=momentum)
    assert abs(plain / law - 1) > 20 * error


def test_a_shorter_second_moment_is_off_in_proportion_to_its_inverse_length():
    for momentum, sign in ((0.0, -1), (0.9, 1)):
        offs = [adam_over_time(5.0, momentum, beta_2) for beta_2 in (0.9, 0.99)]
        assert all(sign * (ratio - 1) > 4 * error for ratio, error in offs)
        assert 5 < (offs[0][0] - 1) / (offs[1][0] - 1) < 20


def test_in_rotated_directions_adam_shares_its_scale_and_the_law_is_a_heuristic():
    # curvatures 1 and 1/100 at 45 degrees to the coordinates, centers of variance 1 in both directions
    rng, rate = np.random.default_rng(8), 0.3
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    hessian = turn @ np.diag([1.0, 0.01]) @ turn.T
    error, second = np.zeros((4000, 2)), np.full((4000, 2), 0.5)
    for _ in range(3000):
        gradient = (error - rng.normal(size=error.shape)) @ hessian
        second = 0.999 * second + 0.001 * gradient**2
        error = error - rate * gradient / np.sqrt(second)
    sharp, flat = np.mean((error @ turn) ** 2, axis=0)
    law = stationary_variance(adam_gain(rate))
    assert sharp == pytest.approx(law, rel=0.7)
    assert abs(sharp / law - 1) > 0.2
    assert flat < 0.1 * law  # its own coordinate would have brought it to the same gain


@given(st.floats(-6, 6).map(lambda power: 10**power))
def test_adam_has_no_edge(rate):
    gain = adam_gain(rate)
    assert 0 < gain <= 2
    assert gain**2 == pytest.approx(rate**2 * (2 - gain) / 2, rel=1e-6, abs=rate**2 * 1e-15)
    assert gain <= rate


# ---------------------------------------------------------------------------------------------------------------------
# Descent by the sign


def on_a_lattice(rate, centers, offset):
    """Mean square at rest of a walk on points whole steps from an offset, by its balance from point to point."""
    reach = 3 + math.ceil(12 * math.sqrt(centers.std() / rate) + 12)
    points = rate * (np.arange(-reach, reach + 1) + offset)
    up, down = centers.sf(points), centers.cdf(points)  # the sign of e - xi
    logs = np.concatenate([[0.0], np.cumsum(np.log(up[:-1]) - np.log(down[1:]))])
    weights = np.exp(logs - logs.max())
    return np.sum(weights * points**2) / np.sum(weights)


@given(st.floats(0.02, 1.0), st.floats(0.1, 10.0), st.floats(0.0, 1.0))
def test_mean_square_of_sign_descent_on_every_lattice(ratio, scale, offset):
    made = sign_descent_variance(ratio * scale, scale)
    assert made == pytest.approx(on_a_lattice(ratio * scale, stats.logistic(scale=scale), offset), rel=1e-6)


def test_sign_descent_at_rates_beyond_the_noise_depends_on_the_start():
    ends = [on_a_lattice(10.0, stats.logistic(scale=1.0), offset) for offset in (0.0, 0.5)]
    law = sign_descent_variance(10.0, 1.0)
    assert max(ends) > 1.1 * law
    assert min(ends) < 0.97 * law


def test_sign_descent_with_other_centers_is_another_law():
    normal = stats.norm(scale=stats.logistic(scale=1.0).std())
    spread = on_a_lattice(0.05, normal, 0.3) / sign_descent_variance(0.05, 1.0)
    assert spread == pytest.approx(math.sqrt(math.pi / 8) * math.pi / math.sqrt(3), rel=0.02)  # of small rates
    assert spread > 1.1


def test_the_spread_of_signs_is_linear_where_that_of_sgd_is_square():
    # curvature 1, noise four times as wide: SGD sixteen-fold, the sign four-fold
    assert sign_descent_variance(0.01, 4.0) == pytest.approx(4 * sign_descent_variance(0.01, 1.0), rel=0.01)
