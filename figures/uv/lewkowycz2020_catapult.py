r"""Between 2 and 4 the loss is thrown up in proportion to the width, and the kernel comes down on the far side of 2.

Two linear layers, one example, target 0. A learning rate is given by :math:`c`, its product with the kernel
:math:`\lambda` of the very network at the start. Left above, the loss: it grows as in a linear model until it is of the
order of the width. Right above, the kernel at the end: just beyond 2 it is reflected, to :math:`4-c`; further on it
lies in a band, within which it depends on the logarithm of the width periodically. Beyond 4 runs diverge, whatever the
width. Below, how high the loss is thrown and how long it takes. Bars in the panels of kernel and height are the spread
over networks, one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from figures.uv._starts import random_starts
from sgdynamics.models.uv import UVNetwork
from sgdynamics.outcome import Outcome
from sgdynamics.simulate.uv import phase_diagram, trajectory
from sgdynamics.theory.uv import catapult_final_ntk, mirror_ntk, peak_square_output, peak_time

# Rate and width of the runs whose loss is drawn: all from the start of median alignment.
RUNS = {
    (1.6, 4096): (GREY, "s"),
    (2.5, 64): (GREEN, "^"),
    (2.5, 4096): (BLUE, "o"),
    (2.5, 262144): (PURPLE, "v"),
    (4.05, 4096): (VERMILION, "X"),
}
RUN_STEPS = 34

WIDTHS = {64: (GREEN, "^"), 4096: (BLUE, "o"), 1048576: (PURPLE, "v")}
MEASURED_C = (1.5, 1.8, 2.05, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8, 2.9, 3.0, 3.1, 3.2, 3.4, 3.6, 3.8, 3.95)
STEPS = 3000

TINY = 1e-6
# At infinite width, and over networks.
OTHER_KERNELS, OTHER_PEAKS = elsewhere("catapult_kernel"), elsewhere("catapult_peak")
OTHER_TIMES = elsewhere("catapult_time")

# From here on the end depends finely on the start: many starts over one period, and steps that settle nearly all.
FINE, FEW, MANY, FINE_STEPS = 3.2, 32, 1000, 150

TIME_WIDTHS = tuple(2**power for power in (9, 12, 15, 18, 21))
TIME_C = {2.2: (ORANGE, 150), 2.5: (BLUE, 70), 3.0: (GREEN, 45)}

AROUND_FOUR = (3.99, 4.01)
NARROW_AND_WIDE = (1, 2, 8, 64, 4096)


def _runs() -> xr.Dataset:
    """The loss over that at the start, step by step."""
    c, width = (xr.DataArray([run[i] for run in RUNS], dims="run") for i in range(2))
    model = UVNetwork(width.astype(float))
    output, ntk = model.start(0.75, 0.5)
    found = trajectory(output, ntk, c / ntk, kappa=model.kappa, steps=RUN_STEPS)
    ratio = (found.loss / found.loss.isel(step=0, drop=True)).where(found.loss < 1e30)
    return xr.Dataset({"loss_ratio": ratio, "run_c": c, "run_width": width})


def _scaled(found: xr.Dataset) -> xr.Dataset:
    """Kernel at the end and largest square of the output, in units of the learning rate, of every network."""
    over_ntk = found.initial_sharpness / found.initial_ntk
    start = found.c**2 * over_ntk * (over_ntk - 1) / 3
    return xr.Dataset(
        {
            # with the output gone, the top Hessian eigenvalue is the kernel
            "final_ntk": found.c * found.final_sharpness / found.initial_ntk,
            "peak": found.peak_loss_ratio * start,
        }
    )


def _phases(c: xr.DataArray, count: int) -> xr.DataArray:
    """Tiny starts over one period: one that is smaller by the growth of one step only comes a step later."""
    start: xr.DataArray = TINY * (c - 1) ** -xr.DataArray(np.arange(count) / count, dims="phase")
    return start


def _band(values: np.ndarray, dim: str) -> xr.Dataset:
    """Smallest and largest kernel at the end that infinite width allows."""
    c = axis(dim, values)
    coarse, fine = c[values <= FINE], c[values > FINE]
    end = catapult_final_ntk(coarse, _phases(coarse, FEW))
    low, high = [end.min("phase")], [end.max("phase")]
    for one in fine:
        # learning rate and kappa 1
        end = trajectory(_phases(one, MANY), one, 1.0, kappa=1.0, steps=FINE_STEPS).ntk.isel(step=-1, drop=True)
        low.append(end.min("phase").expand_dims(dim))
        high.append(end.max("phase").expand_dims(dim))
    return xr.Dataset({"low": xr.concat(low, dim), "high": xr.concat(high, dim)})


def _over_rates(seeds: int, points: int) -> xr.Dataset:
    """Spread over networks of each width, and what infinite width allows."""
    found = _scaled(phase_diagram(np.array(MEASURED_C), np.array(list(WIDTHS)), steps=STEPS, seeds=seeds, units="ntk"))
    along = _band(np.linspace(2.04, 3.98, points), "curve_c")
    catapults = [c for c in MEASURED_C if c > 2]
    there = _band(np.array(catapults), "c")
    wide = found.final_ntk.sel(width=max(WIDTHS), c=catapults, drop=True)
    beyond = np.maximum(wide - there.high, there.low - wide)
    peak = found.peak.sel(c=[c for c in catapults if c <= 3]).rename(c="peak_c") / 2
    excess = np.geomspace(0.04, 1.1, 60)
    c = xr.DataArray(2 + excess, dims="excess", coords={"excess": excess})
    # learning rate and kappa 1
    tiny = trajectory(_phases(c, 16), c, 1.0, kappa=1.0, steps=900)
    return xr.Dataset(
        {
            "final_mean": found.final_ntk.mean("seed"),
            "final_spread": found.final_ntk.std("seed", ddof=1),
            "peak_mean": peak.mean("seed"),
            "peak_spread": peak.std("seed", ddof=1),
            "peak_infinite": tiny.loss.max("step").mean("phase"),
            "band_low": along.low,
            "band_high": along.high,
            "outside": (beyond > 0.02).mean("seed").rename(c="band_c"),
        },
    )


def _infinite_width() -> xr.Dataset:
    """One orbit of the map from a tiny output, and the approach to the laws just above 2."""
    c = xr.DataArray(list(OTHER_KERNELS.values), dims="known_c")
    c = c.assign_coords(known_c=c.values)
    near = xr.DataArray([2.02, 2.04], dims="near_c")
    peaks = {}
    for name, rates in (("known", c), ("near", near)):
        run = trajectory(TINY, rates, 1.0, kappa=1.0, steps=4000)
        peaks[f"{name}_final"] = run.ntk.isel(step=-1, drop=True)
        peaks[f"{name}_peak"] = 2 * run.loss.max("step")
    gap = mirror_ntk(near) - peaks["near_final"]
    return xr.Dataset(
        {
            "known_final": peaks["known_final"],
            "known_peak": peaks["known_peak"],
            "known_predicted": catapult_final_ntk(c, TINY),
            "mirror_order": np.log2(gap.isel(near_c=1) / gap.isel(near_c=0)),
            "near_peak": peaks["near_peak"] / peak_square_output(near),
        }
    )


def _peak_times(networks: int) -> xr.Dataset:
    """Mean number of steps to the largest loss, by rate and width."""
    mean = np.empty((len(TIME_C), len(TIME_WIDTHS)))
    error = np.empty_like(mean)
    for i, (c, (_, steps)) in enumerate(TIME_C.items()):
        for j, width in enumerate(TIME_WIDTHS):
            times = []
            for block in range(0, networks, 2000):
                model = UVNetwork(width)
                output, ntk = random_starts(model, min(2000, networks - block), seed=1000 * width + block)
                run = trajectory(output, ntk, c / ntk, kappa=model.kappa, steps=steps)
                times.append(run.loss.argmax("step").values)
            time = np.concatenate(times)
            mean[i, j], error[i, j] = time.mean(), time.std(ddof=1) / time.size**0.5
    log_width = np.log(TIME_WIDTHS)
    weights = (log_width - log_width.mean()) / ((log_width - log_width.mean()) ** 2).sum()
    return xr.Dataset(
        {
            "time_mean": (("time_c", "time_width"), mean),
            "time_standard_error": (("time_c", "time_width"), error),
            "time_slope": ("time_c", mean @ weights),
            "time_slope_standard_error": ("time_c", np.sqrt(error**2 @ weights**2)),
        },
        coords={"time_c": list(TIME_C), "time_width": list(TIME_WIDTHS)},
    )


def _around_four(seeds: int) -> xr.DataArray:
    """Share of runs that diverge just below and just above 4."""
    found = phase_diagram(np.array(AROUND_FOUR), np.array(NARROW_AND_WIDE), steps=20_000, seeds=seeds, units="ntk")
    share: xr.DataArray = (found.outcome == Outcome.DIVERGED).mean("seed")
    return share.rename(c="side_c", width="side_width")


def compute(fast: bool) -> xr.Dataset:
    parts = [
        _runs(),
        _over_rates(400 if fast else 2000, 150 if fast else 400),
        _infinite_width(),
        _peak_times(20_000 if fast else 40_000),
        _around_four(200 if fast else 1000).to_dataset(name="share_diverged"),
    ]
    data = xr.merge(parts, combine_attrs="drop_conflicts", compat="no_conflicts", join="outer")
    return described(data, source="lewkowycz2020")


def _power(width: int) -> str:
    return f"2^{{{int(np.log2(width))}}}"


def draw(data: xr.Dataset) -> Figure:
    figure, ((loss, final), (height, time)) = panels(2, 2, width=DOUBLE, height=5.2)
    for number, ((c, _), (color, marker)) in enumerate(RUNS.items()):
        ratio = data.loss_ratio.isel(run=number).dropna("step")
        linear = (c - 1) ** (2 * ratio.step)
        top = int(ratio.argmax("step")) if 2 < c < 4 else len(ratio) - 1
        theory_line(loss, ratio.step[: top + 1], linear[: top + 1], color=color, linewidth=1.0)
        loss.plot(ratio.step, ratio, color=color, linewidth=0.4, alpha=0.7)
        measured_points(loss, ratio.step, ratio, color=color, marker=marker)
    loss.set(yscale="log", xlim=(-0.5, 27), ylim=(1e-5, 1e7), xlabel="step", ylabel="loss / loss at the start")
    loss.set_title("the loss peaks in proportion to the width")
    look: dict[str, Any] = {"fontsize": 7}
    loss.text(12.3, 3e5, f"$c=2.5$, $n={_power(262144)}$", color=PURPLE, **look)
    loss.text(12.3, 4e3, f"$n={_power(4096)}$", color=BLUE, **look)
    loss.text(8.7, 50, f"$n={_power(64)}$", color=GREEN, **look)
    loss.text(8.0, 2e6, "$c=4.05$", color=VERMILION, **look)
    loss.text(4.3, 1e-4, "$c=1.6$", color="#555555", ha="right", **look)

    curve = data.curve_c
    lazy = np.linspace(1.4, 2, 10)
    final.fill_between(curve, data.band_low, data.band_high, color="#D9D9D9", linewidth=0)
    theory_line(final, lazy, lazy, color=BLACK, label="infinite width, exact")
    middle = (data.band_low + data.band_high) / 2
    sharp = (data.band_high - data.band_low) < 0.02
    theory_line(final, curve.where(sharp), middle.where(sharp), color=BLACK)
    ahead = np.linspace(2, 4, 20)
    theory_line(final, ahead[1:-1], mirror_ntk(ahead[1:-1]), color=VERMILION, linestyle="--", label="mirror, $4 - c$")
    final.fill_between([], [], color="#D9D9D9", label="range over starts")
    for shift, (width, (color, marker)) in zip((-0.012, 0.0, 0.012), WIDTHS.items(), strict=True):
        here = data.sel(width=width)
        measured_points(
            final,
            data.c + shift,
            here.final_mean,
            here.final_spread,
            color=color,
            marker=marker,
            label=f"$n = {_power(width)}$",
        )
    final.axvspan(4, 4.3, color="#9A9A9A", linewidth=0)
    final.text(4.15, 1.1, "diverges, any width", rotation=90, ha="center", va="center", color="white")
    final.axhline(2, color=GREY, linewidth=0.6, linestyle=":")
    final.set(xlim=(1.4, 4.3), ylim=(0, 2.95), ylabel=r"$\eta\lambda$ at the end")
    final.set_xlabel(r"$c$ = learning rate $\times$ initial kernel")
    final.set_title("the kernel comes down beyond $c = 2$")
    final.legend(loc="upper left", ncols=2, columnspacing=1.0, bbox_to_anchor=(0.0, 1.03))
    final.text(1.45, 0.08, "bars: spread over networks", fontsize=7)

    excess = data.excess
    theory_line(
        height, excess, peak_square_output(2 + excess) / 2, color=VERMILION, linestyle="--", label="$(c-2)^2/4$"
    )
    theory_line(height, excess, data.peak_infinite, color=BLACK, label="infinite width, iterated")
    for width, (color, marker) in WIDTHS.items():
        here = data.sel(width=width)
        # where the spread is larger, most losses fall from the start on
        mean = here.peak_mean.where(here.peak_spread < here.peak_mean / 3)
        measured_points(height, data.peak_c - 2, mean, here.peak_spread, color=color, marker=marker)
    height.set(xscale="log", yscale="log", xlabel="$c - 2$", ylabel=r"$\eta^2$ peak loss / width")
    height.set_title("how high: one curve for all widths")
    ticks(height.xaxis, [0.05, 0.1, 0.2, 0.5, 1])
    height.legend(loc="lower right")

    for c, (color, _) in TIME_C.items():
        here = data.sel(time_c=c)
        widths = 2.0 ** np.arange(8, 23)
        middle = TIME_WIDTHS[2]
        shift = float(here.time_mean.sel(time_width=middle)) - peak_time(c, middle)
        theory_line(time, widths, peak_time(c, widths) + shift, color=color)
        measured_points(time, data.time_width, here.time_mean, here.time_standard_error, color=color)
        time.text(widths[-1] * 1.4, peak_time(c, widths[-1]) + shift, f"$c = {c}$", color=color, va="center")
    time.set(xscale="log", xlabel="width $n$", ylabel="mean steps to the peak", xlim=(150, 2**27), ylim=(0, 42))
    time.set_title(r"how long: $\ln n \, / \, 2\ln(c-1)$ + constant")
    time.text(200, 38, "lines through the middle point", fontsize=7)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("runs diverge at no width for c = 3.99 and at every width for c = 4.01").close(
        xr.DataArray([0.0, 1.0], dims="side_c", coords={"side_c": data.side_c}),
        data.share_diverged,
        note="widths 1, 2, 8, 64 and 4096",
    )
    yield exact("kernel at the end from a tiny output: theory's iteration and the simulation").close(
        data.known_predicted, data.known_final, absolute=1e-9
    )
    for other, name, text, relative, absolute in (
        (OTHER_KERNELS, "known_final", "kernel at the end", 0.0, 6e-4),
        (OTHER_PEAKS, "known_peak", "largest square of the scaled output", 0.015, 0.0),
    ):
        yield heuristic(f"{text} at infinite width, c = 2.05 to 2.5: as in runs made elsewhere").close(
            list(other.values.values()), data[name].values, tolerance=relative, absolute=absolute
        )
    yield asymptotic("just above 2 the kernel is reflected to 4 - c, with an error of order (c - 2)^2").close(
        2.0, data.mirror_order, absolute=0.1, note="power of c - 2 in the gap, between c = 2.02 and 2.04"
    )
    yield asymptotic("just above 2 the largest square of the scaled output is (c - 2)^2/2").close(
        1.0,
        2 * data.near_peak.isel(near_c=0) - data.near_peak.isel(near_c=1),
        absolute=0.005,
        note="ratio, extrapolated to c = 2 from 2.02 and 2.04",
    )
    yield asymptotic("share of networks of width 2^20 whose final kernel is outside the range at infinite width").below(
        0.01, data.outside, note="by more than 0.02"
    )
    few = data.peak_mean.sel(peak_c=2.5)
    yield asymptotic(
        "the peak loss is proportional to the width: widths 4096 and 2^20 at c = 2.5", "lewkowycz2020"
    ).close(
        1.0, few.sel(width=4096) / few.sel(width=1048576), absolute=0.02, note="ratio of the peaks, each over its width"
    )
    yield asymptotic("steps to the peak per unit of ln(width): 1/(2 ln(c - 1))").statistical(
        0.5 / np.log(data.time_c - 1), data.time_slope, data.time_slope_standard_error, "mean"
    )
    widths = np.array(list(OTHER_TIMES.values))
    yield heuristic("mean steps to the peak, c = 2.5, widths 512 and 32768: as in runs made elsewhere").close(
        list(OTHER_TIMES.values.values()), data.time_mean.sel(time_c=2.5, time_width=widths).values, absolute=0.4
    )
