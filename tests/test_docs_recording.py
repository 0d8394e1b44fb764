"""The recipe for recording runs as it is printed, where PyTorch is there, and how many steps it says are needed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sgdynamics.cli import main
from sgdynamics.theory.diagnosis import diagnose

PAGE = (Path(__file__).parent.parent / "docs" / "recording.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_callbacks_are_python():
    assert len(BLOCKS) == 7
    for kind, code in BLOCKS:
        if kind == "python":
            compile(code, "docs/recording.md", "exec")


def test_the_loop_runs_as_printed_and_its_records_have_a_verdict(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs PyTorch")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for kind, code in BLOCKS:
        if kind == "console":
            assert main(code.removeprefix("$ sgdynamics ").split()) == 0
        elif "Callback" not in code:
            exec(compile(code, "docs/recording.md", "exec"), names)
    slopes, gradients = capsys.readouterr().out.split("quantity", 1)
    assert slopes.startswith("Noise-limited")
    assert "independent_cosine" in gradients


@pytest.mark.parametrize(("gain", "size"), [(0.1, 100), (0.3, 20)])
def test_the_width_of_the_vertex_is_what_the_page_says(gain, size):
    steps = int(450 * (1 - gain / 2) / (size * gain**2))
    widths = []
    for seed in range(8):
        random = np.random.default_rng([3, seed])
        error = np.sqrt(gain / (2 - gain)) * random.normal(size=size)
        slopes = []
        for _ in range(steps):
            moved = -gain * (error - random.normal(size=size))
            first, second = random.normal(size=(2, size))
            slopes.append([(error - first) @ moved, (error + moved - second) @ moved])
            error = error + moved
        before, after = np.transpose(slopes)
        found = diagnose({"slope_before": before, "slope_after": after}).sel(quantity="vertex")
        widths.append(float(found.upper - found.lower) / 2)
    expected = 2 / gain * np.sqrt((1 - gain / 2) / (2 * size * steps))
    assert np.median(widths) == pytest.approx(expected, rel=0.2)
