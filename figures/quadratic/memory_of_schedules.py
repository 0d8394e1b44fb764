r"""Loss curves as forcing and memory, and the schedules that power laws want: one over the root of the memory.

Left, least squares on fresh features under a linear decay: the exact law, its limit of continuous time, and the law
with the start alone in the memory, as it is often stated; points are simulated runs. Middle, schedules that were
optimised rate by rate (points), on an easy and on a hard task whose rates are limited to 1, and what the memory of the
spectrum asks for (lines); dotted, the power of its limit. Right, the risk that the best schedules reach on the easy
task, by the number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, ORANGE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.quadratic import GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import linear
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import (
    best_decay_exponent,
    best_schedule_peak,
    best_schedule_risk,
    forcing_and_memory,
    moments,
    optimal_schedule,
)

RATE, STEPS, RECORD = 0.5, 300, np.array([0, 3, 10, 30, 60, 100, 150, 200, 250, 280, 300])
A, MODES = 1.5, 150
TASKS = {"easy": (2.5, 0.1, None), "hard": (1.2, 1.0, 1.0)}  # source exponent, noise, largest rate
PLANNED = 400
HORIZONS = np.array([50, 100, 200, 400])


def _curves(replicas: int) -> xr.Dataset:
    h = np.arange(1, 21) ** -1.2
    model = GaussianLeastSquares(h, 0.3, displacement=1.0, batch_size=3)
    schedule = linear(RATE, STEPS)
    law = forcing_and_memory(model, schedule, record=np.arange(STEPS + 1))
    run = ensemble(model, schedule, replicas=replicas, seed=1, record=RECORD)
    risks = 0.5 * (run.error.transpose("replica", "step", "mode").values ** 2 @ h)
    return law.merge(
        xr.Dataset(
            {
                "risk_measured": ("recorded", risks.mean(axis=0)),
                "risk_standard_error": ("recorded", risks.std(axis=0) / np.sqrt(replicas)),
            },
            coords={"recorded": RECORD},
        )
    )


def _task(name: str) -> MiniBatchQuadratic:
    source, noise, _ = TASKS[name]
    index = np.arange(1, MODES + 1.0)
    return MiniBatchQuadratic(index**-A, noise * index**A, displacement=index ** ((A - source) / 2))


def _plans() -> xr.Dataset:
    best, asked = np.empty((2, len(TASKS), PLANNED))
    for i, (name, (_, _, largest)) in enumerate(TASKS.items()):
        model = _task(name)
        h = np.asarray(model.curvature)
        best[i] = optimal_schedule(model, PLANNED, largest=largest)
        left = np.append(np.cumsum(best[i][::-1])[::-1][1:], 0.0)
        memory = np.array([0.5 * np.sum(h**2 * np.exp(-2 * h * time)) for time in left])
        # one number sets the size: that of the rate in the middle of the decay
        decay = np.flatnonzero(best[i] < (0.999 if largest else np.inf))
        middle = decay[decay.size // 2]
        scaled = best[i, middle] * np.sqrt(memory[middle] / memory)
        asked[i] = np.minimum(scaled, largest) if largest else scaled
    return xr.Dataset(
        {"best": (("task", "left"), best[:, ::-1]), "asked": (("task", "left"), asked[:, ::-1])},
        coords={"task": list(TASKS), "left": np.arange(1, PLANNED + 1)},
    )


def _risks() -> xr.Dataset:
    model = _task("easy")
    reached = [moments(model, optimal_schedule(model, int(steps))).excess_risk.item() for steps in HORIZONS]
    return xr.Dataset({"reached": ("horizon", reached)}, coords={"horizon": HORIZONS})


def compute(fast: bool) -> xr.Dataset:
    data = xr.merge([_curves(10_000 if fast else 100_000), _plans(), _risks()], compat="override")
    return described(data, source="derived")


def draw(data: xr.Dataset) -> Figure:
    figure, (curves, plans, risks) = panels(1, 3, width=DOUBLE, height=2.6)
    for name, color, line, label in (
        ("excess_risk", BLUE, "-", "exact"),
        ("continuous_risk", ORANGE, "--", "continuous time"),
        ("first_order_risk", VERMILION, ":", "first order"),
        ("forcing", GREEN, "-.", "forcing alone"),
    ):
        theory_line(curves, data.step, data[name], color=color, linestyle=line, label=label)
    measured_points(curves, data.recorded, data.risk_measured, data.risk_standard_error, color=BLUE)
    curves.set(yscale="log", ylim=(2e-3, 2.5), xlabel="step", ylabel="excess risk")
    curves.legend(fontsize=6.5)

    shown = np.unique(np.geomspace(1, PLANNED, 25).astype(int)) - 1
    for name, color, marker in (("easy", BLUE, "o"), ("hard", VERMILION, "s")):
        here = data.sel(task=name).isel(left=slice(1, None))
        theory_line(plans, here.left, here.asked, color=color)
        points = data.sel(task=name).isel(left=shown[shown > 0])
        measured_points(plans, points.left, points.best, color=color, marker=marker, label=name)
    power = best_decay_exponent(A)
    left = np.array([100.0, PLANNED])
    guide = data.best.sel(task="easy", left=PLANNED).item() * (left / PLANNED) ** power
    theory_line(plans, left, 1.6 * guide, color=BLACK, linestyle=":", label=f"power {power:g}")
    plans.set(xscale="log", yscale="log", xlabel="steps left", ylabel="best learning rate")
    plans.legend(fontsize=6.5)

    source, noise, _ = TASKS["easy"]
    fine = np.geomspace(40, 500, 50)
    theory_line(risks, fine, best_schedule_risk(fine, A, source, noise), color=BLUE, label="limit of long runs")
    measured_points(risks, data.horizon, data.reached, color=BLUE, label="optimised")
    risks.set(xscale="log", yscale="log", xlabel="steps of the run", ylabel="lowest excess risk")
    ticks(risks.xaxis, HORIZONS)
    ticks(risks.yaxis, [0.005, 0.01, 0.02])
    risks.legend(fontsize=6.5)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("risk of least squares along a decay, of simulated runs").statistical(
        data.excess_risk.sel(step=RECORD[1:]).values,
        data.risk_measured.values[1:],
        data.risk_standard_error.values[1:],
        "mean",
        weakest=0.08,
        reason="losses are as wide as their mean under noise in proportion to the loss",
    )
    end = data.isel(step=-1)
    yield heuristic("continuous time misses less of the memory than the law of first order").above(
        data.first_order_risk.values[10:], data.continuous_risk.values[10:]
    )
    yield asymptotic("after a decay continuous time is right to a tenth").close(
        end.continuous_risk.item(), end.excess_risk.item(), tolerance=0.1
    )
    for name in TASKS:
        here = data.sel(task=name).isel(left=slice(1, -1))
        yield asymptotic(
            f"rates optimised one by one are in proportion to one over the root of the memory, {name} task"
        ).close(here.asked.values, here.best.values, tolerance=0.05)
    source, noise, _ = TASKS["easy"]
    yield asymptotic("largest rate of the best schedule, easy task").close(
        best_schedule_peak(PLANNED, A, source, noise), data.best.sel(task="easy", left=PLANNED).item(), tolerance=0.15
    )
    yield asymptotic("lowest risk of a long run, easy task").close(
        best_schedule_risk(HORIZONS[-1], A, source, noise), data.reached.values[-1], tolerance=0.2
    )
    yield asymptotic("longer runs come closer to the lowest risk of the limit").above(
        (data.reached.values / best_schedule_risk(HORIZONS, A, source, noise))[0],
        (data.reached.values / best_schedule_risk(HORIZONS, A, source, noise))[-1],
    )
    plateau = float(np.mean(data.best.sel(task="hard").values > 0.999))
    yield asymptotic("a hard task spends a good part of the run at the limit, an easy one none").above(0.2, plateau)
