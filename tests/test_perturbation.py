"""Every public formula is pinned by the tests of its stem: wrong by a millionth (or a tenth), it must be caught."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sgdynamics import formulas

TESTS = Path(__file__).parent


def survives(item) -> bool:
    factor = 1 + 1e-6 if item.status == "exact" else 1.1
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    command += [f"--perturb={item.name}:{factor}", str(TESTS / f"test_{item.stem}.py")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, env=os.environ)
    assert result.returncode in (0, 1), result.stdout + result.stderr  # passed or failed, not broken
    return result.returncode == 0


@pytest.mark.slow
def test_every_formula_that_is_wrong_is_caught_by_the_tests_of_its_stem():
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        caught = dict(zip(formulas(), map(lambda s: not s, pool.map(survives, formulas())), strict=True))
    assert caught
    survivors = [item.name for item, found in caught.items() if not found]
    assert not survivors, f"no test of the stem notices when these are wrong: {survivors}"


@pytest.mark.slow
def test_the_unperturbed_tests_pass_under_the_same_command():
    for stem in {item.stem for item in formulas()}:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-m", "not slow"]
        assert subprocess.run([*command, str(TESTS / f"test_{stem}.py")], cwd=TESTS.parent).returncode == 0
