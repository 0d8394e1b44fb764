"""C sources beside the benchmarks, compiled where a compiler is present."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks._measure import Missing

FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=off", "-fno-math-errno")


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """The shared library made of ``native/NAME.c``."""
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        raise Missing("no C compiler")
    source = Path(__file__).parent / "native" / f"{name}.c"
    target = Path(tempfile.mkdtemp()) / f"{name}.so"
    subprocess.run([compiler, *FLAGS, "-shared", "-fPIC", "-o", str(target), str(source), "-lm"], check=True)
    return ctypes.CDLL(str(target))
