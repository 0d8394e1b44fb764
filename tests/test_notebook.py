"""The notebook of the documentation runs as it is kept, and models, results, pictures and progress show themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tour.ipynb"

STATES = "application/vnd.jupyter.widget-state+json"


def test_it_is_kept_without_what_came_out():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 8
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    assert all(len(line) <= 101 for cell in cells for line in cell["source"])


@pytest.fixture(scope="module")
def notebook():
    for needed in ("nbclient", "ipykernel", "ipywidgets", "myst_parser"):
        pytest.importorskip(needed, reason=f"needs {needed}, of the extra docs")
    from docs._ext.notebook import executed

    return executed(NOTEBOOK)


@pytest.fixture
def outputs(notebook):
    """What came out, by the last line of the cell, in the order of the notebook."""
    return {
        cell.source.splitlines()[-1]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"
    }  # fmt: skip


def htmls(shown):
    return [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]


@pytest.mark.filterwarnings("ignore")  # of the client of the kernel
def test_models_results_and_formulas_show_themselves_in_html(outputs):
    (model,) = htmls(outputs["model"])
    assert re.search(r"<b>MiniBatchQuadratic</b>.*curvature.*100 values, 0.01 to 1", model, re.DOTALL)
    (result,) = htmls(outputs["exact"])
    assert "xarray.Dataset" in result
    assert all(name in result for name in ("excess_risk", "mean_error", "variance"))
    (formulas,) = htmls(outputs['sgdynamics.formulas(about="equivalent gain")'])
    assert re.search(r"theory.quadratic.equivalent_gain.*exact", formulas, re.DOTALL)
    assert ":math:" not in formulas


def test_pictures_appear(notebook):
    drawn = [
        cell for cell in notebook.cells if cell.cell_type == "code" and re.search(r"plot\.\w+\(|plt\.show", cell.source)
    ]
    assert len(drawn) == 3
    for cell in drawn:
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        assert [len(picture) > 5000 for picture in pictures] == [True]


def test_progress_is_shown_to_its_end(notebook):
    states = [one["state"] for one in notebook.metadata["widgets"][STATES]["state"].values()]
    bars = [one for one in states if one["_model_name"] == "FloatProgressModel"]
    assert [(bar["value"], bar["max"], bar["bar_style"]) for bar in bars] == [(4000.0, 4000.0, "success")] * 2


def test_nothing_complains(notebook):
    streams = [out for cell in notebook.cells for out in cell.get("outputs", ()) if out.output_type == "stream"]
    said = "".join(out.text for out in streams if out.name == "stderr")
    assert re.fullmatch(r"(sgdynamics: compiling, once.*\n)?", said)
    assert any("of 100 recorded steps within four standard errors" in out.text for out in streams)


def test_the_page_has_all_of_it(notebook):
    from docs._ext.notebook import as_markdown

    page = as_markdown(notebook)
    assert page.count('<progress value="4000" max="4000">') == 2
    assert page.count("data:image/png;base64,") == 3
    assert "training: 100%" in re.sub(r"\s+", " ", page)
    assert re.search(r"^\$\$ .*x.* \$\$$", page, re.MULTILINE)
    assert "\r" not in page
