"""The figures: picture, claim, numbers, the lines that make the essence, and the code."""

from __future__ import annotations

from pathlib import Path

from claim_pages import read, table
from rst import plain, raw, title, toctree

from figures.engine.catalogue import FigureModule, catalogue

# The section of the gallery that a row of figures is shown in.
SECTIONS = {
    "quadratic": "Averages and schedules",
    "schedules": "Averages and schedules",
    "forecast": "Averages and schedules",
    "uv": "Sharpness, catapults and the edge of stability",
    "deep_linear": "Sharpness, catapults and the edge of stability",
    "edge_of_stability": "Sharpness, catapults and the edge of stability",
    "sharpest_directions": "Sharpest directions and the break-even point",
    "break_even": "Sharpest directions and the break-even point",
    "patterns": "Two patterns",
}


def pages(made: Path) -> dict[str, str]:
    """A page a figure, and the gallery."""
    figures = catalogue("figures")
    checks = read(made)
    pages = {
        f"gallery/{name}": _page(figure, made, [check for check in checks if check["figure"] == name])
        for name, figure in figures.items()
    }
    index = title("Gallery") + (
        "Lines are theory, points with bars are measurement. Every picture is made by ``python -m figures`` together "
        "with the numbers beside it; :doc:`all claims and verdicts </claims>` are on one page.\n\n"
    )
    cards = dict.fromkeys(SECTIONS.values(), "")
    for figure in figures.values():
        cards[SECTIONS[figure.row]] += _card(figure, made)
    for section, shown in cards.items():
        index += title(section, "-") + raw(f'<div class="gallery">{shown}</div>')
    return pages | {"gallery/index": index + toctree(figures, hidden=True)}


def _card(figure: FigureModule, made: Path) -> str:
    picture = f"{figure.name}.png"
    shown = f'<img loading="lazy" src="../_images/{picture}" alt="">' if (made / picture).exists() else ""
    return f'<a href="{figure.name}.html">{shown}<span>{figure.claim}</span></a>'


def _page(figure: FigureModule, made: Path, checks: list[dict]) -> str:
    text = title(figure.title) + f"**{plain(figure.claim)}**\n\n"
    if (made / f"{figure.name}.png").exists():
        text += f".. image:: {figure.name}.png\n   :alt: {plain(figure.claim)}\n\n"
    text += "".join(f"{plain(paragraph)}\n\n" for paragraph in figure.look.splitlines())
    text += title("In ten lines", "-") + f".. literalinclude:: ../essence/{figure.name}.txt\n   :language: pycon\n\n"
    text += title("Numbers", "-")
    if checks:
        text += raw(table(checks))
    text += (
        f"Made, with its numbers, by\n\n.. code-block:: text\n\n   python -m figures --fast --only {figure.name}\n\n"
    )
    text += title("Code", "-") + raw("<details><summary>The whole figure</summary>")
    return text + f".. literalinclude:: ../../{figure.module.replace('.', '/')}.py\n\n" + raw("</details>")
