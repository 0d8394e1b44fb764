"""Files that appear whole or not at all, and a directory that belongs to one run at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_UNFINISHED = ".unfinished"


class DirectoryInUse(RuntimeError):
    """Another run is writing into the output directory."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose content takes the place of ``path`` in one step when the block ends well.

    Whoever looks at ``path``, even after a power cut, sees the old file or the new one, never a part.
    """
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    try:
        yield unfinished
        _flush(unfinished)
        os.replace(unfinished, path)
        _flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def remove(path: Path) -> None:
    """Remove a file if it is there, and be sure of it before anything else is written."""
    path.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until a file's content, or a directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """Hold the directory for one run, and start it without the leftovers of a run that was killed.

    Two locks, both dropped by the operating system when their holder dies: ``.lock`` is the run's, ``.workers`` is
    shared by its worker processes. A killed run lets go of the first at once; the second is free only when the last of
    its workers is gone and nothing can be written any more.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise DirectoryInUse(
                f"another run (process {holder}) is writing into {directory}; wait for it, or give another --out"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        with open(directory / ".workers", "w") as workers:
            fcntl.flock(workers, fcntl.LOCK_EX)
        for leftover in directory.glob(f".*{_UNFINISHED}"):
            leftover.unlink()
        yield


def share_as_worker(directory: Path) -> IO[str]:
    """Take a worker's share of the directory; it lasts as long as the file that is returned is open."""
    workers = open(directory / ".workers", "w")  # noqa: SIM115 - the caller keeps it open
    fcntl.flock(workers, fcntl.LOCK_SH)
    return workers
