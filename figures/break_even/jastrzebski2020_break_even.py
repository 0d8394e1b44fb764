r"""Sharpness rises until SGD breaks even, then hovers: lower, with less noise, for larger rates and smaller batches.

A quarter of the gradient variance at twice the rate is the law of the plateau of this model. The paper reports less of
a fall: largest eigenvalues of the gradient covariance of 3.01 and .87 at the rates .01 and .1, a slope of -.54 against
the rate. That is between -1 and -1/2, the law of the point at which a path of curvature meets the edge.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, VERMILION
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.break_even import SelfStabilizingMode, draw_ensemble
from sgdynamics.simulate.break_even import ensemble
from sgdynamics.theory.break_even import (
    batch_variance_factor,
    break_even_steps,
    plateau_curvature,
    plateau_projection_variance,
    plateau_second_moment,
    stochastic_sharpness_gap,
)

EXAMPLES = 1024
RATES = (0.05, 0.1, 0.2)
SIZES = (16, 64, 256)
COLORS = dict(zip(RATES, (BLUE, VERMILION, GREEN), strict=True))
MARKERS = {16: "o", 64: "s", 256: "D"}

# Uneven examples and little force: what holds the curvature is the spread of the examples' curvatures.
SPREAD, FORCE, SHARPENING = 0.485, 0.05, 0.02
# Where the time to the edge is measured.
TIMED_SPREAD, TIMED_FORCE, TIMED_SHARPENING, TIMED_SIZE = 0.25, 0.5, 0.01, 16
# Equal examples, forces alone: (learning rate, sharpening).
FORCED = ((0.1, 0.01), (0.1, 0.02), (0.05, 0.02))

PATH_TIME = 3000.0
# Gradient variances that the paper reports, by learning rate.
PUBLISHED = {0.01: 3.01, 0.1: 0.87}


def _mode(size: int, spread: float, force: float, sharpening: float, seed: int) -> SelfStabilizingMode:
    drawn = draw_ensemble(EXAMPLES, relative_variance=spread, force_deviation=force, law="gamma", seed=seed)
    return SelfStabilizingMode(*drawn, sharpening=sharpening, batch_size=size)


def _draws(
    rate: float, size: int, spread: float, force: float, sharpening: float, steps: int, draws: int
) -> xr.Dataset:
    """One run on each of several draws of the examples: means and standard errors, without runs that died."""
    every = [
        ensemble(
            _mode(size, spread, force, sharpening, seed), rate, steps=steps, replicas=1, seed=seed, window=0.5
        ).isel(replica=0, step=-1, drop=True)
        for seed in range(draws)
    ]
    runs = xr.concat(every, "draw")
    names = ["mean_curvature", "projection_variance", "second_moment", "mean_minimiser", "break_even_step"]
    alive = runs.dead_share == 0
    runs = runs[names].where(alive)
    error = runs.std("draw", ddof=1) / np.sqrt(alive.sum())
    found: xr.Dataset = xr.merge([runs.mean("draw"), error.rename({name: f"{name}_standard_error" for name in names})])
    return found.assign(earliest_break_even_step=runs.break_even_step.min("draw"), dead_draws=(~alive).sum())


def _grid(name: str, cells: dict[float, xr.Dataset]) -> xr.Dataset:
    joined: xr.Dataset = xr.concat(list(cells.values()), name).assign_coords({name: list(cells)})
    return joined


def _paths() -> xr.DataArray:
    """The curvature of one run at every rate, at equal times."""
    times = np.linspace(0, PATH_TIME, 76)
    found = []
    for rate in RATES:
        at = np.round(times / rate).astype(int)
        run = ensemble(_mode(16, SPREAD, FORCE, SHARPENING, 0), rate, steps=int(at[-1]), replicas=1, seed=0, record=at)
        found.append(run.curvature.isel(replica=0, drop=True).drop_vars("step").rename(step="time"))
    joined: xr.DataArray = xr.concat(found, "learning_rate")
    return joined.assign_coords(learning_rate=list(RATES), time=times)


def compute(fast: bool) -> xr.Dataset:
    draws, steps = (6, 100_000) if fast else (20, 300_000)
    plateaus = _grid(
        "learning_rate",
        {
            rate: _grid(
                "batch_size",
                {size: _draws(rate, size, SPREAD, FORCE, SHARPENING, steps, draws) for size in SIZES},
            )
            for rate in RATES
        },
    ).drop_vars(["break_even_step", "break_even_step_standard_error", "earliest_break_even_step"])
    timed = _grid(
        "learning_rate",
        {
            rate: _draws(
                rate, TIMED_SIZE, TIMED_SPREAD, TIMED_FORCE, TIMED_SHARPENING, round(1.3 * 210 / rate**2), draws
            )[["break_even_step", "break_even_step_standard_error", "earliest_break_even_step"]]
            for rate in RATES
        },
    )
    forced = xr.concat(
        [_draws(rate, 16, 0.0, 1.0, a, 2 * steps, draws)[["mean_curvature"]] for rate, a in FORCED], "forced"
    )
    rates = axis("learning_rate", RATES)
    sizes = xr.DataArray([float(size) for size in SIZES], dims="batch_size", coords={"batch_size": list(SIZES)})
    all_sizes = np.geomspace(8, EXAMPLES, 60)
    grid = xr.DataArray(all_sizes.round(), dims="size")
    factor, fine = batch_variance_factor(float(EXAMPLES), sizes), batch_variance_factor(float(EXAMPLES), grid)
    law = {"sharpening": SHARPENING}
    curvature = plateau_curvature(rates, factor, SPREAD, FORCE**2, **law)
    forced_rate, forced_sharpening = (xr.DataArray(list(values), dims="forced") for values in zip(*FORCED, strict=True))
    own = float(batch_variance_factor(float(EXAMPLES), 16.0))
    data = plateaus.assign(
        plateau=curvature,
        plateau_line=plateau_curvature(rates, fine, SPREAD, FORCE**2, **law),
        size_line=grid,
        noise=plateau_projection_variance(curvature, SPREAD, FORCE**2, **law),
        path=_paths(),
        break_even_step=timed.break_even_step,
        break_even_step_standard_error=timed.break_even_step_standard_error,
        earliest_break_even_step=timed.earliest_break_even_step,
        least_step=break_even_steps(rates, own, TIMED_SPREAD, sharpening=TIMED_SHARPENING, start_curvature=1.0),
        gap=2 / forced_rate - forced.mean_curvature,
        gap_predicted=stochastic_sharpness_gap(forced_rate, own, 1.0, sharpening=forced_sharpening),
    )
    data["published_variance"] = ("published_rate", list(PUBLISHED.values()))
    texts = {
        "mean_curvature": ("mean curvature at the plateau", "1 over learning rate"),
        "published_variance": ("gradient variance at the rates 0.01 and 0.1, as published", "squared gradient"),
        "plateau": ("curvature at the plateau, predicted", "1 over learning rate"),
        "path": ("curvature along one run", "1 over learning rate"),
        "projection_variance": ("gradient variance along the mode", "loss^2"),
        "noise": ("gradient variance along the mode, predicted", "loss^2"),
        "break_even_step": "step at which the curvature reaches its edge",
        "earliest_break_even_step": "the same, of the earliest run",
        "least_step": "least number of steps to the edge",
        "dead_draws": "runs with a dead mode, left out",
        "gap": ("2 over learning rate minus mean curvature, equal examples", "1 over learning rate"),
    }
    return described(
        data,
        texts,
        source="jastrzebski2018; jastrzebski2020",
        examples=float(EXAMPLES),
        draws=float(draws),
        steps=float(steps),
    )


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.4)
    (path, plateau), (timing, noise) = axes
    for rate in RATES:
        color, here = COLORS[rate], data.sel(learning_rate=rate)
        level = here.plateau.sel(batch_size=16)
        theory_line(path, data.time, np.minimum(1 + SHARPENING * data.time, float(level)), color=color)
        measured_points(path, data.time, here.path, color=color, markersize=2.5)
        path.text(1.01 * PATH_TIME, float(level), rf"$\eta={rate:g}$", color=color, va="center", fontsize=8)
        measured_points(
            plateau,
            data.batch_size,
            rate * here.mean_curvature / 2,
            rate * here.mean_curvature_standard_error / 2,
            color=color,
            marker={0.05: "o", 0.1: "s", 0.2: "D"}[rate],
            label=rf"$\eta={rate:g}$",
        )
        measured_points(
            timing, rate, here.break_even_step, here.break_even_step_standard_error, color=color, markersize=5
        )
    path.set(
        xlabel=r"time  $\eta t$", ylabel="curvature", title="sharpness rises, then hovers", xlim=(0, 1.2 * PATH_TIME)
    )
    path.set_xticks([0, 1000, 2000, 3000])
    one = data.sel(learning_rate=0.1)  # the force is too weak to tell the rates apart
    theory_line(plateau, data.size_line, 0.1 * one.plateau_line / 2, color=BLACK, label="theory")
    plateau.axhline(1, color=GREY, linestyle=":", linewidth=0.9)
    plateau.text(8, 1.004, r"$2/\eta$", color=GREY, fontsize=8)
    plateau.set(
        xscale="log",
        ylim=(0.91, 1.01),
        xlabel="batch size",
        ylabel=r"plateau  /  $(2/\eta)$",
        title="lower for small batches",
    )
    plateau.legend(loc="lower right")
    rates = np.geomspace(0.04, 0.25, 40)
    own = float(batch_variance_factor(float(EXAMPLES), float(TIMED_SIZE)))
    least = break_even_steps(rates, own, TIMED_SPREAD, sharpening=TIMED_SHARPENING, start_curvature=1.0)
    theory_line(timing, rates, least, color=BLACK, label="lower bound")
    timing.set(
        xscale="log",
        yscale="log",
        xlabel=r"learning rate  $\eta$",
        ylabel="step at break-even",
        title="four times sooner at twice the rate",
    )
    ticks(timing.xaxis, RATES)
    timing.legend()
    curvature = np.geomspace(8, 45, 40)
    theory_line(
        noise,
        curvature,
        plateau_projection_variance(curvature, SPREAD, FORCE**2, sharpening=SHARPENING),
        color=BLACK,
        label=r"$\propto$ curvature$^2$",
    )
    for size in SIZES:
        for rate in RATES:
            here = data.sel(batch_size=size, learning_rate=rate)
            measured_points(
                noise,
                here.mean_curvature,
                here.projection_variance,
                here.projection_variance_standard_error,
                color=COLORS[rate],
                marker=MARKERS[size],
            )
    noise.set(
        xscale="log",
        yscale="log",
        xlabel="curvature at the plateau",
        ylabel="gradient variance",
        title="a quarter of the noise at twice the rate",
    )
    ticks(noise.xaxis, [10, 20, 40])
    ticks(noise.yaxis, [2, 8, 32])
    noise.legend(loc="upper left")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    calm = (data.learning_rate < 0.15) | (data.batch_size >= 64)
    dead = int(data.dead_draws.sum())
    note = f"not for batches of 16 at the largest rate, where modes soon die; {dead} runs with a dead mode left out"
    yield asymptotic("the curvature hovers at the fixed point of its averaged recursion").close(
        data.plateau, data.mean_curvature.where(calm, data.plateau), tolerance=0.05, note=note
    )
    yield exact("at the plateau the mean minimiser is at half the step").close(
        0.5, data.mean_minimiser.where(calm, 0.5), absolute=0.02, note=note
    )
    yield asymptotic("the oscillation is as large for every rate and batch").close(
        plateau_second_moment(SHARPENING),
        data.second_moment.where(calm, plateau_second_moment(SHARPENING)),
        tolerance=0.06,
        note=note,
    )
    slopes = (data.projection_variance - FORCE**2).where(calm)
    ratio = slopes.values[:-1] / slopes.values[1:]
    both = np.broadcast_to((calm.values[:-1] & calm.values[1:]), ratio.shape)
    yield asymptotic("at twice the rate the gradient variance at the plateau is a quarter").close(
        4.0, ratio[both], tolerance=0.125, note="without the forces' own variance"
    )
    yield heuristic(
        "the paper's fall of the gradient variance with the rate has a slope between -1 and -1/2, that of a path",
        "jastrzebski2020; derived",
    ).close(
        -0.75,
        np.log(data.published_variance).diff("published_rate").item() / np.log(10),
        absolute=0.25,
        note="ten-fold rates",
    )
    yield bound("no run breaks even before its curvature could have grown to the edge").above(
        data.least_step, data.earliest_break_even_step
    )
    yield heuristic("break-even comes soon after the curvature could have grown to the edge").close(
        data.least_step,
        data.break_even_step,
        tolerance=xr.DataArray([0.02, 0.05, 0.2], dims="learning_rate", coords={"learning_rate": list(RATES)}),
    )
    yield asymptotic("with equal examples noise holds the plateau below 2/eta by the stochastic sharpness gap").close(
        data.gap_predicted, data.gap, tolerance=0.25, note="leading order in the noise"
    )
