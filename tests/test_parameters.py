"""Parameters are said once: the documentation, the check and the tests of a formula read one declaration."""

from __future__ import annotations

import inspect
import re

import pytest

from sgdynamics.domains import nonnegative, positive
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


def test_documentation_that_has_the_section_is_left_as_it_is():
    text = "First.\n\nParameters\n----------\ngain : float\n\nReturns\n-------\nfloat"
    assert documented(text, inspect.signature(made().function), SHARED) == text
    assert documented(None, inspect.signature(made().function), SHARED) is None
