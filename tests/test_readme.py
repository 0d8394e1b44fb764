"""What the README shows is what comes out."""

from __future__ import annotations

import doctest
import tomllib
from pathlib import Path

import sgdynamics

ROOT = Path(__file__).parent.parent


def test_the_snippets_run_as_printed():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=flags)
    assert result.attempted > 15
    assert result.failed == 0


def test_the_pictures_are_there():
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("![")]
    assert len(lines) == 2
    assert all((ROOT / line.split("](")[1].rstrip(")")).is_file() for line in lines)


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert sgdynamics.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
