"""Threads over independent tasks.

A task writes its own part of a result and nothing else, so that the result has the same bits whoever runs it and in
whatever order. How the work is cut into tasks never depends on the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeAlias

__all__ = ["Task", "run_all", "slices", "thread_count", "workers"]

Task: TypeAlias = Callable[[], None]

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


@contextlib.contextmanager
def workers(most: int) -> Iterator[Callable[[Iterable[Task]], None]]:
    """Threads that stay while inside, for tasks that come in many short rounds; the caller's is one of them.

    Parameters
    ----------
    most : int
        Largest number of tasks in a round, >= 0: more threads than that are of no use.

    Yields
    ------
    callable
        Takes the tasks of a round, which are independent of each other, and returns when all are done. Raises the first
        error of a task, in the order of the tasks; tasks that have not begun by then are dropped.
    """
    threads = min(thread_count(), most)
    if threads < 2:
        yield _in_turn
        return
    with ThreadPoolExecutor(threads - 1, thread_name_prefix="sgdynamics") as pool:
        yield functools.partial(_side_by_side, pool, threads - 1)


def _in_turn(tasks: Iterable[Task]) -> None:
    for task in tasks:
        task()


def _side_by_side(pool: ThreadPoolExecutor, helpers: int, tasks: Iterable[Task]) -> None:
    """In this thread and as many others, each of which takes the next task once it is done with one."""
    waiting = deque(enumerate(tasks))
    errors: dict[int, BaseException] = {}

    def work() -> None:
        while waiting and not errors:
            try:
                place, task = waiting.popleft()
            except IndexError:  # another was quicker
                return
            try:
                task()
            except BaseException as error:
                errors[place] = error

    others = [pool.submit(work) for _ in range(min(helpers, len(waiting) - 1))]
    try:
        work()
    finally:  # an interrupt between two tasks too: nobody begins another
        waiting.clear()
    wait(others)
    if errors:
        raise errors[min(errors)]


def run_all(tasks: Iterable[Task]) -> None:
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
    with workers(len(waiting)) as run:
        run(waiting)
