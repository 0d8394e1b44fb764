"""Forecasts: the law against its recursion and against ensembles, recovery, proofs, refusals and the public curves."""

import re
from pathlib import Path

import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_forecast import DECAYED, PLATEAU, RECORD, STEPS, TRUE, WARMUP, law, runs
from scipy.optimize import minimize
from scipy.special import gamma

from benchmarks import loss_curves
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, cosine, ema, linear, tail, two_point
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.forecast import (
    best_schedule,
    drop_gained,
    fit,
    last_iterate_bound,
    next_run,
    predict,
    spectrum_left,
)
from sgdynamics.theory.forecast._regression import _inflation
from sgdynamics.theory.forecast.optimum import _Law


@pytest.fixture(scope="module")
def clean():
    return fit(runs(1e-6, 0))


OTHERS = {
    "plateau, longer": np.r_[WARMUP, constant(1.0, 9900)],
    "decay, longer": np.r_[WARMUP, constant(1.0, 5900), linear(1.0, 2000)],
    "drop": np.r_[WARMUP, constant(1.0, 2000), constant(0.3, 2000)],
    "lower peak": np.r_[0.5 * WARMUP, cosine(0.5, 5000)],
}


@pytest.mark.parametrize("name", OTHERS)
def test_predictions_of_other_schedules_are_those_of_the_law(clean, name):
    schedule = OTHERS[name]
    record = np.linspace(200, schedule.size, 20).astype(int)
    made, true = predict(clean, schedule, record=record), law(schedule, record, **TRUE)
    np.testing.assert_allclose(made.loss, true, rtol=1e-3)
    assert ((made.loss_low < made.loss) & (made.loss < made.loss_high)).all()
    wrong = law(schedule, record, **TRUE | {"noise": 1.1 * TRUE["noise"]})
    assert np.abs(made.loss / wrong - 1).max() > 1e-3  # ten per cent more noise is seen


def test_what_is_foretold_of_a_step_does_not_depend_on_what_else_is_asked_for(clean):
    together = predict(clean, PLATEAU, record=[0, 1, 2, 300])
    for step in together.step.values:
        xr.testing.assert_allclose(predict(clean, PLATEAU, record=[step]), together.sel(step=[step]), rtol=1e-5)
    numbers = clean.estimate.to_series().to_dict()
    np.testing.assert_allclose(together.loss, law(PLATEAU, together.step.values, **numbers), rtol=1e-4)


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    """Of 200 runs of other laws, with independent errors, the final loss of a longer run with a decay."""
    random, schedule, hits = np.random.default_rng(0), OTHERS["decay, longer"], 0
    for seed in range(200):
        changed = {
            "exponent": random.uniform(0.3, 0.8),
            "cutoff": np.exp(random.uniform(np.log(0.03), np.log(0.3))),
            "noise_exponent": random.uniform(0.8, 1.5),
            "following": random.choice([0.0, 0.3]),
            "early": random.choice([0.0, 0.4]),
        }
        unit = TRUE | changed | {"floor": 0.0}
        changed["start"] = 1 / law(PLATEAU, [100], **unit | {"start": 1.0, "noise": 0.0})[0]
        noise = random.uniform(0.3, 1.0) / law(PLATEAU, [STEPS], **unit | {"start": 0.0, "noise": 1.0})[0]
        changed["noise"] = 0.1 * noise
        fitted = fit(runs(3e-3, seed, **changed))
        made = predict(fitted, schedule)
        measured = law(schedule, [schedule.size], **TRUE | changed)[0] * np.exp(3e-3 * random.normal())
        hits += bool(made.loss_low.item() <= measured <= made.loss_high.item())
    assert 0.85 <= hits / 200 <= 0.95


def test_recovery_from_two_noisy_curves():
    """The numbers that a forecast rests on come back from two curves."""
    found = fit(runs(2e-4, 1, following=0.0, early=0.0)).estimate.to_series()
    assert found["exponent"] == pytest.approx(TRUE["exponent"], rel=0.05)
    assert found["cutoff"] == pytest.approx(TRUE["cutoff"], rel=0.3)
    assert found["floor"] == pytest.approx(TRUE["floor"], rel=0.02)


def test_intervals_of_the_numbers_are_normal_where_they_are_fitted(clean):
    """In logarithms of what is positive and log-odds of what is a part; amplitudes end at 0."""
    wide = 1.6449 * np.sqrt(np.diag(clean.covariance))
    own = {
        "exponent": 0,
        "cutoff": 1,
        "noise_exponent": 2,
        "following": 3,
        "early": 4,
        "floor": 5,
        "start": 6,
        "noise": 7,
    }
    for name, which in own.items():
        center, low, high = (clean[end].sel(quantity=name).item() for end in ("estimate", "lower", "upper"))
        if which < 3:
            center, low, high = np.log([center, low, high])
        elif which == 4:
            center, low, high = (np.log(end / (1 - end)) for end in (center, low, high))
        assert high - center == pytest.approx(wide[which], rel=1e-3)
        assert low == pytest.approx(center - wide[which], rel=1e-3) or (which > 4 and low == 0)


def test_a_tenth_of_the_losses_may_be_twice_what_they_should_be():
    """By squares alone the forecast would be off by more than 2 per cent."""
    given_runs = [(rates, step, loss * np.where(step % 400 == 300, 2.0, 1.0)) for rates, step, loss in runs(1e-3, 1)]
    assert sum((np.diff(loss) > 1).sum() for _, _, loss in given_runs) >= 18
    longer = OTHERS["plateau, longer"]
    made, true = predict(fit(given_runs), longer).loss.item(), law(longer, [longer.size], **TRUE)[0]
    assert made == pytest.approx(true, rel=0.006)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("runs", [list, tuple, iter])
def test_what_is_masked_in_a_run_is_refused(part, runs):
    step = np.arange(1, 41)
    run = [np.full(40, 0.1), step, 1 + step**-0.5]
    assert fit(runs([[np.ma.array(part) for part in run]])).attrs["records"] == 40  # nothing is masked
    run[part] = np.ma.array(run[part], mask=step == 7)
    with pytest.raises(ValueError, match=r"runs must be .*, none of them masked, got 1 masked of 40"):
        fit(runs([tuple(run)]))


@pytest.mark.parametrize("kind", [str, complex, bool, "datetime64[s]"])
def test_what_is_no_real_number_is_no_loss(kind):
    step = np.arange(1, 41)
    with pytest.raises(TypeError, match=r"runs\[0\] loss must be a 1-D array of finite numbers"):
        fit([(np.full(40, 0.1), step, step.astype(kind))])


def test_twelve_losses_of_a_run_are_enough_and_eleven_are_not():
    step = np.arange(1, 13)
    assert fit([(np.full(12, 0.1), step, 1 + step**-0.5)]).attrs["records"] == 12
    with pytest.raises(ValueError, match=r"runs\[0\].*12"):
        fit([(np.full(12, 0.1), step[:-1], 1 + step[:-1] ** -0.5)])


def test_a_loss_after_the_last_step_of_the_schedule_is_none_of_that_run():
    step = np.arange(1, 41)
    assert fit([(np.full(40, 0.1), step, 1 + step**-0.5)]).attrs["records"] == 40
    with pytest.raises(ValueError, match=r"runs\[0\]"):
        fit([(np.full(39, 0.1), step, 1 + step**-0.5)])


def test_a_plateau_alone_foretells_itself_and_refuses_a_decay():
    alone = fit(runs(1e-4, 2)[:1])
    longer = OTHERS["plateau, longer"]
    assert predict(alone, longer).loss.item() == pytest.approx(law(longer, [longer.size], **TRUE)[0], rel=0.01)
    with pytest.raises(ValueError, match=r"must hold the rate 1 of the fitted runs.*then down to a tenth"):
        predict(alone, DECAYED)
    with pytest.raises(ValueError, match="must hold the rate"):
        best_schedule(alone, 1000, peak=1.0)


def test_a_long_log_is_thinned_and_tells_the_same():
    record = np.arange(100, STEPS + 1)
    random = np.random.default_rng(3)
    logged = [(rates, record, law(rates, record, **TRUE) * np.exp(3e-3 * random.normal(size=record.size)))
              for rates in (PLATEAU, DECAYED)]  # fmt: skip
    found = fit(logged)
    schedule = OTHERS["decay, longer"]
    assert predict(found, schedule).loss.item() == pytest.approx(law(schedule, [schedule.size], **TRUE)[0], rel=0.01)
    assert found.attrs["deviation"] == pytest.approx(3e-3, rel=0.15)


@given(shift=st.sampled_from([-9.0, 7.0]), size=st.sampled_from([-5.0, 5.0]))
@settings(max_examples=2)
def test_forecasts_do_not_depend_on_the_units_of_rate_and_loss(shift, size):
    unit, scale = 10.0**shift, 10.0**size
    given_runs = runs(1e-4, 4)
    schedule = OTHERS["drop"]
    plain = predict(fit(given_runs), schedule)
    made = predict(fit([(unit * rates, step, scale * loss) for rates, step, loss in given_runs]), unit * schedule)
    np.testing.assert_allclose(made.loss / scale, plain.loss, rtol=1e-3)


def test_what_little_is_known_does_not_depend_on_the_unit_of_loss():
    """One short plateau does not tell the amplitudes apart: what they may be at most decides, too."""
    rates, step, loss = (part[:40] if len(part) < STEPS else part for part in runs(0.01, 1)[0])
    plain, scaled = (fit([(rates, step, factor * loss)]) for factor in (1.0, 2.0**10))
    amplitude = np.r_[np.ones(plain.sizes["shape"]), np.full(plain.sizes["column"], 2.0**10)]
    expected = plain.covariance.values * np.outer(amplitude, amplitude)
    spread = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(scaled.covariance.values / spread, expected / spread, atol=1e-3)
    assert np.diag(scaled.covariance.values)[-3:] == pytest.approx(np.diag(expected)[-3:], rel=1e-2)


# ---------------------------------------------------------------------------------------------------------------------
# Sensitivities: another batch size, another peak, one more run


@pytest.mark.parametrize("average", [None, tail(3000, 10, 50)], ids=["last", "tail"])
def test_noise_goes_as_the_inverse_of_the_batch_size(average):
    fitted = fit(runs(1e-6, 0), batch_size=64)
    schedule = np.r_[WARMUP, constant(1.0, 2900)]
    plain, small, large = (
        predict(fitted, schedule, average=average, batch_size=size).loss.item() for size in (64, 16, 256)
    )
    assert plain == predict(fitted, schedule, average=average).loss.item()
    assert (small - plain) / (plain - large) == pytest.approx((4 - 1) / (1 - 1 / 4), rel=1e-6)
    if average is None:
        true = law(schedule, [3000], **TRUE | {"noise": 4 * TRUE["noise"]})[0]
        assert small == pytest.approx(true, rel=1e-3)


def test_a_smaller_batch_is_foretold_as_more_noise_is_that_is_known_as_well(clean):
    fitted, schedule = clean.assign_attrs(batch_size=64), OTHERS["drop"]
    factor = np.r_[np.ones(7), 4.0]  # of the numbers, the noise last
    louder = fitted.assign(
        amplitude=factor[-3:] * fitted.amplitude, covariance=np.outer(factor, factor) * fitted.covariance
    )
    xr.testing.assert_allclose(predict(fitted, schedule, batch_size=16), predict(louder, schedule), rtol=1e-12)


def test_residuals_that_keep_their_sign_for_four_steps_wander_four_times_as_much():
    """But for the eight numbers of the law, which the fit has taken from the 32 sums of four."""
    part = 3.0 * np.repeat(np.tile([1.0, -1.0], 8), 4)
    assert _inflation([part, np.r_[part, 3.0, 3.0, -3.0]]) == pytest.approx(4 * 32 / (32 - 8))


def test_an_unknown_batch_size_has_no_ratio_to_another(clean):
    with pytest.raises(ValueError, match="predict: batch_size must be left out where fit was given none"):
        predict(clean, PLATEAU, batch_size=2)


def test_what_a_forecast_assumes_is_said(clean):
    assert predict(clean, DECAYED).assumed == ""
    assert predict(clean.assign_attrs(unit=1e-3), 1e-3 * DECAYED).assumed == ""
    assert "peak is 2 times" in predict(clean, 2 * DECAYED[:100]).assumed
    assert re.match(
        r"Summed rates are 3\.0\d* times those of the longest run", predict(clean, np.tile(PLATEAU, 3)).assumed
    )
    summed = PLATEAU[: RECORD[-1]].sum()  # up to the last loss
    assert predict(clean, constant(1.0, round(1.04 * summed))).assumed == ""
    assert "Summed rates are 1.06 times" in predict(clean, constant(1.0, round(1.06 * summed))).assumed


def test_what_one_more_run_would_tell_is_what_it_tells():
    """Against fits with that run: the same order of candidates, and about the same widths."""
    errors, target = 1e-3, OTHERS["decay, longer"]
    given_runs, random = runs(errors, 0), np.random.default_rng(3)
    candidates = {
        "half rate": 0.5 * PLATEAU,
        "decay": np.r_[WARMUP, constant(1.0, STEPS // 2 - 100), linear(1.0, STEPS // 2, final=0.1)],
        "longer plateau": np.r_[WARMUP, constant(1.0, 2 * STEPS - 100)],
    }
    told = next_run(fit(given_runs), target, candidates)
    assert (np.diff(told.half_width) >= 0).all()
    assert (told.half_width < told.half_width_now).all()
    after = []
    for name in told.candidate.values:
        schedule = candidates[name]
        record = np.arange(1, 101) * (schedule.size // 100)
        losses = law(schedule, record, **TRUE) * np.exp(errors * random.normal(size=record.size))
        made = predict(fit([*given_runs, (schedule, record, losses)]), target)
        after.append((made.loss_high - made.loss).item())
    # how much the losses wander is estimated again by each fit: widths agree no better than its square root
    assert (np.abs(np.log2(told.half_width / after)) < 1).all()
    assert after == sorted(after)


def test_widths_after_one_more_run_are_those_of_the_information_it_adds():
    """By the textbook sum of informations, with derivatives of the plain law."""
    target, candidate = OTHERS["drop"], np.r_[WARMUP, linear(1.0, 1900)]
    fitted = fit(runs(1e-3, 7))
    names = ["exponent", "cutoff", "noise_exponent", "following", "early", "floor", "start", "noise"]
    place = np.r_[fitted.place.values, fitted.amplitude.values]

    def losses(numbers, schedule, record):
        shape = [*np.exp(numbers[:3]), numbers[3], 1 / (1 + np.exp(-numbers[4]))]
        return law(schedule, record, **dict(zip(names, [*shape, *numbers[5:]], strict=True)))

    def slopes(schedule, record):
        value = losses(place, schedule, record)
        steps = np.diag(1e-4 * np.maximum(np.abs(place), 1e-2))
        pairs = [losses(place + step, schedule, record) - losses(place - step, schedule, record) for step in steps]
        return value, np.stack(pairs, axis=1) / (2 * np.diag(steps))

    record = np.arange(20, candidate.size + 1, 20)
    value, slope = slopes(candidate, record)
    relative = slope / value[:, None] / fitted.deviation
    after = np.linalg.inv(np.linalg.inv(fitted.covariance.values) + relative.T @ relative / fitted.wandering)
    end, direction = slopes(target, [target.size])
    expected = 1.6449 * np.sqrt(direction @ after @ direction.T + (fitted.deviation * end) ** 2).item()
    told = next_run(fitted, target, {"one": candidate}, records=record.size)
    assert told.half_width.item() == pytest.approx(expected, rel=0.01)
    assert told.half_width_now > 1.05 * expected


def test_a_decay_tells_what_a_plateau_cannot():
    alone = fit(runs(1e-3, 0)[:1])
    candidates = {"the same again": PLATEAU, "a decay": DECAYED, "half the rate": 0.5 * PLATEAU}
    told = next_run(alone, OTHERS["decay, longer"], candidates).half_width.to_series()
    assert told["a decay"] < 0.2 * told["the same again"]
    assert told["half the rate"] < 0.2 * told["the same again"]
    own = next_run(alone, OTHERS["plateau, longer"], candidates).half_width.to_series()
    assert own["the same again"] < 2 * own["a decay"]  # of its own continuation a plateau tells as much


@pytest.mark.parametrize(
    ("candidates", "text"),
    [({}, "by name"), ({"a": [1.0]}, r"candidates\['a'\] must be of at least 12 steps"), ([PLATEAU], "by name")],
)
def test_candidates_are_schedules_by_name(clean, candidates, text):
    with pytest.raises((ValueError, TypeError), match=text):
        next_run(clean, PLATEAU, candidates)


# ---------------------------------------------------------------------------------------------------------------------
# Against an ensemble of quadratics


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_forecasts_of_an_ensemble_are_its_mean(momentum):
    """A mini-batch quadratic with such spectra, at gains that are small where the start lies."""
    curvature = np.exp(np.arange(np.log(1e-5), np.log(0.5), 0.8))
    spectrum = curvature**0.6 * np.exp(-curvature / 0.05)
    noise = curvature**1.2 * np.exp(-curvature / 0.05)
    model = MiniBatchQuadratic(
        curvature, 0.02 * noise / curvature**3, displacement=np.sqrt(2 * spectrum / curvature), batch_size=1
    )
    rate = 1 - momentum
    schedules = [rate * PLATEAU, rate * DECAYED, rate * np.r_[WARMUP, constant(1.0, 1900), linear(1.0, 1000)]]
    record = np.arange(200, 3001, 100)
    losses, errors = [], []
    for place, schedule in enumerate(schedules):
        made = ensemble(model, schedule[:3000], replicas=300, seed=place, record=record, momentum=momentum)
        risk = made.excess_risk + 1.0
        losses.append(risk.mean("replica").values)
        errors.append((risk.std("replica") / np.sqrt(300)).values)
    effective = [schedule / rate for schedule in schedules]
    fitted = fit([(effective[k], record, losses[k]) for k in (0, 1)])
    foretold = predict(fitted, effective[2], record=record)
    wide = np.maximum((foretold.loss_high - foretold.loss).values, 4 * errors[2])
    assert (np.abs(foretold.loss - losses[2]) < wide).mean() > 0.85
    assert np.abs(foretold.loss / losses[2] - 1).max() < 0.01


# ---------------------------------------------------------------------------------------------------------------------
# Averages


@pytest.mark.parametrize("average", [two_point(300, 50), ema(0.97, 300), tail(300, 40, 2)], ids=["two", "ema", "tail"])
def test_an_average_is_worth_what_its_weights_say(clean, average):
    """Every step's noise and the start, pushed through the average mode by mode."""
    schedule = np.full(300, 0.7)
    steps = np.arange(301)
    reference, numbers = PLATEAU.sum(), clean.estimate.to_series()
    curvature = np.exp(np.arange(np.log(1e-9), np.log(40 * numbers.cutoff), 0.15))
    scaled = curvature / numbers.cutoff
    weight = 0.15 * scaled**numbers.noise_exponent * np.exp(-scaled) / gamma(numbers.noise_exponent)
    start = 0.15 * scaled**numbers.exponent * np.exp(-scaled) / gamma(numbers.exponent)
    keep = np.maximum(1 - 0.7 * curvature, 0)
    reached = (keep[:, None] ** steps) @ average
    middle = 0.7 * (np.arange(300) + 0.5)
    fading = ((1 + 2 * numbers.cutoff * reference) / (1 + 2 * numbers.cutoff * middle)) ** numbers.exponent
    brought = 0.7 ** (2 - numbers.following) * (1 - numbers.early + numbers.early * fading)
    variance = sum(brought[s - 1] * ((keep[:, None] ** (steps[s:] - s)) @ average[s:]) ** 2 for s in range(1, 301))
    bias = 1 - (start @ (1 - reached**2)) - (1 - start.sum() if abs(start.sum() - 1) > 1e-3 else 0)
    expected = numbers.floor + numbers.start * bias + numbers.noise * weight @ variance
    assert predict(clean, schedule, average=average).loss.item() == pytest.approx(expected, rel=2e-3)


def test_the_last_iterate_is_an_average(clean):
    last = np.zeros(301)
    last[-1] = 1
    schedule = np.linspace(1.0, 0.1, 300)
    plain = predict(clean, schedule)
    made = predict(clean, schedule, average=last)
    assert made.loss.item() == pytest.approx(plain.loss.item(), rel=1e-3)
    assert made.loss_high.item() == pytest.approx(plain.loss_high.item(), rel=1e-2)


# ---------------------------------------------------------------------------------------------------------------------
# The best schedule


def test_noise_of_the_last_iterate_is_that_of_the_average_of_it_alone_to_the_last_digits(clean):
    """Where the rate changes at every step each is taken by itself."""
    noise = clean.assign(amplitude=clean.amplitude * [0.0, 0.0, 1.0])
    last, schedule = np.r_[np.zeros(300), 1.0], np.tile([1.0, 0.2], 150)
    made = predict(noise, schedule, average=last).loss.item()
    assert made == pytest.approx(predict(noise, schedule).loss.item(), rel=1e-12)


def test_the_best_schedule_is_that_of_a_search_over_every_step(clean):
    steps, numbers = 24, clean.estimate.to_series().to_dict()
    best = best_schedule(clean, steps, peak=1.0)
    assert (np.diff(best.learning_rate) <= 0).all()
    assert best.learning_rate.max() <= 1

    def excess(logs):
        return law(np.exp(-np.cumsum(np.abs(logs))), [steps], **numbers)[0] - numbers["floor"]

    start = np.diff(-np.log(best.learning_rate.values), prepend=0.0)
    searched = minimize(excess, start + 0.01, method="L-BFGS-B", options={"maxiter": 15}).fun
    mine = excess(start)
    assert mine <= searched * (1 + 1e-4)
    assert mine < excess(np.diff(-np.log(np.linspace(1, 0.01, steps)), prepend=0.0))  # a linear decay is not it


def test_the_stretches_of_one_rate_fill_the_run_and_become_shorter_towards_its_end(clean):
    count = _Law(clean, 24000, 1.0, 500).count
    assert count.sum() == 23500
    assert (np.diff(count) <= 1).all()  # but for rounding
    assert count[0] > 100 * count[-1]


def test_the_best_schedule_is_searched_with_the_loss_of_the_law_warm_up_included(clean):
    searched = _Law(clean, 30, 1.0, 20)
    numbers = clean.estimate.to_series().to_dict()
    rates = np.linspace(1.0, 0.2, 10)
    assert searched.spread(rates).tolist() == [*(np.arange(1, 21) / 20), *rates]
    made = numbers["floor"] + searched.value(rates)[0]
    assert made == pytest.approx(law(searched.spread(rates), [30], **numbers)[0], rel=1e-4)


def test_the_search_for_the_best_schedule_does_not_depend_on_the_unit_of_loss(clean):
    """A power of two changes no digit, so that the whole search is the same."""
    plain, scaled = (clean.assign(amplitude=factor * clean.amplitude) for factor in (1.0, 2.0**20))
    guess = [linear(1.0, 24)]
    assert np.array_equal(*(_Law(one, 24, 1.0, 0).optimum(guess) for one in (plain, scaled)))


def test_no_schedule_is_better_where_the_losses_are_at_the_floor(clean):
    best = best_schedule(clean.assign(amplitude=clean.amplitude * [1.0, 0.0, 0.0]), 24, peak=1.0)
    assert best.loss.values == pytest.approx(clean.amplitude.values[0], rel=1e-12)
    assert best.gain == 0


def test_the_best_schedule_is_no_worse_than_the_others_and_says_what_its_gain_is_worth(clean):
    best = best_schedule(clean, 24000, peak=1.0, warmup=500)
    assert (np.diff(best.learning_rate.values[500:]) <= 1e-15).all()
    assert best.loss.values[0] <= best.loss.values[1:].min() * (1 + 1e-5)
    assert ("more than" in best.verdict) == (best.gain > best.error)
    foretold = predict(clean, best.learning_rate.values)
    assert best.error == pytest.approx((foretold.loss_high - foretold.loss).item(), rel=1e-9)
    assert best.gain == pytest.approx(best.loss[1:].min().item() - foretold.loss.item(), rel=1e-6)
    decay = round(best.decay * 23500)
    decayed = np.r_[np.arange(1, 501) / 500, constant(1.0, 23500 - decay), linear(1.0, decay)]
    of_decay = best.loss.sel(rule="plateau_and_decay").item()
    assert of_decay == pytest.approx(predict(clean, decayed).loss.item(), rel=1e-12)
    next_best = best.rule.values[1 + best.loss.values[1:].argmin()]
    assert f"the next best, {next_best.replace('_', ' ')}" in best.verdict


# ---------------------------------------------------------------------------------------------------------------------
# Known laws as limits


def test_what_is_left_of_a_spectrum_is_its_integral():
    h, time_, alpha, cutoff = sympy.symbols("h S alpha h_c", positive=True)
    density = h ** (alpha - 1) * sympy.exp(-h * (1 / cutoff + 2 * time_)) / (sympy.gamma(alpha) * cutoff**alpha)
    left = sympy.integrate(density, (h, 0, sympy.oo))
    assert sympy.simplify(sympy.powsimp(left / spectrum_left(time_, alpha, cutoff), force=True).subs(alpha, 3) - 1) == 0
    for value in (sympy.Rational(1, 2), sympy.Rational(7, 3)):
        ratio = (left / spectrum_left(time_, alpha, cutoff)).subs({alpha: value, cutoff: 2, time_: 5})
        assert sympy.N(ratio, 40) == pytest.approx(1, abs=1e-30)


def test_the_start_decays_as_a_power_of_summed_rate():
    time_, alpha, cutoff = sympy.symbols("S alpha h_c", positive=True)
    ratio = spectrum_left(time_, alpha, cutoff) / (2 * cutoff * time_) ** -alpha
    assert sympy.limit(ratio.subs(alpha, sympy.Rational(2, 3)), time_, sympy.oo) == 1


def test_stationary_noise_is_proportional_to_the_rate_at_fixed_curvature():
    curvature, rate = sympy.symbols("h eta", positive=True)
    variance = rate**2 / (1 - (1 - rate * curvature) ** 2)
    assert sympy.limit(variance / (rate / (2 * curvature)), rate, 0) == 1


def test_a_drop_gains_as_in_the_multi_power_law_without_its_power_of_the_rate():
    h, time_ = sympy.symbols("h S", positive=True)
    for beta in (1, 2, sympy.Rational(1, 2)):
        weight = h ** (beta + 1) * sympy.exp(-h / 3)  # q = 1 + beta, per logarithm of h
        gained = sympy.integrate(weight / h**2 * (1 - sympy.exp(-2 * h * time_)), (h, 0, sympy.oo))
        all_of_it = sympy.integrate(weight / h**2, (h, 0, sympy.oo))
        assert sympy.simplify(gained / all_of_it - drop_gained(time_, beta, 3)) == 0


# ---------------------------------------------------------------------------------------------------------------------
# The worst case


@given(
    seed=st.integers(0, 999),
    steps=st.integers(1, 40),
    pieces=st.integers(1, 6),
)
def test_the_last_iterate_of_the_subgradient_method_is_within_its_bound(seed, steps, pieces):
    random = np.random.default_rng(seed)
    slopes, centers = random.uniform(0.1, 1, pieces), random.normal(size=pieces)
    rates = 10 ** random.uniform(-2, 1) * random.random(steps) + 1e-6

    def value(x):
        return float(np.sum(slopes * abs(x - centers)))

    least = min(value(center) for center in centers)
    minimiser = min(centers, key=value)
    x = start = 3 * random.normal()
    for rate in rates[:-1]:
        x -= rate * float(np.sum(slopes * np.sign(x - centers)))
    bound = last_iterate_bound(rates, distance=max(abs(start - minimiser), 1e-9), gradient_bound=slopes.sum())
    assert value(x) - least <= bound * (1 + 1e-9)
    assert last_iterate_bound(np.r_[rates, 0.0], distance=1.0, gradient_bound=1.0) == pytest.approx(
        last_iterate_bound(rates, distance=1.0, gradient_bound=1.0)
    )


def test_a_worst_case_needs_a_step():
    with pytest.raises(ValueError, match="last_iterate_bound: schedule must have a rate > 0"):
        last_iterate_bound([0.0, 0.0], distance=1.0, gradient_bound=1.0)


# ---------------------------------------------------------------------------------------------------------------------
# The public curves, where they are at hand

CURVES = Path(__file__).resolve().parents[2] / "shared" / "data" / "llm_loss_curves" / "100M"


@pytest.mark.skipif(not CURVES.is_dir(), reason=f"the public loss curves are not ours to ship: no {CURVES}")
def test_public_curves_of_six_schedules_are_foretold_from_three():
    fitted = fit([loss_curves.curve(CURVES, name) for name in loss_curves.FITTED])
    errors, inside = [], []
    for name in loss_curves.FORETOLD:
        rates, step, loss = loss_curves.curve(CURVES, name)
        made = predict(fitted, rates, record=step)
        errors.append(float(np.abs(made.loss - loss).mean()))
        inside.append(bool(made.loss_low[-1] <= loss[-1] <= made.loss_high[-1]))
    assert np.mean(errors) <= 0.0027
    assert sum(inside) >= 4


@pytest.mark.skipif(not CURVES.is_dir(), reason=f"the public loss curves are not ours to ship: no {CURVES}")
def test_they_are_foretold_better_than_by_the_multi_power_law_with_its_published_numbers():
    rows, _ = loss_curves.table(CURVES)
    theirs = np.mean([row[2] for row in rows])
    assert theirs == pytest.approx(0.0043, abs=2e-4)
    assert np.mean([row[1] for row in rows]) < 0.6 * theirs
