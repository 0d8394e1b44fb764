r"""The order of learning reverses in a window whose walls are time scales: Q must be hidden, and the small rate frozen.

The reduced model of a wide two-pattern network. On the left, one draw of examples: the large rate learns P first
and Q only after annealing, the small one the other way round. On the right, how much more often the small rate errs on
P-only examples, over rate ratio and separation and over weight decay and separation; dots are cells where the order
reverses, lines are the conditions of the time-scale theory at equality. The gap is widest just above the window, where
the large rate already fits Q in part while the small one has it at once: a gap does not need a reversed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, PURPLE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, panels, theory_line, ticks
from sgdynamics.models.patterns import TwoPatternSetting
from sgdynamics.theory.patterns import (
    P_LEVEL,
    Q_LEVEL,
    first_time_below,
    gap_map,
    reduced_dynamics,
    reversal_conditions,
)

DESK = TwoPatternSetting.desk()
# The maps use shorter runs, long enough for the large rate to learn P.
SHORT = DESK.with_training(first_time=1000.0, second_time=400.0)
LARGE, SMALL = "large_then_small", "small"
WALLS = {
    "small_rate_freezes": ("small rate's noise moves the pattern by r", BLUE),
    "large_rate_hides_q": ("large rate can hold Q", GREEN),
    "large_rate_learns_p": ("no time for P", PURPLE),
}
MAPS = ("rate_ratio", "weight_decay")


def _wall_quantities(axis: str, values: np.ndarray, separations: np.ndarray) -> xr.Dataset:
    """The quantities that must be below 1, on a fine grid."""
    made = np.zeros((len(WALLS), values.size, separations.size))
    for i, value in enumerate(values):
        if axis == "rate_ratio":
            small = SHORT.training.large_rate / value
            training = {"small_rate": small, "coarse_step": max(0.8, small)}
        else:
            training = {"weight_decay": value}
        for j, r in enumerate(separations):
            quantity = reversal_conditions(SHORT.with_training(**training).with_data(separation=r)).quantity
            made[:, i, j] = quantity.sel(condition=list(WALLS)).values
    dims = ("wall", f"fine_{axis}", "fine_separation")
    return xr.Dataset(
        {f"quantity_{axis}": (dims, made)},
        coords={"wall": list(WALLS), f"fine_{axis}": values, "fine_separation": separations},
    )


def _map(axis: str, values: np.ndarray, separations: np.ndarray) -> xr.Dataset:
    made = gap_map(SHORT, seeds=1, separation=separations, **{axis: values}).isel(seed=0, drop=True)
    kept = made[["paired_gap", "order_reversed", "predicted"]]
    return kept.rename({name: f"{name}_{axis}" for name in kept.data_vars})


def _curves() -> xr.Dataset:
    sample = DESK.draw(0)
    runs = [reduced_dynamics(DESK, sample, name) for name in (LARGE, SMALL)]
    times = np.linspace(0.0, 2300.0, 461)
    curves = [run.swap_dims(step="time").interp(time=times, method="nearest") for run in runs]
    variables = ["loss", "loss_p_only", "loss_q_only"]
    made = xr.concat([curve[variables].reset_coords(drop=True) for curve in curves], dim="algorithm")
    levels = {"loss_p_only": P_LEVEL, "loss_q_only": Q_LEVEL}
    crossings = [[first_time_below(run, name, level) for name, level in levels.items()] for run in runs]
    made["learnt_at"] = (("algorithm", "pattern"), crossings)
    made["p_only_error"] = ("algorithm", [float(run.p_only_error[-1]) for run in runs])
    return made.assign_coords(algorithm=[LARGE, SMALL], pattern=["P", "Q"])


def compute(fast: bool) -> xr.Dataset:
    # a cell is two runs; finer cells would show the same regions between the walls
    count, depth, fine = (5, 4, 13) if fast else (8, 7, 31)
    separations = np.geomspace(0.02, 0.5, depth)
    ratios, decays = np.geomspace(3, 3000, count), np.geomspace(3e-5, 3e-3, count)
    fine_separations = np.geomspace(0.015, 0.7, 2 * fine)
    parts = [_curves(), _map("rate_ratio", ratios, separations), _map("weight_decay", decays, separations)]
    parts.append(_wall_quantities("rate_ratio", np.geomspace(2, 4500, fine), fine_separations))
    parts.append(_wall_quantities("weight_decay", np.geomspace(2e-5, 4.5e-3, fine), fine_separations))
    data = xr.merge(parts, combine_attrs="drop")
    return described(data, source="derived", seed=0.0)


def _draw_curves(axes: Axes, data: xr.Dataset) -> None:
    for algorithm, style in ((LARGE, "-"), (SMALL, (0, (2, 1.2)))):
        here = data.sel(algorithm=algorithm)
        theory_line(axes, data.time, here.loss_p_only, color=VERMILION, linestyle=style)
        theory_line(axes, data.time, here.loss_q_only, color=BLUE, linestyle=style)
    theory_line(axes, [], [], color=BLACK, label="large, then small rate")
    theory_line(axes, [], [], color=BLACK, linestyle=(0, (2, 1.2)), label="small rate")
    axes.axvline(1500.0, color=BLACK, linewidth=0.6)
    axes.text(1560.0, 0.58, "annealing", fontsize=7)
    axes.text(450.0, 0.37, "P-only", fontsize=7, color=VERMILION)
    axes.text(700.0, 0.085, "Q-only", fontsize=7, color=BLUE)
    axes.text(700.0, 0.545, "Q-only", fontsize=7, color=BLUE)
    axes.set(title="two orders of learning", xlabel="training time", ylabel="training loss (nat)")
    axes.set(ylim=(0, 0.9), xlim=(0, 2300))
    axes.legend(loc="upper right", fontsize=6.5)


def _draw_map(axes: Axes, data: xr.Dataset, axis: str) -> QuadMesh:
    gap = 100 * data[f"paired_gap_{axis}"].transpose("separation", axis)
    image = axes.pcolormesh(
        data[axis], data.separation, gap, cmap="PuOr", vmin=-10, vmax=10, shading="nearest", rasterized=True
    )
    reversed_order = data[f"order_reversed_{axis}"].transpose("separation", axis).values > 0
    x, y = np.meshgrid(data[axis], data.separation)
    axes.plot(x[reversed_order], y[reversed_order], "o", color=BLACK, markersize=2.2, label="order reverses")
    for name, (text, color) in WALLS.items():
        quantity = data[f"quantity_{axis}"].sel(wall=name).transpose("fine_separation", ...)
        if float(quantity.min()) < 1 < float(quantity.max()):
            grid = data[f"fine_{axis}"], data.fine_separation
            axes.contour(*grid, np.log(quantity), levels=[0.0], colors=[color], linewidths=1.6)
            axes.plot([], [], color=color, label=text)
    axes.set(xscale="log", yscale="log", xlim=(gap[axis].min(), gap[axis].max()))
    axes.set(ylim=(gap.separation.min(), gap.separation.max()))
    ticks(axes.yaxis, [0.02, 0.05, 0.1, 0.2, 0.5])
    axes.set_yticks([], minor=True)
    return image


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=3.1)
    _draw_curves(axes[0], data)
    _draw_map(axes[1], data, "rate_ratio")
    axes[1].set(
        title="gap against rate ratio", ylabel="separation $r$ of the rays", xlabel=r"rate ratio $\eta_1/\eta_2$"
    )
    image = _draw_map(axes[2], data, "weight_decay")
    axes[2].set(title="against weight decay", xlabel=r"weight decay $\lambda$")
    figure.colorbar(image, ax=axes[2], label="error of small - large (points)")
    handles: dict[str, Any] = {}
    for panel in axes[1:]:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, fontsize=7)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    learnt = data.learnt_at
    for algorithm, sign, words in ((LARGE, 1, "P before Q"), (SMALL, -1, "Q before P")):
        there = learnt.sel(algorithm=algorithm)
        claim = heuristic(f"{words}: time of Q minus time of P, {algorithm.replace('_', ' ')}, at the desk")
        later = float(there.sel(pattern="Q") - there.sel(pattern="P"))
        yield claim.positive(later) if sign > 0 else claim.negative(later)
    yield heuristic("the small rate errs more on P-only examples, by three points at least, at the desk").above(
        0.03, float(data.p_only_error.sel(algorithm=SMALL) - data.p_only_error.sel(algorithm=LARGE))
    )
    paradox = data.loss.sel(algorithm=LARGE) - data.loss.sel(algorithm=SMALL)
    yield heuristic("until annealing the small rate has the lower training loss, by 0.2 at least at time 740").above(
        0.2, float(paradox.sel(time=740.0, method="nearest"))
    )
    for axis in MAPS:
        foreseen, seen = data[f"predicted_{axis}"], data[f"order_reversed_{axis}"]
        yield heuristic(
            f"wherever the time scales foresee a reversed order it is reversed, over {axis.replace('_', ' ')}"
        ).above(
            1.0,
            float(seen.where(foreseen > 0).mean()),
            note=f"sufficient, not necessary: foreseen in {int(foreseen.sum())} of {foreseen.size} cells, seen in "
            f"{int(seen.sum())}; the walls are orders of magnitude",
        )
        inside = (foreseen > 0) & (seen > 0)
        yield heuristic(
            f"the gap is positive where the order is foreseen to reverse and does, over {axis.replace('_', ' ')}"
        ).above(0.0, float(data[f"paired_gap_{axis}"].where(inside).min()))
