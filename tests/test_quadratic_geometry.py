"""Angles, distances and losses of quadratics at rest, against weights of the centers and clouds of samples."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import close, lags, middle_gains, past, random_model, seeds
from scipy.special import gammaln, hyp2f1

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.quadratic import (
    batch_full_gradient_cosine,
    chord_excess,
    gradient_cosine,
    half_rate_excess,
    held_out_loss,
    iterate_cosine,
    lagged_gradient_cosine,
    line_search_gain,
    shell_fluctuation,
    squared_distance,
    stationary,
    stepped_loss,
    used_batch_loss,
)

# ---------------------------------------------------------------------------------------------------------------------
# Claims in numbers


def test_half_the_rate_is_the_best_trial_step():
    assert line_search_gain(0.3) == 0.15
    excess = [stepped_loss(0.3, trial) - 1 for trial in (0.0, 0.15, 0.3)]
    assert math.isclose(excess[0], excess[2], rel_tol=1e-14)
    assert abs(excess[0] - 0.176471) < 5e-7
    assert abs(excess[1] - 0.15) < 1e-15
    assert math.isclose(excess[1] / excess[0], half_rate_excess(0.3), rel_tol=1e-14)


def gradients_in_a_cloud(dimension, chains, seed):
    """Two consecutive SGD gradients, one of an independent batch and the full one, at stationarity at gain 0.3."""
    generator = np.random.default_rng(seed)
    error, centers = 0.0, generator.normal(size=(3, chains, dimension))
    for age in range(60):
        error = error + 0.3 * 0.7**age * generator.normal(size=(chains, dimension))
    used, independent = error - centers[0], error - centers[1]
    following = error - 0.3 * used - centers[2]
    return used, independent, following, error


def cosine_of(first, second):
    return (first * second).sum(-1) / np.sqrt((first**2).sum(-1) * (second**2).sum(-1))


def mean_sample_correlation(correlation, dimension):
    """E of the cosine of two Gaussian vectors of independent, identically correlated entries."""
    shrink = 2 / dimension * math.exp(2 * (gammaln((dimension + 1) / 2) - gammaln(dimension / 2)))
    return correlation * shrink * hyp2f1(0.5, 0.5, dimension / 2 + 1, correlation**2)


def test_angles_between_gradients():
    used, independent, following, full = gradients_in_a_cloud(50, 4000, seed=19)
    for pair, predicted, printed in (
        ((used, independent), gradient_cosine(0.3), 0.15),
        ((used, following), lagged_gradient_cosine(0.3), -0.15),
        ((used, full), batch_full_gradient_cosine(0.3), 0.387),
    ):
        assert abs(predicted - printed) < 5e-4
        cosines = cosine_of(*pair)
        assert abs(cosines.mean() - predicted) < 0.01
        exact = mean_sample_correlation(predicted, 50)
        assert abs(cosines.mean() - exact) < 4 * cosines.std() / math.sqrt(cosines.size)
        lengths = [math.sqrt(np.mean(np.sum(vector**2, -1))) for vector in pair]
        products = (pair[0] * pair[1]).sum(-1) / (lengths[0] * lengths[1])
        assert abs(products.mean() - predicted) < 4 * products.std() / math.sqrt(products.size)


@given(middle_gains)
def test_cosines_are_off_by_the_inverse_dimension(gain):
    for predicted in (gradient_cosine(gain), lagged_gradient_cosine(gain), batch_full_gradient_cosine(gain)):
        gap = [1 - mean_sample_correlation(predicted, d) / predicted for d in (1000, 2000, 4000)]
        if abs(predicted) < 0.9:
            np.testing.assert_allclose(np.array(gap[:-1]) / gap[1:], 2, rtol=0.02)
            assert math.isclose(gap[2] * 4000, (1 - predicted**2) / 2, rel_tol=0.02)


def test_distances_and_losses():
    assert abs(squared_distance(0.3, 4) - 0.268200) < 5e-7
    # the printed losses are in units of h d, half of which is the floor
    assert abs(used_batch_loss(0.3, 4) / 2 - 0.516205) < 5e-7
    assert abs(used_batch_loss(0.3, 0) / 2 - 0.288235) < 5e-7
    assert abs(held_out_loss(0.3) / 2 - 0.588235) < 5e-7
    assert abs(stepped_loss(0.3, 1.0) / held_out_loss(0.3) - 1.7) < 1e-14


# ---------------------------------------------------------------------------------------------------------------------
# Geometry: every law is about inner products of weights of the centers


@given(middle_gains, lags, st.floats(-1, 2), st.floats(-1, 2))
def test_geometry_is_that_of_the_weights_of_the_centers(gain, lag, position, trial):
    now, later = past(gain, lag + 2), past(gain, 2)
    used, fresh, held_out = np.eye(1600)[[1600 - 3 - lag, 1598, 1599]]
    variance = now @ now
    assert math.isclose(now @ later / variance, iterate_cosine(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose((later - now) @ (later - now), squared_distance(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    chord = (1 - position) * now + position * later
    assert math.isclose(chord @ chord / variance, chord_excess(gain, lag, position), rel_tol=1e-9, abs_tol=1e-9)
    assert close(held_out_loss(gain), (later - held_out) @ (later - held_out))
    assert math.isclose((later - used) @ (later - used), used_batch_loss(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    stepped = later - trial * (later - fresh) - held_out
    assert close(stepped_loss(gain, trial), stepped @ stepped)
    half = later - gain / 2 * (later - fresh)
    assert close(half_rate_excess(gain), half @ half / variance)


@given(middle_gains, st.integers(1, 40))
def test_angles_are_ratios_of_inner_products_of_weights(gain, lag):
    first = past(gain, lag + 1) - np.eye(1600)[1600 - 1 - lag]
    later = past(gain, 1) - np.eye(1600)[1599]
    length = later @ later
    assert math.isclose(first @ later / length, lagged_gradient_cosine(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    assert close(gradient_cosine(gain), past(gain, 1) @ past(gain, 1) / length)
    assert close(
        batch_full_gradient_cosine(gain), past(gain, 1) @ later / math.sqrt(length * (past(gain, 1) @ past(gain, 1)))
    )


@given(seeds, st.floats(0.01, 1.95))
def test_half_the_rate_is_the_best_trial_step_for_every_spectrum(seed, learning_rate):
    _, curvature, variance, _ = random_model(seed)
    curvature = curvature / curvature.max()
    second = variance * (learning_rate * curvature) ** 2 / (1 - (1 - learning_rate * curvature) ** 2)

    def risk(trial):
        return curvature @ ((1 - trial * curvature) ** 2 * second + (trial * curvature) ** 2 * variance)

    assert math.isclose(risk(learning_rate), risk(0), rel_tol=1e-11)
    lowest = risk(learning_rate / 2)
    for nudge in (0.1, 0.3):  # a parabola: as high on either side of its vertex
        either = [risk(learning_rate / 2 * (1 + sign * nudge)) for sign in (1, -1)]
        assert min(either) > lowest
        assert math.isclose(*either, rel_tol=1e-11)
    np.testing.assert_allclose(line_search_gain(learning_rate * curvature) / curvature, learning_rate / 2, rtol=1e-14)


def test_the_cloud_is_a_thin_shell():
    spectrum = np.array([1.0, 1.0, 0.5, 0.2, 0.1])
    lengths = (spectrum * np.random.default_rng(5).normal(size=(100_000, 5)) ** 2).sum(-1)
    fluctuation = shell_fluctuation(spectrum.sum() ** 2 / (spectrum**2).sum())
    assert abs(lengths.std() / lengths.mean() / fluctuation - 1) < 0.02
    assert shell_fluctuation(50.0) == 0.2
    model = MiniBatchQuadratic(1.0, 1.0, multiplicity=200)
    assert math.isclose(shell_fluctuation(stationary(model, 0.5).effective_dimension.item()), 0.1, rel_tol=1e-14)
