"""Notebooks as pages: run when the site is built, with what came out."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from myst_parser.parsers.sphinx_ import MystParser
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"
PRINTED = "{code-block} text\n:class: printed"
STATES = "application/vnd.jupyter.widget-state+json"


def executed(path: Path) -> Any:
    """The notebook as it is after all cells were run, in a kernel of its own; a cell that fails is an error."""
    notebook = nbformat.read(path, as_version=4)
    # A backend that was set for those who build the site would keep pictures out of the notebook.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],  # warns of its connection, which does not leave the machine
    )
    client.log.setLevel("WARNING")
    client.execute(env=environment)
    return notebook


def as_markdown(notebook: Any) -> str:
    """Text as it is, code and what came out as blocks."""
    widgets = notebook.metadata.get("widgets", {}).get(STATES, {}).get("state", {})
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(_block("{code-block} ipython3", cell.source))
        parts += [_shown(output, widgets) for output in cell.outputs]
    return "\n\n".join(parts) + "\n"


def _shown(output: Any, widgets: Any) -> str:
    if output.output_type == "stream":
        lines = output.text.rstrip("\n").split("\n")
        return _block(PRINTED, "\n".join(line.rpartition("\r")[2] for line in lines))
    data = output.data
    if WIDGET in data:
        return _html(_widget(widgets, data[WIDGET]["model_id"]))
    if "text/html" in data:
        return _html(data["text/html"])
    if "image/png" in data:
        return _html(f'<img alt="" src="data:image/png;base64,{data["image/png"].strip()}">')
    if "text/latex" in data:
        return f"$$ {data['text/latex'].strip('$ ')} $$".replace(r"\displaystyle ", "")
    return _block(PRINTED, data["text/plain"])


def _widget(widgets: Any, name: str) -> str:
    """A bar and the words beside it, as they were at the end."""
    state = widgets[name]["state"]
    children = [child.removeprefix("IPY_MODEL_") for child in state.get("children", ())]
    if children:
        return '<div class="progress">' + "".join(_widget(widgets, child) for child in children) + "</div>"
    if state["_model_name"] == "FloatProgressModel":
        return f'<progress value="{state["value"]:g}" max="{state["max"]:g}"></progress>'
    return f"<span>{escape(state['value'], quote=False)}</span>"


def _html(text: str) -> str:
    return _block("{raw} html", f'<div class="output scroll">{text}</div>')


def _block(kind: str, text: str) -> str:
    return f"``````{kind}\n{text}\n``````"


class NotebookParser(MystParser):
    """Runs a notebook and reads it as Markdown."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: Any) -> None:
        """The page of one notebook."""
        super().parse(as_markdown(executed(Path(document["source"]))), document)


def setup(app):
    """Register notebooks as sources."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
