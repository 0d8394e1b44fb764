"""One hypothesis profile, and the option that perturbs formulas to see whether the tests notice."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import itertools
import os
import pkgutil
import re
import sys
from typing import Any

import matplotlib
import pytest
from hypothesis import HealthCheck, Phase, settings

matplotlib.use("Agg")

# Thousands of tests are objects, too, and every full pass of the garbage collector walks through all of them: with the
# usual thresholds a third of the time.
gc.set_threshold(100_000, 50, 100)

# The first call of a compiled kernel takes seconds, so no deadline; the same examples in every run.
settings.register_profile(
    "sgdynamics", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sgdynamics")
# Whether a test fails, not the simplest way to make it fail.
settings.register_profile(
    "sgdynamics, perturbed",
    settings.get_profile("sgdynamics"),
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)


def pytest_configure(config: pytest.Config) -> None:
    """Workers, as many as cores, have one core each: threads of BLAS would wait for each other's cores, and spin."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for what is started from here
    if config.getoption("--perturb"):  # before tests are read, which take their settings from the profile
        settings.load_profile("sgdynamics, perturbed")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load what any test may load: files go to workers by turns, and hypothesis draws constants of modules it finds."""
    if hasattr(session.config, "workerinput"):
        for package in map(importlib.import_module, ("sgdynamics", "figures", "benchmarks")):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)


def pytest_runtest_teardown() -> None:
    """A formula that a test made is gone after it: other tests look at all that there are."""
    from sgdynamics.formula import REGISTRY

    for name in [name for name, item in REGISTRY.items() if not item.function.__module__.startswith("sgdynamics.")]:
        del REGISTRY[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--perturb",
        metavar="NAME:FACTOR",
        action="append",
        default=[],
        help="say whether the tests notice that a formula returns so many times its value; may be repeated",
    )


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Once all tests are collected, a process for every perturbation: importing the tests takes longer than a few."""
    perturbations = session.config.getoption("--perturb")
    if not perturbations:
        return None
    for perturbation in perturbations:
        name, factor = perturbation.rsplit(":", 1)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            status = 2  # nothing was found out
            with contextlib.suppress(BaseException):
                status = int(_noticed(session, name, float(factor)))
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = {0: "not noticed", 1: "noticed"}.get(status, "broken")
        session.config.get_terminal_writer().line(f"{said}: {perturbation}")
    return True


def _noticed(session: pytest.Session, name: str, factor: float) -> bool:
    """Whether a test fails where one formula returns so many times its value; the first that does ends it."""
    import sgdynamics

    (formula,) = [formula for formula in sgdynamics.formulas(kind="formula") if formula.name == name]
    original = formula.function

    @functools.wraps(original)
    def perturbed(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs) * factor

    formula.function = perturbed
    session.config.pluginmanager.unregister(name="terminalreporter")
    items = _likeliest_first(session.items, name.rpartition(".")[2])
    for item, after in itertools.zip_longest(items, items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.testsfailed:
            return True
    return False


def _likeliest_first(items: list[pytest.Item], names: str) -> list[pytest.Item]:
    """Tests in the order in which they may notice that what has one of these names is off."""
    words = re.compile(rf"\b({names})\b")
    return sorted(items, key=lambda item: (not re.search(names, item.nodeid), not words.search(_source(item))))


def _source(item: pytest.Item) -> str:
    """The text of a test, of what hypothesis runs where it does."""
    function = getattr(item, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # an example in a documentation string
        return ""
