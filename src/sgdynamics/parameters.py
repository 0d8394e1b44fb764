r"""A parameter said once: its symbol, meaning, range, unit and a typical value.

Each row of the library has a table of its parameters, ``parameters.py`` on the lowest floor it stands on. A formula
finds its own there by the names of its arguments (:func:`found`); what several rows share is in :data:`SHARED`. From
the same declaration come the section *Parameters* of the formula's documentation (:func:`documented`), the check of its
arguments and what the tests draw.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sgdynamics.domains import Domain, count, flag, nonnegative, positive, unit_interval, whole

__all__ = ["SHARED", "Parameter", "documented", "found", "known_entries"]


@dataclass(frozen=True)
class Parameter:
    """What an argument means.

    Attributes
    ----------
    symbol : str
        As the mathematics writes it, in LaTeX; empty where it is not written.
    meaning : str
        A sentence without its full stop, which goes on after the symbol.
    domain : Domain
        What it may be.
    typical : object
        A value that every formula takes that has the parameter; None where there is none.
    units : str
        "1" where it has none.
    """

    symbol: str
    meaning: str
    domain: Domain
    typical: Any = None
    units: str = "1"

    def __str__(self) -> str:
        symbol = self.symbol and f":math:`{self.symbol}`"
        said = ", ".join(part for part in (symbol, self.meaning if symbol else _capital(self.meaning)) if part)
        unit = "" if self.units == "1" else f", in units of {self.units}"
        return f"{said}. {_capital(self.domain.text)}{unit}." if said else f"{_capital(self.domain.text)}{unit}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


SHARED = {
    "batch_size": Parameter("B", "examples of one batch", positive, 4.0),
    "curvature": Parameter("h", "second derivative of the loss along the direction", positive, 2.0, "1/learning rate"),
    "examples": Parameter("n", "the size of the training set", count, 64.0),
    "gain": Parameter("x", "learning rate times curvature", positive, 0.5),
    "learning_rate": Parameter(r"\eta", "", positive, 0.125, "1/curvature"),
    "momentum": Parameter(
        r"\beta",
        r"of the step :math:`u \leftarrow \beta u + \nabla`, :math:`x \leftarrow x - \eta u`",
        unit_interval,
        0.5,
    ),
    "nesterov": Parameter("", "Nesterov's momentum instead of the heavy ball", flag, False),
    "replacement": Parameter("", "whether the examples of a batch are independent draws", flag, False),
    "steps": Parameter("T", "number of steps", whole, 7.0),
    "time": Parameter("t", "learning rate times steps", nonnegative, 2.0, "1/curvature"),
    "weight_decay": Parameter(
        r"\lambda",
        r"decoupled: a step multiplies the weights by :math:`1-\eta\lambda`",
        positive,
        0.5,
        "1/learning rate",
    ),
}


def found(
    function: Callable[..., Any], table: Mapping[str, Parameter], own: Mapping[str, Domain | Parameter]
) -> dict[str, Parameter]:
    """The parameters of a function: its own, those of its row, and those that rows share, in this order.

    Parameters
    ----------
    function : callable
    table : mapping of str to Parameter
        Those of the row.
    own : mapping of str to Domain or Parameter
        What is particular to the function: another range, or another meaning altogether.

    Returns
    -------
    dict of str to Parameter
        In the order of the arguments.

    Raises
    ------
    TypeError
        If a parameter is declared nowhere, or one is declared that the function does not take.
    """
    names = list(inspect.signature(function).parameters)
    known = {**SHARED, **table}
    missing, unknown = set(names) - set(known) - set(own), set(own) - set(names)
    if missing or unknown:
        raise TypeError(
            f"{function.__qualname__}: domains do not match parameters: "
            f"missing {sorted(missing)}, not among its parameters {sorted(unknown)}"
        )
    return {name: _chosen(own.get(name), known.get(name)) for name in names}


def _chosen(own: Domain | Parameter | None, known: Parameter | None) -> Parameter:
    if isinstance(own, Parameter):
        return own
    if own is None:
        assert known is not None  # found() has looked
        return known
    return replace(known, domain=own) if known else Parameter("", "", own)


def documented(
    documentation: str | None, signature: inspect.Signature, entries: Mapping[str, Parameter | str]
) -> str | None:
    """Documentation with a whole section *Parameters*, before all other sections.

    Parameters
    ----------
    documentation : str or None
        NumPy style. What its section says already stays; what it leaves out is filled in.
    signature : inspect.Signature
    entries : mapping of str to Parameter or str
        What to say of each.

    Returns
    -------
    str or None

    Examples
    --------
    >>> def half(gain: float) -> float: ...
    >>> documented("Half of the gain.", inspect.signature(half), SHARED).splitlines()[-2:]
    ['gain : float', '    :math:`x`, learning rate times curvature. A finite number > 0.']
    """
    if not documentation:
        return documentation
    text = inspect.cleandoc(documentation)
    starts = [*(found.start() for found in _SECTION.finditer(text)), len(text)]
    sections = [text[start:end] for start, end in itertools.pairwise(starts)]
    own = "".join(section for section in sections if section.startswith(_HEADER))
    blocks = [block.rstrip() for block in re.split(r"^(?=\S)", own.removeprefix(_HEADER), flags=re.MULTILINE) if block]
    said = {name: block for block in blocks for name in block.partition("\n")[0].partition(" : ")[0].split(", ")}
    for name, parameter in signature.parameters.items():
        if name in entries and name not in said:
            kind = _kind(parameter, entries[name])
            said[name] = f"{name} : {kind}\n    {entries[name]}" if kind else f"{name}\n    {entries[name]}"
    # in the order of the arguments, a block of several once; then what names none of them
    whole = dict.fromkeys([*(said[name] for name in signature.parameters if name in said), *blocks])
    others = [section for section in sections if not section.startswith(_HEADER)]
    return "\n\n".join(part.rstrip() for part in (text[: starts[0]], _HEADER + "\n".join(whole), *others))


_HEADER = "Parameters\n----------\n"
_SECTION = re.compile(r"^\w[\w ]*\n-{3,}$", re.MULTILINE)


def _kind(parameter: inspect.Parameter, entry: Parameter | str) -> str:
    """The type of an argument and its default, as far as it says them."""
    said = []
    if options := getattr(getattr(entry, "domain", None), "options", None):
        said.append("{" + ", ".join(f'"{word}"' for word in options) + "}")
    elif parameter.annotation is not parameter.empty:
        kind = inspect.formatannotation(parameter.annotation).strip("'")
        said.append("Numeric" if "Value" in kind else kind)  # as pages write it
    if parameter.default is not parameter.empty:
        said.append(f"default {parameter.default!r}")
    return ", ".join(said)


def known_entries(table: Mapping[str, Parameter], domains: Mapping[str, Domain]) -> dict[str, Parameter | str]:
    """Those parameters of a checked function that a table, or :data:`SHARED`, knows, with its own ranges."""
    known = {**SHARED, **table}
    return {name: replace(known[name], domain=domains[name]) for name in domains if name in known}
