"""Merging checkpoint files: exact averages, whole files or none, and every damage reported by name."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as safetensors
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sgdynamics.checkpoints import DamagedFile, merge
from sgdynamics.models import schedules
from sgdynamics.theory.schedules import merge_plan

WEIGHTS = [0.5, -0.25, 0.75]
METADATA = {"format": "pt", "note": "déjà vu"}


def state(step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One checkpoint with every kind of tensor."""
    return {
        "layer.weight": rng.standard_normal((5, 3)).astype(np.float32),
        "layer.bias": rng.standard_normal(5),
        "half": rng.standard_normal((2, 1, 4)).astype(np.float16),
        "scalar": np.array(rng.standard_normal()),
        "empty": np.empty((0, 3), np.float32),
        "step": np.array([step], np.int64),
        "mask": rng.random(4) < 0.5,
    }


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    return [state(step, rng) for step in range(3)]


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        safetensors.save_file(tensors, path, metadata=METADATA)
    return path


def load(path: Path) -> dict[str, np.ndarray]:
    return dict(np.load(path)) if path.suffix == ".npz" else safetensors.load_file(path)


@pytest.fixture(params=[".npz", ".safetensors"])
def suffix(request):
    return request.param


@pytest.fixture
def files(tmp_path, suffix, states):
    return [save(tmp_path / f"{step}{suffix}", tensors) for step, tensors in enumerate(states)]


# ---------------------------------------------------------------------------------------------------------------------
# What comes out


def test_floats_are_averaged_in_float64_and_the_rest_is_the_last_checkpoints(files, states, suffix, tmp_path):
    merged = merge(files, WEIGHTS, tmp_path / f"out{suffix}")
    found = load(merged.output)
    assert set(found) == set(states[0])
    for name, last in states[-1].items():
        assert found[name].dtype == last.dtype
        assert found[name].shape == last.shape
        if last.dtype.kind == "f":
            exact = np.average([tensors[name].astype(np.float64) for tensors in states], axis=0, weights=WEIGHTS)
            np.testing.assert_array_equal(found[name], exact.astype(last.dtype))
            assert name in merged.averaged
        else:
            np.testing.assert_array_equal(found[name], last)
            assert name in merged.copied


@given(
    tensors=st.integers(1, 6).flatmap(
        lambda count: arrays.arrays(np.float64, (count, 7), elements=st.floats(-1e6, 1e6, allow_subnormal=False))
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_float64_equals_numpy_average_to_a_rounding(tmp_path_factory, tensors, seed):
    folder = tmp_path_factory.mktemp("average")
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(tensors)))
    paths = [save(folder / f"{k}.npz", {"x": row}) for k, row in enumerate(tensors)]
    merge(paths, weights, folder / "out.npz")
    scale = np.abs(tensors).max() + 1e-300
    found = load(folder / "out.npz")["x"]
    assert np.abs(found - np.average(tensors, axis=0, weights=weights)).max() <= 1e-15 * scale


def test_tensors_of_many_blocks_are_whole(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("sgdynamics.checkpoints.averaging.BLOCK", 64)
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal(101).astype(np.float32) for _ in range(3)]
    paths = [save(tmp_path / f"{k}{suffix}", {"x": row, "n": np.arange(50)}) for k, row in enumerate(rows)]
    merge(paths, WEIGHTS, tmp_path / f"out{suffix}")
    exact = np.average(np.array(rows, np.float64), axis=0, weights=WEIGHTS)
    np.testing.assert_array_equal(load(tmp_path / f"out{suffix}")["x"], exact.astype(np.float32))


def test_metadata_and_header_are_the_last_checkpoints(tmp_path, states):
    paths = [save(tmp_path / f"{k}.safetensors", tensors) for k, tensors in enumerate(states)]
    merge(paths, WEIGHTS, tmp_path / "out.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "out.safetensors", framework="numpy") as file:
        assert file.metadata() == METADATA
    header = paths[-1].read_bytes()
    length = 8 + struct.unpack("<Q", header[:8])[0]
    assert (tmp_path / "out.safetensors").read_bytes()[:length] == header[:length]


def test_compressed_and_column_major_archives_stay_so(tmp_path):
    rows = [np.asfortranarray(np.random.default_rng(k).standard_normal((4, 3))) for k in range(2)]
    paths = []
    for k, row in enumerate(rows):
        paths.append(tmp_path / f"{k}.npz")
        np.savez_compressed(paths[-1], x=row, z=np.array([1 + 2j * k]))
    merge(paths, [0.25, 0.75], tmp_path / "out.npz")
    found = load(tmp_path / "out.npz")
    np.testing.assert_array_equal(found["x"], 0.25 * rows[0] + 0.75 * rows[1])
    assert found["x"].flags.f_contiguous
    assert found["z"] == [1 + 1.5j]
    assert zipfile.ZipFile(tmp_path / "out.npz").infolist()[0].compress_type == zipfile.ZIP_DEFLATED


def brain_file(path: Path, bits: np.ndarray) -> Path:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [bits.size], "data_offsets": [0, 2 * bits.size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bits.astype("<u2").tobytes())
    return path


def test_brain_floats_are_averaged_and_rounded_to_nearest_even(tmp_path):
    # 1, 1 + 2^-7, 1 + 2^-6: neighbours, whose midpoints are ties
    low, middle, high = 0x3F80, 0x3F81, 0x3F82
    first = brain_file(tmp_path / "0.safetensors", np.array([low, middle, low, 0xC000]))
    second = brain_file(tmp_path / "1.safetensors", np.array([middle, high, high, 0x4040]))
    merge([first, second], [0.5, 0.5], tmp_path / "out.safetensors")
    found = np.frombuffer((tmp_path / "out.safetensors").read_bytes()[-8:], "<u2")
    assert found.tolist() == [low, high, middle, 0x3F00]  # ties to even; (-2 + 3)/2 = 0.5


def test_a_plan_is_taken_as_it_comes(tmp_path, states, suffix):
    plan = merge_plan(schedules.linear(0.1, 20), 0.1, [0, 10, 20], rule="wsm")
    paths = [save(tmp_path / f"{k}{suffix}", tensors) for k, tensors in enumerate(states)]
    merge(paths, plan, tmp_path / f"plan{suffix}")
    merge(paths, plan.weight.values, tmp_path / f"weights{suffix}")
    assert (tmp_path / f"plan{suffix}").read_bytes() == (tmp_path / f"weights{suffix}").read_bytes()


def test_the_trainers_weights_go_through_files_unchanged(tmp_path):
    from sgdynamics.simulate import trainer

    net = trainer.network([3, 4, 2], "tanh", seed=0)
    other = trainer.network([3, 4, 2], "tanh", seed=1)
    for name, model in (("0", net), ("1", other)):
        save(tmp_path / f"{name}.npz", {f"W{k}": weight for k, weight in enumerate(model.weights)})
    merge([tmp_path / "0.npz", tmp_path / "1.npz"], [0.5, 0.5], tmp_path / "out.npz")
    for k, (left, right) in enumerate(zip(net.weights, other.weights, strict=True)):
        np.testing.assert_array_equal(load(tmp_path / "out.npz")[f"W{k}"], 0.5 * left + 0.5 * right)


def test_torchs_own_loader_reads_the_output(tmp_path, states):
    torch_loader = pytest.importorskip("safetensors.torch", reason="needs PyTorch, which is only compared with")
    paths = [save(tmp_path / f"{k}.safetensors", tensors) for k, tensors in enumerate(states)]
    merge(paths, WEIGHTS, tmp_path / "out.safetensors")
    loaded = torch_loader.load_file(tmp_path / "out.safetensors")
    for name, tensor in load(tmp_path / "out.safetensors").items():
        np.testing.assert_array_equal(loaded[name].numpy(), tensor)


def test_statistics_of_batch_normalisation_are_warned_about(tmp_path, suffix):
    tensors = {"bn.running_mean": np.ones(3), "bn.num_batches_tracked": np.array(5)}
    path = save(tmp_path / f"0{suffix}", tensors)
    with pytest.warns(UserWarning, match="measure them anew"):
        merged = merge([path], [1.0], tmp_path / f"out{suffix}")
    assert len(merged.warnings) == 1


def test_progress_is_shown_when_asked_for(files, suffix, tmp_path, capsys):
    merge(files, WEIGHTS, tmp_path / f"out{suffix}", progress=True)
    assert "merging: 100%" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# Memory, and a death in the middle


def test_memory_does_not_grow_with_the_files(tmp_path, suffix):
    size = 2**22  # 32 MB
    paths = [save(tmp_path / f"{k}{suffix}", {"x": np.full(size, float(k))}) for k in range(3)]
    tracemalloc.start()
    try:
        merge(paths, WEIGHTS, tmp_path / f"out{suffix}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6  # blocks of bytes, their sums in float64, the result
    assert load(tmp_path / f"out{suffix}")["x"][0] == 1.25


KILLED = """
import sys
from sgdynamics import checkpoints
from sgdynamics.checkpoints import averaging
averaging.BLOCK = 4096
add = averaging._add
def slow(*arguments):
    print("at work", flush=True)
    import time
    time.sleep(0.002)
    return add(*arguments)
averaging._add = slow
checkpoints.merge(sys.argv[1:-1], [0.5, 0.5], sys.argv[-1])
"""


def test_a_killed_merge_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    paths = [save(tmp_path / f"{k}{suffix}", {"x": np.full(2**19, float(k))}) for k in range(2)]
    output = save(tmp_path / f"out{suffix}", {"x": np.zeros(2)})
    before = output.read_bytes()
    command = [sys.executable, "-c", KILLED, *map(str, paths), str(output)]
    for pause in (0.0, 0.05, 0.2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"at work\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.returncode == -signal.SIGKILL
        assert output.read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {f"0{suffix}", f"1{suffix}", f"out{suffix}"}


def test_without_nameless_files_a_failure_still_leaves_nothing(tmp_path, suffix, states, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    paths = [save(tmp_path / f"{k}{suffix}", tensors) for k, tensors in enumerate(states)]
    merge(paths, WEIGHTS, tmp_path / f"out{suffix}")
    reference = (tmp_path / f"out{suffix}").read_bytes()
    broken = {**states[0], "layer.bias": np.full(5, np.nan)}
    save(paths[0], broken)
    with pytest.raises(DamagedFile, match=r"layer\.bias"):
        merge(paths, WEIGHTS, tmp_path / f"out{suffix}")
    assert (tmp_path / f"out{suffix}").read_bytes() == reference
    assert len(list(tmp_path.iterdir())) == 4


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def flip(content: bytes, low: int, high: int, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(low, high))
    return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


def damage(path: Path, kind: str, tensors: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    content = path.read_bytes()
    names = [name for name in tensors if tensors[name].size]
    if kind == "cut":
        path.write_bytes(cut(content, rng))
    elif kind == "flipped":
        if path.suffix == ".npz":  # the numbers of a tensor, under the archive's checksum
            info = zipfile.ZipFile(path).getinfo(f"{names[rng.integers(len(names))]}.npy")
            first = (
                info.header_offset
                + 30
                + len(info.filename)
                + struct.unpack_from("<H", content, info.header_offset + 28)[0]
            )
            path.write_bytes(flip(content, first, first + info.file_size, rng))
        else:  # the length, names, types, shapes and offsets
            metadata = content.index(b"__metadata__")
            end = content.index(b"}", metadata)
            length = 8 + struct.unpack("<Q", content[:8])[0]
            low, high = (0, 8) if rng.random() < 0.3 else (end, length)
            path.write_bytes(flip(content, low, high, rng))
    elif kind == "wrong shapes":
        name = names[rng.integers(len(names))]
        save(path, {**tensors, name: np.ones((3, 7), tensors[name].dtype)})
    else:
        floats = [name for name in names if tensors[name].dtype.kind == "f"]
        name = floats[rng.integers(len(floats))]
        bad = tensors[name].copy()
        bad.flat[rng.integers(bad.size)] = rng.choice([np.nan, np.inf, -np.inf])
        save(path, {**tensors, name: bad})


@pytest.mark.parametrize("kind", ["cut", "flipped", "wrong shapes", "nan"])
def test_a_damaged_file_is_a_clear_error_and_leaves_no_output(tmp_path, suffix, states, kind):
    rng = np.random.default_rng(2)
    for trial in range(30):
        folder = tmp_path / str(trial)
        folder.mkdir()
        paths = [save(folder / f"{k}{suffix}", tensors) for k, tensors in enumerate(states)]
        victim = int(rng.integers(3))
        damage(paths[victim], kind, states[victim], rng)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(DamagedFile) as caught:
                merge(paths, WEIGHTS, folder / f"out{suffix}")
        assert str(folder) in str(caught.value)
        if kind != "wrong shapes":  # which of two shapes is the wrong one, nobody knows
            assert victim == 0 or str(paths[victim]) in str(caught.value)
        assert {path.name for path in folder.iterdir()} == {path.name for path in paths}


def header_file(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"[]", "no JSON object"),
        (b"{", "header that cannot be read"),
        (b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{}}', "twice"),
        (b'{"x":{"dtype":"F32","shape":[1]}}', "needs dtype"),
        (b'{"x":{"dtype":"F4","shape":[4],"data_offsets":[0,4]}}', "F4"),
        (b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "no whole numbers"),
        (b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', "does not fit its offsets"),
        (b'{"x":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}', "a hole"),
        (b'{"__metadata__":{"a":1},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "metadata"),
        (b'{"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}', "promises"),
        (b"[" * 100000, "header that cannot be read"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(tmp_path, header, reason):
    path = header_file(tmp_path / "0.safetensors", header, b"\0\0\0\0")
    with pytest.raises(DamagedFile, match=reason):
        merge([path], [1.0], tmp_path / "out.safetensors")


def test_archives_of_other_things_are_refused(tmp_path):
    path = tmp_path / "0.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DamagedFile, match="not a number"):
        merge([path], [1.0], tmp_path / "out.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DamagedFile, match=r"no \.npy file"):
        merge([path], [1.0], tmp_path / "out.npz")


def test_an_average_that_overflows_its_type_is_an_error(tmp_path, suffix):
    big = np.array([60000.0], np.float16)
    paths = [save(tmp_path / f"{k}{suffix}", {"x": sign * big}) for k, sign in enumerate((1, -1))]
    with pytest.raises(ValueError, match="overflows its type"):
        merge(paths, [2.0, -1.0], tmp_path / f"out{suffix}")


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


def test_arguments_that_do_not_fit_together_are_named(files, suffix, tmp_path):
    with pytest.raises(ValueError, match="plan must be one weight per path, 3"):
        merge(files, [0.5, 0.5], tmp_path / f"out{suffix}")
    with pytest.raises(ValueError, match=r"weights that sum to 0\.75"):
        merge(files, [0.25, 0.25, 0.25], tmp_path / f"out{suffix}")
    with pytest.raises(ValueError, match="output must be none of the checkpoints"):
        merge(files, WEIGHTS, files[0])
    with pytest.raises(ValueError, match="like the checkpoints"):
        merge(files, WEIGHTS, tmp_path / ("out.npz" if suffix == ".safetensors" else "out.safetensors"))
    with pytest.raises(ValueError, match="a directory that exists"):
        merge(files, WEIGHTS, tmp_path / "nowhere" / f"out{suffix}")
    with pytest.raises(ValueError, match="different paths"):
        merge([files[0], files[0]], [0.5, 0.5], tmp_path / f"out{suffix}")
    with pytest.raises(ValueError, match="plan must be a plan"):
        merge(files, xr.Dataset({"loss": 1.0}), tmp_path / f"out{suffix}")
    with pytest.raises(DamagedFile, match="cannot be opened"):
        merge([*files[:2], tmp_path / f"none{suffix}"], WEIGHTS, tmp_path / f"out{suffix}")


def test_tensors_that_are_missing_are_named(files, suffix, states, tmp_path):
    fewer = {name: tensor for name, tensor in states[1].items() if name != "half"}
    save(files[1], fewer)
    with pytest.raises(DamagedFile, match="lacks tensor 'half'"):
        merge(files, WEIGHTS, tmp_path / f"out{suffix}")
    save(files[1], {**states[1], "more": np.ones(2)})
    with pytest.raises(DamagedFile, match="'more'"):
        merge(files, WEIGHTS, tmp_path / f"out{suffix}")
