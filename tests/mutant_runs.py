"""The tests of a row against mutants: each in a fork of one process that has collected the tests.

Before, the tests are run as they are, with every statement of the row marked: what a mutant changes can only be noticed
by the tests that come by, and those run from the cheapest to the dearest, what names the function somewhat earlier. The
suite of a row is found by this, too: tests are taken from the cheapest to the dearest where one of their statements has
not been come by five times. It runs first, and what it costs is printed; the other tests only meet what it leaves.

A mutant is put into the living functions by exchanging their code. What runs already while modules are imported or
tests collected, and is not noticed so, is changed before that, in a process of its own, and meets what comes by, the
suite and what comes by nothing. A mutant that fails where it is imported is killed by that, and one without end by a
limit on the processor's time that belongs to each test.

No source is written and none is changed, so that kernels compiled before are found on disk. Processes that tests start
run the library as it is.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import functools
import gc
import hashlib
import importlib
import importlib.util
import itertools
import os
import pickle
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple, Protocol

import pytest

# What the tests import beside the library: forks have it. What pytest has hooks for, as hypothesis, it imports itself.
HEAVY = ("h5netcdf", "matplotlib.pyplot", "mpmath", "numba", "pandas", "sympy", "threadpoolctl", "xarray")
HEAVY += ("scipy.integrate", "scipy.linalg", "scipy.optimize", "scipy.special", "scipy.stats")

# A test takes too long at so many times what it takes, and some seconds, of the processor's time.
TOO_LONG = 10.0
SECONDS = 10.0
MEMORY = 12 << 30

# Laws of all formulas and functions, whose tests are called by what they are about.
SHARED = ("test_arguments.py", "test_extremes.py", "test_formula.py")

# How much earlier a test runs that names the function.
NAMED = 5.0

# How many tests of the suite come by a statement, where so many do.
ENOUGH = 5

KILLED, LATE, ENDLESS = "killed", "killed: by a test beyond the suite", "killed: without end"
SURVIVED, UNREACHED = "SURVIVED", "SURVIVED: no test comes by"
UNKNOWN = ""

# How forks end: the first as where pytest finds a failure, the others as it never does.
FAILED, FAILED_LATE, BROKEN = 1, 69, 70

Statement = tuple[str, int]  # a file and a line


class Change(Protocol):
    """What is asked of a mutant here."""

    @property
    def path(self) -> Path: ...
    @property
    def function(self) -> str: ...
    @property
    def statement(self) -> int: ...
    def applied(self, source: bytes) -> bytes: ...


class Reached(NamedTuple):
    """What the tests come by: all while they are collected, and each with the seconds it takes."""

    early: set[Statement]
    tests: dict[str, tuple[float, set[Statement]]]

    def suite(self) -> set[str]:
        """The cheapest tests by which every statement is come by often enough, or as often as there are."""
        times: collections.Counter[Statement] = collections.Counter()
        taken = set()
        for name, (_, reached) in sorted(self.tests.items(), key=lambda test: test[1][0]):
            if any(times[statement] < ENOUGH for statement in reached):
                taken.add(name)
                times.update(reached)
        return taken

    def seconds(self, names: Collection[str]) -> float:
        """What some of the tests take."""
        return sum(self.tests[name][0] for name in names)


class Failing(Exception):
    """The tests of a row fail as they are, so that they say nothing about mutants; the argument names the tests."""


def run(
    root: Path, row: str, floors: Collection[str], mutants: list[Any], kept: Path | None = None
) -> Iterator[tuple[str, float]]:
    """The verdict on each mutant of a row, and the seconds it took.

    What the tests come by is looked up in the folder ``kept``, if one is given, and found out only where that was
    in another state of the sources.

    Raises
    ------
    Failing
        Where tests of the row fail without a mutant, before any verdict.
    """
    for name in HEAVY:
        importlib.import_module(name)
    modules = modules_of(root, row, floors)
    arguments = ["--doctest-modules", *modules, *tests_of(root, row)]
    survey = kept / f"{row}-{state_of(root)}.pickle" if kept else None
    if survey and survey.exists():
        reached = pickle.loads(survey.read_bytes())
    else:
        marked = {path: marked_source(path, (root / path).read_bytes()) for path in modules}
        (reached,) = in_fork(lambda tell: session(root, row, arguments, Recorder(tell), marked))
        if isinstance(reached, str):
            raise Failing(reached)
        if survey:
            survey.parent.mkdir(parents=True, exist_ok=True)
            survey.with_suffix(".part").write_bytes(pickle.dumps(reached))
            survey.with_suffix(".part").replace(survey)
    suite, tests = reached.suite(), reached.tests
    print(
        f"{row}: {len(suite)} tests of its suite take {reached.seconds(suite):.0f} s, "
        f"all {len(tests)} of them {reached.seconds(tests):.0f} s",
        flush=True,
    )
    found = in_fork(lambda tell: session(root, row, arguments, Executioner(root, reached, mutants, tell), {}))
    for mutant, (verdict, seconds) in zip(mutants, found, strict=True):
        if (verdict.startswith("SURVIVED") and statement_of(mutant) in reached.early) or verdict == UNKNOWN:
            verdict, more = alone(root, row, arguments, reached, mutant)
            seconds += more
        yield verdict, seconds


def state_of(root: Path) -> str:
    """A word for all sources of the library and its tests, and for what runs them."""
    state = hashlib.sha256(sys.version.encode())
    for path in sorted(path for part in ("src", "tests") for path in (root / part).rglob("*.py")):
        state.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return state.hexdigest()[:16]


def statement_of(mutant: Change) -> Statement:
    """Where it is."""
    return str(mutant.path), mutant.statement


def modules_of(root: Path, row: str, floors: Collection[str]) -> list[str]:
    """The files of a row."""
    homes = [root / "src" / "sgdynamics" / floor for floor in floors]
    found = [path for home in homes for path in (*home.glob(f"{row}.py"), *(home / row).rglob("*.py"))]
    return [str(path.relative_to(root)) for path in sorted(found)]


def tests_of(root: Path, row: str) -> list[str]:
    """The files of tests of a row: those that are called so, or else those that speak of it."""
    files = sorted((root / "tests").glob("test_*.py"))
    called = [path for path in files if path.stem.startswith(f"test_{row}")]
    speaking = [path for path in files if re.search(rf"\b(theory|models)\.{row}\b", path.read_text(encoding="utf-8"))]
    shared = [root / "tests" / name for name in SHARED if (root / "tests" / name).exists()]
    return [str(path.relative_to(root)) for path in dict.fromkeys([*(called or speaking), *shared])]


def is_about(item: pytest.Item, row: str) -> bool:
    """Whether it is in a file of the row, or of the shared tests one about the row."""
    return item.path.name not in SHARED or bool(re.search(rf"\[(.*\W)?(models|theory)\.{row}\.", item.nodeid))


# ---------------------------------------------------------------------------------------------------------------------
# Processes


def in_fork(body: Callable[[Callable[[Any], None]], object]) -> Iterator[Any]:
    """What a fork tells while it works."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if not child:
        os.close(inlet)
        with open(outlet, "wb") as pipe:

            def tell(what: Any) -> None:
                pickle.dump(what, pipe)
                pipe.flush()

            try:
                body(tell)
                status = 0
            except BaseException:
                status = BROKEN
                traceback.print_exc()
            os._exit(status)
    os.close(outlet)
    with open(inlet, "rb") as pipe:
        try:
            while True:
                yield pickle.load(pipe)
        except EOFError:
            os.waitpid(child, 0)


def session(root: Path, row: str, arguments: list[str], plugin: object, sources: Mapping[str, bytes]) -> int:
    """Collect the tests of a row with some modules read from other sources, and let the plugin do the rest."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root)])
    sys.path[:0] = [str(root / "src"), str(root)]
    options = ["-x", "-q", "--tb=no", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, *arguments], plugins=[Others(root, row, sources), plugin]))


class Others:
    """A plugin that finds the modules that have another source, and leaves the tests of other rows."""

    def __init__(self, root: Path, row: str, sources: Mapping[str, bytes]) -> None:
        self.root = root
        self.row = row
        self.sources = {name_of(path): (path, source) for path, source in sources.items()}

    def pytest_sessionstart(self) -> None:
        sys.meta_path.insert(0, self)  # before what pytest has there

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if is_about(item, self.row)]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self.sources:
            return None
        place, source = self.sources[name]
        loader = Given(name, str(self.root / place))
        loader.source = source
        package = [str((self.root / place).parent)] if place.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(
            name, self.root / place, loader=loader, submodule_search_locations=package
        )


class Given(SourceFileLoader):
    """A module from a source in memory; nothing is kept."""

    source: bytes

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


def name_of(path: str) -> str:
    """The module of a file."""
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# ---------------------------------------------------------------------------------------------------------------------
# What the tests come by


class Marks(ast.NodeTransformer):
    """Every statement inside a function says that it is reached, before it runs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        within, self.inside = self.inside, True
        self.generic_visit(node)
        self.inside = within
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self.inside:
            for name in ("body", "orelse", "finalbody"):
                statements = getattr(node, name, None)
                if isinstance(statements, list):
                    setattr(node, name, [part for one in statements for part in self.marked(one)])
        return node

    def marked(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not text and not isinstance(statement, ast.Nonlocal | ast.Global):
            (mark,) = ast.parse(f"__reached__(({self.path!r}, {statement.lineno}))").body
            for node in ast.walk(mark):
                ast.copy_location(node, statement)
            yield mark
        yield statement


def marked_source(path: str, source: bytes) -> Any:
    """A module whose functions say which of their statements are reached; ``compile`` takes it for its source."""
    return Marks(path).visit(ast.parse(source))


class Recorder:
    """A plugin that tells what the tests come by, or what fails."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self.tell = tell
        self.reached: set[Statement] = set()
        self.early: set[Statement] = set()
        self.fixtures: dict[object, set[Statement]] = {}
        self.tests: dict[str, tuple[float, set[Statement]]] = {}
        self.failed: list[str] = []
        self.caches: list[Any] = []
        builtins.__reached__ = self.mark  # type: ignore[attr-defined]

    def mark(self, statement: Statement) -> None:
        self.reached.add(statement)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.early, self.reached = self.reached, set()
        ours = {item.module.__name__ for item in session.items if hasattr(item, "module")}
        for thing in gc.get_objects():
            if type(thing) is functools._lru_cache_wrapper:  # asking a proxy for its class may fail
                name = thing.__module__ or ""
                if name in ours or name.startswith(("sgdynamics.models", "sgdynamics.theory")):
                    self.caches.append(thing)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """What is made once is there for every test that asks for it."""
        before, self.reached = self.reached, set()
        try:
            return (yield)
        finally:
            self.fixtures[fixturedef] = self.reached
            self.reached |= before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, object, object]:
        for cache in self.caches:
            cache.cache_clear()
        self.reached, started = set(), processor()
        result = yield
        fixtures = getattr(item, "_fixtureinfo", None)
        for definitions in fixtures.name2fixturedefs.values() if fixtures else ():
            for definition in definitions:
                self.reached |= self.fixtures.get(definition, set())
        self.tests[item.nodeid] = processor() - started, self.reached
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.tell("\n".join(self.failed) if self.failed else Reached(self.early, self.tests))


def processor() -> float:
    """Seconds of the processor's time so far, of this process and what it started."""
    return sum(os.times()[:4])


# ---------------------------------------------------------------------------------------------------------------------
# Running mutants


class Plugin:
    """What running with a mutant takes: no search for simpler failures, and an end to each test."""

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutants", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")


class Executioner(Plugin):
    """A plugin that has the tests collected once and forks for every mutant, telling what became of each."""

    def __init__(self, root: Path, reached: Reached, mutants: list[Any], tell: Callable[[Any], None]) -> None:
        self.root = root
        self.reached = reached
        self.suite = reached.suite()
        self.mutants = mutants
        self.tell = tell

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        living: dict[Key, list[FunctionType]] = {}
        for thing in gc.get_objects():
            if type(thing) is FunctionType:
                living.setdefault(key_of(thing.__code__), []).append(thing)
        gc.collect()
        gc.freeze()  # so that forks share what there is
        for mutant in self.mutants:
            statement = statement_of(mutant)
            items = [item for item in session.items if statement in self.reached.tests[item.nodeid][1]]
            items = self.likeliest_first(items, mutant.function)
            exchanged = [
                (function, code) for code in self.codes_of(mutant) for function in living.get(key_of(code), [])
            ]
            if not items:
                self.tell((UNREACHED, 0.0))
            elif not exchanged or len({id(function) for function, _ in exchanged}) < len(exchanged):
                self.tell((UNKNOWN, 0.0))  # what cannot be told apart is changed before it is imported
            else:
                self.tell(judged(lambda: self.condemned(exchanged, items)))  # noqa: B023 - called at once
        return True

    def likeliest_first(self, items: list[pytest.Item], function: str) -> list[pytest.Item]:
        """The suite and then the rest, each from the cheapest, those called by the function's name somewhat earlier."""
        name = function.rpartition(".")[2].strip("_")

        def place(item: pytest.Item) -> tuple[bool, float]:
            seconds, _ = self.reached.tests[item.nodeid]
            return item.nodeid not in self.suite, seconds / (NAMED if name in item.nodeid else 1.0)

        return sorted(items, key=place)

    def codes_of(self, mutant: Change) -> list[CodeType]:
        """Its function and what is defined in that: of a decorator, functions made by it are living, too."""
        source = mutant.applied((self.root / mutant.path).read_bytes())
        code = compile(source, str(self.root / mutant.path), "exec", dont_inherit=True)
        inside = f"{mutant.function}.<locals>."
        return [one for one in functions_in(code) if f"{one.co_qualname}.<locals>.".startswith(inside)]

    def condemned(self, exchanged: list[tuple[FunctionType, CodeType]], items: list[pytest.Item]) -> int:
        """Put it in and run the tests until one fails."""
        for function, code in exchanged:
            function.__code__ = code
        try:
            for item, after in itertools.zip_longest(items, items[1:]):
                ends_in_time(self.reached.tests[item.nodeid][0])
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if item.session.testsfailed:
                    return FAILED if item.nodeid in self.suite else FAILED_LATE
        except BaseException:  # what ends the session, as an exit would
            return FAILED
        return 0


class Ordered(Plugin):
    """A plugin that runs what comes by, and then the suite, with a mutant that was there from the start."""

    def __init__(self, reached: Reached, mutant: Change) -> None:
        self.reached = reached
        self.suite = reached.suite()
        self.mutant = mutant

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        first = {id(item) for item in items if statement_of(self.mutant) in self.cost(item)[1]}
        # what comes by nothing may look at what was made before, and a mutant may change the names of tests
        asked = first | {id(item) for item in items if item.nodeid in self.suite or not self.cost(item)[1]}
        items[:] = [item for item in items if id(item) in asked]
        items.sort(key=lambda item: (id(item) not in first, self.cost(item)[0]))

    def cost(self, item: pytest.Item) -> tuple[float, set[Statement]]:
        return self.reached.tests.get(item.nodeid, (0.0, set()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        ends_in_time(self.cost(item)[0])


def alone(root: Path, row: str, arguments: list[str], reached: Reached, mutant: Change) -> tuple[str, float]:
    """The verdict on a mutant that is there before anything is imported."""
    source = {str(mutant.path): mutant.applied((root / mutant.path).read_bytes())}

    def body() -> int:
        ends_in_time(SECONDS)
        return session(root, row, arguments, Ordered(reached, mutant), source)

    return judged(body)


Key = tuple[str, str, int]


def key_of(code: CodeType) -> Key:
    """By which a code is known to be that of a function from another version of the file."""
    return code.co_filename, code.co_qualname, code.co_firstlineno


def functions_in(code: CodeType) -> Iterator[CodeType]:
    """A code and what is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from functions_in(constant)


def ends_in_time(seconds: float) -> None:
    """The process ends when a test that takes so many seconds takes much longer, or hangs."""
    limit = TOO_LONG * seconds + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + limit) + 1, resource.RLIM_INFINITY))
    signal.alarm(int(20 * limit))


def judged(body: Callable[[], int]) -> tuple[str, float]:
    """The verdict of a fork that runs tests, by how it ends, and the seconds of the processor's time it took."""
    child = os.fork()
    if not child:
        os.setsid()
        status = BROKEN
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            status = body()
        finally:
            os._exit(status)
    try:
        _, status, used = os.wait4(child, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what tests have started, and itself where this is interrupted
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
        raise RuntimeError("a mutant could not be put in")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM):
        verdict = ENDLESS
    else:
        verdict = {0: SURVIVED, FAILED_LATE: LATE}.get(os.waitstatus_to_exitcode(status), KILLED)
    return verdict, used.ru_utime + used.ru_stime
