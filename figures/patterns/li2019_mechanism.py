r"""Noise that keeps turning the activation pattern takes the kink out of the kernel, and with it what teaches Q.

Above, on the left what two examples share (a share of units) when the weights have moved to a correlation rho in
between; on the right the curvature form, the rate at which pattern Q is learnt: of order r for a frozen pattern, of
order r^4 for one that moves. Below, what the large rate can hold, integrated over the memory of the weights, and the
variance of the noise after annealing, which falls only in the time of the weight decay: what annealing stops at once is
its motion. Points are random ReLU units, sums over
single steps, and chains of noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, asymptotic, exact
from figures.engine.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.theory.patterns import (
    annealed_variance,
    curvature_form,
    memory_integral,
    refreshed_curvature_form,
    refreshed_kernel,
    small_separation_memory,
    stationary_noise_variance,
)

Floats = NDArray[np.float64]

CORRELATIONS = np.array([1.0, 0.99, 0.9, 0.5])
COLORS = (BLUE, GREEN, ORANGE, VERMILION)
ANGLES = np.linspace(0.0, np.pi / 2, 91)
UNIT_ANGLES = np.array([0.1, 0.4, 0.8, 1.2])
SEPARATIONS = np.geomspace(0.01, 1.0, 61)
UNIT_SEPARATIONS = np.array([0.2, 0.4, 0.8])
SUM_SEPARATIONS = np.array([0.03, 0.1, 0.3, 1.0])
# One step of the sums forgets this much.
FORGOTTEN = 1e-5

# Of the memory integral to its cube law.
KNOWN_RATIOS = elsewhere("memory_over_cube_law").values

LARGE_RATE, WEIGHT_DECAY = 2.0, 0.05
RATIOS = np.array([3.0, 9.0, 30.0])
RATIO_COLORS = (BLUE, ORANGE, PURPLE)
# Weight decay times training time after annealing: whole numbers of steps at every ratio.
DECAY_TIMES = np.linspace(0.0, 3.0, 6)
CURVE_TIMES = np.linspace(0.0, 3.0, 91)
CHAINS = 100_000
SEED = 7


# A plane of so many units at a time stays in the cache.
AT_ONCE = 20_000


def _random_units(count: int, blocks: int) -> xr.Dataset:
    """Kernel and curvature form from random units, means over blocks with their standard errors."""
    kernel = np.zeros((blocks, CORRELATIONS.size, UNIT_ANGLES.size))
    form = np.zeros((blocks, CORRELATIONS.size, UNIT_SEPARATIONS.size))
    for block in range(blocks):
        generator = np.random.default_rng([SEED, block])
        for i, correlation in enumerate(CORRELATIONS):
            for _ in range(count // AT_ONCE):
                before, after = _units(AT_ONCE, correlation, generator)
                active = before[0] > 0
                for j, angle in enumerate(UNIT_ANGLES):
                    kernel[block, i, j] += np.mean(active & (np.cos(angle) * after[0] + np.sin(angle) * after[1] > 0))
                for j, r in enumerate(UNIT_SEPARATIONS):
                    form[block, i, j] += _form(before, after, r)
    kernel /= count // AT_ONCE
    form /= count // AT_ONCE
    return xr.Dataset(
        {
            name: (("correlation", axis), values)
            for label, axis, blocks in (("unit_kernel", "unit_angle", kernel), ("unit_form", "unit_separation", form))
            for name, values in (
                (label, blocks.mean(axis=0)),
                (f"{label}_standard_error", blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))),
            )
        }
    )


def _units(count: int, correlation: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Weights (2, unit) at two times, in the plane of the examples."""
    before, fresh = generator.standard_normal((2, 2, count))
    return before, correlation * before + np.sqrt(1 - correlation**2) * fresh


def _form(before: Floats, after: Floats, r: float) -> float:
    """Mean over units of the product of the gradients of the curvature at two times.

    A gradient is a sum over the rays that a unit is active on, so that there are eight of them.
    """
    rays = np.array([[1.0, 0.0], [1.0, r], [1.0, -r]])
    active = (np.arange(8)[:, None] >> np.arange(3)) & 1
    bent = active * [1.0, -0.5, -0.5] @ rays
    pairs = np.bincount(8 * _activity(before, r) + _activity(after, r), minlength=64)
    return float(pairs @ (bent @ bent.T).ravel() / pairs.sum())


def _activity(weights: Floats, r: float) -> NDArray[np.int64]:
    """Which of the rays (1, 0), (1, r) and (1, -r) every unit is active on, as the bits of a number."""
    along, across = weights[0], r * weights[1]
    code: NDArray[np.int64] = (along > 0) + 2 * (along + across > 0) + 4 * (along > across)
    return code


def _step_sums() -> Floats:
    """What is held in the stationary state, summed over single steps of weight decay."""
    steps = np.arange(1, round(12 / FORGOTTEN))
    left = np.exp(steps * np.log1p(-FORGOTTEN))
    return np.array([FORGOTTEN * (left * refreshed_curvature_form(r, left)).sum() for r in SUM_SEPARATIONS])


def _chains(ratio: float) -> Floats:
    """Variance of independent chains after annealing, at the recorded times."""
    generator = np.random.default_rng([SEED, 1000 + round(ratio)])
    small = LARGE_RATE / ratio
    noise = small / np.sqrt(stationary_noise_variance(LARGE_RATE, WEIGHT_DECAY))
    weights = generator.standard_normal(CHAINS)
    made, done, fresh = [], 0, np.empty(CHAINS)
    for step in _steps_at(DECAY_TIMES, ratio):
        for _ in range(step - done):
            generator.standard_normal(out=fresh)
            weights *= 1 - small * WEIGHT_DECAY
            fresh *= noise
            weights += fresh
        done = step
        made.append((weights**2).mean())
    return np.array(made)


def _steps_at(decay_times: Floats, ratio: float) -> NDArray[np.int64]:
    return np.rint(decay_times / (WEIGHT_DECAY * LARGE_RATE / ratio)).astype(np.int64)


def _annealed(decay_times: Floats) -> list[Floats]:
    return [
        annealed_variance(LARGE_RATE, LARGE_RATE / ratio, WEIGHT_DECAY, _steps_at(decay_times, ratio))
        for ratio in RATIOS
    ]


def compute(fast: bool) -> xr.Dataset:
    data = _random_units(40_000 if fast else 1_000_000, 20)
    data = data.assign_coords(
        correlation=CORRELATIONS,
        angle=ANGLES,
        unit_angle=UNIT_ANGLES,
        separation=SEPARATIONS,
        unit_separation=UNIT_SEPARATIONS,
        sum_separation=SUM_SEPARATIONS,
        ratio=RATIOS,
        decay_time=DECAY_TIMES,
        curve_time=CURVE_TIMES,
    )
    data["kernel"] = refreshed_kernel(data.angle, data.correlation)
    data["kernel_there"] = refreshed_kernel(data.unit_angle, data.correlation)
    data["form"] = refreshed_curvature_form(data.separation, data.correlation)
    data["form_there"] = refreshed_curvature_form(data.unit_separation, data.correlation)
    data["memory"] = memory_integral(data.separation)
    data["cube_law"] = small_separation_memory(data.separation)
    data["memory_there"] = memory_integral(data.sum_separation)
    known = xr.DataArray(list(KNOWN_RATIOS), dims="known_separation")
    data["known_ratio"] = memory_integral(known) / small_separation_memory(known)
    data["step_sum"] = ("sum_separation", _step_sums())
    data["variance"] = (("ratio", "decay_time"), _annealed(DECAY_TIMES))
    data["variance_curve"] = (("ratio", "curve_time"), _annealed(CURVE_TIMES))
    data["chain_variance"] = (("ratio", "decay_time"), [_chains(ratio) for ratio in RATIOS])
    data["chain_variance_standard_error"] = data.variance * np.sqrt(2 / CHAINS)
    texts = {"correlation": "correlation of the weights", "ratio": "large over small rate"}
    return described(data, texts, source="derived", seed=float(SEED))


def _draw_by_correlation(axes: Axes, data: xr.Dataset, line: str, points: str, x: str, there: str) -> None:
    for color, correlation in zip(COLORS, CORRELATIONS, strict=True):
        here = data.sel(correlation=correlation)
        theory_line(axes, data[x], here[line], color=color, label=rf"$\rho = {correlation:g}$")
        error = here[f"{points}_standard_error"]
        measured_points(axes, data[there], here[points], error, color=color, markersize=3)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.2)
    _draw_by_correlation(axes[0, 0], data, "kernel", "unit_kernel", "angle", "unit_angle")
    axes[0, 0].set(title="moving patterns lose the kink at angle 0", xlabel=r"angle $\theta$ (radians)")
    axes[0, 0].set_ylabel("share of units active on both")
    axes[0, 0].set_ylim(0.15, 0.52)
    axes[0, 0].legend(loc="lower left", ncols=2)

    _draw_by_correlation(axes[0, 1], data, "form", "unit_form", "separation", "unit_separation")
    axes[0, 1].set(xscale="log", yscale="log", ylim=(1e-10, 1), title=r"and learn Q as $r^4$ instead of $r$")
    axes[0, 1].set(xlabel="separation $r$ of the rays", ylabel=r"curvature form $e^\top K e$")
    for power, place, at in ((1, (0.02, 7e-3), "$r$"), (4, (0.016, 2e-9), "$r^4$")):
        axes[0, 1].text(*place, at, color=BLUE if power == 1 else VERMILION)

    low = axes[1, 0]
    theory_line(low, data.separation, data.memory / data.separation**3, color=BLUE, label="memory integral")
    law = data.cube_law / data.separation**3
    theory_line(low, data.separation, law, color=GREY, linestyle="--", label=r"$r^3/(3\pi)$")
    there = data.sum_separation
    measured_points(low, there, data.step_sum / there**3, color=BLUE, label="sum over single steps")
    low.set(xscale="log", ylim=(0, 0.12), title=r"what the large rate holds goes as $r^3$")
    low.set(xlabel="separation $r$ of the rays", ylabel=r"$I(r)/r^3$")
    low.legend(loc="lower left")

    right = axes[1, 1]
    for color, ratio in zip(RATIO_COLORS, RATIOS, strict=True):
        here = data.sel(ratio=ratio)
        theory_line(right, data.curve_time, here.variance_curve, color=color, label=rf"$\eta_1/\eta_2 = {ratio:g}$")
        measured_points(
            right, data.decay_time, here.chain_variance, here.chain_variance_standard_error, color=color, markersize=3
        )
    right.set(title=r"the noise outlives annealing by $1/(2\lambda)$", xlabel=r"$\lambda\,T$ after annealing")
    right.set(ylabel="variance of a weight / before", ylim=(0, 1.05))
    right.legend(loc="upper right")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("share of random units active on both examples, four correlations and four angles").statistical(
        data.kernel_there, data.unit_kernel, data.unit_kernel_standard_error, "mean"
    )
    yield exact("curvature form of random units, four correlations and three separations").statistical(
        data.form_there,
        data.unit_form,
        data.unit_form_standard_error,
        "variance",
        scale=curvature_form(data.unit_separation),
        note="relative to the form of a frozen pattern",
    )
    yield asymptotic("memory integral is the sum over single steps, four separations").close(
        data.memory_there, data.step_sum, tolerance=0.01, note=f"steps that forget {FORGOTTEN:g}; the sum lies below"
    )
    yield exact("memory integral over its cube law at separations 0.1 and 0.03: 0.961 and 0.989").close(
        list(KNOWN_RATIOS.values()), data.known_ratio.values, absolute=5e-4
    )
    yield exact("variance of chains of noise after annealing, three rate ratios").statistical(
        data.variance, data.chain_variance, data.chain_variance_standard_error, "variance"
    )
