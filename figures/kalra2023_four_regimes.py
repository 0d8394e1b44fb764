r"""The sharpness of a long run goes through four regimes: transient, saturation, progressive sharpening, edge.

Full-batch gradient descent of a tanh network of four layers on 256 digits, from a start six tenths of the usual size,
at two learning rates. Above, the loss; below, the sharpness in units of the initial one, which each run brings to its
own :math:`2/\eta`. Shades and labels are those of the first run, found from its sharpness alone. Right, the same
network from a start of the usual size, whose sharpness does not rise on these data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures._check import Check
from figures._network_phases import CLASSES, images
from figures._style import BLUE, DOUBLE, GREY, VERMILION, panels, theory_line
from sgdynamics.models.schedules import constant
from sgdynamics.simulate import trainer
from sgdynamics.theory.regimes import time_regimes

DEPTH, WIDTH = 4, 64
SMALL = 0.6
RATES = (0.5, 1.0)
REGIMES = ("early", "saturation", "progressive_sharpening", "edge")
SHADES = ("#F2F2F2", "#DCE9F5", "#FBE9C6", "#F3D5C4")


def _sharpness(data: dict[str, Any]) -> Callable[[trainer.Network], float]:
    """An instrument for the sharpness alone, which starts every search from the last eigenvector."""
    last: Any = None

    def look(net: trainer.Network) -> float:
        nonlocal last
        found = trainer.top_hessian_eigenvalues(net, **data, tol=1e-2, start=last)
        last = found.vectors
        return float(found.values[0])

    return look


def _run(c: float, init_scale: float, steps: int, records: int) -> xr.Dataset:
    """A run at c over the initial sharpness, recorded at nearly even steps on a logarithmic axis, read by regime."""
    data = images()
    widths = [data["x"].shape[1], *[WIDTH] * (DEPTH - 1), CLASSES]
    net = trainer.network(widths, "tanh", biases=False, init_scale=init_scale, seed=0)
    start = trainer.top_hessian_eigenvalues(net, **data, tol=1e-4).values[0]
    record = np.unique(np.round(np.concatenate([np.arange(8), np.geomspace(8, steps, records)]))).astype(int)
    look = {"sharpness": _sharpness(data)}
    run = trainer.train(net, **data, schedule=constant(c / start, steps), record=record, measure=look, seed=0)
    read = time_regimes(run)
    kept = {
        "run_loss": run.loss,
        "sharpness_ratio": run.sharpness / start,
        "edge_ratio": 2 / (read.learning_rate * start),
        **{name: read[name] for name in ("regime", "gain", "saturation_start", "sharpening_start", "edge_start")},
    }
    return xr.Dataset(kept).drop_vars("time")


def compute(fast: bool) -> xr.Dataset:
    steps, records = (1000, 30) if fast else (6000, 160)
    cases = [(c, SMALL) for c in RATES] + [(RATES[-1], 1.0)]
    runs = xr.concat([_run(c, scale, steps, records) for c, scale in cases], "run")
    data = runs.assign_coords(c=("run", [c for c, _ in cases]), init_scale=("run", [scale for _, scale in cases]))
    texts = {
        "run_loss": "training loss",
        "sharpness_ratio": "sharpness over its start",
        "edge_ratio": "2 / learning rate over the initial sharpness",
        "c": "learning rate times initial sharpness",
        "init_scale": "size of the start, 1 is standard",
    }
    for name, text in texts.items():
        data[name].attrs = {"long_name": text, "units": "1"}
    return data.assign_attrs(source="kalra2023", network=f"{DEPTH} layers, tanh, width {WIDTH}")


def _name(run: xr.Dataset) -> str:
    return f"$c = {float(run.c):g}$"


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=4.4, sharex=True, width_ratios=[2, 1])
    small, usual = data.isel(run=slice(0, -1)), data.isel(run=-1)
    first = small.isel(run=0)
    shown = data.step.values + 1
    for column, runs in enumerate((small, data.isel(run=[-1]))):
        for number in range(runs.sizes["run"]):
            run = runs.isel(run=number)
            color = (BLUE, VERMILION)[number if column == 0 else 1]
            axes[0, column].plot(shown, run.run_loss, "-", color=color, label=_name(run))
            axes[1, column].plot(shown, run.sharpness_ratio, "-", color=color, marker="o", markersize=2)
            theory_line(axes[1, column], shown, np.full(shown.size, run.edge_ratio), color=color, linestyle="--")
    labels = first.regime.values
    for number, shade in enumerate(SHADES):
        inside = np.flatnonzero(labels == number)
        if not inside.size:
            continue
        low, high = shown[inside[0]], shown[min(inside[-1] + 1, shown.size - 1)]
        for panel in axes[:, 0]:
            panel.axvspan(low, high, color=shade, zorder=0, linewidth=0)
        text = REGIMES[number].replace("_", "\n")
        axes[0, 0].text(np.sqrt(low * high), 0.6 * float(small.run_loss.min()), text, ha="center", va="bottom")
    axes[0, 0].set(xscale="log", yscale="log", ylabel="loss", title=f"start {SMALL:g} of the usual size")
    axes[0, 0].set_ylim(0.5 * float(small.run_loss.min()), 1.3 * float(small.run_loss.max()))
    axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.3))
    axes[0, 1].set(yscale="log", title="usual start")
    axes[0, 1].legend(loc="lower left")
    axes[1, 0].set(xlabel="step + 1", ylabel="sharpness / initial", ylim=(0, 1.5 * float(first.edge_ratio)))
    axes[1, 1].set(xlabel="step + 1", ylim=(0, 1.5 * float(usual.edge_ratio)))
    for panel, run in ((axes[1, 0], first), (axes[1, 1], usual)):
        height = 1.04 * float(run.edge_ratio)
        panel.text(1.2, height, r"$2/\eta$ (theory)", color=GREY, va="bottom")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    small, usual = data.isel(run=slice(0, -1)), data.isel(run=-1)
    starts = [small[f"{name}_start"] for name in ("saturation", "sharpening", "edge")]
    ordered = (starts[0] >= 0) & (starts[0] < starts[1]) & (starts[1] < starts[2])
    yield Check.close(
        claim="runs show saturation, then progressive sharpening, then the edge, in this order",
        source="kalra2023, abstract",
        status="heuristic",
        predicted=1.0,
        measured=ordered.astype(float),
        absolute=0.5,
    )
    late = small.regime == REGIMES.index("edge")
    at_edge = small.gain.where(late & (small.step >= small.step[-1] / 2))
    yield Check.close(
        claim="mean of learning rate times sharpness in the second half, at the edge, is 2",
        source="kalra2023, abstract",
        status="heuristic",
        predicted=2.0,
        measured=at_edge.mean("step"),
        tolerance=0.1,
    )
    lowest = small.sharpness_ratio.min("step")
    yield Check.below(
        claim="the early transient lowers the sharpness below its start",
        source="kalra2023, abstract",
        status="heuristic",
        predicted=1.0,
        measured=lowest,
    )
    yield Check.above(
        claim="from a start of the usual size the sharpness comes to 2 over the learning rate, too",
        source="kalra2023, abstract",
        status="heuristic",
        predicted=1.8,
        measured=usual.gain.max("step"),
        note="largest learning rate times sharpness of the run; the edge begins a tenth below 2",
    )
