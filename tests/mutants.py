"""Mutants of models/ and theory/, and whether the tests of their row notice.

Run as ``python tests/mutants.py --count 300 --seed 0``. A mutant is the library with one small change in one function:
an operator, a comparison, a number, a condition. It is killed where the examples of its own module, or a test of its
row, fail; the tests that name what the module exports run first. What survives is printed with its line, and so is what
the tests had not decided within the limit. Helpers that several rows share have no row and are left out.

The work is done in a copy, of which one file at a time is changed. Every mutant is a fork of one process that has
imported what the tests import and nothing of the library, so that starting costs little.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("models", "theory")

OPERATORS = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.Pow: "*",
    ast.FloorDiv: "/",
    ast.Mod: "//",
    ast.MatMult: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
COMPARISONS = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}


class Mutant(NamedTuple):
    """A change of one place of a file: what stands in its bytes from ``first`` to ``last``."""

    path: Path
    line: int
    first: int
    last: int
    after: str

    def applied(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.first] + f"({self.after})".encode() + source[self.last :]

    def shown(self, source: bytes) -> str:
        """One line about it."""
        before = source[self.first : self.last].decode()
        return f"{self.path}:{self.line}: {' '.join(before.split())}  ->  {' '.join(self.after.split())}"

    def differs(self, source: bytes) -> bool:
        """Whether it is Python, and other Python: a number may be a pattern or a part of a text."""
        try:
            return ast.dump(ast.parse(self.applied(source))) != ast.dump(ast.parse(source))
        except SyntaxError:
            return False


# ---------------------------------------------------------------------------------------------------------------------
# Making them


def changes(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """What can be put in the place of a node, or of a part of it."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield node, f"({ast.unparse(node.left)}) {OPERATORS[type(node.op)]} ({ast.unparse(node.right)})"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield node, f"({left}) {COMPARISONS[type(node.ops[0])]} ({right})"
    elif isinstance(node, ast.BoolOp):
        other = " or " if isinstance(node.op, ast.And) else " and "
        yield node, other.join(f"({ast.unparse(value)})" for value in node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node, ast.unparse(node.operand)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield node, repr(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node, repr(node.value + 1 if type(node.value) is int else node.value * 1.25 or 0.25)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield node.test, f"not ({ast.unparse(node.test)})"


def bodies(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that compute: inside functions, but no errors, no annotations, no documentation."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                yield from computing(statement)
        elif isinstance(node, ast.ClassDef):
            yield from bodies(node)


def computing(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is inside it, but for what only says what is wrong."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("complain", "cast"):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from computing(child)


def mutants_of(path: Path, source: bytes) -> Iterator[Mutant]:
    """Every mutant of a file."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in bodies(ast.parse(source)):
        for place, new in changes(node):
            first = starts[place.lineno - 1] + place.col_offset
            last = starts[(place.end_lineno or 0) - 1] + (place.end_col_offset or 0)
            yield Mutant(path, place.lineno, first, last, new)


def row_of(path: Path) -> str:
    """The row of a file, by its place below a floor."""
    parts = path.relative_to("src/sgdynamics").parts
    return parts[1].removesuffix(".py")


def everything(root: Path) -> list[Mutant]:
    """All mutants of all rows."""
    made = []
    for floor in FLOORS:
        for path in sorted((root / "src" / "sgdynamics" / floor).rglob("*.py")):
            inside = path.relative_to(root)
            if not row_of(inside).startswith("_"):
                made += mutants_of(inside, path.read_bytes())
    return made


# ---------------------------------------------------------------------------------------------------------------------
# Running them


def tests_of(root: Path, row: str) -> list[str]:
    """The files of tests of a row: those that are called so, or else those that speak of it."""
    files = sorted((root / "tests").glob("test_*.py"))
    called = [path for path in files if path.stem.startswith(f"test_{row}")]
    speaking = [path for path in files if re.search(rf"\b(theory|models)\.{row}\b", path.read_text(encoding="utf-8"))]
    return [str(path.relative_to(root)) for path in called or speaking]


def exported(root: Path, path: Path) -> str:
    """The public names that a file is about: its own, or those of its row that are made of it."""
    source = (root / path).read_text(encoding="utf-8")
    found = re.search(r"^__all__ = \[(.*?)\]", source, re.DOTALL | re.MULTILINE)
    return "|".join(re.findall(r'"(\w+)"', found[1]) if found else [])


# what pytest has hooks for, as hypothesis, it imports itself
HEAVY = ("h5netcdf", "matplotlib.pyplot", "mpmath", "numba", "pandas", "pytest")
HEAVY += ("scipy.integrate", "scipy.optimize", "scipy.special", "scipy.stats", "sympy", "threadpoolctl", "xarray")


def preload() -> None:
    """Import what every run needs, so that forks have it."""
    for name in HEAVY:
        importlib.import_module(name)


def run_tests(root: Path, arguments: list[str], limit: float) -> str:
    """What pytest says in a fork: ``passed``, ``failed``, or ``too long``."""
    child = os.fork()
    if not child:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(root)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root)])
        sys.path[:0] = [str(root / "src"), str(root)]
        sys.dont_write_bytecode = True
        import pytest

        code = 1
        try:
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]))
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            # 5: nothing collected, which no test noticed either
            return "passed" if os.waitstatus_to_exitcode(status) in (0, 5) else "failed"
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "too long"
        time.sleep(0.02)


def examples_of(path: Path) -> list[str]:
    """What pytest is told, to run the examples of a file."""
    return ["--doctest-modules", str(path)]


def row_tests_of(root: Path, path: Path) -> list[str]:
    """What pytest is told, to run the tests of a row, those first that name what the file exports."""
    names = exported(root, path)
    return ["-m", "not slow", *(["--first", names] if names else []), *tests_of(root, row_of(path))]


def verdict(root: Path, mutant: Mutant, limit: float) -> str:
    """What noticed the mutant; a run of tests that takes too long has not."""
    if run_tests(root, examples_of(mutant.path), limit) != "passed":  # they take no time: what does not end is wrong
        return "killed by its examples"
    found = run_tests(root, row_tests_of(root, mutant.path), limit)
    return {"failed": "killed by its row", "passed": "SURVIVED", "too long": f"SURVIVED {limit:.0f} s"}[found]


def control(root: Path, mutant: Mutant, found: str, limit: float, sound: set[str]) -> None:
    """What killed a mutant must not fail without one, or it would kill all of them."""
    examples = found.endswith("examples")
    name = str(mutant.path) if examples else row_of(mutant.path)
    if name not in sound:
        arguments = examples_of(mutant.path) if examples else row_tests_of(root, mutant.path)
        if run_tests(root, arguments, limit) == "failed":
            raise SystemExit(f"{name}: its tests fail without a mutant")
        sound.add(name)


def main() -> int:
    """Make the copy, draw the sample, run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the path, for instance theory/quadratic")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of one run of tests")
    given = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        ignored = shutil.ignore_patterns(".git", ".*_cache", ".venv", "out", "__pycache__", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=ignored)
        made = [mutant for mutant in everything(copy) if given.only in str(mutant.path)]
        random.Random(given.seed).shuffle(made)
        sound = (mutant for mutant in made if mutant.differs((copy / mutant.path).read_bytes()))
        sample = list(itertools.islice(sound, given.count))
        print(f"{len(made)} places, {len(sample)} of them drawn with seed {given.seed}", flush=True)
        alive: list[str] = []
        sound_tests: set[str] = set()
        for number, mutant in enumerate(sample, 1):
            path, started = copy / mutant.path, time.monotonic()
            kept = path.read_bytes()
            path.write_bytes(mutant.applied(kept))
            try:
                found = verdict(copy, mutant, given.limit)
            finally:
                path.write_bytes(kept)
            if found.startswith("killed"):
                control(copy, mutant, found, given.limit, sound_tests)
            alive += [mutant.shown(kept)] if "SURVIVED" in found else []
            print(f"{number:4} {time.monotonic() - started:5.0f} s  {found:22} {mutant.shown(kept)}", flush=True)
    print(f"\nkilled {len(sample) - len(alive)} of {len(sample)}; survivors:", *alive, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
