"""C sources beside the benchmarks, compiled where a compiler is present."""

from __future__ import annotations

import ctypes
import functools
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks import _vectors
from benchmarks._measure import Missing

FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")
# What asks for the processor at hand, as compilers for x86 and for Arm have it.
AT_HAND = ("-march=native", "-mcpu=native")


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """The shared library made of ``native/NAME.c``, by the first compiler and target that work."""
    compilers = [path for path in map(shutil.which, ("gcc", "clang", "cc")) if path]
    if not compilers:
        raise Missing("no C compiler")
    source = Path(__file__).parent / "native" / f"{name}.c"
    target = Path(tempfile.mkdtemp()) / f"{name}.so"
    complaint = ""
    for compiler, processor in itertools.product(compilers, _vectors.C_FLAGS if _vectors.held() else AT_HAND):
        command = [compiler, *FLAGS, processor, "-o", str(target), str(source), "-lm"]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode == 0:
            return ctypes.CDLL(str(target))
        complaint = complaint or next((line for line in made.stderr.splitlines() if "error" in line), "no reason given")
    raise Missing(f"does not compile: {complaint}")
