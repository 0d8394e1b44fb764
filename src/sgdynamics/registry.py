"""What the library holds: every formula, and the source of every object."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from importlib.resources import files
from typing import Any

from sgdynamics.formula import REGISTRY, Formula

__all__ = ["citation", "formulas"]


def formulas() -> tuple[Formula[..., Any], ...]:
    """Every formula of the library, sorted by name.

    Returns
    -------
    tuple of Formula
        Callables that carry their facts: ``name``, ``stem``, ``status``, ``symbolic``, ``source``, ``assumptions``,
        ``domains`` and ``edge``.

    Examples
    --------
    >>> [f.name for f in formulas() if f.status == "asymptotic"]  # doctest: +ELLIPSIS
    [...'theory.quadratic.power_law_bias'...]
    """
    for floor in ("models", "theory"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"sgdynamics.{floor}.{module.name}")
    return tuple(REGISTRY[name] for name in sorted(REGISTRY))


def citation(thing: Any) -> str:
    """Print, and return, the BibTeX of the sources that an object stands on.

    Parameters
    ----------
    thing : object
        A formula, a function, a class or an instance, or a module of the library. A formula is cited by its own
        source where that is a publication, everything else by the sources of its module.

    Returns
    -------
    str
        BibTeX entries, a blank line between two of them.

    Raises
    ------
    ValueError
        If the object does not belong to a part of the library that has sources.

    Examples
    --------
    >>> from sgdynamics.models import quadratic
    >>> text = citation(quadratic.MiniBatchQuadratic)  # doctest: +ELLIPSIS
    @misc{sandler2023,
    ...
    """
    keys = _keys(thing)
    if not keys:
        raise ValueError(f"citation: thing must be a part of sgdynamics that has sources, got {thing!r}")
    entries = _bibliography()
    text = "\n\n".join(entries[key] for key in keys)
    print(text)
    return text


def _keys(thing: Any) -> tuple[str, ...]:
    if isinstance(thing, Formula):
        key = thing.source.split(",")[0]
        if key in _bibliography():
            return (key,)
    name = getattr(thing, "__module__", None) or getattr(thing, "__name__", "")
    parts = str(name).split(".")
    # a module inside a package of one stem shares the sources of the stem
    for length in range(len(parts), 1, -1):
        module = sys.modules.get(".".join(parts[:length]))
        sources = getattr(module, "SOURCES", ())
        if parts[0] == "sgdynamics" and sources:
            return tuple(sources)
    return ()


def _bibliography() -> dict[str, str]:
    text = files("sgdynamics").joinpath("references.bib").read_text(encoding="utf-8")
    entries = re.split(r"\n\s*\n", text.strip())
    return {entry.split("{", 1)[1].split(",", 1)[0]: entry for entry in entries}
