r"""A larger learning rate clips the top of the spectrum, and only by that the Hessian is better conditioned.

What the paper measures of the gradient covariance :math:`K` is :math:`\operatorname{Tr} K/\lambda_K^1`, from batches of
128 on a twentieth of the data; of the Hessian, the sum of its five largest eigenvalues. So few batches bound the
former by their number less one, about 17 there, and it counts directions above the sampling noise rather than the
flattest one. It reports 14.3 at the rate 0.1 and 10.7 at 0.01, as the largest of a run. On the digits it is taken of
the exact covariance, which has no such bound, and is lower at the larger rate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import covariance_path, standard_error
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, GREY, PURPLE, VERMILION
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.break_even import SelfStabilizingModes, draw_ensemble
from sgdynamics.simulate.break_even import ensemble
from sgdynamics.theory.break_even import clipped_modes

EXAMPLES, MODES = 512, 10
SHARPENING = 0.01 * 0.7 ** np.arange(MODES)
RATES = (0.05, 0.1, 0.2)
SIZES = (EXAMPLES, 64)
COLORS = dict(zip(RATES, (BLUE, VERMILION, GREEN), strict=True))
# Runs are compared at equal time, averaged over its last share.
TIME, WINDOW = 4000.0, 0.1

DIGITS_RATES, DIGITS_SIZES = (0.1, 0.4), (8, 32)
DIGITS_SEEDS = 10
# Time before which the covariance is that of the start, not of the run.
DIGITS_SETTLED = 50.0
NOT_SEEN = "digits: the gradient covariance is better conditioned at the larger learning rate"


def _modes(size: int, seed: int) -> SelfStabilizingModes:
    drawn = draw_ensemble(EXAMPLES, relative_variance=0.98, force_deviation=0.05, law="gamma", modes=MODES, seed=seed)
    return SelfStabilizingModes(*drawn, sharpening=SHARPENING, batch_size=size, start_curvature=0.5)


def _runs(rate: float, size: int, draws: int) -> xr.Dataset:
    """Spectrum of runs on several draws of the examples; draws with dead modes are counted and left out."""
    found = [
        ensemble(_modes(size, seed), rate, steps=round(TIME / rate), replicas=1, seed=seed, window=WINDOW).isel(
            replica=0, step=-1, drop=True
        )
        for seed in range(draws)
    ]
    runs = xr.concat(found, "draw")
    dead = (runs.dead_share > 0).any("mode")
    y = runs.mean_curvature.where(~dead)
    values = {"curvature": y, "trace": y.sum("mode", skipna=False), "condition_ratio": y.min("mode") / y.max("mode")}
    data = xr.Dataset({"dead_draws": dead.sum()})
    for name, value in values.items():
        data[name] = value.mean("draw")
        data[f"{name}_standard_error"] = value.std("draw", ddof=1) / np.sqrt((~dead).sum())
    return data


def _spectra(draws: int) -> xr.Dataset:
    rows = [
        xr.concat([_runs(rate, size, draws) for rate in RATES], "learning_rate").assign_coords(
            learning_rate=list(RATES)
        )
        for size in SIZES
    ]
    found = xr.concat(rows, "batch_size").assign_coords(batch_size=list(SIZES))
    times = xr.DataArray(np.linspace((1 - WINDOW) * TIME, TIME, 41), dims="time")
    at = axis("learning_rate", RATES)
    fine = xr.DataArray(np.geomspace(0.04, 0.25, 60), dims="rate_line")
    for rates, tail in ((at, ""), (fine, "_line")):
        means = [clipped_modes(_modes(size, 0), rates, times).mean("time") for size in SIZES]
        clipped = xr.concat(means, "batch_size").assign_coords(batch_size=list(SIZES))
        # the ratio of averaged curvatures, as it is measured
        found[f"curvature{tail}_predicted"] = clipped.curvature.drop_vars("mode")
        found[f"trace{tail}_predicted"] = clipped.trace
        found[f"condition_ratio{tail}_predicted"] = clipped.curvature.min("mode") / clipped.curvature.max("mode")
    return found.assign(rate_line=fine)


def _digits(seeds: int, measurements: int) -> xr.DataArray:
    """Trace of the gradient covariance over its largest eigenvalue, mean over a run past its start."""

    def one(rate: float, size: int, seed: int) -> float:
        path = covariance_path(rate, size, seed, loss="mse", measurements=measurements, since=DIGITS_SETTLED)
        return float((path.gradient_variance / path.covariance_top).mean())

    values = [[[one(rate, size, seed) for seed in range(seeds)] for size in DIGITS_SIZES] for rate in DIGITS_RATES]
    coordinates = {"digits_rate": list(DIGITS_RATES), "digits_batch_size": list(DIGITS_SIZES), "seed": np.arange(seeds)}
    return xr.DataArray(values, coordinates, list(coordinates), name="digits_condition")


def compute(fast: bool) -> xr.Dataset:
    data = xr.merge([_spectra(4 if fast else 20), _digits(*((1, 5) if fast else (DIGITS_SEEDS, 10)))])
    texts = {
        "curvature": ("curvature along the mode", "1 over learning rate"),
        "trace": ("trace of the Hessian", "1 over learning rate"),
        "condition_ratio": "smallest over largest curvature",
        "dead_draws": "draws with a dead mode, left out",
        "digits_condition": "trace over largest eigenvalue of the gradient covariance, mean along a run",
    }
    return described(data, texts, source="jastrzebski2020", examples=float(EXAMPLES), time=TIME, window=WINDOW)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.4)
    (spectrum, condition), (trace, digits) = axes
    number = np.arange(1, MODES + 1)
    for rate in RATES:
        here = data.sel(learning_rate=rate, batch_size=EXAMPLES)
        theory_line(spectrum, number, here.curvature_predicted, color=COLORS[rate])
        measured_points(
            spectrum,
            number,
            here.curvature,
            here.curvature_standard_error,
            color=COLORS[rate],
            label=rf"$\eta={rate:g}$",
        )
    spectrum.set(yscale="log", xlabel="mode", ylabel="curvature", title="only the top is clipped")
    ticks(spectrum.yaxis, [2, 5, 10, 20, 40])
    spectrum.set_xticks([1, 4, 7, 10])
    spectrum.legend()
    for panel, name, label, title in (
        (condition, "condition_ratio", "smallest / largest curvature", "the condition ratio follows the rate"),
        (trace, "trace", "trace of the Hessian", "the trace falls"),
    ):
        for size, color, marker in zip(SIZES, (GREY, PURPLE), ("o", "s"), strict=True):
            here = data.sel(batch_size=size)
            text = "full batch" if size == EXAMPLES else f"batches of {size}"
            style = "-" if size == EXAMPLES else "--"
            theory_line(panel, data.rate_line, here[f"{name}_line_predicted"], color=color, linestyle=style)
            measured_points(
                panel,
                data.learning_rate,
                here[name],
                here[f"{name}_standard_error"],
                color=color,
                marker=marker,
                label=text,
            )
        panel.set(xscale="log", xlabel=r"learning rate  $\eta$", ylabel=label, title=title)
        ticks(panel.xaxis, RATES)
        panel.legend()
    for size, color, marker in zip(DIGITS_SIZES, (BLUE, VERMILION), ("o", "s"), strict=True):
        mean, error = _over_seeds(data.digits_condition.sel(digits_batch_size=size))
        measured_points(digits, data.digits_rate, mean, error, color=color, marker=marker, label=f"batches of {size}")
    digits.set(
        xscale="log",
        xlim=(0.07, 0.6),
        ylim=(0, 1.25 * float(data.digits_condition.max())),
        xlabel=r"learning rate  $\eta$",
        ylabel="trace / top eigenvalue",
        title="digits: worse conditioned gradients",
    )
    ticks(digits.xaxis, DIGITS_RATES)
    digits.legend()
    return figure


def _over_seeds(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    return values.mean("seed"), standard_error(values)


def checks(data: xr.Dataset) -> Iterator[Check]:
    full = data.sel(batch_size=EXAMPLES)
    yield heuristic(
        "full batch: smallest over largest curvature is that of the clipped spectrum, and doubles with the rate"
    ).close(full.condition_ratio_predicted, full.condition_ratio, tolerance=0.05)
    yield heuristic("full batch: the trace of the Hessian is that of the clipped spectrum").close(
        full.trace_predicted, full.trace, tolerance=0.02
    )
    yield heuristic("the smallest curvature is the same at every rate: the bulk is not touched").close(
        full.curvature_predicted.isel(mode=-1), full.curvature.isel(mode=-1), tolerance=0.01
    )
    yield heuristic("the trace of the Hessian falls with the learning rate").negative(np.diff(full.trace))
    if data.sizes["seed"] < DIGITS_SEEDS:  # one run does not tell
        return
    rise = np.log(data.digits_condition).diff("digits_rate").isel(digits_rate=0, drop=True)
    mean, error = _over_seeds(rise)
    few, many = (100 * float(np.expm1(mean.sel(digits_batch_size=size))) for size in DIGITS_SIZES)
    yield heuristic(NOT_SEEN, "jastrzebski2020").positive(
        mean,
        error,
        note=f"logarithm of the ratio of trace over top eigenvalue at rates 0.4 and 0.1, exact covariance, "
        f"{data.sizes['seed']} seeds: {few:+.0f}% on batches of {DIGITS_SIZES[0]}, {many:+.0f}% on {DIGITS_SIZES[1]}",
    )
