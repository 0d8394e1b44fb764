"""Every public formula is pinned by the tests of its stem: wrong by a millionth (or a tenth), it must be caught."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sgdynamics import formulas
from sgdynamics.formula import Formula

TESTS = Path(__file__).parent
FORMULAS = formulas(kind="formula")


def files_of(item: Formula) -> tuple[list[Path], list[Path]]:
    """The tests of a formula's stem: those that name it, and the others."""
    stem = sorted(TESTS.glob(f"test_{item.stem}*.py"))
    name = re.compile(rf"\b{item.name.rpartition('.')[2]}\b")
    naming = [path for path in stem if name.search(path.read_text(encoding="utf-8"))]
    return naming, [path for path in stem if path not in naming]


def passes(item: Formula, factor: float, files: Sequence[Path]) -> bool:
    """Whether the quick tests in some files pass with a formula off by a factor."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    command += [f"--perturb={item.name}:{factor}", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, env=os.environ)
    assert result.returncode in (0, 1), result.stdout + result.stderr  # passed or failed, not broken
    return result.returncode == 0


def survives(item: Formula) -> bool:
    factor = 1 + 1e-6 if item.status == "exact" else 1.1
    return all(passes(item, factor, files) for files in files_of(item) if files)


@pytest.mark.slow
def test_every_formula_that_is_wrong_is_caught_by_the_tests_of_its_stem():
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        caught = dict(zip(FORMULAS, map(lambda s: not s, pool.map(survives, FORMULAS)), strict=True))
    assert caught
    survivors = [item.name for item, found in caught.items() if not found]
    assert not survivors, f"no test of the stem notices when these are wrong: {survivors}"


@pytest.mark.slow
def test_the_unperturbed_tests_pass_under_the_same_command():
    one_of_each = {item.stem: item for item in FORMULAS}
    assert all(passes(item, 1.0, files_of(item)[0]) for item in one_of_each.values())
