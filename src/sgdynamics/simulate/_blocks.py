"""Threads over independent tasks.

A task writes its own part of a result and nothing else, so that the result has the same bits whoever runs it and in
whatever order. How the work is cut into tasks never depends on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

__all__ = ["run_all", "slices", "thread_count"]

VARIABLE = "SGDYNAMICS_THREADS"


def thread_count() -> int:
    """Number of threads: ``SGDYNAMICS_THREADS``, or one per core.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the variable is set to something other than an integer >= 1.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"thread_count: {VARIABLE} must be an integer >= 1, got {text!r}")
    return int(text)


def slices(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` items into blocks of ``size``, the last one shorter.

    Parameters
    ----------
    count : int
        Number of items, >= 0.
    size : int
        Length of a block, >= 1.

    Yields
    ------
    slice

    Examples
    --------
    >>> list(slices(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def run_all(tasks: Iterable[Callable[[], None]]) -> None:
    """Run every task, on several threads where there are several.

    Parameters
    ----------
    tasks : iterable of callable
        Independent of each other; kernels that release the GIL run side by side.

    Raises
    ------
    Exception
        The first error of a task, in the order of the tasks; tasks that have not begun by then are dropped.
    """
    waiting = list(tasks)
    threads = min(thread_count(), len(waiting))
    if threads < 2:
        for task in waiting:
            task()
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="sgdynamics") as pool:
        futures = [pool.submit(task) for task in waiting]
        try:
            for future in futures:
                future.result()
        except BaseException:  # an interrupt too: do not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise
