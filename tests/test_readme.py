"""What the README and the pages of the documentation show is what comes out."""

from __future__ import annotations

import doctest
import os
import re
import tomllib
from pathlib import Path

import pytest

import sgdynamics
from figures.engine.catalogue import catalogue
from sgdynamics.formula import REGISTRY

ROOT = Path(__file__).parent.parent


# The pages that show what Python says; recipes in other blocks are run by the tests of their subject (test_docs_*).
ALL_PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [page for page in ALL_PAGES if "\n>>> " in page.read_text(encoding="utf-8")]


def run(page: Path) -> doctest.TestResults:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    sgdynamics.formulas()  # imports all rows: what a page imports first would be gone with it, too
    registered = dict(REGISTRY)
    try:
        return doctest.testfile(str(page), module_relative=False, optionflags=flags)
    finally:  # formulas that a page makes are gone with it
        REGISTRY.clear()
        REGISTRY.update(registered)


def test_the_snippets_run_as_printed():
    result = run(ROOT / "README.md")
    assert result.attempted > 15
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_the_documentation_run_as_printed(page):
    assert run(page).failed == 0


def test_how_tos_and_papers_have_snippets():
    assert {"forecast", "which_schedule", "sandler2023", "concepts"} <= {page.stem for page in PAGES}


BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_what_is_shown_as_python_is_run(page):
    """Sessions above, recipes by the tests of their subject; the rest is marked as text."""
    recipes = {"any_network", "checkpoints", "larger_than_memory", "recording", "test_your_model"}
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert all(code.startswith(">>> ") for kind, code in blocks if kind == "python") or page.stem in recipes


def test_links_between_files_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ALL_PAGES]:
        for target in re.findall(r"\]\(([^)#:]+)[)#]", prose(page)):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short_and_opens_with_the_question():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert lines[0].endswith("?")
    screen = "\n".join(lines[:56])
    assert "![" in screen
    assert "pip install" in screen
    assert len(re.findall(r"^\*\*[^*]+\?\*\*", screen, re.MULTILINE)) == 3


FIGURES = catalogue("figures")
ESSENCES = sorted((ROOT / "docs" / "essence").glob("*.txt"))


def test_every_figure_has_its_essence():
    assert {page.stem for page in ESSENCES} == set(FIGURES)


@pytest.mark.parametrize("page", ESSENCES, ids=lambda page: page.stem)
def test_the_essence_of_a_figure_runs_as_printed(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 22
    assert run(page).failed == 0


def test_the_pictures_are_there():
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("![")]
    assert len(lines) == 2
    assert all((ROOT / line.split("](")[1].rstrip(")")).is_file() for line in lines)


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert sgdynamics.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def linked(page: Path) -> set[str]:
    """Pages, with places in them, that a page leads to, from the folder of the documentation."""
    text = prose(page)
    found = set(re.findall(r"\]\(([^):]+)\)", text)) | {
        f"{name}.md" for name in re.findall(r"\{doc\}`[^<`]*<([^>]+)>`", text)
    }
    return {os.path.relpath((page.parent / target).resolve(), ROOT / "docs") for target in found}


def places(page: Path) -> set[str]:
    """Where in a page a link can lead: headings, as myst names them, and labels."""
    text = prose(page)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_is_asked_of_neighbours_is_two_clicks_away():
    docs = ROOT / "docs"
    page = docs / "asked.md"
    one = {target.partition("#")[0] for target in linked(docs / "index.md")} - {page.name}
    two = {target.partition("#")[0] for name in one if (docs / name).is_file() for target in linked(docs / name)}
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    for row in rows:
        question, _, path = row.strip("| ").split(" | ")
        assert re.search(r"\?.* \(\D.* \d+", question)
        targets = re.findall(r"\]\(([^)]+)\)", path)
        assert targets
        for name, _, place in (target.partition("#") for target in targets):
            assert name in one | two, row
            assert not place or place in places(docs / name), row


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_formulas_are_not_torn(page):
    """A line that begins with a sign and a blank begins a list, and ends the formula before it."""
    for paragraph in re.split(r"\n\s*\n|\n(?=[-+*] |\||#|\d+\. )", prose(page)):
        assert paragraph.replace("$$", "").count("$") % 2 == 0, paragraph
