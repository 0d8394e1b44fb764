"""One page for every module that is for users."""

from __future__ import annotations

import importlib
import inspect

from rst import plain, table, title, toctree

import sgdynamics

FLOORS = {
    "models": "What is studied: parameters, one exact step, loss, gradient, Hessian, law of the start.",
    "theory": "What can be said about many steps without running them.",
    "simulate": "Running it: ensembles, orbits, phase diagrams, networks.",
}
OTHERS = (
    "formula",
    "domains",
    "outcome",
    "registry",
    "plot",
    "logs",
    "checkpoints",
    "checkpoints.roles",
    "cli",
    "testing",
)


def modules() -> dict[str, list[str]]:
    """Modules with pages, by floor."""
    rows = {floor: [f"{floor}.{stem}" for stem in getattr(sgdynamics, floor).__all__] for floor in FLOORS}
    return rows | {"the rest": list(OTHERS)}


def pages() -> dict[str, str]:
    """The pages and their table of contents."""
    made = {f"reference/{name}": _page(name) for names in modules().values() for name in names}
    index = title("Reference")
    index += (
        "One page a module. Formulas with their facts alone are :doc:`in a table of their own </formulas/index>`.\n\n"
    )
    for floor, names in modules().items():
        index += title(floor.capitalize(), "-")
        if floor in FLOORS:
            index += FLOORS[floor] + "\n\n"
        index += table(["module", "what it is"], ([f":doc:`{name} <{name}>`", plain(_summary(name))] for name in names))
    index += toctree([name for names in modules().values() for name in names], hidden=True)
    return made | {"reference/index": index}


def _summary(name: str) -> str:
    return (inspect.getdoc(importlib.import_module(f"sgdynamics.{name}")) or "").partition("\n\n")[0]


def _page(name: str) -> str:
    module = importlib.import_module(f"sgdynamics.{name}")
    public = getattr(module, "__all__", ())
    elsewhere = any(getattr(getattr(module, item), "__module__", module.__name__) != module.__name__ for item in public)
    imported = "   :imported-members:\n" if elsewhere else ""
    return title(name) + f".. automodule:: sgdynamics.{name}\n   :members:\n{imported}"
