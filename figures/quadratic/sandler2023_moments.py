r"""The moments of every averaging rule are known exactly: batch-by-batch simulation lands on them at any step and gain.

One direction, random batch centers of variance :math:`\sigma^2`. Above, the mean squared error from a start
:math:`2\sigma` away: an average first pays for remembering the start and then wins on the noise. Below, what is left
when the start is forgotten, up to the stability edges; and how far all these points are from theory in their own
standard errors, against the normal law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm

from figures.engine.check import Check, exact
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from figures.engine.labels import axis, described
from figures.engine.sampling import Indices, replica_mean
from figures.engine.style import DOUBLE, compared, measured_points, panels, theory_line, ticks
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, swa, tail, two_point
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import (
    ema_variance,
    moments,
    stability_edge,
    stationary_variance,
    swa_variance_from_start,
    tail_variance,
    two_point_variance,
)

Weights = NDArray[np.float64]

DISPLACEMENT = 2.0
MOMENTUM = 0.9
BETA = 0.9
POINTS = 10
SEPARATION = 10

# A rule is something done with the iterates of SGD, or another way to step.
AVERAGES = ("SGD", "EMA", "SWA", "tail", "two points")
STEPPERS = ("heavy ball", "Nesterov")
COLORS = {
    "SGD": BLACK,
    "EMA": BLUE,
    "SWA": GREEN,
    "tail": ORANGE,
    "two points": VERMILION,
    "heavy ball": PURPLE,
    "Nesterov": SKY,
}
LABELS = {
    "EMA": f"EMA {BETA}",
    "SWA": "SWA of all steps",
    "tail": f"last {POINTS} steps",
    "two points": f"two points, {SEPARATION} apart",
    "heavy ball": f"heavy ball {MOMENTUM}",
    "Nesterov": f"Nesterov {MOMENTUM}",
}

STEPS = 128
MEASURED_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
GAINS = (0.05, 0.3, 1.5)
TITLES = ("gain 0.05: averages lag", "gain 0.3: averages win", "gain 1.5: averages win more")

# After this many steps nothing below remembers its start to 1e-4, and the uniform average is over all of them.
STATIONARY_STEPS = 100
# Where the stationary law is measured: up to 0.95 of the stability edge.
EDGE_FRACTIONS = (0.03, 0.06, 0.12, 0.25, 0.45, 0.65, 0.85, 0.95)

# At the edge the variance grows like the number of steps; just below it stays.
AROUND_THE_EDGE = (0.98, 1.0)
GROWTH_STEPS = 2048


def _average(rule: str, step: int, steps: int) -> Weights:
    """The rule at one step as weights over x_0..x_steps. Before its window is full it takes what there is."""
    weights: dict[str, Callable[[], Weights]] = {
        "SGD": lambda: tail(step, 1),
        "EMA": lambda: ema(BETA, step),
        "SWA": lambda: swa(step),
        "tail": lambda: tail(step, min(POINTS, step + 1)),
        "two points": lambda: two_point(step, min(SEPARATION, step)),
    }
    return np.concatenate([weights[rule](), np.zeros(steps - step)])


def _averages(steps: int, at: tuple[int, ...]) -> xr.DataArray:
    """Weights of every rule at several steps, along ``rule`` and ``at``."""
    weights = [[_average(rule, step, steps) for step in at] for rule in AVERAGES]
    return xr.DataArray(weights, dims=("rule", "at", "step"), coords={"rule": list(AVERAGES), "at": list(at)})


def _errors(
    model: MiniBatchQuadratic, weights: xr.DataArray, replicas: Indices, seed: int
) -> tuple[xr.DataArray, xr.DataArray]:
    """Every rule on the same runs of SGD, and the heavy ball at the steps at which the rules are read."""
    steps = weights.sizes["step"] - 1
    schedule = constant(1.0, steps)
    runs = ensemble(model, schedule, replicas=replicas, seed=seed, record=np.arange(steps + 1)).error
    averaged = xr.dot(runs.drop_vars("step"), weights, dim="step", optimize=True)
    ball = ensemble(
        model, schedule, replicas=replicas, seed=seed + 1, momentum=MOMENTUM, record=weights["at"].values
    ).error
    return averaged, ball.rename(step="at").expand_dims(rule=["heavy ball"])


def _from_a_displaced_start(replicas: int) -> xr.Dataset:
    model = MiniBatchQuadratic(GAINS, 1.0, displacement=DISPLACEMENT)
    schedule = constant(1.0, STEPS)
    # Every step as long as the heavy ball swings.
    grid = np.unique(np.concatenate([np.arange(1, 48), np.geomspace(48, STEPS, 12).round().astype(int)]))
    grid = np.union1d(grid, MEASURED_STEPS)
    averages = _averages(STEPS, tuple(int(step) for step in grid))
    averaged = moments(model, schedule, average=averages).squeeze("step", drop=True).rename(at="step")
    ball = moments(model, schedule, momentum=MOMENTUM, record=grid).expand_dims(rule=["heavy ball"])
    exact = xr.concat([averaged, ball], "rule")

    weights = _averages(STEPS, MEASURED_STEPS)

    def powers(indices: Indices) -> xr.DataArray:
        errors = xr.concat(_errors(model, weights, indices, seed=11), "rule")
        return xr.concat([errors, errors**2], "power")

    raw, raw_error = replica_mean(powers, replicas, block=2048)
    mean, second = raw.rename(at="measured_step")
    second_error = raw_error.rename(at="measured_step").isel(power=1)
    variance = second - mean**2
    gain = {"gain": ("mode", np.array(GAINS))}
    found = xr.Dataset(
        {
            "mean_error": exact.mean_error,
            "variance": exact.variance,
            "second_moment": exact.variance + exact.mean_error**2,
            "mean_error_measured": mean,
            "mean_error_standard_error": np.sqrt(variance / replicas),
            "variance_measured": variance,
            "variance_standard_error": variance * np.sqrt(2 / (replicas - 1)),
            "second_moment_measured": second,
            "second_moment_standard_error": second_error,
        }
    )
    found = found.assign_coords(gain).swap_dims(mode="gain")
    return found


def _stationary_variance(rule: str, gain: xr.DataArray) -> xr.DataArray:
    formulas: dict[str, Callable[[], xr.DataArray]] = {
        "SGD": lambda: stationary_variance(gain),
        "EMA": lambda: ema_variance(gain, BETA),
        "SWA": lambda: swa_variance_from_start(gain, STATIONARY_STEPS),
        "tail": lambda: tail_variance(gain, POINTS),
        "two points": lambda: two_point_variance(gain, SEPARATION),
        "heavy ball": lambda: stationary_variance(gain, momentum=MOMENTUM),
        "Nesterov": lambda: stationary_variance(gain, momentum=MOMENTUM, nesterov=True),
    }
    found: xr.DataArray = formulas[rule]().expand_dims(rule=[rule])
    return found


def _edge(rule: str) -> float:
    """Gain at which the rule ceases to be stable."""
    momentum = MOMENTUM if rule in STEPPERS else 0.0
    return float(stability_edge(1.0, momentum=momentum, nesterov=rule == "Nesterov"))


def _at_rest(replicas: int) -> xr.Dataset:
    rules = [*AVERAGES, *STEPPERS]
    edges = xr.DataArray([_edge(rule) for rule in rules], dims="rule", coords={"rule": rules})
    gains = edges * xr.DataArray(list(EDGE_FRACTIONS), dims="mode")
    schedule = constant(1.0, STATIONARY_STEPS)
    weights = _averages(STATIONARY_STEPS, (STATIONARY_STEPS,)).squeeze("at", drop=True)

    def squares(indices: Indices) -> xr.DataArray:
        plain = MiniBatchQuadratic(gains.sel(rule="SGD").values, 1.0)
        every = np.arange(STATIONARY_STEPS + 1)
        runs = ensemble(plain, schedule, replicas=indices, seed=21, record=every).error.drop_vars("step")
        found = [xr.dot(runs, weights, dim="step", optimize=True)]
        for seed, rule in enumerate(STEPPERS, 22):
            last = ensemble(
                MiniBatchQuadratic(gains.sel(rule=rule).values, 1.0),
                schedule,
                replicas=indices,
                seed=seed,
                momentum=MOMENTUM,
                nesterov=rule == "Nesterov",
            ).error.squeeze("step", drop=True)
            found.append(last.expand_dims(rule=[rule]))
        errors: xr.DataArray = xr.concat(found, "rule")
        return errors**2

    measured, standard_error = replica_mean(squares, replicas, block=2048)
    grid = np.unique(np.concatenate([np.geomspace(0.03, 1.0, 60), np.linspace(1.0, 3.79, 400)]))
    swept = axis("stationary_gain", grid)
    exact = xr.concat([_stationary_variance(rule, swept) for rule in rules], "rule")
    there = xr.concat([_stationary_variance(rule, gains.sel(rule=rule, drop=True)) for rule in rules], "rule")
    found = xr.Dataset(
        {
            "stationary_variance": exact,
            "stationary_variance_predicted": there,
            "stationary_variance_measured": measured,
            "stationary_variance_standard_error": standard_error,
            "measured_gain": gains,
            "edge": edges,
        }
    )
    return found.rename(mode="point", rule="stationary_rule")


def _growth_exponent() -> xr.DataArray:
    """By the exact recursion: the power of the step with which the variance grows around the stability edge."""
    schedule = constant(1.0, 2 * GROWTH_STEPS)
    found = []
    for rule in ("SGD", *STEPPERS):
        variance = moments(
            MiniBatchQuadratic([fraction * _edge(rule) for fraction in AROUND_THE_EDGE], 1.0),
            schedule,
            momentum=MOMENTUM if rule in STEPPERS else 0.0,
            nesterov=rule == "Nesterov",
            record=[GROWTH_STEPS, 2 * GROWTH_STEPS],
        ).variance
        found.append(np.log2(variance.isel(step=1) / variance.isel(step=0)))
    exponent = xr.concat([xr.DataArray(item) for item in found], "stepper", coords="minimal")
    exponent = exponent.drop_vars("step", errors="ignore").rename(mode="edge_fraction")
    exponent = exponent.assign_coords(
        stepper=["SGD", *STEPPERS],
        edge_fraction=("edge_fraction", list(AROUND_THE_EDGE), {"long_name": "gain over the edge", "units": "1"}),
    )
    return exponent


TEXTS = {
    "mean_error": ("mean error", "standard deviation of the centers"),
    "variance": ("variance", "variance of the centers"),
    "second_moment": ("mean squared error", "variance of the centers"),
    "growth_exponent": "growth exponent of the variance",
    "step": "step",
    "stationary_gain": "gain",
    "rule": "rule",
    "stationary_rule": "rule",
    "stepper": "rule",
    "gain": "gain",
    "stationary_variance": ("stationary variance", "variance of the centers"),
    "edge": "gain at the stability edge",
}


def compute(fast: bool) -> xr.Dataset:
    # A mean is seen to 1% of the root mean square from 1.6e5 replicas on, a variance to 2% from 8e4 on.
    data = xr.merge(
        [
            _from_a_displaced_start(170_000 if fast else 600_000),
            _at_rest(90_000 if fast else 300_000),
            _growth_exponent().to_dataset(name="growth_exponent"),
        ],
        combine_attrs="drop_conflicts",
    )
    return described(
        data, TEXTS, source="sandler2023", displacement=DISPLACEMENT, momentum=MOMENTUM, beta=BETA, points=float(POINTS)
    )


def _at_measured_steps(data: xr.Dataset) -> xr.Dataset:
    """What theory says where there are points."""
    return data.sel(step=data.measured_step.values).drop_vars("measured_step").rename(step="measured_step")


def _deviations(data: xr.Dataset) -> NDArray[np.float64]:
    """Deviations of all variances that are measured, in standard errors."""
    early = (data.variance_measured - _at_measured_steps(data).variance) / data.variance_standard_error
    late = data.stationary_variance_measured - data.stationary_variance_predicted
    late = late / data.stationary_variance_standard_error
    return np.concatenate([early.values.ravel(), late.values.ravel()])


def _draw_stationary(axes: Axes, data: xr.Dataset, rules: tuple[str, ...]) -> None:
    for rule in rules:
        here = data.sel(stationary_rule=rule)
        finite = here.stationary_variance.where(np.isfinite(here.stationary_variance))
        theory_line(axes, data.stationary_gain, finite, color=COLORS[rule])
        measured_points(
            axes,
            here.measured_gain,
            here.stationary_variance_measured,
            here.stationary_variance_standard_error,
            color=COLORS[rule],
        )
    axes.set_yscale("log")
    axes.set_xlabel(r"gain  $x = \eta h$")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 3, width=DOUBLE, height=4.9)
    for panel, title, gain in zip(axes[0], TITLES, GAINS, strict=True):
        here = data.sel(gain=gain)
        for rule in here.rule.values:
            compared(panel, here.sel(rule=rule), "second_moment", color=COLORS[rule])
        panel.set(xscale="log", yscale="log", xlabel="step", title=title)
        ticks(panel.xaxis, [1, 10, 100])
    axes[0, 0].set_ylabel(r"mean squared error / $\sigma^2$")

    momentum, averages, histogram = axes[1]
    _draw_stationary(momentum, data, ("SGD", *STEPPERS))
    for rule in ("SGD", *STEPPERS):
        edge = float(data.edge.sel(stationary_rule=rule))
        momentum.axvline(edge, color=COLORS[rule], linestyle=":", linewidth=0.9)
    momentum.set(title="momentum moves the edge", ylim=(0.01, 1000), ylabel=r"stationary variance / $\sigma^2$")
    _draw_stationary(averages, data, AVERAGES)
    averages.axvline(float(data.edge.sel(stationary_rule="SGD")), color=BLACK, linestyle=":", linewidth=0.9)
    averages.set(title="averaging cuts the noise", xscale="log", xlim=(0.05, 2.2), ylim=(2e-3, 60))
    ticks(averages.xaxis, [0.1, 1.0])

    deviations = _deviations(data)
    bins = np.linspace(-4, 4, 17)
    histogram.hist(deviations, bins=bins.tolist(), density=True, color="#D0D0D0", edgecolor="white")
    grid = np.linspace(-4, 4, 200)
    theory_line(histogram, grid, norm.pdf(grid), color=GREY)
    histogram.set(title=f"all {deviations.size} variances agree", xlabel="deviation / standard error", ylabel="density")

    for rule, color in COLORS.items():
        theory_line(axes[0, 0], [], [], label=LABELS.get(rule, rule), color=color)
    theory_line(axes[0, 0], [], [], label="stability edge", color=GREY, linestyle=":", linewidth=0.9)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    expected = _at_measured_steps(data)
    yield exact("mean error of six rules at eight steps and three gains, from a displaced start").statistical(
        expected.mean_error,
        data.mean_error_measured,
        data.mean_error_standard_error,
        "mean",
        scale=np.sqrt(expected.second_moment),
        note="relative to the root mean square, as the mean dies out",
    )
    yield exact("variance of six rules at eight steps and three gains, from a displaced start").statistical(
        expected.variance, data.variance_measured, data.variance_standard_error, "variance"
    )
    for rule in data.stationary_rule.values:
        here = data.sel(stationary_rule=rule)
        uniform = f", over {STATIONARY_STEPS} steps" if rule == "SWA" else ""
        claim = f"stationary variance against gain: {LABELS.get(rule, rule)}{uniform}"
        yield exact(claim).agreement(here, "stationary_variance", "variance")
    yield exact(
        "at the edges 2, 2(1+m) and 2(1+m)/(1+2m) the variance grows like the step, 2% below it does not grow"
    ).close(
        xr.DataArray([0.0, 1.0], dims="edge_fraction", coords={"edge_fraction": data.edge_fraction}),
        data.growth_exponent,
        scale=1.0,
        absolute=0.01,
        note=f"exact recursion, from step {GROWTH_STEPS} to twice that",
    )
