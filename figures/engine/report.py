"""The report: every picture with its numbers beside it, what holds, what does not and why."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from figures.engine.catalogue import in_words
from figures.engine.check import STANDARD_ERRORS, Check, Verdict
from figures.engine.files import write_text
from figures.engine.fingerprint import versions

_VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "not reproduced", "not comparable")


@dataclass(frozen=True)
class Entry:
    """What there is to report of one figure: its checks, or what it raised, or neither if it has not been made."""

    name: str
    claim: str
    checks: tuple[Check, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    look: str = ""

    @property
    def made(self) -> bool:
        """Whether there is a picture with its numbers."""
        return bool(self.checks)


def write_report(directory: Path, entries: Sequence[Entry], *, fast: bool) -> None:
    """Write ``report.json``, the list of all checks, and ``report.html``, one page that holds its pictures.

    Parameters
    ----------
    directory : Path
        Where the pictures are and the report goes.
    entries : sequence of Entry
        All figures, made or not.
    fast : bool
        Whether these are the coarser versions.
    """
    checks = [check.to_dict() for entry in entries for check in entry.checks]
    write_text(directory / "report.json", json.dumps(checks, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_text(directory / "report.html", _page(directory, entries, fast=fast))


def counted(checks: Iterable[Check]) -> str:
    """How many checks there are of each verdict, in words: all that hold, and whatever else there is."""
    counts = Counter(check.verdict for check in checks)
    others = [f"{counts[verdict]} {verdict}" for verdict in _VERDICTS[1:] if counts[verdict]]
    return ", ".join([f"{counts['holds']} of {counts.total()} checks hold", *others])


def _page(directory: Path, entries: Sequence[Entry], *, fast: bool) -> str:
    style, script = (Path(__file__).with_name(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    made_with = ", ".join(f"{name} {number}" for name, number in versions().items())
    coarser = "These are the fast versions: coarser grids and fewer samples. " if fast else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sgdynamics: the figures and their numbers</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>The figures and their numbers</h1>
<p class="quiet">{coarser}Made with {escape(made_with)}.</p>
</header>
<main>
{_summary(entries)}
{_filter()}
{"".join(_section(directory, entry, fast=fast) for entry in entries if entry.made)}
</main>
<script>
{script}</script>
</body>
</html>
"""


def _summary(entries: Sequence[Entry]) -> str:
    checks = [check for entry in entries for check in entry.checks]
    rows = "".join(
        f'<tr><th scope="row">{_link(entry)}<br>{escape(entry.claim)}</th>'
        + "".join(f'<td class="number">{_count(entry.checks, verdict)}</td>' for verdict in _VERDICTS)
        + "</tr>\n"
        for entry in entries
        if entry.made
    )
    failing = "".join(
        f'<li><span class="fails">fails</span> {_link(entry)}: {escape(check.claim)}{_in_brackets(check.note)}</li>\n'
        for entry in entries
        for check in entry.checks
        if check.verdict == "fails"
    )
    settled = "".join(
        f'<li><span class="{_css(check.verdict)}">{check.verdict}</span> {_link(entry)}: {escape(check.claim)}. '
        f"{escape(check.found)}</li>\n"
        for entry in entries
        for check in entry.checks
        if check.verdict in ("not reproduced", "not comparable")
    )
    raised = "".join(
        f'<li><span class="fails">raised</span> {escape(entry.name)}<pre>{escape(entry.error)}</pre></li>\n'
        for entry in entries
        if entry.error is not None
    )
    absent = [entry.name for entry in entries if not entry.made and entry.error is None]
    exceptions = f"<ul>\n{failing}{raised}{settled}</ul>" if failing or raised or settled else ""
    missing = f"<p>Not made, or no longer current: {escape(', '.join(absent))}.</p>" if absent else ""
    return f"""<section aria-labelledby="summary">
<h2 id="summary">Summary</h2>
<p>{counted(checks)}.</p>
{exceptions}
{missing}
<p class="quiet">A measurement agrees with its prediction within a tolerance, or within {STANDARD_ERRORS:g} standard
errors (|z| &lt; {STANDARD_ERRORS:g}). &ldquo;Flags&rdquo; is the relative error of the prediction from which on the
check would fail. Of claims about networks, &ldquo;not reproduced&rdquo; says that the experiment of the source was run
closely enough to see the effect, and it is absent; &ldquo;not comparable&rdquo; that the setting here differs in what
decides the matter.</p>
<div class="scroll"><table>
<caption>Checks by figure</caption>
<thead>{_heads("Figure", "Hold", "Fail", "Not reproduced", "Not comparable")}</thead>
<tbody>
{rows}</tbody>
</table></div>
</section>
"""


def _filter() -> str:
    """Which claims are shown: the style sheet hides the others."""
    choices = "".join(
        f'<label><input type="radio" name="shown" id="only-{_css(verdict)}"> {verdict}</label>\n'
        for verdict in _VERDICTS
    )
    return f"""<fieldset class="filter">
<legend>Show claims whose verdict is</legend>
<label><input type="radio" name="shown" id="only-all" checked> any</label>
{choices}</fieldset>
"""


def _section(directory: Path, entry: Entry, *, fast: bool) -> str:
    name = escape(entry.name)
    look = "".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in entry.look.splitlines())
    shown = f"<details><summary>What to look at</summary>\n{look}</details>" if look else ""
    command = f"python -m figures {'--fast ' if fast else ''}--only {name}"
    picture = base64.b64encode((directory / f"{entry.name}.png").read_bytes()).decode("ascii")
    return f"""<section aria-labelledby="{name}">
<h2 id="{name}">{escape(in_words(entry.name))}</h2>
<p>{escape(entry.claim)}</p>
{shown}
<div class="side-by-side">
<figure>
<img src="data:image/png;base64,{picture}" alt="{escape(entry.claim)}">
<figcaption class="quiet"><a href="{name}.nc">data</a>, <a href="{name}.svg">SVG</a>, <a href="{name}.png">PNG</a>;
made in {entry.seconds:.1f} s by <code>{command}</code></figcaption>
</figure>
<div class="scroll"><table class="claims">
<caption>{counted(entry.checks)}</caption>
<thead>{_sortable_heads("Claim", "Verdict", "Predicted", "Measured", "Allowed", "Flags", "Note")}</thead>
<tbody>
{"".join(_row(check) for check in entry.checks)}</tbody>
</table></div>
</div>
</section>
"""


def _row(check: Check) -> str:
    predicted = {
        "close": f"{check.predicted:.6g}",
        "below": f"&le; {check.predicted:.6g}",
        "above": f"&ge; {check.predicted:.6g}",
        "sign": "&gt; 0" if check.predicted > 0 else "&lt; 0",
    }[check.comparison]
    measured = f"{check.measured:.6g}"
    if check.standard_error is None:
        allowed = f"&plusmn; {check.allowance:.2g}" if check.allowance else "nothing"
    else:
        measured += f" &plusmn; {check.standard_error:.2g}"
        allowed = f"z = {check.z:.2f}"
    origin = f'<span class="quiet">{escape(check.source)}; {check.status}</span>'
    return (
        f'<tr class="is-{_css(check.verdict)}"><th scope="row">{escape(check.claim)}<br>{origin}</th>'
        f'<td class="{_css(check.verdict)}">{check.verdict}</td>'
        f'<td class="number">{predicted}</td><td class="number">{measured}</td><td class="number">{allowed}</td>'
        f'<td class="number">{_percent(check.detectable)}</td><td class="note">{escape(check.note)}</td></tr>\n'
    )


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _heads(*names: str) -> str:
    cells = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f"<tr>{cells}</tr>"


def _sortable_heads(*names: str) -> str:
    words = {"Claim", "Verdict", "Note"}
    cells = "".join(
        f'<th scope="col"{" data-words=1" if name in words else ""}><button type="button">{name}</button></th>'
        for name in names
    )
    return f"<tr>{cells}</tr>"


def _count(checks: Iterable[Check], verdict: Verdict) -> int:
    return sum(check.verdict == verdict for check in checks)


def _link(entry: Entry) -> str:
    name = escape(entry.name)
    return f'<a href="#{name}">{escape(in_words(entry.name))}</a>'


def _in_brackets(text: str) -> str:
    return f" ({escape(text)})" if text else ""


def _percent(share: float | None) -> str:
    if share is None:
        return "the sign"
    if share == 0:
        return "any error"
    return "&ndash;" if share == float("inf") else f"{100 * share:.2g}%"
