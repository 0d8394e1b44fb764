"""Everything a figure depends on, as one hash: a finished figure is kept only while its fingerprint stays the same."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from figures.engine.catalogue import FigureModule, package_directory

_LIBRARIES = ("numpy", "scipy", "numba", "xarray", "h5netcdf", "matplotlib", "scikit-learn", "sympy")

# These decide when a figure is made and how it is shown around, not what it is.
_BYSTANDERS = {"__main__.py", "catalogue.py", "report.py", "runner.py"}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version()} | {library: version(library) for library in _LIBRARIES}


def shared_digest(package: str) -> str:
    """The hash of what all figures of a package share: sgdynamics, their helper modules, the style and the versions.

    Parameters
    ----------
    package : str
        Importable package whose modules are the figures.
    """
    library = package_directory("sgdynamics")
    sources = [path for path in library.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for directory in {package_directory("figures"), package_directory(package)}:
        helpers = {
            path for kind in ("**/_*.py", "engine/*.py", "**/*.mplstyle", "**/*.toml") for path in directory.glob(kind)
        }
        sources += [path for path in helpers if path.name not in _BYSTANDERS and path.parent.name != "explorer"]
    return _digest(json.dumps(versions(), sort_keys=True), sources)


def fingerprint(figure: FigureModule, *, fast: bool, shared: str, seed: int = 0) -> str:
    """The fingerprint of one figure.

    Parameters
    ----------
    figure : FigureModule
        The figure; its source file is read.
    fast : bool
        Whether it is the coarser version.
    shared : str
        The hash of what all figures share.
    seed : int
        What is mixed into all seeds.

    Returns
    -------
    str
        Hexadecimal.
    """
    return _digest(json.dumps({"fast": fast, "shared": shared, "seed": seed}), [figure.path])


def _digest(text: str, paths: Iterable[Path]) -> str:
    # Each file is hashed on its own first: bytes that move from the end of one to the start of the next are then seen.
    parts = sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)
    return hashlib.sha256(json.dumps([text, parts]).encode()).hexdigest()
