"""The one place where kernels are compiled.

Every kernel runs in float64 under IEEE rules: no ``fastmath`` (it folds ``isnan`` and ``isfinite`` to constants), no
``parallel`` (threads come from :mod:`sgdynamics.simulate._blocks`), division by zero as in NumPy, and without the GIL.
Kernels keep their work in locals and write into arrays that are handed in.

``SGDYNAMICS_NUMBA_CACHE=1`` in the environment keeps the compiled code on disk between processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

__all__ = ["inlined", "kernel"]

P = ParamSpec("P")
R = TypeVar("R")

CACHE = os.environ.get("SGDYNAMICS_NUMBA_CACHE") == "1"


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that is called from Python."""
    compiled: Callable[P, R] = numba.njit(error_model="numpy", fastmath=False, nogil=True, cache=CACHE)(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function of numbers into every kernel that calls it."""
    # without forceinline a call remains in the innermost loop, several times slower
    compiled: Callable[P, R] = numba.njit(
        error_model="numpy", fastmath=False, nogil=True, cache=CACHE, forceinline=True
    )(function)
    return compiled
