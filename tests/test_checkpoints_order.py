"""A merge weighs every checkpoint as the step it is of, or refuses: a shell's order is not that of the run."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.checkpoints import DamagedFile, merge
from sgdynamics.models import schedules
from sgdynamics.theory.schedules import merge_plan


def plan_of(*steps: int):
    return merge_plan(schedules.linear(0.1, steps[-1] - steps[0]), 0.1, steps, rule="wsm")


def save(path: Path, value: float, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"weight": np.full(3, value)}
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        safetensors.save_file(tensors, path, metadata=metadata)
    return path


def value(path: Path) -> float:
    tensors = np.load(path) if path.suffix == ".npz" else safetensors.load_file(path)
    return float(tensors["weight"][0])


def refuses(paths, plan, output: Path, text: str, **how) -> str:
    before = sorted(output.parent.rglob("*"))
    with pytest.raises(ValueError, match=text) as caught:
        merge(paths, plan, output, **how)
    assert sorted(output.parent.rglob("*")) == before
    return str(caught.value)


# Where the number stands in the paths of a run, as the programs that write them name them.
LAYOUTS = {
    "a folder per step": "checkpoint-{}/model.safetensors",
    "a folder per step, deeper": "llama-7b-v2/seed-3/checkpoint-{}/weights/model.safetensors",
    "in the file's name": "run/step_{}.npz",
    "with zeros": "iter_{:07d}/model.safetensors",
    "with the epoch": "epoch=1-step={}-val_loss=0.25.safetensors",
    "the same twice": "step-{0}/model-step-{0}.npz",
    "one shard": "ckpt-{}/model-00001-of-00003.safetensors",
    "a bare number": "{}.npz",
    "between words": "resnet50_{}_weights.npz",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@settings(max_examples=8)
@given(order=st.permutations(range(4)), first=st.integers(0, 10**7), gaps=st.lists(st.integers(2, 9999), min_size=3))
def test_any_order_of_the_paths_gives_the_plans_weights_to_its_steps(tmp_path_factory, layout, order, first, gaps):
    folder = tmp_path_factory.mktemp("run")
    steps = [first, *(first + sum(gaps[: k + 1]) for k in range(3))]
    values = [1.0, 10.0, 100.0, 1000.0]
    paths = [save(folder / layout.format(step), value) for step, value in zip(steps, values, strict=True)]
    plan = plan_of(*(steps if first % 2 else [step - first for step in steps]))
    merged = merge([paths[place] for place in order], plan, folder / f"merged{paths[0].suffix}")
    assert merged.paths == tuple(paths)
    assert merged.steps == tuple(steps)
    assert value(merged.output) == pytest.approx(plan.weight.values @ values, rel=1e-14)


def test_the_shells_order_of_a_run_is_not_believed(tmp_path):
    steps = [1000, 2000, 10000]
    paths = sorted(save(tmp_path / f"checkpoint-{step}" / "model.safetensors", float(step)) for step in steps)
    assert paths[1].parent.name == "checkpoint-10000"
    plan, output = plan_of(0, 1000, 9000), tmp_path / "out.safetensors"
    merge(paths, plan, output)
    assert value(output) == pytest.approx(plan.weight.values @ steps, rel=1e-14)
    output.unlink()
    said = refuses(paths, plan.weight.values, output, "order of their steps, for weights that have none")
    assert "checkpoint-10000/model.safetensors (step 10000), checkpoint-2000/model.safetensors (step 2000)" in said
    merged = merge(paths, plan.weight.values, output, in_this_order=True)
    assert value(output) == pytest.approx(plan.weight.values @ [1000, 10000, 2000], rel=1e-14)
    assert merged.steps == ()


@pytest.mark.parametrize("steps", [[0, 1000, 2000], [0, 500, 9000], [3000, 4000, 12000]])
def test_steps_that_are_not_the_plans_are_listed(tmp_path, steps):
    paths = [save(tmp_path / f"checkpoint-{step}.npz", 1.0) for step in (1000, 2000, 10000)]
    said = refuses(paths, plan_of(*steps), tmp_path / "out.npz", "paths must be of the plan's steps")
    for text in ("step 1000", "step 2000", "step 10000", ", ".join(map(str, steps)), "in_this_order"):
        assert text in said


def test_a_count_of_the_checkpoints_is_taken_as_one_and_said(tmp_path):
    paths = [save(tmp_path / f"epoch_{epoch}" / "model.npz", float(epoch)) for epoch in (9, 10, 11)]
    merged = merge(paths[::-1], plan_of(0, 500, 1000), tmp_path / "out.npz")
    assert value(merged.output) == pytest.approx(plan_of(0, 500, 1000).weight.values @ [9, 10, 11])
    assert merged.notes == ("9 to 11 in the paths are taken as epochs, of steps 0 to 1000",)
    refuses(paths, plan_of(0, 400, 1000), tmp_path / "other.npz", "of the plan's steps")
    named = [save(tmp_path / f"step_{step}.npz", 1.0) for step in (9, 10, 11)]
    refuses(named, plan_of(0, 500, 1000), tmp_path / "other.npz", "of the plan's steps")


@pytest.mark.parametrize("source", ["metadata", "trainer_state"])
def test_what_the_files_record_is_their_step(tmp_path, source):
    paths, values = [], []
    for name, step in (("c", 100), ("a", 200), ("b", 1000)):
        path = tmp_path / name / "model.safetensors"
        paths.append(save(path, float(step), {"global_step": str(step)} if source == "metadata" else None))
        values.append(step)
        if source == "trainer_state":
            (path.parent / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    plan = plan_of(100, 200, 1000)
    merged = merge(sorted(paths), plan, tmp_path / "out.safetensors")
    assert merged.steps == (100, 200, 1000)
    assert value(merged.output) == pytest.approx(plan.weight.values @ values, rel=1e-14)


def test_paths_and_records_that_disagree_are_refused(tmp_path):
    def run(*pairs):
        return [
            save(tmp_path / f"step-{named}" / "model.safetensors", 1.0, {"step": str(step)}) for named, step in pairs
        ]

    out = tmp_path / "out.safetensors"
    said = refuses(run((100, 200), (200, 100), (300, 300)), plan_of(0, 100, 200), out, "agree with those that")
    assert "step-100/model.safetensors (step 100, recorded 200)" in said
    refuses(run((100, 100), (200, 250), (300, 300)), plan_of(0, 100, 200), out, "agree with those that")
    refuses(run((100, 100), (200, 100), (300, 300)), plan_of(0, 100, 200), out, "of different steps")
    merge(run((100, 7), (200, 7), (300, 7)), plan_of(0, 100, 200), out)  # one number for all is no step


@pytest.mark.parametrize(
    "names",
    [
        ("first", "second", "last"),
        ("step-1/a", "step-1/b", "step-2/c"),
        ("2024-01-31/model", "2024-02-01/model", "2024-02-02/model"),
        ("seed-1/model", "seed-2/model", "seed-3/model"),
        ("step-100/model", "step-200/model", "final/model"),
        ("1/loss-30", "2/loss-10", "3/20"),
    ],
)
def test_steps_that_cannot_be_told_are_refused(tmp_path, names):
    paths = [save(tmp_path / f"{name}.npz", 1.0) for name in names]
    said = refuses(paths, plan_of(0, 100, 200), tmp_path / "out.npz", "whose steps can be told")
    assert f"{names[0]}.npz (step unknown)" in said
    assert merge(paths, plan_of(0, 100, 200), tmp_path / "out.npz", in_this_order=True).steps == ()


def test_a_damaged_state_of_a_trainer_is_named(tmp_path):
    paths = [save(tmp_path / f"checkpoint-{step}" / "model.npz", 1.0) for step in (1, 2)]
    for damage in ("{", "[" * 10**5, "\x00"):
        (paths[0].parent / "trainer_state.json").write_text(damage)
        with pytest.raises(DamagedFile, match=r"trainer_state\.json"):
            merge(paths, [0.5, 0.5], tmp_path / "out.npz")


@settings(max_examples=30)
@given(steps=st.lists(st.integers(0, 10**9), min_size=2, max_size=5, unique=True))
def test_bare_weights_are_refused_exactly_when_the_steps_are_not_in_order(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("run")
    paths = [save(folder / f"step{step}.npz", 1.0) for step in steps]
    weights = np.full(len(steps), 1 / len(steps))
    if all(before < after for before, after in pairwise(steps)):
        assert merge(paths, weights, folder / "out.npz").steps == tuple(steps)
    else:
        refuses(paths, weights, folder / "out.npz", "order of their steps")
