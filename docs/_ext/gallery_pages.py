"""The figures: picture, claim, numbers, the lines that make the essence, and the code."""

from __future__ import annotations

from pathlib import Path

from claim_pages import read, table
from rst import plain, raw, title, toctree

from figures._catalogue import FigureModule, catalogue

DOCS = Path(__file__).parent.parent
ESSENCE = DOCS / "essence"

# The rows of the gallery, by how the names of figures begin; the last takes the rest.
SECTIONS = {
    "Averages and schedules": ("sandler2023", "nqm", "merging", "forecast"),
    "Sharpness, catapults and the edge of stability": (
        "kalra2023",
        "lewkowycz2020",
        "edge_models",
        "beyond",
        "deep_linear",
        "error_budget",
    ),
    "Sharpest directions and the break-even point": ("jastrzebski", "break_even", "steering", "critical", "quadratic"),
    "Two patterns": ("li2019",),
    "All together": ("",),
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
    left = dict(figures)
    for section, starts in SECTIONS.items():
        names = [name for name in left if name.startswith(starts)]
        index += title(section, "-") + raw(
            '<div class="gallery">' + "".join(_card(left.pop(n), made) for n in names) + "</div>"
        )
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
    essence = ESSENCE / f"{figure.name}.txt"
    if essence.exists():
        text += title("In ten lines", "-") + f".. literalinclude:: ../essence/{essence.name}\n   :language: pycon\n\n"
    text += title("Numbers", "-")
    if checks:
        text += raw(table(checks))
    text += (
        f"Made, with its numbers, by\n\n.. code-block:: text\n\n   python -m figures --fast --only {figure.name}\n\n"
    )
    text += title("Code", "-") + raw("<details><summary>The whole figure</summary>")
    return text + f".. literalinclude:: ../../figures/{figure.name}.py\n\n" + raw("</details>")
