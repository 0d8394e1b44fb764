"""Mutants of models/ and theory/, and whether the tests of their row notice.

Run as ``python tests/mutants.py --count 300 --seed 0``. A mutant is the library with one small change in one function:
an operator, a comparison, a number, a condition. It is killed where the examples of its own module, or a test of its
row, fail. What survives is printed with its line; what changes nothing and why is said in ``mutants_equivalent.toml``.
Helpers that several rows share have no row and are left out, and so is what only says what is wrong, what a number is
not to be beyond (a tolerance), and documentation. A row whose tests fail without a mutant is left out, too; that is
said at the end, and the exit status is 1.

The order of the sample depends on the seed and on what a mutant says, not on the rest of the library: a sample of 100
begins with the sample of 50, and a change elsewhere leaves it as it is. A mutant is called by its function and the line
it changes with the change in it, so that a name stands for one place whatever is written around it.

The suite of a row is, for every statement, the five quickest tests that come by, taken together; ``mutant_runs.py``
says how it is found. A mutant meets the tests of the suite that come by its statement, from the quickest on, until one
fails, and then the others that come by; the report says which of the two killed it.

With ``--results FILE`` what is found is appended to a file at once: what was killed is not run again, and neither is
what survived as long as no source has changed, so that a run that was interrupted goes on where it was. With
``--surveys FOLDER`` what the tests of a row come by is found out once for as long as no source changes.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import hashlib
import itertools
import json
import statistics
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mutant_runs

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")
FLOORS = ("models", "theory")
NOT_TRIED = "not tried"

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
# Keywords whose values are no part of a result: how close a search comes, and what is asserted on the way.
TOLERANCES = {"abs_tol", "atol", "epsabs", "epsrel", "maxiter", "rel_tol", "rtol", "strict", "tol", "xtol"}


class Mutant(NamedTuple):
    """A change of one place of a file: what stands in its bytes from ``first`` to ``last``.

    ``function`` is the name of the function it is in, and ``statement`` the line of the statement.
    """

    path: Path
    function: str
    statement: int
    first: int
    last: int
    after: str

    def applied(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.first] + f"({self.after})".encode() + source[self.last :]

    def said(self, source: bytes) -> str:
        """What it changes, in one line that stays as it is when the file changes elsewhere."""
        return f"{self.path}: {self.function}: {self.change(source)}"

    def change(self, source: bytes) -> str:
        """What stands there, and what in its place."""
        return f"{in_one_line(source[self.first : self.last])}  ->  {' '.join(self.after.split())}"

    def name(self, source: bytes) -> str:
        """Its function and the line that it changes, with the change in it: only the same line has the same name."""
        start = source.rfind(b"\n", 0, self.first) + 1
        end = source.find(b"\n", self.last)
        head, tail = source[start : self.first].decode().lstrip(), source[self.last : end].decode()
        return f"{self.path}: {self.function}: {head}[[{self.change(source)}]]{tail.partition('  #')[0]}"

    def line(self, source: bytes) -> int:
        """Where it stands."""
        return source.count(b"\n", 0, self.first) + 1

    def differs(self, source: bytes) -> bool:
        """Whether it is Python, and other Python: a number may be a pattern or a part of a text."""
        try:
            return ast.dump(ast.parse(self.applied(source))) != ast.dump(ast.parse(source))
        except SyntaxError:
            return False


class Place(NamedTuple):
    """A node that computes, the outermost function it is in, and the line of the statement."""

    node: ast.AST
    function: str
    statement: int


# ---------------------------------------------------------------------------------------------------------------------
# Making them


def is_nothing(node: ast.AST) -> bool:
    """Whether it is nothing times something: only its shape matters, and what is added may as well be taken away."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and ast.unparse(node.left) in ("0", "0.0")


def changes(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """What can be put in the place of a node, or of a part of it."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not any(map(is_nothing, (node, node.right))):
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


def bodies(tree: ast.AST, within: str = "") -> Iterator[Place]:
    """What computes: inside functions, but no errors, no annotations, no documentation."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                yield from computing(Place(statement, within + node.name, statement.lineno))
        elif isinstance(node, ast.ClassDef):
            yield from bodies(node, f"{within}{node.name}.")


def computing(place: Place) -> Iterator[Place]:
    """A node and what is inside it, but for what only says what is wrong."""
    node = place.node
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("complain", "cast"):
        return
    if isinstance(node, ast.keyword) and node.arg in TOLERANCES:
        return
    yield place
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                line = child.lineno if isinstance(child, ast.stmt) else place.statement
                yield from computing(Place(child, place.function, line))


def mutants_of(path: Path, source: bytes) -> Iterator[Mutant]:
    """Every mutant of a file."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, function, statement in bodies(ast.parse(source)):
        for place, new in changes(node):
            first = starts[place.lineno - 1] + place.col_offset
            last = starts[(place.end_lineno or 0) - 1] + (place.end_col_offset or 0)
            yield Mutant(path, function, statement, first, last, new)


def row_of(path: Path) -> str:
    """The row of a file, by its place below a floor."""
    parts = path.relative_to("src/sgdynamics").parts
    return parts[1].removesuffix(".py")


def everything(root: Path, part: str = "") -> list[Mutant]:
    """All mutants of all rows, of files whose path has this part."""
    made = []
    for floor in FLOORS:
        for path in sorted((root / "src" / "sgdynamics" / floor).rglob("*.py")):
            inside = path.relative_to(root)
            if not row_of(inside).startswith("_") and part in str(inside):
                made += mutants_of(inside, path.read_bytes())
    return made


def in_one_line(source: bytes) -> str:
    """An expression without its line breaks."""
    return " ".join(source.decode().split())


def told_apart(texts: list[str]) -> list[str]:
    """Texts, with a number where the same has been before."""
    seen: collections.Counter[str] = collections.Counter()
    apart = []
    for text in texts:
        seen[text] += 1
        apart.append(f"{text}  ({seen[text]})" if seen[text] > 1 else text)
    return apart


def by_name(root: Path, part: str = "") -> dict[str, Mutant]:
    """All mutants by their names; the same change of the same line of a function is numbered."""
    made = everything(root, part)
    sources = {path: (root / path).read_bytes() for path in {mutant.path for mutant in made}}
    return dict(zip(told_apart([mutant.name(sources[mutant.path]) for mutant in made]), made, strict=True))


def sample(root: Path, part: str, seed: int) -> Iterator[tuple[Mutant, str]]:
    """Mutants in an order of chance, each with its name."""
    named = by_name(root, part)
    sources = {path: (root / path).read_bytes() for path in {mutant.path for mutant in named.values()}}
    said = told_apart([mutant.said(sources[mutant.path]) for mutant in named.values()])
    order = [hashlib.sha256(f"{seed} {text}".encode()).digest() for text in said]
    for _, name in sorted(zip(order, named, strict=True)):
        if named[name].differs(sources[named[name].path]):
            yield named[name], name


def equivalent() -> dict[str, str]:
    """Mutants that change nothing, each with the reason."""
    with EQUIVALENT.open("rb") as file:
        groups = tomllib.load(file)["group"]
    return {said: group["reason"] for group in groups for said in group["mutants"]}


# ---------------------------------------------------------------------------------------------------------------------
# Running them


def main() -> int:
    """Draw the sample and run it, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the path, for instance theory/quadratic")
    parser.add_argument("--results", type=Path, help="a file of what was found, which is continued")
    parser.add_argument("--surveys", type=Path, help="a folder where what the tests come by is kept")
    given = parser.parse_args()
    drawn = list(itertools.islice(sample(ROOT, given.only, given.seed), given.count))
    known = equivalent()
    state = mutant_runs.state_of(ROOT)
    found = found_before(given.results, state) if given.results and given.results.exists() else {}
    rows: dict[str, list[tuple[Mutant, str]]] = collections.defaultdict(list)
    for mutant, said in drawn:
        if said not in known and said not in found:
            rows[row_of(mutant.path)].append((mutant, said))
    failing: dict[str, str] = {}
    for row, mutants in rows.items():
        runs = mutant_runs.run(ROOT, row, FLOORS, [mutant for mutant, _ in mutants], given.surveys)
        try:
            for (_, said), (verdict, seconds) in zip(mutants, runs, strict=True):
                found[said] = verdict, seconds
                print(f"{seconds:6.1f} s  {verdict}  {said}", flush=True)
                if given.results:
                    one = {"mutant": said, "verdict": verdict, "seconds": round(seconds, 2), "state": state}
                    with given.results.open("a", encoding="utf-8") as file:
                        file.write("\n" + json.dumps(one))
        except mutant_runs.Failing as failed:
            failing[row] = str(failed)
    report(ROOT, drawn, known, found)
    for row, tests in failing.items():
        print(f"{row}: its tests fail without a mutant, so that none was tried\n{tests}")
    return 1 if failing else 0


def found_before(results: Path, state: str) -> dict[str, tuple[str, float]]:
    """Verdicts that stand, with the seconds they took: a line that was not written to its end is none."""
    found = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            one = json.loads(line)
            if one["verdict"].startswith("killed") or one["state"] == state:
                found[one["mutant"]] = one["verdict"], one["seconds"]
    return found


def report(
    root: Path, drawn: list[tuple[Mutant, str]], known: dict[str, str], found: dict[str, tuple[str, float]]
) -> None:
    """How many were killed and by what, what was not, and how long it took."""
    same = [said for _, said in drawn if said in known]
    rest = [(mutant, said, found.get(said, (NOT_TRIED, 0.0))[0]) for mutant, said in drawn if said not in known]
    killed = collections.Counter(verdict for _, _, verdict in rest if verdict.startswith("killed"))
    print(f"\n{len(drawn)} drawn, {len(same)} of them known to change nothing, {killed.total()} killed:")
    for verdict, count in sorted(killed.items()):
        print(f"  {count:4} {verdict}")
    times = [found[said][1] for _, said, _ in rest if said in found]
    if times:
        print(f"seconds of a mutant: {statistics.median(times):.2f} in the middle, {max(times):.1f} at most")
    print(f"{killed.total() / max(len(rest), 1):.1%} of those that change something; survivors:")
    for mutant, said, verdict in rest:
        if verdict not in killed:
            print(f"  line {mutant.line((root / mutant.path).read_bytes())} of {said}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
