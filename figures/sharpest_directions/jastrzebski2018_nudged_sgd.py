r"""Shorter steps along the sharpest directions alone lead to sharper regions, faster, and no worse at equal loss.

Nudged-SGD multiplies the learning rate by gamma along the five sharpest directions, looked up once an epoch on a
quarter of the images. The smaller gamma, the sharper the network becomes. Over 200 pairs of runs on four splits of the
images it ends with a test accuracy a fifth of a point higher, and with a lower training loss; at equal training loss
both recognise as many test images. Lines are the edges of the nudged and of all other directions: what cannot be
exceeded for long.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import (
    EXAMPLES,
    NUDGED_TIME,
    RECIPE,
    STEERED_BATCH,
    STEERED_RATE,
    accuracy,
    cheap_eigenvectors,
    nudged,
    problem,
    standard_error,
    start,
    steps_of,
)
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, GREY, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.schedules import constant
from sgdynamics.simulate import trainer
from sgdynamics.theory.break_even import sharpness_bound

GAMMAS = (0.01, 0.1, 0.5, 1.0, 2.0)
FAST_GAMMAS = (0.1, 1.0, 2.0)
GRID = np.geomspace(0.007, 3, 100)

# Generalisation is compared between runs that share start and batches, on several splits into training and test.
PAIRED_GAMMA = 0.1
SPLITS, STARTS_PER_SPLIT = 4, 50
RECORDS = 25
GAINS = {
    "gain": "Nudged-SGD with factor 0.1 generalises better than SGD",
    "gain_at_loss": "Nudged-SGD with factor 0.1 generalises better than SGD at equal training loss",
}


def _outcome(gamma: float, seed: int) -> xr.Dataset:
    found = nudged(gamma, seed)
    return xr.Dataset(
        {
            "sharpness": found.sharpness.max(),
            "loss": found.loss[-1].drop_vars(("step", "time")),
            "test_accuracy": found.test_accuracy,
        }
    )


def _course(gamma: float, split: int, seed: int) -> xr.Dataset:
    """Training loss and test accuracy along a run."""
    data = problem("mse", split)
    objective = trainer.Objective(start(seed), data.x, data.targets, "mse")
    top = cheap_eigenvectors(objective)
    steps = steps_of(STEERED_RATE, NUDGED_TIME)
    return trainer.trajectory(
        objective,
        constant(STEERED_RATE, steps),
        batches=trainer.Batches(STEERED_BATCH, replacement=True, seed=np.random.SeedSequence((split, seed, 6))),
        update=None if gamma == 1 else trainer.nudged_sgd(top, gamma=gamma, refresh=EXAMPLES // STEERED_BATCH),
        record=np.linspace(0, steps, RECORDS + 1, dtype=int),
        measure={"accuracy": lambda here: accuracy(here.net, data.x_test, data.labels_test)},
    )


def _accuracy_at(run: xr.Dataset, level: float) -> float:
    """Test accuracy where the training loss first is at a level."""
    lowest = np.minimum.accumulate(run.loss.values)
    return float(np.interp(-level, -lowest, run.accuracy.values))


def _pair(split: int, seed: int) -> xr.Dataset:
    """What Nudged-SGD gains in test accuracy: at the end, and where the slower of the two ends."""
    ours, plain = (_course(gamma, split, seed) for gamma in (PAIRED_GAMMA, 1.0))
    level = max(float(run.loss[-1]) for run in (ours, plain))
    return xr.Dataset(
        {
            "gain": float(ours.accuracy[-1] - plain.accuracy[-1]),
            "gain_at_loss": _accuracy_at(ours, level) - _accuracy_at(plain, level),
            "split": split,
        }
    )


def _pairs(starts: int) -> xr.Dataset:
    """Pairs of runs on all splits; no two share a start."""
    every = [(split, split + SPLITS * number) for number in range(starts) for split in range(SPLITS)]
    return xr.concat([_pair(*one) for one in every], "pair").set_coords("split")


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
    if not fast:
        data = data.merge(_pairs(STARTS_PER_SPLIT))
    descriptions = {
        "sharpness": ("largest sharpness of the run", "curvature"),
        "loss": ("training loss at the end", "loss"),
        "test_accuracy": "accuracy on the test images at the end",
        "nudged_edge": ("edge of stability of the nudged directions", "curvature"),
        "edge": ("edge of stability of all other directions", "curvature"),
    }
    if not fast:
        descriptions["gain"] = ("test accuracy at the end, Nudged-SGD less SGD", "1")
        descriptions["gain_at_loss"] = ("the same at equal training loss", "1")
        descriptions["split"] = ("split into training and test images", "1")
    data = described(data, descriptions, source="jastrzebski2018", **RECIPE)
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
        ticks(panel.xaxis, [0.01, 0.1, 1])
    axes[0].set(title="sharper with smaller steps", ylabel="largest sharpness", ylim=(0, 1.5 * edge))
    axes[0].legend(loc="lower left", fontsize=6)
    axes[1].set(title="a little faster", ylabel="final training loss")
    axes[2].set(title="test images at the end", ylabel="test accuracy / %")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    mean = data.sharpness.mean("seed")
    for smaller, larger in ((0.1, 1.0), (1.0, 2.0)):
        yield heuristic(
            f"steps along the sharpest directions times {smaller:g} lead to a sharpness a tenth above that "
            f"with steps times {larger:g}",
            "jastrzebski2018, abstract",
        ).above(1.1, mean.sel(gamma=smaller) / mean.sel(gamma=larger))
    yield heuristic(
        "the largest sharpness falls with the factor on the sharpest directions", "jastrzebski2018, abstract"
    ).negative(
        mean.sel(gamma=[gamma for gamma in mean.gamma.values if gamma >= 0.1]).diff("gamma"),
        note="between 0.01 and 0.1 it moves little more: the directions, kept for an epoch, turn away",
    )
    for name, claim in GAINS.items():
        if name not in data:  # a few pairs say nothing
            continue
        gain = data[name]
        yield heuristic(claim, "jastrzebski2018, abstract").positive(
            gain.mean("pair"),
            standard_error(gain, "pair"),
            note=f"test accuracy, paired over {gain.size} starts on {SPLITS} splits: better in "
            f"{int((gain > 0).sum())}, worse in {int((gain < 0).sum())}",
        )
    ratio = data.loss.sel(gamma=0.1) / data.loss.sel(gamma=1.0)
    yield heuristic(
        "Nudged-SGD with factor 0.1 ends at a lower training loss than SGD", "jastrzebski2018, abstract"
    ).below(1.0, ratio.mean("seed"), note=f"standard error of the ratio {float(standard_error(ratio)):.3f}")
