r"""Batches of a reshuffled epoch take back each other's noise: the lower the gain, the less is left at its end.

One direction and eight examples. Above, the variance at epoch ends against gain for three ways to draw batches of two,
and its ratio to independent batches against the number of batches in an epoch, with one example a batch. Below, how the
noise comes and goes within an epoch; and what reshuffling does to random curvatures: the growth of the second moment
over one epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, exact
from figures.engine.colors import BLACK, BLUE, GREEN, ORANGE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.sampling import Indices, replica_mean
from figures.engine.style import DOUBLE, compared, panels, ticks
from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.break_even import batch_variance_factor
from sgdynamics.theory.quadratic import (
    mean_square_growth,
    reshuffled_edge,
    reshuffled_growth,
    reshuffled_variance,
    second_moment_edge,
    stationary_variance,
)

Floats = NDArray[np.float64]

SAMPLINGS: tuple[Any, ...] = ("replacement", "without_replacement", "reshuffled")
LABELS = {
    "replacement": "with replacement",
    "without_replacement": "without, a fresh sample each step",
    "reshuffled": "reshuffled",
}
COLORS = {"replacement": BLACK, "without_replacement": ORANGE, "reshuffled": BLUE}

EXAMPLES = 8
BATCH_SIZE = 2
GAINS = np.geomspace(0.02, 1.9, 60)
MEASURED_GAINS = (0.15, 0.3, 0.6, 1.0, 1.4, 1.8)
# Runs start at the minimum: by then a gain of 0.15 has its variance to 1e-6.
STEPS = 48

EPOCHS = (4, 8, 16, 32)
EPOCH_GAINS = (0.1, 0.3, 1.0)
EPOCH_COLORS = (GREEN, BLUE, VERMILION)
EPOCH_STEPS = 64

KNOWN_GAIN = 0.3
KNOWN_RATIO = elsewhere("reshuffled_variance").values[KNOWN_GAIN, EXAMPLES]

CURVATURES = (0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.6, 3.0)
RATES = np.linspace(0.05, 2.2, 87)
MEASURED_RATES = (0.3, 0.6, 0.9, 1.2)


def _centers(count: int) -> Floats:
    """Centers with mean 0 and variance 1, evenly spaced."""
    centers = np.arange(count) - (count - 1) / 2
    scaled: Floats = np.asarray(centers / centers.std(), dtype=np.float64)
    return scaled


def _squares(model: FiniteSumQuadratic, rates: xr.DataArray, record: Indices, replicas: int, seed: int) -> xr.Dataset:
    """Mean square error at the recorded steps, with its standard error; runs start at the minimum or where told."""
    schedule = constant(rates, int(record[-1]))

    def square(indices: Indices) -> xr.DataArray:
        error = ensemble(model, schedule, replicas=indices, seed=seed, record=record).error
        found: xr.DataArray = error.squeeze("mode", drop=True) ** 2
        return found

    mean, error = replica_mean(square, replicas, block=20_000)
    return xr.Dataset({"measured": mean, "standard_error": error})


def _along(name: str, values: tuple[float, ...]) -> xr.DataArray:
    return axis(name, values)


def _against_gain(replicas: int) -> xr.Dataset:
    gain = axis("gain", GAINS)
    at = _along("measured_gain", MEASURED_GAINS)

    def exact(gains: xr.DataArray) -> xr.DataArray:
        independent = stationary_variance(gains)
        factor = batch_variance_factor(EXAMPLES, BATCH_SIZE)
        found = [
            independent / BATCH_SIZE,
            factor * independent,
            reshuffled_variance(gains, EXAMPLES // BATCH_SIZE, BATCH_SIZE) / BATCH_SIZE,
        ]
        together: xr.DataArray = xr.concat(found, xr.DataArray(list(SAMPLINGS), dims="sampling", name="sampling"))
        return together

    measured = [
        _squares(
            FiniteSumQuadratic(1.0, _centers(EXAMPLES), batch_size=BATCH_SIZE, sampling=sampling),
            at,
            np.array([STEPS]),
            replicas,
            seed=71,
        ).squeeze("step", drop=True)
        for sampling in SAMPLINGS
    ]
    found = xr.concat(measured, xr.DataArray(list(SAMPLINGS), dims="sampling", name="sampling"))
    return xr.Dataset(
        {
            "variance": exact(gain),
            "variance_there": exact(at),
            "variance_measured": found.measured,
            "variance_standard_error": found.standard_error,
        }
    )


def _against_epoch(replicas: int) -> xr.Dataset:
    batches = axis("batches", np.arange(2.0, 65.0))
    at = _along("measured_batches", EPOCHS)
    gain = _along("epoch_gain", EPOCH_GAINS)
    measured = [
        _squares(
            FiniteSumQuadratic(1.0, _centers(count), sampling="reshuffled"),
            gain,
            np.array([EPOCH_STEPS]),
            replicas,
            seed=72,
        ).squeeze("step", drop=True)
        for count in EPOCHS
    ]
    found = xr.concat(measured, at) / stationary_variance(gain)
    # runs that started 64 steps ago have not forgotten it at the lowest gain
    since = 1 - (1 - gain) ** (2 * EPOCH_STEPS)
    return xr.Dataset(
        {
            "ratio": reshuffled_variance(gain, batches) / stationary_variance(gain),
            "ratio_there": reshuffled_variance(gain, at) / stationary_variance(gain) * since,
            "ratio_measured": found.measured,
            "ratio_standard_error": found.standard_error,
        }
    )


def _within(gain: float, ends: float, step: Indices) -> Floats:
    """Variance inside of an epoch: what the last one left, and noise whose parts have covariance -1/(n-1)."""
    keep = 1 - gain
    sums = np.array([np.sum(keep ** np.arange(k)) for k in step])
    squares = np.array([np.sum(keep ** (2 * np.arange(k))) for k in step])
    own: Floats = gain**2 * EXAMPLES / (EXAMPLES - 1) * (squares - sums**2 / EXAMPLES)
    return keep ** (2 * step) * ends + own


def _inside_an_epoch(replicas: int) -> xr.Dataset:
    model = FiniteSumQuadratic(1.0, _centers(EXAMPLES), sampling="reshuffled")
    gain = _along("inner_gain", EPOCH_GAINS)
    step = np.arange(EXAMPLES + 1)
    exact = [_within(float(x), float(reshuffled_variance(float(x), EXAMPLES)), step) for x in gain]
    found = _squares(model, gain, EPOCH_STEPS + step, replicas, seed=73)
    found = found.assign_coords(step=step).rename(step="inner_step")
    dims = ("inner_gain", "inner_step")
    return xr.Dataset(
        {
            "inner_variance": (dims, np.array(exact)),
            "inner_variance_measured": found.measured,
            "inner_variance_standard_error": found.standard_error,
        }
    )


def _random_curvature(replicas: int) -> xr.Dataset:
    rates = axis("rate", RATES)
    at = _along("measured_rate", MEASURED_RATES)
    steps = EXAMPLES // BATCH_SIZE
    exact, there, measured, edges = [], [], [], []
    for sampling in ("without_replacement", "reshuffled"):
        model = FiniteSumQuadratic(CURVATURES, displacement=1.0, batch_size=BATCH_SIZE, sampling=sampling)
        if sampling == "reshuffled":
            edges.append(reshuffled_edge(model))
            exact.append(reshuffled_growth(model, rates))
            there.append(reshuffled_growth(model, at))
        else:
            edges.append(float(second_moment_edge(model)))
            exact.append(mean_square_growth(model, rates) ** steps)
            there.append(mean_square_growth(model, at) ** steps)
        measured.append(_squares(model, at, np.array([steps]), replicas, seed=74).squeeze("step", drop=True))
    label = xr.DataArray(["without_replacement", "reshuffled"], dims="order", name="order")
    found = xr.concat(measured, label)
    return xr.Dataset(
        {
            "growth": xr.concat(exact, label),
            "growth_there": xr.concat(there, label),
            "growth_measured": found.measured,
            "growth_standard_error": found.standard_error,
            "growth_edge": xr.DataArray(edges, coords={"order": label.values}),
        }
    )


def _enumerated_ratio() -> float:
    """From every order of eight examples: variance that one epoch adds, over what is kept of it, over x/(2-x)."""
    keep = 1 - KNOWN_GAIN
    weights = KNOWN_GAIN * keep ** np.arange(EXAMPLES)
    orders = np.array(list(itertools.permutations(_centers(EXAMPLES))))
    added = np.mean((orders @ weights) ** 2)
    return float(added / (1 - keep ** (2 * EXAMPLES)) / (KNOWN_GAIN / (2 - KNOWN_GAIN)))


TEXTS = {
    "variance": ("variance at epoch ends", "center variance"),
    "ratio": "variance over that of independent batches",
    "inner_variance": ("variance inside of an epoch", "center variance"),
    "growth": "growth of the second moment over an epoch",
    "enumerated_ratio": "ratio of variances from all orders of an epoch",
    "known_ratio": "the same ratio by the formula",
    "growth_edge": ("learning rate at the edge", "1/mean curvature"),
    "rate": ("learning rate", "1/mean curvature"),
}


def compute(fast: bool) -> xr.Dataset:
    # A variance is seen to 2% from 8e4 replicas on.
    replicas = 90_000 if fast else 400_000
    parts = [part(replicas) for part in (_against_gain, _against_epoch, _inside_an_epoch)]
    parts.append(_random_curvature(4 * replicas))
    data = xr.merge(parts, combine_attrs="drop_conflicts")
    data["enumerated_ratio"] = _enumerated_ratio()
    data["known_ratio"] = reshuffled_variance(KNOWN_GAIN, EXAMPLES) / stationary_variance(KNOWN_GAIN)
    return described(data, TEXTS, source="derived", examples=float(EXAMPLES), batch_size=float(BATCH_SIZE))


def _draw_gain(axes: Axes, data: xr.Dataset) -> None:
    for sampling, color in COLORS.items():
        compared(axes, data.sel(sampling=sampling), "variance", color=color, label=LABELS[sampling])
    axes.set(xscale="log", yscale="log", xlabel=r"gain  $x = \eta h$", ylabel=r"variance at epoch ends / $\sigma^2$")
    axes.set_title(f"batches of {BATCH_SIZE} of {EXAMPLES} examples")
    ticks(axes.xaxis, [0.02, 0.1, 0.5, 2])
    axes.legend(loc="lower right", fontsize=6.5)


def _draw_ratio(axes: Axes, data: xr.Dataset) -> None:
    for gain, color in zip(EPOCH_GAINS, EPOCH_COLORS, strict=True):
        compared(axes, data.sel(epoch_gain=gain), "ratio", color=color, label=f"gain {gain:g}")
    axes.axhline(1.0, color=BLACK, linewidth=0.9)
    axes.text(2.1, 1.03, "independent batches", fontsize=7)
    axes.set(xscale="log", ylim=(0, 1.25), xlabel="batches per epoch, of one example", ylabel="variance / independent")
    ticks(axes.xaxis, [2, 4, 8, 16, 32, 64])
    axes.set_title("short epochs leave the least")
    axes.legend(loc="lower right", fontsize=7)


def _draw_inside(axes: Axes, data: xr.Dataset) -> None:
    for gain, color in zip(EPOCH_GAINS, EPOCH_COLORS, strict=True):
        compared(axes, data.sel(inner_gain=gain) / (gain / (2 - gain)), "inner_variance", color=color)
    axes.axhline(1.0, color=BLACK, linewidth=0.9)
    axes.set(ylim=(0, 1.25), xlabel="steps since the end of an epoch of 8", ylabel="variance / independent")
    axes.set_title("inside of an epoch the noise comes and goes")


def _draw_growth(axes: Axes, data: xr.Dataset) -> None:
    for order in data.order.values:
        here = data.sel(order=order)
        compared(axes, here, "growth", color=COLORS[order], label=LABELS[order])
        axes.axvline(float(here.growth_edge), color=COLORS[order], linestyle=":", linewidth=0.9)
    axes.axhline(1.0, color=BLACK, linewidth=0.6, zorder=1)
    axes.set(yscale="log", ylim=(1e-3, 30), xlabel=r"learning rate $\eta\,\bar h$")
    axes.set_ylabel("second moment over an epoch")
    axes.set_title("random curvature: reshuffling moves the edge")
    axes.legend(loc="upper left", fontsize=6.5)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.2)
    _draw_gain(axes[0, 0], data)
    _draw_ratio(axes[0, 1], data)
    _draw_inside(axes[1, 0], data)
    _draw_growth(axes[1, 1], data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("eight examples at gain 0.3: 0.4215809 of the variance of independent batches, by the formula").close(
        KNOWN_RATIO, data.known_ratio, absolute=1e-10
    )
    yield exact(
        "eight examples at gain 0.3: 0.4215809 of the variance of independent batches, from all 40320 orders"
    ).close(KNOWN_RATIO, data.enumerated_ratio, absolute=1e-10)
    for sampling in SAMPLINGS:
        here = data.sel(sampling=sampling, drop=True)
        yield exact(f"variance at epoch ends against gain, batches of two: {LABELS[sampling]}").statistical(
            here.variance_there, here.variance_measured, here.variance_standard_error, "variance"
        )
    yield exact(
        "variance at epoch ends over that of independent batches, four lengths of an epoch, three gains"
    ).statistical(data.ratio_there, data.ratio_measured, data.ratio_standard_error, "variance")
    inner = data.isel(inner_step=slice(1, None))
    yield exact("variance at every step of an epoch, three gains").statistical(
        inner.inner_variance, inner.inner_variance_measured, inner.inner_variance_standard_error, "variance"
    )
    yield exact("growth of the second moment over an epoch of random curvatures, four rates").statistical(
        data.growth_there,
        data.growth_measured,
        data.growth_standard_error,
        "variance",
        weakest=0.06,
        reason="a product of random factors scatters by several times its mean square",
    )
    edges = data.growth_edge
    yield exact(
        "these curvatures, reshuffled, are stable in mean square at rates at which independent batches are not"
    ).positive(float(edges.sel(order="reshuffled")) - float(edges.sel(order="without_replacement")))
