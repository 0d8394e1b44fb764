"""Mutants change one place of what is computed, and their tests decide."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
import time
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


def share(whole):
    while whole > 3:
        whole = whole - 1
    return 8 / (2 * whole - 4)


SHARE = share(4)


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


def test_share():
    assert toy.SHARE == 4


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
    survived, endless, unreached = mutant_runs.SURVIVED, mutant_runs.ENDLESS, mutant_runs.UNREACHED
    assert {said: verdict for said, verdict in found.items() if verdict != mutant_runs.KILLED} == {
        "double: return 2 * x + zero if [[x > 0  ->  (x) >= (0)]] else -x": survived,  # 0 on both sides
        "double: return [[2 * x + zero  ->  (2 * x) - (zero)]] if x > 0 else -x": survived,
        "share: whole = [[whole - 1  ->  (whole) + (1)]]": endless,  # while the module is imported
        "half: while [[x > 1  ->  not (x > 1)]]:": endless,
        "half: x = [[x - 1  ->  (x) + (1)]]": endless,
        "forgotten: return [[x + 1  ->  (x) - (1)]]": unreached,
        "forgotten: return x + [[1  ->  2]]": unreached,
    }


RUNNING = """
import pathlib, sys
sys.path.insert(0, {tests!r})
import mutant_runs, mutants
mutants.ROOT, mutant_runs.SECONDS = pathlib.Path({root!r}), 1.0
sys.exit(mutants.main())
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(small):
    tests = str(Path(mutants.__file__).parent)
    results, surveys = small / "found", small / "surveys"
    program = [sys.executable, "-c", RUNNING.format(tests=tests, root=str(small))]
    program += ["--count", "12", "--results", str(results), "--surveys", str(surveys)]
    first = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    while not (results.exists() and results.read_text().count("killed") >= 3):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    whole = results.read_text().splitlines()
    results.write_text("\n".join(whole)[:-9])  # the last line was not written to its end
    (survey,) = surveys.iterdir()
    made = survey.stat().st_mtime_ns
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    assert survey.stat().st_mtime_ns == made
    drawn = [said for _, said in itertools.islice(mutants.sample(small, "", 0), 12)]
    assert "12 drawn" in done.stdout
    assert "not tried" not in done.stdout
    lines = results.read_text().splitlines()
    assert lines[: len(whole) - 1] == whole[:-1]
    found = [json.loads(line)["mutant"] for line in [*lines[: len(whole) - 1], *lines[len(whole) :]] if line]
    assert sorted(found) == sorted(drawn)  # each of them once


def test_the_suite_comes_by_every_statement_often_enough_and_is_the_cheapest(monkeypatch):
    monkeypatch.setattr(mutant_runs, "ENOUGH", 2)
    one, two = ("file", 1), ("file", 2)
    tests = {"dear": (9.0, {one, two}), "cheap": (1.0, {one}), "mean": (2.0, {one}), "late": (3.0, {one})}
    reached = mutant_runs.Reached(set(), tests)
    assert reached.suite() == {"cheap", "mean", "dear"}
    assert reached.seconds(reached.suite()) == 12.0


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

    def run(root, row, floors, some, kept):
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


def test_a_name_stands_for_one_place_whatever_is_written_around_it(small):
    path = small / "src" / "sgdynamics" / "theory" / "toy.py"
    names = list(mutants.by_name(small))
    path.write_text(path.read_text().replace("    while x > 1:", "    y = 1\n    while x > 1:"))
    after = list(mutants.by_name(small))
    assert [name for name in after if "y = " not in name] == names
    assert sum("half: while x > [[1  ->  2]]:" in name for name in after) == 1


def test_what_is_listed_as_changing_nothing_is_still_made():
    files: dict[str, set[str]] = {}
    for said in mutants.equivalent():
        files.setdefault(said.partition(": ")[0], set()).add(said)
    for path, listed in files.items():
        assert listed <= mutants.by_name(mutants.ROOT, path).keys()
    assert all(mutants.equivalent().values())
