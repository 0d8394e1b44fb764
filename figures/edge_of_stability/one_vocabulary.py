r"""A quadratic, a uv network and a network on the digits say in one vocabulary where they are: at, below or above 2.

All three are trained by full-batch gradient descent through one function and measured by the same instruments, at
learning rates that give them the same product of learning rate and sharpness at the start. The quadratic keeps its
sharpness and lives or dies by it. The uv network, started above 2, throws itself to where the product is below 2, until
it can no more. The digits climb to 2 by themselves and hover a little above. The labels of the first two carry noise
that full batches do not feel: the gradient variance is what single examples would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.engine.check import Check, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREY, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.schedules import constant
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.simulate import trainer
from sgdynamics.simulate.uv import trajectory

Array = NDArray[np.float64]

WORLDS = ("quadratic", "uv network", "digits")
COLORS = {"quadratic": BLACK, "uv network": BLUE, "digits": VERMILION}
MARKERS = {"quadratic": "s", "uv network": "o", "digits": "^"}
OUTCOMES = (Outcome.MONOTONE, Outcome.LOSS_CATAPULT, Outcome.LOSS_AND_SHARPNESS_CATAPULT, Outcome.DIVERGED)

LABEL_NOISE = 0.1
# Learning rate times sharpness at the start.
GAINS = (0.3, 0.6, 1.0, 1.5, 1.9, 2.2, 2.6, 3.0, 3.5, 4.6)
SHOWN = (1.0, 2.6)
STYLES: tuple[Any, ...] = ("-", "--")
# Starts below 2 from which the digits have climbed long before the end.
CLIMBING = (1.0, 1.5, 1.9)
# Where the path of a run that diverges is broken off in the picture.
LOST_AT = 12
UV_WIDTH = 16
# A run whose loss ends this many times above its start does not come back.
LOST = 100.0
# Beyond this an orbit above the edge amplifies rounding: the two routes are compared up to here.
COMPARED_STEPS = 30


def _noisy_labels() -> tuple[Array, Array]:
    """Two examples at x = 1 whose labels are noise around zero: the mean gradient is that of one without noise."""
    return np.ones((2, 1)), np.array([LABEL_NOISE, -LABEL_NOISE])


def _networks(fast: bool) -> dict[str, tuple[trainer.Network, Array, Array]]:
    line = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat(np.ones(1))
    uv = trainer.network([1, UV_WIDTH, 1], "linear", biases=False, init_scale=0.5, seed=3)
    x, labels = trainer.digits("raw_deviation")
    examples = 256 if fast else 512
    x, labels, *_ = trainer.split(x, labels, train=examples, seed=0)
    digits = trainer.network([64, 16 if fast else 32, 10], "tanh", init_scale=0.3, seed=0)
    return {
        "quadratic": (line, *_noisy_labels()),
        "uv network": (uv, *_noisy_labels()),
        "digits": (digits, x, trainer.one_hot(labels, 10)),
    }


def _outcome(run: xr.Dataset, sharpness: xr.DataArray) -> Outcome:
    if run.divergence_step >= 0 or run.loss[-1] > LOST * run.loss[0]:
        return Outcome.DIVERGED
    # a loss that is flat moves by rounding
    if run.loss.max() <= run.loss[0] * (1 + 1e-9):
        return Outcome.MONOTONE
    rose = sharpness.max() > sharpness[0] * (1 + 1e-9)
    return Outcome.LOSS_AND_SHARPNESS_CATAPULT if rose else Outcome.LOSS_CATAPULT


def _run(net: trainer.Network, x: Array, y: Array, gain: float, steps: int, measured: NDArray[np.int64]) -> xr.Dataset:
    """One run of any of the worlds, by the same rule and through the same instruments."""
    objective = trainer.Objective(net, x, y, "mse")
    start = trainer.tracked_eigenpairs(k=1, tol=1e-6)(objective).sharpness.item()
    run = trainer.trajectory(
        objective,
        constant(gain / start, steps),
        record=np.arange(steps + 1),
        measure={
            "sharpest": trainer.tracked_eigenpairs(k=1, tol=1e-3),
            "noise": trainer.gradient_covariance,
        },
        measure_at=measured,
    )
    found = run[["sharpness", "gradient_variance"]].drop_vars("measured_time").rename(measured_step="step")
    found["loss"] = run.loss.drop_vars("time").sel(step=measured)
    found["learning_rate"] = ((), gain / start)
    code = np.int8(_outcome(run, run.sharpness))
    found["outcome"] = ((), code, outcome_attributes(*OUTCOMES))
    return found


def _world(net: trainer.Network, x: Array, y: Array, steps: int, measured: NDArray[np.int64]) -> xr.Dataset:
    return xr.concat([_run(net, x, y, gain, steps, measured) for gain in GAINS], "gain", combine_attrs="override")


def _predicted_quadratic(data: xr.Dataset) -> xr.Dataset:
    """Curvature 1, started at 1: everything is known."""
    rate = data.learning_rate
    with np.errstate(over="ignore"):
        loss = 0.5 * (1 - rate) ** (2.0 * data.step) + 0.5 * LABEL_NOISE**2
    one = xr.ones_like(loss)
    return xr.Dataset({"sharpness": one, "gradient_variance": LABEL_NOISE**2 * one, "loss": loss})


def _predicted_uv(net: trainer.Network, data: xr.Dataset, steps: int) -> xr.Dataset:
    output, ntk = float((net.weights[0] @ net.weights[1]).item()), float(net.flat() @ net.flat())
    path = trajectory(output, ntk, data.learning_rate, kappa=1.0, steps=steps).sel(step=data.step)
    found = path[["sharpness"]]
    found["gradient_variance"] = LABEL_NOISE**2 * path.ntk
    found["loss"] = path.loss + 0.5 * LABEL_NOISE**2
    return found


TEXTS = {
    "learning_rate": ("learning rate", "1/curvature"),
    "gain": "learning rate times sharpness at the start",
    "step": "step",
    "world": "what is trained",
    "predicted_world": "what is trained",
}


def compute(fast: bool) -> xr.Dataset:
    steps = 400 if fast else 800
    # every step where orbits are compared, then sparsely
    late = np.geomspace(COMPARED_STEPS, steps, 9 if fast else 24).round().astype(np.int64)
    early = np.arange(0, COMPARED_STEPS, 3 if fast else 2)
    measured = np.unique(np.concatenate([early, late]))
    networks = _networks(fast)
    found = [_world(*networks[world], steps, measured) for world in WORLDS]
    data = xr.concat(found, "world", combine_attrs="override").assign_coords(world=list(WORLDS), gain=list(GAINS))
    predicted = [
        _predicted_quadratic(data.sel(world="quadratic", drop=True)),
        _predicted_uv(networks["uv network"][0], data.sel(world="uv network", drop=True), steps),
    ]
    theory = xr.concat(predicted, "predicted_world").assign_coords(predicted_world=list(WORLDS[:2]))
    for name in ("sharpness", "gradient_variance", "loss"):
        data[f"{name}_predicted"] = theory[name].transpose("predicted_world", "gain", "step")
        data[f"{name}_predicted"].attrs = data[name].attrs
    data.attrs = {}
    return described(data, TEXTS, source="derived", label_noise=LABEL_NOISE, uv_width=float(UV_WIDTH), seed=0.0)


def _draw_paths(axes: Axes, data: xr.Dataset, name: str) -> None:
    """Paths of learning rate times sharpness, or of the gradient variance over its start."""
    # as many points as can be told apart on a logarithmic axis
    some = np.unique(data.step.searchsorted([0, *np.geomspace(2, float(data.step.max()), 11)]))
    for world in WORLDS:
        for gain, dashes in zip(SHOWN, STYLES, strict=True):
            here = data.sel(world=world, gain=gain)
            factor = float(here.learning_rate if name == "sharpness" else 1 / here[name][0])
            values = (factor * here[name]).where(np.isfinite(here[name]))
            if here.outcome == Outcome.DIVERGED:
                values = values.where(data.step <= LOST_AT)
                last = int(np.isfinite(values).sum()) - 1
                axes.plot(data.step[last], values[last], marker="x", markersize=8, color=COLORS[world], zorder=5)
            if world in data.predicted_world.values:
                line = factor * data[f"{name}_predicted"].sel(predicted_world=world, gain=gain)
                theory_line(axes, data.step, line.where(np.isfinite(values)), color=COLORS[world], linestyle=dashes)
            else:
                axes.plot(data.step, values, color=COLORS[world], linestyle=dashes, linewidth=0.6)
            measured_points(axes, data.step[some], values[some], color=COLORS[world], marker=MARKERS[world])
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, float(data.step.max()) * 1.1)
    ticks(axes.xaxis, [0, 1, 10, 100])
    axes.set_xlabel("step")


def _final_gain(data: xr.Dataset) -> xr.DataArray:
    """Learning rate times sharpness, averaged over the last half of the steps; +inf where the run diverged."""
    late = data.sharpness.sel(step=slice(0.5 * float(data.step.max()), None)).mean("step")
    found: xr.DataArray = (late * data.learning_rate).where(data.outcome != Outcome.DIVERGED, np.inf)
    return found


def draw(data: xr.Dataset) -> Figure:
    figure, (paths, noise, ends) = panels(1, 3, width=DOUBLE, height=2.9)
    _draw_paths(paths, data, "sharpness")
    paths.axhline(2, color=GREY, linewidth=0.9, linestyle=":")
    paths.set(title="sharpness: 2 decides", ylabel=r"learning rate $\times$ sharpness", ylim=(0, 4))
    _draw_paths(noise, data, "gradient_variance")
    noise.set(title="gradient variance", ylabel="gradient variance / its start", ylim=(0, 1.3))

    final = _final_gain(data)
    ends.plot([0, 5], [0, 5], color="#D0D0D0", linewidth=0.9, zorder=1)
    ends.axhline(2, color=GREY, linewidth=0.9, linestyle=":")
    ends.axvline(2, color=GREY, linewidth=0.9, linestyle=":")
    ends.axhspan(3.0, 3.6, color="#EEEEEE", linewidth=0, zorder=0)
    ends.text(0.1, 3.3, "diverged", va="center", fontsize=7.5, color=GREY)
    for shift, world in enumerate(WORLDS):
        here = final.sel(world=world)
        alive = np.isfinite(here)
        # side by side where they would hide each other
        moved = data.gain + 0.05 * (shift - 1)
        measured_points(ends, moved[alive], here[alive], color=COLORS[world], marker=MARKERS[world])
        ends.plot(moved[~alive], np.full(int((~alive).sum()), 3.45 - 0.15 * shift), "x", color=COLORS[world])
    ends.set(
        title="from the start to the end",
        xlabel=r"learning rate $\times$ sharpness, start",
        ylabel=r"learning rate $\times$ sharpness, end",
        xlim=(0, 5),
        ylim=(0, 3.6),
    )
    handles = [
        Line2D([], [], color=COLORS[world], marker=MARKERS[world], markerfacecolor="white", label=world)
        for world in WORLDS
    ]
    for gain, dashes in zip(SHOWN, STYLES, strict=True):
        handles.append(Line2D([], [], color=GREY, linestyle=dashes, label=f"started at {gain:g}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    source = "derived"
    compared = data.sel(step=slice(0, COMPARED_STEPS))
    alive = data.outcome != Outcome.DIVERGED
    for world in WORLDS[:2]:
        here = compared.sel(world=world, gain=alive.sel(world=world))
        for name, text in (
            ("sharpness", "sharpness"),
            ("gradient_variance", "gradient variance"),
            ("loss", "loss"),
        ):
            yield exact(f"{world}: the {text} of the trained network is that of the model", source).close(
                here[f"{name}_predicted"].sel(predicted_world=world, drop=True),
                here[name],
                tolerance=1e-6,
                note=f"runs that stay bounded, steps 0..{COMPARED_STEPS}",
            )
    quadratic = data.outcome.sel(world="quadratic", drop=True)
    yield exact("a quadratic diverges if and only if learning rate times sharpness is above 2", source).close(
        (data.gain > 2).astype(float),
        (quadratic == Outcome.DIVERGED).astype(float),
        scale=1.0,
        tolerance=0.0,
        absolute=1e-9,
    )
    final = _final_gain(data)
    uv = final.sel(world="uv network", gain=alive.sel(world="uv network"))
    yield bound(
        "a uv network that survives comes to rest where learning rate times sharpness is at most 2", source
    ).below(
        xr.full_like(uv, 2.0).drop_vars("world"),
        uv.drop_vars("world"),
        tolerance=1e-6,
        note="measured over the last half of the steps",
    )
    digits = final.sel(world="digits", gain=list(CLIMBING), drop=True)
    yield heuristic("the digits climb until learning rate times sharpness is about 2, and stay").close(
        xr.full_like(digits, 2.0),
        digits,
        tolerance=0.25,
        note="full batch, squared error, measured over the last half of the steps; the higher the rate, the further "
        "above 2 they hover",
    )
