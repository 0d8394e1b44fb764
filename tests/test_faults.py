"""Kills, full and read-only disks, two runs at once, no home: the same data or a clear error, nothing half written."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

HERE = Path(__file__).parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, or mounts of Linux")


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HERE.parent, **options)


@linux
@pytest.mark.parametrize(("kills", "rounds"), [(10, 3), pytest.param(25, 10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [[], ["--no-nameless"]], ids=["nameless files", "hidden files"])
def test_merges_killed_or_side_by_side_leave_whole_files(tmp_path, options, kills, rounds):
    often = ["--kills", str(kills), "--rounds", str(rounds)]
    done = run(sys.executable, str(HERE / "faults.py"), "merge", str(tmp_path / "x"), *often, *options)
    assert done.returncode == 0, done.stderr
    killed, caught = _counts(done.stdout)
    assert killed == kills
    assert caught >= kills // 5


def _counts(said: str) -> tuple[int, int]:
    words = said.replace(",", "").split()
    return int(words[0]), int(words[2])


@linux
@pytest.mark.slow
def test_sweeps_killed_or_side_by_side_end_the_same(tmp_path):
    done = run(sys.executable, str(HERE / "faults.py"), "sweep", str(tmp_path / "x"), "--kills", "25", "--rounds", "3")
    assert done.returncode == 0, done.stderr
    assert _counts(done.stdout)[1] >= 5


# ---------------------------------------------------------------------------------------------------------------------
# A disk of its own, in a namespace of its own, where anyone may mount one


def on_disk(folder: Path, options: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run shell commands with a small disk mounted on a folder."""
    mount = f"mount -t tmpfs -o {options} none {shlex.quote(str(folder))}"
    return run("unshare", "-Urm", "sh", "-c", f"{mount} && {script}")


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    if shutil.which("unshare") is None or on_disk(tmp_path_factory.mktemp("disk"), "size=1m", "true").returncode:
        pytest.skip("no disk can be mounted here")


@pytest.fixture
def disk(disks, tmp_path):
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


COMMAND = f"{shlex.quote(sys.executable)} -m sgdynamics"
DISKS = {"full": "size=8k", "read-only": "size=1m,ro"}


@pytest.fixture
def checkpoints(tmp_path):
    for step in (10, 20):
        np.savez(tmp_path / f"step-{step}.npz", x=np.full(4000, float(step)))
    (tmp_path / "plan.json").write_text("[0.5, 0.5]")
    return f"{tmp_path}/step-10.npz {tmp_path}/step-20.npz --plan {tmp_path}/plan.json"


@pytest.mark.parametrize("kind", DISKS)
def test_a_merge_onto_a_disk_that_takes_nothing_says_so_and_leaves_nothing(disk, checkpoints, kind):
    merge = f"{COMMAND} merge {checkpoints} --output {disk}/out.npz"
    done = on_disk(disk, DISKS[kind], f"{merge}; echo status $?; ls -A {disk}")
    assert done.stdout.splitlines()[-1] == "status 2", done
    assert "Traceback" not in done.stderr
    assert {"full": "No space left", "read-only": "Read-only file system"}[
        kind
    ] in done.stderr or "are free" in done.stderr


@pytest.mark.parametrize("kind", DISKS)
def test_a_table_onto_a_disk_that_takes_nothing_says_so(disk, kind):
    schedule = f"{COMMAND} schedule --average ema --beta 0.999 --steps 3000 --gain 0.1 --output {disk}/table.csv"
    done = on_disk(disk, DISKS[kind], f"{schedule}; echo status $?; ls -A {disk}")
    assert done.stdout.splitlines()[-1] == "status 2", done
    assert "--output cannot be written" in done.stderr


@pytest.mark.slow
def test_figures_on_a_full_disk_go_on_when_there_is_room(disk):
    figures = f"{shlex.quote(sys.executable)} -m figures --fast --jobs 1 --only sandler2023_two_points --out {disk}/out"
    more = f"mount -o remount,size=100m {shlex.quote(str(disk))}"
    copy = f"cp {disk}/out/sandler2023_two_points.nc {disk.parent}/made.nc; ls -A {disk}/out"
    done = on_disk(disk, "size=100k", f"{figures}; echo status $?; {more}; {figures}; echo status $?; {copy}")
    assert [line for line in done.stdout.splitlines() if line.startswith("status")] == ["status 1", "status 0"], done
    assert "No space left on device" in done.stdout + done.stderr
    assert "unfinished" not in done.stdout.splitlines()[-1]
    assert xr.load_dataset(disk.parent / "made.nc", engine="h5netcdf").sizes


@linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_table_that_nobody_can_take_is_reported(unbuffered):
    with open("/dev/full", "w") as full:
        command = [
            sys.executable,
            "-m",
            "sgdynamics",
            *["schedule", "--average", "ema", "--beta", "0.9", "--steps", "3", "--gain", "0.1"],
        ]
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# A bare environment

BARE = """
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot as plt
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.simulate.deep_linear import initial_weights
from sgdynamics.simulate.quadratic import ensemble
made = {made}
plt.rcParams["font.family"] = "No Such Font"
figure, axes = plt.subplots()
axes.plot(made.ravel())
axes.set_title("numbers")
figure.savefig("numbers.png")
print(made.tobytes().hex())
"""
# By a small kernel, which has to be compiled in the process that cannot keep it, and by a large one.
DRAWN = "initial_weights([3, 5, 2], replicas=4, seed=0)[0]"
RUN = "ensemble(MiniBatchQuadratic([1.0, 0.1], 1.0), [0.1] * 5, replicas=4, seed=0).excess_risk.values"


@pytest.mark.parametrize("made", [DRAWN, pytest.param(RUN, marks=pytest.mark.slow)], ids=["drawn", "run"])
def test_without_home_display_fonts_or_a_place_for_caches_the_bits_are_the_same(tmp_path, made):
    command = [sys.executable, "-c", BARE.format(made=made)]
    nowhere = tmp_path / "a file, no folder"
    nowhere.write_text("")
    usual = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    bare = {name: os.environ[name] for name in kept if name in os.environ}
    bare |= {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere), "XDG_CONFIG_HOME": str(nowhere)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=bare)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == usual.stdout.splitlines()[-1]
    assert (tmp_path / "numbers.png").stat().st_size > 0


def test_a_system_without_locks_and_nameless_files_has_another_way(tmp_path, monkeypatch, checkpoints):
    """As Windows, which has neither: whole files, and nothing left by a run that ends."""
    from sgdynamics import _files
    from sgdynamics.checkpoints import merge

    monkeypatch.setattr(_files, "fcntl", None)
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    files = [tmp_path / "step-10.npz", tmp_path / "step-20.npz"]
    merge(files, [0.5, 0.5], tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["x"].tolist() == [15.0] * 4000
    assert not list(tmp_path.glob(".*"))
