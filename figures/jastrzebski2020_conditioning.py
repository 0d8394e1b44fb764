r"""A larger learning rate clips the top of the spectrum, and only by that the Hessian is better conditioned.

What the paper measures of the gradient covariance :math:`K` is :math:`\operatorname{Tr} K/\lambda_K^1`, from batches of
128 on a twentieth of the data; of the Hessian, the sum of its five largest eigenvalues. So few batches bound the
former by their number less one, about 17 there, and it counts directions above the sampling noise rather than the
flattest one. It reports 14.3 at the rate 0.1 and 10.7 at 0.01, as the largest of a run. On the digits, with 25 batches,
it knows no rate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures._check import Check
from figures._digits_sharpness import COVARIANCE_BATCHES, conditioning, standard_error
from figures._style import BLUE, DOUBLE, GREEN, GREY, PURPLE, VERMILION, measured_points, panels, theory_line
from sgdynamics.models.break_even import SelfStabilizingModes, draw_ensemble
from sgdynamics.simulate.break_even import self_stabilizing_runs
from sgdynamics.theory.break_even import clipped_modes

EXAMPLES, MODES = 512, 10
SHARPENING = 0.01 * 0.7 ** np.arange(MODES)
RATES = (0.05, 0.1, 0.2)
SIZES = (EXAMPLES, 64)
COLORS = dict(zip(RATES, (BLUE, VERMILION, GREEN), strict=True))
# Runs are compared at equal time, averaged over its last share.
TIME, WINDOW = 4000.0, 0.1

DIGITS_RATES, DIGITS_BATCH = (0.1, 0.4), 32
# Time before which the estimate is of the start, not of the run.
DIGITS_SETTLED = 50.0
NOT_SEEN = "digits: the gradient covariance is better conditioned at the larger learning rate"


def _modes(size: int, seed: int) -> SelfStabilizingModes:
    drawn = draw_ensemble(EXAMPLES, relative_variance=0.98, force_deviation=0.05, law="gamma", modes=MODES, seed=seed)
    return SelfStabilizingModes(*drawn, sharpening=SHARPENING, batch_size=size, start_curvature=0.5)


def _runs(rate: float, size: int, draws: int) -> xr.Dataset:
    """Spectrum of runs on several draws of the examples; draws with dead modes are counted and left out."""
    found = [
        self_stabilizing_runs(
            _modes(size, seed), rate, steps=round(TIME / rate), replicas=1, seed=seed, window=WINDOW
        ).isel(replica=0, step=-1, drop=True)
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
    at = xr.DataArray(list(RATES), dims="learning_rate", coords={"learning_rate": list(RATES)})
    fine = xr.DataArray(np.geomspace(0.04, 0.25, 60), dims="rate_line")
    for rates, tail in ((at, ""), (fine, "_line")):
        means = [clipped_modes(_modes(size, 0), rates, times).mean("time") for size in SIZES]
        clipped = xr.concat(means, "batch_size").assign_coords(batch_size=list(SIZES))
        # the ratio of averaged curvatures, as it is measured
        found[f"curvature{tail}_predicted"] = clipped.curvature.drop_vars("mode")
        found[f"trace{tail}_predicted"] = clipped.trace
        found[f"condition_ratio{tail}_predicted"] = clipped.curvature.min("mode") / clipped.curvature.max("mode")
    return found.assign(rate_line=fine)


def _digits(seeds: int) -> xr.Dataset:
    """Trace over largest eigenvalue of the gradient covariance: its largest value after the start, and its mean."""
    found = []
    for rate in DIGITS_RATES:
        paths = [conditioning(rate, DIGITS_BATCH, seed).condition for seed in range(seeds)]
        late = [path.where(path.step * rate >= DIGITS_SETTLED, drop=True) for path in paths]
        largest, mean = (xr.DataArray([float(f(path)) for path in late], dims="seed") for f in (np.max, np.mean))
        found.append(xr.Dataset({"digits_largest": largest, "digits_mean": mean}))
    return xr.concat(found, "digits_rate").assign_coords(digits_rate=list(DIGITS_RATES))


def compute(fast: bool) -> xr.Dataset:
    data = xr.merge([_spectra(4 if fast else 20), _digits(2 if fast else 5)])
    for name, (text, units) in {
        "curvature": ("curvature along the mode", "1 over learning rate"),
        "trace": ("trace of the Hessian", "1 over learning rate"),
        "condition_ratio": ("smallest over largest curvature", "1"),
        "dead_draws": ("draws with a dead mode, left out", "1"),
        "digits_largest": ("largest trace over top eigenvalue of the gradient covariance along a run", "1"),
        "digits_mean": ("mean trace over top eigenvalue of the gradient covariance along a run", "1"),
    }.items():
        data[name].attrs = {"long_name": text, "units": units}
    return data.assign_attrs(source="jastrzebski2020", examples=float(EXAMPLES), time=TIME, window=WINDOW)


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
    spectrum.set_yticks([2, 5, 10, 20, 40], ["2", "5", "10", "20", "40"])
    spectrum.minorticks_off()
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
        panel.set_xticks(list(RATES), [f"{rate:g}" for rate in RATES])
        panel.minorticks_off()
        panel.legend()
    for name, color, marker, text in (
        ("digits_largest", BLUE, "o", "largest along the run"),
        ("digits_mean", VERMILION, "s", "mean along the run"),
    ):
        mean, error = _over_seeds(data[name])
        measured_points(digits, data.digits_rate, mean, error, color=color, marker=marker, label=text)
    digits.axhline(COVARIANCE_BATCHES - 1, color=GREY, linestyle=":", linewidth=0.9)
    digits.text(0.075, COVARIANCE_BATCHES - 1.3, "number of batches less one", color=GREY, fontsize=7, va="top")
    digits.set(
        xscale="log",
        xlim=(0.07, 0.6),
        ylim=(0, 25),
        xlabel=r"learning rate  $\eta$",
        ylabel="trace / top eigenvalue of gradients",
        title="digits: no such trend for gradients",
    )
    digits.set_xticks(list(DIGITS_RATES), [f"{rate:g}" for rate in DIGITS_RATES])
    digits.minorticks_off()
    digits.legend()
    return figure


def _over_seeds(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    return values.mean("seed"), standard_error(values)


def checks(data: xr.Dataset) -> Iterator[Check]:
    full = data.sel(batch_size=EXAMPLES)
    yield Check.close(
        claim="full batch: smallest over largest curvature is that of the clipped spectrum, and doubles with the rate",
        source="derived",
        status="heuristic",
        predicted=full.condition_ratio_predicted,
        measured=full.condition_ratio,
        tolerance=0.05,
    )
    yield Check.close(
        claim="full batch: the trace of the Hessian is that of the clipped spectrum",
        source="derived",
        status="heuristic",
        predicted=full.trace_predicted,
        measured=full.trace,
        tolerance=0.02,
    )
    yield Check.close(
        claim="the smallest curvature is the same at every rate: the bulk is not touched",
        source="derived",
        status="heuristic",
        predicted=full.curvature_predicted.isel(mode=-1),
        measured=full.curvature.isel(mode=-1),
        tolerance=0.01,
    )
    yield Check.sign(
        claim="the trace of the Hessian falls with the learning rate",
        source="derived",
        status="heuristic",
        predicted=-1,
        measured=np.diff(full.trace),
    )
    rise = data.digits_largest.isel(digits_rate=1) - data.digits_largest.isel(digits_rate=0)
    mean, error = _over_seeds(rise)
    yield Check.sign(
        claim=NOT_SEEN,
        source="jastrzebski2020",
        status="heuristic",
        predicted=1,
        measured=float(mean),
        standard_error=float(error),
        note="trace over largest eigenvalue from 25 batches of 128; largest value along runs of equal time",
    )
    yield Check.below(
        claim="digits: that measure is at most the number of batches less one",
        source="derived",
        status="bound",
        predicted=float(COVARIANCE_BATCHES - 1),
        measured=data.digits_largest,
    )
