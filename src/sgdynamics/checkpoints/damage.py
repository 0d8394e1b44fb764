"""The one error for whatever is wrong with a file."""

from __future__ import annotations

from pathlib import Path


class DamagedFile(ValueError):
    """A file that cannot be read, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
