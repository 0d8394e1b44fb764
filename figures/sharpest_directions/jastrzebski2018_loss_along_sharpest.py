r"""The bowl along the sharpest direction narrows until the mean step reaches its wall.

The loss along the first, third and fifth sharpest direction, at five moments of one run; the bars on the line of no
change mark the mean length of a step along the direction. The very first steps end before the minimum; soon the
minimum is at half the step, and stays there. Lines are parabolas with the slope and the curvature at the weights,
points are the loss itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import (
    EXAMPLES,
    RECIPE,
    TIME,
    TOLERANCE,
    objective,
    run,
    start,
    steps_of,
    train,
)
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.simulate import trainer
from sgdynamics.theory.sharpest_directions import stationary_minimiser

RATE, BATCH_SIZE = 0.4, 32
TIMES = (0.0, 12.0, 48.0, 120.0, 300.0)
COLORS = (BLUE, GREEN, ORANGE, VERMILION, PURPLE)
RANKS = (0, 2, 4)
BATCHES = 200
# Distances shown, and multiples of the mean step at which the loss is held against its parabola.
REACH = 0.1
MULTIPLES = np.array([-1.0, -0.5, 0.5, 1.0])
# Measurements over which the minimum is averaged, as a ratio of sums.
AVERAGED = 5


@cache
def _weights(seed: int) -> xr.DataArray:
    found = train(
        start(seed),
        RATE,
        BATCH_SIZE,
        steps_of(RATE, TIME),
        (seed, 0),
        measurements=round(TIME / 12),
        keep_weights=True,
    )
    steps = [steps_of(RATE, time) for time in TIMES]
    weights: xr.DataArray = found.weights.sel(step=steps)
    return weights


def _along(weights: np.ndarray) -> xr.Dataset:
    """The loss along the sharpest directions, and mean lengths of steps along them."""
    here = objective(start(0).with_flat(weights), "mse")
    top = trainer.top_eigenpairs(here, k=max(RANKS) + 1, tol=TOLERANCE).vectors[:, list(RANKS)]
    rows = trainer.draw_batches(EXAMPLES, BATCH_SIZE, draws=BATCHES, replacement=True, seed=0)
    batches = trainer.projected_steps(here, directions=top, batch_size=BATCH_SIZE, batches=rows, replacement=True)
    # Upwards is where the loss rises: the sign of an eigenvector means nothing.
    top = top * np.where(batches.gradient_projection.values < 0, -1.0, 1.0)
    lengths = RATE * abs(batches.batch_projection).mean("draw")
    whole = trainer.loss_along(here, directions=top, distances=np.linspace(-REACH, REACH, 29))
    steps = trainer.loss_along(here, directions=top * lengths.values, distances=MULTIPLES).rename(distance="multiple")
    change, parabola = _changes(whole, "distance")
    step_change, step_parabola = _changes(steps, "multiple")
    found = xr.Dataset(
        {
            "change": change,
            "parabola": parabola,
            "step_change": step_change,
            "step_parabola": step_parabola,
            "curvature": whole.curvature,
            "step_length": lengths,
        }
    )
    return found.rename(direction="rank").assign_coords(rank=[rank + 1 for rank in RANKS])


def _changes(found: xr.Dataset, along: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Change of the loss on a line, itself and by slope and curvature."""
    places = found[along]
    return found.line_loss - found.start_loss, found.slope * places + found.curvature * places**2 / 2


def _minimum(seed: int) -> xr.Dataset:
    """Minimum along the sharpest direction over the mean step, a ratio of sums over neighbouring measurements."""
    path = run(RATE, BATCH_SIZE, seed)
    above = (path.gradient_projection**2).drop_vars("time")
    below = (RATE * path.curvature * path.projection_second_moment).drop_vars("time")
    sums = [part.isel(step=slice(1, None)).coarsen(step=AVERAGED).sum() for part in (above, below)]
    start_ratio = (above / below).isel(step=0, drop=True)
    return xr.Dataset({"minimum": sums[0] / sums[1], "minimum_at_start": start_ratio})


def compute(fast: bool) -> xr.Dataset:
    seeds = 1 if fast else 3
    data = xr.concat([_along(weights) for weights in _weights(0).values], "moment").assign_coords(moment=list(TIMES))
    data = data.merge(xr.concat([_minimum(seed) for seed in range(seeds)], "seed"))
    data = data.assign_coords(time=RATE * data.step, seed=np.arange(seeds))
    descriptions = {
        "moment": ("sum of the learning rates so far", "1/curvature"),
        "time": ("sum of the learning rates so far", "1/curvature"),
        "step": "step, mean over neighbouring measurements",
        "rank": "rank of the direction by curvature",
        "seed": "seed of start and batches",
        "change": ("change of the loss along the direction", "loss"),
        "parabola": ("the same by slope and curvature", "loss"),
        "step_change": ("change of the loss at multiples of the mean step", "loss"),
        "step_parabola": ("the same by slope and curvature", "loss"),
        "multiple": "multiple of the mean step",
        "minimum_at_start": "minimum along the sharpest direction over the mean step, before the first",
        "curvature": ("curvature of the loss along the direction", "curvature"),
        "step_length": ("mean length of a step along the direction", "parameter"),
        "minimum": "minimum along the sharpest direction over the mean step",
    }
    data = described(data, descriptions, source="jastrzebski2018", **RECIPE)
    return data.assign_attrs(learning_rate=RATE, batch_size=float(BATCH_SIZE))


def _draw_bowl(axes: Axes, data: xr.Dataset, rank: int) -> None:
    for moment, color in zip(data.moment.values, COLORS, strict=True):
        one = data.sel(moment=moment, rank=rank)
        theory_line(axes, one.distance, 1e3 * one.parabola, color=color, label=f"time {moment:g}")
        shown = one.isel(distance=slice(None, None, 4))
        measured_points(axes, shown.distance, 1e3 * shown.change, color=color, markersize=3)
        axes.plot(-one.step_length, 0, "|", color=color, markersize=14, markeredgewidth=2, zorder=4)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(
        title=f"direction {rank}",
        xlabel="distance along the direction",
        ylabel=r"change of the loss / $10^{-3}$",
        xlim=(-REACH, REACH),
        ylim=(-8, 20),
        xticks=[-0.1, -0.05, 0, 0.05, 0.1],
    )


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=4.8)
    for panel, rank in zip(axes.flat, data["rank"].values, strict=False):
        _draw_bowl(panel, data, int(rank))
    axes[0, 0].set(title="direction 1: the bowl narrows; bars: mean step")
    axes[1, 0].legend(loc="lower right", fontsize=6, ncols=2)
    last = axes[1, 1]
    theory_line(last, data.time, stationary_minimiser(np.full(data.sizes["step"], 1.0)), color=GREY, label="stationary")
    mean = data.minimum.mean("seed")
    error = data.minimum.std("seed") / np.sqrt(data.sizes["seed"])
    measured_points(last, data.time, mean, error, color=BLUE)
    last.set(
        title="soon the minimum is at half the step",
        xlabel="sum of the learning rates",
        ylabel="minimum / mean step, direction 1",
        ylim=(0, 0.8),
    )
    last.legend(loc="lower right")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    first = data.sel(rank=1)
    scale = abs(first.step_parabola).max("multiple")
    yield heuristic("along the sharpest direction the loss within a mean step is its parabola").close(
        first.step_parabola,
        first.step_change,
        scale=scale,
        tolerance=0.1,
        note="relative to the largest change within the step",
    )
    yield heuristic(
        "the bowl along the sharpest direction narrows: its curvature doubles", "jastrzebski2018, abstract"
    ).above(2.0, float(first.curvature[-1] / first.curvature[0]))
    yield heuristic(
        "at first the step ends before the minimum along the sharpest direction", "jastrzebski2018, abstract"
    ).above(1.0, data.minimum_at_start.mean())
    later = data.minimum.isel(step=slice(data.sizes["step"] // 2, None))
    yield heuristic("later the minimum along the sharpest direction is at half the mean step").close(
        0.5, later.mean(), absolute=0.08
    )
