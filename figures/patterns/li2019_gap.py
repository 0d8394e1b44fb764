r"""In every draw of the data the small learning rate ends worse on P-only examples, and in the controls it does not.

Left, the test error on P-only examples at the end, the small rate all the time over the large rate at first, on the
same examples: above the line the small rate is worse. Filled, the reduced model, one point for each draw of
the data; open, a network of 100 000 units that see Q. The numbers are the two errors of the reduced model,
means over draws. The desk-sized setting, the same with the paper's margin and with the paper's uniform amplitudes; and
two controls that should lie on the line: rates only ten-fold apart, and a linear kernel for Q, which cannot make a
kink. Right, the gap of one draw against the width of the network: narrow networks show less of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.engine.check import Check, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.style import DOUBLE, measured_points, panels, ticks
from figures.patterns._desk import desk_run
from figures.patterns._runs import LARGE, SMALL, WIDTH_Q, network_run, reduced_run
from sgdynamics.models.patterns import TwoPatternSetting

DESK = TwoPatternSetting.desk()
# The small rate, as small as it takes for its noise to freeze the activation pattern, made a tenth of the large one.
CLOSE_RATES = DESK.with_training(small_rate=0.08)

SETTINGS = {
    "desk": (DESK, "relu"),
    "margin": (TwoPatternSetting.desk_with_margin(), "relu"),
    "uniform alpha": (TwoPatternSetting.desk_with_uniform_alpha(), "relu"),
    "ratio 10": (CLOSE_RATES, "relu"),
    "linear": (DESK, "linear"),
}
COLORS = dict(zip(SETTINGS, (BLUE, VERMILION, GREEN, PURPLE, ORANGE), strict=True))
LABELS = {
    "desk": "desk",
    "margin": "paper's\nmargin",
    "uniform alpha": "uniform\n" + r"$\alpha$",
    "ratio 10": "rates\nten-fold\napart",
    "linear": "linear\nkernel",
}
ALGORITHMS = (LARGE, SMALL)
SEEDS = 6
# How many seeds the network is run on, in the fast version and in the full one; there is no linear network.
NETWORK_SEEDS = {"desk": (1, 6), "margin": (0, 1), "uniform alpha": (0, 1), "ratio 10": (0, 1)}
FAST_WIDTH = 10_000
# Evenly over two decades on the logarithmic axis; a run of four times the last would cost as much as all the others of
# the panel together, and tell what the reduced model does.
WIDTHS = (1000, 10_000, 30_000, 100_000)


def _end(run: xr.Dataset) -> xr.Dataset:
    """What is left at the last step."""
    return run[["p_only_error", "curvature", "loss_q_only"]].isel(step=-1, drop=True)


def _reduced(name: str, seeds: int) -> xr.Dataset:
    setting, kernel = SETTINGS[name]
    rows = [
        xr.concat([_end(reduced_run(setting, algorithm, seed, kernel=kernel)) for algorithm in ALGORITHMS], "algorithm")
        for seed in range(seeds)
    ]
    return xr.concat(rows, "seed")


def _network(name: str, seed: int, width: int) -> xr.Dataset:
    setting, _ = SETTINGS[name]
    shared = (name, seed, width) == ("desk", 0, WIDTH_Q)
    rows = [
        _end(desk_run(algorithm) if shared else network_run(setting, algorithm, seed, width=width))
        for algorithm in ALGORITHMS
    ]
    return xr.concat(rows, "algorithm").assign_coords(seed=seed)


def _renamed(data: xr.Dataset, suffix: str) -> xr.Dataset:
    return data.rename({name: f"{name}_{suffix}" for name in data.data_vars})


def compute(fast: bool) -> xr.Dataset:
    names = xr.Variable("setting", list(SETTINGS))
    seeds = 1 if fast else SEEDS
    reduced = xr.concat([_reduced(name, seeds) for name in SETTINGS], names)
    reduced = reduced.assign_coords(seed=range(seeds), algorithm=list(ALGORITHMS))
    networks = {
        name: xr.concat([_network(name, seed, WIDTH_Q) for seed in range(counts[not fast])], "seed")
        for name, counts in NETWORK_SEEDS.items()
        if counts[not fast]
    }
    network = xr.concat(networks.values(), xr.Variable("setting", list(networks)), join="outer")
    network = network.assign_coords(algorithm=list(ALGORITHMS))
    widths = (FAST_WIDTH,) if fast else WIDTHS
    others = {width: _network("desk", 0, width) for width in widths if width != WIDTH_Q}
    others[WIDTH_Q] = networks["desk"].sel(seed=0)
    by_width = xr.concat([others[width] for width in sorted(others)], "width")
    by_width = by_width.assign_coords(width=sorted(others), algorithm=list(ALGORITHMS)).drop_vars("seed")
    # runs that were not made are missing: NaN
    return xr.merge(
        [_renamed(reduced, "reduced"), _renamed(network, "network"), _renamed(by_width, "by_width")], join="outer"
    )


def _gap(error: xr.DataArray) -> xr.DataArray:
    return error.sel(algorithm=SMALL, drop=True) - error.sel(algorithm=LARGE, drop=True)


def _draw_pairs(axes: Axes, data: xr.Dataset) -> None:
    axes.axhline(1, color=GREY, linewidth=0.8)
    for place, (name, color) in enumerate(COLORS.items()):
        reduced, network = (data[f"p_only_error_{route}"].sel(setting=name) for route in ("reduced", "network"))
        worse = (reduced.sel(algorithm=SMALL) / reduced.sel(algorithm=LARGE)).values
        axes.plot(np.full(worse.size, place - 0.12), worse, color=color, linestyle="none", marker="o", zorder=3)
        ratio = (network.sel(algorithm=SMALL) / network.sel(algorithm=LARGE)).values
        measured_points(axes, np.full(ratio.size, place + 0.12), ratio, color=color)
        means = [f"{reduced.sel(algorithm=algorithm).mean():.1%}" for algorithm in ALGORITHMS]
        axes.text(place, 1.1 * worse.max() + 0.02, "{} to\n{}".format(*means), fontsize=6.5, ha="center", va="bottom")
    axes.set(yscale="log", ylim=(0.85, 25), xlim=(-0.5, len(COLORS) - 0.5))
    axes.set_xticks(range(len(COLORS)), [LABELS[name] for name in COLORS])
    ticks(axes.yaxis, [1, 2, 5, 10, 20])
    axes.set(title="how much worse the small rate ends", ylabel="P-only error, small over large rate")
    axes.plot([], [], color=BLACK, linestyle="none", marker="o", label="reduced model")
    axes.errorbar([], [], color=BLACK, linestyle="none", marker="o", markerfacecolor="white", label="network")
    axes.legend(loc="upper right", fontsize=6.5)


def _draw_widths(axes: Axes, data: xr.Dataset) -> None:
    first = _gap(data.p_only_error_reduced.sel(setting="desk", seed=0)).item()
    axes.axhline(first, color=BLUE, label="reduced model")
    measured_points(axes, data.width, _gap(data.p_only_error_by_width), color=BLUE, label="network")
    axes.axhline(0, color=BLACK, linewidth=0.6)
    axes.set(xscale="log", ylim=(-0.005, None), title="a gap that needs width")
    axes.set(xlabel="units that see Q", ylabel="error of small less large rate")
    axes.legend(loc="center right", fontsize=6.5)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 2, width=DOUBLE, height=2.9, width_ratios=[1.5, 1])
    _draw_pairs(axes[0], data)
    _draw_widths(axes[1], data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    gap = _gap(data.p_only_error_reduced)
    wide: dict[str, Any] = {"note": "reduced model"}
    yield heuristic(
        "at the desk's size the small rate is worse by three points, in every draw of the data", "li2019, abstract"
    ).above(0.03, gap.sel(setting="desk"), **wide)
    ratio = data.p_only_error_reduced.sel(algorithm=SMALL) / data.p_only_error_reduced.sel(algorithm=LARGE)
    yield heuristic(
        "with the paper's margin it is worse four-fold, in every draw of the data", "li2019, abstract"
    ).above(4.0, ratio.sel(setting="margin"), **wide)
    yield heuristic("with uniform amplitudes it is still worse, in every draw of the data", "li2019, abstract").above(
        0.0, gap.sel(setting="uniform alpha"), **wide
    )
    yield heuristic("control: rates ten-fold apart make no gap").close(
        0.0, gap.sel(setting="ratio 10"), scale=1.0, absolute=0.015, **wide
    )
    yield exact("control: a linear kernel makes no gap, since it does not know that patterns are refreshed").close(
        0.0, gap.sel(setting="linear"), scale=1.0, absolute=1e-9, **wide
    )
    yield exact("control: a linear kernel has no curvature").close(
        0.0, abs(data.curvature_reduced.sel(setting="linear")).max(), scale=1.0, absolute=1e-12, **wide
    )
    network = _gap(data.p_only_error_network.sel(setting="desk")).dropna("seed")
    made = f"network of {WIDTH_Q} units that see Q, {network.size} draws of the data"
    yield heuristic(
        "the network too is worse under the small rate, in five of six draws of the data", "li2019, abstract"
    ).above(5 / 6, (network > 0).mean(), note=made)
    yield heuristic("on average by a point and a half", "li2019, abstract").above(0.015, network.mean(), note=made)
    yield heuristic("the gap of the network grows with its width").above(
        0.0, _gap(data.p_only_error_by_width).diff("width").sum(), note="widest less narrowest"
    )
    curvature = data.curvature_by_width.sel(algorithm=SMALL)
    limit = data.curvature_reduced.sel(setting="desk", algorithm=SMALL, seed=0)
    yield heuristic("so does the curvature under the small rate, towards that of the reduced model").above(
        0.0, np.append(curvature.diff("width").values, (limit - curvature[-1]).item())
    )
