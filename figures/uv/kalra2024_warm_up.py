r"""Warm-up pays where it meets a residual: catapult by catapult, not slowly from zero.

Two layers on one example, without noise. Left, the residual of slow linear warm-ups of a network so wide that its
kernel stays, in logarithms, against learning rate times kernel: below the edge at 2 it shrinks, and is back only far
beyond. Middle, where it is back, by where the warm-up began: the line is the law, points are slow runs. Beyond 4
nothing comes back, so that a warm-up must not begin below .914. Right, the learning rate over the largest that the
start survives, raised anew whenever the loss has recovered, for targets that leave different room: it climbs by equal
factors to the rate at which even the flattest minimum is unstable, dotted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, exact
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.simulate import trainer
from sgdynamics.simulate.uv import persistent_catapults, scheduled_trajectory, trajectory
from sgdynamics.theory.uv import (
    c_loss_at,
    catapult_count,
    critical_learning_rate,
    delayed_escape,
    largest_learning_rate,
)

SHOWN = {0.0: VERMILION, 1.0: ORANGE, 1.8: BLUE}
STARTS = np.array([0.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9])
PER_UNIT = 300  # steps in which the gain rises by 1
RESIDUAL = 1e-6
KAPPA, OUTPUT, NTK, STRENGTH = 1e-4, 0.1, 2.0, 2.3
TARGETS = {3.0: VERMILION, 1.0: BLUE, 0.3: GREEN}
STEPS, SHARE = 1200, 0.97
GRID = np.linspace(0, 5, 501)


def _regrown(start: float) -> tuple[float, xr.DataArray]:
    """Where a slow warm-up has its first residual again, and the residual on the way, in decades."""
    gains = start + (np.arange((5 - start) * PER_UNIT) + 0.5) / PER_UNIT  # none is 1, which leaves no residual at all
    run = scheduled_trajectory(RESIDUAL, 1.0, gains, kappa=1e-30)
    residual = abs(run.output.values[1:]) / RESIDUAL
    first = int(np.argmax((gains > 2) & (residual > 1)))
    until = slice(0, first + PER_UNIT // 20)
    path = np.interp(GRID, gains[until], np.log10(residual[until]), left=np.nan, right=np.nan)
    return float(gains[first]), xr.DataArray(path, dims="gain")


def _delays() -> xr.Dataset:
    found = {start: _regrown(start) for start in {*STARTS.tolist(), *SHOWN}}
    return xr.Dataset(
        {
            "delayed_measured": ("start", [found[start][0] for start in STARTS.tolist()]),
            "delayed_predicted": ("start", delayed_escape(STARTS)),
            "decades": xr.concat([found[start][1] for start in SHOWN], xr.DataArray(list(SHOWN), dims="shown")),
        },
        coords={"start": STARTS, "gain": GRID, "shown": list(SHOWN)},
    )


def _catapults() -> xr.Dataset:
    rows = []
    for target in TARGETS:
        largest = largest_learning_rate(OUTPUT, NTK, KAPPA, target)
        critical = critical_learning_rate(KAPPA, target)
        options = {"kappa": KAPPA, "target": target}
        run = persistent_catapults(OUTPUT, NTK, strength=STRENGTH, peak=SHARE * critical, steps=STEPS, **options)
        at_once = trajectory(OUTPUT, NTK, SHARE * critical, steps=STEPS, **options)
        raised = np.unique(run.learning_rate.values)
        rows.append(
            xr.Dataset(
                {
                    "rate": run.learning_rate / largest,
                    "critical": critical / largest,
                    "end_rate": run.learning_rate[-1] / largest,
                    "end_loss": run.loss[-1],
                    "at_once_diverges": float(at_once.divergence_step >= 0),
                    "raises": float(raised.size - 2),
                    "raises_predicted": catapult_count(raised[-2] / raised[0], STRENGTH),
                }
            ).drop_vars("step")
        )
    return xr.concat(rows, xr.DataArray(list(TARGETS), dims="target", name="target"))


def _searches() -> xr.Dataset:
    """The rate to begin from, found by doubling from next to nothing with the loss alone."""
    predicted, measured = [], []
    for seed in range(6):
        net = trainer.network([1, 16, 1], "linear", biases=False, seed=seed)
        first, second = (weights.ravel() for weights in net.weights)
        output, ntk = float(first @ second), float(first @ first + second @ second)
        objective = trainer.Objective(net, [[1.0]], [2.0], "mse")
        found = trainer.critical_rate(objective, direction=objective.gradient(), learning_rate=1e-5, accuracy=1e-6)
        predicted.append(c_loss_at(output, ntk, 1.0, 2.0) / ntk)
        measured.append(found.critical_rate.item())
    return xr.Dataset({"search_predicted": ("network", predicted), "search_measured": ("network", measured)})


def compute(fast: bool) -> xr.Dataset:
    data = xr.merge([_delays(), _catapults(), _searches()])
    return described(data, source="kalra2024")


def draw(data: xr.Dataset) -> Figure:
    figure, (residual, delay, climb) = panels(1, 3, width=DOUBLE, height=2.8)
    for start, color in SHOWN.items():
        here = data.decades.sel(shown=start)
        residual.plot(data.gain, here, color=color, linewidth=1.2, label=f"from {start:g}")
        residual.plot(delayed_escape(start), 0, "o", color=color, markerfacecolor="white", zorder=3)
    residual.axhline(0, color=GREY, linewidth=0.6)
    residual.axvline(2, color=GREY, linestyle=":", linewidth=0.9)
    residual.text(2.05, 30, "edge", color=GREY, fontsize=7)
    residual.legend(fontsize=7, loc="lower right")
    residual.set(
        xlabel="learning rate x kernel", ylabel="residual / first (decades)", title="slow warm-ups", ylim=(-400, 60)
    )
    line = np.linspace(0, 1.999, 300)
    theory_line(delay, line, delayed_escape(line), color=BLACK)
    measured_points(delay, data.start, data.delayed_measured, color=BLUE)
    delay.axhline(4, color=GREY, linestyle=":", linewidth=0.9)
    delay.text(0.02, 3.95, "above: none\ncomes back", color=GREY, fontsize=7, va="top")
    delay.set(xlabel="first rate x kernel", ylabel="rate x kernel at the return", title="where the residual returns")
    for target, color in TARGETS.items():
        here = data.sel(target=target)
        climb.step(np.arange(STEPS + 1), here.rate, where="post", color=color, label=f"target {target:g}")
        climb.axhline(float(here.critical), color=color, linestyle=":", linewidth=0.9)
    climb.axhline(1, color=GREY, linewidth=0.6)
    climb.text(STEPS, 1.1, "at once", color=GREY, fontsize=7, ha="right", va="bottom")
    climb.set(yscale="log", xlabel="step", ylabel="rate / largest at once", title="catapult by catapult")
    climb.legend(fontsize=7, loc="center right", bbox_to_anchor=(1.0, 0.4))
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield asymptotic(
        "a slow linear warm-up has its residual back where the logarithms of its factors add to nothing"
    ).close(data.delayed_predicted, data.delayed_measured, absolute=0.03, note=f"{PER_UNIT} steps to a gain of 1")
    yield asymptotic("one from zero is beyond the rates that are survived by then").above(
        4.0, data.delayed_measured.isel(start=0, drop=True)
    )
    yield asymptotic(
        "raised catapult by catapult, the rate gets to 0.97 of the critical one, and the run settles there",
        "kalra2024; derived",
    ).close(SHARE * data.critical, data.end_rate.where(data.end_loss < 1e-16), tolerance=1e-12)
    yield exact("taken at once, that rate diverges").close(1.0, data.at_once_diverges)
    yield asymptotic("the number of raises, from what one catapult leaves of the kernel").close(
        data.raises_predicted.sel(target=0.3, drop=True),
        data.raises.sel(target=0.3, drop=True),
        tolerance=0.1,
        note="far from the critical rate a target is none",
    )
    yield exact(
        "doubling and bisection on the loss alone find the first rate that raises it", "kalra2024; derived"
    ).close(data.search_predicted, data.search_measured, tolerance=1e-5)
