"""Locks on files that the system takes back when their holder dies, however it dies.

By ``fcntl`` where there is one; elsewhere, as on Windows, SQLite has portable ones: a lock on an empty database beside
the file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Seconds: longer than any run.
_PATIENCE = 1e6


class Lock(Protocol):
    """What holds a file until it is closed."""

    def close(self) -> None:
        """Let go of it."""


def lock(path: Path, *, shared: bool = False, wait: bool = True) -> Lock:
    """Hold a file, alone or together with others that share it.

    Raises
    ------
    BlockingIOError
        If somebody else holds it and one does not want to wait.
    """
    return _by_database(path, shared, wait) if fcntl is None else _by_descriptor(path, shared, wait)


def _by_descriptor(path: Path, shared: bool, wait: bool) -> Lock:
    file = open(path, "a")  # noqa: SIM115 - the caller keeps it open
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        file.close()
        raise
    return file


def _by_database(path: Path, shared: bool, wait: bool) -> Lock:
    database = sqlite3.connect(f"{path}.db", timeout=_PATIENCE if wait else 0.0, isolation_level=None)
    try:
        database.execute("BEGIN" if shared else "BEGIN EXCLUSIVE")
        database.execute("SELECT * FROM sqlite_master").fetchall()  # the first look is what shares it
    except sqlite3.OperationalError as error:
        database.close()
        raise BlockingIOError(f"somebody else holds {path}") from error
    return database
