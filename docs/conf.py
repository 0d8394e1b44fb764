"""Sphinx configuration."""

from sphinx.ext import autodoc

import sgdynamics
from sgdynamics.formula import Formula

project = "sgdynamics"
author = "The sgdynamics developers"
copyright = author
release = version = sgdynamics.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"sgdynamics {version}"
myst_enable_extensions = ["dollarmath"]
napoleon_google_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_use_legacy_class_based = True  # formulas are documented by a class of their own, below
exclude_patterns = ["_build"]
# the README links to files beside it; names in the types of parameters may mean several things
suppress_warnings = ["myst.xref_missing", "ref.python"]


class FormulaDocumenter(autodoc.FunctionDocumenter):
    """A formula is documented as the function it is, with its facts at the end."""

    objtype = "formula"
    directivetype = "function"
    priority = autodoc.DataDocumenter.priority + 10

    @classmethod
    def can_document_member(cls, member, membername, isattr, parent):
        """Formulas only."""
        return isinstance(member, Formula)

    def get_doc(self):
        """The docstring and the facts."""
        thing = self.object
        assumptions = ", ".join(thing.assumptions).replace("|", r"\|") or "none"
        lines = [f":Status: {thing.status}", f":Assumptions: {assumptions}", f":Source: {thing.source}", ""]
        return [*(super().get_doc() or []), lines]


def setup(app):
    """Register the documenter."""
    app.add_autodocumenter(FormulaDocumenter)
