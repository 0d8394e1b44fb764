"""Long runs of plain SGD: pieces made abreast give what the recursion gives, step by step."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_quadratic import (
    UPDATES,
    close,
    decays,
    edge_of,
    every_update,
    flags,
    horizons,
    linear_form,
    random_model,
    run,
    seeds,
    stable_gains,
    transfer,
)

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, linear, swa, tail, two_point, warmup_stable_decay
from sgdynamics.theory.quadratic import (
    ema_start_weight,
    ema_variance,
    moments,
    stationary_variance,
    swa_start_weight,
    swa_variance_from_start,
    tail_variance,
    two_point_variance,
)

# ---------------------------------------------------------------------------------------------------------------------
# Claims in numbers


def test_noise_left_by_a_linear_decay():
    left = moments(MiniBatchQuadratic(1.0, 1.0), linear(0.1, 20000)).variance.item()
    assert abs(left - 0.000991667) < 5e-10
    assert abs(math.sqrt(math.pi) / 4 * math.sqrt(0.1 / 20000) - 0.000990832) < 5e-10


# ---------------------------------------------------------------------------------------------------------------------
# Moments at every step


@given(seeds, st.integers(1, 60), st.sampled_from(sorted(UPDATES)), st.data())
def test_moments_are_those_of_the_unrolled_run(seed, steps, update, data):
    generator, curvature, variance, start = random_model(seed)
    rates = 10 ** generator.uniform(-4, 0.3, steps)
    if data.draw(flags):  # plateaus
        rates = np.repeat(rates, 3)[:steps]
    record = sorted(data.draw(st.sets(st.integers(0, steps), min_size=1, max_size=5)))
    multiplicity, batch_size = generator.uniform(0.5, 9, curvature.size), 10 ** generator.uniform(0, 2)
    batch_size = math.ceil(batch_size)
    model = MiniBatchQuadratic(
        curvature, variance, multiplicity=multiplicity, displacement=start, batch_size=batch_size
    )
    made = moments(model, rates, record=record, **UPDATES[update])
    assert made.step.values.tolist() == record
    for mode, h in enumerate(curvature):
        start_weights, weights = linear_form(h * rates, **UPDATES[update])
        mean, spread = start_weights * start[mode], (weights**2).sum(-1) * variance[mode] / batch_size
        np.testing.assert_allclose(made.mean_error[:, mode], mean[record], rtol=1e-9, atol=1e-13 * abs(mean).max())
        np.testing.assert_allclose(made.variance[:, mode], spread[record], rtol=1e-9, atol=1e-300)
    total = 0.5 * ((made.mean_error**2 + made.variance) * multiplicity * curvature).sum("mode")
    np.testing.assert_allclose(made.excess_risk, total, rtol=1e-12)


@given(seeds, st.integers(1, 60), st.sampled_from(sorted(UPDATES)))
def test_moments_of_an_average_are_those_of_the_unrolled_run(seed, steps, update):
    generator, curvature, variance, start = random_model(seed)
    rates = 10 ** generator.uniform(-4, 0.2, steps)
    model = MiniBatchQuadratic(curvature, variance, displacement=start)
    signed = generator.normal(size=steps + 1)
    averages = (
        ema(0.8, steps),
        swa(steps, steps // 2),
        tail(steps, steps // 3 + 1, 3),
        two_point(steps, steps),
        signed - signed.mean() + 1 / (steps + 1),
    )
    for average in averages:
        made = moments(model, rates, average=average, **UPDATES[update])
        assert made.step.values.tolist() == [steps]
        for mode, h in enumerate(curvature):
            start_weights, weights = linear_form(h * rates, **UPDATES[update])
            scale = np.abs(average) @ np.abs(start_weights)
            spread = ((average @ weights) ** 2).sum() * variance[mode]
            noise = (np.abs(average) @ np.abs(weights)).max() ** 2 * variance[mode]
            assert math.isclose(
                made.mean_error[0, mode], average @ start_weights * start[mode], rel_tol=1e-9, abs_tol=1e-12 * scale
            )
            assert math.isclose(made.variance[0, mode], spread, rel_tol=1e-9, abs_tol=1e-24 * noise)


@given(st.floats(-8, 0).map(lambda power: 10**power), horizons, decays, flags)
@example(1e-8, 10**4, 0.0, False)
def test_jumps_over_constant_stretches_are_the_steps_one_by_one(fraction, steps, momentum, nesterov):
    """Against the recursion of the covariance with 30 digits."""
    steps = min(steps, 300)
    gain = fraction * edge_of(momentum, nesterov) * 0.999
    made = moments(
        MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(gain, steps), momentum=momentum, nesterov=nesterov
    )
    with mpmath.workdps(30):
        (a, b), _ = transfer(mpmath.mpf(gain), mpmath.mpf(momentum), nesterov)
        # at rest e_{-1} = e_0 for both: the first step of heavy ball has no velocity
        mean, previous, p, q, r = mpmath.mpf(1), mpmath.mpf(1), 0, 0, 0
        for _ in range(steps):
            mean, previous = a * mean + b * previous, mean
            p, q, r = a * a * p + 2 * a * b * q + b * b * r + mpmath.mpf(gain) ** 2, a * p + b * q, p
    assert close(made.variance.item(), p, 1e-11)
    assert abs(made.mean_error.item() - mean) < 1e-12 * max(1, abs(mean)) / (1.001 - fraction)


@given(stable_gains, st.floats(0, 6).map(lambda power: round(10**power)))
@example(1e-8, 10**6)
def test_a_million_steps_of_one_rate_cost_no_digits(gain, steps):
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(gain, steps))
    with mpmath.workdps(40):
        left = (1 - mpmath.mpf(gain)) ** steps
        variance = mpmath.mpf(gain) ** 2 * (1 - left**2) / (1 - (1 - mpmath.mpf(gain)) ** 2)
    assert close(made.variance.item(), variance, 1e-9)
    assert abs(made.mean_error.item() - left) < 1e-9


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("steps", [63, 65, 400])
def test_critical_damping_is_no_special_case(momentum, steps):
    gain = (1 - math.sqrt(momentum)) ** 2
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(gain, steps), momentum=momentum)
    start_weights, weights = linear_form(np.full(steps, gain), momentum=momentum)
    assert math.isclose(made.mean_error.item(), start_weights[-1], abs_tol=1e-12)
    assert math.isclose(made.variance.item(), (weights[-1] ** 2).sum(), rel_tol=1e-12)


@every_update
def test_a_jump_and_a_walk_meet(update):
    """A last rate that differs by nothing that matters, and records in between, break up the stretches."""
    model = MiniBatchQuadratic([1.0, 0.01], 1.0, displacement=[1.0, 2.0])
    schedule = np.concatenate(
        [constant(0.3, 500), linear(0.3, 50), constant(0.1, 300), warmup_stable_decay(0.2, 200, 20, 30)]
    )
    everywhere = moments(model, schedule, record=np.arange(schedule.size + 1), **update)
    record = [0, 499, 500, 540, 700, 1050]
    jumped = moments(model, schedule, record=record, **update)
    for name in ("mean_error", "variance", "excess_risk"):
        np.testing.assert_allclose(jumped[name], everywhere[name].isel(step=record), rtol=1e-11, atol=1e-15)
    gains = schedule[:, None] * model.curvature
    for mode in range(2):
        start_weights, weights = linear_form(gains[:, mode], **update)
        np.testing.assert_allclose(jumped.variance[:, mode], (weights[record] ** 2).sum(-1), rtol=1e-10)
        np.testing.assert_allclose(
            jumped.mean_error[:, mode], start_weights[record] * model.displacement[mode], rtol=1e-10, atol=1e-14
        )


@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.99])
def test_near_the_edge_of_heavy_ball_a_jump_starts_from_any_state(momentum):
    edge = 2 * (1 + momentum)
    schedule = np.concatenate(
        [linear(edge, 40), constant(0.98 * edge, 200), linear(0.3, 20), constant(0.7 * edge, 100)]
    )
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), schedule, momentum=momentum, record=[100, 240, 360])
    start_weights, weights = linear_form(schedule, momentum=momentum)
    np.testing.assert_allclose(made.variance[:, 0], (weights[[100, 240, 360]] ** 2).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(made.mean_error[:, 0], start_weights[[100, 240, 360]], rtol=1e-9, atol=1e-12)


@given(seeds, st.sampled_from(sorted(UPDATES)))
def test_moments_obey_the_symmetries_of_the_model(seed, update):
    generator, curvature, variance, start = random_model(seed)
    rates, options = 10 ** generator.uniform(-3, 0, 80), UPDATES[update]
    rates[5:75] = rates[5]

    def at(curvature=curvature, variance=variance, start=start, rates=rates, multiplicity=1.0):
        return moments(
            MiniBatchQuadratic(curvature, variance, displacement=start, multiplicity=multiplicity), rates, **options
        ).isel(step=0)

    one = at()
    noisier, further = at(variance=7 * variance), at(start=-3 * start)
    np.testing.assert_allclose(noisier.variance, 7 * one.variance, rtol=1e-12)
    np.testing.assert_allclose(noisier.mean_error, one.mean_error, rtol=1e-12)
    np.testing.assert_allclose(further.mean_error, -3 * one.mean_error, rtol=1e-12)
    np.testing.assert_allclose(further.variance, one.variance, rtol=1e-12)
    scaled = at(curvature=curvature / 8, rates=8 * rates)
    np.testing.assert_allclose(scaled.variance, one.variance, rtol=1e-10)
    np.testing.assert_allclose(scaled.mean_error, one.mean_error, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(8 * scaled.excess_risk, one.excess_risk, rtol=1e-10)
    twice = at(multiplicity=2.0)
    np.testing.assert_allclose(twice.excess_risk, 2 * one.excess_risk, rtol=1e-13)
    doubled = at(np.tile(curvature, 2), np.tile(variance, 2), np.tile(start, 2))
    np.testing.assert_allclose(doubled.excess_risk, 2 * one.excess_risk, rtol=1e-13)


@given(seeds, st.integers(1, 100), st.integers(1, 100))
def test_a_run_can_be_continued(seed, first, second):
    """Variance after a, then b: what b adds, and what b leaves of the variance of a."""
    generator, curvature, variance, _ = random_model(seed)
    rates = 10 ** generator.uniform(-3, 0, first + second)
    model = MiniBatchQuadratic(curvature, variance, displacement=1.0)
    before, after, whole = (moments(model, part).isel(step=0) for part in (rates[:first], rates[first:], rates))
    np.testing.assert_allclose(whole.mean_error, before.mean_error * after.mean_error, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(whole.variance, after.variance + after.mean_error**2 * before.variance, rtol=1e-11)


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("steps", [40, 20000])
def test_divergence_is_a_result(update, steps):
    model = MiniBatchQuadratic([1.0, 0.01], [1.0, 1.0], displacement=1.0)
    schedules = (constant(50.0, steps), np.linspace(50, 60, steps))
    for schedule, average in itertools.product(schedules, (None, ema(0.9, steps))):
        made = moments(model, schedule, average=average, **update).isel(step=0)
        for value in made.data_vars.values():
            assert not np.isnan(value).any()
        if steps > 40:
            assert made.variance[0] == made.excess_risk == np.inf
        assert made.variance[0] > 1e20
        assert made.variance[1] < 10


@every_update
def test_what_never_moves_stays_put_beside_a_mode_that_diverges(update):
    model = MiniBatchQuadratic([1.0, 1.0, 1.0], [0.0, 1.0, 0.0], displacement=[1.0, 0.0, 0.0])
    for schedule in (constant(5.0, 5000), np.linspace(5, 6, 5000)):
        made = moments(model, schedule, **update).isel(step=0)
        np.testing.assert_array_equal(np.abs(made.mean_error), [np.inf, 0, 0])
        np.testing.assert_array_equal(made.variance, [0, np.inf, 0])


@every_update
def test_a_random_run_has_these_moments(update):
    """Centers at plus or minus one: only their first two moments matter."""
    rates = np.array([0.5, 0.9, 0.2, 0.7, 0.7, 0.1])
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=rates.size))).T
    ends = run(rates, np.full(signs.shape[1], 2.0), signs, **update)[-1]
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=2.0), rates, **update)
    assert math.isclose(made.mean_error.item(), ends.mean(), rel_tol=1e-12)
    assert math.isclose(made.variance.item(), ends.var(), rel_tol=1e-12)
    assert math.isclose(made.excess_risk.item(), np.mean(ends**2) / 2, rel_tol=1e-12)


def test_closed_forms_are_the_limits_of_moments():
    model, rates = MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(0.1, 3000)
    for average, predicted in (
        (None, stationary_variance(0.1)),
        (ema(0.9, 3000), ema_variance(0.1, 0.9)),
        (two_point(3000, 10), two_point_variance(0.1, 10)),
        (tail(3000, 10, 5), tail_variance(0.1, 10, 5)),
        (swa(3000), swa_variance_from_start(0.1, 3000)),
    ):
        assert close(moments(model, rates, average=average).variance.item(), predicted, 1e-12)
    biases = moments(model, rates, average=swa(3000)), moments(model, constant(0.1, 30), average=ema(0.9, 30))
    assert close(biases[0].mean_error.item(), swa_start_weight(0.1, 3000), 1e-12)
    assert close(biases[1].mean_error.item(), ema_start_weight(0.1, 0.9, 30), 1e-12)


@pytest.mark.parametrize("lazy", [False, True])
def test_moments_sweep_over_named_dims_and_stay_lazy(lazy):
    batch_size = xr.DataArray([1.0, 8.0], dims="batch", coords={"batch": [1, 8]})
    curvature = xr.DataArray([[1.0, 0.1], [0.5, 0.2]], dims=("problem", "mode"))
    rates = xr.DataArray([0.1, 0.5, 0.9], dims="rate")
    if lazy:
        curvature, rates = curvature.chunk(problem=1), rates.chunk(rate=2)
    model = MiniBatchQuadratic(curvature, 2.0, displacement=1.0, batch_size=batch_size)
    schedule = linear(rates, 20, 0.05)
    plain = moments(model, schedule, record=[0, 7, 20])
    averaged = moments(model, schedule, average=ema(0.5, 20), momentum=0.3)
    for made in (plain, averaged):
        assert (made.excess_risk.chunks is not None) == lazy
        assert set(made.variance.dims) == {"problem", "batch", "rate", "step", "mode"}
    assert plain.sizes == {"problem": 2, "batch": 2, "rate": 3, "step": 3, "mode": 2}
    for problem, batch, rate in itertools.product(range(2), range(2), range(3)):
        here = {"problem": problem, "batch": batch, "rate": rate}
        alone = MiniBatchQuadratic(curvature.values[problem], 2.0, displacement=1.0, batch_size=[1, 8][batch])
        one = linear([0.1, 0.5, 0.9][rate], 20, 0.05)
        expected_plain = moments(alone, one, record=[0, 7, 20])
        np.testing.assert_allclose(plain.excess_risk.isel(here), expected_plain.excess_risk, rtol=1e-12)
        expected_averaged = moments(alone, one, average=ema(0.5, 20), momentum=0.3)
        np.testing.assert_allclose(averaged.variance.isel(here), expected_averaged.variance, rtol=1e-12)


def test_moments_refuse_what_does_not_fit():
    model = MiniBatchQuadratic(1.0, 1.0)
    with pytest.raises(ValueError, match=r"record must be increasing steps in 0\.\.T = 5, got 6"):
        moments(model, constant(0.1, 5), record=[6])
    with pytest.raises(ValueError, match="average must have T \\+ 1 = 6 weights"):
        moments(model, constant(0.1, 5), average=swa(4))
    with pytest.raises(ValueError, match="average must have T \\+ 1 = 6 weights"):
        moments(model, constant(0.1, 5), average=swa(5), record=[3])
    with pytest.raises(ValueError, match="schedule must be 1-D"):
        moments(model, constant([0.1, 0.2], 5))
    with pytest.raises(ValueError, match="momentum must be"):
        moments(model, constant(0.1, 5), momentum=1.0)


def walked(curvature, schedule, record):
    """Mean from 1 and variance of centers of variance 1, by the recursion."""
    mean, variance, found = np.ones_like(curvature), np.zeros_like(curvature), {0: (1.0, 0.0)}
    for step, rate in enumerate(schedule, 1):
        gain = rate * curvature
        mean = (1 - gain) * mean
        variance = (1 - gain) ** 2 * variance + gain**2
        found[step] = mean, variance
    return [np.array([found[step][part] * np.ones_like(curvature) for step in record]) for part in (0, 1)]


stretch = st.tuples(st.sampled_from(["constant", "cosine", "noise"]), st.integers(1, 700), st.floats(-4, 0.27))


@settings(max_examples=30)
@given(parts=st.lists(stretch, min_size=1, max_size=5), seed=st.integers(0, 99), every=st.integers(1, 900))
def test_pieces_of_a_long_run_are_the_run(parts, seed, every):
    random = np.random.default_rng(seed)
    shapes = {
        "constant": np.ones,
        "cosine": lambda steps: (1 + np.cos(np.linspace(0, np.pi, steps))) / 2,
        "noise": lambda steps: random.random(steps),
    }
    schedule = np.concatenate([10.0**size * shapes[name](steps) for name, steps, size in parts])
    curvature = 10.0 ** random.uniform(-6, 0, 7)
    record = np.unique(np.append(random.integers(0, schedule.size + 1, 3), np.arange(every, schedule.size + 1, every)))
    made = moments(MiniBatchQuadratic(curvature, 1.0, displacement=1.0), schedule, record=record)
    mean, variance = walked(curvature, schedule, record)
    np.testing.assert_allclose(made.mean_error, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.variance, variance, rtol=1e-9)


def test_a_piece_with_a_wrong_rate_is_seen():
    schedule = np.linspace(0.9, 0.0, 5000)
    right = moments(MiniBatchQuadratic([0.01, 1.0], 1.0), schedule).variance.values
    schedule[4711] *= 1.01
    assert moments(MiniBatchQuadratic([0.01, 1.0], 1.0), schedule).variance.values != pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("steps", [3, 300, 30_000])
def test_a_run_beyond_the_edge_ends_at_infinity_and_a_noiseless_one_at_its_mean(steps):
    schedule = np.linspace(900.0, 1000.0, steps)
    made = moments(MiniBatchQuadratic([1.0, 1.0, 1e-9], [1.0, 0.0, 1.0], displacement=[0.0, 0.0, 1.0]), schedule)
    assert made.variance.values[0, 0] > 1e10
    assert made.variance.values[0, 1] == 0
    assert made.mean_error.values[0, :2].tolist() == [0, 0]
    assert made.mean_error.values[0, 2] == pytest.approx(np.exp(np.log1p(-schedule * 1e-9).sum()), rel=1e-10)
