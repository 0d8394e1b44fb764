"""What the library holds: every formula and law, and the source of every object."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import Any, get_args

from sgdynamics.formula import REGISTRY, Formula, Status
from sgdynamics.vocabulary import QUANTITIES

__all__ = ["Formulas", "Law", "citation", "formulas"]


class Law:
    """A public law that is no formula of numbers: it takes models, runs or curves, and mostly returns a Dataset.

    Attributes
    ----------
    name, stem : str
        As of a formula.
    quantity : str
        What it is about, a word of :mod:`sgdynamics.vocabulary`.
    status : {"exact", "bound", "asymptotic", "heuristic"}
        The first word of what its documentation says of it.
    source : str
        Keys of the bibliography that its row stands on: a law has none of its own.
    qualification : str
        What its documentation says of the status.
    function : callable
        The law itself; a law may be called, too.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        said = _STATUS.search(inspect.getdoc(function) or "")
        if said is None:
            raise ValueError(f"{name}: its documentation must say 'Status: ' and one of {get_args(Status)}")
        quantity = getattr(function, "quantity", None)
        if quantity is None:
            raise ValueError(f"{name}: its quantity must be declared by @law(quantity=...)")
        self.name: str = name
        self.stem: str = name.split(".")[1]
        self.function = function
        self.quantity: str = quantity
        self.status: str = said[1]
        self.qualification: str = " ".join(said[0].removeprefix("Status: ").split())
        self.source: str = ", ".join(_keys(function)) or "derived"
        self.assumptions: tuple[str, ...] = ()
        self.domains: dict[str, None] = {name: None for name in inspect.signature(function).parameters}
        self.symbolic = False
        self.__doc__ = function.__doc__
        self.__name__: str = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The law itself."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<law {self.name}: {self.status}>"


_STATUS = re.compile(rf"^Status: ({'|'.join(get_args(Status))})\b.*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)


def _read(text: str) -> str:
    """What is markup in documentation, for readers: formulas between dollars, as notebooks set them, and names."""
    line = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", lambda role: role[1] or role[2], line)


class Formulas(tuple[Any, ...]):
    """Formulas and laws as a tuple that shows itself as a table."""

    __slots__ = ()

    def to_pandas(self) -> Any:
        """One row each: what it is about, its status, its parameters, its source and what it assumes."""
        import pandas

        rows = [
            {
                "name": item.name,
                "about": _read((item.__doc__ or "").partition("\n")[0]),
                "quantity": item.quantity,
                "units": QUANTITIES[item.quantity].units,
                "status": item.status,
                "parameters": ", ".join(item.domains),
                "source": item.source,
                "assumptions": _read(item.qualification) if isinstance(item, Law) else "; ".join(item.assumptions),
            }
            for item in self
        ]
        columns = ["name", "about", "quantity", "units", "status", "parameters", "source", "assumptions"]
        return pandas.DataFrame(rows, columns=columns).set_index("name")

    def __repr__(self) -> str:
        return str(self.to_pandas()[["about", "status"]].to_string(justify="left", max_colwidth=70))

    def _repr_html_(self) -> str:
        shown = self.to_pandas()[["about", "units", "status", "assumptions", "source"]]
        return str(shown.to_html(border=0, index_names=False, justify="left"))


def formulas(
    *,
    stem: str | None = None,
    status: str | None = None,
    about: str | None = None,
    quantity: str | None = None,
    paper: str | None = None,
    kind: str | None = None,
) -> Formulas:
    """Every formula and law of the library, sorted by name, or those that are asked for.

    Laws are the public functions of ``theory`` that are no formulas: they take models, runs or curves. Functions of
    ``models`` that make something (schedules, spectra, starts) are neither.

    Parameters
    ----------
    stem : str, optional
        A row of the library, for instance ``"quadratic"``.
    status : {"exact", "bound", "asymptotic", "heuristic"}, optional
    about : str, optional
        Words that all occur in the name or the documentation, or begin words there, in any case and order; those that
        have most of them in the name and the first line come first.
    quantity : str, optional
        What is wanted, a word of :mod:`sgdynamics.vocabulary`, for instance ``"learning rate"``.
    paper : str, optional
        A key of the bibliography: that the source of a formula names, or that the row of a law stands on.
    kind : {"formula", "law"}, optional

    Returns
    -------
    Formulas
        A tuple of callables that carry their facts (``name``, ``stem``, ``quantity``, ``status``, ``symbolic``,
        ``source``, ``assumptions``, ``domains``, of a formula also ``edge``); it prints as a table, in a notebook too.

    Examples
    --------
    >>> "theory.quadratic.power_law_bias" in [f.name for f in formulas(status="asymptotic", about="power law")]
    True
    >>> formulas(about="steps to a target")[0].name
    'theory.quadratic.steps_to_target'
    >>> [f.name for f in formulas(quantity="momentum")]
    ['theory.schedules.ema_heavy_ball_momentum']
    """
    everything = _everything()
    allowed = {
        "stem": (stem, sorted({item.stem for item in everything})),
        "status": (status, list(get_args(Status))),
        "quantity": (quantity, sorted(QUANTITIES)),
        "paper": (paper, sorted(_bibliography())),
        "kind": (kind, ["formula", "law"]),
    }
    for name, (value, known) in allowed.items():
        if value is not None and value not in known:
            raise ValueError(f"formulas: {name} must be one of {known}, got {value!r}")
    asked = [
        item
        for item in everything
        if stem in (None, item.stem)
        and status in (None, item.status)
        and quantity in (None, item.quantity)
        and (paper is None or paper in re.split(r"[,;]\s*", item.source))
        and (kind is None or (kind == "formula") == isinstance(item, Formula))
    ]
    words = [word for word in re.findall(r"\w+", (about or "").lower()) if word not in _SMALL]
    told = [item for item in asked if all(_says(f"{_headline(item)} {item.__doc__}", word) for word in words)]

    def rank(item: Any) -> int:
        return -sum(_says(_headline(item), word) + _says(_spoken(item), word) for word in words)

    return Formulas(sorted(told, key=rank))


# Words of a question that say nothing of what it is about.
_SMALL = frozenset(["a", "an", "at", "by", "for", "from", "in", "is", "of", "on", "the", "to", "under", "with"])


def _everything() -> list[Any]:
    """Formulas, as they have been made so far, and laws, by name."""
    for floor in ("models", "theory"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"sgdynamics.{floor}.{module.name}")
    return [item for _, item in sorted({**_laws(), **REGISTRY}.items())]


@functools.cache
def _laws() -> dict[str, Law]:
    """What the rows of theory export that is called and neither a formula nor a type."""
    theory = importlib.import_module("sgdynamics.theory")
    found = {}
    for stem in theory.__all__:
        row = importlib.import_module(f"sgdynamics.theory.{stem}")
        for name in row.__all__:
            item = getattr(row, name)
            if callable(item) and not isinstance(item, type | Formula):
                full = f"theory.{stem}.{name}"
                found[full] = Law(full, item)
    return found


def _headline(item: Any) -> str:
    return f"{_spoken(item)} {(item.__doc__ or '').partition(chr(10))[0]}"


def _spoken(item: Any) -> str:
    return str(item.name.replace("_", " ").replace(".", " "))


def _says(text: str, word: str) -> bool:
    """Whether a text has a word, or one that begins with it; of one letter, the whole word."""
    end = r"\b" if len(word) == 1 else ""
    return re.search(rf"\b{re.escape(word)}{end}", text, re.IGNORECASE) is not None


class BibTeX(str):
    """Text of a bibliography, which shows itself as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def citation(thing: Any) -> BibTeX:
    """BibTeX of the sources that an object stands on.

    Parameters
    ----------
    thing : object
        A formula, a function, a class or an instance, or a module of the library. A formula is cited by its own
        source where that is a publication, everything else by the sources of its module.

    Returns
    -------
    BibTeX
        A string of entries, a blank line between two of them, which an interactive session shows as it is.

    Raises
    ------
    ValueError
        If the object does not belong to a part of the library that has sources.

    Examples
    --------
    >>> from sgdynamics.models import quadratic
    >>> citation(quadratic.MiniBatchQuadratic)  # doctest: +ELLIPSIS
    @misc{sandler2023,
    ...
    """
    keys = _keys(thing)
    if not keys:
        raise ValueError(f"citation: thing must be a part of sgdynamics that has sources, got {thing!r}")
    entries = _bibliography()
    return BibTeX("\n\n".join(entries[key] for key in keys))


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
