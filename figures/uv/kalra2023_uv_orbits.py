r"""Runs that start inside one triangle stay in it for ever, runs outside it escape, and its side is the largest rate.

Two linear layers, one example with a target. In units that hide learning rate :math:`\eta` and width, gradient descent
moves a point in the plane of residual and kernel; what weights can reach is a cone. The triangle has its corners at
three of the four fixed points: two sides are those of the cone, the third is :math:`V = 4 + qs - \eta\lambda = 0`,
where :math:`q` is the learning rate over the largest one with a stable minimum. Above: below that rate every run in the
triangle ends on the line of minima, beyond it on a 2-cycle on the edge line. Below: the learning rate at which a start
meets the third side, against the largest one that runs survive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.engine.check import Check, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, panels, theory_line
from figures.uv._largest_rates import checks_of_largest_rates, draw_largest_rates, over_targets, over_widths
from figures.uv._starts import random_starts
from sgdynamics.models.uv import UVNetwork
from sgdynamics.simulate.uv import trajectory
from sgdynamics.theory.uv import (
    edge_map,
    escape_margin,
    fixed_points,
    gradient_flow_ntk,
    ntk_nullcline,
    two_cycle,
    two_cycle_mean_ntk,
    two_cycle_mean_sharpness,
    two_cycle_multiplier,
)

BELOW, BEYOND = 0.4, 1.1

# Scaled target, residual and kernel at the start, and how the orbit is drawn; in the order of the legend.
ORBITS = {
    "like gradient flow": (BELOW, -0.6, 0.6, GREEN, "^"),
    "catapult": (BELOW, 0.05, 3.0, BLUE, "o"),
    "escape below": (BELOW, 0.05, 4.2, VERMILION, "X"),
    "collapse on the edge line": (BEYOND, 0.05, 3.5, BLUE, "o"),
    "escape beyond": (BEYOND, 0.05, 4.2, VERMILION, "X"),
}
ORBIT_STEPS = 400

# The triangle is tried with starts spread evenly over it and over its mirror image beyond the third side.
TRIANGLE_STEPS = 3000

# The run that ends on the 2-cycle, and the runs that follow gradient flow.
CYCLE = UVNetwork(64, target=2.0, parametrization=1.0)
CYCLE_RATE = 0.55
FLOW_RATE, FLOW_STEPS, FLOW_WIDTH = 1e-3, 30_000, 32


def _orbits() -> xr.Dataset:
    """The drawn orbits, scaled: at learning rate and kappa 1."""
    q, residual, ntk = (xr.DataArray([orbit[i] for orbit in ORBITS.values()], dims="orbit") for i in range(3))
    found = trajectory(residual + q, ntk, 1.0, kappa=1.0, target=q, steps=ORBIT_STEPS)
    bounded = abs(found.output) < 1e100
    output, kernel = found.output.where(bounded, 0.0), found.ntk.where(bounded, 0.0)
    margin = escape_margin(output, kernel, 1.0, 1.0, q).where(bounded)
    output, kernel = output.where(bounded), kernel.where(bounded)
    return xr.Dataset(
        {
            "residual": output - q,
            "kernel": kernel,
            "margin": margin,
            "margin_factor": 1 + (output - q) * output,
            "escapes": found.divergence_step >= 0,
        }
    ).assign_coords(orbit=list(ORBITS))


def _one_step_at_fixed_points() -> xr.Dataset:
    """Where one step carries the four fixed points."""
    q = axis("q", [BELOW, BEYOND])
    points = fixed_points(q)
    step = trajectory(points.residual + q, points.ntk, 1.0, kappa=1.0, target=q, steps=1).isel(step=1, drop=True)
    return xr.Dataset(
        {
            "fixed": xr.concat([points.residual, points.ntk], "coordinate"),
            "fixed_after": xr.concat([step.output - q, step.ntk], "coordinate"),
        }
    )


def _triangle(points: int, seed: int) -> xr.Dataset:
    """What becomes of starts inside the triangle and of as many beyond its third side."""
    made = []
    for number, q in enumerate((BELOW, BEYOND)):
        corners = np.array([[-q, 0.0], [2.0, 4 + 2 * q], [-2.0, 4 - 2 * q]])
        shares = np.random.default_rng([seed, number]).dirichlet(np.ones(3), points)
        inside = shares @ corners
        # as far beyond the middle of the third side as they were before it
        outside = np.array([0.0, 4.0]) * 2 - inside
        start = xr.DataArray(np.stack([inside, outside]), dims=("side", "network", "coordinate"))
        residual, ntk = start.isel(coordinate=0), start.isel(coordinate=1)
        floor = 2 * abs(residual + q)
        ntk = ntk.where(ntk > floor, floor)  # beyond the side the cone is wider still; this is rounding
        gone, last = [], []
        for block in np.array_split(np.arange(points), max(1, points // 250)):
            run = trajectory(
                residual.isel(network=block) + q,
                ntk.isel(network=block),
                1.0,
                kappa=1.0,
                target=q,
                steps=TRIANGLE_STEPS,
            )
            gone.append(run.divergence_step >= 0)
            last.append(run[["output", "ntk", "sharpness"]].isel(step=-1, drop=True))
        end = xr.concat(last, "network")
        made.append(
            xr.Dataset(
                {
                    "share_escaped": xr.concat(gone, "network").mean("network"),
                    "final_kernel": end.ntk.isel(side=0, drop=True),
                    "final_residual": abs(end.output - q).isel(side=0, drop=True),
                }
            )
        )
    return xr.concat(made, xr.DataArray([BELOW, BEYOND], dims="q", name="q")).assign_coords(side=["inside", "outside"])


def _cycle(networks: int) -> xr.Dataset:
    """Where random networks of width 64 end beyond the critical rate."""
    output, ntk = random_starts(CYCLE, networks, seed=3)
    run = trajectory(output, ntk, CYCLE_RATE, kappa=CYCLE.kappa, target=CYCLE.target, steps=2000)
    end = run.isel(step=slice(-100, None))
    scaled = end.output * CYCLE_RATE
    q = CYCLE_RATE * float(CYCLE.target)
    step = 1e-6
    slopes = [(edge_map(x + step, q) - edge_map(x - step, q)) / (2 * step) for x in two_cycle(q)]
    return xr.Dataset(
        {
            "cycle_slope": ("point", slopes),
            "cycle_reached": xr.concat([scaled.min("step"), scaled.max("step")], "point"),
            "cycle": ("point", list(two_cycle(q))),
            "cycle_ntk": CYCLE_RATE * end.ntk.mean("step"),
            "cycle_sharpness": CYCLE_RATE * end.sharpness.mean("step"),
        }
    )


def _flow(networks: int) -> xr.Dataset:
    """Final kernels at a small learning rate, and those of gradient flow."""
    model = UVNetwork(FLOW_WIDTH)
    output, ntk = random_starts(model, networks, seed=4)
    targets = xr.DataArray([0.0, 1.0, 2.0], dims="flow_target")
    run = trajectory(output, ntk, FLOW_RATE, kappa=model.kappa, target=targets, steps=FLOW_STEPS).isel(step=-1)
    return xr.Dataset(
        {
            "flow_ntk": gradient_flow_ntk(output, ntk, model.kappa, targets),
            "flow_ntk_measured": run.ntk,
            "flow_residual": abs(run.output - targets),
        }
    ).drop_vars("step", errors="ignore")


def compute(fast: bool) -> xr.Dataset:
    parts = [
        _orbits(),
        _one_step_at_fixed_points(),
        _triangle(500 if fast else 3000, seed=2),
        over_targets(0.01 if fast else 0.004, 3000),
        over_widths(0.04 if fast else 0.01, 1500 if fast else 6000),
        _cycle(20 if fast else 100).rename(network="cycle_network"),
        _flow(30 if fast else 150).rename(network="flow_network"),
    ]
    data = xr.merge(parts, combine_attrs="drop_conflicts", compat="no_conflicts", join="outer")
    return described(data, source="kalra2023")


def _draw_plane(axes: Axes, data: xr.Dataset, q: float) -> None:
    """The plane of residual and kernel at one scaled target."""
    low, high, top = -2.5, 2.75, 6.9
    s = np.linspace(low, high, 401)
    side = 2 * abs(s + q)
    axes.fill_between(s, 0, np.minimum(side, top), color="#E4E4E4", linewidth=0)
    axes.fill([-q, 2, -2], [0, 4 + 2 * q, 4 - 2 * q], color="#E3F0FA", linewidth=0)
    theory_line(axes, s[s <= -q], side[s <= -q], color=GREY, linewidth=1.0)
    theory_line(axes, s[s >= -q], side[s >= -q], color=BLACK, linewidth=1.6)
    theory_line(axes, s, 4 + q * s, color=VERMILION)
    right = np.linspace(0.05, high, 300)
    left = np.linspace(low, -q - 1e-9, 200)
    theory_line(axes, right, ntk_nullcline(right, q), color=ORANGE, linestyle="--", linewidth=1.0)
    theory_line(axes, left, 4 * (left + q) / left, color=ORANGE, linestyle="--", linewidth=1.0)
    minima = np.linspace(2 * q, top, 20)
    theory_line(axes, 0 * minima, minima, color=ORANGE, linestyle="--", linewidth=1.0)
    if q < 1:
        axes.plot([0, 0], [2 * q, 2], color=GREEN, linewidth=4, solid_capstyle="butt", alpha=0.55, zorder=2.6)

    points = fixed_points(q)
    for number, name, offset in (
        ("I", "minima", (8, -9)),
        ("II", "origin", (13, 0)),
        ("III", "beyond", (13, -9)),
        ("IV", "before", (-11, -3)),
    ):
        here = points.sel(fixed_point=name)
        kind = "s" if name == "origin" else ("o" if name == "minima" else "D")
        place = (float(here.residual), float(here.ntk))
        axes.plot(*place, kind, color=BLACK, markersize=5, markeredgecolor="white", zorder=6, clip_on=False)
        axes.annotate(number, place, offset, textcoords="offset points", fontweight="bold", ha="center", zorder=7)

    for name, (at, _, _, color, marker) in ORBITS.items():
        if at != q:
            continue
        residual, kernel = data.residual.sel(orbit=name), data.kernel.sel(orbit=name)
        near = (abs(residual) < 12) & (kernel < 60)
        residual, kernel = residual.where(near, drop=True), kernel.where(near, drop=True)
        axes.plot(residual, kernel, color=color, linewidth=0.6, alpha=0.8, zorder=3.5)
        axes.plot(residual, kernel, marker, color=color, markersize=3.2, zorder=4, linestyle="none", markeredgewidth=0)
        axes.plot(residual[0], kernel[0], marker, color=color, markersize=5.5, zorder=4.5, markeredgecolor=BLACK)
    axes.set(xlim=(low, high), ylim=(-0.12, top), xlabel=r"scaled residual  $s = \eta\sqrt{\kappa}\,(f - y)$")


def _draw_planes(left: Axes, right: Axes, data: xr.Dataset) -> None:
    _draw_plane(left, data, BELOW)
    _draw_plane(right, data, BEYOND)
    left.set_ylabel(r"$\eta\lambda$ = learning rate $\times$ kernel")
    left.set_title(f"$q = {BELOW}$: the triangle keeps runs; they settle")
    right.set(title=f"$q = {BEYOND}$: it keeps them; they end on a 2-cycle")
    look: dict[str, Any] = {"fontsize": 7, "zorder": 7}
    left.text(1.22, 0.5, "no weights here", color=GREY, ha="center", **look)
    left.text(0.98, 3.82, "bounded\nfor ever", color=BLUE, ha="center", va="center", **look)
    left.text(-0.85, 5.15, "escapes", color=VERMILION, ha="center", **look)
    left.annotate(
        "stable minima", (0.03, 1.7), (0.85, 1.25), color=GREEN, arrowprops={"arrowstyle": "-", "lw": 0.6}, **look
    )
    right.text(1.0, 3.35, "edge line", rotation=52, ha="center", va="center", **look)
    for x in data.cycle.values:
        right.plot(
            x - BEYOND, 2 * x, "o", color=GREEN, markersize=10, markerfacecolor="none", markeredgewidth=1.5, zorder=6
        )
    right.annotate(
        "2-cycle",
        (data.cycle.values[1] - BEYOND, 2 * data.cycle.values[1]),
        (14, -9),
        textcoords="offset points",
        color=GREEN,
        **look,
    )


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=6.2, height_ratios=[1.45, 1])
    _draw_planes(axes[0, 0], axes[0, 1], data)
    axes[0, 1].sharey(axes[0, 0])
    draw_largest_rates(axes[1, 0], axes[1, 1], data)
    handles = [
        axes[0, 0].plot([], [], "-", color=BLACK, linewidth=1.6, label="edge line (side of the cone)")[0],
        axes[0, 0].plot([], [], color=VERMILION, label="third side, $V = 0$: largest rate")[0],
        axes[0, 0].plot([], [], "--", color=ORANGE, linewidth=1.0, label="kernel at rest")[0],
    ]
    for name, marker in (("I flattest minimum", "o"), ("II saddle", "s"), ("III, IV repellers", "D")):
        handles += axes[0, 0].plot([], [], marker, color=BLACK, linestyle="none", label=name, markersize=4.5)
    for name, color, marker in (
        ("like gradient flow", GREEN, "^"),
        ("catapult, or collapse", BLUE, "o"),
        ("escape", VERMILION, "X"),
    ):
        handles += axes[0, 0].plot([], [], marker, color=color, linestyle="-", linewidth=0.6, label=name)
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("a step leaves the four fixed points where they are, q = 0.4 and 1.1").close(
        data.fixed, data.fixed_after, scale=1.0, absolute=1e-12
    )
    margin, factor = data.margin, data.margin_factor
    before, growth = (value.isel(step=slice(0, 11)).drop_vars("step") for value in (margin, factor))
    after, residual = (value.isel(step=slice(1, 12)).drop_vars("step") for value in (margin, data.residual))
    predicted = before * growth
    known = np.isfinite(after) & np.isfinite(predicted) & (abs(residual) < 50)
    yield exact(
        "along every orbit V = 4 + q s - learning rate * kernel is multiplied by 1 + s phi, and keeps its sign"
    ).close(
        predicted.where(known, 0.0),
        after.where(known, 0.0),
        scale=1.0,
        absolute=1e-10,
        note="up to the step at which an escaping orbit leaves the plane",
    )
    yield exact("share of runs that diverge, from starts inside the triangle: none").close(
        0.0, data.share_escaped.sel(side="inside")
    )
    yield heuristic("share of runs that diverge, from starts beyond the third side: almost all").above(
        0.999, data.share_escaped.sel(side="outside"), note="measured, not proved"
    )
    yield heuristic(
        "below the critical rate every run from the triangle ends on a minimum with learning rate * kernel <= 2"
    ).below(
        2.0,
        data.final_kernel.sel(q=BELOW) + data.final_residual.sel(q=BELOW) / 1e-9,
        tolerance=1e-9,
        note="a residual left over counts against it",
    )
    yield heuristic("beyond the critical rate no run from the triangle settles", "kalra2025").above(
        0.01, data.final_residual.sel(q=BEYOND), note="residual after the last step, scaled"
    )
    yield exact("random networks of width 64 end on the exact 2-cycle, q = 1.1").close(
        data.cycle, data.cycle_reached, absolute=1e-6
    )
    for name, value, text in (
        ("cycle_ntk", two_cycle_mean_ntk(BEYOND), "kernel"),
        ("cycle_sharpness", two_cycle_mean_sharpness(BEYOND), "top Hessian eigenvalue"),
    ):
        yield exact(f"mean of learning rate * {text} over that cycle").close(value, data[name], absolute=1e-6)
    yield exact("multiplier of the 2-cycle at q = 1.1: 0.18").close(
        two_cycle_multiplier(BEYOND), data.cycle_slope.prod("point"), absolute=1e-6
    )
    yield from checks_of_largest_rates(data)
    yield exact("gradient flow keeps the imbalance: final kernel at a small learning rate, targets 0, 1 and 2").close(
        data.flow_ntk,
        data.flow_ntk_measured,
        tolerance=3e-4,
        note="the gap is proportional to the learning rate, 0.001",
    )
