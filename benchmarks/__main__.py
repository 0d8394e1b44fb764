"""Time our kernels against what one would otherwise pick: ``python -m benchmarks``.

Every workload runs in a process of its own for each number of threads. Results are checked against each other before
anything is timed. Into the output folder: ``results.md``, ``results.json`` and a picture of time against size for every
workload. What is measured is kept there, and taken from there when the same is asked for again: started anew after an
interruption, it goes on. A contender that cannot be built or run is listed as absent with its reason; where our own
fails, the other workloads go on, and the exit status is 1.

``--vectors 256`` holds everyone to what a processor with AVX2 and without AVX-512 has, and the results say so.
"""

from __future__ import annotations

import argparse
import hashlib
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
import sgdynamics
from benchmarks import _vectors
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
        "XLA_FLAGS": " ".join(
            ["--xla_cpu_multi_thread_eigen=false"] * (threads == 1) + [_vectors.XLA_FLAG] * _vectors.held()
        ),
    }


def child(name: str, threads: int, quick: bool, path: Path) -> None:
    """Measure one workload and write what was found."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:threads])
    workload = workloads()[name]
    sizes, rounds = ((workload.smallest,), 1) if quick else (workload.sizes, None)
    found = measure(workload, threads, sizes, lambda text: print(f"  {text}", flush=True), rounds)
    path.write_text(json.dumps(found))


def code() -> str:
    """A fingerprint of all that is measured, and of how."""
    found = hashlib.sha256()
    for package in (benchmarks, sgdynamics):
        for root in map(Path, package.__path__):
            for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".c", ".h")):
                found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def run(workload: Workload, threads: int, quick: bool) -> dict[str, Any] | None:
    """What a process of its own measured, or None where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks", "--child", workload.name, str(threads), str(path)]
        variables = {**environment(threads), **workload.environment}
        ended = subprocess.run(command + ["--quick"] * quick, env=variables, check=False)
        if ended.returncode:
            return None
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def kept_or_run(workload: Workload, threads: int, quick: bool, about: dict[str, Any], folder: Path) -> Any:
    """From the disk, if the same was measured by the same code on the same machine, or now, to be kept there."""
    path = folder / f"{workload.name}_{threads}{'_quick' if quick else ''}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("about") == about:
        print("  measured before", flush=True)
        found = kept["found"]
    else:
        found = run(workload, threads, quick)
        if found is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"about": about, "found": found}))
        part.replace(path)
    return {**found, "times": {int(size): rounds for size, rounds in found["times"].items()}}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="workloads (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--quick", action="store_true", help="the smallest size only, in one round")
    parser.add_argument(
        "--vectors", type=int, choices=[256], help="bits of vectors for everyone, on wider processors too"
    )
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), help="folder (default: %(default)s)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, threads, path = arguments.child
        child(name, int(threads), arguments.quick, Path(path))
        return 0
    if arguments.vectors:
        if _vectors.of_processor() < 4:
            parser.error("--vectors: this processor has no vectors of 256 bits that can be asked for")
        _vectors.hold()
    known = workloads()
    if arguments.list:
        print("\n".join(known))
        return 0
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    from benchmarks._report import machine, markdown, write

    about = {**machine(), "code": code()}
    results, failed = [], []
    for name in arguments.names or known:
        for threads in known[name].threads:
            print(f"{name}, {threads} thread(s)", flush=True)
            measured = kept_or_run(known[name], threads, arguments.quick, about, arguments.out / "measured")
            if measured is None:
                failed.append(f"{name}, {threads} thread(s)")
                continue
            results.append((known[name], measured))
            print(markdown(known[name], measured), flush=True)
            write(results, arguments.out)
    for text in failed:
        print(f"failed: {text}; its error is above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
