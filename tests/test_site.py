"""The documentation as it is built: no dead link, readable without network, at two widths."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, browser, needs_chromium

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """Where a page leads, and what in it can be led to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.loaded: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors |= {given.get("id") or "", given.get("name") or ""}
        if tag == "a" and given.get("href"):
            self.targets.add(str(given["href"]))
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.loaded.add(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loaded.add(str(given["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages that SGDYNAMICS_SITE names; built here where it names none."""
    if made := os.environ.get("SGDYNAMICS_SITE"):
        return Path(made)
    for needed in ("sphinx", "furo", "myst_parser", "latex2mathml", "nbclient", "ipykernel", "ipywidgets"):
        pytest.importorskip(needed, reason=f"needs {needed}, of the extra docs")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-q", "-d", str(built / "trees"), "docs"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(built / "html")], cwd=ROOT, check=True, env=environment)
    return built / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = Links()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_link_leads_somewhere(pages):
    dead = []
    for path, links in pages.items():
        for target in links.targets | links.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors
            if lost or not there.is_file():
                dead.append(f"{path.name}: {target}")
    assert not dead


def test_nothing_is_loaded_from_elsewhere(pages):
    away = {target for links in pages.values() for target in links.loaded if urlsplit(target).netloc}
    assert not away


def test_the_formulas_are_there(pages):
    texts = {path: path.read_text(encoding="utf-8") for path in pages if "_modules" not in path.parts}
    (quadratic,) = [text for path, text in texts.items() if path.match("formulas/quadratic.html")]
    assert quadratic.count("<math") > 30
    left = []
    for path, text in texts.items():
        prose = re.sub(r"<(style|script|pre|code).*?</\1>", "", text, flags=re.DOTALL)
        left += [f"{path.name}: {found}" for found in re.findall(r":\w+:`.{30}|\\[a-z]{2,}.{30}", prose)]
    assert not left


def test_the_notebook_is_a_page_with_what_came_out(pages):
    text = next(path for path in pages if path.name == "tour.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<img alt="" src="data:image/png;base64,', text)) == 3
    assert len(re.findall(r"<progress ", text)) == 2
    assert "<b>MiniBatchQuadratic</b>" in text
    assert "xarray.Dataset" in text


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


MEASURE = """(() => {
    const boxes = [...document.querySelectorAll("article math")].map(one => one.getBoundingClientRect());
    return {
        blank: boxes.filter(box => box.width < 1 || box.height < 1).length,
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    };
})()"""


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_whole_without_network(pages, tab, width):
    tab.resize(width)
    wrong = []
    for path in pages:
        if "_modules" in path.parts:
            continue
        problems = tab.open(path.as_uri())
        found = tab.run(MEASURE)
        if problems or found["blank"] or found["overflow"] > 0:
            wrong.append((path.name, problems, found))
    assert not wrong
