"""Pictures in one call: what is drawn is what was handed in, and every outcome has its name."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from sgdynamics import plot
from sgdynamics.models import schedules
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.spectra import read_spectrum
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.simulate.uv import over_seeds, phase_diagram


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_map_of_outcomes_names_what_occurs_and_colours_it_alike():
    diagram = over_seeds(phase_diagram(np.linspace(0.5, 4.5, 9), [8, 64, 512], steps=100, seeds=5))
    axes = plot.outcomes(diagram)
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    there = [Outcome(int(code)).name.lower().replace("_", " ") for code in np.unique(diagram.majority)]
    assert named == there
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("c", "width", "log")
    (mesh,) = axes.collections
    colors = mesh.cmap(mesh.norm(mesh.get_array()))
    drawn = {tuple(color) for color in colors.reshape(-1, 4)}
    assert drawn == {patch.get_facecolor() for patch in axes.get_legend().get_patches()}
    corner = Outcome(int(diagram.majority.sel(c=0.5, width=512)))
    row, column = diagram.width.values.argmax(), 0
    assert tuple(colors.reshape(3, 9, 4)[row, column]) == tuple(plt.matplotlib.colors.to_rgba(plot._COLORS[corner]))


def test_every_outcome_has_a_colour():
    assert set(plot._COLORS) == set(Outcome)
    values = xr.DataArray([list(map(int, Outcome))], dims=["a", "b"], coords={"a": [0], "b": np.arange(len(Outcome))})
    axes = plot.outcomes(values.assign_attrs(outcome_attributes(*Outcome)))
    assert len(axes.get_legend().get_texts()) == len(Outcome)


def test_a_diagram_of_networks_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="over_seeds"):
        plot.outcomes(phase_diagram([1.0, 3.0], [8, 64], steps=10, seeds=2))
    with pytest.raises(ValueError, match="must have a variable 'outcome'"):
        plot.outcomes(xr.Dataset({"loss": 1.0}))


def test_a_schedule_is_drawn_step_by_step():
    rates = schedules.linear(0.4, 4)
    (line,) = plot.schedule(rates).lines
    assert line.get_ydata().tolist() == [rates[0], *rates]
    assert len(plot.schedule({"one": rates, "other": rates}).get_legend().get_texts()) == 2
    with pytest.raises(ValueError, match="1-D"):
        plot.schedule(np.ones((2, 3)))


@pytest.mark.parametrize(
    "source",
    [
        MiniBatchQuadratic([4.0, 1.0], 1.0, multiplicity=[1, 9]),
        read_spectrum(([1.0, 4.0], [9, 1]), kind="multiplicities"),
        [4.0, -1.0, 1.0, *[1.0] * 8],
    ],
    ids=["model", "dataset", "eigenvalues"],
)
def test_a_spectrum_counts_directions_from_the_sharpest_on(source):
    (line,) = plot.spectrum(source).lines
    assert (line.get_xdata()[0], line.get_ydata()[0]) == (4.0, 1.0)
    assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (1.0, 10.0)


@pytest.mark.parametrize("record", [[1000], [10, 500, 1000]])
def test_a_forecast_has_its_interval_and_its_runs(record):
    step = np.arange(1, 11) * 100
    foretold = xr.Dataset(
        {"loss": ("step", np.ones(len(record))), "loss_low": ("step", np.full(len(record), 0.9))}, {"step": record}
    )
    foretold["loss_high"] = foretold.loss + 0.2
    axes = plot.forecast({"longer": foretold}, [(np.ones(1000), step, 2 / step**0.1)])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["runs that were fitted", "longer"]
    assert axes.get_ylim()[0] < 0.9
    drawn = np.concatenate([path.vertices[:, 1] for one in axes.collections for path in one.get_paths()])
    assert drawn.min() == pytest.approx(0.9)
    assert drawn.max() == pytest.approx(1.2)


def test_given_axes_are_drawn_into():
    axes = plt.subplots()[1]
    assert plot.schedule(schedules.constant(0.1, 3), ax=axes) is axes


WITHOUT = """
import importlib, pkgutil, sys
sys.modules["matplotlib"] = sys.modules["sklearn"] = None
import sgdynamics
for module in pkgutil.walk_packages(sgdynamics.__path__, "sgdynamics."):
    if not module.name.startswith(("sgdynamics.__main__", "sgdynamics.testing")):
        importlib.import_module(module.name)
from sgdynamics.simulate import trainer
try:
    trainer.digits()
except ImportError as error:
    sys.exit("sgdynamics[data]" not in str(error))
"""


def test_the_package_needs_neither_matplotlib_nor_scikit_learn():
    assert subprocess.run([sys.executable, "-c", WITHOUT]).returncode == 0


def test_matplotlib_is_not_imported_before_a_picture_is_drawn():
    code = "import sys, sgdynamics.plot, sgdynamics.cli; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
