"""Files and folders that appear under their name when they are whole; killed before that, they were never there."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where leftovers of killed runs stay
    fcntl = None  # type: ignore[assignment]

# Files of a folder that are held open without a name; of more, an unfinished folder has a hidden one.
MOST_NAMELESS = 64
# What file systems and headers take beside the bytes of the tensors.
_SPARE = 2**20


def check_space(target: Path, size: int) -> None:
    """Whether as many bytes are free where something is to be written."""
    free = shutil.disk_usage(target.parent).free
    if free < size + _SPARE:
        text = f"the result takes {size / 1e6:.1f} MB and {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, text, str(target))


@contextmanager
def appearing_file(path: Path, tidy: bool = True) -> Iterator[IO[bytes]]:
    """A new file, or a new content of an old one; a device or a pipe is written to, and never replaced.

    First, if ``tidy``, leftovers of the same file are removed, for which the whole folder is looked through.
    """
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    if tidy:
        remove_leftovers(path.parent, f"{path.name}.")
    whole = _hidden(path)
    try:
        with ExitStack() as until_named:
            with _unnamed(path.parent, whole) as file:
                yield file
                _name(file, whole)
                if fcntl is not None:  # others must not take what has no name yet for a leftover
                    until_named.callback(os.close, os.dup(file.fileno()))
            os.replace(whole, path)
    finally:
        with suppress(OSError):  # of a disk that cannot be written to it is told above
            whole.unlink(missing_ok=True)


def remove_leftovers(folder: Path, start: str = "") -> None:
    """Remove what runs that were killed have left of files whose names begin so; nothing of runs that are at work."""
    for leftover in folder.glob(f".{glob.escape(start)}*unfinished"):
        try:
            descriptor = os.open(leftover, os.O_RDONLY)
        except OSError:  # of a run that ended just now
            continue
        try:
            if _claim(descriptor):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


class Folder:
    """A folder that is being written."""

    def __init__(self, path: Path, files: int) -> None:
        remove_leftovers(path.parent, f"{path.name}.")
        self._path, self._hidden = path, _hidden(path)
        self._nameless = files <= MOST_NAMELESS and _has_nameless(path.parent)
        self._written: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        if not self._nameless:
            self._make()

    def _make(self) -> None:
        self._stack.enter_context(_claimed(self._hidden))

    @contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """One of its files."""
        if self._nameless:
            file = self._written[name] = self._stack.enter_context(_unnamed(self._path.parent, self._hidden))
            yield file
            file.flush()
        else:
            with open(self._hidden / name, "wb") as file:
                yield file

    def appear(self, beside: dict[str, Path]) -> None:
        """Give it its name, with copies of other files in it."""
        if self._nameless:
            self._make()
        for name, file in self._written.items():
            _name(file, self._hidden / name)
        for name, source in beside.items():
            shutil.copyfile(source, self._hidden / name)
        if self._path.is_dir():
            self._path.rmdir()  # it is empty
        os.rename(self._hidden, self._path)

    def close(self) -> None:
        """Whatever happened."""
        self._stack.close()
        shutil.rmtree(self._hidden, ignore_errors=True)


@contextmanager
def appearing_folder(path: Path, files: int) -> Iterator[Folder]:
    """A new folder of so many files; :meth:`Folder.appear` ends it."""
    folder = Folder(path, files)
    try:
        yield folder
    finally:
        folder.close()


# ---------------------------------------------------------------------------------------------------------------------
# What has no name yet, or a hidden one: each run's own, so that two runs never write into one file


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """A new folder that others can tell from a leftover for as long as this process lives."""
    path.mkdir()
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _claim(descriptor)
        yield
    finally:
        os.close(descriptor)


def _claim(descriptor: int) -> bool:
    """Take it, if it is nobody's; the system gives it back when its holder is gone."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody's, or of a file system that has no locks
        return False
    return True


def _has_nameless(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666))
    except (AttributeError, OSError):
        return False
    return True


@contextmanager
def _unnamed(folder: Path, hidden: Path) -> Iterator[IO[bytes]]:
    """A file without a name where the system has such, and otherwise with a hidden one."""
    opened = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666) if _has_nameless(folder) else hidden
    with open(opened, "w+b") as file:
        _claim(file.fileno())
        yield file


def _name(file: IO[bytes], path: Path) -> None:
    """Let a whole file have a name."""
    file.flush()
    os.fsync(file.fileno())
    if isinstance(file.name, int):
        descriptors = os.open("/proc/self/fd", os.O_RDONLY)
        try:
            os.link(str(file.name), path, src_dir_fd=descriptors, follow_symlinks=True)
        finally:
            os.close(descriptors)
    elif Path(file.name) != path:
        os.replace(file.name, path)
