"""Sphinx configuration."""

import os
import sys
from pathlib import Path

from sphinx.ext import autodoc

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import sgdynamics  # noqa: E402
from sgdynamics.formula import Formula  # noqa: E402

project = "sgdynamics"
author = "The sgdynamics developers"
copyright = author
release = version = sgdynamics.__version__
extensions = [
    "generated",
    "mathml",
    "myst_parser",
    "notebook",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"sgdynamics {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
smartquotes_action = "qe"  # two hyphens are an option of a command
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_use_ivar = True  # fields of named tuples are described once
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_use_legacy_class_based = True  # formulas are documented by a class of their own, below
exclude_patterns = ["_build", "essence"]
suppress_warnings = ["ref.python"]  # names in the types of parameters may mean several things
# where python -m figures has left pictures and report.json
figures_made = os.environ.get("SGDYNAMICS_FIGURES", str(HERE.parent / "out" / "figures"))


class FormulaDocumenter(autodoc.FunctionDocumenter):
    """A formula is documented as the function it is."""

    objtype = "formula"
    directivetype = "function"
    priority = autodoc.DataDocumenter.priority + 10

    @classmethod
    def can_document_member(cls, member, membername, isattr, parent):
        """Formulas only."""
        return isinstance(member, Formula)

    def get_doc(self):
        """The docstring, with bars of the facts as they are."""
        return [
            [line.replace("|", r"\|") if line.startswith(":Assumptions:") else line for line in lines]
            for lines in super().get_doc() or []
        ]


def setup(app):
    """Register the documenter."""
    app.add_autodocumenter(FormulaDocumenter)
