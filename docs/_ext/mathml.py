"""Formulas as MathML, made when the site is built: pages need no script and no network to show them."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Longer formulas in a line of text get a scroll bar of their own where the page is narrow.
LONG = 40

# What the converter does not know, in words that it does.
SPELLED = {
    r"\arg": r"\operatorname{arg}",
    r"\dfrac": r"\frac",
    r"\lvert": "|",
    r"\rvert": "|",
    r"\lVert": r"\|",
    r"\rVert": r"\|",
    r"\_": " ",
}
# Brackets of a given size are handed through as they are written.
BRACKETS = {r"\lbrace": "{", r"\rbrace": "}", r"\{": "{", r"\}": "}", r"\langle": "&#10216;", r"\rangle": "&#10217;"}


def as_mathml(latex: str, display: str) -> str:
    """MathML of a formula in LaTeX."""
    for theirs, ours in SPELLED.items():
        latex = latex.replace(theirs, ours)
    made = convert(latex, display=display)
    for theirs, ours in BRACKETS.items():
        made = made.replace(theirs, ours)
    return made.replace('<mo stretchy="false">&#x0007C;</mo>', '<mo stretchy="false" lspace="0" rspace="0">|</mo>')


def _made(self, node, display):
    try:
        made = as_mathml(node.astext(), display)
    except Exception as error:
        logger.warning("no MathML for %r: %r", node.astext(), error, location=node)
        return ""
    if "\\" in made:
        logger.warning("left as it was in %r", node.astext(), location=node)
    return made


def inline(self, node):
    """A formula in a line of text."""
    kind = "math long" if len(node.astext()) > LONG else "math"
    self.body.append(f'<span class="{kind}">{_made(self, node, "inline")}</span>')
    raise nodes.SkipNode


def block(self, node):
    """A formula that stands alone."""
    self.body.append(self.starttag(node, "div", CLASS="math") + _made(self, node, "block") + "</div>")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
