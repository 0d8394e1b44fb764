"""Files from elsewhere are refused at once and in a few bytes, write nothing, and run nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import hostile
import numpy as np
import pytest

from sgdynamics import logs
from sgdynamics.checkpoints import DamagedFile, merge

SCRIPT = Path(__file__).parent / "hostile.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_hostile_files_are_refused_or_harmless(count):
    command = [sys.executable, str(SCRIPT), "--count", str(count), "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f"{count} hostile files of seed 0: 0 faults" in done.stdout


@pytest.fixture
def bench(tmp_path):
    return hostile.Bench(tmp_path)


def test_what_must_not_happen_is_noticed(bench):
    def pickled():
        np.load(
            bench.read("bad.npy", hostile.npy(np.array([hostile.Trap(bench.trap)], dtype=object))), allow_pickle=True
        )

    def half_written():
        (bench.out / "half").write_bytes(b"")
        raise ValueError("refused")

    def slow():
        end = time.process_time() + hostile.SECONDS
        while time.process_time() <= end:
            pass

    def hungry():
        try:
            raise MemoryError
        except MemoryError:
            raise ValueError("refused") from None

    assert hostile.fault(bench, lambda: None) is None
    assert hostile.fault(bench, pickled) == "ran what it holds"
    bench.trap.unlink()
    assert hostile.fault(bench, half_written).startswith("left ")
    (bench.out / "half").unlink()
    assert hostile.fault(bench, hungry).startswith("asked for too much memory")
    assert hostile.fault(bench, lambda: {}["missing"]).startswith("KeyError")
    assert hostile.fault(bench, slow).startswith("took ")


def test_many_zeros_in_few_bytes_are_no_log(tmp_path):
    log = tmp_path / "log.npz"
    np.savez_compressed(log, step=np.arange(1000), loss=np.zeros(1000))
    assert logs.read(log).sizes["step"] == 1000
    np.savez_compressed(log, loss=np.zeros(20_000_000))
    assert log.stat().st_size < 1e6
    with pytest.raises(ValueError, match=r"arrays of at most 100 MB in all: log\.npz, got '160 MB'"):
        logs.read(log)


def test_a_log_that_says_it_is_larger_than_it_is_is_refused(tmp_path):
    log = tmp_path / "log.npz"
    header = hostile.with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }\n")
    log.write_bytes(hostile.archive({"loss.npy": header}))
    with pytest.raises(ValueError, match=r"arrays of the size that they say: log\.npz, got .*1099511627776"):
        logs.read(log)


def test_a_number_too_large_for_a_float_is_reported_by_its_row(tmp_path):
    log = tmp_path / "log.json"
    log.write_text(json.dumps([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 10**400}]))
    with pytest.raises(ValueError, match="numbers in the column 'loss' in row 2"):
        logs.read(log)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path, name):
    bad, other = tmp_path / "bad.npz", tmp_path / "other.npz"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr(f"{name}.npy", hostile.npy(np.zeros(3)))
    other.write_bytes(bad.read_bytes())
    with pytest.raises(DamagedFile, match="leads out of the archive"):
        merge([bad, other], [0.5, 0.5], tmp_path / "out.npz", in_this_order=True)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("shard", ["../good.safetensors", "/good.safetensors", "a\0.safetensors", "..", "x.txt"])
def test_an_index_that_names_files_elsewhere_is_refused(bench, shard):
    index = {"weight_map": dict.fromkeys(hostile.TENSORS, shard)}
    with pytest.raises(DamagedFile, match="which is no file beside it"):
        bench.folders("model.safetensors.index.json", json.dumps(index).encode())
    assert list(bench.out.iterdir()) == []


def test_a_weight_too_large_for_a_float_is_no_weight(bench):
    with pytest.raises(TypeError, match=r"plan must be a plan of .*, or weights that sum to 1"):
        merge(list(bench.good.values())[:1], [10**400], bench.out / "out.safetensors")
