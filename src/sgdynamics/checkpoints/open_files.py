"""Any number of files that are read at a time, a few of them open."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sgdynamics.checkpoints.damage import DamagedFile

# Far below what a system allows a process, and enough for most runs.
LIMIT = 64


class OpenFiles:
    """Keeps the files that were used last open, and opens the others again when they are read."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, IO[bytes]] = OrderedDict()

    def file(self, path: Path) -> File:
        """A file for reading."""
        return File(path, self)

    def handle(self, path: Path) -> IO[bytes]:
        """An open handle."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        while len(self._open) >= LIMIT:
            self._open.popitem(last=False)[1].close()
        try:
            self._open[path] = open(path, "rb", buffering=0)  # noqa: SIM115 - closed here or above
        except OSError as error:
            raise DamagedFile(path, f"cannot be opened, {error.strerror}") from None
        return self._open[path]

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


@contextmanager
def open_files() -> Iterator[OpenFiles]:
    """Files that are closed at the end."""
    files = OpenFiles()
    try:
        yield files
    finally:
        files.close()


class File(io.RawIOBase):
    """A file with a position of its own, whether it is open or not; it must not change meanwhile."""

    def __init__(self, path: Path, files: OpenFiles) -> None:
        super().__init__()
        self.path: Path = path
        self._files, self._position = files, 0
        self._known = self._identity(files.handle(path))
        self.size: int = self._known[1]

    @staticmethod
    def _identity(handle: IO[bytes]) -> tuple[int, int, int]:
        status = os.fstat(handle.fileno())
        return status.st_ino, status.st_size, status.st_mtime_ns

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise OSError(22, os.strerror(22))
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something."""
        handle = self._files.handle(self.path)
        if self._identity(handle) != self._known:
            raise DamagedFile(self.path, "changed while it was read")
        handle.seek(self._position)
        count: int = handle.readinto(buffer)  # type: ignore[attr-defined]
        self._position += count
        return count
