"""Files that appear whole or not at all, and a directory that belongs to one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from figures.engine.locks import Lock, lock

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
    """Wait until a file's content, or a directory's list of names, is on the disk; Windows opens no directories."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
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
    holder = directory / ".lock"
    try:
        run = lock(holder, wait=False)
    except BlockingIOError:
        process = holder.read_text(encoding="utf-8").strip() or "unknown"
        raise DirectoryInUse(
            f"another run (process {process}) is writing into {directory}; wait for it, or give another --out"
        ) from None
    with closing(run):
        holder.write_text(str(os.getpid()), encoding="utf-8")
        lock(directory / ".workers").close()
        for leftover in directory.glob(f".*{_UNFINISHED}"):
            leftover.unlink()
        yield


def share_as_worker(directory: Path) -> Lock:
    """Take a worker's share of the directory; it lasts until what is returned is closed."""
    return lock(directory / ".workers", shared=True)
