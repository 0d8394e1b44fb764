r"""At one curvature an average is a learning-rate schedule, batch by batch; at another curvature it is another one.

Above, the schedules that end on three averages, and one run of each on the same batches. Below, how far schedule and
average come apart when the curvature is not the one that the schedule was made for, and the reason: averaging cuts
the learning rate of steep directions only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.engine.check import Check, bound, exact
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.labels import axis, described
from figures.engine.sampling import Indices, replica_mean
from figures.engine.style import DOUBLE, compared, measured_points, panels, theory_line, ticks
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, swa, tail, two_point
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import ema_variance, equivalent_gain, tail_variance, two_point_variance
from sgdynamics.theory.schedules import (
    average_center_weights,
    average_to_gains,
    center_weights,
    ema_schedule_gain,
    swa_schedule_gain,
    two_point_schedule_gain,
)

# The schedules are made for curvature 1, at which the learning rate is the gain.
MADE_FOR = 1.0
GAIN = 0.1
STEPS = 100
BETA = 0.9
SEPARATION = 20
DISPLACEMENT = 1.0
MEASURED_CURVATURES = (0.03, 0.1, 0.3, MADE_FOR, 3.0, 8.0)
COLORS = {"SWA": GREEN, "EMA": BLUE, "two points": VERMILION}
LABELS = {"SWA": "SWA of all steps", "EMA": f"EMA {BETA}", "two points": f"two points, {SEPARATION} apart"}

# Steps before the averages are taken at rest: at the smallest gain 4e-5 of the variance is missing.
LONG = 50_000
MEASURED_GAINS = (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
SLOW_BETA = 0.99
RULE_COLORS = {
    "two points, 20 apart": VERMILION,
    "EMA 0.9": BLUE,
    "10 points, 10 apart": ORANGE,
    "SWA of 100 steps": GREEN,
    "EMA 0.99": PURPLE,
}


def _averages() -> xr.DataArray:
    weights = [swa(STEPS), ema(BETA, STEPS), two_point(STEPS, SEPARATION)]
    return xr.DataArray(weights, dims=("average", "step"), coords={"average": list(COLORS)})


def _schedules(averages: xr.DataArray) -> xr.Dataset:
    """The three schedules, by closed form and by solving for them."""
    step = np.arange(1, STEPS + 1)
    closed = [
        swa_schedule_gain(GAIN, step, STEPS),
        ema_schedule_gain(GAIN, BETA, STEPS - step),
        two_point_schedule_gain(GAIN, SEPARATION, STEPS - step),
    ]
    labels = {"average": averages["average"], "step": ("step", step)}
    gain = xr.DataArray(closed, dims=("average", "step"), coords=labels)
    solved = average_to_gains(averages, GAIN * MADE_FOR)
    start, weights = center_weights(gain)
    return xr.Dataset(
        {
            "gain": gain,
            "gain_solved": solved,
            "start_weight": start,
            "center_weight": weights,
        }
    )


def _runs(
    curvatures: tuple[float, ...], schedules: xr.DataArray, averages: xr.DataArray, replicas: Indices
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """On the same batches: the base run, its averages, and the runs with the equivalent schedules."""
    model = MiniBatchQuadratic(curvatures, 1.0, displacement=DISPLACEMENT)
    every = np.arange(STEPS + 1)
    base = ensemble(model, constant(GAIN, STEPS), replicas=replicas, seed=31, record=every).error
    ends = xr.dot(base.drop_vars("step"), averages, dim="step", optimize=True)
    scheduled = ensemble(model, schedules / MADE_FOR, replicas=replicas, seed=31, record=every).error
    return base, ends, scheduled


def _one_run(schedules: xr.DataArray, averages: xr.DataArray) -> xr.Dataset:
    base, ends, scheduled = _runs((MADE_FOR,), schedules, averages, np.array([4]))
    found = xr.Dataset({"base_run": base, "averaged_end": ends, "scheduled_run": scheduled})
    found = found.squeeze(["replica", "mode"], drop=True).rename(step="iterate")
    return found


def _mismatch(schedules: xr.DataArray, averages: xr.DataArray, replicas: int) -> xr.Dataset:
    """Mean squared distance between the average and the end of the run with the schedule, against curvature."""
    grid = np.unique(np.concatenate([np.geomspace(0.01, 10, 61), MADE_FOR + np.linspace(-0.1, 0.1, 41)]))

    def between(curvatures: xr.DataArray) -> xr.DataArray:
        start, weights = average_center_weights(averages, constant(GAIN * curvatures, STEPS))
        scheduled_start, scheduled_weights = center_weights(schedules / MADE_FOR * curvatures)
        noise = ((weights - scheduled_weights) ** 2).sum("step")
        distance: xr.DataArray = noise + (DISPLACEMENT * (start - scheduled_start)) ** 2
        return distance

    swept = axis("curvature", grid)
    chosen = np.array(MEASURED_CURVATURES)
    there = axis("measured_curvature", chosen)

    def squared(indices: Indices) -> xr.DataArray:
        _, ends, scheduled = _runs(MEASURED_CURVATURES, schedules, averages, indices)
        return (ends - scheduled.isel(step=-1, drop=True)) ** 2

    measured, standard_error = replica_mean(squared, replicas, block=1024)
    found = xr.Dataset(
        {
            "distance": between(swept),
            "distance_predicted": between(there),
            "distance_measured": measured.rename(mode="measured_curvature"),
            "distance_standard_error": standard_error.rename(mode="measured_curvature"),
        }
    )
    return found


def _effective_rates(replicas: int) -> xr.Dataset:
    """Equivalent gain of averages at rest over the gain of the base run."""

    def variances(gain: xr.DataArray) -> xr.DataArray:
        found = [
            two_point_variance(gain, SEPARATION),
            ema_variance(gain, BETA),
            tail_variance(gain, 10, 10),
            tail_variance(gain, 100),
            ema_variance(gain, SLOW_BETA),
        ]
        together: xr.DataArray = xr.concat(found, "rule").assign_coords(rule=list(RULE_COLORS))
        return together

    weights = xr.DataArray(
        [
            two_point(LONG, SEPARATION),
            ema(BETA, LONG),
            tail(LONG, 10, 10),
            swa(LONG, LONG - 100),
            ema(SLOW_BETA, LONG),
        ],
        dims=("rule", "step"),
        coords={"rule": list(RULE_COLORS)},
    )
    model = MiniBatchQuadratic(MEASURED_GAINS, 1.0)

    def squares(indices: Indices) -> xr.DataArray:
        runs = ensemble(model, constant(1.0, LONG), replicas=indices, seed=32, average=weights, method="jumps")
        errors: xr.DataArray = runs.error.squeeze("step", drop=True)
        return errors**2

    variance, variance_error = replica_mean(squares, replicas, block=replicas)
    there = axis("measured_gain", MEASURED_GAINS)
    measured, error = (
        item.rename(mode="measured_gain").assign_coords(measured_gain=there) for item in (variance, variance_error)
    )
    swept = axis("base_gain", np.geomspace(1e-4, 1, 121))
    return xr.Dataset(
        {
            "effective_rate": equivalent_gain(variances(swept)) / swept,
            "effective_rate_predicted": equivalent_gain(variances(there)) / there,
            "effective_rate_measured": equivalent_gain(measured) / there,
            # the derivative of 2V/(1+V) carries the error of the variance over
            "effective_rate_standard_error": 2 * error / (1 + measured) ** 2 / there,
        }
    )


TEXTS = {
    "base_run": ("error of the base run", "standard deviation of the centers"),
    "averaged_end": ("error of the average", "standard deviation of the centers"),
    "scheduled_run": ("error of the run with the equivalent schedule", "standard deviation of the centers"),
    "iterate": "step",
    "curvature": "curvature over that the schedule is made for",
    "base_gain": "gain of the base run",
    "measured_gain": "gain of the base run",
    "average": "averaging rule",
    "rule": "averaging rule",
    "step": "step",
    "gain": "gain of the equivalent schedule, closed form",
    "gain_solved": "gain of the equivalent schedule, solved for",
    "start_weight": "weight of the start",
    "center_weight": "weight of the batch center",
    "distance": ("mean squared distance", "variance of the centers"),
    "effective_rate": "effective over actual learning rate",
}


def compute(fast: bool) -> xr.Dataset:
    averages = _averages()
    schedules = _schedules(averages)
    parts = [
        schedules,
        _one_run(schedules.gain, averages),
        _mismatch(schedules.gain, averages, 90_000 if fast else 300_000),
        _effective_rates(90_000 if fast else 300_000),
    ]
    data = xr.merge(parts, combine_attrs="drop_conflicts")
    return described(data, TEXTS, source="sandler2023", base_gain=GAIN, made_for_curvature=MADE_FOR)


def _draw_schedules(axes: Axes, data: xr.Dataset) -> None:
    some = data.isel(step=slice(None, None, 5))
    axes.axhline(GAIN, color=BLACK, linestyle=":", linewidth=0.9)
    axes.text(3, GAIN, "base run", va="bottom")
    for average, color in COLORS.items():
        theory_line(axes, data.step, data.gain.sel(average=average), color=color, label=LABELS[average])
        measured_points(axes, some.step, some.gain_solved.sel(average=average), color=color)
    axes.set(title="each average is a schedule", xlabel="step", ylabel=r"gain $x = \eta h$", ylim=(0, 0.115))
    axes.legend(loc="center", bbox_to_anchor=(0.42, 0.5))


def _draw_run(axes: Axes, data: xr.Dataset) -> None:
    data = data.isel(iterate=slice(60, None))
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.plot(data.iterate, data.base_run, color=BLACK, linewidth=0.7, alpha=0.6, label="base run")
    for average, color in COLORS.items():
        axes.plot(data.iterate, data.scheduled_run.sel(average=average), color=color)
        axes.plot(
            data.iterate[-1], data.averaged_end.sel(average=average), color=color, marker="s", markersize=6, mfc="none"
        )
    axes.plot([], [], color=GREY, marker="s", markersize=6, mfc="none", linestyle="none", label="average of it")
    axes.plot([], [], color=GREY, label="run with the schedule")
    axes.set(
        title="same batches: runs end on the averages", xlabel="step", ylabel=r"error / $\sigma$", ylim=(-0.45, 0.3)
    )
    axes.legend()


def _draw_mismatch(axes: Axes, data: xr.Dataset) -> None:
    for average, color in COLORS.items():
        here = data.sel(average=average)
        theory_line(axes, here.curvature, np.sqrt(here.distance), color=color)
        root = np.sqrt(here.distance_measured)
        measured_points(axes, here.measured_curvature, root, here.distance_standard_error / (2 * root), color=color)
    axes.annotate("exactly 0", (MADE_FOR, 2.2e-4), xytext=(0.02, 3.2e-4), arrowprops={"arrowstyle": "->"})
    axes.set(xscale="log", yscale="log", ylim=(1e-4, 1), xlim=(0.01, 10))
    ticks(axes.xaxis, [0.01, 0.1, 1, 10])
    axes.set(
        title="another curvature: it misses",
        xlabel="curvature / that the schedule is made for",
        ylabel=r"rms distance to the average / $\sigma$",
    )


def _draw_effective_rates(axes: Axes, data: xr.Dataset) -> None:
    for rule, color in RULE_COLORS.items():
        compared(axes, data.sel(rule=rule), "effective_rate", color=color, label=rule)
    axes.set(xscale="log", ylim=(0, 1.35), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.set(title="averaging cuts steep directions only", xlabel=r"gain $x = \eta h$ of a direction")
    axes.set_ylabel("effective / actual learning rate")
    axes.legend(loc="upper right", ncols=2, columnspacing=1.0, borderaxespad=0.0)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.2)
    _draw_schedules(axes[0, 0], data)
    _draw_run(axes[0, 1], data)
    _draw_mismatch(axes[1, 0], data)
    _draw_effective_rates(axes[1, 1], data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact(
        "closed forms of the schedules of EMA, SWA and two points equal those solved for from the weights"
    ).close(data.gain, data.gain_solved, tolerance=1e-12)
    yield exact(
        "a run with the equivalent schedule ends on the average of the base run, batch by batch",
        "sandler2023, abstract: averages correspond to schedules",
    ).close(
        data.averaged_end, data.scheduled_run.isel(iterate=-1, drop=True), scale=1.0, absolute=1e-13, note="one run"
    )
    made_for = data.distance_measured.sel(measured_curvature=MADE_FOR, drop=True)
    yield exact(
        "at the curvature that it is made for every run ends on its average: root mean square distance 0"
    ).close(xr.zeros_like(made_for), np.sqrt(made_for), scale=1.0, absolute=1e-13, note="all replicas")
    others = data.drop_sel(measured_curvature=MADE_FOR)
    yield bound("at any other curvature shown the schedule misses the average by more than 1e-3").above(
        1e-3, np.sqrt(others.distance_measured), note="root mean square, in standard deviations of the batch centers"
    )
    yield exact("mean squared distance between average and schedule at other curvatures").agreement(
        others, "distance", "variance"
    )
    yield exact("effective learning rate of five averages at gains from 1e-4 to 1").agreement(
        data, "effective_rate", "variance"
    )
    steep = data.effective_rate_measured.sel(rule="EMA 0.99")
    yield exact(
        "EMA 0.99 leaves 99.0% of the learning rate at gain 1e-4, 50.1% at 0.01, 9.13% at 0.1 and 1.00% at 1"
    ).close(
        xr.DataArray([0.990, 0.501, 0.0913, 0.0100], dims="gain", coords={"gain": ("gain", [1e-4, 1e-2, 0.1, 1.0])}),
        data.effective_rate_predicted.sel(rule="EMA 0.99", measured_gain=[1e-4, 1e-2, 0.1, 1.0])
        .rename(measured_gain="gain")
        .drop_vars("rule"),
        tolerance=1e-3,
        note="closed form against the rounded numbers",
    )
    yield bound("one average is not one learning rate: EMA 0.99 cuts gain 1 ninety times more than gain 1e-4").above(
        90.0, float(steep.sel(measured_gain=1e-4) / steep.sel(measured_gain=1.0))
    )
    last = data.gain.isel(step=-1)
    yield exact("the schedules end at x/T (SWA), x(1-beta) (EMA) and x/2 (two points)").close(
        last.drop_vars("step").copy(data=[GAIN / STEPS, GAIN * (1 - BETA), GAIN / 2]),
        last.drop_vars("step"),
        tolerance=1e-12,
    )
