r"""The edge of the sharpest direction alone is optimistic: where the spectrum is flat, the trace sets the edge of SGD.

Examples with Hessians of rank one, drawn anew many times, with spectra that fall as :math:`j^{-p}`. Above, the largest
stable learning rate against the batch size in the first draw: exact in all directions, by the break-even criterion of
the sharpest direction, by the trace rule and by the norm of the noise kernel. Points are the rates at which the second
moment, propagated step by step, neither grows nor shrinks. Below, the rules over the exact edge in all draws, medians
and the range of nine in ten: the sharpest direction is never below 1, and for flat spectra far above it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.break_even import gaussian_features
from sgdynamics.theory.break_even import (
    batch_variance_factor,
    kernel_norm_edge,
    mean_square_edge,
    sharpest_direction_edge,
    trace_rule_edge,
)

Floats = NDArray[np.float64]

EXAMPLES, DIMENSIONS = 128, 20
DECAYS = (0.0, 1.0, 2.0)
TITLES = {0.0: "flat spectrum", 1.0: r"eigenvalues $\propto 1/j$", 2.0: r"eigenvalues $\propto 1/j^2$"}
BATCH_SIZES = np.array([1, 2, 4, 8, 16, 32, 64, 128])
MEASURED = np.array([1, 4, 16, 64])
RULES = {"exact": BLACK, "sharpest direction": VERMILION, "trace rule": BLUE, "kernel norm": GREEN}
# Draws of the range that is shown.
RANGE = (0.05, 0.5, 0.95)
# Draws of other sizes: examples, directions, decay.
OTHERS, OTHER_SIZES = ((64, 10, 1.0), (256, 20, 0.5)), np.array([1, 4, 16])


def _edges(features: Floats, batch_size: int) -> list[float]:
    spectrum = np.linalg.eigvalsh(features.T @ features / len(features))
    noise = batch_variance_factor(len(features), batch_size)
    return [
        mean_square_edge(features=features, batch_size=batch_size),
        sharpest_direction_edge(features=features, batch_size=batch_size),
        trace_rule_edge(spectrum, noise),
        kernel_norm_edge(spectrum, noise),
        2 / spectrum[-1],
    ]


def _measured_edge(features: Floats, batch_size: int, steps: int = 250) -> float:
    """Rate at which the second moment of SGD neither grows nor shrinks, by propagating it."""
    n, d = features.shape
    noise = (n - batch_size) / (batch_size * (n - 1))
    hessian = features.T @ features / n

    def growth(rate: float) -> float:
        moment, factor = np.eye(d) / d, 1.0
        step = np.eye(d) - rate * hessian
        for _ in range(steps):
            weights = np.einsum("ni,ni->n", features @ moment, features) / n
            spread = (features * weights[:, None]).T @ features - hessian @ moment @ hessian
            moment = step @ moment @ step + rate**2 * noise * spread
            factor = float(np.trace(moment))
            moment /= factor
        return factor

    low, high = 0.0, 2.2 / float(np.linalg.eigvalsh(hessian)[-1])
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if growth(middle) > 1 else (middle, high)
    return (low + high) / 2


TEXTS = {
    "edge": ("edge", "1/curvature"),
    "full_batch_edge": ("edge of full-batch descent", "1/curvature"),
    "measured_edge": ("rate at which the second moment neither grows nor shrinks, draw 0", "1/curvature"),
    "other_ratio": "edge of the sharpest direction over the exact one, draws of other sizes",
    "decay": "power by which eigenvalues fall",
    "batch_size": ("batch size", "examples"),
    "rule": "rule for the edge",
    "draw": "seed of the draw",
}


def compute(fast: bool) -> xr.Dataset:
    draws = 12 if fast else 100
    edges = np.empty((len(DECAYS), BATCH_SIZES.size, len(RULES) + 1, draws))
    measured = np.empty((len(DECAYS), MEASURED.size))
    for i, decay in enumerate(DECAYS):
        for seed in range(draws):
            features = gaussian_features(EXAMPLES, DIMENSIONS, decay=decay, seed=seed)
            edges[i, :, :, seed] = [_edges(features, int(size)) for size in BATCH_SIZES]
        first = gaussian_features(EXAMPLES, DIMENSIONS, decay=decay, seed=0)
        measured[i] = [_measured_edge(first, int(size)) for size in MEASURED]
    ratio = np.empty((2, len(OTHERS), OTHER_SIZES.size))
    for i, (n, d, decay) in enumerate(OTHERS):
        features = gaussian_features(n, d, decay=decay, seed=0)
        for j, size in enumerate(map(int, OTHER_SIZES)):
            optimistic = sharpest_direction_edge(features=features, batch_size=size)
            ratio[:, i, j] = (
                optimistic / mean_square_edge(features=features, batch_size=size),
                optimistic / _measured_edge(features, size),
            )
    data = xr.Dataset(
        {
            "edge": (("decay", "batch_size", "rule", "draw"), edges[:, :, :-1]),
            "full_batch_edge": (("decay", "draw"), edges[:, 0, -1]),
            "measured_edge": (("decay", "measured_batch_size"), measured),
            "other_ratio": (("other", "other_batch_size"), ratio[0]),
            "other_ratio_measured": (("other", "other_batch_size"), ratio[1]),
        },
        {
            "decay": list(DECAYS),
            "batch_size": BATCH_SIZES,
            "rule": list(RULES),
            "measured_batch_size": MEASURED,
            "draw": np.arange(draws),
        },
    )
    return described(data, TEXTS, source="derived", examples=float(EXAMPLES), dimensions=float(DIMENSIONS))


def _draw_edges(axes: Axes, data: xr.Dataset) -> None:
    full = float(data.full_batch_edge.sel(draw=0))
    axes.axhline(full, color=GREY, linewidth=0.8, linestyle=":")
    for rule, color in RULES.items():
        here = data.edge.sel(rule=rule, draw=0)
        theory_line(axes, data.batch_size, here, color=color, label=rule, linestyle="-" if rule == "exact" else "--")
    measured_points(axes, data.measured_batch_size, data.measured_edge, color=BLACK, label="second moment propagated")
    axes.set(xscale="log", yscale="log", title=TITLES[float(data.decay)])


def _draw_ratios(axes: Axes, data: xr.Dataset) -> None:
    ratio = data.edge / data.edge.sel(rule="exact")
    for rule, color in RULES.items():
        if rule == "exact":
            axes.axhline(1.0, color=color, linewidth=1.0)
            continue
        low, middle, high = (ratio.sel(rule=rule).quantile(level, "draw") for level in RANGE)
        axes.fill_between(data.batch_size, low, high, color=color, alpha=0.2, linewidth=0)
        theory_line(axes, data.batch_size, middle, color=color, linestyle="--")
    axes.set(xscale="log", xlabel="batch size")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 3, width=DOUBLE, height=4.4, sharex=True, sharey="row", layout="constrained")
    for i, decay in enumerate(DECAYS):
        here = data.sel(decay=decay)
        _draw_edges(axes[0, i], here)
        _draw_ratios(axes[1, i], here)
        ticks(axes[1, i].xaxis, [1, 4, 16, 64])
    axes[0, 0].set_ylabel("largest stable\nlearning rate [1/curvature]")
    axes[1, 0].set_ylabel("over the exact edge [1]")
    height = 1.08 * float(data.full_batch_edge.sel(decay=0.0, draw=0))
    axes[0, 0].text(1.0, height, "full batch", color=GREY, fontsize=7)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    edge = data.edge.sel(rule="exact", drop=True)
    one = data.edge.sel(rule="sharpest direction", drop=True)
    yield exact(
        "the second moment, propagated, neither grows nor shrinks at the exact edge, in all directions at once"
    ).close(
        edge.sel(draw=0, batch_size=MEASURED, drop=True).values,
        data.measured_edge.values,
        tolerance=1e-3,
        note="250 steps of the recursion from the identity, 24 bisections",
    )
    yield bound("the edge of the sharpest direction is never below the exact one, in any draw").above(
        edge, one, tolerance=1e-9
    )
    for number, (n, d, decay) in enumerate(OTHERS):
        here = data.isel(other=number)
        yield exact(
            f"sharpest direction over exact, {n} examples, {d} directions, eigenvalues 1/j^{decay:g}, as the second "
            "moment says at batch sizes 1, 4, 16"
        ).close(
            here.other_ratio.values,
            here.other_ratio_measured.values,
            tolerance=1e-3,
            note=", ".join(f"{value:.2f}" for value in here.other_ratio.values),
        )
    middle = (data.edge / edge).median("draw")
    yield heuristic(
        "for a flat spectrum the trace rule is within 3% of the exact edge, in the median draw, all batch sizes"
    ).close(
        1.0 + 0 * middle.sel(decay=0.0, rule="trace rule", drop=True),
        middle.sel(decay=0.0, rule="trace rule", drop=True),
        tolerance=0.03,
    )
    yield heuristic(
        "for a flat spectrum and single examples the sharpest direction promises more than three times the edge"
    ).above(3.0, float(middle.sel(decay=0.0, rule="sharpest direction", batch_size=1)))
    yield heuristic(
        "for eigenvalues 1/j^2 it promises less than a quarter too much, in the median draw, all batch sizes"
    ).below(1.25, middle.sel(decay=2.0, rule="sharpest direction", drop=True).max().item())
