"""Every claim with its verdict, from the report of the figures."""

from __future__ import annotations

import json
from collections import Counter
from html import escape
from pathlib import Path

from rst import raw, title

from figures.engine.catalogue import in_words

INTRODUCTION = (
    "Every figure holds its predictions to its measurements. A measurement agrees within a tolerance, or within four "
    "standard errors. What networks do not bear out is *not reproduced*, where the experiment would "
    "have seen the effect, or *not comparable*, where the setting differs in what decides the matter.\n\n"
)


def read(figures: Path) -> list[dict]:
    """The checks of all figures that were made."""
    path = figures / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def pages(figures: Path) -> dict[str, str]:
    """The one page."""
    checks = read(figures)
    text = title("Claims and their verdicts") + INTRODUCTION
    if not checks:
        return {"claims": text + "No figures have been made yet: ``make figures`` makes them, then ``make docs``.\n"}
    counts = ", ".join(f"{number} {verdict}" for verdict, number in Counter(c["verdict"] for c in checks).items())
    text += f"{len(checks)} claims: {counts}.\n\n"
    for figure in dict.fromkeys(check["figure"] for check in checks):
        mine = [check for check in checks if check["figure"] == figure]
        text += title(in_words(figure), "-") + f":doc:`The figure </gallery/{figure}>`.\n\n" + raw(table(mine))
    return {"claims": text}


def table(checks: list[dict]) -> str:
    """Claims with verdict and numbers."""
    heads = "".join(f"<th>{head}</th>" for head in ("Claim", "Verdict", "Predicted", "Measured", "Status"))
    rows = "".join(_row(check) for check in checks)
    body = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="docutils">{body}</table></div>'


def _row(check: dict) -> str:
    sign = {"below": "&le; ", "above": "&ge; "}.get(check["comparison"], "")
    found = f"<br><em>{escape(check['found'])}</em>" if check.get("found") else ""
    error = "" if check["standard_error"] is None else f" &plusmn; {check['standard_error']:.2g}"
    return (
        f"<tr><td>{escape(check['claim'])}{found}</td>"
        f'<td class="verdict {check["verdict"].replace(" ", "-")}">{escape(check["verdict"])}</td>'
        f"<td>{sign}{_number(check['predicted'])}</td><td>{_number(check['measured'])}{error}</td>"
        f"<td>{escape(check['status'])}</td></tr>"
    )


def _number(value) -> str:
    return f"{float(value):.6g}"
