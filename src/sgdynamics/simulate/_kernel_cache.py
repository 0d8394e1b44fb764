"""Compiled kernels on disk, from one process to the next.

They lie in the user's folder for caches (``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS,
``%LOCALAPPDATA%`` on Windows), or below ``NUMBA_CACHE_DIR`` where that is set, in a folder of this version of the
sources: what one kernel takes from another file is in its code, and Numba looks only at the file of the kernel itself.
Numba tells processors and their features apart; kernels that others take or hold have one name in every process. Where
nothing can be written, kernels are compiled in every process; ``SGDYNAMICS_NUMBA_CACHE=0`` asks for that.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

try:
    import fcntl
except ImportError:  # Windows, where Numba's own guard must do
    fcntl = None  # type: ignore[assignment]

__all__ = ["KernelCache", "folder", "name_of"]

PACKAGE = Path(__file__).parents[1]
# Folders of other versions go when they were not used for so long.
KEPT_SECONDS = 30 * 86400.0


def _users_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _version() -> str:
    """Of all sources of the package: names, sizes and times."""
    found = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        facts = path.stat()
        found.update(f"{path.relative_to(PACKAGE)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]


@functools.cache
def folder() -> Path | None:
    """Where compiled kernels are kept, or None where they are not."""
    if os.environ.get("SGDYNAMICS_NUMBA_CACHE") == "0":
        return None
    try:
        given = os.environ.get("NUMBA_CACHE_DIR")
        versions = Path(given or _users_folder()).absolute() / "sgdynamics"
        path = versions / _version()
        if not path.exists():
            path.mkdir(parents=True, exist_ok=True)
            _drop_unused(versions)
        with tempfile.TemporaryFile(dir=path):  # whether it can be written
            os.utime(path)
    except (OSError, RuntimeError):  # no home, no rights, no room
        return None
    return path


def _drop_unused(versions: Path) -> None:
    for other in versions.iterdir():
        if time.time() - other.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


@functools.cache
def say_once() -> None:
    """Tell who waits at a terminal or in a notebook what for; programs that read the output are told nothing."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        print(
            "sgdynamics: compiling, once: later sessions find it in the folder for caches", file=sys.stderr, flush=True
        )


@contextlib.contextmanager
def _only_one(path: str) -> Iterator[None]:
    """One process at a time: Numba numbers its files by an index that it reads before."""
    with open(os.path.join(path, "lock"), "ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def name_of(function: Any) -> str:
    """What a function to compile is called in every process: where it stands, its code, and what it holds.

    Numba calls kernels by numbers that each process draws anew, and would find none again that takes or holds one.
    """
    code = function.__code__
    facts = repr((function.__module__, function.__qualname__, code.co_filename, code.co_firstlineno)).encode()
    return hashlib.sha256(facts + code.co_code + _held(function)).hexdigest()


def _held(function: Any) -> bytes:
    """What a function takes from the one around it: of kernels their names, of all else the contents."""
    contents = [cell.cell_contents for cell in function.__closure__ or ()]
    parts = [one._uuid.encode() if hasattr(one, "py_func") else bytes(dumps(one)) for one in contents]  # type: ignore[no-untyped-call]
    return b"".join(hashlib.sha256(part).digest() for part in parts)


class KernelCache(FunctionCache):
    """What was compiled of one function; whatever goes wrong with the disk, it is compiled."""

    def __init__(self, function: Any, path: Path) -> None:
        settings: Any = numba.config
        given, settings.CACHE_DIR = settings.CACHE_DIR, str(path)
        try:
            super().__init__(function)  # type: ignore[no-untyped-call]
        finally:
            settings.CACHE_DIR = given

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), name_of(self._py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for such arguments, or None; then it is compiled, which takes seconds."""
        try:
            found = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, pickle.UnpicklingError):
            found = None
        if found is None:
            say_once()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was just compiled."""
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError), _only_one(self.cache_path):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
