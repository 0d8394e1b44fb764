r"""Noise in plans: heavy tails and reshuffling with momentum, growing batches, weight decay, and noise scales.

Top left, the gain at which almost every path of the heavy ball ceases to be stable under curvature noise with the
Cauchy law, where nothing is stable in mean square: points are where measured growth crosses 0. Top middle, two examples
of curvatures 1/2 and 3/2: reshuffling helps with little momentum and hurts with more; points are where all sequences of
ten epochs together cease to shrink; beside them, where almost every path of independent batches does. Top right, least
squares on independent features of one variance: their kurtosis moves the edge of a few directions only; points are
enumerated steps. Bottom left, a plateau, and then a linear decay or a growing batch of as many examples: the ramp ends
on the same noise in half the steps. Bottom middle, where the mean comes to rest under weight decay, decoupled or as a
penalty in the loss. Bottom right, the noise scale of the gradient along a run: on the plateau it is that of the run,
more than twice as large at half the rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.optimize import brentq

from figures.engine.check import Check, asymptotic, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, ORANGE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, compared, measured_points, panels, theory_line
from sgdynamics.models.quadratic import FiniteSumQuadratic, MiniBatchQuadratic
from sgdynamics.models.schedules import constant, linear
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import (
    almost_sure_edge,
    almost_sure_edge_gain,
    decayed_minimiser,
    mean_square_edge_gain,
    moments,
    noise_scale,
    plateau_noise_scale,
    reshuffled_edge,
    stability_edge,
    trace_rule_term,
)

Draw = Callable[[np.random.Generator, int], np.ndarray]  # curvatures of one step of some paths

WIDTHS = {0.05: (BLUE, "o"), 0.5: (ORANGE, "s")}
MOMENTA = np.array([0.0, 0.3, 0.6, 0.8, 0.9])

EXAMPLES, SHUFFLED_MOMENTA = [0.5, 1.5], np.array([0.0, 0.2, 0.4, 0.6, 0.8])
PATH_MOMENTA, PATH_LINE = np.array([0.4, 0.6, 0.8]), np.linspace(0, 0.96, 25)

FEATURES = {1: (BLUE, "o"), 2: (ORANGE, "s"), 4: (GREEN, "^")}
KURTOSES = np.array([1.0, 2.0, 3.0, 5.0, 9.0])

RATE, SETTLE, DECAY, BATCH = 0.01, 300, 1000, 100

PULL_GAIN, PULL = 0.1, 0.05  # learning rate times curvature, and times weight decay

RATES, RUN = (0.4, 0.2), 300
CURVATURES = np.array([1.0, 0.3, 0.1])


def _cauchy(width: float) -> Draw:
    return lambda rng, paths: 1 + width * rng.standard_cauchy(paths)


def _of_examples(rng: np.random.Generator, paths: int) -> np.ndarray:
    return rng.choice(EXAMPLES, paths)


def _growth(gain: float, draw: Draw, momentum: float, paths: int, steps: int) -> tuple[float, float]:
    """Logarithmic growth per step, and its standard error, of paths that are rescaled at every step."""
    rng = np.random.default_rng(1)
    error, before, grown = np.ones(paths), np.ones(paths), np.zeros(paths)
    for step in range(steps + 200):
        curvature = draw(rng, paths)
        error, before = (1 + momentum - gain * curvature) * error - momentum * before, error
        size = np.hypot(error, before)
        error, before = error / size, before / size
        if step >= 200:  # the direction of the state has then come to rest
            grown += np.log(size)
    rates = grown / steps
    return float(rates.mean()), float(rates.std() / np.sqrt(paths))


def _crossing(edge: float, draw: Draw, momentum: float, paths: int, steps: int) -> tuple[float, float]:
    """Where measured growth crosses 0 next to a predicted edge, and its standard error."""
    (low, _), (here, error), (high, _) = (
        _growth(share * edge, draw, momentum, paths, steps) for share in (0.98, 1.0, 1.02)
    )
    slope = (high - low) / (0.04 * edge)
    return edge - here / slope, error / slope


def _edges(paths: int, steps: int) -> xr.Dataset:
    shape = (len(WIDTHS), MOMENTA.size)
    measured, spread = np.empty(shape), np.empty(shape)
    for i, width in enumerate(WIDTHS):
        for j, momentum in enumerate(MOMENTA):
            edge = almost_sure_edge_gain(width, momentum=momentum)
            measured[i, j], spread[i, j] = _crossing(edge, _cauchy(width), momentum, paths, steps)
    dims = ("width", "momentum")
    return xr.Dataset(
        {"edge_measured": (dims, measured), "edge_standard_error": (dims, spread)},
        coords={"width": list(WIDTHS), "momentum": MOMENTA},
    )


def _paths(paths: int, steps: int) -> xr.Dataset:
    """Edges of almost every path of the two examples, and where runs of the optimiser have them."""
    model = FiniteSumQuadratic(EXAMPLES)
    line = almost_sure_edge(model, momentum=xr.DataArray(PATH_LINE, dims="path_line"))
    predicted = almost_sure_edge(model, momentum=xr.DataArray(PATH_MOMENTA, dims="path_momentum"))
    found = [
        _crossing(edge, _of_examples, momentum, paths, steps)
        for edge, momentum in zip(predicted.values, PATH_MOMENTA, strict=True)
    ]
    measured, spread = np.transpose(found)
    return xr.Dataset(
        {
            "path": ("path_momentum", predicted.values),
            "path_line_edge": ("path_line", line.values),
            "path_measured": ("path_momentum", measured),
            "path_standard_error": ("path_momentum", spread),
        },
        coords={"path_momentum": PATH_MOMENTA, "path_line": PATH_LINE},
    )


def _squares(curvatures: list[float], rate: float, momentum: float, epochs: int) -> list[float]:
    """E e^2 after each of some epochs, over all their orders."""
    now, last = np.ones(1), np.ones(1)
    squares = []
    for _ in range(epochs):
        ends = []
        for order in itertools.permutations(curvatures):
            error, before = now, last
            for curvature in order:
                error, before = (1 + momentum - rate * curvature) * error - momentum * before, error
            ends.append((error, before))
        now, last = (np.concatenate(parts) for parts in zip(*ends, strict=True))
        squares.append(float(np.mean(now**2)))
    return squares


def _reshuffling() -> xr.Dataset:
    def grown(rate: float, momentum: float) -> float:
        squares = _squares(EXAMPLES, rate, momentum, 14)
        return math.log(squares[-1] / squares[9])

    model = FiniteSumQuadratic(EXAMPLES, sampling="reshuffled")
    fine = np.linspace(0, 0.95, 96)
    line = reshuffled_edge(model, momentum=xr.DataArray(fine, dims="fine_momentum"))
    predicted = reshuffled_edge(model, momentum=xr.DataArray(SHUFFLED_MOMENTA, dims="shuffled_momentum"))
    measured = [
        brentq(grown, 0.9 * edge, 1.1 * edge, args=(momentum,))
        for edge, momentum in zip(predicted.values, SHUFFLED_MOMENTA, strict=True)
    ]
    return xr.Dataset(
        {
            "shuffled": ("shuffled_momentum", predicted.values),
            "shuffled_line": ("fine_momentum", line.values),
            "shuffled_measured": ("shuffled_momentum", measured),
        },
        coords={"shuffled_momentum": SHUFFLED_MOMENTA, "fine_momentum": fine},
    )


def _kurtoses() -> xr.Dataset:
    """Edges of least squares on three-point features, from the whole map of second moments of one step."""

    def radius(rate: float, kurtosis: float, size: int) -> float:
        law = {math.sqrt(kurtosis): 0.5 / kurtosis, -math.sqrt(kurtosis): 0.5 / kurtosis, 0.0: 1 - 1 / kurtosis}
        total = np.zeros((size * size, size * size))
        for point in itertools.product(law, repeat=size):
            step = np.eye(size) - rate * np.outer(point, point)
            total += math.prod(law[value] for value in point) * np.kron(step, step)
        return float(np.abs(np.linalg.eigvals(total)).max()) - 1

    def trace_rule(rate: float, kurtosis: float, size: int) -> float:
        return 1 - 2 / (1 + size * float(trace_rule_term(rate, 1, kurtosis=kurtosis)))

    shape = (len(FEATURES), KURTOSES.size)
    predicted, measured = np.empty(shape), np.empty(shape)
    for i, size in enumerate(FEATURES):
        for j, kurtosis in enumerate(KURTOSES):
            predicted[i, j] = brentq(trace_rule, 1e-6, 2.0, args=(kurtosis, size), xtol=1e-14)
            measured[i, j] = brentq(radius, 0.5 * predicted[i, j], 1.5 * predicted[i, j], args=(kurtosis, size))
    dims = ("features", "kurtosis")
    return xr.Dataset(
        {"kurtosis_edge": (dims, predicted), "kurtosis_edge_measured": (dims, measured)},
        coords={"features": list(FEATURES), "kurtosis": KURTOSES},
    )


def _plans() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Learning rates and batch sizes of a decay, and of the ramp that has its noise and its examples."""
    flow = np.arange(DECAY // 2, -1, -1) / (DECAY // 2)
    ramp = np.round(-BATCH * DECAY * np.diff(np.sqrt(flow)))
    return {
        "decay": (np.append(constant(RATE, SETTLE), linear(RATE, DECAY)), np.full(SETTLE + DECAY, BATCH)),
        "ramp": (constant(RATE, SETTLE + ramp.size), np.append(np.full(SETTLE, BATCH), ramp)),
    }


def _ramps(replicas: int) -> xr.Dataset:
    model = MiniBatchQuadratic(1.0, 1.0, batch_size=BATCH)
    made = xr.Dataset()
    for name, (rates, sizes) in _plans().items():
        record = np.unique(np.append(np.arange(SETTLE, rates.size, 50), rates.size))
        law = moments(model, rates, batch_sizes=sizes, record=record)
        rng = np.random.default_rng(2)
        errors, squares = np.zeros(replicas), []
        for step, (rate, size) in enumerate(zip(rates, sizes, strict=True), 1):
            errors += -rate * errors + rate * rng.normal(0, 1 / np.sqrt(size), replicas)
            if step in record:
                squares.append(np.mean(errors**2))
        dim = f"{name}_step"
        made[name] = (dim, law.variance.values[:, 0])
        made[f"{name}_measured"] = (dim, np.array(squares))
        made[f"{name}_standard_error"] = (dim, np.array(squares) * np.sqrt(2 / replicas))
        made = made.assign_coords({dim: record})
    return made


def _decays(replicas: int) -> xr.Dataset:
    """Means at rest of weights whose minimiser is 1, by runs of the optimiser as it is written."""
    kinds, steps = ("decoupled", "penalty"), 1500
    measured, spread = np.empty((2, 2, MOMENTA.size))
    for i, kind in enumerate(kinds):
        for j, momentum in enumerate(MOMENTA):
            rng = np.random.default_rng(3)
            weights, velocity, total = np.ones(replicas), np.zeros(replicas), np.zeros(replicas)
            for step in range(steps):
                gradient = PULL_GAIN * (weights - 1 - rng.normal(0, 1, replicas))
                velocity = momentum * velocity + gradient + (PULL * weights if kind == "penalty" else 0.0)
                weights = (1 - PULL if kind == "decoupled" else 1.0) * weights - velocity
                if step >= 500:
                    total += weights / (steps - 500)
            measured[i, j], spread[i, j] = total.mean(), total.std() / np.sqrt(replicas)
    predicted = np.array(
        [decayed_minimiser(PULL_GAIN, PULL, momentum=MOMENTA), np.full(MOMENTA.size, PULL_GAIN / (PULL_GAIN + PULL))]
    )
    dims = ("kind", "momentum")
    return xr.Dataset(
        {"rest": (dims, predicted), "rest_measured": (dims, measured), "rest_standard_error": (dims, spread)},
        coords={"kind": list(kinds), "momentum": MOMENTA},
    )


def _scales(replicas: int) -> xr.Dataset:
    record = np.array([0, 3, 10, 20, 40, 80, 150, 300])
    model = MiniBatchQuadratic(CURVATURES, 1.0, displacement=10.0, batch_size=8)
    predicted, measured, spread = np.empty((3, len(RATES), record.size))
    for i, rate in enumerate(RATES):
        schedule = constant(rate, RUN)
        predicted[i] = noise_scale(model, schedule, record=record)
        errors = ensemble(model, schedule, replicas=replicas, seed=4, record=record)
        bends = errors.error.transpose("replica", "step", "mode").values ** 2 @ CURVATURES**3  # g' H g
        measured[i] = np.sum(CURVATURES**3) / bends.mean(axis=0)
        spread[i] = measured[i] * bends.std(axis=0) / bends.mean(axis=0) / np.sqrt(replicas)
    dims = ("rate", "recorded")
    return xr.Dataset(
        {"scale": (dims, predicted), "scale_measured": (dims, measured), "scale_standard_error": (dims, spread)},
        coords={"rate": list(RATES), "recorded": record},
    )


def compute(fast: bool) -> xr.Dataset:
    more = 1 if fast else 4
    data = xr.merge(
        [
            _edges(more * 500, 1500),
            _reshuffling(),
            _paths(more * 500, 1500),
            _kurtoses(),
            _ramps(more * 10_000),
            _decays(more * 1000),
            _scales(more * 20_000),
        ]
    )
    return described(data, source="derived")


def draw(data: xr.Dataset) -> Figure:
    figure, ((edges, shuffled, tails), (ramps, decays, scales)) = panels(2, 3, width=1.3 * DOUBLE, height=5.2)
    fine = np.linspace(0, 0.95, 60)
    theory_line(edges, fine, stability_edge(1.0, momentum=fine), color=BLACK, linestyle=":", label="no noise")
    for width, (color, marker) in WIDTHS.items():
        here = data.sel(width=width)
        theory_line(edges, fine, almost_sure_edge_gain(width, momentum=fine), color=color)
        measured_points(
            edges,
            data.momentum,
            here.edge_measured,
            here.edge_standard_error,
            color=color,
            marker=marker,
            label=f"width {width:g}",
        )
    edges.set(yscale="log", ylim=(0.01, 6), xlabel="momentum", ylabel="almost-sure edge, gain")
    edges.legend(fontsize=6.5)

    theory_line(shuffled, data.fine_momentum, data.shuffled_line, color=BLUE)
    measured_points(shuffled, data.shuffled_momentum, data.shuffled_measured, color=BLUE, label="reshuffled")
    independent = mean_square_edge_gain(0.25, momentum=fine)  # the variance of 1/2 and 3/2
    theory_line(shuffled, fine, independent, color=ORANGE, linestyle="--", label="independent, mean square")
    theory_line(shuffled, data.path_line, data.path_line_edge, color=GREEN)
    measured_points(
        shuffled,
        data.path_momentum,
        data.path_measured,
        data.path_standard_error,
        color=GREEN,
        marker="s",
        label="almost every path",
    )
    mean = stability_edge(1.0, momentum=fine)
    theory_line(shuffled, fine, mean, color=BLACK, linestyle=":", label="edge of the mean")
    shuffled.set(ylim=(0, 4.2), xlabel="momentum", ylabel="edge, learning rate x mean curvature")
    shuffled.legend(fontsize=6.5)

    for size, (color, marker) in FEATURES.items():
        here, label = data.sel(features=size), f"{size} feature" + "s" * (size > 1)
        compared(tails, here, "kurtosis_edge", color=color, marker=marker, label=label, scale=size)
    tails.set(ylim=(0, 2.1), xlabel="kurtosis of the features", ylabel="edge, learning rate x trace")
    tails.legend(fontsize=6.5)

    for name, color, marker in (("decay", BLUE, "o"), ("ramp", VERMILION, "s")):
        label = {"decay": "linear decay", "ramp": "growing batch"}[name]
        compared(ramps, data, name, color=color, marker=marker, label=label)
    ramps.set(yscale="log", xlabel="step", ylabel="variance / center variance")
    ramps.legend(fontsize=6.5)

    theory_line(decays, fine, decayed_minimiser(PULL_GAIN, PULL, momentum=fine), color=BLUE)
    decays.axhline(PULL_GAIN / (PULL_GAIN + PULL), color=ORANGE)
    for kind, color, marker in (("decoupled", BLUE, "o"), ("penalty", ORANGE, "s")):
        here = data.sel(kind=kind)
        measured_points(
            decays, data.momentum, here.rest_measured, here.rest_standard_error, color=color, marker=marker, label=kind
        )
    decays.set(ylim=(0.6, 1.0), xlabel="momentum", ylabel="mean at rest / minimiser")
    decays.legend(fontsize=6.5)

    for rate, color, marker in zip(RATES, (BLUE, ORANGE), ("o", "s"), strict=True):
        compared(scales, data.sel(rate=rate), "scale", color=color, marker=marker, label=f"rate {rate:g}")
    scales.set(yscale="log", xlabel="step", ylabel="noise scale (examples)")
    scales.legend(fontsize=6.5)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("growth of paths crosses 0 at the almost-sure edge, with momentum and Cauchy curvatures").statistical(
        np.array([almost_sure_edge_gain(width, momentum=MOMENTA) for width in WIDTHS]),
        data.edge_measured.values,
        data.edge_standard_error.values,
        "mean",
        weakest=0.08,
        reason="a root of a measured growth",
    )
    yield exact("growth of paths crosses 0 at the almost-sure edge of two curvatures, with momentum").statistical(
        data.path.values,
        data.path_measured.values,
        data.path_standard_error.values,
        "mean",
        weakest=0.08,
        reason="a root of a measured growth",
    )
    yield exact("almost every path is stable beyond the edge in mean square, with momentum as without").above(
        mean_square_edge_gain(0.25, momentum=PATH_MOMENTA), data.path_measured.values
    )
    yield exact("edge of reshuffled epochs with momentum, from all sequences of epochs").close(
        data.shuffled.values,
        data.shuffled_measured.values,
        tolerance=0.02,
        note="fourteen epochs, not yet the asymptotic growth",
    )
    yield exact("with momentum the edge of reshuffled epochs lies below that of the mean").below(
        stability_edge(1.0, momentum=SHUFFLED_MOMENTA[2:]), data.shuffled.values[2:]
    )
    yield exact("without momentum reshuffling moves the edge beyond that of the mean").above(
        2.0, data.shuffled.values[0]
    )
    yield exact("edge of least squares on features of any kurtosis, from enumerated steps").close(
        data.kurtosis_edge.values, data.kurtosis_edge_measured.values, tolerance=1e-8
    )
    for name in ("decay", "ramp"):
        yield exact(f"variance along the {name}, of simulated runs").statistical(
            data[name].values,
            data[f"{name}_measured"].values,
            data[f"{name}_standard_error"].values,
            "variance",
            weakest=0.07,
            reason="a variance of as many runs as a quick figure has time for",
        )
    yield asymptotic("a ramp ends on the noise of a linear decay in half its steps").close(
        data.decay.values[-1], data.ramp.values[-1], tolerance=0.03
    )
    yield exact("mean at rest under weight decay, decoupled and as a penalty").statistical(
        data.rest.values, data.rest_measured.values, data.rest_standard_error.values, "mean"
    )
    yield exact("noise scale along runs", "mccandlish2018; derived").statistical(
        data.scale.values[:, 1:],
        data.scale_measured.values[:, 1:],
        data.scale_standard_error.values[:, 1:],
        "variance",
        weakest=0.06,
        reason="the mean of a square of as many runs as a quick figure has time for",
    )
    ratio = data.scale.sel(rate=RATES[1]).values[-1] / data.scale.sel(rate=RATES[0]).values[-1]
    yield heuristic(
        "on the plateau the noise scale is that of the run: as in one direction, larger at the smaller rate"
    ).close(plateau_noise_scale(RATES[1], 8) / plateau_noise_scale(RATES[0], 8), ratio, tolerance=0.05)
