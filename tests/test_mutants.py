"""Mutants change one place of what is computed, and their tests decide."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import mutants
import pytest

SOURCE = b'''
"""A module, 1 + 1."""

LIMIT = 3


def above(x, y=2):
    """Not 1 + 1."""
    if x < 0 and not y:
        raise ValueError(f"x must be {x + 1}")
    return -x + 0.5 if y >= x else True
'''

EXPECTED = {
    "x < 0 and not y  ->  not (x < 0 and (not y))",
    "x < 0 and not y  ->  (x < 0) or (not y)",
    "x < 0  ->  (x) <= (0)",
    "0  ->  1",
    "not y  ->  y",
    "y >= x  ->  not (y >= x)",
    "-x + 0.5  ->  (-x) - (0.5)",
    "-x  ->  x",
    "0.5  ->  0.625",
    "y >= x  ->  (y) > (x)",
    "True  ->  False",
}


def test_mutants_change_what_is_computed_and_nothing_that_is_said():
    made = list(mutants.mutants_of(Path("module.py"), SOURCE))
    assert {mutant.shown(SOURCE).split(": ", 1)[1] for mutant in made} == EXPECTED
    for mutant in made:
        assert mutant.differs(SOURCE)
        assert ast.parse(mutant.applied(SOURCE))


@pytest.fixture
def small(tmp_path):
    """A library of one function, with an example and a test."""
    theory = tmp_path / "src" / "sgdynamics" / "theory"
    theory.mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--first')\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow: long']\n")
    for package in (theory.parent, theory):
        (package / "__init__.py").write_text("")
    (theory / "toy.py").write_text(
        '__all__ = ["double"]\n\n\ndef double(x, zero=0):\n    """Twice.\n\n    >>> double(1)\n    2\n    """\n'
        "    return 2 * x + zero if x > 0 else -2 * -x\n"
    )
    (tmp_path / "tests" / "test_toy.py").write_text(
        "from sgdynamics.theory.toy import double\n\n\ndef test_double():\n    assert double(-3) == -6\n"
    )
    return tmp_path


def test_what_the_tests_do_not_notice_survives(small, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sgdynamics"]:
        monkeypatch.delitem(sys.modules, name)  # forks are to import the small one
    found = {}
    made = mutants.everything(small)
    for mutant in made:
        path = small / mutant.path
        kept = path.read_bytes()
        path.write_bytes(mutant.applied(kept))
        found[mutant.shown(kept).split(": ", 1)[1]] = mutants.verdict(small, mutant, 60.0)
        path.write_bytes(kept)
    assert found["x > 0  ->  (x) >= (0)"] == "SURVIVED"  # 0 is twice 0 on both sides
    assert found["2 * x + zero  ->  (2 * x) - (zero)"] == "SURVIVED"
    assert found["2 * x  ->  (2) / (x)"] == "killed by its examples"
    assert found["2  ->  3"] in ("killed by its examples", "killed by its row")
    assert found["-2 * -x  ->  (-2) / (-x)"] == "killed by its row"
