"""The largest learning rate that runs of two linear layers survive, by target and by width: closed form and scans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from figures.engine.check import Check, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREY, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.style import measured_points, theory_line, ticks
from sgdynamics.models.uv import UVNetwork
from sgdynamics.simulate.uv import phase_diagram, thresholds, trajectory
from sgdynamics.theory.uv import critical_learning_rate, largest_learning_rate, mean_largest_c

# Width to infinity at p = 1, output 0 and kernel 2 at the start.
OTHER_TARGETS = elsewhere("largest_rate_by_target")
START_NTK = 2.0
LARGEST_TARGET = 4.0
TARGETS = np.sort([*OTHER_TARGETS.values, 0.25, 0.8, 1.25, 2.5, 3.5])
SETTLED = 1e-3

# Neural tangent parametrization.
WIDTH_TARGET = 2.0
OTHER_WIDTHS = elsewhere("largest_rate_by_width").under("ntk")


def over_targets(spacing: float, steps: int) -> xr.Dataset:
    """Scan the learning rate from below for each target, for a network of infinite width at p = 1 and output 0."""
    # not at c = 1, from where the first step lands on the target, be it stable or not
    c = xr.DataArray(np.arange(spacing / 2, 4.2, spacing), dims="c")
    survives, settles = [], []
    for target in TARGETS:
        run = trajectory(0.0, START_NTK, c / START_NTK, kappa=1.0, target=float(target), steps=steps)
        gone = (run.divergence_step >= 0).values
        swing = (run.output.isel(step=slice(-50, None)) - float(target)).values
        still = np.all(np.abs(swing) < SETTLED, axis=-1)
        survives.append(float(c[gone.argmax() - 1] + spacing / 2))
        settles.append(float(c[(~still).argmax() - 1] + spacing / 2))
    targets = xr.DataArray(TARGETS, dims="target")
    largest = START_NTK * largest_learning_rate(0.0, START_NTK, 1.0, targets)
    critical = START_NTK * critical_learning_rate(1.0, targets)
    return xr.Dataset(
        {
            "c_max": largest,
            "c_max_measured": ("target", survives),
            "c_stable": np.minimum(critical, largest),
            "c_stable_measured": ("target", settles),
        },
        coords={"target": TARGETS},
        attrs={"target_spacing": spacing},
    )


def over_widths(spacing: float, networks: int) -> xr.Dataset:
    """Network by network, by scanning the learning rate from below."""
    widths = np.array(list(OTHER_WIDTHS.values))
    grid = np.arange(spacing / 2, 8 + spacing, spacing)  # 8 is never exceeded
    found = phase_diagram(grid, widths, steps=1000, seeds=networks, units="ntk", target=WIDTH_TARGET, seed=5)
    read = thresholds(found)
    # the output of the start, from its sharpness at this target and at target 0
    other = phase_diagram(1.0, widths, steps=1, seeds=networks, units="ntk", target=0.0, seed=5)
    kappa = xr.DataArray(1 / widths, dims="width")
    other = other.drop_vars("c", errors="ignore")
    ntk = other.initial_ntk

    def bend(sharpness: xr.DataArray) -> xr.DataArray:  # (f - y)(3f - y)
        bent: xr.DataArray = sharpness * (sharpness - ntk) / kappa
        return bent

    bends = bend(other.initial_sharpness) - bend(found.initial_sharpness.isel(c=0, drop=True))
    output = (bends + WIDTH_TARGET**2) / (4 * WIDTH_TARGET)
    single = ntk * largest_learning_rate(output, ntk, kappa, WIDTH_TARGET)
    curve = xr.DataArray(np.unique(np.geomspace(4, 512, 40).round()), dims="curve_width")
    return (
        xr.Dataset(
            {
                "width_c_max": single,
                "width_c_max_measured": read.c_max + spacing / 2,
                "width_mean": read.c_max_mean + spacing / 2,
                "width_standard_error": read.c_max_standard_error,
                "curve_mean": mean_largest_c(curve, WIDTH_TARGET / curve**0.5 / UVNetwork(1).mean_ntk),
            },
        )
        .assign_coords(curve_width=curve.values)
        .assign_attrs(width_spacing=spacing)
    )


def draw_largest_rates(over_targets: Axes, over_widths: Axes, data: xr.Dataset) -> None:
    """By target, and by width."""
    y = np.linspace(0.02, LARGEST_TARGET, 300)
    largest = START_NTK * largest_learning_rate(0.0, START_NTK, 1.0, y)
    stable = np.minimum(START_NTK * critical_learning_rate(1.0, y), largest)
    over_targets.fill_between(y, 0, stable, color="#DCE9F5", linewidth=0)
    over_targets.fill_between(y, stable, largest, color="#F6D9A0", linewidth=0)
    over_targets.fill_between(y, largest, 5, color="#C9C9C9", linewidth=0)
    theory_line(over_targets, y, largest, color=VERMILION)
    theory_line(over_targets, y[y > 2 / 3], stable[y > 2 / 3], color=BLUE)
    for name, color in (("c_stable", BLUE), ("c_max", VERMILION)):
        here = data[f"{name}_measured"]
        bar = float(data.attrs["target_spacing"]) / 2
        if name == "c_stable":
            here = here.where(data.target > 2 / 3, drop=True)
        measured_points(over_targets, here.target, here, bar, color=color)
    over_targets.text(2.6, 2.6, "escapes", ha="center")
    over_targets.text(0.75, 0.75, "settles", ha="center")
    over_targets.annotate(
        "oscillates for ever", (1.5, 1.65), (1.9, 1.95), ha="left", arrowprops={"arrowstyle": "-", "lw": 0.6}
    )
    over_targets.set(
        xlim=(0, LARGEST_TARGET),
        ylim=(0, 4.2),
        xlabel="target $y$",
        ylabel=r"$c$ = learning rate $\times$ initial kernel",
        title="infinite width, zero output: exact walls",
    )

    theory_line(over_widths, data.curve_width, data.curve_mean, color=VERMILION, label="closed form, mean")
    measured_points(
        over_widths,
        data.width,
        data.width_mean,
        data.width_standard_error,
        color=VERMILION,
        label="mean over networks",
    )
    some = data[["width_c_max", "width_c_max_measured"]].isel(seed=slice(0, 300))
    over_widths.set(
        xscale="log",
        xlabel="width $n$",
        ylabel="largest $c$ survived",
        title=f"random networks, target {WIDTH_TARGET:g}",
        ylim=(2.2, 4.1),
    )
    ticks(over_widths.xaxis, [4, 16, 64, 256])
    over_widths.axhline(4, color=GREY, linestyle=":", linewidth=0.9)
    over_widths.text(4, 3.98, "target 0, any width", color=GREY, va="top", fontsize=7)
    over_widths.legend(loc="lower right", bbox_to_anchor=(1.0, 0.53), fontsize=7)
    inset = over_widths.inset_axes((0.6, 0.19, 0.38, 0.28))
    inset.plot([0, 6], [0, 6], color=VERMILION, linewidth=1.0, zorder=2)
    inset.plot(
        some.width_c_max.values.ravel(),
        some.width_c_max_measured.values.ravel(),
        ".",
        color=BLACK,
        markersize=2.5,
        markeredgewidth=0,
        rasterized=True,
        zorder=3,
    )
    inset.set(xlim=(0, 6), ylim=(0, 6), xticks=[0, 2, 4, 6], yticks=[0, 2, 4, 6])
    inset.tick_params(labelsize=6)
    inset.set_xlabel("closed form", fontsize=6.5, labelpad=1)
    inset.set_ylabel("survived", fontsize=6.5, labelpad=1)
    inset.set_title("network by network", fontsize=6.5, pad=2)


def checks_of_largest_rates(data: xr.Dataset) -> Iterator[Check]:
    """The measured rates against the closed form, and against runs made elsewhere."""
    spacing = float(data.attrs["target_spacing"])
    for name, text in (("c_max", "that runs survive"), ("c_stable", "at which runs settle")):
        yield exact(f"largest rate {text}, by target, at infinite width").close(
            data[name], data[f"{name}_measured"], absolute=spacing / 2 + 1e-9, note="half a spacing of the scan"
        )
    known_targets = np.array(list(OTHER_TARGETS.values))
    yield heuristic("largest rate that runs survive, by target: as in runs made elsewhere").close(
        list(OTHER_TARGETS.values.values()),
        data.c_max_measured.sel(target=known_targets).values,
        absolute=0.01,
    )
    spacing = float(data.attrs["width_spacing"])
    yield exact("largest rate that each of many random networks survives, widths 4 to 512, target 2").close(
        data.width_c_max,
        data.width_c_max_measured,
        scale=1.0,
        absolute=spacing / 2 + 1e-6,
        note="half a spacing of the scan",
    )
    known_widths = np.array(list(OTHER_WIDTHS.values))
    yield exact("mean over networks of the largest rate survived, by width").statistical(
        mean_largest_c(data.width, WIDTH_TARGET / data.width**0.5 / UVNetwork(1).mean_ntk),
        data.width_mean,
        data.width_standard_error + spacing / 8,
        "mean",
        weakest=0.1,
        reason="as many networks as the scan has, and half a spacing of it",
    )
    yield heuristic("mean over networks of the largest rate survived, by width: as in runs made elsewhere").close(
        list(OTHER_WIDTHS.values.values()),
        data.width_mean.sel(width=known_widths).values,
        absolute=0.03 + 4 * data.width_standard_error.sel(width=known_widths).values,
    )
