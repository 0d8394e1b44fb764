"""Kills at random moments, two writers at once, a clock that jumps: what is left is whole.

``python tests/faults.py merge FOLDER --kills 50`` forks as many processes that merge checkpoints there, kills each at
another moment, and looks at what is left; ``sweep`` does the same to a sweep of networks that can be resumed. It ends
with a run that is left alone, whose result is that of one that never was disturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.checkpoints import merge
from sgdynamics.simulate import trainer

Work = Callable[..., Any]


# ---------------------------------------------------------------------------------------------------------------------
# What is disturbed, and how its folder must look at any moment


def sources(folder: Path) -> list[Path]:
    """Checkpoints to merge, beside the folder that is watched."""
    paths = [folder.parent / f"step-{step}.npz" for step in (1, 2)]
    for step, path in enumerate(paths):
        if not path.exists():
            np.savez(path, x=np.random.default_rng(step).normal(size=2**18), y=np.arange(9.0) * step)
    return paths


WEIGHTS = [(0.25, 0.75), (0.5, 0.5), (-1.0, 2.0)]


def merging(folder: Path, which: int = 0) -> None:
    """A merge, of one of several kinds that write into the same file."""
    merge(sources(folder), WEIGHTS[which], folder / "out.npz", in_this_order=True)


def merged_whole(folder: Path) -> bool:
    """Whether what has a name is all of one merge, and there is nothing beside but what is hidden."""
    found = [path.name for path in folder.glob("[!.]*")]
    if not found:
        return True
    x = [np.load(path)["x"] for path in sources(folder)]
    with np.load(folder / "out.npz") as file:
        made = file["x"]
    return found == ["out.npz"] and any(np.array_equal(made, a * x[0] + b * x[1]) for a, b in WEIGHTS)


def sweeping(folder: Path, which: int = 0) -> xr.Dataset:
    """A sweep of small networks, of one kind only: another experiment has other files."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(32, 8)), generator.normal(size=(32, 3))
    made: xr.Dataset = trainer.network_thresholds(
        x, y, depth=[2, 3], width=[6, 10], c=2.0 ** np.arange(0, 4, 0.25), landscape_c=[1.0, 3.0], seeds=3,
        activation="tanh", loss="mse", steps=8, directory=folder, processes=1,
    )  # fmt: skip
    return made


def cells_whole(folder: Path) -> bool:
    """Whether every cell that has a name can be read."""
    for path in folder.glob("[!.]*.npz"):
        with np.load(path) as file:
            if not all(file[name].size for name in file.files):
                return False
    return True


# How it is looked at, and whether it goes on where it was: then, once it is finished, nothing is left to be killed.
TASKS: dict[str, tuple[Work, Callable[[Path], bool], bool]] = {
    "merge": (merging, merged_whole, False),
    "sweep": (sweeping, cells_whole, True),
}


# ---------------------------------------------------------------------------------------------------------------------
# Disturbances


def forked(work: Work, folder: Path, which: int = 0, first: Callable[[], Any] = lambda: None) -> int:
    """A process that does the work, and says by its exit whether it could."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        first()
        work(folder, which)
        code = 0
    except (OSError, ValueError) as error:  # clear enough to go on with
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 2
    finally:
        os._exit(code)


def killed(work: Work, whole: Callable[[Path], bool], goes_on: bool, folder: Path, kills: int, seed: int) -> int:
    """Kill that many processes; how many were in the middle of it."""
    moments, began = random.Random(seed), time.monotonic()
    os.waitpid(forked(work, folder.parent / "timed"), 0)
    seconds, caught = time.monotonic() - began, 0
    for _ in range(kills):
        child = forked(work, folder)
        time.sleep(moments.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        caught += os.WIFSIGNALED(status)
        assert whole(folder), f"what is in {folder} is not whole: {sorted(folder.iterdir())}"
        if goes_on and os.WIFEXITED(status):
            for path in folder.glob("[!.]*"):
                path.unlink()
    return caught


def at_once(work: Work, whole: Callable[[Path], bool], folder: Path, rounds: int) -> list[int]:
    """Three processes in one folder at the same time, several times: how they ended."""
    ends = []
    for _ in range(rounds):
        children = [forked(work, folder, which) for which in range(3)]
        ends += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert whole(folder), f"what is in {folder} is not whole: {sorted(folder.iterdir())}"
    return ends


def jumping_clock() -> None:
    """From now on the clock goes anywhere, and back."""
    moments = random.Random(0)
    time.time = lambda: moments.uniform(0, 4e9)
    time.time_ns = lambda: int(1e9 * time.time())


def contents(folder: Path) -> dict[str, bytes]:
    """All files that have a name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*"))}


def main() -> int:
    """Disturb, and look at what is left."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-nameless", action="store_true", help="as on systems without files without a name")
    given = parser.parse_args()
    if given.no_nameless:
        del os.O_TMPFILE
    work, whole, goes_on = TASKS[given.task]
    folders = {name: given.folder / name for name in ("timed", "alone", "killed", "at once", "clock")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    os.waitpid(forked(work, folders["alone"]), 0)
    expected = contents(folders["alone"])
    assert expected
    caught = killed(work, whole, goes_on, folders["killed"], given.kills, given.seed)
    ends = at_once(work, whole, folders["at once"], given.rounds)
    os.waitpid(forked(work, folders["clock"], first=jumping_clock), 0)
    for name in ("killed", "at once"):
        assert os.waitpid(forked(work, folders[name]), 0)[1] == 0
    for name in ("killed", "at once", "clock"):
        assert contents(folders[name]).keys() == expected.keys(), name
        assert all(same(folders[name] / file, folders["alone"] / file) for file in expected), name
        assert not list(folders[name].glob(".*unfinished")), name
    crashed = [end for end in ends if end not in (0, 2)]
    print(f"{given.kills} kills, {caught} of them in the middle; {len(ends)} at once, {ends.count(2)} refused")
    return bool(crashed)


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same numbers."""
    with np.load(one, allow_pickle=False) as found, np.load(other, allow_pickle=False) as expected:
        return found.files == expected.files and all(
            found[name].tobytes() == expected[name].tobytes() for name in found.files
        )


if __name__ == "__main__":
    sys.exit(main())
