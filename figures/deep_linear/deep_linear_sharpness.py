r"""Depth sets the sharpness of deep linear networks at starts and minima; descent sheds what exceeds 2 over its rate.

At the start the tangent kernel has mean D at any width and a spread that is known exactly. The flattest minimum has
sharpness :math:`D s^{2-2/D}`; beyond two over that, gradient descent of a chain ends in a two-cycle around it. Below,
what gradient flow would reach falls along descent until it fits under :math:`2/\eta`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.engine.check import Check, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain, balanced_chain, balanced_network
from sgdynamics.simulate.deep_linear import chain_trajectory, initial_ntk, network_flow
from sgdynamics.theory.deep_linear import (
    balanced_sharpness,
    initial_ntk_relative_variance,
    mode_strength,
    persistent_edge,
    predicted_final_sharpness,
    two_layer_strength,
)

WIDTHS = (16, 48, 144)
WIDTH_COLORS = dict(zip(WIDTHS, (VERMILION, GREEN, BLUE), strict=True))

MINIMUM_DEPTHS = (2, 3, 4, 5, 6, 8)
TARGETS = (0.5, 1.0, 2.0)
TARGET_COLORS = dict(zip(TARGETS, (GREEN, BLUE, VERMILION), strict=True))
EDGE_FRACTIONS = (0.95, 1.05)
AWAY = 1.0 + 1e-5
CYCLE_STEPS = 6000

CHAIN_DEPTH = 4
SHOWN = (1.5, 1.9, 2.1, 2.4, 2.7)
SHOWN_COLORS = (GREEN, BLUE, ORANGE, VERMILION, BLACK)
SHOWN_STEPS = 4000
MONOTONE_STEPS = 300

MODES = (2.0, 1.0)
MODE_START = 0.02
CURVE_DEPTHS = (2, 3)
CURVE_COLORS = dict(zip(CURVE_DEPTHS, (BLUE, VERMILION), strict=True))


def _start(depths: tuple[int, ...]) -> xr.Dataset:
    """Mean and variance of the kernel over as many networks as their spread asks for."""
    found = np.empty((4, len(depths), len(WIDTHS)))
    for i, depth in enumerate(depths):
        for j, width in enumerate(WIDTHS):
            # heavy tails: the squared deviation spreads the more, the larger the variance
            replicas = round(55_000 * (2 + 20 * initial_ntk_relative_variance(depth, width)))
            kernel = initial_ntk([width] * (depth - 1), replicas=replicas, seed=31 + depth).ntk.values
            squares = (kernel - depth) ** 2
            root = np.sqrt(replicas)
            found[:, i, j] = kernel.mean(), kernel.std() / root, squares.mean(), squares.std() / root
    names = ("ntk_mean", "ntk_mean_error", "ntk_variance", "ntk_variance_error")
    return xr.Dataset(
        {name: (("depth", "width"), values) for name, values in zip(names, found, strict=True)},
        coords={"depth": list(depths), "width": list(WIDTHS)},
    )


def _minima() -> xr.Dataset:
    """Descent from next to the balanced minimum, at learning rates on both sides of the persistent edge."""
    parts = []
    for depth in MINIMUM_DEPTHS:
        for target in TARGETS:
            rates = np.array(EDGE_FRACTIONS) * persistent_edge(target, depth)
            start = AWAY * balanced_chain(target, depth)
            runs = chain_trajectory(
                ScalarChain(target), start, rates, steps=CYCLE_STEPS, record=[0, 1, CYCLE_STEPS - 1, CYCLE_STEPS]
            )
            residual = runs.output - target
            part = xr.Dataset(
                {
                    "end_sharpness": runs.sharpness.isel(step=[2, 3]).rename(step="phase").drop_vars("phase"),
                    "multiplier": residual.isel(step=1, drop=True) / residual.isel(step=0, drop=True),
                    "final_residual": abs(residual.isel(step=3, drop=True)),
                }
            )
            part = part.rename(learning_rate="edge_fraction").assign_coords(edge_fraction=list(EDGE_FRACTIONS))
            parts.append(part.expand_dims(minimum_depth=[depth], target=[target]))
    return xr.combine_by_coords(parts, combine_attrs="drop")  # type: ignore[return-value]


def _unbalanced(count: int) -> np.ndarray:
    """Starts next to minima that are at least 1.5 times as sharp as the balanced one."""
    weights = np.exp(0.6 * np.random.default_rng(17).standard_normal((8 * count, CHAIN_DEPTH)))
    weights *= 1.05 / weights.prod(axis=1, keepdims=True) ** (1 / CHAIN_DEPTH)
    sharp = ScalarChain(1.0).flow_sharpness(weights)
    kept: np.ndarray = weights[(sharp > 1.5 * CHAIN_DEPTH) & (sharp < 4 * CHAIN_DEPTH)][:count]
    return kept


def _descent(starts: int) -> xr.Dataset:
    """Runs at learning rates that put the flow solution of the start on either side of the edge."""
    model = ScalarChain(1.0)
    weights = _unbalanced(starts)
    sharp = model.flow_sharpness(weights)
    scaled = np.array(SHOWN)
    rates = xr.DataArray(scaled / sharp[0], dims="scaled_start")
    kept = np.unique(np.geomspace(1, SHOWN_STEPS + 1, 70).astype(int)) - 1
    path = chain_trajectory(model, weights[0], rates, steps=SHOWN_STEPS, record=kept)
    many = xr.DataArray(np.linspace(1.2, 2.7, weights.shape[0]) / sharp, dims="replica")
    end = chain_trajectory(model, weights, many, steps=20_000, record=[20_000]).isel(step=0, drop=True)
    early = chain_trajectory(model, weights, many, steps=MONOTONE_STEPS, record=np.arange(MONOTONE_STEPS + 1))
    positive = (early.weight > 0).all("layer").values
    flow = early.flow_sharpness.values
    inside = positive[:, 1:] & positive[:, :-1] & (flow[:, :-1] * many.values[:, None] < 2 * np.sqrt(2))
    return xr.Dataset(
        {
            "flow_sharpness": path.flow_sharpness * rates,
            "start_scaled": many * xr.DataArray(sharp, dims="replica"),
            "end_scaled": end.sharpness * many,
            "end_predicted": many * predicted_final_sharpness(xr.DataArray(sharp, dims="replica"), many, 1.0, 4),
            "largest_ratio": float((flow[:, 1:] / flow[:, :-1])[inside].max()),
        },
        coords={"scaled_start": scaled},
    )


def _strength(times: np.ndarray, value: float, depth: int) -> np.ndarray:
    found = (
        two_layer_strength(times, MODE_START, value) if depth == 2 else mode_strength(times, MODE_START, value, depth)
    )
    return np.asarray(found)


def _curves() -> xr.Dataset:
    """Strengths of two modes under gradient flow, by closed form or their own equation, and inside whole networks."""
    line, points = np.linspace(0.0, 4.0, 81), np.linspace(0.25, 4.0, 12)
    model = DeepLinearNetwork(np.diag(MODES))
    exact, predicted, measured = [], [], []
    for depth in CURVE_DEPTHS:
        exact.append([_strength(line, value, depth) for value in MODES])
        predicted.append([_strength(points, value, depth) for value in MODES])
        start = balanced_network(MODE_START * np.eye(2), depth)
        measured.append(network_flow(model, start, points).singular_value.values.T)
    dims = ("curve_depth", "mode")
    return xr.Dataset(
        {
            "strength": ((*dims, "line_time"), np.array(exact)),
            "strength_predicted": ((*dims, "time"), np.array(predicted)),
            "strength_measured": ((*dims, "time"), np.array(measured)),
        },
        coords={"curve_depth": list(CURVE_DEPTHS), "mode": list(MODES), "line_time": line, "time": points},
    )


def compute(fast: bool) -> xr.Dataset:
    data = xr.merge(
        [_start((2, 3, 5) if fast else (2, 3, 5, 8)), _minima(), _descent(40 if fast else 120), _curves()],
        combine_attrs="drop",
    )
    texts = {
        "ntk_mean": "mean tangent kernel at the start",
        "ntk_variance": "variance of the tangent kernel at the start",
        "ntk_mean_error": "standard error of the mean kernel",
        "ntk_variance_error": "standard error of the variance of the kernel",
        "end_sharpness": ("sharpness at the last two steps", "1/learning rate"),
        "multiplier": "factor of a small residual per step",
        "final_residual": "distance of the output from its target at the end",
        "flow_sharpness": "learning rate times sharpness of the flow solution",
        "start_scaled": "learning rate times sharpness of the flow solution at the start",
        "end_scaled": "learning rate times sharpness at the end",
        "end_predicted": "learning rate times predicted sharpness at the end",
        "largest_ratio": "largest ratio of two successive flow sharpnesses",
        "strength": "mode strength",
        "strength_predicted": "mode strength at the measured times",
        "strength_measured": "singular value of the network's map",
        "depth": "weight matrices",
        "width": "hidden width",
        "minimum_depth": "weights of the chain",
        "target": "target",
        "edge_fraction": "learning rate over the persistent edge",
        "scaled_start": "learning rate times sharpness of the flow solution at the start",
        "step": "step",
        "curve_depth": "weight matrices",
        "mode": "singular value of the target",
        "line_time": "learning rate times step",
        "time": "learning rate times step",
    }
    return described(data, texts, source="kreisler2023", chain_depth=float(CHAIN_DEPTH), mode_start=MODE_START)


# ---------------------------------------------------------------------------------------------------------------------
# The picture


def _draw_start(over_depth: Axes, over_width: Axes, data: xr.Dataset) -> None:
    deepest = int(data.depth.max())
    depths = np.arange(1, deepest + 1)
    theory_line(over_depth, depths, depths, color=BLACK)
    for width, color in WIDTH_COLORS.items():
        spread = depths * np.sqrt(initial_ntk_relative_variance(depths, width))
        here = data.sel(width=width)
        for side in (-1, 1):
            theory_line(over_depth, depths, depths + side * spread, color=color, linewidth=1.0)
            measured_points(over_depth, here.depth, here.ntk_mean + side * np.sqrt(here.ntk_variance), color=color)
        over_depth.text(deepest + 0.15, (depths + spread)[-1], f"n={width}", color=color, va="center", fontsize=7)
    measured_points(over_depth, data.depth, data.ntk_mean.mean("width"), color=BLACK)
    over_depth.set(title=r"start: mean D $\pm$ one sd", xlabel="depth D", ylabel="tangent kernel K")
    over_depth.set_xlim(0.8, deepest * 1.3)
    over_depth.set_xticks(depths[:: 2 if deepest > 5 else 1])

    widths = np.unique(np.geomspace(4, 256, 60).astype(int))
    for depth, color in zip(data.depth.values, (BLUE, GREEN, ORANGE, VERMILION), strict=False):
        theory_line(over_width, widths, np.sqrt(initial_ntk_relative_variance(int(depth), widths)), color=color)
        here = data.sel(depth=depth)
        deviation = np.sqrt(here.ntk_variance)
        error = here.ntk_variance_error / (2 * deviation)
        measured_points(over_width, here.width, deviation / depth, error / depth, color=color)
        level = float(np.sqrt(initial_ntk_relative_variance(int(depth), 256)))
        over_width.text(290, level, f"D={depth}", color=color, va="center", fontsize=7)
    over_width.set(xscale="log", yscale="log", title="narrow, deep starts scatter", xlabel="width n")
    over_width.set(ylabel="sd of K / D", xlim=(3.5, 800))
    ticks(over_width.xaxis, [10, 100])


def _draw_minima(axes: Axes, data: xr.Dataset) -> None:
    depths = np.linspace(MINIMUM_DEPTHS[0], MINIMUM_DEPTHS[-1], 100).round(2)
    for target, color in TARGET_COLORS.items():
        # between whole depths the line is only a guide to the eye
        theory_line(axes, depths, depths * target ** (2 - 2 / depths), color=color)
        here = data.sel(target=target)
        below, above = (here.end_sharpness.sel(edge_fraction=fraction) for fraction in EDGE_FRACTIONS)
        measured_points(axes, here.minimum_depth, below.isel(phase=1), color=color)
        for phase in (0, 1):
            measured_points(axes, here.minimum_depth, above.isel(phase=phase), color=color, marker="x")
        level = MINIMUM_DEPTHS[-1] * target ** (2 - 2 / MINIMUM_DEPTHS[-1])
        axes.text(8.3, level, f"s={target:g}", color=color, va="center", fontsize=7)
    axes.set(yscale="log", title=r"minima: $D\,s^{2-2/D}$", xlabel="depth D", ylabel="sharpness at the end")
    axes.set_xlim(1.6, 10.2)
    measured_points(axes, [], [], color=GREY, label=r"$0.95\,\eta_c$: converged")
    measured_points(axes, [], [], color=GREY, marker="x", label=r"$1.05\,\eta_c$: both steps of the cycle")
    axes.legend(loc="upper left", fontsize=6, handletextpad=0.3, borderaxespad=0.1)
    axes.set_ylim(0.4, 200)


def _draw_descent(along: Axes, ends: Axes, data: xr.Dataset) -> None:
    along.axhline(2, color=GREY, linewidth=0.9)
    for scaled, color in zip(SHOWN, SHOWN_COLORS, strict=True):
        here = data.sel(scaled_start=scaled)
        along.plot(here.step, here.flow_sharpness, color=color, marker="o", markersize=2, linewidth=0.6)
    along.set_xscale("symlog", linthresh=1)
    along.set(title=r"descent: down to 2/$\eta$", xlabel="step", xlim=(-0.1, SHOWN_STEPS))
    along.set_ylabel(r"$\eta$ × flow-solution sharpness")
    ticks(along.xaxis, [0, 1, 10, 100, 1000])
    along.text(800, 2.01, r"2/$\eta$", color=GREY, fontsize=7, va="bottom")

    order = np.argsort(data.start_scaled.values)
    grid = data.start_scaled.values[order]
    theory_line(ends, grid, data.end_predicted.values[order], color=BLACK)
    measured_points(ends, data.start_scaled, data.end_scaled, color=BLUE, markersize=3)
    ends.set(title="where descent ends", xlabel=r"$\eta$ × flow-solution sharpness, start")
    ends.set_ylabel(r"$\eta$ × sharpness, end")
    ends.text(1.28, 1.9, "min(start, 2)", color=BLACK, fontsize=7)


def _draw_curves(axes: Axes, data: xr.Dataset) -> None:
    for depth, color in CURVE_COLORS.items():
        for mode in MODES:
            here = data.sel(curve_depth=depth, mode=mode)
            theory_line(axes, here.line_time, here.strength, color=color)
            measured_points(axes, here.time, here.strength_measured, color=color, markersize=3)
    axes.text(1.05, 1.25, "D=2", color=BLUE, fontsize=7, ha="right")
    axes.text(2.75, 1.6, "D=3", color=VERMILION, fontsize=7, ha="left")
    axes.set(title="strong modes first", xlabel=r"time $\eta t$", ylabel="mode strength")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 3, width=DOUBLE, height=4.6)
    _draw_start(axes[0, 0], axes[0, 1], data)
    _draw_minima(axes[0, 2], data)
    _draw_descent(axes[1, 0], axes[1, 1], data)
    _draw_curves(axes[1, 2], data)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# The numbers


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("the mean tangent kernel at the start is the depth, at any width").statistical(
        data.depth, data.ntk_mean, data.ntk_mean_error, "mean"
    )
    relative = initial_ntk_relative_variance(data.depth.astype(float), data.width.astype(float))
    yield exact("variance of the tangent kernel at the start, at every depth and width").statistical(
        data.depth**2 * relative, data.ntk_variance, data.ntk_variance_error, "variance"
    )
    flattest = balanced_sharpness(data.target, data.minimum_depth.astype(float))
    yield exact("descent below the persistent edge ends at the balanced minimum, of sharpness D s^(2-2/D)").close(
        flattest, data.end_sharpness.sel(edge_fraction=EDGE_FRACTIONS[0]).isel(phase=1, drop=True), tolerance=1e-6
    )
    yield exact("next to the balanced minimum a step multiplies the residual by 1 - 2 (rate / persistent edge)").close(
        1 - 2 * data.edge_fraction, data.multiplier, scale=1.0, absolute=2e-3, note="first step, from weights 1e-5 away"
    )
    yield exact("descent above the persistent edge never comes to rest: its output stays off the target").above(
        0.02 * data.target, data.final_residual.sel(edge_fraction=EDGE_FRACTIONS[1]), note="5% beyond the edge"
    )
    yield bound(
        "no step within the positive orthant and below 2 sqrt(2) raises the sharpness of the flow solution",
        "kreisler2023, abstract",
    ).below(
        1.0, data.largest_ratio, tolerance=1e-9, note=f"chains of {CHAIN_DEPTH} weights, {MONOTONE_STEPS} steps each"
    )
    yield bound(
        "descent ends no sharper than the flow solution of its start, and no sharper than 2/rate",
        "kreisler2023, abstract",
    ).below(data.end_predicted, data.end_scaled, tolerance=1e-6, note=f"chains of {CHAIN_DEPTH} weights")
    yield heuristic("descent ends close to the smaller of the two", "kreisler2023, abstract").close(
        1.0,
        (data.end_scaled / data.end_predicted).median(),
        tolerance=0.03,
        note="median over starts; single runs from above the edge end up to 20% below, see the picture",
    )
    yield exact("each mode of a balanced network is learned on its own curve, two and three layers", "saxe2013").close(
        data.strength_predicted,
        data.strength_measured,
        tolerance=1e-6,
        note="closed form for two layers, its own equation for three, against whole networks",
    )
