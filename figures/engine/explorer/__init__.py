"""The explorer: one page without server or network, whose formulas are those of the package, written as JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sympy

import sgdynamics
from figures.engine.files import write_text
from sgdynamics.formula import Formula
from sgdynamics.theory import break_even, edge_of_stability, quadratic, uv

HERE = Path(__file__).parent
PARTS = ("page.html", "page.css", "engine.js", "page.js")

# What the page calls: a formula, and what of its arguments is fixed.
FORMULAS: dict[str, tuple[Formula[..., Any], dict[str, Any]]] = {
    "stationary_variance": (quadratic.stationary_variance, {}),
    "ema_variance": (quadratic.ema_variance, {}),
    "tail_variance": (quadratic.tail_variance, {}),
    "two_point_variance": (quadratic.two_point_variance, {}),
    "equivalent_gain": (quadratic.equivalent_gain, {}),
    "c_loss_hessian": (uv.c_loss, {"units": "hessian"}),
    "c_max_hessian": (uv.c_max, {"units": "hessian"}),
    "break_even_curvature": (break_even.break_even_curvature, {}),
    "end_gap": (edge_of_stability.end_gap, {}),
    "gap_drift_log_cosh": (
        edge_of_stability.gap_drift,
        {"minimum": 0, "second_derivative": 1, "third_derivative": 0, "fourth_derivative": -2},
    ),
}


def javascript(name: str) -> str:
    """A formula as a JavaScript function of its free parameters, in their order; infinite beyond its edge."""
    formula, fixed = FORMULAS[name]
    free = [parameter for parameter in formula.numeric if parameter not in fixed]
    symbols = {parameter: sympy.Symbol(parameter, real=True) for parameter in free}
    defaults = {other: formula.signature.parameters[other].default for other in formula.domains}
    arguments = defaults | symbols | fixed
    body = f"return {sympy.jscode(formula.function(**arguments))};"
    if formula.edge is not None:
        limit = sympy.jscode(sympy.sympify(formula.edge.limit(arguments)))
        body = f"if ({formula.edge.parameter} >= {limit}) return Infinity;\n  {body}"
    return f"function {name}({', '.join(free)}) {{\n  {body}\n}}"


def page() -> str:
    """The page as one text."""
    parts = {name: (HERE / name).read_text(encoding="utf-8") for name in PARTS}
    functions = "\n".join(map(javascript, FORMULAS))
    formulas = f'"use strict";\n{functions}\nconst formulas = {{ {", ".join(FORMULAS)} }};\n'
    text = parts["page.html"].replace("VERSION", sgdynamics.__version__)
    for mark, part in (
        ("/*STYLE*/", parts["page.css"]),
        ("/*FORMULAS*/", formulas),
        ("/*ENGINE*/", parts["engine.js"]),
        ("/*PAGE*/", parts["page.js"]),
    ):
        text = text.replace(mark, part)
    return text


def write_explorer(directory: Path) -> Path:
    """Write ``explorer.html`` into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "explorer.html", page())
    return directory / "explorer.html"
