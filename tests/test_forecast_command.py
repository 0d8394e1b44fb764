"""The commands that read loss curves: what they foretell is the library's, and what they cannot read is said."""

import json

import numpy as np
import pytest
from plain_forecast import DECAYED, PLATEAU, RECORD, TRUE, WARMUP, law

from sgdynamics.checkpoints import merge
from sgdynamics.cli import main
from sgdynamics.models.schedules import constant, cosine, linear
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.forecast import best_schedule, fit, predict, quadratic_at
from sgdynamics.theory.quadratic import moments

UNIT = 3e-4
# of a run that has come near its plateau of noise, where merges pay
NOISY = TRUE | {"start": 2.0, "noise": 0.03}
MADE = {"plateau": PLATEAU, "decayed": DECAYED}


@pytest.fixture(scope="module")
def curves():
    random = np.random.default_rng(5)
    return {
        name: law(rates, RECORD, **NOISY) * np.exp(1e-4 * random.normal(size=RECORD.size))
        for name, rates in MADE.items()
    }


@pytest.fixture
def logs(tmp_path, curves):
    """Two logs with step, loss and learning rate."""
    paths = []
    for name, loss in curves.items():
        paths.append(tmp_path / f"{name}.csv")
        rows = zip(RECORD, loss, UNIT * MADE[name][RECORD - 1], strict=True)
        lines = [f"{step},{one},{rate}" for step, one, rate in rows]
        paths[-1].write_text("step,loss,lr\n" + "\n".join(lines) + "\n")
    return [str(path) for path in paths]


def answer(capsys, *words):
    assert main([*map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *words):
    try:
        status = main([*map(str, words)])
    except SystemExit as leaving:
        status = leaving.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err


# ---------------------------------------------------------------------------------------------------------------------
# forecast


def test_another_batch_size_is_an_assumption_and_said_to_be_one(capsys, logs):
    asked = ["forecast", *logs, "--warmup", 100, "--predict", "constant:6000:3e-4", "--batch-size", 32]
    plain, larger = (
        json.loads(answer(capsys, *asked, "--at-batch-size", size, "--json"))["forecast"]["constant:6000:3e-4"]
        for size in (32, 128)
    )
    halved = law(np.r_[WARMUP, constant(1.0, 5900)], [6000], **NOISY | {"noise": NOISY["noise"] / 4})[0]
    assert larger["loss"][-1] == pytest.approx(halved, abs=0.01)
    assert plain["loss"][-1] > larger["loss"][-1] + 0.05
    assert "batch size is" not in answer(capsys, *asked[:-2])
    assert "batch size is 4 times that of the runs" in answer(capsys, *asked, "--at-batch-size", 128)
    assert "--batch-size" in refused(capsys, *asked[:-2], "--at-batch-size", 128)
    assert "does nothing with --best" in refused(
        capsys, "forecast", *logs, "--best", 100, "--batch-size", 1, "--at-batch-size", 2
    )


def test_what_one_more_run_would_tell_of_a_decay(capsys, logs):
    asked = ["forecast", logs[0], "--warmup", 100, "--predict", "linear:6000:3e-4", "--next"]
    told = json.loads(answer(capsys, *asked, "--json"))["next"]["linear:6000:3e-4"]
    widths = dict(zip(told["candidate"], told["half_width"], strict=True))
    assert widths["to a tenth over the last half"] < 0.5 * widths["the plateau, twice as long"]
    assert max(widths.values()) <= told["half_width_now"]
    said = answer(capsys, *asked)
    assert said.index("to a tenth over the last half") < said.index("the plateau, twice as long")
    assert "does nothing with --best" in refused(capsys, "forecast", *logs, "--best", 100, "--next")


@pytest.mark.parametrize(
    ("idle", "needed"),
    [
        (["--peak", 1.0], "--best"),
        (["--output", "rates.txt"], "--best"),
        (["--batch-size", 32], "--at-batch-size"),
        (["--plot", "f.png", "--next"], "a forecast in place of --next"),
        (["--at-batch-size", 64, "--batch-size", 32, "--next"], "a forecast in place of --next"),
    ],
)
def test_an_option_of_forecast_that_would_do_nothing_is_refused_by_name(capsys, logs, idle, needed):
    said = refused(capsys, "forecast", *logs, "--warmup", 100, "--predict", "constant:6000:3e-4", *idle)
    assert idle[0] in said
    assert needed in said


def test_schedules_in_words_are_foretold_with_their_intervals(capsys, logs, curves):
    said = answer(
        capsys, "forecast", *logs, "--warmup", 100, "--predict", "cosine:6000:3e-4", "--predict", "constant:6000:3e-4"
    )
    assert "cosine:6000:3e-4" in said
    found = json.loads(answer(capsys, "forecast", *logs, "--warmup", 100, "--predict", "cosine:6000:3e-4", "--json"))
    course = found["forecast"]["cosine:6000:3e-4"]
    last = {name: course[name][-1] for name in ("loss", "loss_low", "loss_high")}
    truth = law(np.r_[WARMUP, cosine(1.0, 5900)], [6000], **NOISY)[0]
    assert abs(last["loss"] - truth) < 0.01
    assert last["loss_low"] < last["loss"] < last["loss_high"]


def test_a_schedule_from_a_file_is_the_one_in_words(capsys, logs, tmp_path):
    rates = np.r_[UNIT * WARMUP, linear(UNIT, 900)]
    (tmp_path / "next.txt").write_text("\n".join(map(repr, rates.tolist())))
    from_file = json.loads(
        answer(capsys, "forecast", *logs, "--warmup", 100, "--schedule", tmp_path / "next.txt", "--json")
    )
    said = json.loads(answer(capsys, "forecast", *logs, "--warmup", 100, "--predict", "linear:1000:3e-4", "--json"))
    ends = [next(iter(found["forecast"].values()))["loss"][-1] for found in (from_file, said)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)


def test_the_best_schedule_is_the_librarys_and_may_be_written(capsys, logs, tmp_path):
    output = tmp_path / "best.txt"
    found = json.loads(
        answer(capsys, "forecast", *logs, "--best", 500, "--peak", UNIT, "--warmup", 50, "--output", output, "--json")
    )
    written = np.loadtxt(output)
    np.testing.assert_array_equal(written, found["best"]["learning_rate"])
    assert written.size == 500
    assert (np.diff(written[50:]) <= 1e-12).all()
    assert "rule" in found["best"]
    people = answer(capsys, "forecast", *logs, "--best", 500, "--peak", UNIT)
    assert "cosine" in people
    assert "linear" in people


def test_a_picture_is_drawn(capsys, logs, tmp_path):
    picture = tmp_path / "forecast.png"
    answer(capsys, "forecast", *logs, "--predict", "cosine:5000:3e-4", "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_rates_may_be_said_and_one_of_several_runs_in_a_file_chosen(capsys, tmp_path, curves, logs):
    both = tmp_path / "both.csv"
    lines = [f"{step},{one},{other}" for step, one, other in zip(RECORD, *curves.values(), strict=True)]
    both.write_text("Step,plateau - loss,decayed - loss\n" + "\n".join(lines) + "\n")
    words = ["--rates", "constant:4000:3e-4", "--warmup", 100, "--predict", "constant:5000:3e-4", "--json"]
    chosen = json.loads(answer(capsys, "forecast", both, "--column", "plateau - loss", *words))
    alone = json.loads(answer(capsys, "forecast", logs[0], *words))
    np.testing.assert_allclose(
        chosen["forecast"]["constant:5000:3e-4"]["loss"], alone["forecast"]["constant:5000:3e-4"]["loss"], rtol=1e-9
    )
    assert "--column" in refused(capsys, "forecast", both, *words)


def test_two_runs_of_one_file_are_fitted_together(capsys, tmp_path, curves, logs):
    both = tmp_path / "both.csv"
    rates = [UNIT * MADE[name][RECORD - 1] for name in curves]
    lines = [",".join(map(str, cells)) for cells in zip(RECORD, *curves.values(), *rates, strict=True)]
    both.write_text("Step,plateau - loss,decayed - loss,plateau - lr,decayed - lr\n" + "\n".join(lines) + "\n")
    asked = ["--predict", "constant:5000:3e-4", "--json"]
    together = json.loads(answer(capsys, "forecast", both, both, "--column", "plateau", "--column", "decayed", *asked))
    apart = json.loads(answer(capsys, "forecast", *logs, *asked))
    found, expected = (one["forecast"]["constant:5000:3e-4"]["loss"] for one in (together, apart))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    said = refused(capsys, "forecast", both, both, both, "--column", "plateau", "--column", "decayed", *asked)
    assert "--column must be given once, or once a run, got 2 for 3 runs" in said


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("step,lr,loss\n" + "".join(f"{k},-.1,2\n" for k in range(1, 30)), "second.csv: schedule must be"),
        ("step,lr,loss\n1,.1,2\n2,.1,1\n", "second.csv: loss must be at least 12 numbers"),
        ("step,lr,loss\n1,.1,2\n2,.1,inf\n", "second.csv: the loss must be finite, to be fitted, got inf at step 2"),
        ("step,lr,loss\n1,.1,2\n4000000000000,.1,1\n", "second.csv: its steps must be updates, at most 100000000"),
        ("step,lr,loss\n1.5,.1,2\n2,.1,1\n", "got 1.5, in second.csv"),
        ("step,lr,ce loss,z loss\n1,.1,2,1\n", "they all fit, got None, in second.csv"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_of_its_file(capsys, tmp_path, logs, second, said):
    path = tmp_path / "second.csv"
    path.write_text(second)
    assert said in refused(capsys, "forecast", logs[0], path, "--predict", "constant:5000:3e-4")


def test_what_is_missing_is_said(capsys, tmp_path, logs):
    nameless = tmp_path / "nameless.csv"
    nameless.write_text("step,accuracy\n1,0.5\n2,0.6\n")
    said = refused(capsys, "forecast", nameless, "--predict", "constant:100:0.1")
    assert "accuracy" in said
    bare = tmp_path / "bare.csv"
    bare.write_text("step,loss\n" + "\n".join(f"{step},{3 - step / 1000}" for step in range(10, 200, 10)))
    assert "--rates" in refused(capsys, "forecast", bare, "--predict", "constant:100:0.1")
    one = refused(capsys, "forecast", logs[0], "--predict", "cosine:5000:3e-4")
    assert "then down to a tenth over as many steps" in one


# ---------------------------------------------------------------------------------------------------------------------
# The law as a quadratic, and the plan that it makes


@pytest.fixture(scope="module")
def fitted():
    random = np.random.default_rng(0)
    true = NOISY | {"following": 0.0, "early": 1e-6}
    return fit(
        [
            (UNIT * rates, RECORD, law(rates, RECORD, **true) * np.exp(1e-6 * random.normal(size=RECORD.size)))
            for rates in MADE.values()
        ]
    )


def test_where_noise_is_additive_the_quadratic_goes_on_as_the_law(fitted):
    history, ahead = UNIT * PLATEAU[:2000], UNIT * np.r_[constant(1.0, 300), linear(1.0, 700, final=0.02)]
    model = quadratic_at(fitted, history)
    floor = fitted.estimate.sel(quantity="floor").item()
    law_says = predict(fitted, np.r_[history, ahead], record=np.array([2000, 2100, 2300, 2600, 3000])).loss.values
    record = np.array([0, 100, 300, 600, 1000])
    model_says = floor + moments(model, ahead, record=record).excess_risk.values
    np.testing.assert_allclose(model_says, law_says, rtol=3e-4)
    # and an average of the iterates to come
    average = np.zeros(1001)
    average[200::50] = 1 / 17
    over_all = np.r_[np.zeros(2000), average]
    law_says = predict(fitted, np.r_[history, ahead], average=over_all).loss.item()
    model_says = floor + moments(model, ahead, average=average).excess_risk.item()
    assert model_says == pytest.approx(law_says, rel=1e-3)
    assert law_says < predict(fitted, np.r_[history, constant(UNIT, 1000)]).loss.item()


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_the_sharpest_mode_of_the_quadratic_is_at_its_minimum_in_one_step_of_the_largest_rate(fitted, times):
    model = quadratic_at(fitted, times * UNIT * PLATEAU[:500])
    assert times * UNIT * model.curvature.max() == pytest.approx(1, rel=1e-12)


def test_the_quadratic_asks_for_a_rate_to_go_on_with(fitted):
    with pytest.raises(ValueError, match="quadratic_at: schedule must end at a rate > 0"):
        quadratic_at(fitted, np.r_[UNIT * PLATEAU[:100], 0.0])


def test_a_plan_with_loss_curves_says_losses(capsys, logs):
    steps = list(range(2000, 3001, 200))
    line = ["plan", "--base-learning-rate", UNIT, "--checkpoints", *steps, "--fit", *logs, "--warmup", 100]
    found = json.loads(answer(capsys, *line, "--json"))
    merged, decayed, last = (found["loss"][name] for name in ("merged", "target", "base"))
    assert merged[0] < last[0]
    assert merged[1] < merged[0] < merged[2]
    truth = law(np.r_[PLATEAU[:2000], linear(1.0, 1000)], [3000], **NOISY)[0]
    assert abs(decayed[0] - truth) < 0.01
    assert 0.5 < found["gain_kept"] <= 1.2
    said = answer(capsys, *line)
    assert "loss foretold" in said
    assert "decayed run" in said


def test_a_plan_with_loss_curves_asks_for_what_it_needs(capsys, logs):
    line = ["plan", "--base-learning-rate", UNIT, "--fit", *logs]
    assert "--checkpoints" in refused(capsys, *line, "--steps", 100)
    assert "holds --base-learning-rate" in refused(capsys, *line, "--checkpoints", 9000, 9100)
    assert "--log-uniform" in refused(capsys, *line, "--checkpoints", 2000, 2100, "--log-uniform", 0.1, 1)
    assert "--momentum" in refused(capsys, *line, "--checkpoints", 2000, 2100, "--momentum", 0.9)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--warmup", 5), ("--rates", "constant:9:1"), ("--column", "a"), ("--step-column", "a"), ("--rate-column", "a")],
)
def test_what_is_said_of_logs_goes_with_logs(capsys, option, value):
    said = refused(capsys, "plan", "--base-learning-rate", 0.1, "--steps", 9, option, value)
    assert f"{option} goes with --fit RUN" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [("--smallest", 0.1), ("--kind", "density"), ("--dimension", 9), ("--center-variance", 1), ("--batch-size", 8)],
)
def test_what_is_said_of_a_spectrum_goes_with_a_spectrum(capsys, logs, option, value):
    line = ["plan", "--base-learning-rate", UNIT, "--checkpoints", 2000, 2100, "--warmup", 100, "--fit", *logs]
    assert f"{option} goes with --spectrum FILE or" in refused(capsys, *line, option, value)


def test_what_was_guessed_of_logs_is_said_with_the_plan(capsys, logs, tmp_path):
    # a resume: the later records win, which is said
    lines = (tmp_path / "plateau.csv").read_text().splitlines()
    (tmp_path / "plateau.csv").write_text("\n".join([*lines, *lines[-5:]]) + "\n")
    line = ["plan", "--base-learning-rate", UNIT, "--checkpoints", 2000, 2100, "--warmup", 100, "--fit", *logs]
    said, found = answer(capsys, *line), json.loads(answer(capsys, *line, "--json"))
    assert found["notes"]
    assert all(note in " ".join(said.split()) for note in found["notes"])
    assert any("plateau.csv" in note for note in found["notes"])
    # the law knows that the run still descends; a guessed spectrum does not
    assert "a run that still descends" not in said
    assert "a run that still descends" in answer(capsys, "plan", "--base-learning-rate", 0.1, "--steps", 9)


def test_a_real_merge_has_the_loss_foretold(tmp_path, fitted):
    # checkpoints of many replicas of the quadratic, merged as files, the loss of the merged points measured
    history = UNIT * PLATEAU[:2000]
    model = quadratic_at(fitted, history)
    steps, replicas = np.arange(0, 401, 100), 2000
    runs = ensemble(model, constant(UNIT, 400), replicas=replicas, record=steps, seed=3).error.values
    paths = []
    for place, step in enumerate(steps):
        paths.append(str(tmp_path / f"checkpoint-{step}.npz"))
        np.savez(paths[-1], error=runs[:, place])
    weights = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
    merge(paths, weights, tmp_path / "merged.npz")
    merged = np.load(tmp_path / "merged.npz")["error"]
    risk = 0.5 * (merged**2 @ np.asarray(model.curvature))
    average = np.zeros(2401)
    average[2000 + steps] = weights
    floor = fitted.estimate.sel(quantity="floor").item()
    foretold = predict(fitted, np.r_[history, constant(UNIT, 400)], average=average).loss.item() - floor
    exact = moments(model, constant(UNIT, 400), average=average[2000:]).excess_risk.item()
    assert abs(risk.mean() - exact) < 4 * risk.std(ddof=1) / np.sqrt(replicas)
    assert foretold == pytest.approx(exact, rel=2e-2)


@pytest.mark.parametrize("steps", [24, 400, pytest.param(100, marks=pytest.mark.slow)])
def test_the_best_schedule_is_that_of_a_search_of_another_kind(fitted, steps):
    # cut into stretches of one rate, each moved on its own until nothing helps: coordinate descent on the law
    found = best_schedule(fitted, steps, peak=UNIT)
    floor = fitted.estimate.sel(quantity="floor").item()
    own = predict(fitted, found.learning_rate.values).loss.item() - floor
    rates = np.full(steps, UNIT)
    best = predict(fitted, rates).loss.item()
    pieces = np.array_split(np.arange(steps), min(steps, 24))
    for share in (0.5, 0.1, 0.02):
        for _ in range(3):
            for piece in pieces[::-1]:
                for factor in (1 - share, 1 + share):
                    tried = rates.copy()
                    tried[piece] = np.minimum(tried[piece] * factor, UNIT)
                    value = predict(fitted, tried).loss.item()
                    if value < best:
                        best, rates = value, tried
    assert own <= (best - floor) * (1 + 1e-4)
