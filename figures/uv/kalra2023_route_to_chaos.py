r"""Past the critical learning rate no minimum is stable, and runs end in cycles that double their period into chaos.

Two linear layers, one example with a target. By the learning rate over its largest value with a stable minimum, above:
where runs of the full network end. The imbalance of the layers dies, so that they end on one line, where the map has
one dimension and its first cycles and all period doublings are known. Below: how fast neighbours on that line part, and
how fast the imbalance dies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREY, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.simulate.uv import bifurcation, lyapunov
from sgdynamics.theory.uv import (
    period_doubling_limit,
    period_doublings,
    two_cycle,
    two_cycle_mean_ntk,
    two_cycle_mean_sharpness,
    two_cycle_multiplier,
    two_cycle_transverse_multiplier,
)

LOWEST, HIGHEST = 0.8, 2.0
DOUBLINGS = 5
# A start off the line, near enough to it to survive at every q below 2.
IMBALANCE = 0.01
MERGING = math.sqrt(27) / 2 - 1

OTHER_EXPONENTS = elsewhere("lyapunov_exponent")
WINDOW = 1.7
SIDES = (1.30, 1.31)  # just before and after the doublings end, at 1.3023


def _exact_exponents(q: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Along the line and away from it, where the orbit is a point or a 2-cycle; NaN beyond."""
    cycle = q.where(q > 1, 1.1).where(q < math.sqrt(5) - 1, 1.1)
    with np.errstate(divide="ignore"):
        point = np.log(abs(1 - 2 * q))
        along = xr.apply_ufunc(np.log, abs(two_cycle_multiplier(cycle))) / 2
    across = xr.apply_ufunc(np.log, two_cycle_transverse_multiplier(cycle)) / 2
    below, on_cycle = q < 1, (q > 1) & (q < math.sqrt(5) - 1)
    return (
        xr.where(below, point, along.where(on_cycle)),  # type: ignore[no-untyped-call]
        xr.where(below, 0.0, across.where(on_cycle)),  # type: ignore[no-untyped-call]
    )


def _period(q: float) -> int:
    """Distinct points in which the orbit of the line ends."""
    path = bifurcation(q, transient=200_000, keep=256).output.values
    return int(np.unique(path.round(7)).size)


TEXTS = {
    "q": "learning rate over the largest one with a stable minimum",
}


def compute(fast: bool) -> xr.Dataset:
    values = np.linspace(LOWEST, HIGHEST, 601 if fast else 1601)
    q = axis("q", values)
    ends = bifurcation(q, transient=3000, keep=60 if fast else 200, imbalance=IMBALANCE)
    exponents = lyapunov(q, steps=20_000 if fast else 100_000, transient=5000)
    along, across = _exact_exponents(q)
    doublings = period_doublings(DOUBLINGS + 1)
    between = np.concatenate([[0.9], (doublings[1:] + doublings[:-1]) / 2])
    cycle_q = xr.DataArray(np.array([1.02, 1.06, 1.1, 1.15, 1.2, 1.23]), dims="cycle_q")
    cycle = bifurcation(cycle_q, transient=20_000, keep=100, imbalance=IMBALANCE)
    low, high = two_cycle(cycle_q)
    predicted = xr.concat(xr.broadcast(low, high), "point").transpose("cycle_q", "point")
    reached = xr.concat([cycle.output.min("sample"), cycle.output.max("sample")], "point").transpose("cycle_q", "point")
    known = lyapunov(np.array([*OTHER_EXPONENTS.values, WINDOW]), steps=300_000).exponent
    chaos = period_doubling_limit()
    around = lyapunov(np.array(SIDES), steps=300_000).exponent
    data = xr.Dataset(
        {
            "output": ends.output,
            "sharpness": ends.sharpness,
            "exponent": exponents.exponent,
            "transverse_exponent": exponents.transverse_exponent,
            "exponent_exact": along,
            "transverse_exponent_exact": across,
            "doubling": ("doubling_index", doublings[:-1]),
            "chaos": chaos,
            "period": ("between", [_period(value) for value in between]),
            "cycle": predicted,
            "cycle_reached": reached,
            "cycle_ntk": two_cycle_mean_ntk(cycle_q),
            "cycle_ntk_reached": cycle.ntk.mean("sample"),
            "cycle_sharpness": two_cycle_mean_sharpness(cycle_q),
            "cycle_sharpness_reached": cycle.sharpness.mean("sample"),
            "known_exponent": ("known_q", known.values),
            "exponent_around": ("side", around.values),
        },
        coords={"between": between, "cycle_q": cycle_q.values, "known_q": known.q.values},
    )
    return described(data, TEXTS, source="kalra2025", imbalance=IMBALANCE)


def draw(data: xr.Dataset) -> Figure:
    figure, (top, bottom) = panels(2, 1, width=DOUBLE, height=4.6, sharex=True, height_ratios=[1.5, 1])
    q, samples = xr.broadcast(data.q, data.output)
    shown = np.isfinite(samples)
    look = {"marker": ".", "linestyle": "none", "markeredgewidth": 0, "markersize": 0.9, "rasterized": True}
    top.plot(q.values[shown], samples.values[shown], color=GREY, **look)
    below = np.linspace(LOWEST, 1, 50)
    theory_line(top, below, below, color=BLUE, label="exact")
    cycle = np.linspace(1, math.sqrt(5) - 1, 200)
    for branch in two_cycle(cycle):
        theory_line(top, cycle, branch, color=BLUE)
    top.set(ylabel=r"scaled output $\eta\sqrt{\kappa}\,f$", ylim=(-0.05, 4.15), title="where runs end")
    top.plot([], [], ".", color=GREY, label="full network")
    top.legend(loc="upper left", bbox_to_anchor=(0.0, 0.86))
    for place, dashes in [*((float(q), "--") for q in data.doubling), (float(data.chaos), "-"), (MERGING, ":")]:
        for axes in (top, bottom):
            axes.axvline(place, color=VERMILION, linewidth=0.7, linestyle=dashes)
    for place, text in (
        (1.0, "2 points"),
        (float(data.doubling[1]), "4"),
        (float(data.chaos), "chaos"),
        (MERGING, "reaches zero output"),
    ):
        top.text(place + 0.006, 4.05, text, color=VERMILION, va="top", fontsize=7.5)

    bottom.axhline(0, color=BLACK, linewidth=0.6)
    for name, color, label in (
        ("exponent", BLACK, "along the line"),
        ("transverse_exponent", BLUE, "imbalance"),
    ):
        measured_points(
            bottom, data.q, data[name], color=color, marker=".", markersize=1.5, markerfacecolor=color, zorder=2
        )
        theory_line(bottom, data.q, data[f"{name}_exact"], color=color, label=label)
    bottom.plot(2.0, math.log(3), marker="D", color=VERMILION, clip_on=False, linestyle="none", label="ln 3", zorder=5)
    bottom.set(
        ylabel="exponent / step",
        ylim=(-2.4, 1.3),
        xlim=(LOWEST, HIGHEST),
        xlabel=r"$q$ = learning rate / largest one with a stable minimum",
        title="how fast neighbours part (> 0) or meet (< 0)",
    )
    bottom.legend(loc="lower right", ncols=3)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("between two doublings the run ends in a cycle of 1, 2, 4, 8, 16, 32 points", "kalra2025").close(
        2.0 ** np.arange(DOUBLINGS + 1),
        data.period.values,
        note="half way between the roots that theory finds for them",
    )
    yield exact("runs of the full network end on the exact 2-cycle of the line, 1 < q < 1.236").close(
        data.cycle, data.cycle_reached, tolerance=1e-6
    )
    for name, text in (("ntk", "kernel 1 + q"), ("sharpness", "sharpness (3 + q)/2")):
        yield exact(f"mean over the 2-cycle of learning rate times {text}").close(
            data[f"cycle_{name}"], data[f"cycle_{name}_reached"], tolerance=1e-6
        )
    known_exactly = data.exponent_exact
    known = (
        np.isfinite(known_exactly)
        & (abs(data.q - 1) > 0.01)
        & (abs(data.q - (math.sqrt(5) - 1)) > 0.01)
        & (known_exactly > -4)
    )
    for name, text in (("exponent", "along the line"), ("transverse_exponent", "of the imbalance")):
        yield exact(f"exponent {text}, on the point below q = 1 and the 2-cycle above it").close(
            data[f"{name}_exact"].where(known, drop=True),
            data[name].where(known, drop=True),
            scale=1.0,
            absolute=1e-6,
            note="but for 0.01 around doublings, where orbits settle slowly",
        )
    for value, exponent in OTHER_EXPONENTS.values.items():
        claim = f"Lyapunov exponent at q = {value:g}" + (": ln 3" if value == 2 else "")
        said = exact(claim) if value in (0.9, 2.0) else heuristic(claim)
        measured = data.known_exponent.sel(known_q=value)
        yield said.close(exponent, measured, absolute=OTHER_EXPONENTS.errors[value], note=OTHER_EXPONENTS.made_by)
    yield heuristic("in the window of period 3 at q = 1.7 neighbours meet").negative(
        data.known_exponent.sel(known_q=WINDOW)
    )
    for side, sign, text in ((0, -1, "just before the doublings end"), (1, 1, "just after the doublings end")):
        claimed = heuristic(f"sign of the exponent {text}, q = {SIDES[side]:.2f}")
        exponent = data.exponent_around.isel(side=side)
        yield claimed.positive(exponent) if sign > 0 else claimed.negative(exponent)
