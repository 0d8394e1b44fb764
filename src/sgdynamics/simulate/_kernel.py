"""The one place where kernels are compiled.

Every kernel runs in float64 under IEEE rules: no ``fastmath`` (it folds ``isnan`` and ``isfinite`` to constants), no
``parallel`` (threads come from :mod:`sgdynamics.simulate._blocks`), division by zero as in NumPy, and without the GIL.
Kernels keep their work in locals and write into arrays that are handed in.

What was compiled is kept on disk, see :mod:`sgdynamics.simulate._kernel_cache`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba import types
from numba.extending import intrinsic

from sgdynamics.simulate._kernel_cache import KernelCache, folder, name_of

__all__ = ["inlined", "kernel", "stay_apart"]

P = ParamSpec("P")
R = TypeVar("R")


# Said of both kinds: what is not said, Numba takes from the caller. Nobody calls them from C, and a wrapper for that
# is a tenth of what a small one takes to compile.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "nogil": True, "no_cfunc_wrapper": True}


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that is called from Python, or that other kernels call."""
    compiled: Callable[P, R] = _kept(numba.njit(**OPTIONS, forceinline=False)(function))
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function of numbers into every kernel that calls it."""
    # without forceinline a call remains in the innermost loop, several times slower
    compiled: Callable[P, R] = _kept(numba.njit(**OPTIONS, forceinline=True)(function))
    return compiled


def _stay_apart(context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate


# Said in a kernel that others call: it stays a function of its own. Its loop then has all registers for its constants;
# inside of a longer function, LLVM loads them again for every vector.
stay_apart: Callable[[], None] = cast(Any, intrinsic(_stay_apart))


def _kept(dispatcher: Any) -> Any:
    """The same, looked for on disk before it is compiled."""
    path = folder()
    if path is not None and hasattr(dispatcher, "enable_caching"):  # a plain function where compilation is switched off
        dispatcher._set_uuid(name_of(dispatcher.py_func))
        dispatcher._cache = KernelCache(dispatcher.py_func, path)
    return dispatcher
