"""The report as a reader has it: on a phone too, claims filtered by verdict and sorted by any column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from browser import Browser, browser, needs_chromium

from figures.engine.catalogue import catalogue, in_words
from figures.engine.check import exact
from figures.engine.report import Entry, write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    name = "sandler2023_a_figure_whose_name_is_so_long_that_no_telephone_shows_it_on_one_line"
    plt.figure(figsize=(7, 3)).savefig(folder / f"{name}.png")
    plt.close("all")
    checks = tuple(
        exact(f"claim {place}", "derived, section 3").close(value, value + off, tolerance=1e-3)
        for place, (value, off) in enumerate([(10.0, 0.0), (9.0, 1.0), (100.0, 0.0)])
    )
    write_report(folder, [Entry(name, "One claims.", checks=checks, look="Left, this.\nRight, that.")], fast=True)
    return folder / "report.html"


@pytest.fixture(scope="module")
def tab(report: Path) -> Iterator[Browser]:
    with browser() as opened:
        opened.resize(390)
        assert opened.open(report.as_uri()) == []
        yield opened


def shown(tab: Browser) -> list[str]:
    rows = "[...document.querySelectorAll('table.claims tbody tr')]"
    return tab.run(f"{rows}.filter(row => row.offsetHeight).map(row => row.cells[0].childNodes[0].textContent)")


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(tab, width):
    tab.resize(width)
    assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@needs_chromium
def test_claims_are_filtered_by_verdict(tab):
    assert shown(tab) == ["claim 0", "claim 1", "claim 2"]
    tab.run("document.getElementById('only-fails').click()")
    assert shown(tab) == ["claim 1"]
    tab.run("document.getElementById('only-not-comparable').click()")
    assert shown(tab) == []
    tab.run("document.getElementById('only-all').click()")


@needs_chromium
def test_claims_are_sorted_by_any_column(tab):
    press = "[...document.querySelectorAll('table.claims button')].find(one => one.textContent === '{}').click()"
    tab.run(press.format("Predicted"))
    assert shown(tab) == ["claim 1", "claim 0", "claim 2"]
    tab.run(press.format("Predicted"))
    assert shown(tab) == ["claim 2", "claim 0", "claim 1"]
    tab.run(press.format("Verdict"))
    assert shown(tab)[0] == "claim 1"


def test_titles_are_in_words_with_what_to_look_at_and_the_command(report):
    text = report.read_text(encoding="utf-8")
    assert ">Sandler 2023: a figure whose" in text
    assert "<p>Right, that.</p>" in text
    assert "python -m figures --fast --only sandler2023_a_figure" in text
    assert in_words("nqm_schedules") == "NQM schedules"
    assert in_words("jastrzebski2018_nudged_sgd") == "Jastrzebski 2018: nudged SGD"


def test_figures_say_what_to_look_at_without_markup():
    looks = [figure.look for figure in catalogue("figures").values()]
    assert sum(map(bool, looks)) > 20
    assert not any("`" in look or "\\" in look for look in looks)
