r"""Half of all steps fail to lower the loss along the sharpest direction, at the edge of stability or far from it.

Along the sharpest direction the mean step of SGD goes twice as far as the minimum of the loss: that is stationarity and
holds at every gain, learning rate times curvature. What tells the edge is how often a step goes past the minimum: the
share rises with the gain as :math:`1/2 + \arcsin(\sqrt{x/2})/\pi`, to every step at the edge x = 2.

Lines are laws of a linear and Gaussian direction, with nothing fitted. Where they start to fail: at the edge the
network's step alternates, and more than half of the steps raise the loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import EXAMPLES, RECIPE, late, name_of, over_cells, standard_error
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.theory.sharpest_directions import (
    increase_probability,
    overshoot_probability,
    stationary_minimiser,
    step_to_curvature,
)

CELLS = ((0.1, 32), (0.4, 8), (0.4, 32), (0.8, 128), (0.4, EXAMPLES))
FAST_CELLS = CELLS[1:4]
COLORS = (BLUE, GREEN, VERMILION, PURPLE, ORANGE)
GRID = np.linspace(0.01, 1.99, 199)
# The laws end at a gain of 2, which a run at the edge passes now and then.
EDGE = 2 - 1e-9
# Below this gain a run is not at the edge.
BELOW = 1.9

LAWS = {
    "mean_minimiser": (stationary_minimiser, "minimum of the loss / mean step", "mean step: twice too long"),
    "increase_probability": (increase_probability, "steps that raise the loss", "half of the steps raise the loss"),
    "overshoot_probability": (overshoot_probability, "steps past the minimum", "at the edge all overshoot"),
}


def _measures(rate: float, batch_size: int, seed: int) -> xr.Dataset:
    return step_to_curvature(late(rate, batch_size, seed), rate, dim="step")[["gain", *LAWS]]


def compute(fast: bool) -> xr.Dataset:
    data = over_cells(FAST_CELLS if fast else CELLS, 1 if fast else 3, _measures)
    for name, (law, _, _) in LAWS.items():
        data[f"law_of_{name}"] = ("grid", law(GRID))
        data[f"predicted_{name}"] = law(data.gain.clip(max=EDGE))
    data = data.assign_coords(grid=("grid", GRID, {"long_name": "learning rate times curvature", "units": "1"}))
    descriptions = {"gain": ("learning rate times curvature, mean over the window", "1")}
    for name, (_, label, _) in LAWS.items():
        descriptions |= {
            name: (f"{label}, measured", "1"),
            f"predicted_{name}": (f"{label}, at stationarity", "1"),
            f"law_of_{name}": (f"{label}, at stationarity", "1"),
        }
    return described(data, descriptions, source="jastrzebski2018", **RECIPE)


def _draw(axes: Axes, data: xr.Dataset, name: str) -> None:
    theory_line(axes, data.grid, data[f"law_of_{name}"], color=GREY, label="stationary law")
    for number, color in zip(range(data.sizes["cell"]), COLORS, strict=False):
        cell = data.isel(cell=number)
        size = name_of(int(cell.batch_size))
        measured_points(
            axes,
            cell.gain.mean("seed"),
            cell[name].mean("seed"),
            standard_error(cell[name]),
            xerr=standard_error(cell.gain),
            color=color,
            label=rf"$\eta$ = {float(cell.learning_rate):g}, batch {size}",
        )
    _, label, title = LAWS[name]
    axes.axvline(2, color=GREY, linewidth=0.6, linestyle=":")
    axes.set(title=title, xlabel=r"gain $\eta\lambda_1$", ylabel=label, ylim=(0, 1.05), xlim=(0, 2.3))


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=2.6)
    for panel, name in zip(axes, LAWS, strict=True):
        _draw(panel, data, name)
    axes[0].legend(loc="lower left", fontsize=6)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield heuristic(
        "minimum along the sharpest direction at half the mean step, at every learning rate and batch size"
    ).close(data.predicted_mean_minimiser.mean("seed"), data.mean_minimiser.mean("seed"), absolute=0.08)
    yield heuristic("share of steps past the minimum along the sharpest direction, from the gain alone").close(
        data.predicted_overshoot_probability.mean("seed"), data.overshoot_probability.mean("seed"), absolute=0.06
    )
    mean = data.mean("seed")
    away, near = mean.isel(cell=mean.gain.values < BELOW), mean.isel(cell=mean.gain.values >= BELOW)
    yield heuristic("away from the edge half of the steps raise the loss along the sharpest direction").close(
        away.predicted_increase_probability, away.increase_probability, absolute=0.08
    )
    yield heuristic(
        "at the edge more than half of the steps raise the loss along the sharpest direction",
        "jastrzebski2018, abstract",
    ).positive(
        near.increase_probability - 0.5,
        note="the stationary law says one half: it needs a direction whose curvature stays",
    )
