"""Time our kernels against what one would otherwise pick: ``python -m benchmarks``.

Every workload runs in a process of its own for each number of threads. Results are checked against each other before
anything is timed. Into the output folder: ``results.md``, ``results.json`` and a picture of time against size for every
workload.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks._measure import Workload, measure


def workloads() -> dict[str, Workload]:
    """Every workload by name, from the modules beside this one that have any."""
    found = {}
    for info in pkgutil.iter_modules(benchmarks.__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"benchmarks.{info.name}")
            found |= {workload.name: workload for workload in getattr(module, "WORKLOADS", ())}
    return found


def environment(threads: int) -> dict[str, str]:
    """The same number of threads for everyone."""
    count = str(threads)
    pools = ("SGDYNAMICS", "OMP", "OPENBLAS", "MKL", "NUMBA")
    return {
        **os.environ,
        **{f"{name}{'_THREADS' if name == 'SGDYNAMICS' else '_NUM_THREADS'}": count for name in pools},
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false" if threads == 1 else "",
    }


def child(name: str, threads: int, quick: bool, path: Path) -> None:
    """Measure one workload and write what was found."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:threads])
    workload = workloads()[name]
    sizes = workload.sizes[:1] if quick else workload.sizes
    found = measure(workload, threads, sizes, lambda text: print(f"  {text}", flush=True))
    path.write_text(json.dumps(found))


def run(workload: Workload, threads: int, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks", "--child", workload.name, str(threads), str(path)]
        variables = {**environment(threads), **workload.environment}
        subprocess.run(command + ["--quick"] * quick, env=variables, check=True)
        found: dict[str, Any] = json.loads(path.read_text())
    found["times"] = {int(size): rounds for size, rounds in found["times"].items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="workloads (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--quick", action="store_true", help="the smallest size only")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), help="folder (default: %(default)s)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, threads, path = arguments.child
        child(name, int(threads), arguments.quick, Path(path))
        return
    known = workloads()
    if arguments.list:
        print("\n".join(known))
        return
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    from benchmarks._report import markdown, write

    arguments.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name in arguments.names or known:
        for threads in known[name].threads:
            print(f"{name}, {threads} thread(s)", flush=True)
            measured = run(known[name], threads, arguments.quick)
            results.append((known[name], measured))
            print(markdown(known[name], measured), flush=True)
            write(results, arguments.out)


if __name__ == "__main__":
    main()
