"""The recipe for sweeps larger than memory as it is printed: killed workers and killed jobs lose nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import cosine
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.simulate.uv import phase_diagram

PAGE = (Path(__file__).parent.parent / "docs" / "howto" / "larger_than_memory.md").read_text(encoding="utf-8")


def million_networks():
    return phase_diagram(np.linspace(0.5, 4.5, 125), 2 ** np.arange(3, 11), steps=300, seeds=1000)[["outcome"]]


def thousand_runs():
    model = MiniBatchQuadratic(np.geomspace(0.01, 1.0, 10), center_variance=1.0)
    return ensemble(model, cosine(0.5, 1000), replicas=1000, seed=1, record=np.arange(100, 1001, 100))


# name in the recipe, its arguments here, number of blocks, and the direct call
JOBS = {
    "networks": ({"rates": 125, "seeds": 1000, "block": 63}, 16, million_networks),
    "runs": ({"replicas": 1000, "block": 100}, 10, thousand_runs),
}


def recipe():
    (code,) = re.findall(r"^```python\n(from pathlib.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict = {"__name__": "recipe"}
    exec(compile(code, "docs/howto/larger_than_memory.md", "exec"), names)
    return names


@pytest.fixture
def names():
    for needed in ("distributed", "zarr"):
        pytest.importorskip(needed, reason=f"needs {needed}, of the extra distributed")
    return recipe()


@pytest.fixture
def client(names):
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with names["LocalCluster"](**how) as cluster, names["Client"](cluster) as client:
        yield client


class Killed(Exception):
    pass


class DyingClient:
    def compute(self, writes):
        raise Killed


OTHERS = {"networks": {"rates": 125, "seeds": 1001, "block": 63}, "runs": {"replicas": 1000, "block": 125}}


@pytest.mark.parametrize("job", JOBS)
def test_a_folder_that_holds_the_beginning_of_something_else_is_refused(names, tmp_path, job):
    def begin(arguments):
        with pytest.raises(Killed):
            names["to_disk"](DyingClient(), str(tmp_path), names[job](**arguments))

    begin(JOBS[job][0])
    begin(JOBS[job][0])
    with pytest.raises(ValueError, match="folder must be a new one, or hold the beginning of the same data, got"):
        begin(OTHERS[job])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of workers that are killed
@pytest.mark.parametrize("job", JOBS)
def test_a_killed_worker_and_a_killed_job_lose_nothing(names, client, tmp_path, job):
    arguments, blocks, direct = JOBS[job]
    lazy = names[job](**arguments)
    assert all(array.chunks is not None for array in lazy.data_vars.values())
    completed, made = names["as_completed"], []

    def first(count, then):
        def some(futures):
            for future in completed(futures):
                if len(made) == count:
                    then()
                made.append(future)
                yield future

        return some

    def die():
        raise KeyboardInterrupt

    names["as_completed"] = first(4, die)
    with pytest.raises(KeyboardInterrupt):
        names["to_disk"](client, str(tmp_path), lazy)
    (done,) = tmp_path.glob("done*")
    written = {path.name: path.stat().st_mtime_ns for path in done.iterdir()}
    assert len(written) == 4

    made.clear()
    worker = next(iter(client.run(os.getpid).values()))
    names["as_completed"] = first(2, lambda: os.kill(worker, signal.SIGKILL))
    found = names["to_disk"](client, str(tmp_path), lazy)
    assert len(made) == blocks - 4
    assert {name: (done / name).stat().st_mtime_ns for name in written} == written
    xr.testing.assert_identical(found.load(), direct())
