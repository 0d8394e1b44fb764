"""One hypothesis profile, and the option that perturbs one formula to see whether the tests notice."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import matplotlib
import pytest
from hypothesis import HealthCheck, settings

matplotlib.use("Agg")

# The first call of a compiled kernel takes seconds, so no deadline; the same examples in every run.
settings.register_profile(
    "sgdynamics", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sgdynamics")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--perturb", metavar="NAME:FACTOR", help="multiply what one formula returns by a factor")


def pytest_configure(config: pytest.Config) -> None:
    perturb = config.getoption("--perturb")
    if perturb:
        import sgdynamics

        name, factor = perturb.rsplit(":", 1)
        (formula,) = [formula for formula in sgdynamics.formulas(kind="formula") if formula.name == name]
        original = formula.function

        @functools.wraps(original)
        def perturbed(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs) * float(factor)

        formula.function = perturbed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    perturb = config.getoption("--perturb")
    if perturb:  # the tests that name the formula are the likeliest to notice, and the first to notice ends the run
        short = perturb.rsplit(":", 1)[0].rpartition(".")[2]
        word = re.compile(rf"\b{short}\b")
        items.sort(key=lambda item: (short not in item.nodeid, not word.search(_source(item))))


def _source(item: pytest.Item) -> str:
    """The text of a test, of what hypothesis runs where it does."""
    function = getattr(item, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # an example in a documentation string
        return ""
