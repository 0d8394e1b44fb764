"""The recipe for sweeps larger than memory as it is printed: killed workers and killed jobs lose nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from sgdynamics.simulate.uv import phase_diagram

PAGE = (Path(__file__).parent.parent / "docs" / "howto" / "larger_than_memory.md").read_text(encoding="utf-8")

C, WIDTH, SEEDS, BLOCK = np.linspace(0.5, 4.5, 24), np.array([4.0, 64.0]), 50, 2


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of workers that are killed
def test_a_killed_worker_and_a_killed_job_lose_nothing(names, client, tmp_path):
    expected = phase_diagram(C, WIDTH, steps=300, seeds=SEEDS).outcome
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
        names["sweep"](client, tmp_path, C, WIDTH, SEEDS, BLOCK)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "done").iterdir()}
    assert len(written) == 4

    made.clear()
    worker = next(iter(client.run(os.getpid).values()))
    names["as_completed"] = first(2, lambda: os.kill(worker, signal.SIGKILL))
    found = names["sweep"](client, tmp_path, C, WIDTH, SEEDS, BLOCK)
    assert len(made) == len(C) // BLOCK - 4
    assert {name: (tmp_path / "done" / name).stat().st_mtime_ns for name in written} == written
    assert np.array_equal(found.outcome.values, expected.values)
    assert found.outcome.attrs["flag_meanings"] == expected.attrs["flag_meanings"]
    assert np.array_equal(found.width, WIDTH)
