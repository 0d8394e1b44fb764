"""Stationary laws, averages of them and the edge of stability, against linear algebra and unrolled runs."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from plain_quadratic import (
    UPDATES,
    below_edge,
    close,
    decays,
    edge_of,
    ema_by_algebra,
    every_update,
    flags,
    horizons,
    past,
    stable_gains,
    stationary_by_algebra,
    transfer,
)

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema
from sgdynamics.outcome import Outcome
from sgdynamics.theory.quadratic import (
    contraction_factor,
    ema_start_weight,
    ema_variance,
    equivalent_gain,
    far_points_variance,
    heavy_ball_equivalent_gain,
    moments,
    stability,
    stability_edge,
    stationary,
    stationary_risk,
    stationary_variance,
    swa_start_weight,
    swa_variance_from_start,
    tail_variance,
    two_point_variance,
)

# ---------------------------------------------------------------------------------------------------------------------
# Stationary laws over wide domains


@given(below_edge, decays, flags)
@example(1e-8 / 2, 0.0, False)
@example(0.9995, 0.0, False)
def test_stationary_variance_solves_the_lyapunov_equation(fraction, momentum, nesterov):
    gain = fraction * edge_of(momentum, nesterov)
    made = stationary_variance(gain, momentum=momentum, nesterov=nesterov)
    assert close(made, stationary_by_algebra(gain, momentum, nesterov), 1e-11)
    risk = stationary_risk(gain / 3, 3.0, 5.0, 7.0, momentum=momentum, nesterov=nesterov)
    assert close(risk, 3 * 5 / 7 * stationary_by_algebra(gain / 3 * 3, momentum, nesterov) / 2, 1e-11)


@given(below_edge, decays)
def test_plain_sgd_at_the_equivalent_gain_has_the_variance_of_the_heavy_ball(fraction, momentum):
    gain = fraction * 2 * (1 + momentum)
    plain = heavy_ball_equivalent_gain(gain, momentum)
    assert close(plain / (2 - plain), stationary_by_algebra(gain, momentum, False), 1e-9)
    assert plain <= min(2, gain / (1 - momentum)) * (1 + 1e-15)
    assert heavy_ball_equivalent_gain(2 * (1 + momentum), momentum) == math.inf


@given(stable_gains, decays)
def test_ema_variance_solves_the_lyapunov_equation(gain, beta):
    assert close(ema_variance(gain, beta), ema_by_algebra(gain, beta), 1e-11)


@given(stable_gains, horizons, st.integers(1, 50))
@example(1e-8, 10**4, 1)
@example(1.0, 10, 3)
@example(1.999, 10**4, 1)
def test_tail_variance_adds_all_correlations(gain, points, stride):
    correlation = np.exp(stride * np.log(abs(1 - gain))) if gain != 1 else 0.0
    correlation *= -1 if gain > 1 and stride % 2 else 1
    i = np.arange(1, points)
    inflation = 1 + 2 * math.fsum((1 - i / points) * correlation**i)
    expected_variance = gain**2 / (gain * (2 - gain)) * inflation / points
    assert close(tail_variance(gain, points, stride), expected_variance, 1e-9)


@given(stable_gains, horizons)
@example(1.0, 1)
@example(1.999, 1)
def test_two_point_variance_is_that_of_the_midpoint(gain, separation):
    with mpmath.workdps(40):
        x = mpmath.mpf(gain)
        variance = x**2 / (1 - (1 - x) ** 2)
        expected_variance = (2 * variance + 2 * (1 - x) ** separation * variance) / 4
    assert close(two_point_variance(gain, separation), expected_variance, 1e-11)
    assert close(two_point_variance(gain, separation), tail_variance(gain, 2, separation), 1e-11)


@given(st.floats(0.1, 1.9), st.integers(1, 12), st.integers(1, 12), st.floats(0, 0.8))
def test_variances_of_averages_are_sums_of_squared_weights(gain, points, stride, beta):
    age = np.arange(600)
    iterates = np.array([np.where(age >= s, gain * (1 - gain) ** np.maximum(age - s, 0.0), 0) for s in range(150)])

    def squares(average):
        return ((average @ iterates[: average.size]) ** 2).sum()

    assert close(tail_variance(gain, points, stride), squares(np.bincount(stride * np.arange(points)) / points))
    assert close(two_point_variance(gain, stride), squares(np.bincount([0, stride]) / 2))
    assert close(ema_variance(gain, beta), squares((1 - beta) * beta ** np.arange(150)))
    assert close(stationary_variance(gain), squares(np.ones(1)))


@given(stable_gains, horizons)
@example(1e-8, 1)
@example(1e-8, 10**4)
@example(0.5, 1)
@example(0.004999, 100)
@example(0.005001, 100)
def test_swa_from_a_fixed_start_is_the_unrolled_average(gain, steps):
    """The iterate m steps later still holds a^m of the start and 1 - a^m of what came since."""
    left, moved, bias, squares = 1.0, 0.0, 0.0, 0.0
    for _ in range(steps):
        left, moved = left * (1 - gain), moved + gain * (1 - moved)
        bias, squares = bias + left, squares + moved**2
    assert close(swa_variance_from_start(gain, steps), squares / steps**2, 1e-10)
    assert abs(swa_start_weight(gain, steps) - bias / steps) <= 1e-10 * abs(bias / steps) + 1e-15


@pytest.mark.parametrize("gain", [1e-12, 1e-8, 1e-4, 1e-2, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("steps", [1, 2, 7, 100, 2000])
def test_swa_variance_does_not_cancel(gain, steps):
    with mpmath.workdps(60):
        weights = [1 - (1 - mpmath.mpf(gain)) ** m for m in range(1, steps + 1)]
        assert close(swa_variance_from_start(gain, steps), sum(w * w for w in weights) / steps**2, 1e-13)
    labelled = swa_variance_from_start(xr.DataArray([gain], dims="gain").chunk(), steps)
    np.testing.assert_allclose(labelled, [swa_variance_from_start(gain, steps)], rtol=1e-15)
    np.testing.assert_allclose(
        swa_variance_from_start([gain], steps), [swa_variance_from_start(gain, steps)], rtol=1e-15
    )


@given(stable_gains, st.integers(1, 2000))
def test_swa_from_a_stationary_start_is_the_tail(gain, steps):
    """Its own spread adds to that of the weights of the centers."""
    total = swa_variance_from_start(gain, steps) + swa_start_weight(gain, steps) ** 2 * stationary_variance(gain)
    assert close(total, tail_variance(gain, steps), 1e-10)


@given(stable_gains, decays, horizons)
@example(0.1, 0.9, 50)
@example(1.0, 0.0, 3)
@example(1.0, 0.5, 3)
def test_ema_start_weight_is_the_unrolled_recursion(gain, beta, steps):
    iterate, averaged = 1.0, 1.0
    for _ in range(steps):
        iterate *= 1 - gain
        averaged = beta * averaged + (1 - beta) * iterate
    made = ema_start_weight(gain, beta, steps)
    assert math.isclose(made, averaged, rel_tol=1e-9 if gain <= 1 else 0, abs_tol=1e-13 if gain > 1 else 1e-300)


# ---------------------------------------------------------------------------------------------------------------------
# Laws and limits


@given(stable_gains)
def test_without_averaging_or_momentum_every_variance_is_that_of_sgd(gain):
    plain = stationary_variance(gain)
    for made in (
        stationary_variance(gain, momentum=1e-12),
        stationary_variance(gain, momentum=0.0, nesterov=True),
        ema_variance(gain, 0.0),
        tail_variance(gain, 1),
        tail_variance(gain, 1, 17),
        far_points_variance(gain, 1),
        2 * far_points_variance(gain, 2),
    ):
        assert close(made, plain, 1e-8)


@given(st.floats(-3, math.log10(1.99)).map(lambda power: 10**power), st.integers(2, 20))
def test_far_apart_iterates_are_independent(gain, points):
    far = math.ceil(60 / min(gain, 2 - gain))
    assert close(tail_variance(gain, points, far), far_points_variance(gain, points), 1e-12)
    assert close(equivalent_gain(two_point_variance(gain, far)), 2 * gain / (4 - gain), 1e-12)
    assert close(equivalent_gain(far_points_variance(gain, points)), 1 / (points / gain - (points - 1) / 2), 1e-12)


@pytest.mark.parametrize("points", [2, 5])
def test_points_become_independent_as_fast_as_correlations_die(points):
    """The asymptotic form is off by 2 (1 - 1/n) a^s, to leading order in a^s."""
    gain, strides = 0.3, np.array([10, 20, 40])
    exact = [((sum(past(gain, s * i) for i in range(points)) / points) ** 2).sum() for s in strides]
    gap = np.array(exact) / far_points_variance(gain, points) - 1
    np.testing.assert_allclose(gap / (2 * (1 - 1 / points) * (1 - gain) ** strides), 1, atol=0.05)
    np.testing.assert_allclose(np.diff(np.log(gap)) / np.diff(strides), math.log(1 - gain), rtol=0.01)


@given(stable_gains, decays)
def test_slow_averages_and_low_rates_add_like_conductances(gain, beta):
    u, g = 1 / gain - 0.5, 1 / (1 - beta) - 0.5
    made = equivalent_gain(ema_variance(gain, beta))
    assert close(1 / made - 0.5, (u + g) / (1 + 1 / (4 * u * g)), 1e-9)


@given(below_edge, decays)
def test_the_equivalent_gain_of_heavy_ball_is_a_harmonic_mean(fraction, momentum):
    gain = fraction * edge_of(momentum, False)
    made = equivalent_gain(stationary_variance(gain, momentum=momentum))
    assert close(1 / made, (1 - momentum) / gain + momentum / (1 + momentum), 1e-9)


@given(stable_gains)
def test_the_equivalent_gain_of_sgd_is_its_gain(gain):
    assert close(equivalent_gain(stationary_variance(gain)), gain, 1e-13)


@given(st.floats(-8, 8).map(lambda power: 10**power))
def test_the_equivalent_gain_has_the_variance_it_was_asked_for(variance):
    gain = equivalent_gain(variance)
    assert 0 < gain < 2
    left = (1 - mpmath.mpf(gain)) ** 2 * variance + mpmath.mpf(gain) ** 2  # one step later
    assert close(left, variance, 1e-13 * max(1, 1 / variance))
    assert equivalent_gain(0.0) == 0


def test_an_ema_of_a_hundred_steps_cuts_the_rate_by_curvature():
    gains = np.array([1e-4, 1e-3, 1e-2, 0.1, 1.0])
    cut = equivalent_gain(ema_variance(gains, 0.99)) / gains
    printed, digits = [0.990, 0.910, 0.501, 0.0913, 0.0100], [5e-4, 5e-4, 5e-4, 5e-5, 6e-5]
    assert np.all(np.abs(cut - printed) < digits)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_equivalent_gain_does_not_depend_on_the_batch_size(batch_size):
    model = MiniBatchQuadratic(1.0, 3.0, batch_size=batch_size)
    averaged = moments(model, constant(0.2, 2000), average=ema(0.9, 2000)).variance.item()
    variance = averaged / model.batch_center_variance.item()
    assert close(equivalent_gain(variance), equivalent_gain(ema_variance(0.2, 0.9)), 1e-12)


def test_variances_move_the_right_way():
    gains = np.geomspace(1e-8, 1.99, 200)
    for momentum, nesterov in itertools.product((0.0, 0.5, 0.9), (False, True)):
        inside = gains * edge_of(momentum, nesterov) / 2
        assert np.all(np.diff(stationary_variance(inside, momentum=momentum, nesterov=nesterov)) > 0)
    assert np.all(np.diff(ema_variance(0.1, 1 - np.geomspace(1, 1e-6, 100))) < 0)
    assert np.all(np.diff(tail_variance(0.1, np.arange(1, 200))) < 0)
    assert np.all(np.diff(tail_variance(0.1, 5, np.arange(1, 100))) < 0)
    assert np.all(np.diff(two_point_variance(0.1, np.arange(1, 100))) < 0)
    assert np.all(np.diff(equivalent_gain(np.geomspace(1e-8, 1e8, 100))) > 0)


# ---------------------------------------------------------------------------------------------------------------------
# Claims in numbers


def test_the_variance_of_sgd():
    assert abs(stationary_variance(0.1) - 0.0526315789) < 5e-11


def test_an_average_of_ten_steps():
    assert abs(ema_variance(0.1, 0.9) - 0.0263886864) < 5e-11
    assert abs(equivalent_gain(ema_variance(0.1, 0.9)) - 0.0514204545) < 5e-11


def test_an_average_of_a_hundred_steps():
    assert abs(ema_variance(0.1, 0.99) - 0.00458836918) < 5e-12
    assert abs(equivalent_gain(ema_variance(0.1, 0.99)) - 0.00913482440) < 5e-12


def test_two_points():
    assert abs(two_point_variance(0.1, 10) - 0.0354915379) < 5e-11
    near, far = elsewhere("equivalent_gain_of_two_points").along(10, 10_000)
    assert abs(equivalent_gain(two_point_variance(0.1, 10)) - near) < 5e-11
    assert abs(equivalent_gain(far_points_variance(0.1, 2)) - far) < 5e-11


def test_tails():
    assert abs(tail_variance(0.1, 20, 1) - 0.0291952366) < 5e-11
    assert abs(equivalent_gain(tail_variance(0.1, 20)) - 0.0567341074) < 5e-11
    assert abs(tail_variance(0.1, 10, 5) - 0.0167541404) < 5e-11


def test_momentum():
    heavy_ball = stationary_variance(0.1, momentum=0.9)
    assert abs(heavy_ball - 0.5135135135) < 5e-11
    assert abs(equivalent_gain(heavy_ball) - 0.6785714286) < 5e-11
    assert abs(stationary_variance(0.1, momentum=0.9, nesterov=True) - 0.2706339713) < 5e-11  # 0.181/0.6688


# ---------------------------------------------------------------------------------------------------------------------
# The edge


@given(st.floats(-8, 1).map(lambda power: 10**power), decays, flags)
@example(3.0, 0.5, False)
@example(1.0, 0.9, True)
def test_the_contraction_factor_is_the_spectral_radius(gain, momentum, nesterov):
    radius = np.abs(np.linalg.eigvals(np.array(transfer(gain, momentum, nesterov)))).max()
    made = contraction_factor(gain, momentum=momentum, nesterov=nesterov)
    assert abs(made - radius) <= 1e-7 * radius  # a double root is sensitive to the square root of a rounding
    margin = gain / edge_of(momentum, nesterov) - 1
    if abs(margin) > 1e-6:
        assert (made < 1) == (margin < 0)


@given(stable_gains)
def test_plain_sgd_contracts_by_one_minus_its_gain(gain):
    assert math.isclose(contraction_factor(gain), abs(1 - gain), rel_tol=1e-15, abs_tol=1e-16)
    assert math.isclose(contraction_factor(gain, nesterov=True), abs(1 - gain), rel_tol=1e-15, abs_tol=1e-16)


def test_edges_of_heavy_ball_and_nesterov():
    for nesterov, edge, inside, outside in ((False, 3.0, 0.97957, 1.01962), (True, 1.5, 0.98399, 1.01599)):
        options = {"momentum": 0.5, "nesterov": nesterov}
        for gain, radius in ((edge - 0.01, inside), (edge + 0.01, outside)):
            assert abs(contraction_factor(gain, **options) - radius) < 5e-6
            eigenvalues = np.linalg.eigvals(np.array(transfer(gain, 0.5, nesterov)))
            assert abs(np.abs(eigenvalues).max() - radius) < 5e-6
        assert stability_edge(1.0, **options) == edge
        assert abs(contraction_factor(edge, **options) - 1) < 1e-15
        assert math.isfinite(stationary_variance(edge - 0.01, **options))
        assert stationary_variance(edge + 0.01, **options) == math.inf


def test_at_and_beyond_the_edge_a_variance_is_infinite_in_every_kind_of_input():
    gains = np.array([1.9, 2.0, 2.1])
    cases = [
        lambda gain: stationary_variance(gain),
        lambda gain: stationary_variance(1.5 * gain, momentum=0.5),
        lambda gain: stationary_variance(0.75 * gain, momentum=0.5, nesterov=True),
        lambda gain: ema_variance(gain, 0.9),
        lambda gain: two_point_variance(gain, 3),
        lambda gain: tail_variance(gain, 4, 2),
        lambda gain: far_points_variance(gain, 4),
        lambda gain: swa_variance_from_start(gain, 4),
        lambda gain: stationary_risk(gain / 4, 4.0, 1.0),
        lambda gain: stationary_risk(0.75 * gain / 4, 4.0, 1.0, momentum=0.5, nesterov=True),
    ]
    for case in cases:
        alone = [case(gain) for gain in gains]
        assert math.isfinite(alone[0])
        assert alone[1:] == [math.inf, math.inf]
        np.testing.assert_array_equal(case(gains), alone)
        labelled = xr.DataArray(gains, dims="gain", coords={"gain": gains})
        np.testing.assert_array_equal(case(labelled), alone)
        lazy = case(labelled.chunk())
        assert lazy.chunks
        np.testing.assert_array_equal(lazy, alone)


def test_the_stationary_law_of_a_model():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0)
    law = stationary(model, 0.5)
    assert abs(law.excess_risk.item() - 0.1679487179) < 5e-11
    assert math.isclose(law.floor.item(), 0.55, rel_tol=1e-15)
    np.testing.assert_allclose(law.variance, [1 / 3, 0.05 / 1.95], rtol=1e-14)
    variances = np.array([1 / 3, 0.05 / 1.95])
    assert math.isclose(law.effective_dimension.item(), variances.sum() ** 2 / (variances**2).sum(), rel_tol=1e-13)


@every_update
def test_the_stationary_law_of_a_model_is_the_end_of_a_long_run(update):
    model = MiniBatchQuadratic([1.0, 0.3], [1.0, 2.0], multiplicity=[3.0, 1.0], displacement=1.0, batch_size=4)
    law, end = stationary(model, 0.5, **update), moments(model, constant(0.5, 4000), **update)
    np.testing.assert_allclose(law.variance, end.variance[0], rtol=1e-12)
    np.testing.assert_allclose(law.excess_risk, end.excess_risk[0], rtol=1e-12)
    swept = stationary(model, xr.DataArray([0.5, 1.0], dims="rate"), **update)
    np.testing.assert_allclose(swept.excess_risk[0], law.excess_risk, rtol=1e-14)


def test_the_stationary_law_beyond_the_edge_is_infinite():
    law = stationary(MiniBatchQuadratic([1.0, 0.1], 1.0), 2.5)
    assert law.excess_risk == np.inf
    np.testing.assert_allclose(law.variance, [np.inf, 1 / 7])


def test_stability_has_three_verdicts_that_agree():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0)
    for update in UPDATES.values():
        edge = edge_of(update.get("momentum", 0.0), update.get("nesterov", False))
        found = stability(model, xr.DataArray([0.9 * edge, edge, 1.1 * edge], dims="rate"), **update)
        np.testing.assert_array_equal(found.outcome, [Outcome.STABLE, Outcome.MARGINAL, Outcome.DIVERGED])
        np.testing.assert_allclose(found.edge, edge, rtol=1e-15)
        for column, rate in enumerate((0.9 * edge, edge, 1.1 * edge)):
            matrices = [
                np.array(transfer(rate * h, update.get("momentum", 0.0), update.get("nesterov", False)))
                for h in (1, 0.1)
            ]
            radius = max(np.abs(np.linalg.eigvals(matrix)).max() for matrix in matrices)
            assert math.isclose(found.mean_factor[column], radius, rel_tol=1e-12)
            squared = max(np.abs(np.linalg.eigvals(np.kron(matrix, matrix))).max() for matrix in matrices)
            assert math.isclose(found.mean_square_factor[column], squared, rel_tol=1e-7)
            assert math.isclose(found.lyapunov_exponent[column], math.log(radius), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("offset", [1e-12, -1e-12, 1e-6, -1e-6])
def test_the_contraction_factor_keeps_its_digits_next_to_critical_damping(momentum, offset):
    with mpmath.workprec(200):
        beta = mpmath.mpf(momentum)
        gain = float((1 - mpmath.sqrt(beta)) ** 2 * (1 + offset))
        trace = 1 + beta - mpmath.mpf(gain)
        root = mpmath.sqrt(trace**2 - 4 * beta)
        radius = max(abs((trace + root) / 2), abs((trace - root) / 2))
    # the gain itself is rounded, and the radius moves with its square root
    assert contraction_factor(gain, momentum=momentum) == pytest.approx(float(radius), rel=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Sensitivities


@given(below_edge, st.floats(0.01, 0.95), flags)
def test_sensitivities_of_the_plateau_are_its_derivatives(fraction, momentum, nesterov):
    gain = fraction * edge_of(momentum, nesterov)
    options = {"momentum": momentum, "nesterov": nesterov}
    with mpmath.workdps(45):
        per_gain = mpmath.diff(lambda x: stationary_by_algebra(x, momentum, nesterov), mpmath.mpf(gain), h=gain * 1e-12)
        per_momentum = mpmath.diff(lambda b: stationary_by_algebra(gain, b, nesterov), mpmath.mpf(momentum), h=1e-14)
        variance = stationary_by_algebra(gain, momentum, nesterov)
    assert close(stationary_variance.derivative("gain")(gain, **options), per_gain, 1e-7)
    assert close(stationary_variance.derivative("momentum")(gain, **options), per_momentum, 1e-6)
    # R = h C V(eta h) / 2B at h = 3, C = 5, B = 7
    at = (gain / 3, 3.0, 5.0, 7.0)
    assert close(stationary_risk.derivative("learning_rate")(*at, **options), 3 * 5 / 7 * 3 * per_gain / 2, 1e-7)
    assert close(stationary_risk.derivative("batch_size")(*at, **options), -3 * 5 / 49 * variance / 2, 1e-9)
    assert close(stationary_risk.derivative("center_variance")(*at, **options), 3 / 7 * variance / 2, 1e-9)


@given(st.floats(-3, 3).map(lambda power: 10**power), st.floats(0.01, 0.99), flags)
def test_sensitivities_of_the_edge_are_its_derivatives(curvature, momentum, nesterov):
    options = {"momentum": momentum, "nesterov": nesterov}
    edge = edge_of(momentum, nesterov) / curvature
    assert close(stability_edge.derivative("curvature")(curvature, **options), -edge / curvature, 1e-12)
    slope = (edge_of(momentum + 1e-6, nesterov) - edge_of(momentum - 1e-6, nesterov)) / 2e-6 / curvature
    assert close(stability_edge.derivative("momentum")(curvature, **options), slope, 1e-7)


def test_beyond_the_edge_there_is_no_sensitivity():
    assert math.isnan(stationary_variance.derivative("gain")(2.1))
    assert math.isnan(stationary_risk.derivative("batch_size")(3.0, 1.0, 1.0))
