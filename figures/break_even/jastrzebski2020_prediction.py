r"""The edge of one direction tells the largest sharpness within a fifth, at high rates and batches of 32 or more.

The edge counts the curvature of the loss along the sharpest direction and its spread from example to example. With the
spread measured where the sharpness crosses the edge, nothing is fitted. What is known while the sharpness is at half
the edge predicts it about as well. On the full batch at the highest rate the sharpness first passes the edge by half
and then settles near it. At a learning rate of 0.1 the prediction says that no edge is reached; on batches of 8 the
sharpness stalls far below the edge of one direction, and the prediction says so too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import EXAMPLES, RECIPE, name_of, over_cells, run, standard_error
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREY, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, theory_strokes
from sgdynamics.outcome import Outcome
from sgdynamics.theory.break_even import predicted_break_even

CELLS = ((0.4, 32), (0.4, 128), (0.4, EXAMPLES), (0.8, 32), (0.8, 128), (0.8, EXAMPLES), (0.1, 32), (0.4, 8))
FAST_CELLS = (CELLS[1], CELLS[3], *CELLS[-2:])
FREE, NOISY = "0.1, 32", "0.4, 8"
# The run that passes the edge first and settles on it later.
PEAKS = "0.8, all"
# Batches of 32 at the rate 0.4 take this long to come to their edge.
LONG = 900.0


def _prediction(rate: float, batch_size: int, seed: int) -> xr.Dataset:
    found = predicted_break_even(run(rate, batch_size, seed, time=LONG))
    late = found.second_moment_factor[-(found.sizes["step"] // 4) :].mean()
    names = ["largest_sharpness", "late_sharpness", "outcome"]
    chosen = found[names].assign(
        predicted=found.break_even_sharpness.sel(route="measured", drop=True),
        early=found.break_even_sharpness.sel(route="early", drop=True),
        factor=late,
    )
    return chosen.drop_vars("route", errors="ignore")


def compute(fast: bool) -> xr.Dataset:
    data = over_cells(FAST_CELLS if fast else CELLS, 1 if fast else 3, _prediction)
    outcome = data.outcome.attrs
    descriptions = {
        "largest_sharpness": ("largest sharpness of the run", "curvature"),
        "late_sharpness": ("mean sharpness of the last quarter of the measurements", "curvature"),
        "predicted": ("sharpness at the edge, spread as at the crossing; infinite where there is none", "curvature"),
        "early": ("sharpness at the edge, spread as before half of it was reached", "curvature"),
        "factor": "factor per step of the second moment, last quarter of the measurements",
    }
    data = described(data, descriptions, source="jastrzebski2020", **RECIPE)
    data.outcome.attrs = outcome
    return data


def _edge_cells(data: xr.Dataset) -> xr.Dataset:
    return data.isel(cell=~data.cell.isin([FREE, NOISY]).values)


def draw(data: xr.Dataset) -> Figure:
    figure, (left, right) = panels(1, 2, width=DOUBLE, height=2.9)
    cells = np.arange(data.sizes["cell"])
    labels = [
        rf"$\eta$ {float(rate):g}, {name_of(int(size))}"
        for rate, size in zip(data.learning_rate, data.batch_size, strict=True)
    ]
    measured_points(
        left, cells, data.largest_sharpness.mean("seed"), standard_error(data.largest_sharpness), color=BLUE,
        label="largest, measured",
    )  # fmt: skip
    for name, color, style, label in (
        ("predicted", BLUE, "-", "edge, at the crossing"),
        ("early", VERMILION, "--", "edge, told early"),
    ):
        edge = data[name].mean("seed")
        theory_strokes(left, edge.where(edge < 8), color=color, linestyle=style, label=label)
    names = data.cell.values.tolist()
    for cell, text in ((FREE, f"edge\nat {float(data.early.sel(cell=FREE).mean()):.0f}"), (NOISY, "stalls")):
        height = float(data.largest_sharpness.sel(cell=cell).mean())
        left.annotate(text, (names.index(cell), height), (0, -8), textcoords="offset points", ha="center", va="top")
    left.set_xticks(cells, labels, rotation=40, ha="right")
    left.set(title="the edge tells the largest sharpness", ylabel="sharpness", ylim=(0, 8))
    left.legend(loc="upper left", fontsize=6)
    measured_points(right, cells, data.factor.mean("seed"), standard_error(data.factor), color=BLUE)
    theory_line(right, [-0.5, cells[-1] + 0.5], [1, 1], color=GREY, label="break-even")
    right.set_xticks(cells, labels, rotation=40, ha="right")
    right.set(
        title="late in the run: at the edge, or far from it", ylabel=r"second moment per step, $\rho$", ylim=(0, 2)
    )
    right.legend(loc="upper right")
    return figure


def _outcome_share(data: xr.Dataset, cell: str, outcomes: set[Outcome]) -> float:
    return float(data.outcome.sel(cell=cell).isin([int(one) for one in outcomes]).mean())


def checks(data: xr.Dataset) -> Iterator[Check]:
    edge = _edge_cells(data)
    for name, quantity, cells in (
        ("largest", edge.largest_sharpness, edge.cell != PEAKS),
        ("late", edge.late_sharpness, edge.cell == edge.cell),
    ):
        yield heuristic(
            f"{name} sharpness, from the edge with the spread of curvatures at the crossing, in every run"
        ).close(edge.predicted[cells.values], quantity[cells.values], tolerance=0.2)
    if PEAKS in edge.cell:
        peak = edge.sel(cell=PEAKS)
        yield heuristic(
            "on the full batch the sharpness first passes its edge by more than a fifth, at the highest rate"
        ).above(1.2 * peak.predicted, peak.largest_sharpness)
    error = edge.early / edge.largest_sharpness - 1
    yield heuristic("told early, the edge is no wrong scale: within a factor of two of the largest sharpness").positive(
        np.log(2) - abs(np.log1p(error)),
        note=f"errors from {100 * float(error.min()):.0f}% to {100 * float(error.max()):.0f}%",
    )
    at_edge = [cell for cell in edge.cell.values.tolist() if not cell.endswith(", 32") and cell != "0.4, all"]
    yield heuristic(
        "late in the run the second moment along the sharpest direction about breaks even, batches from 128 on"
    ).close(
        1.15,
        edge.factor.sel(cell=at_edge).mean("seed"),
        absolute=0.45,
        note="the curvature passes its edge by a tenth, and is held there by the next orders of the loss",
    )
    yield heuristic("at a learning rate of 0.1 the prediction says that no edge is reached").close(
        1, _outcome_share(data, FREE, {Outcome.EDGE_NOT_REACHED}), note="share of runs"
    )
    yield heuristic(
        "on batches of 8 the prediction says that the sharpness stalls below the edge of one direction"
    ).close(1, _outcome_share(data, NOISY, {Outcome.STALLED_BELOW_EDGE}), note="share of runs")
    yield heuristic("on batches of 8 the second moment along the sharpest direction is far from breaking even").below(
        0.5, data.factor.sel(cell=NOISY).mean("seed")
    )
