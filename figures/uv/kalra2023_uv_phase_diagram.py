r"""Narrow networks reduce their sharpness first, and all walls of the uv phase diagram bend to larger learning rates.

Two linear layers, one example, target 0. A learning rate is given by :math:`c`, its product with the sharpness of the
very network at the start. Left, what most networks do in 500 steps, by width; the walls are where the first step
begins to raise the loss, where it begins to raise the sharpness, and where runs begin to diverge: for the median
network, close to where the colours change, and in the mean over networks, which is measured. Right, how much sharpness
is left: below the first wall, where wide networks keep theirs, narrow ones lose a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, exact, heuristic, law
from figures.engine.colors import BLACK, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.models.uv import alignment_quantile, start_ratio
from sgdynamics.outcome import Outcome
from sgdynamics.simulate.uv import over_seeds, phase_diagram, thresholds
from sgdynamics.theory.uv import c_loss, c_max, c_sharp, mean_c_loss, mean_c_max, mean_c_sharp, no_catapult_probability

STEPS = 500
WIDTHS = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32, 48, 64, 128, 512)
MEASURED_WIDTHS = (4, 5, 6, 8, 11, 16, 32, 128)

# Every threshold of a start lies between its value at infinite width and the last number, and within the second over
# the width of the first; the third is the number of steps after which it is asked for.
RANGES = {"c_loss": (2.0, 80.0, 1, 5.3), "c_sharp": (2.5, 130.0, 1, 6.3), "c_max": (4.0, 80.0, STEPS, 6.05)}
WALLS = {
    "c_loss": ("loss rises", "theorem", "-"),
    "c_sharp": ("sharpness rises", "numeric root", "--"),
    "c_max": ("divergence", "theorem", "-."),
}

GONE = "#9A9A9A"
COLORS = (
    (Outcome.MONOTONE, "#DCE9F5"),
    (Outcome.LOSS_CATAPULT, "#A9DBC9"),
    (Outcome.LOSS_AND_SHARPNESS_CATAPULT, "#F6D9A0"),
    (Outcome.DIVERGED, GONE),
)

# Cells whose sharpness ratio is known.
CELLS = elsewhere("sharpness_ratio")


def _typical_walls(width: xr.DataArray) -> xr.Dataset:
    """The same for the start of median alignment, where half of the networks are on either side."""
    rho = start_ratio(alignment_quantile(0.75, width))
    return xr.Dataset(
        {
            "c_loss_typical": c_loss(rho, "hessian"),
            "c_sharp_typical": c_sharp(rho, "hessian"),
            "c_max_typical": c_max(rho, "hessian"),
        }
    )


def _walls(width: xr.DataArray) -> xr.Dataset:
    return xr.Dataset(
        {
            "c_loss": mean_c_loss(width, "hessian"),
            "c_sharp": mean_c_sharp(width, "hessian"),
            "c_max": mean_c_max(width, "hessian"),
        }
    )


def _measured(width: int, points: int, seeds: int) -> xr.Dataset:
    """Means over networks of the three thresholds, at the middle of the grid cell in which each lies."""
    found = {}
    for name, (low, reach, steps, end) in RANGES.items():
        # thresholds crowd just above their value at infinite width
        grid = low + (min(low + reach / width, end) - low) * np.linspace(0, 1, points) ** 2
        read = thresholds(phase_diagram(grid, width, steps=steps, seeds=seeds))
        known = read[f"{name}_censored"] == 0
        if name == "c_max":
            known |= read.c_max_censored < 0  # the first point is the smallest threshold there is
        middles = xr.DataArray((grid[1:] + grid[:-1]) / 2, dims="cell")
        cell = read[name].copy(data=np.searchsorted(grid, read[name]) - (name != "c_max")).clip(0, points - 2)
        middle = middles.isel(cell=cell).where(known)
        count = known.sum("seed")
        found[f"{name}_measured"] = middle.mean("seed")
        found[f"{name}_standard_error"] = middle.std("seed", ddof=1) / count**0.5
        found[f"{name}_missing"] = 1 - count / seeds
    return xr.Dataset(found).assign_coords(measured_width=width).expand_dims("measured_width")


def compute(fast: bool) -> xr.Dataset:
    c = np.linspace(0.05, 4.95, 99 if fast else 197)
    cells = over_seeds(phase_diagram(c, np.array(WIDTHS), steps=STEPS, seeds=200 if fast else 500))
    width = np.unique(np.round(1 / np.linspace(1 / 600, 1 / 3.7, 60)))
    along = axis("wall_width", width)
    walls = _walls(along)
    points, seeds = (160, 18_000) if fast else (240, 30_000)
    measured = xr.concat([_measured(width, points, seeds) for width in MEASURED_WIDTHS], "measured_width")
    predicted = _walls(measured.measured_width.drop_vars("measured_width").astype(float))
    known = {
        f"ratio_{width}": over_seeds(
            phase_diagram([c], width, steps=STEPS, seeds=4000 if fast else 20_000)
        ).sharpness_ratio_median.squeeze(drop=True)
        for width, c in CELLS.values
    }
    gone = (phase_diagram(4.1, 512, steps=STEPS, seeds=2000).outcome == Outcome.DIVERGED).mean()
    data = xr.merge(
        [
            cells,
            walls,
            _typical_walls(along),
            measured,
            predicted.rename({name: f"{name}_predicted" for name in walls}),
            xr.Dataset(known | {"share_diverged": gone}),
        ],
        combine_attrs="drop_conflicts",
        compat="no_conflicts",
    )
    data = data.assign(no_threshold=no_catapult_probability(data.measured_width.astype(float)))
    return described(data, source="kalra2023", steps=float(STEPS), seeds=float(seeds))


def _edges(values: np.ndarray) -> np.ndarray:
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([[values[0] - (middles[0] - values[0])], middles, [2 * values[-1] - middles[-1]]])


def _draw_walls(axes: Axes, data: xr.Dataset, color: str) -> None:
    height = 1 / data.wall_width
    for name, (text, kind, dashes) in WALLS.items():
        label = f"{text}, mean ({kind})"
        theory_line(axes, data[name], height, color=color, linestyle=dashes, linewidth=1.1, label=label)
        theory_line(axes, data[f"{name}_typical"], height, color=color, linestyle=":", linewidth=0.9)
    theory_line(axes, [], [], color=color, linestyle=":", linewidth=0.9, label="median network")
    axes.set(xlim=(0.05, 4.9), ylim=(0, 0.262), xlabel=r"$c$ = learning rate $\times$ initial sharpness")


def draw(data: xr.Dataset) -> Figure:
    figure, (left, right) = panels(1, 2, width=DOUBLE, height=3.5, sharey=True)
    codes = [int(code) for code, _ in COLORS]
    order = np.argsort(codes)
    place = order[np.searchsorted(np.sort(codes), data.majority.transpose("width", "c").values)]
    c, heights = _edges(data.c.values), np.clip(_edges(1 / data.width.values), 0, None)
    colors = ListedColormap([color for _, color in COLORS])
    left.pcolormesh(c, heights, place, cmap=colors, vmin=-0.5, vmax=len(COLORS) - 0.5, rasterized=True)
    _draw_walls(left, data, BLACK)
    for name in WALLS:
        left.errorbar(
            data[f"{name}_measured"],
            1 / data.measured_width,
            xerr=data[f"{name}_standard_error"],
            marker="o",
            linestyle="none",
            color=BLACK,
            markerfacecolor="white",
            elinewidth=0.8,
            zorder=4,
        )
    measured_points(left, [], [], [], color=BLACK, label="measured means")
    left.text(1.0, 0.12, "monotone", ha="center", va="bottom")
    left.text(3.4, 0.05, "loss and\nsharpness\ncatapult", ha="center", va="bottom")
    left.text(4.53, 0.05, "diver-\ngence", ha="center", va="bottom")
    left.annotate(
        "loss\ncatapult",
        (2.2, 0.022),
        (1.2, 0.022),
        va="center",
        ha="center",
        arrowprops={"arrowstyle": "->", "lw": 0.8},
    )
    left.set(ylabel="1 / width", title=f"what most networks do in {STEPS} steps")

    ratio = data.sharpness_ratio_median.transpose("width", "c")
    shown = right.pcolormesh(c, heights, ratio.where(np.isfinite(ratio)), vmin=0, vmax=1, rasterized=True)
    right.set_facecolor(GONE)
    _draw_walls(right, data, VERMILION)
    right.text(4.53, 0.05, "diver-\ngence", ha="center", va="bottom")
    right.set(title="sharpness left, final / initial (median)")
    figure.colorbar(shown, ax=right, pad=0.02)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    claims = {
        "c_loss": "mean over starts of where the first step begins to raise the loss, widths 4 to 128",
        "c_sharp": "mean over starts of where the first step begins to raise the sharpness, widths 4 to 128",
        "c_max": "mean over starts of where runs begin to diverge, 2(1 + sqrt(1 + 12 rho)), widths 4 to 128",
    }
    for name, claim in claims.items():
        yield law(claim).agreement(data, name, "mean")
    share, seeds = data.no_threshold, data.attrs["seeds"]
    yield exact("share of starts whose loss no first step raises, P(rho > 1/8)").close(
        share,
        data.c_loss_missing,
        scale=1.0,
        absolute=4 * (share * (1 - share) / seeds) ** 0.5 + 1e-3 / seeds**0.5,
        note="within four standard errors",
    )
    for (width, c), value in CELLS.values.items():
        yield heuristic(f"median of final over initial sharpness at width {width} and c = {c}, 500 steps").close(
            value, data[f"ratio_{width}"], absolute=CELLS.errors[width, c], note=CELLS.made_by
        )
    yield heuristic("at width 512 and c = 4.1 at least 99% of runs diverge").above(0.99, data.share_diverged)
    wide = data.sel(width=512)
    bands = {
        Outcome.MONOTONE: (0.0, 1.95),
        Outcome.LOSS_CATAPULT: (2.05, 2.5),
        Outcome.LOSS_AND_SHARPNESS_CATAPULT: (2.6, 3.95),
        Outcome.DIVERGED: (4.05, 4.9),
    }
    inside = [(wide.majority.sel(c=slice(*band)) == outcome).all().item() for outcome, band in bands.items()]
    yield asymptotic("at width 512 the walls stand at 2, 5/2 and 4", "kalra2023").close(
        len(bands),
        sum(inside),
        note="bands whose every point has the label; 5/2 is where the top Hessian eigenvalue begins to rise",
    )
