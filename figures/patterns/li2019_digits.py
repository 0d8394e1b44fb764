r"""Digits next to an easy pattern: even or odd is learnt better if the large learning rate comes first.

Left, the two-pattern model with digits in place of pattern P: 400 training images, whitened to 50 dimensions, of unit
length, labelled even or odd; Q is as before. Error on digits without Q, that the network has not seen, against training
time; points are means over draws, bands their range. Middle, the same at the end, draw by draw. Right, the nearest
relative of the published experiment: ten classes, a patch of 16 numbers that tells the class, and an ordinary network
trained with momentum. The images are dimmed to three tenths; then the small rate learns the patch first, as published.
What all patches share is long: its curvature is more than the large rate can hold, which learns the images alone until
it is annealed, and ends better on them, as published. A short one is learnt at once at the large rate, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import GREY
from figures.engine.style import DOUBLE, measured_points, panels, ticks
from figures.patterns._runs import COLORS, LABELS, LARGE, SMALL, grid, network_run
from sgdynamics.models.patterns import TwoPatternSample, TwoPatternSetting
from sgdynamics.simulate import trainer

Array = NDArray[np.float64]

EXAMPLES = 400
DIMENSIONS = 50
SETTING = replace(TwoPatternSetting.desk().with_data(dimension=DIMENSIONS), examples=EXAMPLES)
ALGORITHMS = (LARGE, SMALL)
POINTS = 12

# The experiment with ten classes: length of what all patches share and spread about it, rates, and the share of each
# kind of image. The images are dimmed: at their full length they are learnt sooner than the patch.
PATCH, PATCH_LENGTH, SHORT_LENGTH, SPREAD = 16, 6.0, 3.0, 0.3
RATES = {LARGE: 0.1, SMALL: 0.004}
PATCH_ONLY, CLEAN = 0.16, 0.2
DIMMED = 0.3
# The small rate needs as many steps to come to rest.
STEPS, FAST_STEPS, DRAWS = 40_000, 4000, 20
EARLY = (1000, 2000)
RECORD = sorted({200, 600, *EARLY, STEPS // 2, *np.geomspace(4000, STEPS, 8).astype(int).tolist()})


def _images(seed: int) -> trainer.Split:
    """Digits whitened by the statistics of the training images, each of unit length."""
    x, y, x_test, y_test = trainer.split(*trainer.digits(), train=EXAMPLES, seed=seed)
    white = [trainer.whitened(part, DIMENSIONS, reference=x) for part in (x, x_test)]
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in white]
    return trainer.Split(unit[0], y, unit[1], y_test)


# ---------------------------------------------------------------------------------------------------------------------
# Even or odd, next to pattern Q


def _parity_samples(seed: int) -> tuple[TwoPatternSample, TwoPatternSample]:
    """Training examples of all kinds, and test examples that carry both patterns."""
    x, y, x_test, y_test = _images(seed)
    train = SETTING.data.draw_around(x, 1 - 2 * (y % 2), seed)
    both = SETTING.with_data(p_only=0.0, q_only=0.0).data
    return train, both.draw_around(x_test, 1 - 2 * (y_test % 2), seed)


def _record() -> list[int]:
    """Steps that are evenly spaced on a logarithmic axis, then evenly; the same ones for both algorithms."""
    every = grid(SETTING, LARGE, POINTS)
    return sorted({*np.geomspace(1, every[-1], POINTS, dtype=int).tolist(), *every})


def _parity(seed: int) -> xr.Dataset:
    sample, test = _parity_samples(seed)
    rows = [
        network_run(SETTING, algorithm, seed, sample=sample, test=test, record=_record()) for algorithm in ALGORITHMS
    ]
    names = ["p_only_error", "q_only_error", "loss_p_only", "loss_q_only"]
    return xr.concat([row[names] for row in rows], "algorithm")


# ---------------------------------------------------------------------------------------------------------------------
# Ten classes, next to a patch


def _ten_classes(
    seed: int, steps: int, *, length: float = PATCH_LENGTH, algorithms: tuple[str, ...] = ALGORITHMS
) -> xr.Dataset:
    """Errors on images without a patch, and on patches without an image, along runs of the given steps."""
    x, y, x_test, y_test = _images(seed)
    x, x_test = DIMMED * x, DIMMED * x_test
    rng = np.random.default_rng(seed)
    center = rng.standard_normal(PATCH)
    center *= length / np.linalg.norm(center)
    offset = rng.uniform(-SPREAD, SPREAD, (10, PATCH))

    def patch(labels: NDArray[np.int64]) -> Array:
        sign = np.where(rng.random(len(labels)) < 0.5, 1.0, -1.0)
        return center + sign[:, None] * offset[labels]

    kind = rng.random(EXAMPLES)[:, None]
    inputs = np.hstack([np.where(kind < PATCH_ONLY, 0.0, x), np.where(kind >= 1 - CLEAN, 0.0, patch(y))])
    tests = {
        "clean_error": np.hstack([x_test, np.zeros((len(x_test), PATCH))]),
        "patch_error": np.hstack([np.zeros_like(x_test), patch(y_test)]),
    }

    def errors(here: trainer.Objective) -> dict[str, float]:
        found, net = {}, here.net
        (first, second), shifts = net.weights, net.biases or [np.zeros(1), np.zeros(1)]
        for name, inside in tests.items():
            hidden = np.maximum(inside @ first + shifts[0], 0.0)
            found[name] = float(((hidden @ second + shifts[1]).argmax(axis=1) != y_test).mean())
        return found

    net = trainer.network([DIMENSIONS + PATCH, 200, 10], "relu", seed=seed)
    rows = []
    for algorithm in algorithms:
        schedule = np.full(steps, RATES[SMALL])
        schedule[: steps // 2] = RATES[algorithm]
        run = trainer.trajectory(
            trainer.Objective(net, inputs, y, "cross_entropy", weight_decay=5e-4),
            schedule,
            batches=trainer.Batches(32, replacement=True, seed=seed),
            update=trainer.momentum(0.9),
            record=[step for step in RECORD if step <= steps],
            measure=errors,
            evaluate_loss=False,
        )
        rows.append(run[["clean_error", "patch_error"]].drop_vars("time").rename(step="patch_step"))
    return xr.concat(rows, "algorithm")


def compute(fast: bool) -> xr.Dataset:
    parity = xr.concat([_parity(seed) for seed in range(1 if fast else 4)], "seed")
    draws, steps = (1, FAST_STEPS) if fast else (DRAWS, STEPS)
    ten = xr.concat([_ten_classes(seed, steps) for seed in range(draws)], "patch_seed")
    data = xr.merge([parity, ten]).assign_coords(algorithm=list(ALGORITHMS))
    short = [
        _ten_classes(seed, 2 * EARLY[-1], length=SHORT_LENGTH, algorithms=(LARGE,)).patch_error.sel(
            patch_step=EARLY[-1]
        )
        for seed in range(draws)
    ]
    data["short_patch_error"] = ("patch_seed", np.concatenate(short))
    data.attrs["switch_step"] = float(SETTING.training.steps(LARGE).attrs["switch_step"])
    return data


def _draw_course(axes: Axes, data: xr.Dataset) -> None:
    switch = data.time.sel(step=int(data.attrs["switch_step"]))
    axes.axvline(switch, color=GREY, linewidth=0.8, linestyle=":")
    axes.text(float(switch) / 1.1, 0.47, "switch", color=GREY, fontsize=7, ha="right")
    for algorithm in ALGORITHMS:
        error = data.p_only_error.sel(algorithm=algorithm).isel(step=slice(1, None))  # the axis is logarithmic
        measured_points(axes, error.time, error.mean("seed"), color=COLORS[algorithm], label=LABELS[algorithm])
        axes.fill_between(
            error.time, error.min("seed"), error.max("seed"), color=COLORS[algorithm], alpha=0.15, linewidth=0
        )
    axes.set(title="even or odd, next to Q", xlabel="training time (sum of rates)")
    axes.set(xscale="log", ylim=(0, 0.5))
    axes.set_ylabel("test error on digits alone")
    axes.legend(loc="lower left", fontsize=6.5)


def _draw_ends(axes: Axes, data: xr.Dataset) -> None:
    for seed in data.seed.values if "seed" in data.coords else range(data.sizes["seed"]):
        ends = data.p_only_error.isel(step=-1, seed=seed)
        axes.plot([0, 1], ends, color=GREY, linewidth=0.8)
        for place, algorithm in enumerate(ALGORITHMS):
            measured_points(axes, [place], [ends.sel(algorithm=algorithm)], color=COLORS[algorithm], markersize=4)
    axes.set(title="at the end, paired", xlim=(-0.4, 1.4), ylim=(0.05, 0.14))
    axes.set_xticks([0, 1], ["large,\nthen small", "small"])
    axes.set_ylabel("test error on digits alone")


def _draw_ten(axes: Axes, data: xr.Dataset) -> None:
    for algorithm in ALGORITHMS:
        run = data.sel(algorithm=algorithm).mean("patch_seed")
        axes.plot(run.patch_step, run.clean_error, color=COLORS[algorithm], marker="o", markersize=2.5)
        axes.plot(run.patch_step, run.patch_error, color=COLORS[algorithm], marker="s", markersize=2.5, linestyle="--")
    axes.plot([], [], color=GREY, marker="o", markersize=2.5, label="images")
    axes.plot([], [], color=GREY, marker="s", markersize=2.5, linestyle="--", label="patch")
    axes.axvline(float(data.patch_step[-1]) / 2, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", title="ten classes: patch first", xlabel="step", ylim=(0, 1))
    last = int(data.patch_step[-1])
    ticks(axes.xaxis, [200, 2000, last])
    axes.set_ylabel("test error")
    axes.legend(loc="lower left", fontsize=6.5)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=2.6, width_ratios=[1.25, 0.75, 1.1])
    _draw_course(axes[0], data)
    _draw_ends(axes[1], data)
    _draw_ten(axes[2], data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    large, small = (data.sel(algorithm=algorithm) for algorithm in ALGORITHMS)
    switch = int(data.attrs["switch_step"])
    yield heuristic("even or odd is told worse after the small rate, in every draw", "li2019, abstract").above(
        0.0,
        (small.p_only_error - large.p_only_error).isel(step=-1, drop=True),
        note="error on digits without Q, at the end",
    )
    yield heuristic("the large rate holds Q back until annealing, next to digits too", "li2019, abstract").above(
        0.45, large.loss_q_only.sel(step=switch, drop=True)
    )
    yield heuristic("and Q is learnt without error in the end, by both", "li2019, abstract").below(
        0.0, data.q_only_error.isel(step=-1, drop=True)
    )
    early = small.sel(patch_step=list(EARLY)).mean("patch_seed")
    yield heuristic(
        "with ten classes and a patch the small rate learns the patch before the images", "li2019, abstract"
    ).below(
        -0.1,
        early.patch_error - early.clean_error,
        note=f"error on patches less error on images, after {EARLY[0]} and {EARLY[1]} steps",
    )
    held = [step for step in data.patch_step.values if EARLY[-1] <= step <= data.patch_step[-1] / 2]
    yield heuristic("with ten classes the large rate holds the patch back until annealing", "li2019, abstract").above(
        0.6, large.patch_error.sel(patch_step=held).mean("patch_seed"), note="error on patches; chance is 0.9"
    )
    yield heuristic("a patch whose common part is half as long is learnt at the large rate at once, too").below(
        0.1,
        data.short_patch_error.mean(),
        note=f"error on patches after {EARLY[-1]} steps, {data.sizes['patch_seed']} draws",
    )
    if data.sizes["patch_seed"] < DRAWS:  # a few draws, and not trained to the end, say nothing of the end
        return
    worse = (small.clean_error - large.clean_error).isel(patch_step=-1, drop=True)
    yield heuristic(
        "with ten classes and a patch the small rate ends worse on clean images", "li2019, abstract"
    ).positive(
        worse.mean(),
        float(worse.std(ddof=1)) / worse.size**0.5,
        note=f"after {STEPS} steps, {worse.size} draws, worse in {int((worse > 0).sum())}",
    )
