"""The quadratic whose curvature and noise do not commute: against Lyapunov solvers and the recursion written out."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from sgdynamics.models.quadratic import FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, linear
from sgdynamics.theory.quadratic import autocovariance, covariance_ratio, moments, stationary, stationary_variance

UPDATES = {
    "plain": {},
    "heavy ball": {"momentum": 0.7},
    "Nesterov": {"momentum": 0.7, "nesterov": True},
}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
seeds = st.integers(0, 2**32 - 1)


def random_psd(generator, size):
    basis = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return basis @ np.diag(10 ** generator.uniform(-1.5, 0, size)) @ basis.T


def draw(seed, size):
    generator = np.random.default_rng(seed)
    hessian, covariance = random_psd(generator, size), 3 * random_psd(generator, size)
    return generator, hessian, covariance, generator.normal(size=size)


def companion(hessian, rate, momentum=0.0, nesterov=False):
    """Matrix and inlet of the noise for the state (e_t, e_{t-1})."""
    one = np.eye(len(hessian))
    keep = one - rate * hessian
    top = (1 + momentum) * keep if nesterov else keep + momentum * one
    second = -momentum * keep if nesterov else -momentum * one
    return np.block([[top, second], [one, 0 * one]]), np.vstack([rate * hessian, 0 * one])


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 5), st.floats(0.02, 0.97), st.sampled_from(list(UPDATES)))
def test_the_stationary_covariance_solves_the_lyapunov_equation(seed, size, fraction, update):
    options = UPDATES[update]
    _, hessian, covariance, _ = draw(seed, size)
    edge = {"plain": 2, "heavy ball": 3.4, "Nesterov": 3.4 / 2.4}[update] / np.linalg.eigvalsh(hessian)[-1]
    rate = fraction * edge
    matrix, inlet = companion(hessian, rate, **options)
    oracle = solve_discrete_lyapunov(matrix, inlet @ (covariance / 3) @ inlet.T, method="direct")[:size, :size]
    law = stationary(FullQuadratic(hessian, covariance, batch_size=3), rate, **options)
    np.testing.assert_allclose(law.covariance.values, oracle, rtol=1e-10, atol=1e-10 * np.abs(oracle).max())
    np.testing.assert_allclose(law.variance.values, np.diagonal(law.covariance.values), rtol=0)
    assert math.isclose(law.excess_risk, np.trace(hessian @ oracle) / 2, rel_tol=1e-10)
    assert math.isclose(law.effective_dimension, np.trace(oracle) ** 2 / np.trace(oracle @ oracle), rel_tol=1e-9)


@given(st.floats(-6, math.log10(1.99)), st.floats(0, 0.99), st.booleans())
def test_at_equal_gains_the_ratio_is_the_stationary_variance(power, momentum, nesterov):
    gain = 10**power
    options = {"momentum": momentum, "nesterov": nesterov}
    ratio, variance = covariance_ratio(gain, gain, **options), stationary_variance(gain, **options)
    assert ratio == variance == math.inf or math.isclose(ratio, variance, rel_tol=1e-9)


@every_update
@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=st.integers(1, 4))
def test_moments_follow_the_recursion_written_out(update, seed, size):
    generator, hessian, covariance, start = draw(seed, size)
    rates = generator.uniform(0, 1.5, 12)
    state = np.concatenate([start, start])
    spread = np.zeros((2 * size, 2 * size))
    data = moments(
        FullQuadratic(hessian, covariance, displacement=start, batch_size=2), rates, record=range(13), **update
    )
    for step in range(13):
        if step:
            rate = rates[step - 1]
            # u = beta u + g, e -= eta u at a varying rate puts beta eta_t / eta_{t-1} on the last difference
            momentum = update.get("momentum", 0.0)
            if not update.get("nesterov") and step > 1:
                momentum = momentum * rate / rates[step - 2]
            matrix, inlet = companion(hessian, rate, momentum, update.get("nesterov", False))
            state = matrix @ state
            spread = matrix @ spread @ matrix.T + inlet @ (covariance / 2) @ inlet.T
        made = data.sel(step=step)
        scale = np.abs(spread).max() + 1e-300
        np.testing.assert_allclose(made.mean_error, state[:size], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(made.covariance, spread[:size, :size], rtol=1e-8, atol=1e-9 * scale)
        second = spread[:size, :size] + np.outer(state[:size], state[:size])
        np.testing.assert_allclose(made.second_moment, second, rtol=1e-8, atol=1e-9 * np.abs(second).max())
        assert math.isclose(made.excess_risk, np.trace(hessian @ second) / 2, rel_tol=1e-8)


@every_update
def test_where_everything_is_diagonal_it_is_the_diagonal_model(update):
    curvature, variance, start = np.array([1.0, 0.3, 0.05]), np.array([0.5, 2.0, 1.0]), np.array([1.0, -2.0, 0.5])
    plain = MiniBatchQuadratic(curvature, variance, displacement=start, batch_size=4)
    full = FullQuadratic(np.diag(curvature), np.diag(variance), displacement=start, batch_size=4)
    rates, average = linear(1.1, 30), ema(0.8, 30)
    for options in ({"record": [0, 7, 30]}, {"average": average}):
        one, other = moments(plain, rates, **options, **update), moments(full, rates, **options, **update)
        for name in ("mean_error", "variance", "excess_risk"):
            np.testing.assert_allclose(other[name], one[name], rtol=1e-11, atol=1e-14)
    one, other = stationary(plain, 0.9, **update), stationary(full, 0.9, **update)
    for name in ("variance", "excess_risk", "floor", "effective_dimension"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-12)
    assert plain.floor == pytest.approx(full.floor, rel=1e-14)
    assert plain.excess_risk(start) == pytest.approx(full.excess_risk(start), rel=1e-14)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 4))
def test_a_rotated_model_has_rotated_moments(seed, size):
    generator, hessian, covariance, start = draw(seed, size)
    model = FullQuadratic(hessian, covariance, displacement=start)
    rotated, basis = model.to_eigenbasis()
    np.testing.assert_allclose(basis @ rotated.hessian @ basis.T, hessian, atol=1e-13)
    assert (np.diff(np.diagonal(rotated.hessian)) >= 0).all()
    rates = generator.uniform(0, 1, 6)
    one, other = moments(model, rates), moments(rotated, rates)
    np.testing.assert_allclose(one.mean_error[0], basis @ other.mean_error[0].values, atol=1e-12)
    np.testing.assert_allclose(one.covariance[0], basis @ other.covariance[0].values @ basis.T, atol=1e-12)
    np.testing.assert_allclose(one.excess_risk, other.excess_risk, rtol=1e-11)


@every_update
def test_the_autocovariance_is_that_of_the_weights_of_past_centers(update):
    """Iterates as sums over the last 400 centers, by feeding the recursion unit impulses."""
    _, hessian, covariance, _ = draw(5, 3)
    rate, lags = 0.8, [0, 1, 4]
    made = autocovariance(FullQuadratic(hessian, covariance), rate, lags, **update)
    matrix, inlet = companion(hessian, rate, **update)
    impulse, weights = inlet, []
    for _ in range(1500):
        weights.append(impulse[:3])
        impulse = matrix @ impulse
    for place, lag in enumerate(lags):
        oracle = sum(weights[age + lag] @ covariance @ weights[age].T for age in range(1400))
        np.testing.assert_allclose(made[place], oracle, rtol=1e-9, atol=1e-11)
    assert made.dims == ("lag", "mode", "other_mode")


def test_a_flat_direction_never_moves_and_carries_no_risk():
    direction = np.array([[1.0, 2.0], [2.0, 4.0]]) / 5
    model = FullQuadratic(direction, [[1.0, 0.9], [0.9, 2.0]], displacement=[2.0, -1.0])  # start along the flat one
    assert model.excess_risk(model.start) == pytest.approx(0, abs=1e-15)
    for update in UPDATES.values():
        data = moments(model, constant(0.5, 300), **update)
        np.testing.assert_allclose(data.mean_error[0], [2.0, -1.0], atol=1e-12)
        law = stationary(model, 0.5, **update)
        np.testing.assert_allclose(data.covariance[0], law.covariance, atol=1e-10)
        assert np.linalg.matrix_rank(law.covariance.values, tol=1e-10) == 1


def test_beyond_the_edge_everything_is_infinite():
    model = FullQuadratic(np.diag([1.0, 0.1]), 1.0, displacement=1.0)
    law = stationary(model, 2.0)
    assert np.isinf(law.covariance).all()
    assert law.excess_risk == math.inf
    assert np.isnan(law.effective_dimension)
    assert np.isinf(autocovariance(model, 2.5, [1])).all()
    data = moments(model, constant(50.0, 400))
    assert data.excess_risk[0] == math.inf
    assert not np.isnan(data.covariance).any()


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 4))
def test_the_gradient_is_the_slope_of_the_loss_and_the_mean_loss_is_excess_and_floor(seed, size):
    generator, hessian, covariance, start = draw(seed, size)
    model = FullQuadratic(hessian, covariance, displacement=start, batch_size=2)
    error, center = generator.normal(size=(2, size))
    gradient = model.batch_gradient(error, center)
    for mode in range(size):
        nudge = 1e-4 * np.eye(size)[mode]
        slope = (model.batch_loss(error + nudge, center) - model.batch_loss(error - nudge, center)) / 2e-4
        assert math.isclose(slope, gradient[mode], rel_tol=1e-6, abs_tol=1e-8)
    np.testing.assert_allclose(model.step(error, center, 0.3), error - 0.3 * gradient, rtol=1e-13)
    root = np.linalg.cholesky(covariance / 2)
    centers = np.array(list(itertools.product([-1, 1], repeat=size))) @ root.T
    expected = model.excess_risk(error) + model.floor
    assert math.isclose(model.batch_loss(error, centers).mean(), expected, rel_tol=1e-10)


def test_a_batch_of_least_squares_is_a_regression_on_its_labels():
    random = np.random.default_rng(2)
    truth, error = random.normal(size=(2, 3))
    features, noise = random.normal(size=(5, 4, 3)), random.normal(size=(5, 4))
    labels, weights = features @ truth + noise, truth + error
    model = GaussianLeastSquares([2.0, 1.0, 0.5], 1.0, batch_size=4)
    residuals = features @ weights - labels
    np.testing.assert_allclose(model.batch_loss(error, features, noise), (residuals**2).mean(-1) / 2, rtol=1e-12)
    slopes = np.mean(features * residuals[..., None], axis=1)
    np.testing.assert_allclose(model.batch_gradient(error, features, noise), slopes, rtol=1e-12, atol=1e-12)


def test_labelled_points_keep_their_labels():
    model = FullQuadratic([[2.0, 1.0], [1.0, 2.0]], 1.0)
    points = xr.DataArray([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]], dims=["step", "mode"])
    assert model.excess_risk(points).dims == ("step",)
    assert model.excess_risk(points).values.tolist() == [1.0, 3.0, 9.0]
    with pytest.raises(ValueError, match="error must have a dim 'mode' of size 2"):
        model.excess_risk(points.rename(mode="other"))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[1.0, 2.0], [2.0, 1.0]], 1.0), {}, "hessian must be .* got the eigenvalue -1"),
        (([[1.0, 2.0], [0.0, 1.0]], 1.0), {}, r"hessian must be .* got 2.0 at index \(0, 1\) but 0.0 opposite"),
        ((np.zeros((2, 2)), 1.0), {}, "hessian must be .* got zeros"),
        ((np.ones((2, 3)), 1.0), {}, r"hessian must be .* got shape \(2, 3\)"),
        (([[1.0, math.nan], [0.0, 1.0]], 1.0), {}, "hessian must be .* got nan"),
        ((np.eye(2), [[1.0, 2.0], [2.0, 1.0]]), {}, "center_covariance must be .* got the eigenvalue -1"),
        ((np.eye(2), np.eye(3)), {}, r"center_covariance must be a number or have the shape \(2, 2\) .* \(3, 3\)"),
        ((np.eye(2), -1.0), {}, "center_covariance must be .* got -1"),
        ((np.eye(2), 1.0), {"displacement": [1.0, 2.0, 3.0]}, "displacement must have one value per mode, 2"),
        ((np.eye(2), 1.0), {"displacement": np.eye(2)}, "displacement must be a scalar or have one value per mode"),
        ((np.eye(2), 1.0), {"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
    ],
)
def test_a_model_that_cannot_be_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=f"FullQuadratic: {message}"):
        FullQuadratic(*arguments, **options)
