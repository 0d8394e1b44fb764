"""Logs of every usual format, read as what they are; steps in order; nothing guessed in silence."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.logs import in_order, read

LOGS = Path(__file__).parent / "logs"
LOSS = [2.5, 2.25, 2.125]

# ---------------------------------------------------------------------------------------------------------------------
# Formats


@pytest.mark.parametrize(
    ("name", "written", "step", "loss", "rate", "said"),
    [
        ("wandb.csv", "Weights & Biases", [9, 29, 39], LOSS, None, "1 record has no loss: skipped."),
        ("tensorboard.csv", "TensorBoard CSV", [10, 20, 30], LOSS, None, "loss is the column 'Value', the step 'Step'"),
        ("tensorboard.json", "TensorBoard JSON", [10, 20, 30], [2.5, 2.25, np.inf], None, "the run has diverged"),
        ("trainer_state.json", "Hugging Face", [10, 20, 30], LOSS, [3e-4, 2e-4, 1e-4], "2 records have no loss"),
        ("commas.csv", "table divided by commas", [0, 1, 2], LOSS, [0.1, 0.1, 0.05], "the learning rate 'lr'"),
        ("semicolons.csv", "table divided by semicolons", [0, 1, 2], LOSS, [0.1, 0.1, 0.05], "are decimal commas"),
        ("blanks.txt", "table divided by blanks", [0, 1, 2], LOSS, None, "begin with # are passed over"),
        ("lines.jsonl", "JSON", [1, 3], [2.5, 2.25], [0.1, 0.05], "the step '_step'"),
    ],
)
def test_a_log_is_read_and_what_was_guessed_is_said(name, written, step, loss, rate, said):
    run = read(LOGS / name)
    assert (run.format, run.step.values.tolist(), run.loss.values.tolist()) == (written, step, loss)
    assert (run.learning_rate.values.tolist() if rate else "learning_rate" not in run) == (rate or True)
    assert said in run.notes
    assert "The loss is the column" in run.notes


def test_of_several_runs_in_one_file_one_has_to_be_named():
    path = LOGS / "wandb_two_runs.csv"
    with pytest.raises(ValueError, match=r"column must be given, as one of \['calm-sea-1 - train/loss', 'red-fog-2 "):
        read(path)
    assert read(path, column="red-fog-2").loss.values.tolist() == [3.5, 3.25]
    assert read(path, column="red-fog-2 - train/loss__MAX").loss_column == "red-fog-2 - train/loss__MAX"
    with pytest.raises(ValueError, match=r"column must be given, as one of .* they all fit, got 'train/loss'"):
        read(path, column="train/loss")
    with pytest.raises(ValueError, match=r"column must be one of the columns \['calm-sea-1 - train/loss', "):
        read(path, column="blue")


def test_of_runs_in_rows_one_has_to_be_named(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("run,step,loss\na,0,3\na,1,2\nb,0,5\nb,1,4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"column must be one of the runs \['a', 'b'\] of the column 'run', got None"):
        read(path)
    run = read(path, column="b")
    assert run.loss.values.tolist() == [5.0, 4.0]
    assert "Of 2 runs in the column 'run', 'b' is read." in run.notes


def log(folder, text, name="run.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_headings_are_known_in_their_usual_spellings(tmp_path):
    steps = ["step", "Step", "global_step", "iteration", "Iter", "_step", "trainer/global_step", "num_updates"]
    losses = ["loss", "train_loss", "Train Loss", "train/loss", "Loss/train", "trainLoss", "Training loss", "nll"]
    rates = ["lr", "Learning_Rate", "train/learning_rate", "lr-AdamW", "lr_0", "learningRate", "LR", "lr-SGD/pg1"]
    for step, loss, rate in zip(steps, losses, rates, strict=True):
        run = read(log(tmp_path, f"{rate},{loss},{step},accuracy,val_loss\n.1,3,5,0,9\n.2,2,6,0,9\n"))
        assert (run.step_column, run.loss_column, run.rate_column) == (step, loss, rate)
        assert run.step.values.tolist() == [5, 6]


def test_what_cannot_be_told_is_not_guessed(tmp_path):
    path = log(tmp_path, "step,loss_a,loss_b,lr-a,lr-b\n0,1,2,.1,.2\n1,1,2,.1,.2\n")
    with pytest.raises(ValueError, match=r"column must be given, as one of \['loss_a', 'loss_b'\]"):
        read(path)
    run = read(path, column="loss_b")
    assert "learning_rate" not in run
    assert "Several columns may be the learning rate, none is taken: lr-a, lr-b." in run.notes
    assert read(path, column="loss_b", rate_column="lr-b").learning_rate.values.tolist() == [0.2, 0.2]
    two = log(tmp_path, "iteration,epoch_step,step,Steps,loss\n0,0,5,6,1\n")
    with pytest.raises(ValueError, match=r"step_column must be given, as one of \['step', 'Steps'\]"):
        read(two)
    assert read(two, step_column="iteration").step.values.tolist() == [0]


def test_a_log_without_steps_counts_from_0_and_says_so(tmp_path):
    run = read(log(tmp_path, "loss\n3\n\n2\n"))
    assert run.step.values.tolist() == [0, 1]
    assert "no column of steps: records are taken as one update apart, the first at step 0" in run.notes
    bare = read(log(tmp_path, "3\n2\n1\n"))
    assert bare.loss.values.tolist() == [3.0, 2.0, 1.0]
    assert "The file has no heading: its one column is taken as the loss." in bare.notes


def test_a_byte_order_mark_is_no_part_of_a_heading(tmp_path):
    text = "step,loss\n7,2.5\n8,2.25\n"
    plain = read(log(tmp_path, text))
    for encoding in ("utf-8-sig", "utf-16"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes(text.encode(encoding))
        xr.testing.assert_equal(read(path), plain)


def test_named_arrays_and_both_kinds_of_netcdf_hold_the_same(tmp_path):
    data = xr.Dataset({"loss": ("step", [3.0, 2.0]), "learning_rate": ("step", [0.1, 0.2])}, {"step": [4, 8]})
    np.savez(tmp_path / "run.npz", step=[4, 8], loss=[3.0, 2.0], lr=[0.1, 0.2])
    data.to_netcdf(tmp_path / "new.nc", engine="h5netcdf")
    data.to_netcdf(tmp_path / "old.nc", engine="scipy")
    for name in ("run.npz", "new.nc", "old.nc"):
        xr.testing.assert_equal(read(tmp_path / name), data)


# ---------------------------------------------------------------------------------------------------------------------
# Cells


def test_blank_cells_are_skipped_and_counted(tmp_path):
    run = read(log(tmp_path, "step,loss,lr\n0,3,.1\n1,,.1\n2,null,.1\n,2,.1\n4,-,\n5,1,\n"))
    assert run.step.values.tolist() == [0, 5]
    assert "1 record has no step: skipped." in run.notes
    assert "3 records have no loss: skipped." in run.notes
    assert "not logged with 1 of the losses: interpolated" in run.notes
    assert run.learning_rate.values.tolist() == [0.1, 0.1]


@pytest.mark.parametrize(
    ("cells", "loss"),
    [
        ("3 2 nan nan", [3, 2, np.inf, np.inf]),
        ("3 2 inf inf", [3, 2, np.inf, np.inf]),
        ("3 nan 2 nan nan", [3, 2, np.inf, np.inf]),
        ("3 nan nan 2", [3, 2]),
        ("3 nan 2 nan 1 nan", [3, 2, 1]),  # the word of this log for a gap
        ("nan nan", [np.inf, np.inf]),
    ],
)
def test_a_loss_that_is_no_number_to_the_end_has_diverged_and_one_between_is_a_gap(tmp_path, cells, loss):
    rows = "".join(f"{step},{cell}\n" for step, cell in enumerate(cells.split()))
    assert read(log(tmp_path, f"step,loss\n{rows}")).loss.values.tolist() == loss


def test_a_file_that_was_appended_to_has_its_headings_twice(tmp_path):
    run = read(log(tmp_path, "step,loss\n0,3\n1,2\nstep,loss\n1,1.5\n2,1\n"))
    assert run.loss.values.tolist() == [3.0, 1.5, 1.0]
    assert "The headings are repeated 1 times" in run.notes
    assert "1 step is recorded more than once, as after a resume: the later record is kept, 1 left out." in run.notes


def test_records_before_a_step_can_be_left_out(tmp_path):
    path = log(tmp_path, "step,loss\n0,3\n10,2\n20,1\n")
    run = read(path, from_step=10)
    assert run.step.values.tolist() == [10, 20]
    assert "1 records before step 10 are left out." in run.notes
    with pytest.raises(ValueError, match="from_step must be at most the last step 20, got 30"):
        read(path, from_step=30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,accuracy\n0,1\n", r"column must be given where no column is a loss; there are \['step', 'accuracy'\]"),
        ("step,loss\n0,low\n", r"numbers in the column 'loss' in row 1: run.csv, got 'low'"),
        (
            "step,loss\n0.5,1\n1.5,1\n",
            "step_column must be a column of whole numbers of updates, unlike 'step', got 0.5",
        ),
        ("step,loss\n2026-01-01 10:00,1\n", "numbers in the column 'step' in row 1"),
        ("step,loss\n0,1,2\n", "one cell for every heading in every row"),
        ("step,loss\n", "headings and at least one row"),
        ("", "headings and at least one row"),
        ("0,1\n1,2\n", "a table with headings, which say what its columns are"),
        ("loss,loss\n1,2\n", "a table whose headings differ"),
        ("step,loss\n0,\n1,\n", "column must be a column with at least one number"),
        ("step,loss\n5,2\n5,1\n", "step must be .* and so not all the same, got 5.0"),
        ('[{"step": 1', "JSON, or one JSON object a line"),
        ("{}", "records by name|column must be given where no column is a loss"),
        ("[1, 2]", "records by name, at least one"),
    ],
)
def test_what_is_no_log_says_why_and_lists_what_is_there(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(log(tmp_path, text))


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="path must be the path of a log that ends in"):
        read(tmp_path / "events.out.tfevents")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.csv")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"path must be a file that can be read as \.npz"):
        read(tmp_path / "broken.npz")
    (tmp_path / "latin.csv").write_bytes("step,loss \xb5\n0,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="text in UTF-8"):
        read(tmp_path / "latin.csv")


@given(
    steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=30, unique=True).map(sorted),
    divider=st.sampled_from([",", ";", "\t", " "]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_was_written_is_read_whatever_divides_it(tmp_path_factory, steps, divider, seed):
    loss = np.exp(np.random.default_rng(seed).uniform(-30, 30, len(steps)))
    comma = divider != ","
    cells = [repr(float(value)).replace(".", ",") if comma else repr(float(value)) for value in loss]
    rows = [f"step{divider}loss", *(f"{step}{divider}{cell}" for step, cell in zip(steps, cells, strict=True))]
    run = read(log(tmp_path_factory.getbasetemp(), "\n".join(rows)))
    assert run.step.values.tolist() == steps
    assert run.loss.values.tolist() == loss.tolist()


@pytest.mark.parametrize(
    ("text", "step", "loss", "said"),
    [
        ('step,loss\n"1,000",2.5\n"2,000","1,002.25"\n', [1000, 2000], [2.5, 1002.25], "Commas in numbers group"),
        (
            "step;loss\n1,000;2.5\n12,000;1.5\n1,000,000;1.\n",
            [1000, 12000, 10**6],
            [2.5, 1.5, 1.0],
            "Commas in numbers",
        ),
        (
            "step;loss\n1.000;2,5\n12.000;1.002,25\n",
            [1000, 12000],
            [2.5, 1002.25],
            "Points in numbers group thousands.",
        ),
        ("step;loss\n50;2,399\n100;2,311\n", [50, 100], [2.399, 2.311], "Commas in numbers are decimal commas."),
        (
            "step;loss\n50,000;0,399\n100,000;0,311\n",
            [50, 100],
            [0.399, 0.311],
            "Commas in numbers are decimal commas.",
        ),
        ('"step","loss"\n"50","2,5"\n"100","2,25"\n', [50, 100], [2.5, 2.25], "Commas in numbers are decimal commas."),
        ("step;name;loss\n1000;a, b;2.5\n2000;1,5 x;2\n", [1000, 2000], [2.5, 2.0], "The loss"),
    ],
)
def test_commas_and_points_are_those_of_decimals_or_of_thousands(tmp_path, text, step, loss, said):
    run = read(log(tmp_path, text))
    assert run.step.values.tolist() == step
    assert run.loss.values.tolist() == loss
    assert said in run.notes


@pytest.mark.parametrize("loss", ["2,399;1", "1;2"])
def test_steps_whose_commas_cannot_be_told_are_refused(tmp_path, loss):
    first, second = loss.split(";")
    with pytest.raises(
        ValueError, match="commas can be told, of decimals or of thousands, in the column 'step' in row 1"
    ):
        read(log(tmp_path, f"step;loss\n1,000;{first}\n2,000;{second}\n"))


def test_units_in_headings_are_passed_over_and_factors_refused(tmp_path):
    run = read(log(tmp_path, "Step (updates),Loss (nats),Learning rate [1]\n10,3,.1\n20,2,.1\n"))
    assert run.step.values.tolist() == [10, 20]
    assert run.learning_rate.values.tolist() == [0.1, 0.1]
    for heading in ("step [k]", "Step (1e3)", "iterations (thousands)"):
        path = log(tmp_path, f"{heading},loss\n10,3\n20,2\n")
        with pytest.raises(ValueError, match="step_column must be given where the unit of the heading is a factor"):
            read(path)
        assert read(path, step_column=heading).step.values.tolist() == [10, 20]
    with pytest.raises(ValueError, match=r"rate_column must be given .* as in 'lr \(1e-3\)'"):
        read(log(tmp_path, "step,loss,lr (1e-3)\n10,3,.1\n20,2,.1\n"))


def test_the_rate_is_that_of_the_run_whose_loss_is_read(tmp_path):
    two = log(tmp_path, "Step,a - loss,b - loss,a - lr,b - lr\n1,3,4,.1,.2\n2,2,3,.1,.2\n")
    for run, loss, rate in (("a", [3, 2], 0.1), ("b", [4, 3], 0.2)):
        for column in (run, f"{run} - loss"):
            found = read(two, column=column)
            assert found.loss.values.tolist() == loss
            assert found.learning_rate.values.tolist() == [rate, rate]
    one = log(tmp_path, "Step,a - loss,b - loss,a - lr\n1,3,4,.1\n2,2,3,.1\n")
    assert "learning_rate" not in read(one, column="b")
    shared = log(tmp_path, "Step,a - loss,b - loss,lr\n1,3,4,.1\n2,2,3,.1\n")
    assert "learning_rate" in read(shared, column="b")


def test_runs_may_be_numbers(tmp_path):
    lines = [f'{{"run": {run}, "step": {step}, "loss": {run + step}}}' for step in (1, 2) for run in (7, 8)]
    assert read(log(tmp_path, "\n".join(lines)), column="8").loss.values.tolist() == [9, 10]


def test_the_last_line_of_a_run_that_goes_on_may_be_cut_off(tmp_path):
    lines = '{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n'
    run = read(log(tmp_path, lines + '{"step": 3, "lo'))
    assert run.loss.values.tolist() == [3, 2]
    assert "The last line is cut off: left out." in run.notes
    with pytest.raises(ValueError, match=r"one JSON object a line .* in row 2"):
        read(log(tmp_path, '{"step": 1, "loss": 3}\n{"step": 2, "lo\n{"step": 3, "loss": 1}\n'))


@pytest.mark.parametrize("step", ["1e19", "18446744073709551616", "-1e300"])
def test_steps_are_numbers_that_can_be_counted(tmp_path, step):
    with pytest.raises(ValueError, match="step_column must be a column of whole numbers of updates"):
        read(log(tmp_path, f"step,loss\n1,2\n{step},1\n"))


def test_what_is_no_text_is_named(tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(gzip.compress(b"step,loss\n1,2\n"))
    with pytest.raises(ValueError, match=r"a log that holds text: run.csv, got 'a gzip archive"):
        read(path)
    np.savez(tmp_path / "run.npz", step=[1, 2], loss=[3.0, 2.0])
    (tmp_path / "run.npz").rename(tmp_path / "RUN.NPZ")
    assert read(tmp_path / "RUN.NPZ").loss.values.tolist() == [3.0, 2.0]


# ---------------------------------------------------------------------------------------------------------------------
# Steps


FALLING = np.linspace(2, 1.5, 400)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (np.tile(np.arange(100), 4), "fall back to their start 3 times (first at record 101): they are counted on"),
        (np.append(np.arange(300), np.arange(100)), "fall back to their start once (first at record 301)"),
        (np.append(np.arange(10, 400, 10), np.arange(5, 400, 10)), "fall back to their start once"),
    ],
)
def test_a_counter_that_begins_anew_is_counted_on(steps, said):
    random = np.random.default_rng(0)
    loss = np.linspace(2, 1.5, steps.size) + 0.02 * random.normal(size=steps.size)
    for found in (in_order(steps), in_order(steps, loss=loss)):
        assert (found.record == np.arange(steps.size)).all()
        assert (np.diff(found.step) > 0).all()
        assert said in found.notes[0]


def test_a_run_that_was_begun_anew_replaces_the_old_one():
    steps = np.append(np.arange(300), np.arange(200))
    loss = 2 - steps / 1000 + 0.01 * np.random.default_rng(0).normal(size=500)
    found = in_order(steps, loss=loss)
    assert (found.step == np.arange(300)).all()
    assert (found.record == np.append(np.arange(300, 500), np.arange(200, 300))).all()
    assert "the run was begun anew" in found.notes[0]


def test_newest_first_is_turned_round():
    steps = np.array([9, 7, 7, 2])
    found = in_order(steps)
    assert found.step.tolist() == [2, 7, 9]
    assert found.record.tolist() == [3, 1, 0]
    assert "newest first" in found.notes[0]


@given(
    steps=st.lists(st.integers(0, 1000), min_size=2, max_size=50, unique=True).map(sorted),
    seed=st.integers(0, 2**32 - 1),
    many=st.integers(0, 9),
)
def test_a_resume_keeps_the_later_record(steps, seed, many):
    random = np.random.default_rng(seed)
    back = int(random.integers(1, len(steps) + 1))
    again = steps[len(steps) - back :][:many]
    if again and (len(steps) - back == 0):  # a return to the start is another case
        again = again[1:]
    given_steps = np.array(steps + again + [steps[-1] + 1] * bool(again))
    found = in_order(given_steps)
    newest = {int(step): place for place, step in enumerate(given_steps)}
    assert found.step.tolist() == sorted(newest)
    assert found.record.tolist() == [newest[step] for step in sorted(newest)]
    assert bool(found.notes) == (found.step.size < given_steps.size)


@given(st.permutations(list(range(2, 60, 3))))
def test_a_shuffle_is_sorted(steps):
    found = in_order([0, *steps, 0.5])
    assert found.step.tolist() == [0, 0.5, *range(2, 60, 3)]
    assert (np.array([0, *steps, 0.5])[found.record] == found.step).all()
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("steps", "kind", "message"),
    [
        ([0.0, np.nan, 2.0], ValueError, r"step must be .*, got nan at index \(1,\)"),
        (np.array(["2026-01-01"], dtype="datetime64[s]"), TypeError, "step must be .*, not times of the day"),
        ([datetime.datetime(2026, 1, 1)], TypeError, "step must be"),
        (np.ma.masked_array([0, 1, 2], [0, 1, 0]), ValueError, "step must be .*, none of them masked"),
        ([3, 3, 3], ValueError, "step must be .* not all the same, got 3.0"),
        ([[0, 1]], ValueError, r"step must be .*, got 'shape \(1, 2\)'"),
        (7, TypeError, "step must be"),
    ],
)
def test_what_is_no_axis_of_steps_says_why(steps, kind, message):
    with pytest.raises(kind, match=message):
        in_order(steps)


def test_losses_are_as_many_as_steps():
    with pytest.raises(ValueError, match="loss must be of the 3 steps"):
        in_order([0, 1, 2], loss=[1.0, 2.0])


def test_the_notes_survive_a_file(tmp_path):
    run = read(LOGS / "trainer_state.json")
    run.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as again:
        assert again.attrs["notes"] == run.notes
    assert json.loads(json.dumps(run.attrs)) == run.attrs
