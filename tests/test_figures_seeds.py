"""Claims hold with other randomness, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from figures.engine.randomness import mix_into_all_seeds
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate.quadratic import ensemble

ROOT = Path(__file__).parent.parent

# Made in seconds, and nothing in them is said of one draw alone.
CHEAP = ("sandler2023_two_points", "break_even_edges", "critical_rate")


@pytest.fixture
def drawn(monkeypatch):
    """Draws of all kinds with a number mixed into all seeds, as long as they take."""

    def draws(number: int) -> list[float]:
        with monkeypatch.context() as mixed:
            mixed.setattr(np.random, "SeedSequence", np.random.SeedSequence)  # so that both are put back
            mixed.setattr(np.random, "default_rng", np.random.default_rng)
            mix_into_all_seeds(number)
            run = ensemble(MiniBatchQuadratic(1.0, 1.0), constant(0.5, 3), replicas=2, seed=7).error.values.ravel()
            spawned = np.random.default_rng(np.random.SeedSequence(7).spawn(1)[0]).random()
            return [*run, spawned, np.random.default_rng(7).random(), np.random.default_rng([7, 1]).random()]

    return draws


def test_a_number_changes_every_draw_and_none_changes_nothing(drawn):
    plain, one, two = drawn(0), drawn(1), drawn(2)
    assert one == drawn(1)
    assert all(len({*draws}) == 3 for draws in zip(plain, one, two, strict=True))
    assert plain[-2] == np.random.default_rng(7).random()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_check_of_a_cheap_figure_fails(seed, tmp_path):
    command = [sys.executable, "-m", "figures", "--fast", "--jobs", "1", "--seed", str(seed), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--only", *CHEAP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    checks = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {check["figure"] for check in checks} == set(CHEAP)
    assert all(check["verdict"] == "holds" for check in checks)
