r"""The sharpness of a long run goes through four regimes: transient, saturation, progressive sharpening, edge.

Full-batch gradient descent of a tanh network of four layers on 256 digits, from a start six tenths of the usual size,
at two learning rates. Above, the loss; below, the sharpness in units of the initial one, which each run brings to its
own :math:`2/\eta`. Shades and labels are those of the first run, found from its sharpness alone. Right, the same
network from a start of the usual size, at :math:`c = 1`: where three tenths of the labels are random the sharpness
comes to :math:`2/\eta` as well, on true labels the images are fitted before it rises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, GREY, PURPLE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, panels, theory_line
from figures.uv._network_phases import CLASSES, images
from sgdynamics.models.schedules import constant
from sgdynamics.simulate import trainer
from sgdynamics.theory.regimes import time_regimes

Array = NDArray[Any]

DEPTH, WIDTH = 4, 64
SMALL = 0.6
RATES = (0.5, 1.0)
LABEL_NOISES = (0.3, 0.0)
# Steps and records of runs from a start of the usual size; the fast ones end soon after the edge.
USUAL, FAST_USUAL = (9000, 60), (7500, 50)
REGIMES = ("early", "saturation", "progressive_sharpening", "edge")
SHADES = ("#F2F2F2", "#DCE9F5", "#FBE9C6", "#F3D5C4")


def _sharpness() -> Callable[[trainer.Objective], float]:
    """An instrument for the sharpness alone, which starts every search from the last eigenvector."""
    last: Any = None

    def look(here: trainer.Objective) -> float:
        nonlocal last
        found = trainer.top_eigenpairs(here, tol=1e-2, start=last)
        last = found.vectors
        return float(found.values[0])

    return look


def _labels(noise: float, seed: int) -> dict[str, Any]:
    """The images, a share of their labels replaced once and for all by random ones."""
    data = images()
    random = np.random.default_rng(seed)
    labels = data["y"].argmax(axis=1)
    labels = np.where(random.random(labels.size) < noise, random.integers(CLASSES, size=labels.size), labels)
    return {**data, "y": trainer.one_hot(labels, CLASSES)}


def _descent(c: float, init_scale: float, record: Array, noise: float = 0.0, seed: int = 0) -> tuple[xr.Dataset, float]:
    """A run at c over the initial sharpness, and that sharpness."""
    data = _labels(noise, seed)
    widths = [data["x"].shape[1], *[WIDTH] * (DEPTH - 1), CLASSES]
    net = trainer.network(widths, "tanh", biases=False, init_scale=init_scale, seed=seed)
    objective = trainer.Objective(net, **data)
    start = trainer.top_eigenpairs(objective, tol=1e-4).values[0]
    schedule = constant(c / start, int(record[-1]))
    return trainer.trajectory(objective, schedule, record=record, measure={"sharpness": _sharpness()}), float(start)


def _run(c: float, init_scale: float, steps: int, records: int) -> xr.Dataset:
    """A run recorded at nearly even steps on a logarithmic axis, read by regime."""
    record = np.unique(np.round(np.concatenate([np.arange(8), np.geomspace(8, steps, records)]))).astype(int)
    run, start = _descent(c, init_scale, record)
    read = time_regimes(run)
    kept = {
        "run_loss": run.loss,
        "sharpness_ratio": run.sharpness / start,
        "edge_ratio": 2 / (read.learning_rate * start),
        **{name: read[name] for name in ("regime", "gain", "saturation_start", "sharpening_start", "edge_start")},
    }
    return xr.Dataset(kept).drop_vars("time")


def _usual(noise: float, seed: int, steps: int, records: int) -> xr.Dataset:
    """A run at c = 1 from a start of the usual size: learning rate times sharpness, and the loss."""
    record = np.linspace(0, steps, records + 1).astype(int)
    run, start = _descent(1.0, 1.0, record, noise, seed)
    found = xr.Dataset({"usual_gain": run.sharpness / start, "usual_loss": run.loss})
    return found.drop_vars("time").rename(step="usual_step")


def compute(fast: bool) -> xr.Dataset:
    steps, records = (1000, 30) if fast else (6000, 160)
    data = xr.concat([_run(c, SMALL, steps, records) for c in RATES], "run").assign_coords(c=("run", list(RATES)))
    seeds = 1 if fast else 3
    length = FAST_USUAL if fast else USUAL
    rows = [xr.concat([_usual(noise, seed, *length) for seed in range(seeds)], "seed") for noise in LABEL_NOISES]
    usual = xr.concat(rows, "label_noise").assign_coords(label_noise=list(LABEL_NOISES), seed=np.arange(seeds))
    data = data.merge(usual)
    texts = {
        "run_loss": "training loss",
        "sharpness_ratio": "sharpness over its start",
        "edge_ratio": "2 / learning rate over the initial sharpness",
        "c": "learning rate times initial sharpness",
        "usual_gain": "learning rate times sharpness, usual start",
        "usual_loss": "training loss, usual start",
        "label_noise": "share of random labels",
    }
    return described(data, texts, source="kalra2023", network=f"{DEPTH} layers, tanh, width {WIDTH}")


def _name(run: xr.Dataset) -> str:
    return f"$c = {float(run.c):g}$"


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=4.4, sharex="col", width_ratios=[2, 1])
    first = data.isel(run=0)
    shown = data.step.values + 1
    for number, color in enumerate((BLUE, VERMILION)):
        run = data.isel(run=number)
        axes[0, 0].plot(shown, run.run_loss, "-", color=color, label=_name(run))
        axes[1, 0].plot(shown, run.sharpness_ratio, "-", color=color, marker="o", markersize=2)
        theory_line(axes[1, 0], shown, np.full(shown.size, run.edge_ratio), color=color, linestyle="--")
    for noise, color in zip(LABEL_NOISES, (GREEN, PURPLE), strict=True):
        label = f"{noise:.0%} random labels" if noise else "true labels"
        for seed in data.seed.values:
            run = data.sel(label_noise=noise, seed=seed)
            axes[0, 1].plot(run.usual_step, run.usual_loss, "-", color=color, label=label)
            axes[1, 1].plot(run.usual_step, run.usual_gain, "-", color=color)
            label = ""
    theory_line(axes[1, 1], data.usual_step, np.full(data.usual_step.size, 2.0), color=GREY, linestyle="--")
    labels = first.regime.values
    for number, shade in enumerate(SHADES):
        inside = np.flatnonzero(labels == number)
        if not inside.size:
            continue
        low, high = shown[inside[0]], shown[min(inside[-1] + 1, shown.size - 1)]
        for panel in axes[:, 0]:
            panel.axvspan(low, high, color=shade, zorder=0, linewidth=0)
        text = REGIMES[number].replace("_", "\n")
        axes[0, 0].text(np.sqrt(low * high), 0.6 * float(data.run_loss.min()), text, ha="center", va="bottom")
    axes[0, 0].set(xscale="log", yscale="log", ylabel="loss", title=f"start {SMALL:g} of the usual size")
    axes[0, 0].set_ylim(0.5 * float(data.run_loss.min()), 1.3 * float(data.run_loss.max()))
    axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.3))
    axes[0, 1].set(yscale="log", title="usual start, $c = 1$")
    axes[0, 1].legend(loc="upper right", fontsize=6.5)
    axes[1, 0].set(xlabel="step + 1", ylabel="sharpness / initial", ylim=(0, 1.5 * float(first.edge_ratio)))
    axes[1, 1].set(xlabel="step", ylim=(0, 3))
    axes[1, 0].text(1.2, 1.04 * float(first.edge_ratio), r"$2/\eta$ (theory)", color=GREY, va="bottom")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    gain, late = data.gain, data.step >= data.step[-1] / 2
    # Nothing here is picked by the labels of the regimes: what they say is looked up in the curves.
    ratio = data.sharpness_ratio
    early, lowest = ratio.isel(step=0), ratio.isel(step=slice(1, None)).min("step")
    yield heuristic(
        "after the first step the sharpness is soon below its start, by a twentieth", "kalra2023, abstract"
    ).below(0.95 * early, lowest)
    yield heuristic(
        "saturation lasts: from its first step to the first of sharpening the time at least doubles",
        "kalra2023, abstract",
    ).above(2.0, data.sharpening_start / data.saturation_start.clip(min=1))
    yield heuristic(
        "progressive sharpening: from saturation to the edge the sharpness grows by half and more",
        "kalra2023, abstract",
    ).above(1.5, _gain_at(data, "edge") / _gain_at(data, "saturation"))
    yield heuristic(
        "mean of learning rate times sharpness over the second half of all steps is 2", "kalra2023, abstract"
    ).close(2.0, gain.where(late).mean("step"), tolerance=0.1)
    for noise, text in zip(LABEL_NOISES, ("labels of which 30% are random", "true labels"), strict=True):
        run = data.usual_gain.sel(label_noise=noise, drop=True)
        yield heuristic(
            f"from a start of the usual size, too, the sharpness comes to 2 over the learning rate ({text})",
            "kalra2023, abstract",
        ).close(
            2.0,
            run.isel(usual_step=slice(-6, None)).mean("usual_step"),
            tolerance=0.1,
            note=f"the last tenth of {int(data.usual_step[-1])} steps",
        )


def _gain_at(data: xr.Dataset, regime: str) -> xr.DataArray:
    """Learning rate times sharpness in the first step of a regime; NaN if there is none."""
    found: xr.DataArray = data.gain.where(data.step == data[f"{regime}_start"]).max("step")
    return found
