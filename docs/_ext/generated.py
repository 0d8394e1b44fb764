"""Pages that are made from the package: reference, formulas, commands, gallery and claims."""

from __future__ import annotations

import shutil
from pathlib import Path

import claim_pages
import command_pages
import formula_pages
import gallery_pages
import reference_pages

from figures.engine.explorer import write_explorer

FOLDERS = ("reference", "formulas", "commands", "gallery")


def write_all(app):
    """Write what has changed, and drop pages of what is no longer there."""
    docs = Path(app.srcdir)
    figures = Path(app.config.figures_made)
    pages = {
        **reference_pages.pages(),
        **formula_pages.pages(),
        **command_pages.pages(),
        **gallery_pages.pages(figures),
        **claim_pages.pages(figures),
    }
    for name, text in pages.items():
        path = docs / f"{name}.rst"
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for folder in FOLDERS:
        for path in (docs / folder).glob("*.rst"):
            if path.relative_to(docs).with_suffix("").as_posix() not in pages:
                path.unlink()
    for picture in figures.glob("*.png"):
        shutil.copy2(picture, docs / "gallery" / picture.name)


def add_explorer(app, error):
    """The explorer beside the pages of the site."""
    if error is None and app.builder.format == "html":
        write_explorer(Path(app.outdir))


def setup(app):
    """Register the pages."""
    app.add_config_value("figures_made", "", "env")
    app.connect("builder-inited", write_all)
    app.connect("build-finished", add_explorer)
    return {"parallel_read_safe": True}
