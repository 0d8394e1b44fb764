r"""A larger learning rate or a smaller batch keeps the largest sharpness low, and the gradient noise at equal loss.

Runs are compared at equal sums of learning rates. The largest sharpness along a run falls with the learning rate and
rises with the batch size, also where it stays far below the edge of stability, the lines. The covariance of
per-example gradients follows only where runs are compared at one training loss. Its maximum along a run, once the loss
is below 1.05, is no smaller on small batches, and at the full batch knows no rate. Batch normalisation, to which the
paper extends its claims, is not covered: the network here has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.break_even._digits_sharpness import (
    EXAMPLES,
    RECIPE,
    TIME,
    TIME_TO_LEVEL,
    covariance_at_loss,
    covariance_path,
    name_of,
    run,
    standard_error,
)
from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.theory.break_even import sharpness_bound

SIZES = (8, 32, 128, EXAMPLES)
RATES = (0.1, 0.4, 0.8)
NOISE_RATES = (0.1, 0.3, 1.0)
PATH_RATES = (0.1, 0.4)
PATH_SIZES = (8, EXAMPLES)
PATH_SEEDS = 8
COLORS = (BLUE, VERMILION, GREEN)
LEVEL = 0.85
# One run does not tell a tenth from its scatter.
NOISE_SEEDS = 3
# The start of a run, where the gradient covariance is largest, is left out.
PAST_THE_START = 1.05
# Near divergence at the largest rate.
LEFT_OUT = {(0.8, 8), (1.0, 8)}


def _grid(
    rates: tuple[float, ...],
    sizes: tuple[int, ...],
    seeds: int,
    one: Callable[[float, int, int], float],
    names: tuple[str, ...],
) -> xr.DataArray:
    values = np.full((len(rates), len(sizes), seeds), np.nan)
    for place in np.ndindex(values.shape):
        rate, size = rates[place[0]], sizes[place[1]]
        if (rate, size) not in LEFT_OUT:
            values[place] = one(rate, size, place[2])
    return xr.DataArray(values, {names[0]: list(rates), names[1]: list(sizes), names[2]: np.arange(seeds)})


def _largest_sharpness(rate: float, batch_size: int, seed: int) -> float:
    return float(run(rate, batch_size, seed, along=False).sharpness.max())


def _largest_covariance(rate: float, batch_size: int, seed: int, *, measurements: int) -> float:
    path = covariance_path(
        rate,
        batch_size,
        seed,
        loss="cross_entropy",
        time=TIME_TO_LEVEL,
        measurements=measurements,
        below=PAST_THE_START,
    )
    return float(path.covariance_top.max())


def _top_at_loss(rate: float, batch_size: int, seed: int) -> float:
    return covariance_at_loss(rate, batch_size, seed, LEVEL)[0]


def _trace_at_loss(rate: float, batch_size: int, seed: int) -> float:
    return covariance_at_loss(rate, batch_size, seed, LEVEL)[1]


def compute(fast: bool) -> xr.Dataset:
    seeds = 1 if fast else 3
    rates, sizes = (RATES[:2], (8, EXAMPLES)) if fast else (RATES, SIZES)
    noise_rates, noise_sizes = (NOISE_RATES[1:], (8, 32, EXAMPLES)) if fast else (NOISE_RATES, SIZES)
    noise = ("noise_rate", "noise_batch_size", "noise_seed")
    at_loss = [_grid(noise_rates, noise_sizes, NOISE_SEEDS, one, noise) for one in (_top_at_loss, _trace_at_loss)]
    path_rates, path_sizes = (PATH_RATES[1:], PATH_SIZES) if fast else (PATH_RATES, PATH_SIZES)
    path_seeds = 1 if fast else PATH_SEEDS
    path_names = ("path_rate", "path_batch_size", "path_seed")
    largest = partial(_largest_covariance, measurements=10 if fast else 30)
    path = _grid(path_rates, path_sizes, path_seeds, largest, path_names)
    data = xr.Dataset(
        {
            "sharpness": _grid(rates, sizes, seeds, _largest_sharpness, ("learning_rate", "batch_size", "seed")),
            "edge": ("learning_rate", sharpness_bound(np.array(rates))),
            "covariance_top": at_loss[0],
            "gradient_variance": at_loss[1],
            "largest_covariance_top": path,
        }
    )
    left_out = "; missing near divergence"
    at = f"at a cross-entropy of {LEVEL} on labels of which a fifth are random"
    descriptions = {
        "sharpness": (f"largest sharpness of a run{left_out}", "curvature"),
        "edge": ("edge of stability", "curvature"),
        "covariance_top": (f"largest eigenvalue of the gradient covariance {at}{left_out}", "squared gradient"),
        "gradient_variance": (f"trace of the gradient covariance {at}{left_out}", "squared gradient"),
        "largest_covariance_top": (
            f"largest eigenvalue of the gradient covariance, largest of a run once its loss is below {PAST_THE_START}",
            "squared gradient",
        ),
        "seed": "seed of start and batches",
        "noise_seed": "seed of start and batches",
        "path_seed": "seed of start and batches",
    }
    for prefix in ("", "noise_", "path_"):
        descriptions[f"{prefix}batch_size"] = ("batch size", "examples")
        descriptions["learning_rate" if not prefix else f"{prefix}rate"] = ("learning rate", "1/curvature")
    return described(data, descriptions, source="jastrzebski2020", time=TIME, **RECIPE)


def _draw(axes: Axes, values: xr.DataArray, rate: str, size: str, seed: str = "seed") -> None:
    for number, color in zip(range(values.sizes[rate]), COLORS, strict=False):
        row = values.isel({rate: number}).dropna(size)
        label = rf"$\eta$ = {float(row[rate]):g}"
        places = np.arange(values.sizes[size])[-row.sizes[size] :]
        shift = 0.08 * (number - 1)
        measured_points(axes, places + shift, row.mean(seed), standard_error(row, seed), color=color, label=label)
    axes.set_xticks(np.arange(values.sizes[size]), [name_of(int(one)) for one in values[size]])
    axes.set(xlabel="batch size", xlim=(-0.4, values.sizes[size] - 0.6))


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=4.8)
    _draw(axes[0, 0], data.sharpness, "learning_rate", "batch_size")
    for edge, color in zip(data.edge.values, COLORS, strict=False):
        theory_line(axes[0, 0], axes[0, 0].get_xlim(), [edge, edge], color=color)
    axes[0, 0].text(
        0.98, 0.98, "lines: edges 2/$\\eta$\n(that of 0.1 is 20)", transform=axes[0, 0].transAxes, va="top", ha="right"
    )
    axes[0, 0].set(title="sharpness: lower by rate and by noise", ylabel="largest sharpness", ylim=(0, 10))
    axes[0, 0].legend(loc="upper left")
    for panel, values, label in (
        (axes[0, 1], data.covariance_top, "top eigenvalue of covariance"),
        (axes[1, 0], data.gradient_variance, "trace of covariance"),
    ):
        _draw(panel, values, "noise_rate", "noise_batch_size", "noise_seed")
        panel.set(ylabel=label, ylim=(0, 1.15 * float(values.max())))
        panel.legend(loc="lower right")
    axes[0, 1].set(title=f"gradient noise at equal loss {LEVEL}")
    axes[1, 0].set(title="the same, all directions together")
    _draw(axes[1, 1], data.largest_covariance_top, "path_rate", "path_batch_size", "path_seed")
    axes[1, 1].set(
        title="its maximum along a run: no lower by noise",
        ylabel="top eigenvalue, largest of a run",
        ylim=(0, 1.15 * float(data.largest_covariance_top.max())),
    )
    axes[1, 1].legend(loc="lower right")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    mean = data.sharpness.mean("seed")
    both = mean.sel(learning_rate=[0.1, 0.4])
    yield heuristic("largest sharpness rises with the batch size", "jastrzebski2020, conjecture 1").positive(
        both.diff("batch_size")
    )
    yield heuristic(
        "largest sharpness falls with the learning rate, for every batch size", "jastrzebski2020, conjecture 1"
    ).negative(both.diff("learning_rate"))
    below = data.covariance_top / data.covariance_top.sel(noise_batch_size=EXAMPLES)
    traces = data.gradient_variance / data.gradient_variance.sel(noise_batch_size=EXAMPLES)
    for name, ratios, rate, size in (("trace", traces, 0.3, 8), ("largest eigenvalue", below, 1.0, 32)):
        found = ratios.sel(noise_rate=rate, noise_batch_size=size)
        yield heuristic(
            f"{name} of the gradient covariance at equal loss: on batches of {size} a tenth below the full batch",
            "jastrzebski2020, conjecture 1",
        ).below(
            0.9,
            found.mean("noise_seed"),
            note=f"learning rate {rate:g}, ratio {float(found.mean()):.3f} "
            f"with standard error {float(standard_error(found, 'noise_seed')):.3f}",
        )
    path = np.log(data.largest_covariance_top)
    if path.sizes["path_seed"] < PATH_SEEDS:  # one run does not tell
        return
    rises = (path.sel(path_batch_size=EXAMPLES) - path.sel(path_batch_size=PATH_SIZES[0])).mean("path_rate")
    yield heuristic(
        "largest gradient covariance along a run rises with the batch size", "jastrzebski2020, conjecture 1"
    ).positive(
        rises.mean("path_seed"),
        standard_error(rises, "path_seed"),
        note=f"logarithm of its ratio, all examples over batches of {PATH_SIZES[0]}, {rises.sizes['path_seed']} "
        f"pairs, once the cross-entropy is below {PAST_THE_START}",
    )
    falls = (path.sel(path_rate=PATH_RATES[1]) - path.sel(path_rate=PATH_RATES[0])).sel(path_batch_size=EXAMPLES)
    yield heuristic(
        "largest gradient covariance along a run falls with the learning rate", "jastrzebski2020, conjecture 1"
    ).negative(
        falls.mean("path_seed"),
        standard_error(falls, "path_seed"),
        note="full batch; logarithm of the ratio of rates 0.4 and 0.1",
    )
