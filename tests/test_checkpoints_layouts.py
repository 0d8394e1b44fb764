"""Folders, shards and files as training programs leave them: merged as if they were one file, or refused."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy as safetensors

from sgdynamics._files import appearing_file, remove_leftovers
from sgdynamics.checkpoints import DamagedFile, merge
from sgdynamics.models import schedules
from sgdynamics.theory.schedules import merge_plan

STEPS = (1000, 2000, 10000)
PLAN = merge_plan(schedules.linear(0.1, 9000), 0.1, STEPS, rule="wsm")
NAMES = ("model.embed.weight", "model.layers.0.weight", "model.layers.0.bias", "model.norm.weight")


def weights(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    shapes = ((6, 4), (4, 4), (4,), (4,))
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in zip(NAMES, shapes, strict=True)}


def expected() -> dict[str, np.ndarray]:
    """The sums written out."""
    found = {}
    for name in NAMES:
        total = sum(
            weight * weights(step)[name].astype(np.float64)
            for step, weight in zip(STEPS, PLAN.weight.values, strict=True)
        )
        found[name] = np.asarray(total).astype(np.float32)
    return found


def index(folder: Path, name: str, weight_map: dict[str, str]) -> None:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def shards(folder: Path, tensors: dict[str, np.ndarray], of: int = 2, stem: str = "model") -> None:
    names = list(tensors)
    weight_map = {}
    for k in range(of):
        shard = f"{stem}-{k + 1:05d}-of-{of:05d}.safetensors"
        mine = names[k::of]
        safetensors.save_file({name: tensors[name] for name in mine}, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(mine, shard)
    index(folder, f"{stem}.safetensors.index.json", weight_map)


def beside(folder: Path) -> None:
    """What else a trainer leaves."""
    (folder / "config.json").write_text('{"hidden_size": 4}')
    (folder / "tokenizer.json").write_text("{}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"pickled")


def one_file(folder: Path, step: int) -> Path:
    safetensors.save_file(weights(step), folder / "model.safetensors")
    return folder


def hub(folder: Path, step: int) -> Path:
    beside(one_file(folder, step))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def sharded(folder: Path, step: int) -> Path:
    shards(folder, weights(step))
    beside(folder)
    return folder


def other_shards(folder: Path, step: int) -> Path:
    shards(folder, weights(step), of=1 + STEPS.index(step))
    return folder


def two_formats(folder: Path, step: int) -> Path:
    (folder / "pytorch_model.bin").write_bytes(b"the same once more")
    return one_file(folder, step)


def accelerate(folder: Path, step: int) -> Path:
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        (folder / name).write_bytes(b"pickled")
    return one_file(folder, step)


def diffusion(folder: Path, step: int) -> Path:
    safetensors.save_file(weights(step), folder / "diffusion_pytorch_model.safetensors")
    return folder


def adapter(folder: Path, step: int) -> Path:
    safetensors.save_file(weights(step), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    return folder


def arrays(folder: Path, step: int) -> Path:
    np.savez(folder / "weights.npz", **weights(step))
    return folder


def consolidated(folder: Path, step: int) -> Path:
    safetensors.save_file({"other": np.ones(2, np.float32)}, folder / "consolidated.safetensors")
    return sharded(folder, step)


def deepspeed(folder: Path, step: int) -> Path:
    (folder / f"global_step{step}").mkdir()
    (folder / "latest").write_text(f"global_step{step}")
    return sharded(folder, step)


def linked(folder: Path, step: int) -> Path:
    (folder / "blobs").mkdir()
    safetensors.save_file(weights(step), folder / "blobs" / "0123abcd")
    (folder / "model.safetensors").symlink_to(folder / "blobs" / "0123abcd")
    return folder


RIGHT: dict[str, tuple[str, Callable[[Path, int], Path]]] = {
    "a trainer's folders": ("run/checkpoint-{}", hub),
    "shards": ("llama-2-7b/checkpoint-{}", sharded),
    "shards of other sizes": ("checkpoint-{}", other_shards),
    "two formats of the same": ("step_{}", two_formats),
    "accelerate": ("checkpoint_{}", accelerate),
    "diffusion": ("unet-{}", diffusion),
    "an adapter": ("outputs/checkpoint-{}", adapter),
    "arrays": ("iter_{:07d}", arrays),
    "consolidated weights beside shards": ("checkpoint-{}", consolidated),
    "a folder of an optimiser": ("checkpoint-{}", deepspeed),
    "links into a cache": ("snapshots/step-{}", linked),
}


def load(folder: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            found |= safetensors.load_file(path)
        elif path.suffix == ".npz":
            found |= dict(np.load(path))
    return found


def run_of(folder: Path, layout: str, build: Callable[[Path, int], Path]) -> list[Path]:
    paths = []
    for step in STEPS:
        place = folder / layout.format(step)
        place.mkdir(parents=True)
        paths.append(build(place, step))
    return sorted(paths)


@pytest.mark.parametrize(("layout", "build"), RIGHT.values(), ids=RIGHT)
def test_a_folder_is_merged_as_if_it_were_one_file(tmp_path, layout, build):
    paths = run_of(tmp_path, layout, build)
    output = tmp_path / "merged"
    merged = merge(paths, PLAN, output)
    assert merged.steps == STEPS
    found = load(output)
    assert set(found) == set(NAMES)
    for name, tensor in expected().items():
        np.testing.assert_array_equal(found[name], tensor)
    last = tmp_path / layout.format(STEPS[-1])
    for path in output.iterdir():  # of the same names, and those that describe the model the same
        assert (last / path.name).exists()
        if path.suffix == ".json":
            assert path.read_bytes() == (last / path.name).read_bytes()
    names = {path.name for path in output.iterdir()}
    assert not names & {"optimizer.pt", "training_args.bin", "trainer_state.json", "pytorch_model.bin", "optimizer.bin"}
    for name in {path.name for path in last.iterdir() if path.is_file()} - names:
        assert name in merged.left_out
    assert not list(tmp_path.glob(".*"))


def test_shards_equal_the_unsharded_bit_for_bit_and_the_index_is_kept(tmp_path):
    single = [one_file(path, step) for step in STEPS if not (path := tmp_path / f"one-{step}").mkdir()]
    several = [sharded(path, step) for step in STEPS if not (path := tmp_path / f"many-{step}").mkdir()]
    merge(single, PLAN, tmp_path / "one")
    merge(several, PLAN, tmp_path / "many")
    first, second = load(tmp_path / "one"), load(tmp_path / "many")
    assert {name: tensor.tobytes() for name, tensor in first.items()} == {n: t.tobytes() for n, t in second.items()}
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]


def test_the_state_of_the_optimiser_is_taken_along_when_asked_for(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", hub)
    assert {"optimizer.pt", "trainer_state.json"} <= set(merge(paths, PLAN, tmp_path / "without").left_out)
    merged = merge(paths, PLAN, tmp_path / "with", optimiser_state=True)
    assert (tmp_path / "with" / "optimizer.pt").read_bytes() == b"pickled"
    assert merged.left_out == ()


def test_what_would_change_nothing_is_refused_by_name(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", one_file)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"strip_prefix must be what names begin with, .* got 'module.'"):
        merge(paths, PLAN, tmp_path / "out", strip_prefix=["model.", "module."])
    with pytest.raises(ValueError, match=r"optimiser_state must be left out, for .*checkpoint-10000 has none to take"):
        merge(paths, PLAN, tmp_path / "out", optimiser_state=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_checkpoint_under_two_names_is_refused(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", one_file)
    (tmp_path / "latest").symlink_to(paths[0].name)
    again = (tmp_path / "latest", tmp_path / "other" / ".." / paths[0].name)
    (tmp_path / "other").mkdir()
    for other in again:
        with pytest.raises(ValueError, match=r"paths must be different checkpoints, got .* which are one"):
            merge([paths[0], other], [0.5, 0.5], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["zero_pp_rank_0_mp_rank_00_optim_states.pt", "bf16_zero_pp_rank_0_optim_states.pt"])
def test_the_partitioned_state_of_an_optimiser_is_no_second_model(tmp_path, name):
    paths = run_of(tmp_path, "checkpoint-{}", one_file)
    for path in paths:
        (path / name).write_bytes(b"pickled")
        (path / "model.safetensors").rename(path / "mp_rank_00_model_states.safetensors")
    merged = merge(paths, PLAN, tmp_path / "out")
    assert merged.left_out == (name,)
    for path in paths:  # of the same ending, as they are written
        (path / name).rename(path / name.replace(".pt", ".safetensors"))
    assert merge(paths, PLAN, tmp_path / "again").left_out == (name.replace(".pt", ".safetensors"),)


# ---------------------------------------------------------------------------------------------------------------------
# Refused, with nothing written


def no_index(folder: Path) -> str:
    (folder / "model.safetensors.index.json").unlink()
    return r"holds shards, .*, and no \.safetensors\.index\.json"


def no_shard(folder: Path) -> str:
    (folder / "model-00002-of-00002.safetensors").unlink()
    return r"model-00002-of-00002\.safetensors: cannot be opened"


def shard_is_a_folder(folder: Path) -> str:
    (folder / "model-00002-of-00002.safetensors").unlink()
    (folder / "model-00002-of-00002.safetensors").mkdir()
    return "cannot be opened"


def cut_shard(folder: Path) -> str:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    return r"model-00001-of-00002\.safetensors: has \d+ bytes where its header promises"


def no_entry(folder: Path) -> str:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    del content["weight_map"][NAMES[2]]
    path.write_text(json.dumps(content))
    return f"index.json: lacks tensor '{NAMES[2]}'"


def entry_of_nothing(folder: Path) -> str:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    content["weight_map"]["more"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(content))
    return "lacks tensor 'more', which model.safetensors.index.json says it has"


def entry_elsewhere(folder: Path) -> str:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    content["weight_map"][NAMES[0]] = "../../secret.safetensors"
    path.write_text(json.dumps(content))
    return "which is no file beside it"


def index_is_no_json(folder: Path) -> str:
    (folder / "model.safetensors.index.json").write_text("[" * 10**5)
    return "is no index of shards"


def index_is_a_list(folder: Path) -> str:
    (folder / "model.safetensors.index.json").write_text("[]")
    return "it has no 'weight_map'"


def the_same_twice(folder: Path) -> str:
    tensors = safetensors.load_file(folder / "model-00001-of-00002.safetensors")
    other = safetensors.load_file(folder / "model-00002-of-00002.safetensors")
    safetensors.save_file(other | dict([next(iter(tensors.items()))]), folder / "model-00002-of-00002.safetensors")
    return "holds tensor 'model.embed.weight', which model-00001-of-00002.safetensors has too"


def another_shape(folder: Path) -> str:
    path = folder / "model-00001-of-00002.safetensors"
    safetensors.save_file(safetensors.load_file(path) | {NAMES[0]: np.ones((4, 6), np.float32)}, path)
    return r"tensor 'model\.embed\.weight' is .*\(4, 6\).* where .* has .*\(6, 4\)|\(6, 4\).*\(4, 6\)"


def another_type(folder: Path) -> str:
    path = folder / "model-00001-of-00002.safetensors"
    safetensors.save_file(safetensors.load_file(path) | {NAMES[0]: np.ones((6, 4), np.float16)}, path)
    return "<f2 of shape"


def pointer(folder: Path) -> str:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    return "model-00001-of-00002.safetensors: is a pointer of Git LFS"


def not_a_number(folder: Path) -> str:
    path = folder / "model-00001-of-00002.safetensors"
    safetensors.save_file(safetensors.load_file(path) | {NAMES[0]: np.full((6, 4), np.nan, np.float32)}, path)
    return r"model-00001-of-00002\.safetensors: tensor 'model.embed.weight' holds NaN"


def two_models(folder: Path) -> str:
    for path in folder.iterdir():
        path.unlink()
    for name in ("model.safetensors", "model.fp16.safetensors"):
        safetensors.save_file(weights(1), folder / name)
    return "holds weights several times, model.fp16.safetensors, model.safetensors: name the files"


def nothing(folder: Path) -> str:
    for path in folder.iterdir():
        path.unlink()
    (folder / "readme.txt").write_text("moved")
    return r"holds no weights that can be read .* it has readme\.txt"


def distributed(folder: Path) -> str:
    for path in folder.iterdir():
        path.unlink()
    (folder / "pytorch_model_fsdp_0").mkdir()
    (folder / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"x")
    return "holds no weights that can be read"


REFUSED = (
    no_index,
    no_shard,
    shard_is_a_folder,
    cut_shard,
    no_entry,
    entry_of_nothing,
    entry_elsewhere,
    index_is_no_json,
    index_is_a_list,
    the_same_twice,
    another_shape,
    another_type,
    not_a_number,
    pointer,
    two_models,
    nothing,
    distributed,
)


@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_a_damaged_folder_is_named_and_nothing_is_written(tmp_path, damage, victim):
    paths = run_of(tmp_path, "checkpoint-{}", sharded)
    message = damage(tmp_path / f"checkpoint-{STEPS[victim]}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedFile, match=message) as caught:
        merge(paths, PLAN, tmp_path / "merged")
    assert str(tmp_path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_is_something_is_left_alone(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", sharded)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("there", "file"):
        with pytest.raises(ValueError, match="output must be a folder that is not there yet, or is empty"):
            merge(paths, PLAN, tmp_path / name)
    with pytest.raises(ValueError, match="output must be none of the checkpoints"):
        merge(paths, PLAN, paths[0])
    (tmp_path / "empty").mkdir()
    assert set(load(merge(paths, PLAN, tmp_path / "empty").output)) == set(NAMES)


def test_folders_and_files_are_not_mixed_and_what_is_not_there_is_named(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", one_file)
    with pytest.raises(DamagedFile, match="checkpoint-3000: is not there"):
        merge([*paths[:2], tmp_path / "checkpoint-3000"], PLAN, tmp_path / "merged")
    with pytest.raises(ValueError, match="paths must be a list of different paths"):
        merge([paths[0] / "model.safetensors", *paths[1:]], PLAN, tmp_path / "merged")


def test_a_dry_run_looks_at_everything_and_writes_nothing(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", sharded)
    before = sorted(tmp_path.rglob("*"))
    told = merge(paths, PLAN, tmp_path / "merged", dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert told == merge(paths, PLAN, tmp_path / "merged")
    assert told.size == 4 * (24 + 16 + 4 + 4)


def test_room_is_looked_for_before_anything_is_written(tmp_path, monkeypatch):
    paths = run_of(tmp_path, "checkpoint-{}", sharded)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=99))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match="are free") as caught:
        merge(paths, PLAN, tmp_path / "merged")
    assert caught.value.errno == errno.ENOSPC
    assert sorted(tmp_path.rglob("*")) == before


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from sgdynamics.checkpoints import merge
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    merge(sys.argv[1:-1], [0.5, 0.5], sys.argv[-1])
except OSError as error:
    print("errno", error.errno)
"""


def test_a_disk_that_becomes_full_leaves_nothing(tmp_path):
    for step in (1, 2):
        (tmp_path / f"step-{step}").mkdir()
        shards(tmp_path / f"step-{step}", {name: np.full(5000, step, np.float32) for name in "abc"})
    before = sorted(tmp_path.rglob("*"))
    arguments = [str(tmp_path / name) for name in ("step-1", "step-2", "out")]
    command = [sys.executable, "-c", FULL, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"errno {errno.EFBIG}\n"
    assert sorted(tmp_path.rglob("*")) == before


KILLED = """
import sys, time
from sgdynamics.checkpoints import averaging, merge
averaging.BLOCK = 4096
add = averaging._add
def slow(*arguments):
    print("at work", flush=True)
    time.sleep(0.002)
    return add(*arguments)
averaging._add = slow
merge(sys.argv[1:-1], [0.5, 0.5], sys.argv[-1])
"""


def test_a_killed_merge_of_folders_leaves_nothing(tmp_path):
    for step in (1, 2):
        (tmp_path / f"step-{step}").mkdir()
        shards(tmp_path / f"step-{step}", {name: np.full(2**17, step, np.float32) for name in "abc"})
    before = sorted(tmp_path.rglob("*"))
    command = [
        sys.executable,
        "-c",
        KILLED,
        *(str(tmp_path / f"step-{step}") for step in (1, 2)),
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        time.sleep(0.3)  # into the second shard
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("few", [True, False])
def test_without_nameless_files_a_folder_still_appears_whole_or_not_at_all(tmp_path, monkeypatch, few):
    if few:
        monkeypatch.delattr(os, "O_TMPFILE")
    else:
        monkeypatch.setattr("sgdynamics._files.MOST_NAMELESS", 1)
    paths = run_of(tmp_path, "checkpoint-{}", sharded)
    (tmp_path / ".merged.unfinished").mkdir()  # of a run that was killed
    (tmp_path / ".merged.unfinished" / "old").write_text("old")
    found = load(merge(paths, PLAN, tmp_path / "merged").output)
    for name, tensor in expected().items():
        np.testing.assert_array_equal(found[name], tensor)
    assert not (tmp_path / "merged" / "old").exists()
    not_a_number(paths[0])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedFile):
        merge(paths, PLAN, tmp_path / "other")
    assert sorted(tmp_path.rglob("*")) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("nameless", [True, False])
def test_what_another_run_removes_as_leftovers_is_never_of_a_run_at_work(tmp_path, monkeypatch, nameless):
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    leftover = tmp_path / ".out.npz.0.unfinished"
    rename, seen = os.replace, []

    def late(source, target):
        leftover.touch()
        remove_leftovers(tmp_path, "out.npz.")  # another run begins at the last moment
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        rename(source, target)

    monkeypatch.setattr(os, "replace", late)
    with appearing_file(tmp_path / "out.npz") as file:
        file.write(b"whole")
    assert (tmp_path / "out.npz").read_bytes() == b"whole"
    assert [len(names) for names in seen] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_more_files_than_a_process_may_open(tmp_path):
    paths = []
    for step in range(300):
        paths.append(tmp_path / f"step-{step}.npz")
        (np.savez_compressed if step % 2 else np.savez)(paths[-1], x=np.full(3, float(step)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        merge(paths, np.full(300, 1 / 300), tmp_path / "out.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["x"], 149.5, rtol=1e-14)


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path, monkeypatch):
    from sgdynamics.checkpoints import merging

    paths = [tmp_path / f"step-{step}.safetensors" for step in (1, 2)]
    for step, path in enumerate(paths):
        safetensors.save_file({"x": np.full(9, float(step))}, path)
    decide = merging.roles_of

    def decided(*arguments):
        roles = decide(*arguments)
        (tmp_path / "new").write_bytes(paths[0].read_bytes())
        (tmp_path / "new").replace(paths[0])
        return roles

    monkeypatch.setattr(merging, "roles_of", decided)
    merge(paths, [0.5, 0.5], tmp_path / "out.safetensors")  # the old file is still open
    monkeypatch.setattr("sgdynamics.checkpoints.open_files.LIMIT", 1)
    with pytest.raises(DamagedFile, match="changed while it was read"):
        merge(paths, [0.5, 0.5], tmp_path / "other.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# Names that wrappers change


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_of_wrappers_are_bridged_when_asked_and_the_error_says_how(tmp_path, prefix):
    paths = []
    for step in STEPS:
        tensors = weights(step) if step != 2000 else {prefix + name: value for name, value in weights(step).items()}
        paths.append(tmp_path / f"step-{step}.safetensors")
        safetensors.save_file(tensors, paths[-1])
    with pytest.raises(DamagedFile, match=rf"strip_prefix '{prefix}' \(--strip-prefix\)"):
        merge(paths, PLAN, tmp_path / "out.safetensors")
    merge(paths, PLAN, tmp_path / "out.safetensors", strip_prefix=[prefix])
    found = safetensors.load_file(tmp_path / "out.safetensors")
    for name, tensor in expected().items():
        np.testing.assert_array_equal(found[name], tensor)
    both = tmp_path / "both.safetensors"
    safetensors.save_file({"x": np.ones(1), prefix + "x": np.ones(1)}, both)
    with pytest.raises(ValueError, match="strip_prefix must leave the names different"):
        merge([both], [1.0], tmp_path / "out.safetensors", strip_prefix=[prefix])


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch


def test_files_of_pytorch_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "step-1.pt"
    path.write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match=r"pip install 'sgdynamics\[torch\]'"):
        merge([path], [1.0], tmp_path / "out.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match="which is not there"):
        merge([tmp_path / "run"], [1.0], tmp_path / "out")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch")


def of_torch(torch, step: int) -> dict:
    state = {name: torch.from_numpy(value) for name, value in weights(step).items()}
    state["head.weight"] = state[NAMES[0]]  # tied
    state["half"] = torch.arange(6).reshape(2, 3).t().to(torch.bfloat16) * step  # stored by columns
    state["norm.num_batches_tracked"] = torch.tensor(step)
    return state


@pytest.mark.parametrize("nested", [None, "model", "state_dict", "module"])
@pytest.mark.parametrize("name", ["step_{}.pt", "epoch=1-step={}.ckpt", "checkpoint-{}/pytorch_model.bin"])
def test_state_dicts_are_merged_where_they_are(torch, tmp_path, nested, name):
    paths = []
    for step in STEPS:
        state = of_torch(torch, step)
        optimiser = {"state": {0: {"exp_avg": torch.ones(4)}}}
        content = {nested: state, "optimizer": optimiser, "epoch": 1, "global_step": step} if nested else state
        paths.append(tmp_path / name.format(step))
        paths[-1].parent.mkdir(exist_ok=True)
        torch.save(content, paths[-1])
    output = tmp_path / f"out{paths[0].suffix}"
    merged = merge(sorted(paths), PLAN, output)
    assert merged.steps == STEPS
    assert merged.left_out == (("optimizer",) if nested else ())
    found = torch.load(output, weights_only=True)
    if nested:
        assert found["global_step"] == 10000
        assert "optimizer" not in found
        found = found[nested]
    for tensor, value in expected().items():
        np.testing.assert_array_equal(found[tensor].numpy(), value)
    assert found["head.weight"].data_ptr() == found[NAMES[0]].data_ptr()
    assert found["norm.num_batches_tracked"] == 10000
    exact = PLAN.weight.values @ STEPS * np.arange(6.0).reshape(2, 3).T
    np.testing.assert_allclose(found["half"].double().numpy(), exact, rtol=2**-7)
    assert found["half"].dtype == torch.bfloat16


def test_shards_of_pytorch_keep_their_index(torch, tmp_path):
    paths = []
    for step in STEPS:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        state = of_torch(torch, step)
        names = [[*NAMES[:2], "head.weight"], [*NAMES[2:], "half", "norm.num_batches_tracked"]]
        files = [f"pytorch_model-0000{k + 1}-of-00002.bin" for k in range(2)]
        for file, mine in zip(files, names, strict=True):
            torch.save({name: state[name] for name in mine}, folder / file)
        index(
            folder, "pytorch_model.bin.index.json", {n: f for f, mine in zip(files, names, strict=True) for n in mine}
        )
        beside(folder)
        paths.append(folder)
    merge(sorted(paths), PLAN, tmp_path / "merged")
    found: dict = {}
    for file in files:
        found |= torch.load(tmp_path / "merged" / file, weights_only=True)
    for tensor, value in expected().items():
        np.testing.assert_array_equal(found[tensor].numpy(), value)


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/this-must-not-be-there",)


def test_nothing_but_weights_is_unpickled(torch, tmp_path):
    for name, content in {
        "1.pt": {"model": {"w": torch.ones(2)}, "args": Payload()},
        "2.pt": [1, 2],
        "3.pt": {"step": 3, "optimizer": {"w": torch.ones(2)}},
    }.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "4.pt").write_bytes(b"hello")
    for name, message in {
        "1.pt": "only weights are read",
        "2.pt": "holds no state dict but a list",
        "3.pt": "it has step, optimizer",
        "4.pt": "cannot be read by PyTorch|only weights are read",
    }.items():
        with pytest.raises(DamagedFile, match=message):
            merge([tmp_path / name], [1.0], tmp_path / "out.pt")
        assert not (tmp_path / "out.pt").exists()
    assert not Path("/tmp/this-must-not-be-there").exists()


def header_of(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])


def test_the_header_of_a_shard_is_the_last_checkpoints(tmp_path):
    paths = run_of(tmp_path, "checkpoint-{}", sharded)
    merge(paths, PLAN, tmp_path / "merged")
    for shard in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert header_of(tmp_path / "merged" / shard) == header_of(tmp_path / "checkpoint-10000" / shard)
