"""Averages, schedules and merges: the closed forms against recursions written out here, batch by batch.

In one direction SGD is x_t = x_{t-1} - g_t (x_{t-1} - c_t); whatever the library says about it is held to that line.
"""

import math

import mpmath
import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

import sgdynamics
from sgdynamics.models.schedules import (
    constant,
    cosine,
    ema,
    linear,
    step_decay,
    swa,
    tail,
    two_point,
    warmup_stable_decay,
)
from sgdynamics.outcome import Outcome
from sgdynamics.theory.schedules import (
    NoEquivalentSchedule,
    average_center_weights,
    average_for_every_curvature,
    average_to_gains,
    binomial_average,
    center_weights,
    ema_heavy_ball_gain,
    ema_heavy_ball_momentum,
    ema_schedule_gain,
    equivalence,
    gains_from_weights,
    gains_to_average,
    schedule_free_weights,
    swa_schedule_gain,
    two_point_schedule_gain,
    weight_decay_steps,
    wsm_average,
)

# ---------------------------------------------------------------------------------------------------------------------
# The model, written out


def sgd(gains, start, centers):
    """x_0..x_T."""
    path = [start]
    for gain, center in zip(gains, centers, strict=True):
        path.append(path[-1] - gain * (path[-1] - center))
    return np.array(path)


def heavy_ball(gains, momentum, start, centers):
    """x_0..x_T of u = beta u + (x - c), x = x - g u, started at rest."""
    path, velocity = [start], 0 * start
    for gain, center in zip(gains, centers, strict=True):
        velocity = momentum * velocity + (path[-1] - center)
        path.append(path[-1] - gain * velocity)
    return np.array(path)


def nesterov(gains, momentum, start, centers):
    """x_0..x_T of a gradient step from the point that the last move, extended, would reach."""
    path, previous = [start], start
    for gain, center in zip(gains, centers, strict=True):
        ahead = path[-1] + momentum * (path[-1] - previous)
        previous = path[-1]
        path.append(ahead - gain * (ahead - center))
    return np.array(path)


def schedule_free(gains, interpolation, start, centers):
    """The averaged point of Schedule-Free SGD after every step."""
    base = averaged = start
    for t, (gain, center) in enumerate(zip(gains, centers, strict=True), 1):
        point = (1 - interpolation) * base + interpolation * averaged
        base = base - gain * (point - center)
        averaged = averaged + (base - averaged) / t
    return averaged


def unrolled(run, steps):
    """Start weight and center weights of what ``run(start, centers)`` returns, by feeding it unit impulses."""
    return run(np.float64(1), np.zeros(steps)), run(np.zeros(steps), np.eye(steps))


def schedule_of(average, base_gain):
    """The schedule of an average: the tail sums of its weights, then the forward sums of the centers' weights."""
    tails = [average[-1]]
    for weight in average[-2::-1]:
        tails.insert(0, weight + (1 - base_gain) * tails[0])
    weights = [base_gain * tail_sum for tail_sum in tails[1:]]
    gains = []
    total = average[0] + (1 - base_gain) * tails[1]
    for weight in weights:
        total = total + weight
        gains.append(weight / total if total else 1)  # of nothing: any gain does
    return gains


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn

LOG_TWO = math.log10(1.999)
seeds = st.integers(0, 2**32 - 1)
stable_gains = st.floats(-8, LOG_TWO).map(lambda power: 10**power)
convex_gains = st.floats(-8, 0).map(lambda power: 10**power)
decays = st.one_of(st.just(0.0), st.floats(-6, 0).map(lambda power: 1 - 10**power))
horizons = st.floats(0, 4).map(lambda power: round(10**power))
short_horizons = st.integers(1, 40)
interpolations = st.floats(0, 1)


def random_gains(generator, steps, low=-8.0, high=0.0):
    return 10 ** generator.uniform(low, high, steps)


# ---------------------------------------------------------------------------------------------------------------------
# Schedules and averages as arrays


@given(stable_gains, st.one_of(st.just(0.0), stable_gains), short_horizons)
def test_schedules_are_their_definitions(rate, final, steps):
    def expect(made, at):
        np.testing.assert_allclose(made, [at(j) for j in range(1, steps + 1)], rtol=1e-12, atol=1e-14 * (rate + final))

    expect(constant(rate, steps), lambda j: rate)
    expect(linear(rate, steps, final), lambda j: rate + (final - rate) * j / steps)
    expect(cosine(rate, steps, final), lambda j: final + (rate - final) * (1 + math.cos(math.pi * j / steps)) / 2)
    expect(step_decay(rate, steps, 0.3, 7), lambda j: rate * 0.3 ** ((j - 1) // 7))
    up, down = steps // 3, steps // 4
    expect(
        warmup_stable_decay(rate, steps, up, down),
        lambda j: rate * (j / up if j < up else (steps - j) / down if j > steps - down else 1),
    )


@given(decays, st.integers(0, 40))
def test_the_ema_is_its_recursion(beta, steps):
    made = ema(beta, steps)
    average = np.eye(steps + 1)[0]
    for t in range(1, steps + 1):
        average = beta * average + (1 - beta) * np.eye(steps + 1)[t]
    np.testing.assert_allclose(made, average, rtol=1e-12, atol=0)


@given(short_horizons, st.data())
def test_uniform_averages_are_their_definitions(steps, data):
    start = data.draw(st.integers(0, steps - 1))
    np.testing.assert_array_equal(
        swa(steps, start), [0.0 if t <= start else 1 / (steps - start) for t in range(steps + 1)]
    )
    stride = data.draw(st.integers(1, steps))
    points = data.draw(st.integers(1, steps // stride + 1))
    chosen = {steps - stride * i for i in range(points)}
    np.testing.assert_array_equal(
        tail(steps, points, stride), [1 / points if t in chosen else 0.0 for t in range(steps + 1)]
    )
    separation = data.draw(st.integers(1, steps))
    np.testing.assert_array_equal(
        two_point(steps, separation), [0.5 if t in (steps, steps - separation) else 0.0 for t in range(steps + 1)]
    )


@given(decays, horizons)
def test_averages_are_convex_and_sum_to_one(beta, steps):
    for made in (ema(beta, steps), swa(steps), tail(steps, steps // 3 + 1, 3), two_point(steps, steps)):
        assert made.shape == (steps + 1,)
        assert made.min() >= 0
        assert math.isclose(made.sum(), 1, rel_tol=1e-12)


def test_schedules_reach_their_ends_exactly():
    for steps in (1, 2, 3, 7, 1000):
        assert linear(0.3, steps)[-1] == 0
        assert linear(0.3, steps, 0.2)[-1] == 0.2
        assert cosine(0.3, steps)[-1] == 0
        assert cosine(0.3, steps, 0.2)[-1] == 0.2
    made = warmup_stable_decay(0.3, 10, 4, 3)
    assert made[3] == made[4] == made[6] == 0.3
    assert made[-1] == 0
    assert np.all(warmup_stable_decay(0.3, 5, 0, 0) == 0.3)


def test_a_million_steps_are_no_trouble():
    steps = 10**6
    for made in (constant(0.1, steps), linear(0.1, steps), cosine(0.1, steps), step_decay(0.1, steps, 0.9, 1000)):
        assert made.shape == (steps,)
        assert np.all((made >= 0) & (made <= 0.1))
    slow = ema(1 - 1e-6, steps)
    assert math.isclose(slow.sum(), 1, rel_tol=1e-12)
    assert math.isclose(slow[0], math.exp(steps * math.log1p(-1e-6)), rel_tol=1e-9)
    assert ema(0.5, steps)[0] == 0
    assert math.isclose(swa(steps, 10).sum(), 1, rel_tol=1e-12)


def test_a_swept_parameter_adds_a_dim_before_the_steps():
    rates = np.array([0.1, 0.2, 0.4])
    swept = xr.DataArray(rates, dims="rate", coords={"rate": rates})
    makers = (
        lambda value: constant(value, 5),
        lambda value: linear(value, 5, 0.05),
        lambda value: cosine(value, 5, 0.05),
        lambda value: step_decay(value, 5, 0.5, 2),
        lambda value: step_decay(1.0, 5, value, 2),
        lambda value: step_decay(value, 5, value, 2),
        lambda value: warmup_stable_decay(value, 5, 2, 2),
        lambda value: ema(value, 5),
    )
    for make in makers:
        rows = np.array([make(value) for value in rates])
        np.testing.assert_allclose(make(rates), rows, rtol=1e-15)
        labelled = make(swept).transpose("rate", "step")
        np.testing.assert_allclose(labelled, rows, rtol=1e-15)
        steps = rows.shape[1]
        np.testing.assert_array_equal(labelled.step, np.arange(steps) + (steps == 5))
    both = linear(swept, 4, xr.DataArray([0.0, 0.1], dims="final"))
    assert both.sizes == {"rate": 3, "final": 2, "step": 4}
    np.testing.assert_allclose(both.isel(rate=2, final=1), linear(0.4, 4, 0.1), rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: constant(-0.1, 5), ("constant", "rate", "-0.1")),
        (lambda: constant(math.nan, 5), ("constant", "rate", "nan")),
        (lambda: constant(0.1, 0), ("constant", "steps", "0")),
        (lambda: linear(0.1, 5, -1), ("linear", "final", "-1")),
        (lambda: cosine(math.inf, 5), ("cosine", "rate", "inf")),
        (lambda: step_decay(0.1, 5, 0.5, 0), ("step_decay", "every", "0")),
        (lambda: warmup_stable_decay(0.1, 5, 3, 3), ("warmup_stable_decay", "warmup", "5")),
        (lambda: ema(1.0, 5), ("ema", "beta", "1.0")),
        (lambda: swa(5, 5), ("swa", "start", "5")),
        (lambda: tail(5, 4, 2), ("tail", "points", "6")),
        (lambda: two_point(5, 6), ("two_point", "separation", "6")),
    ],
)
def test_what_is_no_schedule_is_named(make, names):
    with pytest.raises(ValueError, match="must be") as error:
        make()
    assert all(name in str(error.value) for name in names)


# ---------------------------------------------------------------------------------------------------------------------
# A and B: schedules and center weights


def test_center_weights_and_back():
    start_weight, weights = center_weights([0.5, 0.25, 0.1])
    assert math.isclose(start_weight, 0.3375, rel_tol=1e-15)
    np.testing.assert_allclose(weights, [0.3375, 0.225, 0.1], rtol=1e-15)
    np.testing.assert_allclose(gains_from_weights(start_weight, weights), [0.5, 0.25, 0.1], rtol=0, atol=1e-15)


@given(st.lists(st.floats(-1, 3), min_size=1, max_size=25))
@example([0.0, 1.0, 0.0])
def test_center_weights_are_those_of_the_last_iterate(gains):
    start_weight, weights = center_weights(gains)
    expected_start, expected = unrolled(lambda start, centers: sgd(gains, start, centers)[-1], len(gains))
    np.testing.assert_allclose(start_weight, expected_start, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=1e-15)


@given(seeds, horizons, st.floats(-8, LOG_TWO))
def test_the_last_iterate_is_the_weighted_sum_of_start_and_centers(seed, steps, high):
    generator = np.random.default_rng(seed)
    gains, centers, start = random_gains(generator, steps, -8, high), generator.normal(size=steps), generator.normal()
    start_weight, weights = center_weights(gains)
    assert math.isclose(start_weight + weights.sum(), 1, rel_tol=1e-11)
    point = start_weight * start + weights @ centers
    assert math.isclose(point, sgd(gains.tolist(), start, centers.tolist())[-1], rel_tol=1e-10, abs_tol=1e-11)


@given(seeds, horizons)
def test_gains_come_back_from_their_weights(seed, steps):
    generator = np.random.default_rng(seed)
    gains = random_gains(generator, steps, -8, -2 if steps > 100 else -0.01)
    gains[generator.random(steps) < 0.1] = 0
    np.testing.assert_allclose(gains_from_weights(*center_weights(gains)), gains, rtol=1e-11, atol=0)


@given(st.lists(st.tuples(st.booleans(), st.floats(-1, 0.5)), min_size=1, max_size=8))
def test_gains_outside_the_unit_interval_come_back_too(drawn):
    """Gains on either side of 1, among them negative ones and ones beyond 2."""
    gains = np.array([1 + (1 if above else -1) * 10**power for above, power in drawn])
    np.testing.assert_allclose(gains_from_weights(*center_weights(gains)), gains, rtol=1e-7, atol=1e-7)


@given(seeds, horizons)
def test_weights_come_back_from_their_gains(seed, steps):
    generator = np.random.default_rng(seed)
    everything = generator.dirichlet(np.full(steps + 1, 0.5))
    start_weight, weights = center_weights(gains_from_weights(everything[0], everything[1:]))
    np.testing.assert_allclose(weights, everything[1:], rtol=1e-10, atol=1e-15)
    assert math.isclose(start_weight, everything[0], rel_tol=1e-10, abs_tol=1e-15)


@given(seeds, horizons)
def test_convex_weights_have_gains_in_the_unit_interval(seed, steps):
    everything = np.random.default_rng(seed).dirichlet(np.full(steps + 1, 0.2))
    gains = gains_from_weights(everything[0], everything[1:])
    assert np.all((gains >= 0) & (gains <= 1))


def test_a_gain_of_one_wipes_out_what_came_before():
    start_weight, weights = center_weights([0.3, 1.0, 0.2])
    assert start_weight == 0
    np.testing.assert_allclose(weights, [0, 0.8, 0.2], rtol=1e-15)
    np.testing.assert_allclose(gains_from_weights(start_weight, weights), [1.0, 1.0, 0.2], rtol=1e-15)


def test_a_gain_of_zero_leaves_its_center_out():
    start_weight, weights = center_weights([0.3, 0.0, 0.2])
    assert weights[1] == 0
    np.testing.assert_allclose(gains_from_weights(start_weight, weights), [0.3, 0.0, 0.2], rtol=1e-15)
    np.testing.assert_array_equal(gains_from_weights(1.0, [0.0, 0.0]), [0.0, 0.0])


def test_signs_of_the_forward_sums_tell_which_gains_leave_the_unit_interval():
    np.testing.assert_allclose(gains_from_weights(-0.5, [1.0, 0.5]), [2.0, 0.5], rtol=1e-15)  # a change of sign
    np.testing.assert_allclose(gains_from_weights(2.0, [-1.0]), [-1.0], rtol=1e-15)  # a sum that shrinks
    np.testing.assert_allclose(gains_from_weights(1.0, [-2.0, 2.0]), [2.0, 2.0], rtol=1e-15)


def test_gains_beyond_two_have_exactly_the_growing_alternating_weights():
    start_weight, weights = center_weights(np.full(40, 3.0))
    assert start_weight == 2**40
    np.testing.assert_array_equal(weights, [3 * (-2) ** (40 - j) for j in range(1, 41)])


def test_a_million_steps_underflow_without_harm():
    steps = 10**6
    gains = np.full(steps, 0.5)
    start_weight, weights = center_weights(gains)
    assert start_weight == 0
    assert math.isclose(weights.sum(), 1, rel_tol=1e-12)
    back = gains_from_weights(start_weight, weights)
    np.testing.assert_allclose(back[-900:], 0.5, rtol=1e-12)
    assert np.all(back[:-1200] == 1)  # of these nothing is left, and any gain does
    np.testing.assert_allclose(center_weights(back)[1], weights, rtol=1e-9, atol=1e-300)
    slow = np.full(steps, 1e-5)
    start_weight, weights = center_weights(slow)
    assert math.isclose(start_weight, math.exp(steps * math.log1p(-1e-5)), rel_tol=1e-9)
    np.testing.assert_allclose(gains_from_weights(start_weight, weights), slow, rtol=1e-9)


@given(seeds, st.integers(1, 30), st.integers(1, 10))
def test_a_vanishing_forward_sum_has_no_schedule(seed, bad, after):
    """The first ``bad`` centers and the start weigh 0 together; the nearest neighbours have a schedule again."""
    generator = np.random.default_rng(seed)
    before = generator.dirichlet(np.ones(bad))
    rest = generator.dirichlet(np.ones(after))
    everything = np.concatenate([before, [-1.0], rest])
    with pytest.raises(NoEquivalentSchedule, match="no schedule has these weights") as error:
        gains_from_weights(everything[0], everything[1:])
    assert error.value.first_bad_index == bad - 1
    for miss in (1e-9, -1e-9):
        near = (
            everything
            + miss * (np.arange(everything.size) == bad)
            - miss * (np.arange(everything.size) == everything.size - 1)
        )
        gains = gains_from_weights(near[0], near[1:])
        assert abs(gains[bad - 1]) > 1e8
        assert np.all(np.isfinite(gains))


def test_the_first_missing_entry_is_found_in_a_batch_of_weights():
    good = [0.25, 0.25, 0.25, 0.25]
    bad = [0.5, -0.25, -0.25, 1.0]
    with pytest.raises(NoEquivalentSchedule) as error:
        gains_from_weights([good[0], bad[0]], [good[1:], bad[1:]])
    assert error.value.first_bad_index == 1
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("total", [1 + 1e-6, 0.999, 0.0])
def test_weights_that_do_not_sum_to_one_are_refused(total):
    with pytest.raises(ValueError, match=r"gains_from_weights: .* must sum to 1"):
        gains_from_weights(0.5 * total, [0.25 * total, 0.25 * total])
    for call in (average_to_gains, average_center_weights, equivalence):
        with pytest.raises(ValueError, match="average must be weights over the iterates"):
            call([0.5 * total, 0.5 * total], 0.1)


def test_sequences_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="base_gains must have one gain per step, 2, got 3"):
        average_to_gains([0.0, 0.5, 0.5], [0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="base_gains must have one gain per step, 2, got 3"):
        gains_to_average([0.1, 0.1], [0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="base_gains must be different from 0"):
        gains_to_average([0.1, 0.1], [0.1, 0.0])
    with pytest.raises(ValueError, match="fractions must be one schedule, 1-D"):
        average_for_every_curvature([[1.0, 0.0]])
    with pytest.raises(ValueError, match="average must be one average, 1-D"):
        equivalence([[0.0, 1.0]], 0.1)


# ---------------------------------------------------------------------------------------------------------------------
# C and D: averages of a base run


@given(seeds, horizons)
def test_an_average_of_a_base_run_is_the_end_of_its_schedule(seed, steps):
    generator = np.random.default_rng(seed)
    base, average = random_gains(generator, steps), generator.dirichlet(np.full(steps + 1, 0.5))
    start, centers = generator.normal(), generator.normal(size=steps).tolist()
    averaged = average @ sgd(base.tolist(), start, centers)
    gains = average_to_gains(average, base)
    assert np.all((gains >= 0) & (gains <= 1))
    assert math.isclose(sgd(gains.tolist(), start, centers)[-1], averaged, rel_tol=1e-10, abs_tol=1e-11)


def test_a_random_average_of_a_varying_base_run_is_a_schedule():
    generator = np.random.default_rng(14)
    steps = 300
    base, average = generator.uniform(0.05, 0.6, steps), generator.dirichlet(np.ones(steps + 1))
    start, centers = generator.normal(), generator.normal(size=steps)
    gains = average_to_gains(average, base)
    assert np.all((gains >= 0) & (gains <= 1))
    assert abs(sgd(gains, start, centers)[-1] - average @ sgd(base, start, centers)) < 1e-14


@given(seeds, short_horizons, st.sampled_from(["plain", "heavy ball", "Nesterov"]), decays)
def test_center_weights_of_an_average_are_those_of_the_unrolled_run(seed, steps, update, momentum):
    """Rates that vary, averages of either sign, the EMA among them."""
    generator = np.random.default_rng(seed)
    base = random_gains(generator, steps, -8, LOG_TWO)
    drawn = generator.normal(size=steps + 1)
    averages = (drawn - drawn.mean() + 1 / (steps + 1), ema(0.9, steps))

    def run(start, centers):
        if update == "plain":
            return sgd(base, start, centers)
        return (heavy_ball if update == "heavy ball" else nesterov)(base, momentum, start, centers)

    options = {} if update == "plain" else {"momentum": momentum, "nesterov": update == "Nesterov"}
    for average in averages:
        start_weight, weights = average_center_weights(average, base, **options)
        expected_start, expected = unrolled(lambda start, centers: average @ run(start, centers), steps)  # noqa: B023
        scale = np.abs(run(np.zeros(steps), np.eye(steps))).max() + np.abs(run(np.float64(1), np.zeros(steps))).max()
        np.testing.assert_allclose(weights, expected, rtol=1e-11, atol=1e-13 * steps * scale)
        np.testing.assert_allclose(start_weight, expected_start, rtol=1e-11, atol=1e-13 * steps * scale)


@given(seeds, short_horizons)
def test_a_schedule_is_an_average_of_any_moving_base_run(seed, steps):
    """Gains of the schedule between -1 and 3, gains of the base run with either sign."""
    generator = np.random.default_rng(seed)
    gains = generator.uniform(-1, 3, steps)
    base = random_gains(generator, steps, -2, LOG_TWO) * generator.choice([-1, 1], steps)
    start, centers = generator.normal(), generator.normal(size=steps)
    average = gains_to_average(gains, base)
    path = sgd(base, start, centers)
    scale = np.abs(average) @ np.abs(path)
    assert math.isclose(average.sum(), 1, abs_tol=1e-12 * np.abs(average).sum())
    assert math.isclose(average @ path, sgd(gains, start, centers)[-1], abs_tol=1e-11 * scale)


@given(seeds, horizons)
def test_the_average_of_a_schedule_leads_back_to_it(seed, steps):
    generator = np.random.default_rng(seed)
    gains = random_gains(generator, steps, -4, -2 if steps > 100 else -0.5)
    base = random_gains(generator, steps, -2, 0)
    np.testing.assert_allclose(average_to_gains(gains_to_average(gains, base), base), gains, rtol=1e-8, atol=1e-12)


@given(seeds, st.integers(1, 300))
def test_the_schedule_of_an_average_leads_back_to_it(seed, steps):
    generator = np.random.default_rng(seed)
    average, base = generator.dirichlet(np.ones(steps + 1)), random_gains(generator, steps, -2, -0.01)
    np.testing.assert_allclose(gains_to_average(average_to_gains(average, base), base), average, rtol=1e-8, atol=1e-12)


@given(seeds, horizons)
def test_the_average_of_a_non_increasing_schedule_is_convex(seed, steps):
    generator = np.random.default_rng(seed)
    gain = 10 ** generator.uniform(-8, 0)
    fractions = np.sort(generator.random(steps))[::-1]
    if seed % 3 == 0:
        fractions[: steps // 2] = 1
    average = gains_to_average(gain * fractions, gain)
    assert average.min() >= -1e-16
    assert math.isclose(average.sum(), 1, rel_tol=1e-11)


def test_beyond_gain_one_a_decaying_schedule_may_ask_for_negative_weights():
    average = gains_to_average([1.35, 1.35], 1.5)
    np.testing.assert_allclose(average, [-0.035, 0.135, 0.9], rtol=1e-13)


def test_an_increasing_schedule_asks_for_negative_weights():
    average = gains_to_average(np.array([0.2, 0.9, 0.3]) * 0.3, 0.3)
    np.testing.assert_allclose(average, [0.53144, -0.44044, 0.609, 0.3], rtol=1e-13)


def test_three_averages_for_one_decay():
    fractions = np.array([0.75, 0.5, 0.25])
    np.testing.assert_allclose(gains_to_average(0.1 * fractions, 0.1), [0.2315625, 0.2559375, 0.2625, 0.25], rtol=1e-14)
    np.testing.assert_allclose(wsm_average(fractions), [0.25] * 4, rtol=1e-14)
    np.testing.assert_allclose(binomial_average(fractions), [0.09375, 0.40625, 0.40625, 0.09375], rtol=1e-14)


def test_an_equivalent_schedule_depends_on_the_horizon():
    """The schedule of the EMA at T + 1 does not begin with the one at T, although its steps to go are the same."""
    shorter, longer = (average_to_gains(ema(0.9, steps), 0.1) for steps in (20, 21))
    assert np.abs(longer[:-1] - shorter).max() > 1e-3
    np.testing.assert_allclose(longer[1:], shorter, rtol=1e-12)


def test_an_equivalence_says_what_became_of_it():
    inside = equivalence(swa(4), 0.3)
    assert inside.outcome == Outcome.EQUIVALENT
    assert inside.first_bad_index == -1
    np.testing.assert_allclose(inside.gain, schedule_of(swa(4), 0.3), rtol=1e-13)
    np.testing.assert_array_equal(inside.step, [1, 2, 3, 4])
    assert math.isclose(float(inside.start_weight + inside.center_weight.sum()), 1, rel_tol=1e-14)

    outside = equivalence([0.0, -3.0, 4.0], 0.3)
    assert outside.outcome == Outcome.EQUIVALENT_OUTSIDE_UNIT_INTERVAL
    assert outside.first_bad_index == -1
    np.testing.assert_allclose(outside.gain, [0.3, 1.2], rtol=1e-13)

    # at gain 1 the centers are the iterates: the first two weigh 0 together
    none = equivalence([0.0, -0.5, 0.5, 1.0], 1.0)
    assert none.outcome == Outcome.NOT_EQUIVALENT
    assert none.first_bad_index == 1
    assert np.isnan(none.gain).all()
    np.testing.assert_allclose(none.center_weight, [-0.5, 0.5, 1.0])
    with pytest.raises(NoEquivalentSchedule):
        average_to_gains([0.0, -0.5, 0.5, 1.0], 1.0)
    assert none.outcome.attrs["flag_meanings"].split()[-1] == "not_equivalent"
    labelled = equivalence(xr.DataArray(swa(4), dims="step"), xr.DataArray(np.full(4, 0.3), dims="step"))
    xr.testing.assert_identical(labelled, inside)


# ---------------------------------------------------------------------------------------------------------------------
# Sweeps and laziness


def test_sweeps_are_their_rows():
    generator = np.random.default_rng(2)
    gains, average = generator.uniform(0.1, 0.6, (3, 5)), generator.dirichlet(np.ones(6), 3)
    start_weights, weights = center_weights(gains)
    for row in range(3):
        alone = center_weights(gains[row])
        assert start_weights[row] == alone[0]
        np.testing.assert_array_equal(weights[row], alone[1])
        np.testing.assert_array_equal(gains_from_weights(start_weights, weights)[row], gains_from_weights(*alone))
        np.testing.assert_array_equal(average_to_gains(average, gains)[row], average_to_gains(average[row], gains[row]))
        np.testing.assert_array_equal(
            gains_to_average(gains, 0.5 * gains)[row], gains_to_average(gains[row], 0.5 * gains[row])
        )
        np.testing.assert_array_equal(wsm_average(gains)[row], wsm_average(gains[row]))
        np.testing.assert_array_equal(binomial_average(gains)[row], binomial_average(gains[row]))
        for mixed, single in zip(
            schedule_free_weights(gains, 0.4), schedule_free_weights(gains[row], 0.4), strict=True
        ):
            np.testing.assert_array_equal(mixed[row], single)


@pytest.mark.parametrize("chunks", [None, {"run": 1}, {"run": 2, "step": 2}])
def test_labelled_sweeps_keep_their_labels_and_their_laziness(chunks):
    generator = np.random.default_rng(3)
    values, averages = generator.uniform(0.1, 0.6, (3, 5)), generator.dirichlet(np.ones(6), 3)
    coordinates = {"run": ["a", "b", "c"]}
    gains = xr.DataArray(values, dims=("run", "step"), coords=coordinates)
    average = xr.DataArray(averages, dims=("run", "step"), coords=coordinates)
    if chunks:
        gains, average = gains.chunk(chunks), average.chunk(chunks)
    cases = [
        (center_weights(gains), center_weights(values)),
        ((gains_from_weights(*center_weights(gains)),), (values,)),
        (average_center_weights(average, gains, momentum=0.5), average_center_weights(averages, values, momentum=0.5)),
        ((average_to_gains(average, 0.3),), (average_to_gains(averages, 0.3),)),
        ((gains_to_average(gains, 0.7),), (gains_to_average(values, 0.7),)),
        ((wsm_average(gains),), (wsm_average(values),)),
        ((binomial_average(gains),), (binomial_average(values),)),
        (schedule_free_weights(gains, 0.4), schedule_free_weights(values, 0.4)),
    ]
    for labelled, plain in cases:
        for item, expected in zip(labelled, plain, strict=True):
            assert (item.chunks is not None) == bool(chunks)
            np.testing.assert_array_equal(item.run, ["a", "b", "c"])
            np.testing.assert_allclose(item.transpose("run", ...).values, expected, rtol=1e-13)
            if "step" in item.dims:
                np.testing.assert_array_equal(item.step, np.arange(item.sizes["step"]) + (item.sizes["step"] == 5))


# ---------------------------------------------------------------------------------------------------------------------
# E and the closed forms of equivalent schedules


def proof_swa_schedule_gain():
    """Its weights w_j = b S_j with T S_j = sum of a^i over i <= T - j, and forward sums, at symbolic gain and T."""
    a, horizon, j = sympy.Symbol("a", positive=True), *sympy.symbols("T j", integer=True, positive=True)
    x = 1 - a

    def survivor(index):  # what the schedule leaves of everything up to step j - 1, which is Q_{j-1}/Q_j
        return 1 - swa_schedule_gain(x, index, horizon)

    def forward(index):  # T Q_j: start and centers up to j, summed from the weights (1 - a^{T-i+1})/T
        return horizon - sum_of_weights_after(index)

    def sum_of_weights_after(index):  # sum over i > j of (1 - a^{T-i+1}), a geometric series
        return (horizon - index) - a * (1 - a ** (horizon - index)) / (1 - a)

    yield survivor(j) * forward(j) - forward(j - 1)
    # the series itself, by induction down from j = T
    yield sum_of_weights_after(horizon)
    yield sum_of_weights_after(j - 1) - sum_of_weights_after(j) - (1 - a ** (horizon - j + 1))


def proof_ema_heavy_ball(momentum, gain):
    """From any two points y_{t-2}, y_{t-1} of the average, the next one is the same by both rules."""
    x, beta = sympy.symbols("x beta", positive=True)
    before, last, center, run = sympy.symbols("y0 y1 c x0")
    run_next = (1 - x) * run + x * center
    first = beta * before + (1 - beta) * run  # y_{t-1}, which determines the hidden x_{t-1}
    hidden = sympy.solve(sympy.Eq(first, last), run)[0]
    averaged = beta * last + (1 - beta) * run_next.subs(run, hidden)
    yield averaged - (last + momentum(x, beta) * (last - before) - gain(x, beta) * (last - center))
    # the first step is at rest: y_0 = x_0
    start = beta * run + (1 - beta) * run_next
    yield start - (run - gain(x, beta) * (run - center))


def proof_weight_decay_steps():
    """After n steps 1 - eta lambda to the power n is left: the time scale times its logarithm is -1."""
    eta, lam = sympy.symbols("eta lambda", positive=True)
    yield weight_decay_steps(eta, lam) * sympy.log(1 - eta * lam) + 1


PROOFS = {
    "weight_decay_steps": proof_weight_decay_steps,
    "swa_schedule_gain": proof_swa_schedule_gain,
    "ema_heavy_ball_momentum": lambda: proof_ema_heavy_ball(ema_heavy_ball_momentum, lambda x, beta: x * (1 - beta)),
    "ema_heavy_ball_gain": lambda: proof_ema_heavy_ball(lambda x, beta: (1 - x) * beta, ema_heavy_ball_gain),
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_closed_form_solves_its_recursion(name):
    for residual in PROOFS[name]():
        assert sympy.simplify(sympy.expand(sympy.together(residual).as_numer_denom()[0])) == 0


def test_every_exact_symbolic_formula_of_schedules_is_proved():
    of_stem = [formula for formula in sgdynamics.formulas(kind="formula") if formula.stem == "schedules"]
    assert {formula.__name__ for formula in of_stem if formula.status == "exact" and formula.symbolic} == set(PROOFS)


def ema_form(gain, beta, remaining):
    """The two-term form of the schedule's gain, and by how much its denominator cancels."""
    x, b = mpmath.mpf(gain), mpmath.mpf(beta)
    a, power = 1 - x, remaining + 1
    if a == b:
        return x**2 * power / (1 + x * remaining), 1
    plus, minus = x * b**power, (1 - b) * a**power
    value = (1 - b) * x * (b**power - a**power) / (plus - minus)
    return value, (abs(plus) + abs(minus)) / abs(plus - minus)


@given(stable_gains, decays, horizons.map(lambda steps: steps - 1))
@example(0.1, 0.9, 5)
@example(0.1, 1 - 0.1, 9999)
@example(1.0, 0.0, 3)
@example(1.0, 0.5, 3)
@example(1e-8, 1 - 1e-6, 9999)
@example(1.999, 0.5, 9999)
def test_the_ema_schedule_holds_over_the_whole_domain(gain, beta, remaining):
    with mpmath.workdps(60):
        expected, cancels = ema_form(gain, beta, remaining)
        error = abs(ema_schedule_gain(gain, beta, remaining) / expected - 1)
        # 1 - x is rounded before it is raised to the power in neither form: what is left is the size of one rounding
        assert error < 1e-12 * cancels * max(1, remaining / 100)


@given(st.floats(-3, LOG_TWO).map(lambda power: 10**power), st.floats(0, 0.99), st.integers(1, 60))
@example(0.3, 0.7, 20)
@example(0.5, 0.5, 20)
@example(1.0, 0.0, 5)
@example(1.5, 0.4, 9)
def test_the_ema_schedule_ends_on_the_ema(gain, beta, steps):
    with mpmath.workdps(60):
        x, b = mpmath.mpf(gain), mpmath.mpf(beta)
        average = [b**steps, *((1 - b) * b ** (steps - t) for t in range(1, steps + 1))]
        expected = schedule_of(average, x)
        cancels = [float(ema_form(gain, beta, steps - j)[1]) for j in range(1, steps + 1)]
    made = ema_schedule_gain(gain, beta, np.arange(steps - 1, -1, -1))
    for mine, theirs, cancel in zip(made, expected, cancels, strict=True):
        assert abs(mine / float(theirs) - 1) < 1e-12 * cancel


@given(st.floats(-8, -1).map(lambda power: 10**power), st.floats(-12, -1), st.integers(0, 10**4))
def test_the_ema_schedule_passes_smoothly_through_equal_decays(gain, closeness, remaining):
    """beta at and next to a = 1 - x, where the two-term form is 0/0."""
    middle = gain**2 * (remaining + 1) / (1 + gain * remaining)
    assert math.isclose(ema_schedule_gain(gain, 1 - gain, remaining), middle, rel_tol=1e-6)
    for sign in (1, -1):
        beta = (1 - gain) * (1 + sign * gain * 10**closeness)
        with mpmath.workdps(60):
            expected, cancels = ema_form(gain, beta, remaining)
            assert abs(ema_schedule_gain(gain, beta, remaining) / expected - 1) < 1e-9
            assert cancels >= 1


def test_the_ema_schedule_starts_at_the_smaller_rate_and_ends_at_the_product():
    for gain, beta in ((0.1, 0.99), (0.01, 0.5), (0.3, 0.3)):
        assert math.isclose(ema_schedule_gain(gain, beta, 10**6), min(gain, 1 - beta), rel_tol=1e-4)
        assert math.isclose(ema_schedule_gain(gain, beta, 0), gain * (1 - beta), rel_tol=1e-14)


@given(stable_gains, st.integers(1, 300))
@example(1.0, 50)
def test_the_swa_schedule_ends_on_the_uniform_average(gain, steps):
    made = swa_schedule_gain(gain, np.arange(1, steps + 1), steps)
    with mpmath.workdps(40):
        expected = schedule_of([mpmath.mpf(0), *[mpmath.mpf(1) / steps] * steps], mpmath.mpf(gain))
    np.testing.assert_allclose(made, np.array(expected, dtype=float), rtol=1e-11)
    if gain <= 1:
        assert np.all((made >= 0) & (made <= 1))


@given(stable_gains, st.integers(300, 10**4), st.data())
def test_the_swa_schedule_holds_over_long_horizons(gain, steps, data):
    step = data.draw(st.integers(1, steps))
    with mpmath.workdps(60):
        x = mpmath.mpf(gain)
        inverse = 1 / x + (step - 1) / (1 - (1 - x) ** (steps - step + 1))
        assert abs(swa_schedule_gain(gain, step, steps) * inverse - 1) < 1e-11


@given(stable_gains, st.integers(1, 120), st.data())
def test_the_two_point_schedule_ends_on_the_midpoint(gain, steps, data):
    separation = data.draw(st.integers(1, steps))
    average = [mpmath.mpf(0)] * (steps + 1)
    average[steps] = average[steps - separation] = mpmath.mpf(1) / 2
    made = two_point_schedule_gain(gain, separation, np.arange(steps - 1, -1, -1))
    with mpmath.workdps(40):
        expected = np.array(schedule_of(average, mpmath.mpf(gain)), dtype=float)
    smallest = np.finfo(float).tiny  # below, digits are lost one by one
    np.testing.assert_allclose(made, expected, rtol=1e-10 if gain < 1 else 1e-9, atol=smallest)


def test_the_swa_schedule():
    made = swa_schedule_gain(0.1, np.array([1, 2, 50, 100]), 100)
    np.testing.assert_allclose(made, [0.1, 0.09090885, 0.01688381, 0.001], rtol=0, atol=5e-9)
    np.testing.assert_array_equal(swa_schedule_gain(1.0, np.arange(1, 101), 100), 1 / np.arange(1, 101))
    np.testing.assert_allclose(average_to_gains(swa(100), 0.1)[[0, 1, 49, 99]], made, rtol=1e-13)


def test_the_two_point_schedule_drops_and_ramps_up():
    made = two_point_schedule_gain(0.1, 20, 100 - np.array([80, 81, 90, 100]))
    np.testing.assert_allclose(made, [0.1, 0.01190088, 0.02585334, 0.05], rtol=0, atol=5e-9)
    np.testing.assert_allclose(average_to_gains(two_point(100, 20), 0.1)[[79, 80, 89, 99]], made, rtol=1e-13)
    ramp = two_point_schedule_gain(0.1, 20, np.arange(19, -1, -1))
    assert np.all(np.diff(ramp) > 0)


def test_the_ema_schedule():
    fast = ema_schedule_gain(0.1, 0.9, np.array([0, 1, 10, 100]))
    np.testing.assert_allclose(fast, [0.01, 0.0181818182, 0.055, 0.0918181818], rtol=0, atol=5e-11)
    slow = ema_schedule_gain(0.1, 0.99, np.array([0, 10, 100]))
    np.testing.assert_allclose(slow, [0.001, 0.00673098, 0.00999941], rtol=0, atol=5e-9)
    np.testing.assert_allclose(average_to_gains(ema(0.99, 300), 0.1)[[299, 289, 199]], slow, rtol=1e-12)


def test_the_ema_of_sgd_is_heavy_ball_pathwise():
    generator = np.random.default_rng(15)
    start, centers = generator.normal(), generator.normal(size=400)
    averaged = [start]
    for point in sgd([0.15] * 400, start, centers)[1:]:
        averaged.append(0.9 * averaged[-1] + (1 - 0.9) * point)
    gain, momentum = ema_heavy_ball_gain(0.15, 0.9), ema_heavy_ball_momentum(0.15, 0.9)
    assert math.isclose(momentum, 0.9 * 0.85, rel_tol=1e-15)
    assert np.abs(heavy_ball([gain] * 400, momentum, start, centers) - averaged).max() < 1e-14


@given(seeds, stable_gains, decays)
def test_the_ema_of_sgd_is_heavy_ball_for_every_decay_and_gain(seed, gain, beta):
    """By equality of the two maps (y, y') -> y'', wherever the hidden run happens to be."""
    generator = np.random.default_rng(seed)
    before, run, center = generator.normal(size=(3, 50))
    last = beta * before + (1 - beta) * run
    direct = beta * last + (1 - beta) * (run - gain * (run - center))
    made = (
        last + ema_heavy_ball_momentum(gain, beta) * (last - before) - ema_heavy_ball_gain(gain, beta) * (last - center)
    )
    np.testing.assert_allclose(made, direct, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# Averages that emulate a decay


def test_tail_sums_are_the_flat_limit():
    fractions = 1 - np.arange(1, 21) / 21
    flat = wsm_average(fractions)
    gap = np.abs(gains_to_average(1e-7 * fractions, 1e-7) - flat).max()
    assert abs(gap - 4.3e-8) < 5e-10
    gaps = [np.abs(gains_to_average(gain * fractions, gain) - flat).max() for gain in 10.0 ** np.arange(-3, -8, -1)]
    np.testing.assert_allclose(np.log10(gaps[:-1]) - np.log10(gaps[1:]), 1, atol=0.01)


@given(st.lists(interpolations, min_size=1, max_size=30), seeds)
def test_tail_sums_weigh_recorded_updates_by_the_fractions(fractions, seed):
    """Of any optimiser: the average of a recorded path is its start plus the weighted updates."""
    updates = np.random.default_rng(seed).normal(size=len(fractions))
    path = np.concatenate([[0.7], 0.7 + np.cumsum(updates)])
    average = wsm_average(fractions)
    assert math.isclose(average.sum(), 1, rel_tol=1e-12)
    assert math.isclose(average @ path, 0.7 + np.dot(fractions, updates), rel_tol=1e-12, abs_tol=1e-12)


def test_binomial_weights_contract_the_start_like_the_decay():
    fractions = 1 - np.arange(1, 21) / 21
    weights, flat = binomial_average(fractions), wsm_average(fractions)
    index = np.arange(21)
    for survival in np.linspace(-1, 1, 41):
        assert abs((weights * survival**index).sum() - np.prod(1 - fractions + fractions * survival)) < 1e-14
    variances = [average @ index**2 - (average @ index) ** 2 for average in (flat, weights)]
    assert abs(variances[0] - 36.6667) < 5e-5
    assert abs(variances[1] - 3.49206) < 5e-6
    pairs = 2 * sum(fractions[j] * (1 - fractions[i]) for j in range(20) for i in range(j))
    assert abs(pairs - 33.1746) < 5e-5
    assert math.isclose(variances[0] - variances[1], pairs, rel_tol=1e-12)


@given(st.lists(interpolations, min_size=1, max_size=15), st.floats(-1, 1))
def test_binomial_weights_are_the_bias_at_every_curvature(fractions, survival):
    weights = binomial_average(fractions)
    product = math.prod(1 - r + r * survival for r in fractions)
    assert math.isclose(sum(w * survival**i for i, w in enumerate(weights)), product, rel_tol=1e-12, abs_tol=1e-14)


def exact_families():
    """All schedules of three steps whose end is one average of the base run at every curvature, solved for."""
    x, *unknowns = sympy.symbols("x alpha0:4 r1:4")
    alphas, fractions = unknowns[:4], unknowns[4:]
    base, decayed = {}, {}
    names = sympy.symbols("e c1:4")
    for table, steps in ((base, [1, 1, 1]), (decayed, fractions)):
        point, table[0] = names[0], names[0]
        for t, fraction in enumerate(steps, 1):
            point = table[t] = sympy.expand(point - x * fraction * (point - names[t]))
    gap = sympy.expand(sum(alpha * base[t] for t, alpha in enumerate(alphas)) - decayed[3])
    equations = sympy.Poly(gap, x, *names).coeffs()
    return [tuple(family.get(r, r) for r in fractions) for family in sympy.solve(equations, unknowns, dict=True)]


def test_only_three_families_of_three_steps_are_exact_at_every_curvature():
    r1, r2, r3 = sympy.symbols("r1:4")
    assert set(exact_families()) == {(r1, 0, 0), (1, r2, 0), (1, 1, r3)}


@given(seeds, st.integers(1, 30), st.data(), interpolations)
def test_the_average_for_every_curvature_is_exact_at_every_curvature(seed, steps, data, partial):
    last = data.draw(st.integers(0, steps - 1))
    fractions = np.array([1.0] * last + [partial] + [0.0] * (steps - last - 1))
    average = average_for_every_curvature(fractions)
    generator = np.random.default_rng(seed)
    for gain in (1e-8, 0.2, 1.0, 1.9):
        start, centers = generator.normal(), generator.normal(size=steps)
        merged = average @ sgd(np.full(steps, gain), start, centers)
        assert math.isclose(merged, sgd(gain * fractions, start, centers)[-1], rel_tol=1e-12, abs_tol=1e-12)


@given(seeds, st.integers(2, 30))
def test_every_other_schedule_is_refused_for_every_curvature(seed, steps):
    fractions = np.random.default_rng(seed).uniform(0.01, 0.99, steps)
    ones = seed % (steps - 1)
    fractions[:ones] = 1
    with pytest.raises(NoEquivalentSchedule, match="exact at every curvature") as error:
        average_for_every_curvature(fractions)
    assert error.value.first_bad_index == ones + 1


@pytest.mark.parametrize(("fractions", "index"), [([0, 1], 1), ([1, 0.5, 0, 0.5], 3), ([1, 1 - 1e-12, 1e-12], 2)])
def test_near_misses_are_refused_for_every_curvature(fractions, index):
    with pytest.raises(NoEquivalentSchedule) as error:
        average_for_every_curvature(fractions)
    assert error.value.first_bad_index == index


@given(seeds)
def test_weights_exact_at_one_curvature_fail_at_another(seed):
    """There is no average for two curvatures at once: the same batches end elsewhere."""
    generator = np.random.default_rng(seed)
    fractions = 1 - np.arange(1, 21) / 21
    average = gains_to_average(0.5 * fractions, 0.5)  # learning rate 1/2, curvature 1
    start, centers = generator.normal(size=200), generator.normal(size=(20, 200))

    def error(gain):
        merged = np.tensordot(average, sgd(np.full(20, gain), start, centers), 1)
        return np.sqrt(np.mean((merged - sgd(gain * fractions, start, centers)[-1]) ** 2))

    assert error(0.5) < 1e-13
    assert error(0.1) > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# Schedule-Free


@given(seeds, short_horizons, interpolations)
def test_schedule_free_weights_are_those_of_the_unrolled_method(seed, steps, interpolation):
    gains = random_gains(np.random.default_rng(seed), steps, -8, LOG_TWO)
    start_weight, weights = schedule_free_weights(gains, interpolation)
    expected_start, expected = unrolled(
        lambda start, centers: schedule_free(gains, interpolation, start, centers), steps
    )
    np.testing.assert_allclose(weights, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(start_weight, expected_start, rtol=1e-11, atol=1e-12)


def test_schedule_free_sums_of_squares_and_schedules():
    gains = np.full(100, 0.3)
    for interpolation, expected in ((0.0, 0.009629), (0.5, 0.012903), (0.9, 0.041688), (1.0, 0.100116)):
        start_weight, weights = schedule_free_weights(gains, interpolation)
        assert abs((weights**2).sum() - expected) < 5e-7
        made = gains_from_weights(start_weight, weights)
        assert math.isclose(made[-1], 0.3 / 100, rel_tol=1e-9)
        if interpolation == 0:
            np.testing.assert_allclose(made, swa_schedule_gain(0.3, np.arange(1, 101), 100), rtol=0, atol=1e-14)
            np.testing.assert_allclose(weights, average_center_weights(swa(100), 0.3)[1], rtol=0, atol=1e-14)
        if interpolation == 0.9:
            assert abs(made.min() + 6.017) < 5e-4
            assert abs(made.max() - 66.52) < 5e-3
        if interpolation == 1.0:
            assert abs(made.min() + 6.44) < 5e-3
            assert abs(made.max() - 1.36) < 5e-3
