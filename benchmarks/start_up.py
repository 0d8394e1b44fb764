"""From nothing to the first phase diagram: whole processes, imports and compilation included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks._measure import Contender, Run, Workload, within

FIRST_DIAGRAM = """
import numpy as np
from sgdynamics.simulate.uv import phase_diagram
found = phase_diagram(np.linspace(0.5, 5.0, {size}), [64, 256], steps=100, seeds=10)
print(int(found.outcome.sum()))
"""


def _process(code: str, **variables: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True).stdout


def _diagram(cached: bool) -> Callable[[int], Run]:
    def prepare(size: int) -> Run:
        cache = {"SGDYNAMICS_NUMBA_CACHE": "1", "NUMBA_CACHE_DIR": tempfile.mkdtemp()} if cached else {}
        return lambda: _process(FIRST_DIAGRAM.format(size=size), **{"SGDYNAMICS_NUMBA_CACHE": "0", **cache})

    return prepare


def _import(module: str) -> Callable[[int], Run]:
    return lambda size: lambda: _process(f"import {module}")


def _contenders(threads: int) -> list[Contender]:
    modules = ("sgdynamics", "numpy", "xarray", "numba", "scipy.stats", "jax", "torch")
    imports = [
        Contender(f"import {name}", _import(name), requires=() if name == "sgdynamics" else (name.split(".")[0],))
        for name in modules
    ]
    return [
        Contender("first diagram, cached", _diagram(True)),
        Contender("first diagram, nothing cached", _diagram(False)),
        *imports,
    ]


def _check(results: Mapping[str, Any], size: int) -> None:
    cached, fresh = results["first diagram, cached"], results["first diagram, nothing cached"]
    assert cached == fresh, (cached, fresh)


WORKLOADS = (
    Workload(
        name="start_up",
        title="Start-up of a whole process",
        size_name="learning rates in the diagram",
        sizes=(200,),
        contenders=_contenders,
        check=_check,
        goals=(
            within("first diagram, cached", 1.2),
            within("first diagram, nothing cached", 3.0),
        ),
    ),
)
