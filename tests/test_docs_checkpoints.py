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
    assert len(lines) == 5
    for line in lines:
        given = _parser().parse_args(arguments(line.replace("step-*.pt", "step-1.pt")))
        assert given.command in ("plan", "merge")


def test_the_page_runs_as_printed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs PyTorch")
    monkeypatch.chdir(tmp_path)
    names: dict = {"seed": 0}
    for kind, code in BLOCKS:
        if kind == "python":
            exec(compile(code, "docs/checkpoints.md", "exec"), names)
            continue
        for line in code.splitlines():
            assert main(arguments(line)) == 0
    assert "This merge keeps 92 to 100% of what the decay would gain" in capsys.readouterr().out
    assert json.loads(Path("plan.json").read_text())["checkpoint"][-1] == 1000
    (_, last), (_, merged), (_, averaged), (_, decayed) = names["scores"].values()
    assert merged < last
    assert averaged < last
    assert merged < decayed
