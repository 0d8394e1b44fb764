"""The command: what it prints, what programs read of it, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import sgdynamics
from sgdynamics.cli import main
from sgdynamics.models import schedules
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.diagnosis import power_law_relaxation
from sgdynamics.theory.schedules import average_to_gains, merge_plan

PLAN = "plan --base-learning-rate 0.5 --steps 80 --every 20"
BROAD = "--log-uniform 0.001 0.4"
RULES = ("wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk", "uniform")


def answer(capsys, line: str, *more: str) -> str:
    """What a command prints that succeeds."""
    assert main([*line.split(), *more]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def read(capsys, line: str, *more: str) -> dict:
    """The same for programs: JSON without the numbers that JSON does not have."""
    return json.loads(answer(capsys, line + " --json", *more), parse_constant=lambda text: pytest.fail(text))


def refused(capsys, line: str, *more: str) -> str:
    """The one line that says what is wrong."""
    try:
        status = main([*line.split(), *more])
    except SystemExit as leaving:
        status = leaving.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert len(err) < 500
    assert err.startswith(f"sgdynamics {line.split()[0]}: ")
    return err


@pytest.fixture
def checkpoints(tmp_path):
    """Five checkpoints, and the vectors in them."""
    vectors = np.random.default_rng(0).standard_normal((5, 7))
    paths = [str(tmp_path / f"{20 * place}.npz") for place in range(5)]
    for path, vector in zip(paths, vectors, strict=True):
        np.savez(path, weight=vector, steps=np.array(3))
    return paths, vectors


# ---------------------------------------------------------------------------------------------------------------------
# plan


def test_a_plan_for_people_has_weights_risks_bands_and_what_to_do_next(capsys):
    said = answer(capsys, f"{PLAN} {BROAD}")
    for text in ("Rule 'lsq_nonneg'", "checkpoint", "merged point", "decayed run", "last checkpoint", "gain from"):
        assert text in said
    assert (
        "Next: the same with --output plan.json, then\n      sgdynamics merge --plan plan.json --output MERGED" in said
    )
    assert "(5 files" in said
    assert max(map(len, said.splitlines()[2:])) < 140


def test_the_gain_is_said_first_with_a_spectrum_and_without(capsys):
    line = "plan --base-learning-rate 0.1 --checkpoints 3000 3200 3400 3600 3800 4000"
    low, high = read(capsys, line)["gain_kept"]
    assert 0.7 < low < high < 1.1
    first, *rest = answer(capsys, line).splitlines()
    assert first.startswith(f"This merge keeps {100 * low:.0f} to {100 * high:.0f}% of what the decay would gain")
    for text in ("still descends", "held-out loss", "batch normalisation", "optimisers other than SGD"):
        (said,) = [one for one in rest if one.startswith("Not in the model") and text in one]
        assert len(said) < 130
    known = read(capsys, f"{line} --log-uniform 0.01 10")
    share = (known["base_risk"] - known["merged_risk"]) / (known["base_risk"] - known["target_risk"])
    assert known["gain_kept"] == pytest.approx(share)
    first = answer(capsys, f"{line} --log-uniform 0.01 10").splitlines()[0]
    assert first == f"This merge keeps {100 * share:.0f}% of what the decay would gain over the last checkpoint."
    lasting = answer(
        capsys, "plan --base-learning-rate 0.1 --steps 9 --every 9 --rule uniform --target constant --final 0.1"
    )
    assert lasting.startswith("The decay gains nothing over the last checkpoint.")


def test_the_help_says_how_to_choose_a_spectrum(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "HIGH is the largest eigenvalue of the Hessian" in said
    assert "LOW is 1 divided by the learning rate" in said


def test_a_plan_for_programs_is_the_librarys(capsys):
    found = read(capsys, f"{PLAN} {BROAD}")
    curvature = np.geomspace(0.001, 0.4, 40)
    model = MiniBatchQuadratic(curvature, 1 / curvature)
    plan = merge_plan(schedules.linear(0.5, 80), 0.5, range(0, 81, 20), model=model)
    assert found["weight"] == plan.weight.values.tolist()
    assert found["checkpoint"] == [0, 20, 40, 60, 80]
    assert found["merged_risk"] == float(plan.merged_risk)
    assert found["rule"] == "lsq_nonneg"
    assert found["warnings"] == plan.warnings.splitlines()


def test_without_a_spectrum_there_are_weights_and_the_way_to_risks(capsys):
    said = answer(capsys, PLAN)
    assert "Rule 'wsm'" in said
    assert "decayed run" not in said
    assert "--spectrum FILE or --log-uniform LOW HIGH" in said
    # tail sums of block means of 1 - j/80: the largest steps of a linear decay are all alike
    assert read(capsys, PLAN)["weight"] == pytest.approx([0.13125, 0.25, 0.25, 0.25, 0.11875])


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ("--target linear --final 0.1", schedules.linear(0.5, 80, final=0.1)),
        ("--target cosine", schedules.cosine(0.5, 80)),
        ("--target constant --final 0.25", schedules.constant(0.25, 80)),
    ],
)
def test_every_shape_is_that_of_the_schedules(capsys, options, target):
    plan = merge_plan(target, 0.5, range(0, 81, 20), rule="uniform")
    assert read(capsys, f"{PLAN} --rule uniform {options}")["weight"] == plan.weight.values.tolist()
    made = merge_plan(target, 0.5, range(0, 81, 20), rule="wsm")
    assert read(capsys, f"{PLAN} --rule wsm {options}")["weight"] == made.weight.values.tolist()


def test_a_target_and_a_spectrum_may_come_from_files(capsys, tmp_path):
    target = schedules.linear(0.5, 6)
    np.savetxt(tmp_path / "rates.txt", target)
    (tmp_path / "spectrum.csv").write_text("curvature,multiplicity\n0.1,9\n1.0,1\n", encoding="utf-8")
    line = "plan --base-learning-rate 0.5 --checkpoints 0 2 3 6"
    found = read(capsys, line, "--target-file", f"{tmp_path}/rates.txt", "--spectrum", f"{tmp_path}/spectrum.csv")
    model = MiniBatchQuadratic([0.1, 1.0], [10.0, 1.0], multiplicity=[9, 1])
    assert found["weight"] == merge_plan(target, 0.5, [0, 2, 3, 6], model=model).weight.values.tolist()


def test_rules_are_compared_best_first(capsys):
    rows = read(capsys, f"{PLAN} {BROAD} --compare --curvature 0.03")["rules"]
    assert {row["rule"] for row in rows} == set(RULES)
    risks = [row["merged_risk"] for row in rows]
    assert risks == sorted(risks)
    assert rows[0]["rule"] == "risk"
    table = answer(capsys, f"{PLAN} {BROAD} --compare --curvature 0.03")
    assert "smallest weight  sum of squares" in table
    assert "Left out" not in table


def test_rules_that_cannot_be_compared_are_left_out_with_the_reason(capsys):
    rows = {row["rule"]: row for row in read(capsys, f"{PLAN} --compare")["rules"]}
    assert {rule for rule, row in rows.items() if "left_out" in row} == {"exact", "lsq", "lsq_nonneg", "risk"}
    assert "merged_risk" not in rows["wsm"]
    said = answer(capsys, f"{PLAN} --compare")
    assert "Left out: 'exact', curvature must be given" in said
    assert "Left out: 'risk', model must be given" in said


def test_warnings_are_told(capsys):
    line = f"plan --base-learning-rate 0.5 --steps 80 --every 40 {BROAD} --rule wsm --target constant --final 0.05"
    assert "Careful: The target drops in a jump" in answer(capsys, line)
    assert any("drops in a jump" in text for text in read(capsys, line)["warnings"])
    assert "Careful: The base run was made by Adam" in answer(capsys, f"{PLAN} {BROAD} --optimiser adam")


def test_momentum_may_start_at_rest_or_not(capsys):
    """The default is the library's: a run that has settled has a velocity."""
    model = MiniBatchQuadratic.log_uniform(0.001, 0.4, 40)
    model = MiniBatchQuadratic(model.curvature, 1 / model.curvature)
    plan = merge_plan(schedules.linear(0.5, 80), 0.5, range(0, 81, 20), model=model, rule="wsm", momentum=0.9)
    resting = read(capsys, f"{PLAN} {BROAD} --momentum 0.9 --at-rest --rule wsm")
    moving = read(capsys, f"{PLAN} {BROAD} --momentum 0.9 --rule wsm")
    assert resting["weight"] == moving["weight"]
    assert resting["residual_velocity"] == 0 < moving["residual_velocity"] == float(plan.residual_velocity)
    assert moving["merged_risk"] == float(plan.merged_risk) != resting["merged_risk"]
    assert "--at-rest goes with --momentum" in refused(capsys, f"{PLAN} {BROAD} --at-rest")


def test_steps_of_the_run_are_taken_as_they_are(capsys):
    counted = read(capsys, f"plan --base-learning-rate 0.5 --checkpoints 0 20 80 {BROAD}")
    absolute = read(capsys, f"plan --base-learning-rate 0.5 --checkpoints 3000 3020 3080 {BROAD}")
    assert absolute["checkpoint"] == [3000, 3020, 3080]
    assert {**absolute, "checkpoint": [0, 20, 80]} == counted


# ---------------------------------------------------------------------------------------------------------------------
# merge


@pytest.mark.parametrize("saved_by", ["output", "json"])
def test_a_plan_that_was_written_is_carried_out(capsys, tmp_path, checkpoints, saved_by):
    paths, vectors = checkpoints
    plan, merged = str(tmp_path / "plan.json"), str(tmp_path / "merged.npz")
    if saved_by == "output":
        assert f"Next: sgdynamics merge --plan {plan}" in answer(capsys, f"{PLAN} {BROAD}", "--output", plan)
    else:
        Path(plan).write_text(answer(capsys, f"{PLAN} {BROAD} --json"), encoding="utf-8")
    weights = json.loads(Path(plan).read_text(encoding="utf-8"))["weight"]
    said = answer(capsys, "merge", "--plan", plan, "--output", merged, *paths)
    assert said.startswith(f"{merged}: 1 tensors averaged; copied from the last checkpoint: steps.\n")
    assert "Checkpoints of steps 0, 20, 40, 60, 80, in this order." in said
    assert "equal            1  the same in all checkpoints, kept  steps" in said
    np.testing.assert_allclose(np.load(merged)["weight"], np.array(weights) @ vectors, rtol=1e-14)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    found = read(capsys, "merge", "--plan", plan, "--output", merged, *paths)
    assert found == {
        "output": merged,
        "averaged": ["weight"],
        "copied": ["steps"],
        "warnings": [],
        "paths": paths,
        "steps": [0, 20, 40, 60, 80],
        "notes": [],
        "roles": {"weight": "parameter", "steps": "equal"},
        "left_out": [],
        "size": 64,
        "dry_run": False,
    }


def test_a_bare_list_of_weights_is_a_plan_and_statistics_are_told(capsys, tmp_path):
    for step in range(2):
        np.savez(tmp_path / f"{step}.npz", **{"norm.running_mean": np.full(2, float(step))})
    (tmp_path / "plan.json").write_text("[0.25, 0.75]", encoding="utf-8")
    files = [str(tmp_path / f"{step}.npz") for step in range(2)]
    how = ["--plan", str(tmp_path / "plan.json"), "--output", str(tmp_path / "merged.npz")]
    assert "Careful: 'norm.running_mean'" in answer(capsys, "merge", *how, *files)
    assert len(read(capsys, "merge", *how, *files)["warnings"]) == 1


def test_files_in_the_order_of_a_shell_are_sorted_by_a_plan_and_refused_for_bare_weights(capsys, tmp_path):
    for place, name in enumerate(("step-20", "step-100", "step-180", "last")):
        np.savez(tmp_path / f"{name}.npz", weight=np.full(2, 4.0**place))
    plan, merged = str(tmp_path / "plan.json"), tmp_path / "merged.npz"
    how = ["merge", "--plan", plan, "--output", str(merged)]

    def paths(*names: str) -> list[str]:
        return [str(tmp_path / f"{name}.npz") for name in names]

    weights = read(capsys, "plan --base-learning-rate 0.5 --checkpoints 20 100 180", "--output", plan)["weight"]
    said = answer(capsys, *how, *paths("step-100", "step-180", "step-20"))
    assert "Checkpoints of steps 20, 100, 180, in this order." in said
    np.testing.assert_allclose(np.load(merged)["weight"], np.dot(weights, [1, 4, 16]), rtol=1e-14)
    merged.unlink()
    said = refused(capsys, *how, *paths("step-20", "step-100", "last"))
    assert "FILE... must be checkpoints whose steps can be told" in said
    assert "last.npz (step unknown)" in said
    assert "--in-this-order" in said
    answer(capsys, *how, *paths("step-20", "step-100", "last"), "--in-this-order")
    merged.unlink()
    Path(plan).write_text("[0.25, 0.75]", encoding="utf-8")
    said = refused(capsys, *how, *paths("step-100", "step-20"))
    assert "must be in the order of their steps" in said
    assert "step-100.npz (step 100), step-20.npz (step 20)" in said
    assert not merged.exists()
    assert "Note: the steps of the checkpoints cannot be told" in answer(capsys, *how, *paths("last", "step-20"))


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"weights": [1]}',
        '{"weight": 1}',
        '{"weight": ["a"]}',
        '["a", "b"]',
        "[true, false]",
        "\x00",
        "3",
    ],
)
def test_a_damaged_plan_is_refused_by_name(capsys, tmp_path, checkpoints, damage):
    plan = tmp_path / "plan.json"
    plan.write_text(damage, encoding="utf-8")
    said = refused(capsys, "merge", "--plan", str(plan), "--output", str(tmp_path / "merged.npz"), *checkpoints[0])
    assert "--plan must be a file that 'sgdynamics plan --output' wrote" in said
    assert str(plan) in said
    assert not (tmp_path / "merged.npz").exists()


def test_a_plan_that_is_no_text_is_refused_too(capsys, tmp_path, checkpoints):
    plan = tmp_path / "plan.json"
    plan.write_bytes(b"\xff\xfe\x00")
    said = refused(capsys, "merge", "--plan", str(plan), "--output", str(tmp_path / "merged.npz"), *checkpoints[0])
    assert "--plan must be" in said


def test_what_cannot_be_merged_is_named(capsys, tmp_path, checkpoints):
    paths, _ = checkpoints
    plan, merged = tmp_path / "plan.json", str(tmp_path / "merged.npz")
    plan.write_text("[0.5, 0.5]", encoding="utf-8")
    how = ["--plan", str(plan), "--output"]
    assert "--plan must be one weight per path" in refused(capsys, "merge", *how, merged, *paths)
    assert "--output must be a path that ends in .npz" in refused(capsys, "merge", *how, "x.safetensors", *paths[:2])
    assert "--output must be none of the checkpoints" in refused(capsys, "merge", *how, paths[0], *paths[:2])
    assert "FILE... must be a list of different paths" in refused(capsys, "merge", *how, merged, paths[0], paths[0])
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:50])
    assert paths[1] in refused(capsys, "merge", *how, merged, *paths[:2])
    assert "nowhere.npz" in refused(capsys, "merge", *how, merged, paths[0], str(tmp_path / "nowhere.npz"))
    plan.write_text("[0.5, 0.6]", encoding="utf-8")
    assert "--plan must be" in refused(capsys, "merge", *how, merged, paths[0], paths[2])
    plan.write_text("[Infinity, 0.5]", encoding="utf-8")
    assert "--plan must be" in refused(capsys, "merge", *how, merged, paths[0], paths[2])
    assert not Path(merged).exists()


# ---------------------------------------------------------------------------------------------------------------------
# diagnose


def trial_losses(vertex: float) -> dict:
    """Parabolas along 200 steps at rate 0.1, lowest at a fraction of the step."""
    trial = np.array([0.0, 0.05, 0.1, 0.2])
    lowest = 0.1 * vertex + 0.003 * np.random.default_rng(0).standard_normal((200, 1))
    return {"trial": trial, "trial_loss": 1 + (trial - lowest) ** 2, "loss": np.ones(200)}


@pytest.mark.parametrize(
    ("vertex", "verdict", "following"),
    [
        (0.5, "Noise-limited", "sgdynamics plan"),
        (0.9, "Still descending", "train on"),
        (0.1, "The loss rises", "let the run settle"),
    ],
)
def test_a_run_is_diagnosed_from_named_arrays_and_netcdf(capsys, tmp_path, vertex, verdict, following):
    records = trial_losses(vertex)
    np.savez(tmp_path / "run.npz", **records)
    said = answer(capsys, "diagnose --learning-rate 0.1", str(tmp_path / "run.npz"))
    assert said.startswith(verdict)
    assert "quantity" in said
    assert "vertex" in said
    assert f"Next: {following}" in said
    assert "Not recorded: The plateau of distances needs 'weights'" in said
    data = xr.Dataset(
        {"trial_loss": (("step", "trial"), records["trial_loss"]), "loss": ("step", records["loss"])},
        coords={"trial": records["trial"]},
    )
    data.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    assert answer(capsys, "diagnose --learning-rate 0.1", str(tmp_path / "run.nc")) == said
    found = read(capsys, "diagnose --learning-rate 0.1", str(tmp_path / "run.nc"))
    assert found["verdict"].startswith(verdict)
    assert found["estimate"][found["quantity"].index("vertex")] == pytest.approx(vertex, abs=0.01)
    assert found["confidence"] == 0.95
    assert len(found["missing"]) == 2


def test_a_loss_curve_is_fitted_on_request(capsys, tmp_path):
    step = np.arange(1.0, 2001.0)
    loss = 0.1 + 0.9 * power_law_relaxation(0.2 * step, 0.5) + 0.002 * np.random.default_rng(0).normal(size=step.size)
    np.savetxt(tmp_path / "run.csv", np.stack([step, loss], axis=1), delimiter=",", header="step,loss", comments="")
    said = answer(capsys, "diagnose --curve", str(tmp_path / "run.csv"))
    assert said.startswith("Still descending")
    assert "exponent k of the late decay" in said
    curve = read(capsys, "diagnose --curve", str(tmp_path / "run.csv"))["curve"]
    fitted = dict(zip(curve["quantity"], curve["estimate"], strict=True))
    assert fitted["exponent"] == pytest.approx(0.5, abs=0.05)
    assert fitted["level"] == pytest.approx(0.1, abs=0.01)
    assert "curve" not in read(capsys, "diagnose", str(tmp_path / "run.csv"))


def test_what_is_not_bounded_is_text_for_programs_and_words_for_people(capsys, tmp_path):
    np.savez(tmp_path / "run.npz", loss=1 - 1e-4 * np.arange(40.0))
    curve = read(capsys, "diagnose --curve", str(tmp_path / "run.npz"))["curve"]
    assert "inf" in curve["upper"]
    assert "not  identifiable" in " ".join(answer(capsys, "diagnose --curve", str(tmp_path / "run.npz")).split(" "))
    np.savez(tmp_path / "run.npz", loss=np.append(np.ones(20), np.inf))
    assert "Next: a lower learning rate." in answer(capsys, "diagnose", str(tmp_path / "run.npz"))
    assert read(capsys, "diagnose", str(tmp_path / "run.npz"))["estimate"] == []


def test_a_run_that_cannot_be_read_is_named(capsys, tmp_path):
    def written(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    np.savez(tmp_path / "objects.npz", loss=np.array([{}], dtype=object))
    assert "No such file or directory" in refused(capsys, "diagnose", str(tmp_path / "nowhere.npz"))
    assert "FILE must be a file that can be read as .npz" in refused(
        capsys, "diagnose", written("broken.npz", b"PK\x03\x04")
    )
    assert "FILE must be a file that can be read as .npz" in refused(capsys, "diagnose", str(tmp_path / "objects.npz"))
    assert "FILE must be a file that can be read as .nc" in refused(capsys, "diagnose", written("broken.nc", b"CDF"))
    assert "FILE must be the path of a log that ends in" in refused(capsys, "diagnose", written("run.doc", b"1"))
    assert "FILE must be a log that holds numbers in the column 'loss'" in refused(
        capsys, "diagnose", written("a.csv", b"loss\nx\ny\n")
    )
    assert "there are ['accuracy']" in refused(capsys, "diagnose", written("b.csv", b"accuracy\n1\n2\n"))
    flat = written("c.csv", b"slope_before,slope_after\n1,-1\n2,-2\n")
    assert "--curve needs a record 'loss'" in refused(capsys, "diagnose --curve", flat)
    assert "--margin must be" in refused(capsys, "diagnose --margin 0.7", flat)
    assert "--confidence must be" in refused(capsys, "diagnose --confidence 1", flat)
    short = written("d.csv", b"loss\n1\n2\n")
    assert "'loss' in FILE must be at least 12 numbers" in refused(capsys, "diagnose --curve", short)


def test_logs_are_diagnosed_with_what_was_guessed(capsys, tmp_path):
    logs = Path(__file__).parent / "logs"
    said = answer(capsys, "diagnose", str(logs / "wandb.csv"))
    assert "Note: The loss is the column 'calm-sea-1 - train/loss', the step 'Step'." in said
    assert "Note: 1 record has no loss: skipped." in said
    assert "Next: a lower learning rate." in answer(capsys, "diagnose", str(logs / "tensorboard.json"))
    two = str(logs / "wandb_two_runs.csv")
    assert "--column must be given, as one of ['calm-sea-1 - train/loss'" in refused(capsys, "diagnose", two)
    notes = read(capsys, "diagnose --column red-fog-2 --from-step 1", two)["notes"]
    assert notes[-1] == "1 records before step 1 are left out."
    assert "--from-step must be at most the last step 2" in refused(
        capsys, "diagnose --column red-fog-2 --from-step 3", two
    )


def test_the_steps_of_a_curve_are_those_of_the_file_whatever_stands_before_them(capsys, tmp_path):
    step = np.arange(100.0, 2100.0)
    loss = 0.1 + 0.9 * power_law_relaxation(0.01 * step, 0.5) + 0.0002 * np.random.default_rng(0).normal(size=step.size)
    text = "step,loss\n" + "".join(f"{k:.0f},{value!r}\n" for k, value in zip(step, loss.tolist(), strict=True))
    found = []
    for mark in ("", "\ufeff"):
        (tmp_path / "run.csv").write_text(mark + text, encoding="utf-8")
        found.append(read(capsys, "diagnose --curve", str(tmp_path / "run.csv"))["curve"])
    assert found[0] == found[1]
    rate = found[0]["quantity"].index("rate")
    assert found[0]["lower"][rate] < 0.01 < found[0]["upper"][rate]


def test_the_step_may_be_named(capsys, tmp_path):
    path = str(tmp_path / "run.csv")
    (tmp_path / "run.csv").write_text("kilosteps (k),loss\n" + "".join(f"{k},{3 - k / 10}\n" for k in range(5, 25)))
    told = read(capsys, "diagnose", "--step-column", "kilosteps (k)", path)
    assert any("the step 'kilosteps (k)'" in note for note in told["notes"])
    said = refused(capsys, "diagnose --step-column epoch", path)
    assert "--step-column must be one of the columns ['kilosteps (k)', 'loss'], got 'epoch'" in said


def test_a_fault_of_the_program_is_no_wrong_input(monkeypatch, capsys, tmp_path):
    (tmp_path / "run.csv").write_text("loss\n1\n2\n", encoding="utf-8")
    for fault in (TypeError("Cannot index with a chunked array indexer"), ValueError("zip() argument 2 is longer")):

        def broken(*_, fault=fault, **__):
            raise fault

        monkeypatch.setattr("sgdynamics.theory.diagnosis.diagnose", broken)
        with pytest.raises(type(fault), match=str(fault).split()[-1]):
            main(["diagnose", str(tmp_path / "run.csv")])
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------------------------------------------------------------
# schedule


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("--average ema --start 2 --gain 0.1", "--start goes with --average swa"),
        ("--average swa --beta 0.9 --gain 0.1", "--beta goes with --average ema"),
        ("--average ema --points 3 --gain 0.1", "--points goes with --average tail"),
        ("--average two-point --stride 3 --gain 0.1", "--stride goes with --average tail"),
        ("--average tail --separation 3 --gain 0.1", "--separation goes with --average two-point"),
        ("--average ema --gain 0.1 --base-learning-rate 0.1", "--base-learning-rate goes with --spectrum FILE or"),
        ("--average ema --gain 0.1 --batch-size 4", "--batch-size goes with --spectrum FILE or --log-uniform"),
        ("--average ema --gain 0.1 --center-variance 4", "--center-variance goes with --spectrum FILE or"),
        ("--average ema --gain 0.1 --kind density", "--kind goes with --spectrum FILE"),
    ],
)
def test_options_that_would_do_nothing_are_refused_by_name(capsys, line, option):
    assert option in refused(capsys, f"schedule --steps 10 {line}")


def test_options_without_what_they_belong_to_are_refused_by_name(capsys, tmp_path):
    assert "--curvature goes with --rule exact or --compare" in refused(capsys, f"{PLAN} --curvature 0.1")
    loss, slopes = tmp_path / "loss.csv", tmp_path / "slopes.csv"
    loss.write_text("step,loss\n" + "".join(f"{step},{2 + step % 3}\n" for step in range(40)), encoding="utf-8")
    slopes.write_text("slope_before,slope_after\n" + 20 * "-1,1\n-2,1\n", encoding="utf-8")
    for option in ("--margin 0.2", "--learning-rate 0.1", "--seed 3"):
        assert f"{option.split()[0]} goes with" in refused(capsys, f"diagnose {option}", str(loss))
    assert "--learning-rate goes with" in refused(capsys, "diagnose --learning-rate 0.1", str(slopes))
    assert "vertex" in answer(capsys, "diagnose --margin 0.2 --seed 3", str(slopes))


@pytest.mark.parametrize(
    ("options", "average"),
    [
        ("--average ema --beta 0.9", schedules.ema(0.9, 30)),
        ("--average swa --start 5", schedules.swa(30, 5)),
        ("--average tail --points 3 --stride 4", schedules.tail(30, 3, 4)),
        ("--average two-point --separation 10", schedules.two_point(30, 10)),
    ],
)
def test_an_average_is_the_librarys_schedule(capsys, tmp_path, options, average):
    line = f"schedule {options} --steps 30 --gain 0.1"
    found = read(capsys, line)
    assert found["gain"] == average_to_gains(average, 0.1).tolist()
    path = tmp_path / "schedule.txt"
    said = answer(capsys, line, "--output", str(path))
    assert "One schedule with gains in [0, 1] reproduces the average" in said
    assert "..." in said
    assert np.loadtxt(path).tolist() == found["gain"]


def test_across_a_spectrum_it_is_a_compromise(capsys):
    found = read(capsys, "schedule --average ema --beta 0.8 --steps 12 --base-learning-rate 0.5 --log-uniform 0.1 1")
    assert 0 < found["residual"] <= found["start_residual"]
    assert len(found["learning_rate"]) == 12
    said = answer(capsys, "schedule --average ema --beta 0.8 --steps 12 --base-learning-rate 0.5 --log-uniform 0.1 1")
    assert "comes closest to the average across the spectrum" in said


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plan --steps 80", "--base-learning-rate"),
        ("plan --base-learning-rate x --steps 80", "--base-learning-rate: invalid float value: 'x'"),
        ("plan --base-learning-rate -1 --steps 80", "--base-learning-rate must be a finite number >= 0"),
        ("plan --base-learning-rate nan --steps 80", "--base-learning-rate must be a finite number >= 0"),
        ("plan --base-learning-rate 0 --steps 80", "--base-learning-rate must be"),
        ("plan --base-learning-rate 0.5", "--steps must be given"),
        ("plan --base-learning-rate 0.5 --steps 0", "--steps: must be a whole number >= 1, got '0'"),
        ("plan --base-learning-rate 0.5 --steps 1.5", "--steps: must be a whole number >= 1, got '1.5'"),
        ("plan --base-learning-rate 0.5 --steps 80 --every 7", "--every must divide the 80 steps"),
        ("plan --base-learning-rate 0.5 --steps 80 --every 0", "--every: must be a whole number >= 1"),
        ("plan --base-learning-rate 0.5 --steps 8 --checkpoints 0 4", "--checkpoints must run from 0"),
        ("plan --base-learning-rate 0.5 --steps 8 --checkpoints 0 6 4 8", "--checkpoints must be steps that increase"),
        ("plan --base-learning-rate 0.5 --steps 8 --checkpoints 0 8 --every 2", "not allowed with"),
        (f"{PLAN} --final 0.6", "--final must be between 0 and --base-learning-rate, got 0.6"),
        (f"{PLAN} --target constant", "--final must be > 0 with --target constant"),
        (f"{PLAN} --target steep", "--target: invalid choice"),
        (f"{PLAN} --target-file nowhere.txt", "nowhere.txt"),
        (f"{PLAN} --target-file x --target linear", "--target cannot be given with --target-file"),
        (f"{PLAN} --target-file x --final 0", "--final cannot be given with --target-file"),
        (f"{PLAN} --rule best", "--rule: invalid choice"),
        (f"{PLAN} --rule exact", "--curvature must be given for rule 'exact'"),
        (f"{PLAN} --rule risk", "--spectrum FILE or --log-uniform LOW HIGH must be given for rule 'risk'"),
        (f"{PLAN} --target constant --final 0.4", "--spectrum FILE or --log-uniform LOW HIGH must be given where"),
        (f"{PLAN} --rule exact --curvature 9", "--base-learning-rate must be below the stability edge"),
        (f"{PLAN} --momentum 1", "--momentum must be"),
        (f"{PLAN} --optimiser lion", "--optimiser: invalid choice"),
        (f"{PLAN} --log-uniform 0.4 0.1", "LOW of --log-uniform must be smaller than"),
        (f"{PLAN} --log-uniform 0 0.1", "LOW of --log-uniform must be"),
        (f"{PLAN} {BROAD} --batch-size 0", "--batch-size must be"),
        (f"{PLAN} {BROAD} --center-variance -1", "--center-variance must be"),
        (f"{PLAN} {BROAD} --smallest 0.1", "--smallest goes with --spectrum FILE"),
        (f"{PLAN} {BROAD} --spectrum x.csv", "not allowed with"),
        (f"{PLAN} --spectrum nowhere.csv", "nowhere.csv"),
        (f"{PLAN} --spectrum spectrum.doc", "--spectrum FILE must be the path of a .csv"),
        (f"{PLAN} --output /nowhere/plan.json", "--output cannot be written"),
        ("merge --plan nowhere.json --output x.npz a.npz", "--plan must be a file that"),
        ("merge --plan nowhere.json --output x.npz", "FILE"),
        ("schedule --average ema --steps 9", "--gain must be given for one curvature, or --spectrum FILE"),
        (f"schedule --average ema --steps 9 --gain 0.1 {BROAD}", "and not both"),
        (f"schedule --average ema --steps 9 {BROAD}", "--base-learning-rate must be given"),
        (f"schedule --average ema --steps 9999 --base-learning-rate 0.5 {BROAD}", "--steps must be at most 353"),
        ("schedule --average ema --steps 9 --gain 0.1 --beta 2", "--beta must be"),
        ("schedule --average swa --steps 9 --gain 0.1 --start 9", "--start must be"),
        (
            "schedule --average tail --steps 9 --gain 0.1 --points 99",
            "--points and --stride must span at most",
        ),
        ("schedule --average two-point --steps 9 --gain 0.1 --separation 99", "--separation must be"),
        ("schedule --average ema --steps 9 --gain nan", "--gain must be"),
        ("schedule --average mean --steps 9 --gain 0.1", "--average: invalid choice"),
    ],
)
def test_what_is_wrong_is_said_on_one_line_by_its_option(capsys, line, said):
    assert said in refused(capsys, line)


def test_target_files_that_are_none_are_refused(capsys, tmp_path):
    path = tmp_path / "rates.txt"
    for content in ("", "a\n", "1 2\n3 4\n"):
        path.write_text(content, encoding="utf-8")
        said = refused(capsys, "plan --base-learning-rate 0.5", "--target-file", str(path))
        assert "--target-file must hold learning rates, one a line" in said
    path.write_text("0.5\n0.1\n", encoding="utf-8")
    said = refused(capsys, "plan --base-learning-rate 0.5 --steps 3", "--target-file", str(path))
    assert "--steps must be 2" in said
    path.write_text("0.5\n-0.1\n", encoding="utf-8")
    assert "--target-file must be" in refused(capsys, "plan --base-learning-rate 0.5", "--target-file", str(path))


def test_long_values_are_cut(capsys):
    steps = " ".join(str(step) for step in (*range(500), 300, 500))
    assert refused(capsys, f"plan --base-learning-rate 0.5 --steps 500 --checkpoints {steps}").endswith("...\n")


@given(text=st.text(max_size=20), option=st.sampled_from(["--steps", "--every", "--final", "--momentum", "--rule"]))
def test_no_text_makes_a_traceback(text, option):
    line = ["plan", "--base-learning-rate=0.5", "--steps=8", f"{option}={text}", "--json"]
    try:
        status = main(line)
    except SystemExit as leaving:
        status = leaving.code
    assert status in (0, 2)


# ---------------------------------------------------------------------------------------------------------------------
# The command itself


@pytest.mark.parametrize("command", ["", "plan", "merge", "diagnose", "schedule"])
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as leaving:
        main([*command.split(), "--help"])
    assert leaving.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: sgdynamics {command}".rstrip())
    assert "show this help message" in said
    if command:
        assert "--json" in said


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"sgdynamics {sgdynamics.__version__}\n"


def test_the_module_runs_and_loads_nothing_for_its_help():
    command = [sys.executable, "-m", "sgdynamics"]
    made = subprocess.run([*command, *f"{PLAN} --json".split()], capture_output=True, text=True, check=True)
    assert json.loads(made.stdout)["rule"] == "wsm"
    wrong = subprocess.run([*command, "plan"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    loaded = (
        "import sys; from sgdynamics.cli import main\n"
        "try: main(['plan', '--help'])\n"
        "finally: print([name for name in ('numpy', 'scipy', 'sympy', 'numba', 'matplotlib') if name in sys.modules])"
    )
    helped = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert helped.stdout.endswith("[]\n")


def test_the_name_to_install_is_this_command():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert EntryPoint("sgdynamics", project["scripts"]["sgdynamics"], "console_scripts").load() is main


def test_a_reader_that_leaves_early_is_no_error():
    reading = (
        "import os, sys; from sgdynamics.cli import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1); os.close(write)\n"
        f"sys.exit(main({PLAN.split()!r}))"
    )
    run = subprocess.run([sys.executable, "-c", reading], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


# ---------------------------------------------------------------------------------------------------------------------
# What is written, and where


@pytest.fixture
def curves(tmp_path):
    """Two logs that a forecast can be made from."""
    paths = [tmp_path / "plateau.csv", tmp_path / "decay.csv"]
    step = np.arange(1, 401)
    for path, rates in zip(paths, (np.full(400, 0.1), np.linspace(0.1, 0.001, 400)), strict=True):
        loss = 2 + (1 + 2 * np.cumsum(rates)) ** -0.5 + rates
        rows = zip(step[9::10].tolist(), rates[9::10].tolist(), loss[9::10].tolist(), strict=True)
        path.write_text("step,lr,loss\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    return [str(path) for path in paths]


def test_what_is_read_is_not_written_over(capsys, tmp_path, curves):
    rates = tmp_path / "rates.txt"
    rates.write_text("0.1\n" * 20)
    (tmp_path / "link.json").symlink_to(curves[0])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    link = str(tmp_path / "link.json")
    fit = "plan --base-learning-rate 0.1 --checkpoints 300 400 --fit"
    target, spectrum = "plan --base-learning-rate 0.1", "schedule --average ema --steps 9 --base-learning-rate 0.1"
    for line, more, option in (
        ("forecast --best 50", [*curves, "--output", curves[1]], "--output"),
        ("forecast --best 50", [*curves, "--output", link], "--output"),
        ("forecast --predict constant:50:0.1", [*curves, "--plot", curves[0]], "--plot"),
        (fit, [*curves, "--output", link], "--output"),
        (target, ["--target-file", str(rates), "--output", str(rates)], "--output"),
        (spectrum, ["--spectrum", str(rates), "--output", str(rates)], "--output"),
    ):
        assert f"{option} must be none of the files that are read" in refused(capsys, line, *more)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_picture_is_of_a_known_kind_and_whole_or_not_there(capsys, tmp_path, curves, monkeypatch):
    asked = ["forecast", *curves, "--best", "50", "--output", str(tmp_path / "rates.txt")]
    before = sorted(tmp_path.iterdir())
    for name in ("picture.xyz", "picture", ""):
        said = refused(capsys, *asked, "--plot", str(tmp_path / name))
        assert "--plot must end in one of .png, .pdf, .svg" in said
    refused(capsys, *asked, "--plot", str(tmp_path / "nowhere" / "picture.png"))
    assert sorted(tmp_path.iterdir()) == before
    answer(capsys, *asked, "--plot", str(tmp_path / "picture.SVG"))
    assert b"<svg" in (tmp_path / "picture.SVG").read_bytes()


def test_a_pipe_is_written_to_and_not_replaced(capsys, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    answer(capsys, PLAN, "--output", str(pipe))
    out, _ = reader.communicate(timeout=60)
    assert json.loads(out)["rule"] == "wsm"
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "line",
    [
        "plan --base-learning-rate 0.1 --steps 1000000000000",
        "plan --base-learning-rate 0.1 --checkpoints 0 1000000000000",
        "schedule --average ema --steps 1000000000000 --gain 0.1",
        "forecast a.csv --best 1000000000000",
    ],
)
def test_more_steps_than_any_run_has_are_refused(capsys, line):
    assert "100000000" in refused(capsys, line)


def test_more_steps_in_words_than_any_run_has_are_refused(capsys, curves):
    said = refused(capsys, "forecast", *curves, "--predict", "constant:1000000000000:0.1")
    assert "at most 100000000 steps" in said


def test_where_there_is_no_room_in_memory_it_is_said(capsys, monkeypatch):
    def full(given):
        raise MemoryError("Unable to allocate 29.1 TiB")

    monkeypatch.setattr("sgdynamics.cli._plan.run", full)
    assert "no room in memory" in refused(capsys, PLAN)


SAID = "import sys; from sgdynamics.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_output_without_letters_of_a_name_gets_their_codes(tmp_path, curves, as_json):
    named = tmp_path / "l\u00e4uf.csv"
    Path(curves[0]).rename(named)
    command = [sys.executable, "-c", SAID, "forecast", str(named), curves[1], "--predict", "constant:50:0.1"]
    run = subprocess.run(
        command + ["--json"] * as_json,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (run.returncode, run.stderr) == (0, b"")
    if as_json:
        assert any("l\u00e4uf.csv" in note for note in json.loads(run.stdout)["notes"])
    else:
        assert rb"l\xe4uf.csv" in run.stdout


def test_rates_are_said_once(capsys, curves):
    words = ["--rates", "constant:400:.1", "--rates", "linear:400:.1", "--predict", "cosine:9:.1"]
    assert "--rate-column does nothing" in refused(capsys, "forecast --rate-column lr", *curves, *words)
    answer(capsys, "forecast --rate-column lr", *curves, *words[2:])


@pytest.mark.parametrize("steps", ["10 5", "10 10 20", "5 20 10"])
def test_checkpoints_that_do_not_increase_are_refused_by_name(capsys, steps):
    said = refused(capsys, f"plan --base-learning-rate 0.1 --checkpoints {steps}")
    assert f"--checkpoints must be steps that increase, got {steps}" in said


NO_WORDS = (
    "cosine cosine:10 cosine:0:1 wsd:100:1 cosine:10:nan linear:-5:.1 cosine:1e3:.1 x:9:1 constant:9:1:.1 wsd:9:1:2"
)


@pytest.mark.parametrize("words", [*NO_WORDS.split(), "", "cosine:9:1:2", "cosine:9:1:.1:.1"])
def test_a_schedule_in_words_that_is_none_is_refused_by_its_option(capsys, curves, words):
    assert "--predict must be SHAPE:STEPS:PEAK" in refused(capsys, "forecast --predict", words, *curves)
    more = ["--rates", words, "--predict", "cosine:9:.1"]
    assert "--rates must be SHAPE:STEPS:PEAK" in refused(capsys, "forecast", *curves, *more)


def test_whatever_a_command_raises_itself_is_told_as_wrong_input():
    folder = Path(sgdynamics.__file__).parent / "cli"
    begins = r'(?:raise|return) (?:ValueError|TypeError)\(\s*(f?"[^"]*")'
    found = [text for path in folder.glob("*.py") for text in re.findall(begins, path.read_text(encoding="utf-8"))]
    assert len(found) > 30
    for text in found:
        said = text.lstrip("f").strip('"')
        assert re.match(r"--|FILE\b|fit: |\{(option|needed|'--)", said), said


def test_an_output_that_is_closed_takes_nothing_and_is_no_fault(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert main(PLAN.split()) == 0


def test_an_output_for_errors_that_is_closed_leaves_the_other_alone(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", None)
    assert main(["diagnose", "nowhere.csv"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_the_status_is_told_where_the_output_for_errors_takes_nothing():
    with open("/dev/full", "w") as full:
        for options in ([], ["-u"]):
            command = [sys.executable, *options, "-c", SAID, "diagnose", "nowhere.csv"]
            assert subprocess.run(command, stderr=full, check=False).returncode == 2


def test_a_file_of_rates_says_which_line_is_none(capsys, tmp_path, curves):
    path = tmp_path / "rates.txt"
    path.write_bytes(b"\xef\xbb\xbf0.1\r\n# a pause\r\n0.05  # half\r\n")
    assert (
        len(read(capsys, "plan --base-learning-rate 0.1 --log-uniform 0.1 1", "--target-file", str(path))["weight"])
        == 3
    )
    for content, said in (("lr\n0.1\n", "unlike 'lr' in line 1"), ("0.1\n0,05\n", "unlike '0,05' in line 2"),
                          ("", "holds nothing"), ("1 2\n3 4\n", "holds 2 of them")):  # fmt: skip
        path.write_text(content)
        assert said in refused(capsys, "forecast", *curves, "--schedule", str(path))
