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
    """Where a figure lives, what it claims and what there is to see.

    ``module`` is what imports it, ``row`` the folder it lies in, if any; ``companions`` is the helper whose kept runs
    it shares with others, if there is one; ``long`` is what the module says of itself by ``LONG = True``: that in full
    it takes so long that a run has to begin with it.
    """

    name: str
    module: str
    path: Path
    claim: str
    companions: str = ""
    look: str = ""
    long: bool = False

    @property
    def row(self) -> str:
        """The row of models that it belongs to; none where a package has no rows."""
        return self.module.split(".")[-2] if self.module.count(".") > 1 else ""

    @property
    def title(self) -> str:
        """The name in words."""
        return in_words(self.name)


def in_words(name: str) -> str:
    """The name of a figure as a title: what stands before a year is an author."""
    paper = re.match(r"([a-z]+)(\d{4})_", name)
    rest = name[paper.end() :] if paper else name
    spoken = " ".join({"nqm": "NQM", "sgd": "SGD"}.get(word, word) for word in rest.split("_"))
    return f"{paper[1].capitalize()} {paper[2]}: {spoken}" if paper else spoken[0].upper() + spoken[1:]


def package_directory(package: str) -> Path:
    """The directory of an importable package, found without importing it."""
    specification = importlib.util.find_spec(package)
    if specification is None or not specification.submodule_search_locations:
        raise ModuleNotFoundError(f"no package is called {package!r}")
    return Path(specification.submodule_search_locations[0])


def catalogue(package: str) -> dict[str, FigureModule]:
    """The figures of a package by name: every module in it whose name does not start with an underscore.

    They may lie in rows, one folder deep; the folder ``engine`` has none. A module that lacks ``compute``, ``draw`` or
    ``checks`` is listed too and fails when it is made, lest it be missed. Two of one name are refused.
    """
    home = package_directory(package)
    sources = sorted([*home.glob("*.py"), *home.glob("*/*.py")], key=lambda path: path.stem)
    found: dict[str, FigureModule] = {}
    for path in sources:
        if path.name.startswith("_") or path.parent == home / "engine":
            continue
        if path.stem in found:
            raise ValueError(f"two figures are called {path.stem}: {found[path.stem].path} and {path}")
        found[path.stem] = _described(package, home, path)
    return found


def _described(package: str, home: Path, path: Path) -> FigureModule:
    module = ".".join([package, *path.relative_to(home).with_suffix("").parts])
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return FigureModule(path.stem, module, path, f"(cannot be read: {error})")
    companions = _companions(tree, package, home)
    return FigureModule(path.stem, module, path, _claim(tree), companions, _look(tree), _is_long(tree))


def _is_long(tree: ast.Module) -> bool:
    """Whether a module says ``LONG = True``."""
    return any(ast.unparse(node) == "LONG = True" for node in tree.body if isinstance(node, ast.Assign))


def _companions(tree: ast.Module, package: str, home: Path) -> str:
    """The first helper that a figure imports and that keeps runs for as long as the process lives."""
    imported = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    helpers = [name.split(".")[1:] for name in imported if name.startswith(f"{package}.")]
    kept = (parts for parts in helpers if parts[-1].startswith("_"))
    return next((".".join(parts) for parts in kept if _keeps_runs(home.joinpath(*parts).with_suffix(".py"))), "")


def _keeps_runs(helper: Path) -> bool:
    """Whether a function of a helper is under ``functools.cache``."""
    functions = [node for node in ast.parse(helper.read_bytes()).body if isinstance(node, ast.FunctionDef)]
    decorators = [decorator for function in functions for decorator in function.decorator_list]
    return any(isinstance(decorator, ast.Name) and decorator.id == "cache" for decorator in decorators)


def _look(tree: ast.Module) -> str:
    """What the docstring says after the claim, without its markup, a paragraph a line."""
    documentation = ast.get_docstring(tree) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in documentation.split("\n\n")]
    paragraphs[0] = paragraphs[0].removeprefix(_claim(tree)).strip()
    text = "\n".join(filter(None, paragraphs))
    return re.sub(r"(?::\w+:)?`+~?([^`]*)`+", r"\1", text).replace("\\", "")


def _claim(tree: ast.Module) -> str:
    """The first sentence of the module docstring, on one line."""
    documentation = ast.get_docstring(tree) or ""
    paragraph = " ".join(documentation.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]
