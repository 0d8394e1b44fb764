r"""Shorter steps along the sharpest directions alone lead to sharper regions, a little faster, but not to better ones.

Nudged-SGD multiplies the learning rate by gamma along the five sharpest directions, looked up once an epoch. The
smaller gamma, the sharper the network becomes. The better generalisation that was reported is not seen here: test
accuracies differ by less than their scatter. Lines are the edges of the nudged and of all other directions: what cannot
be exceeded for long.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures._check import Check
from figures._digits_sharpness import NUDGED_TIME, STEERED_BATCH, STEERED_RATE, described, nudged, standard_error
from figures._style import BLUE, DOUBLE, GREEN, GREY, VERMILION, measured_points, panels, theory_line
from sgdynamics.theory.break_even import sharpness_bound

GAMMAS = (0.01, 0.1, 0.5, 1.0, 2.0)
FAST_GAMMAS = (0.1, 1.0, 2.0)
GRID = np.geomspace(0.007, 3, 100)


def _outcome(gamma: float, seed: int) -> xr.Dataset:
    found = nudged(gamma, seed)
    return xr.Dataset(
        {
            "sharpness": found.sharpness.max(),
            "loss": found.loss[-1].drop_vars(("step", "time")),
            "test_accuracy": found.test_accuracy,
        }
    )


def compute(fast: bool) -> xr.Dataset:
    gammas, seeds = (FAST_GAMMAS, 2) if fast else (GAMMAS, 5)
    rows = [xr.concat([_outcome(gamma, seed) for seed in range(seeds)], "seed") for gamma in gammas]
    data = xr.concat(rows, "gamma").assign_coords(
        gamma=("gamma", list(gammas), {"long_name": "factor on the rate along the sharpest directions", "units": "1"}),
        seed=("seed", np.arange(seeds), {"long_name": "seed of start and batches", "units": "1"}),
        grid=("grid", GRID, {"long_name": "factor on the rate along the sharpest directions", "units": "1"}),
    )
    data["nudged_edge"] = ("grid", sharpness_bound(STEERED_RATE * GRID))
    data["edge"] = sharpness_bound(STEERED_RATE)
    descriptions = {
        "sharpness": ("largest sharpness of the run", "curvature"),
        "loss": ("training loss at the end", "loss"),
        "test_accuracy": ("accuracy on the test images at the end", "1"),
        "nudged_edge": ("edge of stability of the nudged directions", "curvature"),
        "edge": ("edge of stability of all other directions", "curvature"),
    }
    data = described(data, descriptions, "jastrzebski2018")
    return data.assign_attrs(learning_rate=STEERED_RATE, batch_size=float(STEERED_BATCH), time=NUDGED_TIME)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=2.5)
    theory_line(axes[0], data.grid, data.nudged_edge, color=GREY, label="edge, nudged")
    edge = float(data.edge)
    theory_line(axes[0], [GRID[0], GRID[-1]], [edge, edge], color=GREY, linestyle="--", label="edge, others")
    for panel, name, color, scale in zip(
        axes, ("sharpness", "loss", "test_accuracy"), (BLUE, VERMILION, GREEN), (1, 1, 100), strict=True
    ):
        values = scale * data[name]
        measured_points(panel, data.gamma, values.mean("seed"), standard_error(values), color=color)
        panel.set(xscale="log", xlabel=r"$\gamma$, 1 is SGD")
        panel.set_xticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    axes[0].set(title="sharper with smaller steps", ylabel="largest sharpness", ylim=(0, 1.5 * edge))
    axes[0].legend(loc="lower left", fontsize=6)
    axes[1].set(title="a little faster", ylabel="final training loss")
    axes[2].set(title="no better on test images", ylabel="test accuracy / %")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    mean = data.sharpness.mean("seed")
    for smaller, larger in ((0.1, 1.0), (1.0, 2.0)):
        yield Check.above(
            claim=f"steps along the sharpest directions times {smaller:g} lead to a sharpness a tenth above that "
            f"with steps times {larger:g}",
            source="jastrzebski2018, abstract",
            status="heuristic",
            predicted=1.1,
            measured=mean.sel(gamma=smaller) / mean.sel(gamma=larger),
        )
    yield Check.sign(
        claim="the largest sharpness falls with the factor on the sharpest directions",
        source="jastrzebski2018, abstract",
        status="heuristic",
        predicted=-1,
        measured=mean.sel(gamma=[gamma for gamma in mean.gamma.values if gamma >= 0.1]).diff("gamma"),
        note="between 0.01 and 0.1 it no longer moves: the directions, kept for an epoch, turn away",
    )
    gained = data.test_accuracy.sel(gamma=0.1) - data.test_accuracy.sel(gamma=1.0)
    yield Check.sign(
        claim="Nudged-SGD with factor 0.1 generalises better than SGD",
        source="jastrzebski2018, abstract",
        status="heuristic",
        predicted=1,
        measured=gained.mean("seed"),
        standard_error=max(float(standard_error(gained)), 1e-6),
        note=f"test accuracy {100 * float(data.test_accuracy.sel(gamma=0.1).mean()):.2f}% against "
        f"{100 * float(data.test_accuracy.sel(gamma=1.0).mean()):.2f}%, paired over {gained.size} seeds",
    )
    ratio = data.loss.sel(gamma=0.1) / data.loss.sel(gamma=1.0)
    yield Check.below(
        claim="Nudged-SGD with factor 0.1 ends at a lower training loss than SGD",
        source="jastrzebski2018, abstract",
        status="heuristic",
        predicted=1.0,
        measured=ratio.mean("seed"),
        note=f"standard error of the ratio {float(standard_error(ratio)):.3f}",
    )
