"""Which figures there are, read from their sources without importing them.

A broken figure is then one failure, not the end of the run.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FigureModule:
    """Where a figure lives and what it claims."""

    name: str
    path: Path
    claim: str


def package_directory(package: str) -> Path:
    """The directory of an importable package, found without importing it."""
    specification = importlib.util.find_spec(package)
    if specification is None or not specification.submodule_search_locations:
        raise ModuleNotFoundError(f"no package is called {package!r}")
    return Path(specification.submodule_search_locations[0])


def catalogue(package: str) -> dict[str, FigureModule]:
    """The figures of a package by name: every module whose name does not start with an underscore.

    A module that lacks ``compute``, ``draw`` or ``checks`` is listed too and fails when it is made, lest it be missed.
    """
    sources = sorted(path for path in package_directory(package).glob("*.py") if not path.name.startswith("_"))
    return {path.stem: FigureModule(path.stem, path, _claim(path)) for path in sources}


def _claim(path: Path) -> str:
    """The first sentence of the module docstring, on one line."""
    try:
        documentation = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except SyntaxError as error:
        return f"(cannot be read: {error})"
    paragraph = " ".join(documentation.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]
