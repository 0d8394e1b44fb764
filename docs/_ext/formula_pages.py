"""Every formula and law with its facts, one page a row of the library."""

from __future__ import annotations

import re
from importlib.resources import files

from rst import indented, plain, table, title, toctree

import sgdynamics
from sgdynamics.formula import Formula

# An expression in longer LaTeX says nothing to a reader; the documentation of the formula has it by parts.
LONGEST = 600


def pages() -> dict[str, str]:
    """The pages, their table of contents, and the sources."""
    rows = {}
    for item in sgdynamics.formulas():
        rows.setdefault(item.stem, []).append(item)
    made = {f"formulas/{stem}": _page(stem, items) for stem, items in rows.items()}
    counts = [
        [f":doc:`{stem} <{stem}>`", *(str(sum(item.status == status for item in items)) for status in STATUSES)]
        for stem, items in rows.items()
    ]
    index = (
        title("Formulas and laws")
        + "What ``sgdynamics.formulas()`` lists, made from the formulas themselves. What a status means is "
        ":ref:`said among the concepts <status>`; sources are :doc:`in a list of their own <sources>`.\n\n"
        + table(["row", *STATUSES], counts)
        + toctree([*rows, "sources"], hidden=True)
    )
    return made | {"formulas/index": index, "formulas/sources": _sources()}


STATUSES = ("exact", "bound", "asymptotic", "heuristic")


def _page(stem: str, items: list) -> str:
    return title(f"Formulas: {stem}") + "".join(map(_entry, items))


def _entry(item) -> str:
    name = item.name.rpartition(".")[2]
    parameters = ", ".join(map(plain, item.domains))
    text = title(name, "-") + f":any:`sgdynamics.{item.name}`\\ ({parameters})\n\n"
    text += _first_sentence(item.__doc__ or "") + "\n\n"
    if item.symbolic and len(written := item.latex()) <= LONGEST:
        text += f".. math:: {written}\n\n"
    facts = [("Status", item.status if isinstance(item, Formula) else " ".join(item.qualification.split()))]
    if isinstance(item, Formula):
        ranges = "; ".join(f"``{parameter}`` {plain(domain.text)}" for parameter, domain in item.domains.items())
        facts.append(("Parameters", ranges))
        if item.edge is not None:
            facts.append(("Edge", f"+inf where ``{item.edge.parameter}`` is at or beyond the stability edge"))
    if item.assumptions:
        facts.append(("Assumptions", plain("; ".join(item.assumptions))))
    facts.append(("Source", _linked(item.source)))
    return text + "".join(f":{name}: {value}\n" for name, value in facts) + "\n"


def _first_sentence(documentation: str) -> str:
    """Markup of the first paragraph."""
    return " ".join(documentation.partition("\n\n")[0].split())


def _linked(source: str) -> str:
    keys = _entries()
    parts = re.split(r"(\w+)", source)
    return "".join(f":ref:`{part} <source-{part}>`\\ " if part in keys else plain_word(part) for part in parts)


def plain_word(text: str) -> str:
    """The same, blanks kept."""
    return re.sub(r"([\\*`_|])", r"\\\1", text)


def _entries() -> dict[str, str]:
    text = files("sgdynamics").joinpath("references.bib").read_text(encoding="utf-8")
    return {entry.split("{", 1)[1].split(",", 1)[0]: entry for entry in re.split(r"\n\s*\n", text.strip())}


def _sources() -> str:
    text = (
        title("Sources") + "What formulas, models and figures stand on; ``sgdynamics.citation(obj)`` returns these.\n\n"
    )
    for key, entry in sorted(_entries().items()):
        text += f".. _source-{key}:\n\n{title(key, '-')}.. code-block:: bibtex\n\n{indented(entry)}\n\n"
    return text
