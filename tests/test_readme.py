"""What the README and the pages of the documentation show is what comes out."""

from __future__ import annotations

import doctest
import tomllib
from pathlib import Path

import pytest

import sgdynamics

ROOT = Path(__file__).parent.parent


# The pages that show what Python says; recipes in other blocks are run by the tests of their subject (test_docs_*).
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if "\n>>> " in page.read_text(encoding="utf-8")]


def run(page: Path) -> doctest.TestResults:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.testfile(str(page), module_relative=False, optionflags=flags)


def test_the_snippets_run_as_printed():
    result = run(ROOT / "README.md")
    assert result.attempted > 15
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_the_documentation_run_as_printed(page):
    assert run(page).failed == 0


def test_the_how_to_of_forecasts_has_snippets():
    assert "forecast" in {page.stem for page in PAGES}


def test_the_pictures_are_there():
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("![")]
    assert len(lines) == 2
    assert all((ROOT / line.split("](")[1].rstrip(")")).is_file() for line in lines)


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert sgdynamics.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
