"""From nothing to the first phase diagram: whole processes, imports and compilation included."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks._measure import Contender, Run, Workload, slower

FIRST_DIAGRAM = """
import numpy as np
from sgdynamics.simulate.uv import phase_diagram
found = phase_diagram(np.linspace(0.5, 5.0, {size}), [64, 256], steps=100, seeds=10)
print(int(found.outcome.sum()))
"""

# What the packages below take by themselves: their imports, the first array with names, the first call of a kernel.
PACKAGES_ALONE = """
import numpy, numba, scipy.special, xarray
xarray.DataArray(0.0)
numba.njit(lambda x: x)(0.0)
"""

ALONE = "the packages below alone"

# Where Dask is installed, xarray imports it for the first array with names; the package itself does not require it.
WITHOUT_DASK = "import sys; sys.modules['dask'] = None"


def _process(code: str, **variables: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True).stdout


@functools.cache
def _kept_kernels(size: int) -> dict[str, str]:
    """Variables that say where the kernels of the diagram are kept, after a first process has kept them."""
    where = {"SGDYNAMICS_NUMBA_CACHE": "1", "NUMBA_CACHE_DIR": tempfile.mkdtemp()}
    _process(WITHOUT_DASK + FIRST_DIAGRAM.format(size=size), **where)
    return where


def _diagram(cached: bool, before: str = WITHOUT_DASK, times: int = 1) -> Callable[[int], Run]:
    def prepare(size: int) -> Run:
        code = before + FIRST_DIAGRAM.format(size=size * times)
        where = _kept_kernels(size) if cached else {"SGDYNAMICS_NUMBA_CACHE": "0"}
        return lambda: _process(code, **where)

    return prepare


def _only(code: str) -> Callable[[int], Run]:
    return lambda size: lambda: _process(code)


def _contenders(threads: int) -> list[Contender]:
    modules = ("sgdynamics", "numpy", "xarray", "numba", "scipy.stats", "jax", "torch")
    imports = [Contender(f"import {name}", _only(f"import {name}"), requires=(name.split(".")[0],)) for name in modules]
    return [
        Contender("first diagram, cached", _diagram(True)),
        Contender("first diagram, nothing cached", _diagram(False)),
        # of more than one block, for which there are kernels of their own
        Contender("first large diagram, nothing cached", _diagram(False, times=20)),
        Contender("first diagram, cached, Dask installed", _diagram(True, before=""), requires=("dask",)),
        Contender(ALONE, _only(WITHOUT_DASK + PACKAGES_ALONE)),
        *imports,
    ]


def _check(results: Mapping[str, Any], size: int) -> None:
    printed = {results[name] for name in results if name.startswith("first diagram")}
    assert len(printed) == 1, printed


WORKLOADS = (
    Workload(
        name="start_up",
        title="Start-up of a whole process",
        size_name="learning rates in the diagram",
        sizes=(200,),
        contenders=_contenders,
        check=_check,
        goals=(
            slower("first diagram, cached", ALONE, 1.1),
            slower("first diagram, nothing cached", ALONE, 2.0),
        ),
        processes=True,
        note="Without Dask unless it says so: the package does not require it, and xarray imports it where it is.",
    ),
)
