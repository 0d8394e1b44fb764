"""Parameters are said once: the documentation, the check and the tests of a formula read one declaration."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re

import pytest

import sgdynamics
from sgdynamics import formulas
from sgdynamics.domains import Interval, nonnegative, positive
from sgdynamics.formula import formula, stable_below
from sgdynamics.parameters import SHARED, Parameter, documented, found

FACTS = {"quantity": "gain", "status": "exact", "source": "derived"}
TABLE = {"spread": Parameter(r"\sigma", "of the centers", nonnegative, 0.5, "weight")}


def made(**own):
    @formula(TABLE, **FACTS, edge=stable_below(gain=2.0), **own)
    def example(gain: float, *, spread: float = 1.0) -> float:
        r"""The first line.

        .. math:: x \sigma

        Returns
        -------
        float
        """
        return gain * spread

    return example


def test_the_declaration_is_the_check_the_documentation_and_the_typical_arguments():
    item = made()
    assert item.domains == {"gain": positive, "spread": nonnegative}
    assert item.typical == {"gain": 0.5, "spread": 0.5}
    with pytest.raises(ValueError, match="example: spread must be a finite number >= 0, got -1"):
        item(0.5, spread=-1)
    assert item.__doc__.split("\n\n")[2] == (
        "Parameters\n----------\n"
        "gain : float\n    :math:`x`, learning rate times curvature. A finite number > 0. "
        "At or beyond 2 the result is +inf.\n"
        "spread : float, default 1.0\n    :math:`\\sigma`, of the centers. A finite number >= 0, in units of weight."
    )
    assert item.__doc__.split("\n\n")[3] == "Returns\n-------\nfloat"


def test_what_a_formula_says_itself_comes_first():
    assert made(spread=positive).parameters["spread"] == Parameter(r"\sigma", "of the centers", positive, 0.5, "weight")
    other = Parameter("q", "something else", positive, 2.0)
    assert made(spread=other).parameters["spread"] is other
    assert found(made().function, {**TABLE, "gain": other}, {})["gain"] is other  # a row before what rows share


def test_what_is_declared_nowhere_or_not_taken_is_refused():
    with pytest.raises(TypeError, match=re.escape("missing ['spread'], not among its parameters []")):
        found(made().function, {}, {})
    with pytest.raises(TypeError, match=re.escape("missing [], not among its parameters ['beta']")):
        made(beta=positive)


def test_what_the_documentation_says_already_stays_and_the_rest_is_filled_in_between():
    def taken(model, gain, x, y, momentum): ...

    text = "First.\n\nParameters\n----------\nmodel\n    Any.\n{}x, y : float\n    Both.\n\nReturns\n-------\nfloat"
    filled = text.format(f"gain\n    {SHARED['gain']}\n").replace("Both.", f"Both.\nmomentum\n    {SHARED['momentum']}")
    entries = {name: SHARED[name] for name in ("gain", "momentum")}
    assert documented(text.format(""), inspect.signature(taken), entries) == filled
    assert documented(filled, inspect.signature(taken), entries) == filled
    assert documented(None, inspect.signature(taken), entries) is None


# ---------------------------------------------------------------------------------------------------------------------
# Every formula of the library


def tables():
    """The modules with the parameters of a row."""
    for info in pkgutil.walk_packages(sgdynamics.__path__, "sgdynamics."):
        if re.fullmatch(r"sgdynamics\.(models|theory)\.\w+\.parameters", info.name):
            yield importlib.import_module(info.name)


FORMULAS = formulas(kind="formula")
IDS = [item.name for item in FORMULAS]
TABLES = [SHARED, *(module.PARAMETERS for module in tables())]


def section(documentation):
    """Names and texts of the parameters in documentation."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n|\Z)", documentation, re.DOTALL | re.MULTILINE)
    return re.findall(r"^(\w+)(?: : .+)?\n    (.+)$", found[1], re.MULTILINE) if found else []


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_the_documentation_says_of_every_parameter_what_is_declared_and_the_source_repeats_none_of_it(item):
    said = dict(section(item.__doc__))
    assert list(said) == list(inspect.signature(item).parameters)
    for name, parameter in item.parameters.items():
        assert said[name].startswith(str(parameter))
        assert parameter.symbol or parameter.meaning, f"nothing is said of {name}"
    assert not section(item.function.__doc__)


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_the_declared_range_is_what_is_checked(item):
    for name, domain in item.domains.items():
        assert domain is item.parameters[name].domain
        domain.check(item.name, name, item.typical[name])
        wrong = math.nan if isinstance(domain, Interval) else None
        with pytest.raises((ValueError, TypeError), match=re.escape(f"{name} must be {domain.text}, got")):
            item(**{**item.typical, name: wrong})


def test_no_parameter_is_declared_by_two_rows_alike():
    assert len(TABLES) > 8
    seen = {}
    for table in TABLES:
        for name, parameter in table.items():
            assert seen.setdefault((name, parameter), table) is table, f"{name} is said twice: it is for SHARED"


def test_units_are_made_of_known_ones():
    known = "curvature|learning rate|weight|gradient|loss|output|input|kernel|examples|rad|1"
    unit = re.compile(rf"(?:{known})(?:\^\d)?(?:[ /](?:{known})(?:\^\d)?)*")
    for table in TABLES:
        assert [name for name, parameter in table.items() if not unit.fullmatch(parameter.units)] == []


LAWS = formulas(kind="law")


@pytest.mark.parametrize("item", LAWS, ids=[item.name for item in LAWS])
def test_the_documentation_of_a_law_says_something_of_every_parameter(item):
    found = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n|\Z)", inspect.getdoc(item), re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^\w.*", found[1] if found else "", re.MULTILINE)
    said = [name for heading in headings for name in heading.partition(" : ")[0].split(", ")]
    assert said == list(inspect.signature(item.function).parameters)
