r"""Deeper and narrower networks catapult at larger learning rates, wide shallow ones near the walls of the uv network.

Ten steps of full-batch gradient descent on 256 digits. A learning rate is given by :math:`c`, its product with the
sharpness of the very network at its start. For every network, from below: where the loss first rises above its start,
where the sharpness does, where the straight segment from start to end first has a barrier, and the last learning rate
before divergence at which the network still learns. Small points are single networks, triangles those of which only a
bound is known, crosses those whose thresholds are out of order; large points are means over networks. Lines are the
walls of the two-layer linear network on one example.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from figures._check import Check
from figures._network_phases import images, networks, processes
from figures._style import BLACK, BLUE, DOUBLE, GREEN, PURPLE, VERMILION, measured_points, panels, theory_line
from sgdynamics.simulate import trainer
from sgdynamics.theory import uv

ACTIVATIONS = ("relu", "linear")
SHAPES = ((2, 32), (2, 64), (2, 256), (3, 64), (5, 32), (5, 64), (5, 256))
FAST_SHAPES = ((2, 16), (2, 128), (4, 16))
SPACING = 2**0.1

LOOKS = {
    "c_loss": ("loss rises", BLUE, "o", -1.5),
    "c_sharp": ("sharpness rises", GREEN, "s", -0.5),
    "c_barrier": ("barrier on the segment", PURPLE, "^", 0.5),
    "c_max": ("last that learns", VERMILION, "D", 1.5),
}
ORDER = tuple(LOOKS)

# Means and standard deviations over five networks by an independent program, grids of spacing 2^0.1 and 2^0.05.
KNOWN = {
    ("relu", "2 x 256", "c_loss"): (2.30, 0.00),
    ("relu", "5 x 256", "c_loss"): (3.08, 0.25),
    ("relu", "5 x 256", "c_bounded"): (12.7, 0.9),
    ("linear", "2 x 256", "c_loss"): (2.35, 0.04),
    ("linear", "2 x 256", "c_bounded"): (4.20, 0.07),
    ("linear", "5 x 256", "c_loss"): (3.06, 0.23),
    ("linear", "5 x 256", "c_bounded"): (7.2, 1.2),
}
KNOWN_SEEDS = 5


def compute(fast: bool) -> xr.Dataset:
    shapes = networks(*(FAST_SHAPES if fast else SHAPES))
    options = {
        **images(),
        **shapes,
        "c": SPACING ** np.arange(1, 41 if fast else 61),
        "seeds": 3 if fast else 5,
        "processes": processes(),
    }
    landscape = None if fast else SPACING ** np.arange(0, 60, 2)
    standard = [
        trainer.network_thresholds(**options, activation=activation, landscape_c=landscape)
        for activation in ACTIVATIONS
    ]
    data = xr.concat(standard, xr.DataArray(list(ACTIVATIONS), dims="activation", name="activation"))
    zero = trainer.network_thresholds(**options, activation="relu", start="zero_output")
    data = data.assign(zero_output_c_loss=zero.c_loss)
    data = data.assign_coords(depth=shapes["depth"], width=shapes["width"])
    width = np.unique(np.round(np.geomspace(8, 2000, 60)))
    along = xr.DataArray(width, dims="wall_width", coords={"wall_width": width})
    walls = {
        "uv_c_loss": uv.mean_c_loss(along, "hessian"),
        "uv_c_sharp": xr.full_like(along, uv.wide_c_sharp(1.0)),
        "uv_c_max": uv.mean_c_max(along, "hessian"),
    }
    for name, wall in walls.items():
        data[name] = wall.assign_attrs(long_name=name.replace("_", " "), units="1")
    data.wall_width.attrs = {"long_name": "width of the uv network", "units": "1"}
    return data.assign_attrs(source="kalra2023")


def _out_of_order(data: xr.Dataset, low: str, high: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Of which networks both thresholds are known, and of which of them the first is above the second."""
    known = (data[f"{low}_censored"] == 0) & (data[f"{high}_censored"] == 0)
    return known, known & (data[low] > data[high])


def _draw_thresholds(axes: Axes, data: xr.Dataset, along: str) -> None:
    place = {"width": 1 / data.width, "depth": data.depth}[along].values
    span = 0.006 if along == "width" else 0.12
    for name, (label, color, marker, shift) in LOOKS.items():
        if name not in data:
            continue
        height = place + 0.35 * span * shift
        for one in range(data.sizes["seed"]):
            value, side = data[name].isel(seed=one).values, data[f"{name}_censored"].isel(seed=one).values
            for points, sign in ((side == 0, marker), (side > 0, ">"), (side < 0, "<")):
                axes.plot(value[points], height[points], sign, color=color, markersize=2.5, alpha=0.45, mew=0)
        mean, error = data[f"{name}_mean"].values, data[f"{name}_standard_error"].values
        axes.errorbar(
            mean,
            height,
            xerr=np.where(np.isfinite(error), error, 0.0),
            marker=marker,
            linestyle="none",
            color=color,
            markerfacecolor="white",
            markersize=5,
            elinewidth=0.9,
            label=label,
            zorder=3,
        )
    for number, (low, high) in enumerate(itertools.pairwise(ORDER)):
        if high not in data or low not in data:
            continue
        broken = _out_of_order(data, low, high)[1].transpose("network", "seed").values
        where = np.broadcast_to(place[:, None], broken.shape)[broken] + 0.35 * span * (number - 1)
        axes.plot(data[high].transpose("network", "seed").values[broken], where, "x", color=BLACK, markersize=4)
    for name, dashes in (("c_loss", "-"), ("c_sharp", "--"), ("c_max", "-.")):
        wall, color = data[f"uv_{name}"], LOOKS[name][1]
        if along == "width":
            theory_line(axes, wall, 1 / data.wall_width, color=color, linestyle=dashes, linewidth=1)
        else:
            height_of_wall = float(np.interp(64, data.wall_width, wall))
            theory_line(axes, [height_of_wall] * 2, [1.5, 5.5], color=color, linestyle=dashes, linewidth=1)
    axes.set(xscale="log", xlim=(1.7, 70))
    axes.xaxis.set_major_locator(FixedLocator([2, 4, 8, 16, 32, 64]))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw(data: xr.Dataset) -> Figure:
    depth, width = data.depth.values, data.width.values
    deep = depth.max()
    common = max(set(width.tolist()), key=lambda value: (np.sum(width == value), value))
    columns = (
        (depth == 2, "width", "depth 2"),
        (depth == deep, "width", f"depth {deep}"),
        (width == common, "depth", f"width {common}"),
    )
    figure, axes = panels(len(ACTIVATIONS), 3, width=DOUBLE, height=5.0, sharex=True)
    for row, activation in zip(axes, ACTIVATIONS, strict=True):
        for panel, (chosen, along, title) in zip(row, columns, strict=True):
            shown = data.sel(activation=activation).isel(network=np.flatnonzero(chosen))
            _draw_thresholds(panel, shown, along)
            panel.set_title(f"{activation}, {title}")
            if along == "width":
                shares = sorted({int(value) for value in width[chosen]}, reverse=True)
                panel.set_ylim(-0.004, 1 / min(width) + 0.008)
                panel.set_yticks([1 / value for value in shares], [f"1/{value}" for value in shares])
                panel.set_ylabel("1 / width")
            else:
                panel.set(ylim=(1.5, deep + 0.6), ylabel="depth, weight matrices")
                panel.set_yticks(sorted(set(depth[chosen].tolist())))
    for panel in axes[-1]:
        panel.set_xlabel(r"$c$ = rate $\times$ initial sharpness")
    for name, dashes in (("loss rises", "-"), ("sharpness rises", "--"), ("divergence", "-.")):
        theory_line(axes[0, 0], [], [], color=BLACK, linestyle=dashes, linewidth=1, label=f"uv: {name}")
    measured_points(axes[0, 0], [], [], color=BLACK, marker=">", markersize=3, label="only a bound is known")
    axes[0, 0].plot([], [], "x", color=BLACK, markersize=4, label="network out of order")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    present = set(data.network.values.tolist())
    for (activation, network, name), (value, deviation) in KNOWN.items():
        if network not in present:
            continue
        cell = data.sel(activation=activation, network=network)
        error = float(np.hypot(cell[f"{name}_standard_error"], deviation / KNOWN_SEEDS**0.5))
        what = {"c_loss": "where the loss first rises", "c_bounded": "last learning rate before divergence"}[name]
        yield Check.close(
            claim=f"{activation} networks {network}: {what}, as by an independent program",
            source="derived",
            status="heuristic",
            predicted=value,
            measured=cell[f"{name}_mean"],
            absolute=(SPACING - 1) * value + 2 * error,
            note=f"one cell of the grid and two standard errors; {int(cell[f'{name}_censored_count'])} bounds only",
        )
    narrow, wide = ("2 x 32", "2 x 256") if "2 x 32" in present else ("2 x 16", "2 x 128")
    deep = "5 x 32" if "5 x 32" in present else "4 x 16"
    mean = data.c_loss_mean
    yield Check.above(
        claim="narrow networks catapult at larger c than wide ones of two layers",
        source="kalra2023, abstract",
        status="heuristic",
        predicted=mean.sel(network=wide, drop=True),
        measured=mean.sel(network=narrow, drop=True),
    )
    yield Check.above(
        claim="deep networks catapult at larger c than networks of two layers of the same width",
        source="kalra2023, abstract",
        status="heuristic",
        predicted=mean.sel(network=narrow, drop=True),
        measured=mean.sel(network=deep, drop=True),
    )
    yield Check.above(
        claim="no network catapults on average below the wall of the uv network of its width",
        source="derived",
        status="heuristic",
        predicted=uv.mean_c_loss(data.width.astype(float), "hessian").drop_vars(("width", "depth"), errors="ignore"),
        measured=mean.drop_vars(("width", "depth")),
        tolerance=SPACING - 1,
        note="less one cell of the grid",
    )
    first = float(data.c.values[data.c.values > 2][0])
    wide_enough = data.width.values >= 64
    for text, chosen in (("of width 64 and more", wide_enough), ("narrower than 64", ~wide_enough)):
        yield Check.close(
            claim=f"networks {text} that start from zero outputs catapult just above 2, every one",
            source="kalra2023, phase diagrams",
            status="heuristic",
            predicted=first,
            measured=data.zero_output_c_loss.isel(network=np.flatnonzero(chosen)).drop_vars(("width", "depth")),
            absolute=(SPACING - 1 + 1e-9) * first,
            note="within one cell of the first point of the grid above 2",
        )
    if "c_sharp" not in data:
        return
    for text, chosen in (("of width 64 and more", wide_enough), ("narrower than 64", ~wide_enough)):
        some = data.isel(network=np.flatnonzero(chosen))
        for low, high in itertools.pairwise(ORDER):
            counted = (some[f"{low}_censored_count"] + some[f"{high}_censored_count"]) == 0
            step = (some[f"{high}_mean"] - some[f"{low}_mean"]).where(counted).values.ravel()
            step = step[np.isfinite(step)]
            if not step.size:
                continue
            known, broken = (int(found.sum()) for found in _out_of_order(some, low, high))
            yield Check.above(
                claim=f"networks {text}: on average {low} <= {high}, wherever all networks have both",
                source="kalra2023, phase diagrams",
                status="heuristic",
                predicted=0.0,
                measured=step,
                note=f"{step.size} of {counted.size} kinds; {broken} of {known} networks with both are out of order",
            )
