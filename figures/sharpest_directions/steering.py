r"""Steps along the sharpest directions alone raise the loss and flatten; without them the network sharpens.

From one checkpoint on, at one learning rate and on the same batches, the step is kept whole, or reduced to its part
along the five sharpest directions (dominant), to that along the five of the checkpoint (constant top), or to the rest
(bulk). How often the directions are looked up decides what bulk does: every step, and the directions beyond the fifth
pass the edge and the loss blows up; seldom, and the step is no longer clear of the sharp ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import (
    CHECKPOINT_STEPS,
    RECIPE,
    REFRESH,
    STEERED_BATCH,
    STEERED_DIRECTIONS,
    STEERED_RATE,
    standard_error,
    steered,
)
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.theory.break_even import sharpness_bound

RULES = {"dominant": VERMILION, "constant top": ORANGE, "normal": BLACK, "bulk": BLUE}
REFRESHES = {1: SKY, 5: GREEN, REFRESH: BLUE, 50: VERMILION}
FAST_REFRESHES = (5, REFRESH, 50)
# With directions of every step: long enough to blow up, and each step costs an eigenproblem.
STEPS_OF_FRESH = 200
# Steps between two measurements, and between two that are drawn.
MEASURED, SHOWN = 10, 40


def _path(rule: str, seed: int, every: int, refresh: int = REFRESH) -> xr.Dataset:
    found = (
        steered(rule, seed, refresh=refresh, steps=STEPS_OF_FRESH, every=every)
        if refresh == 1
        else steered(rule, seed, refresh=refresh, every=every)
    )
    return found[["sharpness", "loss"]].drop_vars("time")


def compute(fast: bool) -> xr.Dataset:
    seeds, refreshes, every = (1, FAST_REFRESHES, 2 * MEASURED) if fast else (3, tuple(REFRESHES), MEASURED)
    rules = xr.concat(
        [xr.concat([_path(rule, seed, every) for seed in range(seeds)], "seed") for rule in RULES], "rule"
    ).assign_coords(rule=list(RULES))
    bulk = xr.concat(
        [xr.concat([_path("bulk", seed, every, refresh) for seed in range(seeds)], "seed") for refresh in refreshes],
        "refresh",
        join="outer",
    ).assign_coords(refresh=list(refreshes))
    data = rules.merge(bulk.rename(sharpness="bulk_sharpness", loss="bulk_loss"))
    data = data.assign_coords(seed=np.arange(seeds))
    data["edge"] = sharpness_bound(STEERED_RATE)
    missing = "; missing after the run was stopped"
    descriptions = {
        "rule": "what of the step is kept",
        "refresh": "steps between two looks at the Hessian",
        "step": "steps after the checkpoint",
        "seed": "seed of start and batches",
        "sharpness": ("sharpness", "curvature"),
        "loss": ("training loss", "loss"),
        "bulk_sharpness": (f"sharpness, bulk{missing}", "curvature"),
        "bulk_loss": (f"training loss, bulk{missing}", "loss"),
        "edge": ("edge of stability", "curvature"),
    }
    data = described(data, descriptions, source="jastrzebski2018", **RECIPE)
    return data.assign_attrs(
        learning_rate=STEERED_RATE,
        batch_size=float(STEERED_BATCH),
        directions=float(STEERED_DIRECTIONS),
        checkpoint_steps=float(CHECKPOINT_STEPS),
    )


def _draw(axes: Axes, paths: xr.DataArray, label: str, color: str) -> None:
    shown = paths.isel(step=paths.step.values % SHOWN == 0).dropna("step")
    measured_points(axes, shown.step, shown.mean("seed"), standard_error(shown), color=color, label=label, markersize=3)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=4.8, sharex=True)
    for rule, color in RULES.items():
        _draw(axes[0, 0], data.sharpness.sel(rule=rule), rule, color)
        _draw(axes[1, 0], data.loss.sel(rule=rule), rule, color)
    for refresh in data.refresh.values.tolist():
        label = "every step" if refresh == 1 else f"every {refresh} steps"
        _draw(axes[0, 1], data.bulk_sharpness.sel(refresh=refresh), label, REFRESHES[refresh])
        _draw(axes[1, 1], data.bulk_loss.sel(refresh=refresh), label, REFRESHES[refresh])
    edge = float(data.edge)
    for panel in axes[0]:
        theory_line(panel, [0, float(data.step[-1])], [edge, edge], color=GREY, label=r"edge 2/$\eta$")
        panel.set(ylabel="sharpness", ylim=(0, 12))
    axes[0, 0].set(title="bulk sharpens, dominant flattens")
    axes[0, 1].set(title="bulk, by how often it looks")
    for panel in axes[1]:
        panel.set(ylabel="training loss", yscale="log", xlabel="steps after the checkpoint")
    for panel in axes[0]:
        panel.legend(loc="upper left", ncols=2)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    # The mean over the second half: the end alone is one batch away from another number.
    sharpness = data.sharpness.sel(step=slice(data.step.max() / 2, None)).mean("step")
    yield heuristic(
        "sharpness rises from dominant to constant top to whole steps to bulk, in every run",
        "jastrzebski2018, abstract",
    ).positive(sharpness.sel(rule=list(RULES)).diff("rule"))
    yield heuristic(
        "steps along the sharpest directions alone end at a higher loss than they started from, in every run",
        "jastrzebski2018, abstract",
    ).above(data.loss.sel(rule="dominant").isel(step=0), data.loss.sel(rule="dominant").isel(step=-1))
    yield heuristic(
        "steps along directions that stay those of the checkpoint leave sharpness where it was",
        "jastrzebski2018, abstract",
    ).close(
        data.sharpness.sel(rule="constant top").isel(step=0),
        data.sharpness.sel(rule="constant top").isel(step=-1),
        tolerance=0.15,
    )
    reached = data.bulk_sharpness.max("step")
    yield heuristic(
        "bulk sharpens more where its directions are looked up every 5 steps than every 50, in every run"
    ).above(reached.sel(refresh=50), reached.sel(refresh=5))
    if 1 in data.refresh:
        fresh = data.bulk_loss.sel(refresh=1)
        yield heuristic(
            "bulk blows up where its directions are looked up at every step: ten times the loss, in every run"
        ).above(10 * fresh.isel(step=0), fresh.sel(step=STEPS_OF_FRESH))
