"""What the library holds: every formula, and the source of every object."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from importlib.resources import files
from typing import Any, get_args

from sgdynamics.formula import REGISTRY, Formula, Status

__all__ = ["Formulas", "citation", "formulas"]


class Formulas(tuple[Formula[..., Any], ...]):
    """Formulas as a tuple that shows itself as a table."""

    __slots__ = ()

    def to_pandas(self) -> Any:
        """One row a formula: what it is about, its status, its parameters, its source and what it assumes."""
        import pandas

        rows = [
            {
                "name": item.name,
                "about": (item.__doc__ or "").partition("\n")[0],
                "status": item.status,
                "parameters": ", ".join(item.domains),
                "source": item.source,
                "assumptions": "; ".join(item.assumptions),
            }
            for item in self
        ]
        columns = ["name", "about", "status", "parameters", "source", "assumptions"]
        return pandas.DataFrame(rows, columns=columns).set_index("name")

    def __repr__(self) -> str:
        return str(self.to_pandas()[["about", "status"]].to_string(justify="left", max_colwidth=70))

    def _repr_html_(self) -> str:
        return str(self.to_pandas().to_html())


def formulas(*, stem: str | None = None, status: str | None = None, about: str | None = None) -> Formulas:
    """Every formula of the library, sorted by name, or those that are asked for.

    Parameters
    ----------
    stem : str, optional
        A row of the library, for instance ``"quadratic"``.
    status : {"exact", "bound", "asymptotic", "heuristic"}, optional
    about : str, optional
        Words that all occur in the name or the first line of the documentation, in any case and order.

    Returns
    -------
    Formulas
        A tuple of callables that carry their facts (``name``, ``stem``, ``status``, ``symbolic``, ``source``,
        ``assumptions``, ``domains``, ``edge``); it prints as a table, in a notebook too.

    Examples
    --------
    >>> "theory.quadratic.power_law_bias" in [f.name for f in formulas(status="asymptotic", about="power law")]
    True
    """
    for floor in ("models", "theory"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"sgdynamics.{floor}.{module.name}")
    everything = [REGISTRY[name] for name in sorted(REGISTRY)]
    stems = sorted({item.stem for item in everything})
    for name, value, allowed in (("stem", stem, stems), ("status", status, list(get_args(Status)))):
        if value is not None and value not in allowed:
            raise ValueError(f"formulas: {name} must be one of {allowed}, got {value!r}")
    words = (about or "").lower().split()
    return Formulas(
        item
        for item in everything
        if stem in (None, item.stem)
        and status in (None, item.status)
        and all(word in _headline(item) for word in words)
    )


def _headline(item: Formula[..., Any]) -> str:
    return f"{item.name.replace('_', ' ')} {(item.__doc__ or '').partition(chr(10))[0]}".lower()


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
