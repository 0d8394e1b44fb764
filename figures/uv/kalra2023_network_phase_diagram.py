r"""Deeper and narrower networks catapult at larger learning rates, wide shallow ones near the walls of the uv network.

Ten steps of full-batch gradient descent on 256 digits. A learning rate is given by :math:`c`, its product with the
sharpness of the very network at its start. For every network, from below: where the loss first rises above its start,
where the sharpness does, where the straight segment from start to end first has a barrier, and the last learning rate
before divergence at which the network still learns. Small points are single networks, triangles those of which only a
bound is known, crosses those whose thresholds are out of order; large points are means over networks. Lines are the
walls of the two-layer linear network on one example. Of the largest networks the loss alone is followed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, PURPLE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from figures.uv._network_phases import images, networks, processes
from sgdynamics.simulate import trainer
from sgdynamics.theory import uv

LONG = True

ACTIVATIONS: tuple[Any, ...] = ("relu", "linear")
SHAPES = ((2, 32), (2, 64), (2, 256), (3, 64), (5, 32), (5, 64))
FAST_SHAPES = ((2, 16), (2, 128), (4, 16))
# The loss alone is followed: sharpness and barrier of these cost more than those of all others together.
LARGE_SHAPES = ((5, 256),)
SPACING = 2**0.1
# From zero outputs: two layers, by width, on a finer grid from 2 on.
ZERO_WIDTHS = (16, 32, 64, 128, 256, 512)
ZERO_SPACING = 2**0.025
ZERO_STARTS = 20
# Narrow networks differ so much that only many starts tell the order of their thresholds.
NARROW, NARROW_STARTS = (2, 32), 100

LOOKS = {
    "c_loss": ("loss rises", BLUE, "o", -1.5),
    "c_sharp": ("sharpness rises", GREEN, "s", -0.5),
    "c_barrier": ("barrier on the segment", PURPLE, "^", 0.5),
    "c_max": ("last that learns", VERMILION, "D", 1.5),
}
ORDER = tuple(LOOKS)

# Over five networks.
OTHER_THRESHOLDS = elsewhere("network_thresholds")
OTHER_SEEDS = 5


def compute(fast: bool) -> xr.Dataset:
    if fast:
        data = _standard(FAST_SHAPES, SPACING ** np.arange(1, 41), seeds=3)
    else:
        c, some = SPACING ** np.arange(1, 61), SPACING ** np.arange(0, 60, 2)
        parts = [_standard(SHAPES, c, seeds=5, landscape_c=some), _standard(LARGE_SHAPES, c, seeds=5)]
        data = xr.concat(parts, "network", combine_attrs="override")
    data = data.assign(zero_output_c_loss=_from_zero_outputs(fast))
    if not fast:
        data = data.merge(_narrow_starts())
    width = np.unique(np.round(np.geomspace(8, 2000, 60)))
    along = axis("wall_width", width)
    walls = {
        "uv_c_loss": uv.mean_c_loss(along, "hessian"),
        "uv_c_sharp": xr.full_like(along, uv.wide_c_sharp(1.0)),
        "uv_c_max": uv.mean_c_max(along, "hessian"),
    }
    return described(data.assign(walls), {"wall_width": "width of the uv network"}, source="kalra2023")


def _standard(shapes: tuple[tuple[int, int], ...], c: NDArray[Any], **options: Any) -> xr.Dataset:
    """Thresholds of networks that start as usual, by activation and network."""
    chosen = networks(*shapes)
    options = {**images(), **chosen, **options, "c": c, "processes": processes()}
    found = [trainer.network_thresholds(**options, activation=activation) for activation in ACTIVATIONS]
    data = xr.concat(found, xr.DataArray(list(ACTIVATIONS), dims="activation", name="activation"))
    return data.assign_coords(depth=chosen["depth"], width=chosen["width"])


def _from_zero_outputs(fast: bool) -> xr.DataArray:
    """Where the loss of two-layer networks that start from zero outputs first rises, by width and start."""
    found = trainer.network_thresholds(
        **images(),
        depth=2,
        width=list(ZERO_WIDTHS[:4] if fast else ZERO_WIDTHS),
        c=2 * ZERO_SPACING ** np.arange(1, 25),
        seeds=4 if fast else ZERO_STARTS,
        activation="relu",
        start="zero_output",
        processes=processes(),
    )
    value: xr.DataArray = found.c_loss.rename(width="zero_width", seed="zero_seed")
    return value


def _narrow_starts() -> xr.Dataset:
    """Where loss and sharpness of a narrow network first rise, over many starts."""
    depth, width = NARROW
    found = trainer.network_thresholds(
        **images(),
        depth=depth,
        width=width,
        c=SPACING ** np.arange(1, 33),
        landscape_c=SPACING ** np.arange(0, 33, 2),
        seeds=NARROW_STARTS,
        activation="relu",
        processes=processes(),
    )
    names = ("c_loss", "c_sharp", "c_loss_censored", "c_sharp_censored")
    renamed = found[list(names)].rename({name: f"narrow_{name}" for name in names} | {"seed": "narrow_seed"})
    return renamed.drop_vars(("depth", "width"), errors="ignore")


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
    for (activation, network, name), value in OTHER_THRESHOLDS.values.items():
        if network not in present:
            continue
        cell = data.sel(activation=activation, network=network)
        deviation = OTHER_THRESHOLDS.errors[activation, network, name]
        error = float(np.hypot(cell[f"{name}_standard_error"], deviation / OTHER_SEEDS**0.5))
        what = {"c_loss": "where the loss first rises", "c_bounded": "last learning rate before divergence"}[name]
        yield heuristic(f"{activation} networks {network}: {what}, as in networks trained elsewhere").close(
            value,
            cell[f"{name}_mean"],
            absolute=(SPACING - 1) * value + 2 * error,
            note=f"one cell of the grid and two standard errors; {int(cell[f'{name}_censored_count'])} bounds only",
        )
    narrow, wide = ("2 x 32", "2 x 256") if "2 x 32" in present else ("2 x 16", "2 x 128")
    deep = "5 x 32" if "5 x 32" in present else "4 x 16"
    mean = data.c_loss_mean
    yield heuristic("narrow networks catapult at larger c than wide ones of two layers", "kalra2023, abstract").above(
        mean.sel(network=wide, drop=True), mean.sel(network=narrow, drop=True)
    )
    yield heuristic(
        "deep networks catapult at larger c than networks of two layers of the same width", "kalra2023, abstract"
    ).above(mean.sel(network=narrow, drop=True), mean.sel(network=deep, drop=True))
    yield heuristic("no network catapults on average below the wall of the uv network of its width").above(
        uv.mean_c_loss(data.width.astype(float), "hessian").drop_vars(("width", "depth"), errors="ignore"),
        mean.drop_vars(("width", "depth")) / SPACING,
        note="the last point of the grid at which the loss does not rise",
    )
    from_zero = data.zero_output_c_loss
    yield heuristic(
        "two-layer networks of width 128 and more that start from zero outputs catapult just above 2, every one",
        "kalra2023, phase diagrams",
    ).close(
        2.0,
        from_zero.sel(zero_width=[width for width in from_zero.zero_width.values if width >= 128]),
        tolerance=0.1,
        note="in ten steps the loss rises above its start from somewhat above 2 on",
    )
    mean = from_zero.mean("zero_seed")
    yield heuristic("the narrower, the further above: their mean c_loss falls with the width from 32 to 128").negative(
        mean.sel(zero_width=slice(32, 128)).diff("zero_width"),
        note=", ".join(f"{int(width)}: {float(mean.sel(zero_width=width)):.3f}" for width in mean.zero_width),
    )
    if from_zero.sizes["zero_seed"] >= ZERO_STARTS:
        yield _law_of_the_width(from_zero)
    if "narrow_c_loss" in data:  # a few starts say nothing
        yield from _order_of_narrow_starts(data)
    if "c_sharp" not in data:
        return
    wide_enough = data.width.values >= 64
    for text, chosen in (("of width 64 and more", wide_enough), ("narrower than 64", ~wide_enough)):
        some = data.isel(network=np.flatnonzero(chosen))
        for low, high in itertools.pairwise(ORDER):
            if (text, low) == ("narrower than 64", "c_loss"):
                continue  # five starts do not tell
            counted = (some[f"{low}_censored_count"] + some[f"{high}_censored_count"]) == 0
            step = (some[f"{high}_mean"] - some[f"{low}_mean"]).where(counted).values.ravel()
            step = step[np.isfinite(step)]
            if not step.size:
                continue
            known, broken = (int(found.sum()) for found in _out_of_order(some, low, high))
            yield heuristic(
                f"networks {text}: on average {low} <= {high}, wherever all networks have both",
                "kalra2023, phase diagrams",
            ).above(
                0.0,
                step,
                note=f"{step.size} of {counted.size} kinds; {broken} of {known} networks with both are out of order",
            )


def _law_of_the_width(from_zero: xr.DataArray) -> Check:
    """How the excess over 2 falls with the width, up to where the grid ends."""
    narrow = from_zero.sel(zero_width=slice(None, 128))
    excess = narrow.mean("zero_seed") - 2
    error = narrow.std("zero_seed", ddof=1) / ZERO_STARTS**0.5 / excess
    log_width = np.log(narrow.zero_width)
    weights = (log_width - log_width.mean()) / ((log_width - log_width.mean()) ** 2).sum()
    power = float((weights * np.log(excess)).sum())
    spread = float(np.sqrt((weights**2 * error**2).sum()))
    return heuristic("and their excess over 2 about as one over the root of the width, from 16 to 128").close(
        -0.5, power, absolute=0.15, note=f"power {power:.2f} with standard error {spread:.2f}, {ZERO_STARTS} starts"
    )


def _order_of_narrow_starts(data: xr.Dataset) -> Iterator[Check]:
    """The order of the first two thresholds of narrow networks: in the middle, and of how many it is another one."""
    loss, sharp = data.narrow_c_loss, data.narrow_c_sharp
    loss_known, sharp_known = data.narrow_c_loss_censored == 0, data.narrow_c_sharp_censored == 0
    # A loss that never rises is out of order, too, where the sharpness does.
    broken = sharp_known & (~loss_known | (loss > sharp))
    count = int((loss_known | sharp_known).sum())
    name = "{} x {}".format(*NARROW)
    note = f"{int(broken.sum())} of {count} starts in which either rises are out of order: there the sharpness rises "
    note += "in the first step and the loss only at larger rates"
    yield heuristic(
        f"networks {name}: the median of c_loss is below that of c_sharp", "kalra2023, phase diagrams"
    ).above(loss.median(), sharp.median(), note=note)
    yield heuristic(
        f"networks {name}: at most a tenth of the starts are out of order", "kalra2023, phase diagrams"
    ).below(0.1, float(broken.sum()) / count, note=note)
