"""The how-to of merging checkpoints runs as it is printed, where PyTorch is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sgdynamics.cli import _parser, main

PAGE = (Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def arguments(line: str) -> list[str]:
    """What the shell makes of a line, in the shell's order."""
    words = shlex.split(line.removeprefix("$ sgdynamics "))
    return [word for text in words for word in (sorted(map(str, Path().glob(text))) if "*" in text else [text])]


def test_the_commands_are_commands():
    lines = [line for kind, code in BLOCKS if kind == "console" for line in code.splitlines()]
    assert len(lines) == 4 + 2
    for line in lines:
        given = _parser().parse_args(arguments(line.replace("step-*.pt", "step-1.pt")))
        assert given.command in ("plan", "merge", "forecast")


def test_the_page_runs_as_printed_and_the_decay_is_where_it_was_foretold(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs PyTorch")
    monkeypatch.chdir(tmp_path)
    names: dict = {"seed": 0}
    for kind, code in BLOCKS:
        if kind == "python":
            exec(compile(code, "docs/checkpoints.md", "exec"), names)
            continue
        for line in code.splitlines():
            assert main(arguments(line)) == 0
    printed = capsys.readouterr().out
    assert "This merge keeps 92 to 100% of what the decay would gain" in printed
    assert json.loads(Path("plan.json").read_text())["checkpoint"][-1] == 3000
    scores = names["scores"]
    (last, _), (merged, _), (averaged, _), (decayed, _) = scores.values()
    assert decayed < merged < last
    assert averaged < last
    assert (last - merged) / (last - decayed) > 0.8
    for row, measured in (("last checkpoint", last), ("merged point", merged), ("decayed run", decayed)):
        (numbers,) = re.findall(rf"^{row} +(.*)$", printed, re.MULTILINE)
        _, low, high = map(float, numbers.split())
        assert low < measured < high
