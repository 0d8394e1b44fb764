"""Every command that the README and the pages show is one, and runs on logs and files such as it is shown with."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from sgdynamics.cli import _parser, main
from sgdynamics.models import schedules

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = [line for _, block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [found[1] for line in lines if (found := re.match(r"(?:\$ )?sgdynamics (.*)", line))]


SHOWN = [(page, line) for page in PAGES for line in commands(page)]


def test_there_are_some_of_every_kind():
    assert {line.split()[0] for _, line in SHOWN} == {"diagnose", "forecast", "merge", "plan"}
    assert len(SHOWN) >= 18


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=lambda part: getattr(part, "stem", str(part)))
def test_every_command_is_one(page, line):
    assert _parser().parse_args(shlex.split(line)).command == line.split()[0]


def write_log(path, rates):
    step = np.arange(200, len(rates) + 1, 200)
    loss = 2 + 3 * (1 + 2 * np.cumsum(rates)[step - 1]) ** -0.5 + 300 * rates[step - 1]
    loss = loss + 0.002 * np.random.default_rng(len(rates)).normal(size=step.size)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "lr", "loss"])
        rows.writerows(zip(step, rates[step - 1], loss, strict=True))


# The pages whose commands stand alone; those of checkpoints and recording are run by tests of their own (test_docs_*).
@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/forecast.md", "docs/howto/merge_on_a_network.md"])
def test_the_commands_run_as_shown(page, tmp_path, monkeypatch, capsys):
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    monkeypatch.chdir(tmp_path)
    up = np.linspace(0, 3e-4, 2001)[1:]
    write_log(tmp_path / "plateau.csv", np.concatenate([up, schedules.constant(3e-4, 70_000)]))
    write_log(tmp_path / "cosine.csv", np.concatenate([up, schedules.cosine(3e-4, 22_000, final=3e-5)]))
    for step in range(60_000, 70_001, 2000):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        safetensors.save_file({"w": np.full(3, float(step), np.float32)}, folder / "model.safetensors")
    for step in range(0, 801, 40):
        safetensors.save_file({"w": np.full(3, float(step), np.float32)}, tmp_path / f"step-{step}.safetensors")
    for line in commands(ROOT / page):
        words = shlex.split(line)
        given = [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
        assert main(given) == 0, line
        for option in ("--output", "--plot"):
            if option in words:
                assert Path(words[words.index(option) + 1]).stat().st_size > 0
    assert capsys.readouterr().out
