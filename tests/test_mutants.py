"""Mutants change one place of what is computed, and their tests decide."""

from __future__ import annotations

import ast
import itertools
import sys
from pathlib import Path

import mutant_runs
import mutants
import pytest

SOURCE = b'''
"""A module, 1 + 1."""

LIMIT = 3


def above(x, y=2):
    """Not 1 + 1."""
    if x < 0 and not y:
        raise ValueError(f"x must be {x + 1}")
    return -x + 0.5 + 0 * y if y >= x else isclose(x, y, rel_tol=1e-9)
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
}


def test_mutants_change_what_is_computed_and_nothing_that_is_said():
    made = list(mutants.mutants_of(Path("module.py"), SOURCE))
    said = [mutant.said(SOURCE).split(": above: ", 1)[1] for mutant in made]
    assert set(said) == EXPECTED
    assert len(said) == len(EXPECTED) + 1  # two zeros
    for mutant in made:
        assert mutant.differs(SOURCE)
        assert ast.parse(mutant.applied(SOURCE))
        assert SOURCE.splitlines()[mutant.statement - 1].strip().startswith((b"if x < 0", b"return -x"))


TOY = '''
def doubled(function):
    def twice(x):
        return 2 * function(x)

    return twice


def table():
    return [1 + 1]


TABLE = table()


def double(x, zero=0):
    """Twice.

    >>> double(1)
    2
    """
    return 2 * x + zero if x > 0 else -x


@doubled
def half(x):
    while x > 1:
        x = x - 1
    return x / 2


def forgotten(x):
    return x + 1
'''

TESTS = """
import functools

import pytest
from sgdynamics.theory import toy


@functools.cache
def kept():
    return toy.half(4)


@pytest.fixture(scope="module")
def made():
    return toy.half(1)


def test_double():
    assert toy.double(-3) == 3


def test_table():
    assert toy.TABLE == [2]


def test_made(made):
    assert True


def test_made_again(made):
    assert made == 1


def test_kept():
    kept()


def test_kept_again():
    assert kept() == 1
"""


@pytest.fixture
def small(tmp_path):
    """A library of one row."""
    theory = tmp_path / "src" / "sgdynamics" / "theory"
    theory.mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow: long']\n")
    for package in (theory.parent, theory):
        (package / "__init__.py").write_text("")
    (theory / "toy.py").write_text(TOY)
    (tmp_path / "tests" / "test_toy.py").write_text(TESTS)
    return tmp_path


@pytest.mark.slow
def test_what_the_tests_do_not_notice_survives(small, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sgdynamics"]:
        monkeypatch.delitem(sys.modules, name)  # forks are to import the small one
    monkeypatch.setattr(mutant_runs, "SECONDS", 1.0)
    drawn = list(mutants.sample(small, "", 0))
    runs = mutant_runs.run(small, "toy", mutants.FLOORS, [mutant for mutant, _ in drawn])
    found = {said.split("toy.py: ", 1)[1]: verdict for (_, said), (verdict, _) in zip(drawn, runs, strict=True)}
    survived = mutant_runs.SURVIVED
    assert {said: verdict for said, verdict in found.items() if verdict != mutant_runs.KILLED} == {
        "double: x > 0  ->  (x) >= (0)": survived,  # 0 on both sides
        "double: 2 * x + zero  ->  (2 * x) - (zero)": survived,
        "half: x > 1  ->  not (x > 1)": mutant_runs.ENDLESS,
        "half: x - 1  ->  (x) + (1)": mutant_runs.ENDLESS,
        "forgotten: x + 1  ->  (x) - (1)": mutant_runs.UNREACHED,
        "forgotten: 1  ->  2": mutant_runs.UNREACHED,
    }


@pytest.mark.slow
def test_tests_that_fail_without_a_mutant_decide_nothing(small, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sgdynamics"]:
        monkeypatch.delitem(sys.modules, name)
    tests = small / "tests" / "test_toy.py"
    tests.write_text(tests.read_text() + "\n\ndef test_wrong():\n    assert toy.half(1) == 2\n")
    ((mutant, _),) = itertools.islice(mutants.sample(small, "", 0), 1)
    with pytest.raises(mutant_runs.Failing, match=r"^tests/test_toy\.py::test_wrong$"):
        list(mutant_runs.run(small, "toy", mutants.FLOORS, [mutant]))


def test_a_row_whose_tests_fail_without_a_mutant_is_left_out_and_said(small, monkeypatch, capsys):
    theory = small / "src" / "sgdynamics" / "theory"
    (theory / "other.py").write_text("def two(x):\n    return 2 * x\n")

    def run(root, row, floors, some):
        if row == "toy":
            raise mutant_runs.Failing("tests/test_toy.py::test_double")
        yield from [(mutant_runs.KILLED, 0.0)] * len(some)

    monkeypatch.setattr(mutants, "ROOT", small)
    monkeypatch.setattr(mutant_runs, "run", run)
    monkeypatch.setattr(sys, "argv", ["mutants.py"])
    assert mutants.main() == 1
    said = capsys.readouterr().out
    assert "drawn, 0 of them known to change nothing, 2 killed:" in said
    assert said.count("not tried") == len(list(mutants.sample(small, "toy", 0)))
    why = "toy: its tests fail without a mutant, so that none was tried"
    assert said.endswith(f"{why}\ntests/test_toy.py::test_double\n")
    monkeypatch.setattr(sys, "argv", ["mutants.py", "--only", "other"])
    assert mutants.main() == 0


def test_the_sample_depends_on_the_seed_and_on_no_other_mutant(small):
    before = [said for _, said in mutants.sample(small, "", 0)]
    assert before != [said for _, said in mutants.sample(small, "", 1)]
    path = small / "src" / "sgdynamics" / "theory" / "toy.py"
    path.write_text("\n" + path.read_text() + "\n\ndef more(x):\n    return -x\n")
    after = [said for _, said in mutants.sample(small, "", 0)]
    assert [said for said in after if ": more:" not in said] == before
    assert len(after) == len(before) + 1


def test_what_is_listed_as_changing_nothing_is_still_made():
    files: dict[str, set[str]] = {}
    for said in mutants.equivalent():
        files.setdefault(said.partition(": ")[0], set()).add(said)
    for path, listed in files.items():
        assert listed <= mutants.by_name(mutants.ROOT, path).keys()
    assert all(mutants.equivalent().values())
