"""A step of SGD against the parabola along a sharp direction: every formula against enumeration, integrals and runs.

Runs and batches are written out here from their definition; nothing of the models or simulations is used.
"""

import itertools
import math

import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

import sgdynamics
from sgdynamics.theory import sharpest_directions
from sgdynamics.theory.quadratic import stability_edge
from sgdynamics.theory.sharpest_directions import (
    conditional_increase_probability,
    conditional_overshoot_probability,
    curvature_matched_rate,
    increase_probability,
    increases,
    mean_minimiser,
    mean_minimiser_of_interaction,
    overshoot_probability,
    overshoots,
    stationary_minimiser,
    stationary_slope_variance,
    step_to_curvature,
)

ETA, LAMBDA, G, V, SIGMA, X = sympy.symbols("eta lambda g v sigma x", positive=True)
ALPHA = sympy.Symbol("alpha", positive=True)

# ---------------------------------------------------------------------------------------------------------------------
# Proofs: substituted in its definition, a formula leaves exactly 0


def mean_change(alpha, eta, curvature, square, second_moment):
    """E phi(alpha) along a direction or, with an interaction for a curvature, in all of space."""
    return -alpha * eta * square + alpha**2 * eta**2 * curvature * second_moment / 2


def proof_mean_minimiser():
    change = mean_change(ALPHA, ETA, LAMBDA, G**2, G**2 + V)
    yield sympy.diff(change, ALPHA).subs(ALPHA, mean_minimiser(ETA, LAMBDA, G, V))
    yield change.subs(ALPHA, 2 * mean_minimiser(ETA, LAMBDA, G, V))
    yield mean_minimiser(ETA, LAMBDA, G, 0) - 1 / (ETA * LAMBDA)


def proof_mean_minimiser_of_interaction():
    """Half of critical over actual sharpness too, where the critical one leaves the mean loss as it is."""
    moment, critical = sympy.symbols("moment critical", positive=True)
    (critical,) = sympy.solve(mean_change(1, ETA, critical, G**2, moment), critical)
    yield critical / (2 * LAMBDA) - mean_minimiser_of_interaction(ETA, LAMBDA * moment / G**2)
    interaction = LAMBDA * (G**2 + V)  # E g_B' H g_B
    change = mean_change(ALPHA, ETA, interaction, G**2, 1)
    yield sympy.diff(change, ALPHA).subs(ALPHA, mean_minimiser_of_interaction(ETA, interaction / G**2))


def proof_curvature_matched_rate():
    old = mean_minimiser(ETA, LAMBDA, G, V)
    yield mean_minimiser(curvature_matched_rate(ETA, old, SIGMA), LAMBDA, G, V) - 1 / SIGMA


def proof_stationary_slope_variance():
    made = stationary_slope_variance(X)
    yield (1 - X) ** 2 * made + X**2 - made


def proof_stationary_minimiser():
    square = stationary_slope_variance(X)
    yield sympy.nsimplify(stationary_minimiser(X)) - square / (X * (square + 1))


PROOFS = {
    name.removeprefix("proof_"): function for name, function in list(globals().items()) if name.startswith("proof_")
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_formula_solves_its_definition(name):
    for residual in PROOFS[name]():
        assert sympy.simplify(sympy.together(residual)) == 0


def test_every_exact_symbolic_formula_of_the_sharpest_directions_is_proved():
    of_stem = [item for item in sgdynamics.formulas(kind="formula") if item.stem == "sharpest_directions"]
    assert {item.__name__ for item in of_stem if item.status == "exact" and item.symbolic} == set(PROOFS)


# ---------------------------------------------------------------------------------------------------------------------
# One step, by enumeration


def batches(slopes, size):
    """Slopes of all batches without replacement."""
    return np.array([np.mean(some) for some in itertools.combinations(slopes, size)])


def test_the_second_moment_of_batch_slopes_is_the_squared_mean_plus_c_s_times_the_variance():
    slopes = np.random.default_rng(0).standard_normal(7)
    for size in range(1, 8):
        factor = (7 - size) / (size * 6)
        exact = slopes.mean() ** 2 + factor * slopes.var()
        assert abs((batches(slopes, size) ** 2).mean() - exact) < 1e-12


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(-3, 3), st.floats(-2, 2))
def test_the_mean_minimiser_is_where_the_enumerated_mean_loss_is_least(seed, size, log_rate, log_curvature):
    """On a quadratic f(theta) = h theta^2 / 2 along the direction: three losses fix the mean parabola."""
    rate, curvature = 10**log_rate, 10**log_curvature
    slopes = 1 + np.random.default_rng(seed).standard_normal(7)
    q, slope = batches(slopes, size), slopes.mean()
    place = slope / curvature

    def mean_loss(alpha):
        return (curvature * (place - alpha * rate * q) ** 2 / 2).mean()

    unit = 1 / (rate * curvature)
    low, middle, high = mean_loss(0), mean_loss(unit), mean_loss(2 * unit)
    least = unit * (1 - (high - low) / (2 * (high - 2 * middle + low)))
    factor = (7 - size) / (size * 6)
    found = mean_minimiser(rate, curvature, abs(slope), factor * slopes.var())
    assert found == pytest.approx(least, rel=1e-10, abs=1e-10 * unit)
    interaction = (q**2).mean() * curvature / slope**2
    assert mean_minimiser_of_interaction(rate, interaction) == pytest.approx(found, rel=1e-12)


def test_gradient_descent_finds_the_least_loss_at_one_over_learning_rate_times_curvature():
    for gain in (0.1, 1.0, 2.0, 2.5):
        assert mean_minimiser(gain / 7, 7.0, slope=0.3) == pytest.approx(1 / gain, rel=1e-10)


@given(st.floats(-2, 2), st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1))
def test_a_step_overshoots_and_raises_the_loss_as_the_parabola_says(log_rate, slope, batch_slope, curvature):
    rate = 10**log_rate
    here, there = rate * curvature * batch_slope**2, batch_slope * slope
    if min(abs(here - there), abs(here / 2 - there)) < 1e-12:  # the verdict is rounding
        return
    assert overshoots(rate, curvature, slope, batch_slope) == (-there + here > 0)
    change = -rate * there + rate * here / 2
    assert increases(rate, curvature, slope, batch_slope) == (change > 0)
    for event in (overshoots, increases):
        assert event(rate, curvature, slope, batch_slope) == event(rate, curvature, -slope, -batch_slope)
    if curvature > 0:
        wrong = there <= 0
        assert overshoots(rate, curvature, slope, batch_slope) == (
            wrong or abs(slope) < rate * curvature * abs(batch_slope)
        )


def test_a_matched_rate_ends_at_the_least_loss_or_leaves_the_loss_where_it_is():
    hessian, place = np.diag([3.0, 0.5]), np.array([1.0, -2.0])
    gradient = hessian @ place

    def loss(rate):
        moved = place - rate * gradient
        return moved @ hessian @ moved / 2

    interaction = gradient @ hessian @ gradient / (gradient @ gradient)
    now = mean_minimiser_of_interaction(0.1, interaction)
    best = curvature_matched_rate(0.1, now)
    assert best == pytest.approx(1 / interaction, rel=1e-12)
    assert loss(best) < min(loss(best * 1.001), loss(best * 0.999))
    assert loss(curvature_matched_rate(0.1, now, 2.0)) == pytest.approx(loss(0), rel=1e-12)


def test_the_heavy_ball_is_stable_below_its_edge_and_not_above():
    for momentum, factor in itertools.product((0.0, 0.5, 0.9), (0.999, 1.001)):
        gain = 0.1 * stability_edge(0.1, momentum=momentum) * factor
        growth = max(abs(np.linalg.eigvals([[1 + momentum - gain, -momentum], [1, 0]])))
        assert (growth > 1) == (factor > 1)


# ---------------------------------------------------------------------------------------------------------------------
# The laws


def stationary_pair(gain):
    """Covariance of (g, q) at stationarity, by iterating its recursion; noise of variance 1."""
    square = 0.0
    for _ in range(20000):
        square = (1 - gain) ** 2 * square + gain**2
    return np.array([[square, square], [square, square + 1]])


GAINS = (0.1, 0.5, 1.0, 1.9)


@pytest.mark.parametrize("gain", GAINS)
def test_the_stationary_laws_are_the_orthant_probabilities_of_slope_and_batch_slope(gain):
    pair = stationary_pair(gain)
    assert stationary_slope_variance(gain) == pytest.approx(pair[0, 0], rel=1e-10)
    assert stationary_minimiser(gain) == pytest.approx(pair[0, 0] / (gain * pair[1, 1]), rel=1e-10)
    for law, part in ((overshoot_probability, 1.0), (increase_probability, 0.5)):
        # q (part x q - g) > 0
        form = np.array([[0.0, 1.0], [-1.0, part * gain]])
        both = multivariate_normal([0, 0], form @ pair @ form.T)
        assert law(gain) == pytest.approx(2 * both.cdf([0, 0]), rel=2e-7)


@pytest.mark.parametrize("gain", [*GAINS, 0.7, 1.4])
def test_at_a_given_slope_the_laws_are_the_areas_of_their_events(gain):
    for signal in (0.0, 0.3, 1.0, 4.0):
        for law, event in (
            (conditional_overshoot_probability, lambda q, g: gain * q * q > q * g),
            (conditional_increase_probability, lambda q, g: gain * q * q / 2 > q * g),
        ):
            part = 1.0 if law is conditional_overshoot_probability else 0.5
            cuts = [0.0, signal / (part * gain)]  # where the event begins and ends
            edges = [-40.0, *sorted(cuts), 40.0 + 2 * max(cuts)]
            inside = sum(
                norm.cdf(high - signal) - norm.cdf(low - signal)
                for low, high in itertools.pairwise(edges)
                if high > low and event((low + high) / 2, signal)
            )
            assert law(gain, signal) == pytest.approx(inside, rel=1e-12)


@pytest.mark.parametrize("gain", GAINS)
def test_averaged_over_stationary_slopes_the_law_at_a_given_slope_is_the_stationary_law(gain):
    scale = math.sqrt(gain / (2 - gain))
    for given_slope, stationary in (
        (conditional_overshoot_probability, overshoot_probability),
        (conditional_increase_probability, increase_probability),
    ):
        total, _ = quad(lambda z, law=given_slope: 2 * norm.pdf(z) * law(gain, scale * z), 0, 12, epsabs=1e-12)
        assert total == pytest.approx(stationary(gain), rel=1e-9)


@given(st.floats(-3, 0.29).map(lambda power: 10**power), st.floats(0, 5))
def test_overshooting_is_likelier_than_raising_the_loss_and_grows_with_the_gain(gain, signal):
    low, high = sorted((gain, min(2.0, 1.01 * gain)))
    assert overshoot_probability(high) >= overshoot_probability(low) >= increase_probability(low) == 0.5
    assert conditional_overshoot_probability(gain, signal) >= conditional_increase_probability(gain, signal)
    assert conditional_overshoot_probability(high, signal) >= conditional_overshoot_probability(low, signal)
    assert conditional_increase_probability(2 * gain, signal) == conditional_overshoot_probability(gain, signal)


def test_the_laws_at_their_ends():
    assert overshoot_probability(2.0) == 1.0
    assert overshoot_probability(1.0) == pytest.approx(0.75, abs=1e-15)
    assert overshoot_probability(1e-12) == pytest.approx(0.5, abs=1e-6)
    assert conditional_overshoot_probability(0.3, 0.0) == 1.0
    assert stationary_slope_variance(2.0) == math.inf
    for law in (overshoot_probability, increase_probability, stationary_minimiser):
        with pytest.raises(ValueError, match="gain must be a number in"):
            law(2.0001)


def linear_runs(gain, chains, steps, burn, seed, noise="gaussian"):
    """Slopes and batch slopes of linear SGD with noise of variance 1, from its definition."""
    rng = np.random.default_rng(seed)
    slope, slopes, drawn = np.zeros(chains), [], []
    for step in range(steps):
        xi = rng.standard_normal(chains) if noise == "gaussian" else rng.choice([-1.0, 1.0], chains)
        q = slope + xi
        if step >= burn:
            slopes.append(slope)
            drawn.append(q)
        slope = slope - gain * q
    return np.array(slopes), np.array(drawn)


@pytest.mark.parametrize("gain", GAINS)
def test_linear_gaussian_sgd_has_the_minimiser_at_half_raises_half_and_overshoots_by_the_arcsine(gain):
    slopes, drawn = linear_runs(gain, 4000, 500, 200, seed=1)
    minimiser = (slopes**2).sum() / (gain * (slopes**2 + 1)).sum()
    assert 0.49 < minimiser < 0.51
    assert 0.49 < increases(1.0, gain, slopes, drawn).mean() < 0.51
    sheet = {0.1: 0.5718, 0.5: 0.6667, 1.0: 0.75, 1.9: 0.9282}
    assert overshoot_probability(gain) == pytest.approx(sheet[gain], abs=6e-5)
    assert overshoots(1.0, gain, slopes, drawn).mean() == pytest.approx(overshoot_probability(gain), abs=0.005)


def test_the_minimiser_needs_no_gaussian_noise_but_the_probabilities_do():
    gain = 1.0  # then the slope is the noise of one step before, with its sign flipped
    slopes, drawn = linear_runs(gain, 4000, 300, 100, seed=2, noise="signs")
    assert (slopes**2).sum() / (gain * (slopes**2 + 1)).sum() == pytest.approx(stationary_minimiser(gain), abs=0.01)
    assert abs(overshoots(1.0, gain, slopes, drawn).mean() - overshoot_probability(gain)) > 0.1


# ---------------------------------------------------------------------------------------------------------------------
# Along a run


def recorded(gain, steps, seed, directions=3, draws=20, rate=0.5):
    """What projected_steps would record along linear runs in some directions."""
    rng = np.random.default_rng(seed)
    slopes, _ = linear_runs(gain, directions, steps + 200, 200, seed)
    dims = ("measured_step", "direction")
    slope = xr.DataArray(slopes, dims=dims)
    noise = xr.DataArray(rng.standard_normal((steps, draws, directions)), dims=("measured_step", "draw", "direction"))
    return xr.Dataset(
        {
            "gradient_projection": slope,
            "curvature": gain / rate + 0 * slope,
            "projection_second_moment": slope**2 + 1,
            "batch_projection": slope + noise,
        },
        {"measured_step": np.arange(200, steps + 200)},
    )


def test_the_measures_of_a_run_are_ratios_of_sums():
    data, rate = recorded(1.3, 500, seed=3), 0.5
    found = step_to_curvature(data, rate)
    slope, square = data.gradient_projection.values, data.projection_second_moment.values
    curvature = data.curvature.values
    q = data.batch_projection.transpose("measured_step", "draw", "direction").values
    by_hand = (slope**2).sum(0) / (rate * curvature * square).sum(0)
    np.testing.assert_allclose(found.mean_minimiser, by_hand, rtol=1e-13)
    np.testing.assert_allclose(found.gain, 1.3, rtol=1e-13)
    risen = (0.5 * rate * curvature[:, None] * q**2 > q * slope[:, None]).mean((0, 1))
    passed = (rate * curvature[:, None] * q**2 > q * slope[:, None]).mean((0, 1))
    np.testing.assert_allclose(found.increase_probability, risen, rtol=1e-13)
    np.testing.assert_allclose(found.overshoot_probability, passed, rtol=1e-13)
    mean_of_ratios = (slope**2 / (rate * curvature * square)).mean(0)
    assert (mean_of_ratios < 0.8 * by_hand).all()  # the wrong average


def test_the_measures_find_the_laws_within_their_standard_errors():
    found = step_to_curvature(recorded(0.6, 6000, seed=4, directions=60), 0.5, blocks=20)
    for name, law in (
        ("mean_minimiser", stationary_minimiser(0.6)),
        ("increase_probability", increase_probability(0.6)),
        ("overshoot_probability", overshoot_probability(0.6)),
    ):
        z = (found[name] - law) / found[f"{name}_standard_error"]
        assert abs(float(z.mean())) * math.sqrt(60) < 4
        assert 0.7 < float(z.std()) < 1.5


@pytest.mark.parametrize(("steps", "blocks"), [(40, 8), (43, 5), (6, 6), (9, 2)])
def test_standard_errors_are_those_of_a_ratio_of_block_sums(steps, blocks):
    """By the delta method: blocks are draws of two sums, and a ratio moves with either."""
    data = recorded(0.9, steps, seed=8)
    found = step_to_curvature(data, 0.5, blocks=blocks)
    assert set(found.coords) == set(data.drop_dims(["measured_step", "draw"]).coords)
    assert found.mean_minimiser_standard_error.dims == ("direction",)
    edges = [steps * block // blocks for block in range(blocks + 1)]
    for direction in range(data.sizes["direction"]):
        slope = data.gradient_projection.isel(direction=direction).values
        below = 0.5 * (data.curvature * data.projection_second_moment).isel(direction=direction).values
        pieces = [slice(*ends) for ends in itertools.pairwise(edges)]
        sums = np.array([[(slope[piece] ** 2).sum(), below[piece].sum()] for piece in pieces])
        spread = np.cov(sums.T, ddof=1) * blocks  # of the sums over all blocks
        top, bottom = sums.sum(axis=0)
        moves = np.array([1 / bottom, -top / bottom**2])
        # the deviations of top - ratio * bottom add up to 0, so that their mean square is their variance
        assert float(found.mean_minimiser_standard_error[direction]) == pytest.approx(
            math.sqrt(moves @ spread @ moves), rel=1e-10
        )


def test_a_step_onto_the_least_loss_or_back_to_the_same_loss_is_no_event():
    assert not overshoots(0.5, 2.0, 3.0, 3.0)
    assert overshoots(0.5, 2.0 * (1 + 1e-15), 3.0, 3.0)
    assert not increases(0.5, 4.0, 3.0, 3.0)
    assert increases(0.5, 4.0 * (1 + 1e-15), 3.0, 3.0)


def test_the_measures_do_not_depend_on_the_signs_of_directions_or_on_their_order():
    data = recorded(1.1, 200, seed=5)
    flip = xr.DataArray([1.0, -1.0, -1.0], dims="direction")
    flipped = data.assign(
        gradient_projection=data.gradient_projection * flip, batch_projection=data.batch_projection * flip
    )
    left, right = step_to_curvature(data, 0.5), step_to_curvature(flipped, 0.5)
    xr.testing.assert_allclose(left, right, rtol=1e-12)
    turned = step_to_curvature(data.isel(direction=[2, 0, 1]), 0.5)
    xr.testing.assert_identical(turned, left.isel(direction=[2, 0, 1]))


def test_a_schedule_of_rates_enters_step_by_step():
    data = recorded(1.1, 100, seed=6)
    rates = xr.DataArray(np.linspace(0.1, 0.5, 100), dims="measured_step")
    found = step_to_curvature(data, rates)
    below = (rates * data.curvature * data.projection_second_moment).sum("measured_step")
    np.testing.assert_allclose(found.mean_minimiser, (data.gradient_projection**2).sum("measured_step") / below)
    no_batches = step_to_curvature(data.drop_vars("batch_projection"), rates)
    assert set(no_batches) == {name for name in found if "probability" not in name}


def test_a_run_that_cannot_be_measured_is_refused():
    data = recorded(1.1, 30, seed=7)
    with pytest.raises(ValueError, match=r"data must be a Dataset with .* got 'one without curvature"):
        step_to_curvature(data.drop_vars("curvature"), 0.5)
    with pytest.raises(ValueError, match="dim must be a dimension"):
        step_to_curvature(data, 0.5, dim="step")
    with pytest.raises(ValueError, match="blocks must be at most the number of steps, 30"):
        step_to_curvature(data, 0.5, blocks=31)
    diverged = data.copy(deep=True)
    diverged.curvature[-1] = np.inf
    with pytest.raises(ValueError, match="data must be a run without overflow"):
        step_to_curvature(diverged, 0.5)


def test_everything_public_is_exported():
    assert all(hasattr(sharpest_directions, name) for name in sharpest_directions.__all__)


def test_the_minimiser_of_a_full_batch_does_not_depend_on_the_slope():
    for slope in (1e-308, 1e-200, 1.0, 1e200):
        assert sharpest_directions.mean_minimiser(0.5, 4.0, slope) == 0.5
        assert sharpest_directions.mean_minimiser(0.5, 4.0, slope, 1e-308) <= 0.5
