r"""After the first transient, deep and narrow networks have lost sharpness at every learning rate, wide ones have not.

Full-batch gradient descent of relu networks on 256 digits. The sharpness at one time, learning rates of all steps times
initial sharpness, is compared with that of the start. The line is the uv network of infinite width, which keeps its
sharpness below :math:`c = 2` and loses it above. Large marks say where the curve bends down most. That is a convention:
curves that fall gradually have no bend to speak of, and networks are compared by where a tenth is lost instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION
from figures.engine.labels import described
from figures.engine.style import measured_points, panels, theory_line
from figures.uv._network_phases import images, networks, processes
from sgdynamics.simulate import trainer
from sgdynamics.theory.uv import catapult_final_ntk

TIME = 100.0
SHAPES = ((2, 256), (2, 64), (2, 32), (5, 128), (5, 32))
FAST_SHAPES = ((2, 128), (2, 32), (4, 32))
# Networks that are compared by the learning rate at which so much of the sharpness is left; the first is the wide one.
KEPT = (0.9, 0.75)
KEPT_SHAPES = ((2, 128), (2, 32), (5, 32))
KEPT_C = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 2.5])
# The smallest gap, at nine tenths, is then seven of its standard errors.
KEPT_STARTS = 24
LOOKS = ((BLUE, "o"), (GREEN, "s"), (ORANGE, "^"), (PURPLE, "D"), (VERMILION, "v"))


def _first_below(ratio: xr.DataArray, level: float) -> xr.DataArray:
    """The smallest c, between the points of the grid, at which a ratio, 1 at 0, falls below a level."""
    c = np.concatenate([[0.0], ratio.kept_c.values])

    def one(values: NDArray[np.float64]) -> float:
        curve = np.concatenate([[1.0], values])
        after = int(np.argmax(curve < level))
        if not after:
            return float(c[-1])  # later than the grid: no less than this
        return float(np.interp(-level, -curve[[after - 1, after]], c[[after - 1, after]]))

    found: xr.DataArray = xr.apply_ufunc(one, ratio, input_core_dims=[["kept_c"]], vectorize=True)
    return found


def _many_starts(seeds: int) -> xr.DataArray:
    """Saturated over initial sharpness of every network, on a coarse grid of learning rates."""
    options: dict[str, Any] = {**images(), **networks(*KEPT_SHAPES), "c": KEPT_C, "processes": processes()}
    found = trainer.network_saturation(**options, seeds=seeds, activation="relu", time=TIME)
    ratio = found.sharpness_ratio.where(
        np.isfinite(found.sharpness_ratio), 0.0
    )  # of runs that diverged nothing is left
    kept = ratio.rename(network="kept_network", seed="kept_seed", c="kept_c")
    return xr.DataArray(kept.drop_vars([name for name in ("depth", "width") if name in kept.coords]))


def compute(fast: bool) -> xr.Dataset:
    shapes = networks(*(FAST_SHAPES if fast else SHAPES))
    c = np.linspace(0.5, 3.5, 16 if fast else 31)
    options: dict[str, Any] = {**images(), **shapes, "c": c, "seeds": 2 if fast else 5, "processes": processes()}
    found = trainer.network_saturation(**options, activation="relu", time=TIME)
    alive = np.isfinite(found.sharpness_ratio).all("seed")
    mean = found.sharpness_ratio.where(alive, 0.0).mean("seed")
    error = found.sharpness_ratio.where(alive, 0.0).std("seed", ddof=1) / found.sizes["seed"] ** 0.5
    along = xr.DataArray(np.linspace(2, 3, 41)[1:], dims="wall_c")
    data = found.assign(
        ratio_mean=mean,
        ratio_standard_error=error,
        diverged=(~np.isfinite(found.sharpness_ratio)).sum("seed"),
        bend=trainer.critical_c(mean, window=5 if fast else 9),
        uv_ratio=(catapult_final_ntk(along) / along).assign_coords(wall_c=along),
        depth=shapes["depth"],
        width=shapes["width"],
        kept_ratio=_many_starts(4 if fast else KEPT_STARTS),
    )
    texts = {"ratio_mean": "mean of saturated over initial sharpness", "diverged": "runs that diverged"}
    texts |= {"kept_ratio": "saturated over initial sharpness", "kept_c": "learning rate times initial sharpness"}
    return described(data, texts, source="kalra2023")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(height=3.2)
    for (color, marker), network in zip(LOOKS, data.network.values, strict=False):
        one = data.sel(network=network)
        label = f"depth {int(one.depth)}, width {int(one.width)}"
        error = one.ratio_standard_error
        measured_points(axes, one.c, one.ratio_mean, error, color=color, marker=marker, markersize=3, label=label)
        axes.plot(one.c, one.ratio_mean, "-", color=color, linewidth=0.6, alpha=0.6)
        axes.plot(one.bend, one.ratio_mean.sel(c=one.bend), marker, color=color, markersize=8, zorder=4)
    theory_line(axes, [0.4, 2.0, *data.wall_c.values], [1.0, 1.0, *data.uv_ratio.values], color=BLACK, label="uv, wide")
    axes.axvline(2.0, color=BLACK, linestyle=":", linewidth=0.8)
    axes.set(
        xlabel=r"$c$ = learning rate $\times$ initial sharpness",
        ylabel="saturated / initial sharpness",
        ylim=(0, 1.15),
    )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    names = data.network.values.tolist()
    wide = names[0]
    mean = data.ratio_mean
    narrow = [name for name in names if name.startswith("2")][-1]
    deep = names[-1]
    at = mean.sel(c=1.0, method="nearest", drop=True)
    for text, other in (("narrower", narrow), ("deeper and narrower", deep)):
        yield heuristic(
            f"at c = 1 {text} networks keep less of their sharpness than the widest of two layers",
            "kalra2023, abstract",
        ).below(at.sel(network=wide, drop=True), at.sel(network=other, drop=True), note=f"{other} against {wide}")
    yield heuristic(
        "the saturated sharpness of the widest two-layer networks bends down at 2", "kalra2023, phase diagrams"
    ).close(
        2.0,
        data.bend.sel(network=wide),
        absolute=0.35,
        note="a few points of the grid; the steepest bend is not the first sign of a fall",
    )
    wide_network, *others = data.kept_network.values.tolist()
    for level in KEPT:
        c = _first_below(data.kept_ratio, level)
        gap = c.sel(kept_network=others) - c.sel(kept_network=wide_network, drop=True)
        means = ", ".join(f"{name}: {float(mean):.2f}" for name, mean in c.mean("kept_seed").to_series().items())
        yield heuristic(
            f"narrower and deeper networks keep {level:g} of their sharpness up to a smaller c than a wide one",
            "kalra2023, phase diagrams",
        ).negative(
            gap.mean("kept_seed"),
            gap.std("kept_seed", ddof=1) / gap.sizes["kept_seed"] ** 0.5,
            note=f"{means}; paired over {gap.sizes['kept_seed']} seeds",
        )
