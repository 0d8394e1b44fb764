"""Every public formula is pinned by the tests of its stem: wrong by a millionth (or a tenth), it must be caught."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sgdynamics import formulas
from sgdynamics.formula import Formula

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="perturbs in forked processes")

TESTS = Path(__file__).parent
FORMULAS = formulas(kind="formula")


def unnoticed(factors: Mapping[str, float], files: Iterable[Path]) -> list[str]:
    """The formulas that may be off by such factors without failing a quick test in some files."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    command += [f"--perturb={name}:{factor!r}" for name, factor in factors.items()]
    result = subprocess.run([*command, *map(str, sorted(files))], capture_output=True, text=True, cwd=TESTS.parent)
    said = re.findall(r"^(not noticed|noticed): (\S+):\S+$", result.stdout, re.MULTILINE)
    found = {name: word for word, name in said}
    assert found.keys() == factors.keys(), result.stdout + result.stderr  # found out, not broken
    return [name for name, word in found.items() if word == "not noticed"]


def files_of(stem: str) -> list[Path]:
    return list(TESTS.glob(f"test_{stem}*.py"))


def naming(item: Formula) -> list[Path]:
    """The tests of a formula's stem that name it."""
    name = re.compile(rf"\b{item.name.rpartition('.')[2]}\b")
    return [path for path in files_of(item.stem) if name.search(path.read_text(encoding="utf-8"))]


@pytest.mark.slow
def test_every_formula_that_is_wrong_is_caught_by_the_tests_of_its_stem():
    assert FORMULAS
    factors: dict[str, dict[str, float]] = defaultdict(dict)
    for item in FORMULAS:
        factors[item.stem][item.name] = 1 + 1e-6 if item.status == "exact" else 1.1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        survivors = list(pool.map(lambda stem: unnoticed(factors[stem], files_of(stem)), factors))
    assert not any(survivors), f"no test of the stem notices when these are wrong: {survivors}"


@pytest.mark.slow
def test_the_unperturbed_tests_pass_under_the_same_command():
    one_of_each = {item.stem: item for item in FORMULAS}
    assert all(unnoticed({item.name: 1.0}, naming(item)) == [item.name] for item in one_of_each.values())
