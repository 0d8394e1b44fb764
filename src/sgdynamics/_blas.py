"""One BLAS thread, so that a result has the same bits whatever the machine."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from threadpoolctl import ThreadpoolController

_LOCK = threading.Lock()
_inside = 0
_limit: Any = None


@functools.cache
def _controller() -> ThreadpoolController:
    # SciPy may bring a BLAS of its own, which the controller sees only once it is loaded.
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


def _let_any_thread_set() -> None:
    # From threadpoolctl 3.8 on the first thread that sets a limit keeps the others from it, without a word.
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every BLAS library at one thread.

    The limit belongs to the process, not to the calling thread: callers are counted, the first one sets it and the last
    one restores it, so that no caller loses it while it still computes.
    """
    global _inside, _limit
    with _LOCK:
        if _inside == 0:
            _let_any_thread_set()
            _limit = _controller().limit(limits=1, user_api="blas")
            _let_any_thread_set()
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _let_any_thread_set()
                _limit.restore_original_limits()
                _let_any_thread_set()
