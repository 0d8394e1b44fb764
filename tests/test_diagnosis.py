"""Reading a run: estimates on runs of the exact model, written out here, and honest answers where records are short."""

from __future__ import annotations

import json

import mpmath
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from trained import trained

import sgdynamics
from sgdynamics.models.schedules import constant
from sgdynamics.outcome import Outcome
from sgdynamics.simulate.trainer import network
from sgdynamics.theory.diagnosis import (
    diagnose,
    distance_plateau,
    fit_loss_curve,
    gradient_cosines,
    half_rate_vertex,
    power_law_relaxation,
)

CURVATURE = np.repeat(np.geomspace(0.02, 1, 5), 8)
RATE = 0.4

# ---------------------------------------------------------------------------------------------------------------------
# Runs of the model, written out


def run(seed, steps, start, *, momentum=0.0):
    """Gradients of the batch taken and of another one at the same point, and the weights after the step."""
    random = np.random.default_rng(seed)
    noise = 1 / np.sqrt(CURVATURE)
    error, velocity, records = start(random), np.zeros(CURVATURE.size), []
    for _ in range(steps):
        taken, other = CURVATURE * (error - noise * random.normal(size=(2, CURVATURE.size)))
        velocity = momentum * velocity + taken
        error = error - RATE * velocity
        records.append((taken, other, error))
    return (np.array(rows) for rows in zip(*records, strict=True))


def settled(random):
    gain = RATE * CURVATURE
    return random.normal(size=CURVATURE.size) * np.sqrt(gain / (2 - gain) / CURVATURE)


def displaced(random):
    return np.where(CURVATURE < 0.1, 30.0, 0.0) + settled(random)


def outcome(data):
    return Outcome(int(data.outcome))


def row(data, name):
    return tuple(float(data[column].sel(quantity=name)) for column in ("estimate", "lower", "upper"))


# ---------------------------------------------------------------------------------------------------------------------
# Balance or descent


def test_a_stationary_run_is_noise_limited_and_its_cosines_are_those_of_its_spectrum():
    taken, other, _ = run(1, 3000, settled)
    found = gradient_cosines(taken, other)
    assert outcome(found) is Outcome.NOISE_LIMITED
    gain = RATE * CURVATURE
    signal, noise = np.sum(CURVATURE * gain / (2 - gain)), np.sum(CURVATURE)
    cosine = signal / (signal + noise)
    for name, truth in (("vertex", 0.5), ("independent_cosine", cosine), ("consecutive_cosine", -cosine)):
        value, lower, upper = row(found, name)
        assert abs(value - truth) < 4 * (upper - lower) / (2 * 1.96)
        assert upper - lower < 0.05


def test_a_displaced_run_still_descends():
    taken, other, _ = run(2, 400, displaced)
    found = gradient_cosines(taken, other)
    assert outcome(found) is Outcome.STILL_DESCENDING
    # steps undo less than there is to undo: the two cosines do not cancel
    assert row(found, "consecutive_cosine")[0] + row(found, "independent_cosine")[0] > 0.02


def test_a_run_that_starts_at_the_minimum_rises():
    quiet = [run(seed, 3, lambda random: np.zeros(CURVATURE.size)) for seed in range(600)]
    before, after = [], []
    for taken, other, _ in quiet:
        before.append(-np.sum(other[:-1] * taken[:-1]))
        after.append(-np.sum(taken[1:] * taken[:-1]))
    found = diagnose({"slope_before": before, "slope_after": after})
    assert outcome(found) is Outcome.LOSS_RISING
    assert row(found, "vertex")[2] < 0.5


def test_a_short_record_is_undecided():
    taken, other, _ = run(3, 40, settled)
    found = diagnose({"gradient": taken, "independent_gradient": other})
    assert outcome(found) is Outcome.UNDECIDED
    assert "record more steps" in found.reason


def test_the_vertex_along_the_actual_steps_holds_for_momentum():
    taken, other, weights = run(4, 3000, settled, momentum=0.8)
    along = diagnose({"gradient": taken[200:], "independent_gradient": other[200:], "weights": weights[200:]})
    assert outcome(along) is Outcome.NOISE_LIMITED
    value, lower, upper = row(along, "vertex")
    assert abs(value - 0.5) < 4 * (upper - lower) / (2 * 1.96)
    # along the gradients, which are not the steps, it does not
    assert not 0.4 < row(gradient_cosines(taken[200:], other[200:]), "vertex")[0] < 0.6


def test_trial_losses_give_the_same_vertex():
    taken, _, weights = run(5, 600, settled)
    before = weights + RATE * taken
    trial = RATE * np.array([0.0, 0.5, 1.0, 2.0])
    moved = before[:, None] - trial[:, None] * taken[:, None]
    losses = 0.5 * np.sum(CURVATURE * moved**2, axis=-1) + 3.0
    found = half_rate_vertex(losses, trial, RATE)
    assert outcome(found) is Outcome.NOISE_LIMITED
    # the population loss is known here: the vertex is a ratio of two sums
    slope, bend = np.sum(CURVATURE * before * taken), np.sum(CURVATURE * taken**2)
    assert row(found, "vertex")[0] == pytest.approx(slope / bend / RATE, rel=1e-10)
    again = diagnose(
        xr.Dataset({"trial_loss": (("step", "trial"), losses)}, {"trial": trial}), learning_rate=RATE
    )  # fmt: skip
    xr.testing.assert_equal(again, found)
    assert again.missing.startswith("Gradient cosines need")


@given(scale=st.floats(-6, 6).map(lambda e: 10**e), shift=st.floats(-5, 5))
def test_the_vertex_has_no_units(scale, shift):
    random = np.random.default_rng(0)
    trial = np.array([0.0, 0.1, 0.25])
    losses = (trial - random.normal(0.06, 0.02, (60, 1))) ** 2
    one = half_rate_vertex(losses, trial, 0.1)
    other = half_rate_vertex(scale * (losses + shift * 0.01), trial, 0.1)
    np.testing.assert_allclose(one.estimate, other.estimate, rtol=1e-8)
    np.testing.assert_allclose(one.upper, other.upper, rtol=1e-6)


def test_intervals_are_the_same_for_the_same_seed_and_differ_for_another():
    taken, other, _ = run(6, 200, settled)
    xr.testing.assert_identical(gradient_cosines(taken, other, seed=1), gradient_cosines(taken, other, seed=1))
    assert not gradient_cosines(taken, other, seed=1).equals(gradient_cosines(taken, other, seed=2))


def test_losses_without_curvature_have_no_vertex():
    random = np.random.default_rng(0)
    losses = random.normal(size=(60, 3))
    found = diagnose({"trial_loss": losses, "trial": [0.0, 0.1, 0.2]}, learning_rate=0.1)
    assert outcome(found) is Outcome.UNDECIDED
    assert int(found.identifiable.sel(quantity="vertex")) == 0
    assert "cannot be told from 0" in found.reason


def reshuffled(seed, *, epochs, batches=10, momentum=0.0):
    """The same, where every epoch goes through a fixed set of batches; the other batch is any of them, drawn afresh."""
    random = np.random.default_rng(seed)
    center = random.normal(size=(batches, CURVATURE.size)) / np.sqrt(CURVATURE)
    center -= center.mean(axis=0)
    error, velocity, records = np.zeros(CURVATURE.size), np.zeros(CURVATURE.size), []
    for _ in range(epochs):
        for batch in random.permutation(batches):
            taken, other = CURVATURE * (error - center[[batch, random.integers(batches)]])
            velocity = momentum * velocity + taken
            error = error - RATE * velocity
            records.append((taken, other, error))
    return (np.array(rows)[20 * batches :] for rows in zip(*records, strict=True))


def test_a_reshuffled_run_in_balance_is_no_rising_loss():
    for seed in (0, 3):
        taken, other, weights = reshuffled(seed, epochs=420)
        found = gradient_cosines(taken, other)
        assert outcome(found) in (Outcome.NOISE_LIMITED, Outcome.UNDECIDED)
        value, lower, upper = row(found, "vertex")
        assert abs(value - 0.5) < 4 * (upper - lower) / (2 * 1.96)
        assert "Batches of consecutive steps are not independent" in found.notes
        along = diagnose({"gradient": taken, "independent_gradient": other, "weights": weights})
        assert outcome(along) is not Outcome.LOSS_RISING
        assert "not independent" in along.notes
    # the slope from the batch of the next step, which has not seen the one of this step, is another number
    after = np.einsum("tp,tp->t", taken[1:], taken[:-1]).mean()
    fresh = np.einsum("tp,tp->t", other[1:], taken[:-1]).mean()
    assert after < 1.2 * fresh < 0
    assert gradient_cosines(*list(run(1, 800, settled))[:2]).notes == ""


# ---------------------------------------------------------------------------------------------------------------------
# Distances


def test_the_plateau_of_one_curvature_is_its_radius_and_gain():
    random, size, gain = np.random.default_rng(7), 60, 0.2
    path = [np.sqrt(gain / (2 - gain)) * random.normal(size=size)]
    for _ in range(4000):
        path.append((1 - gain) * path[-1] + gain * random.normal(size=size))
    path = np.array(path)
    for stride in (1, 3):
        found = distance_plateau(path[::stride], stride=stride)
        for name, truth in (("plateau", 2 * size * gain / (2 - gain)), ("gain", gain)):
            value, lower, upper = row(found, name)
            assert abs(value - truth) < 4 * (upper - lower) / (2 * 2.2)
            assert upper - lower < 0.2 * truth


@pytest.mark.parametrize(
    ("gain", "stride"), [(0.8, 1), (1.0, 1), (1.5, 1), (1.5, 3), (1.9, 1), (0.36, 0.5), (0.09, 2.5)]
)
def test_iterates_that_overshoot_and_steps_of_any_length_have_their_gain(gain, stride):
    random, size = np.random.default_rng(3), 100
    whole = stride == int(stride)
    one = gain if whole else 1 - (1 - gain) ** stride
    path = [np.sqrt(one / (2 - one)) * random.normal(size=size)]
    for _ in range(800 * (stride if whole else 1)):
        path.append((1 - one) * path[-1] + one * random.normal(size=size))
    path = np.array(path)[:: stride if whole else 1]
    by_steps = diagnose({"weights": path, "step": stride * np.arange(float(len(path)))})
    for found in (distance_plateau(path, stride=stride), by_steps):
        for name, truth in (("plateau", 2 * size * one / (2 - one)), ("gain", gain)):
            value, lower, upper = row(found, name)
            assert abs(value - truth) < 4 * (upper - lower) / (2 * 2.2)
            assert 0 < upper - lower < 0.3 * truth


def test_an_even_number_of_steps_hides_which_side_of_1_a_gain_lies_on():
    random, path = np.random.default_rng(3), [np.zeros(50)]
    for _ in range(1600):
        path.append(-0.5 * path[-1] + 1.5 * random.normal(size=50))
    found = distance_plateau(np.array(path)[::2], stride=2)
    assert row(found, "gain")[0] == pytest.approx(0.5, abs=0.05)
    assert found.meaning.sel(quantity="gain").item().endswith("taken to be at most 1")


def test_a_plateau_that_was_not_reached_is_not_identifiable():
    random = np.random.default_rng(8)
    for path in (
        np.cumsum(random.normal(size=(500, 20)), axis=0),  # a random walk
        np.linspace(0, 1, 500)[:, None] * np.ones(20) + 1e-3 * random.normal(size=(500, 20)),  # a drift
    ):
        found = distance_plateau(path)
        assert found.identifiable.values.tolist() == [0, 0]
        assert row(found, "plateau")[2] == np.inf


# ---------------------------------------------------------------------------------------------------------------------
# Loss curves


@pytest.mark.parametrize("exponent", [0.05, 0.5, 1.0, 3.7, 25.0, 150.0])
def test_the_relaxation_is_its_integral(exponent):
    times = np.array([0.0, 1e-6, 0.3, 1.0, exponent, exponent + 1, exponent + 1.01, 3 * exponent + 5, 1e4])
    for time, value in zip(times, power_law_relaxation(times, exponent), strict=True):
        with mpmath.workdps(40):  # h^k is uniform: h = u^(1/k)
            k, t = mpmath.mpf(exponent), mpmath.mpf(float(time))
            exact = 1 if time == 0 else k * mpmath.gammainc(k, 0, t) / t**k
        assert value == pytest.approx(float(exact), rel=2e-12)
    by_quadrature = mpmath.quad(lambda u: mpmath.exp(-2 * u ** (1 / mpmath.mpf(exponent))), [0, 0.01, 0.5, 1])
    assert float(power_law_relaxation(2.0, exponent)) == pytest.approx(float(by_quadrature), rel=1e-7)


def test_the_relaxation_of_many_modes_is_the_power_law():
    exponent, modes = 0.8, 200_000
    curvature = ((np.arange(modes) + 0.5) / modes) ** (1 / exponent)
    for time in (0.5, 5.0, 50.0):
        assert power_law_relaxation(time, exponent) == pytest.approx(np.exp(-time * curvature).mean(), rel=1e-4)


def curve(steps, *, level=0.1, height=0.9, exponent=0.8, rate=0.2, noise=0.003, seed=0):
    clean = level + height * power_law_relaxation(rate * steps, exponent)
    return clean + noise * np.random.default_rng(seed).normal(size=steps.size)


def test_a_full_curve_gives_level_height_exponent_and_rate():
    steps = np.arange(3000.0)
    found = fit_loss_curve(steps, curve(steps))
    assert (found.identifiable == 1).all()
    for name, truth in (("level", 0.1), ("height", 0.9), ("exponent", 0.8), ("rate", 0.2)):
        value, lower, upper = row(found, name)
        assert lower < value < upper
        assert abs(value - truth) < 4 * (upper - lower) / (2 * 1.96)
        assert upper - lower < 0.3 * truth


# powers of two divide without rounding, which may put a record into the next bin
@pytest.mark.parametrize(
    ("unit", "size", "tolerance"), [(2.0**-40, 1.0, 1e-9), (2.0**40, 2.0**20, 1e-9), (1e-3, 10.0, 5e-3)]
)
def test_a_curve_has_no_units(unit, size, tolerance):
    steps = np.arange(400.0)
    one, other = fit_loss_curve(steps, curve(steps)), fit_loss_curve(unit * steps, size * curve(steps))
    units = np.array([size, size, 1.0, 1 / unit])
    for column in ("estimate", "lower", "upper"):
        np.testing.assert_allclose(other[column], units * one[column], rtol=tolerance)


def test_a_curve_is_put_in_order_and_what_is_masked_is_left_out():
    steps = np.arange(300.0)
    loss = curve(steps)
    whole = fit_loss_curve(steps, loss)
    newest = fit_loss_curve(steps[::-1], loss[::-1])
    np.testing.assert_array_equal(newest.estimate, whole.estimate)
    assert "newest first" in newest.notes
    spoiled = np.ma.masked_array(np.append(loss, [9.0] * 60), np.append(np.zeros(300), np.ones(60)))
    np.testing.assert_array_equal(fit_loss_curve(np.arange(360.0), spoiled).estimate, whole.estimate)


def test_a_curve_without_noise_is_fitted_closely():
    steps = np.arange(0.0, 2000.0, 7.0)
    found = fit_loss_curve(steps, curve(steps, noise=0.0, exponent=1.3))
    # bins blur the steepest part
    assert found.estimate.values == pytest.approx([0.1, 0.9, 1.3, 0.2], rel=0.03)


def test_what_a_piece_of_a_curve_does_not_tell_is_not_identifiable():
    def named(steps, **law):
        found = fit_loss_curve(steps, curve(steps, **law))
        return {str(name) for name in found.quantity.values if not int(found.identifiable.sel(quantity=name))}

    late, early, flat = np.arange(5000.0, 8000.0), np.arange(15.0), np.arange(2000.0)
    assert {"height", "rate"} <= named(late)
    assert {"level"} <= named(early)
    assert {"height", "exponent", "rate"} <= named(flat, height=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Whole runs


def test_a_loss_that_falls_is_descent_and_a_flat_one_is_nothing():
    steps = np.arange(400.0)
    random = np.random.default_rng(9)
    falling = diagnose({"step": steps, "loss": 2 - 0.001 * steps + 0.05 * random.normal(size=400)})
    assert outcome(falling) is Outcome.STILL_DESCENDING
    assert row(falling, "loss_change")[0] == pytest.approx(-0.4, abs=0.05)
    assert outcome(diagnose({"loss": 2 + 0.001 * steps})) is Outcome.LOSS_RISING
    flat = diagnose({"loss": 2 + 0.05 * random.normal(size=400)})
    assert outcome(flat) is Outcome.UNDECIDED
    assert "slow descent and balance have in common" in flat.reason
    assert "The vertex from slopes needs 'slope_before' and 'slope_after'" in flat.missing
    assert outcome(diagnose({"loss": [1.0, 2.0]})) is Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("steps", "note"),
    [
        (np.arange(400), ""),
        (np.tile(np.arange(100), 4), "fall back to their start 3 times"),
        (np.append(np.arange(300), np.arange(100)), "fall back to their start once"),
        (np.arange(400)[::-1], "newest first"),
        (np.random.default_rng(0).permutation(400), "out of order"),
    ],
)
def test_a_loss_that_falls_does_so_in_whatever_way_its_steps_are_written(steps, note):
    loss = np.linspace(2, 1.5, 400) + 0.01 * np.random.default_rng(1).normal(size=400)
    loss = loss[steps] if note in ("newest first", "out of order") else loss
    found = diagnose({"step": steps, "loss": loss})
    assert outcome(found) is Outcome.STILL_DESCENDING
    value, lower, upper = row(found, "loss_change")
    assert lower < value < upper
    assert value == pytest.approx(-0.5, abs=0.02)
    assert note in found.notes


def test_what_is_masked_is_missing_and_no_number_to_the_end_is_divergence():
    random = np.random.default_rng(2)
    loss = 2 - 0.001 * np.arange(300) + 0.02 * random.normal(size=300)
    spoiled = np.append(loss, np.full(60, 50.0))
    masked = diagnose({"loss": np.ma.masked_array(spoiled, spoiled > 10)})
    alone = diagnose({"loss": loss})
    xr.testing.assert_identical(masked.drop_attrs(), alone.drop_attrs())
    assert "60 records have no loss: skipped." in masked.notes
    for end in (np.nan, np.inf):
        wild = diagnose({"loss": np.append(loss, np.full(60, end))})
        assert outcome(wild) is Outcome.DIVERGED
    gap = loss.copy()
    gap[100] = np.nan
    assert outcome(diagnose({"loss": gap})) is Outcome.STILL_DESCENDING
    assert outcome(diagnose({"weights": np.append(np.ones((3, 2)), [[np.nan, np.nan]], axis=0)})) is Outcome.DIVERGED


def test_a_bent_curve_falls_and_a_slow_wandering_does_not_tell():
    steps = np.arange(2000.0)
    for noise in (0.0, 0.003):
        assert outcome(diagnose({"loss": curve(steps, noise=noise, exponent=0.5)})) is Outcome.STILL_DESCENDING
    random = np.random.default_rng(4)
    found = diagnose({"loss": 2 + 0.05 * np.cumsum(random.normal(size=400))})
    assert outcome(found) is Outcome.UNDECIDED
    assert row(found, "loss_change")[1:] == (-np.inf, np.inf)
    assert int(found.identifiable.sel(quantity="loss_change")) == 0
    assert "wanders too slowly" in found.reason


def test_a_run_of_the_trainer_is_read_as_it_is(tmp_path):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(64, 3))
    net = network([3, 1], "linear", biases=False, seed=0)
    arguments = {
        "loss": "mse",
        "batch_size": 4,
        "replacement": True,
        "label_noise": 1.0,
        "record": np.arange(801),
        "seed": 0,
    }
    data = trained(net, inputs, inputs @ [1.0, -1.0, 0.5], constant(0.1, 800), keep_weights=True, **arguments)
    found = diagnose(data.isel(step=slice(100, None)))
    assert list(found["quantity"].values) == ["loss_change", "plateau", "gain"]
    assert outcome(found) is Outcome.UNDECIDED
    assert int(found.identifiable.sel(quantity="plateau")) == 1
    path = tmp_path / "run.csv"
    path.write_text("step,loss\n" + "".join(f"{s},{v}\n" for s, v in enumerate(data.loss.values)), encoding="utf-8")
    assert outcome(diagnose(path)) is outcome(diagnose(data[["loss"]]))
    wild = trained(net, inputs, inputs @ [1.0, -1.0, 0.5], constant(1e200, 8), **{**arguments, "record": [0, 4, 8]})
    assert outcome(diagnose(wild)) is Outcome.DIVERGED


def test_missing_records_are_named_with_what_they_would_tell():
    taken, other, weights = run(10, 300, settled)
    everything = diagnose({"gradient": taken, "independent_gradient": other, "weights": weights, "loss": np.ones(300)})
    assert everything.missing == ""
    assert set(everything["quantity"].values) == {
        "vertex", "consecutive_cosine", "independent_cosine", "plateau", "gain", "loss_change",
    }  # fmt: skip
    gaps = xr.Dataset({"gradient": (("step", "parameter"), taken)}, {"step": np.arange(0, 600, 2)})
    found = diagnose(gaps)
    assert found.sizes["quantity"] == 0
    assert "consecutive steps" in found.missing
    assert found.reason == "Nothing that was recorded tells descent from balance."


def test_a_diagnosis_survives_a_file_and_a_table(tmp_path):
    taken, other, _ = run(11, 300, settled)
    found = diagnose({"gradient": taken, "independent_gradient": other})
    found.to_netcdf(tmp_path / "found.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "found.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read.load(), found)
    assert json.loads(json.dumps(found.drop_vars("outcome").to_dict()))["attrs"]["verdict"] == found.verdict
    assert found[["estimate", "lower", "upper"]].to_dataframe().shape == (3, 4)


@pytest.mark.parametrize(
    ("run_given", "message"),
    [
        ({"speed": [1.0]}, "run must be a Dataset, a mapping of arrays"),
        ({"gradient": [1.0, 2.0]}, "run must be a run whose 'gradient' has 2 axes"),
        ({"weights": [[1.0], [np.nan], [1.0]]}, "run must be a run whose 'weights' has no gaps"),
        ({"weights": np.ma.masked_array([[1.0], [2.0]], [[0], [1]])}, "run whose 'weights' has no masked entries"),
        ({"loss": [1.0, 2.0], "step": [0.0, np.nan]}, r"step must be .*, got nan at index \(1,\)"),
        ({"loss": [1.0, 2.0], "step": [4.0, 4.0]}, "step must be .* and so not all the same"),
        ({"loss": [1.0, 2.0], "slope_before": [1.0]}, "run must be a run of records of one length"),
        (xr.Dataset({"loss": ("time", [1.0])}), r"run must be a run whose 'loss' has the dims \('step',\)"),
        ("run.doc", "run must be the path of a log that ends in"),
    ],
)
def test_what_is_no_run_says_why(run_given, message):
    with pytest.raises(ValueError, match=message):
        diagnose(run_given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss\n", "run must be a log that holds a table with headings and at least one row"),
        ("loss\n1\na\n", "run must be a log that holds numbers in the column 'loss' in row 2: run.csv, got 'a'"),
    ],
)
def test_files_that_are_no_runs_say_why(tmp_path, text, message):
    (tmp_path / "run.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        diagnose(tmp_path / "run.csv")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: half_rate_vertex(np.ones((4, 2)), [0.0, 0.1], 0.1), "trial_rate must be at least three different"),
        (lambda: half_rate_vertex([[1.0, 0.0, 1.0]], [0.0, 0.1, 0.2], 0.1), "loss must be of at least two steps"),
        (lambda: gradient_cosines(np.ones((2, 3)), np.ones((2, 3))), "gradient must be at least three consecutive"),
        (lambda: distance_plateau(np.ones((20, 2))), "weights must be at least 40 records"),
        (lambda: distance_plateau(np.ones((50, 2))), "weights must be iterates that move"),
        (lambda: fit_loss_curve(np.arange(20) - 1, np.ones(20)), "step must be >= 0, got -1.0"),
        (lambda: half_rate_vertex(np.ma.masked_less(np.eye(4, 3), 0.5), [0.0, 0.1, 0.2], 0.1), "none of them masked"),
        (lambda: fit_loss_curve(np.arange(20), -np.ones(20)), "loss must be >= 0"),
    ],
)
def test_records_that_are_too_short_say_so(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_the_shortest_records_are_undecided(steps):
    taken, other, weights = run(12, steps, settled)
    for records in ({}, {"weights": weights}):
        found = diagnose({"gradient": taken, "independent_gradient": other, "loss": np.ones(steps), **records})
        assert outcome(found) is Outcome.UNDECIDED
    if steps > 2:
        assert not np.isnan(gradient_cosines(taken, other).estimate).any()


PROOFS: dict[str, object] = {}  # the stem has no formula that takes symbols


def test_every_exact_symbolic_formula_of_diagnosis_is_proved():
    of_stem = [formula for formula in sgdynamics.formulas(kind="formula") if formula.stem == "diagnosis"]
    assert of_stem
    assert {formula.__name__ for formula in of_stem if formula.status == "exact" and formula.symbolic} == set(PROOFS)
