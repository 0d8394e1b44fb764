r"""Laws that plan a run: shapes of decays, averages with momentum, Adam and signs, and a large rate first.

Left, above, the share of a plateau's noise that a decay leaves, by its length: dashed lines know the end of the decay
only. Middle, above, averages of the last iterates of runs at rest, plain and with momentum: long ones see the noise
alone. Below, what optimisers come to rest at in one direction. In the middle descent on two linear patterns whose test
loss weighs them otherwise than the training loss: a large rate first ends lower where the flat pattern counts more,
makes no difference where the two losses are in proportion, and ends higher in the opposite case. Right, above, how much
of every update is left in weights with decoupled decay; points are what a nudge of one update leaves. Below, the worst
case of convex functions beside the risk of a quadratic, both at the last iterate, for peaks of five schedules: the
bound is some ten to a hundred times as large, and wants a smaller peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, ORANGE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, compared, measured_points, panels, theory_line
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import (
    constant,
    cosine,
    inverse_sqrt,
    linear,
    power_decay,
    tail,
    warmup_stable_decay,
)
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.forecast import last_iterate_bound
from sgdynamics.theory.quadratic import (
    adam_gain,
    adam_momentum_gain,
    average_variance,
    decay_noise_left,
    late_decay_noise_left,
    learning_order_rate,
    moments,
    risk_odds_factor,
    risk_transfer,
    sign_descent_variance,
    stationary_variance,
)
from sgdynamics.theory.schedules import update_weights

# shape of the decay: exponent and amplitude of its end
SHAPES = {
    "linear": (1.0, 1.0, BLUE, "o"),
    "one_minus_sqrt": (1.0, 0.5, ORANGE, "s"),
    "cosine": (2.0, math.pi**2 / 4, GREEN, "^"),
    "square": (2.0, 1.0, VERMILION, "v"),
}
GAIN, SETTLE = 0.02, 500
LENGTHS = np.array([30, 100, 300, 1000, 3000])

MOMENTA = {0.0: (BLUE, "o"), 0.9: (ORANGE, "s")}
TAIL_GAIN = 0.3  # over 1 - momentum: the runs forget in the same time
POINTS = np.array([1, 3, 10, 30, 100, 300, 1000])

RATES = np.array([0.03, 0.1, 0.3, 1.0, 3.0])  # over the standard deviation of a center
HEAVY = 0.9  # momentum of Adam
LOGISTIC = math.sqrt(3) / math.pi  # its scale, where its variance is 1

SHARP, FLAT, LARGE, SMALL = 1.0, 0.02, 1.98, 0.2
PATTERNS = {  # test curvatures of the sharp and of the flat pattern
    "flat counts more": ([0.1, 1.0], BLUE, "o"),
    "in proportion": ([0.5, 0.01], BLACK, "s"),
    "sharp counts more": ([1.0, 1e-4], VERMILION, "^"),
}
FIRST, LEVELS = 250, np.geomspace(1e-1, 1e-6, 11)

DECAY, UPDATES = 0.5, 200
SHRINKING = {"constant": (constant, BLUE, "o"), "linear": (linear, ORANGE, "s"), "cosine": (cosine, GREEN, "^")}

RUN, PEAKS = 200, np.geomspace(0.02, 1.0, 9)
SCHEDULES: dict[str, tuple[Callable[[float], np.ndarray], str, str]] = {
    "constant": (lambda peak: constant(peak, RUN), BLUE, "o"),
    "inverse root": (lambda peak: inverse_sqrt(peak, RUN, 10), BLACK, "v"),
    "stable, decay": (lambda peak: warmup_stable_decay(peak, RUN, 0, RUN // 5), VERMILION, "d"),
    "linear": (lambda peak: linear(peak, RUN), ORANGE, "s"),
    "cosine": (lambda peak: cosine(peak, RUN), GREEN, "^"),
}


def _decay(shape: Any, steps: int) -> Any:
    if shape == "square":
        return power_decay(GAIN, SETTLE + steps, 2.0, steps)
    return warmup_stable_decay(GAIN, SETTLE + steps, 0, steps, shape=shape)


def _decays(replicas: int) -> xr.Dataset:
    model, plateau = MiniBatchQuadratic(1.0, 1.0), stationary_variance(GAIN)
    measured, exact = np.empty((2, len(SHAPES), LENGTHS.size))
    for i, shape in enumerate(SHAPES):
        for j, steps in enumerate(LENGTHS):
            run = ensemble(model, _decay(shape, int(steps)), replicas=replicas, seed=1)
            measured[i, j] = np.mean(run.error.values**2) / plateau
            exact[i, j] = moments(model, _decay(shape, int(steps))).variance.item() / plateau
    error = measured * math.sqrt(2 / replicas)
    return xr.Dataset(
        {
            "left": (("shape", "length"), exact),
            "left_measured": (("shape", "length"), measured),
            "left_standard_error": (("shape", "length"), error),
        },
        coords={"shape": list(SHAPES), "length": LENGTHS},
    )


def _averages(replicas: int) -> xr.Dataset:
    predicted, measured = np.empty((2, len(MOMENTA), POINTS.size))
    for i, momentum in enumerate(MOMENTA):
        gain = TAIL_GAIN * (1 - momentum)
        for j, points in enumerate(POINTS):
            steps = 300 + int(points)
            average = tail(steps, int(points))
            run = ensemble(
                MiniBatchQuadratic(1.0, 1.0),
                constant(gain, steps),
                replicas=replicas,
                seed=2,
                average=average,
                momentum=momentum,
            )
            measured[i, j] = np.mean(run.error.values**2)
            predicted[i, j] = average_variance(gain, average, momentum=momentum)
    return xr.Dataset(
        {
            "tail": (("momentum", "points"), predicted),
            "tail_measured": (("momentum", "points"), measured),
            "tail_standard_error": (("momentum", "points"), measured * math.sqrt(2 / replicas)),
        },
        coords={"momentum": list(MOMENTA), "points": POINTS},
    )


def _adam_law(rate: Any, momentum: float) -> Any:
    gain = adam_momentum_gain(rate, momentum=momentum) if momentum else adam_gain(rate)
    return stationary_variance((1 - momentum) * gain, momentum=momentum)


def _adam(rate: float, replicas: int, steps: int, momentum: float = 0.0) -> np.ndarray:
    """Squares of errors that started at rest; the second moment is that of ten thousand steps."""
    rng = np.random.default_rng(3)
    variance = _adam_law(rate, momentum)
    error, first = rng.normal(0, math.sqrt(variance), replicas), np.zeros(replicas)
    second = np.full(replicas, 1 + variance)
    for _ in range(steps):
        gradient = error - rng.normal(size=replicas)
        first = momentum * first + (1 - momentum) * gradient
        second = 0.9999 * second + 0.0001 * gradient**2
        error = error - rate * first / np.sqrt(second)
    return error**2


def _heavy_adam(rate: float, replicas: int, steps: int) -> np.ndarray:
    return _adam(rate, replicas, steps + 150, momentum=HEAVY)


def _signs(rate: float, replicas: int, steps: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    side = rng.choice([-0.5, 0.5], replicas)  # the law at rest: it does not forget its lattice
    error = rng.normal(rate * side, math.sqrt(rate * LOGISTIC))
    for _ in range(steps):
        error = error - rate * np.sign(error - rng.logistic(0, LOGISTIC, replicas))
    return error**2


def _optimisers(replicas: int) -> xr.Dataset:
    runs = {"Adam": _adam, "Adam, momentum 0.9": _heavy_adam, "sign": _signs}
    laws = {
        "Adam": _adam_law(RATES, 0.0),
        "Adam, momentum 0.9": _adam_law(RATES, HEAVY),
        "sign": sign_descent_variance(RATES, LOGISTIC),
    }
    squares = np.array(
        [
            [run(rate, replicas, 50 + math.ceil(8 / rate)) for rate in RATES]  # several times what they forget in
            for run in runs.values()
        ]
    )
    return xr.Dataset(
        {
            "rest": (("optimiser", "rate"), np.array(list(laws.values()))),
            "rest_measured": (("optimiser", "rate"), squares.mean(-1)),
            "rest_standard_error": (("optimiser", "rate"), squares.std(-1) / math.sqrt(replicas)),
        },
        coords={"optimiser": list(runs), "rate": RATES},
    )


def _regression(test: list[float], schedule: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, training and test losses of gradient descent on planted linear patterns, where training passes levels."""
    rng = np.random.default_rng(5)
    unit = np.linalg.qr(rng.normal(size=(200, 2)))[0] * math.sqrt(200)
    features, held_out = unit * np.sqrt([SHARP, FLAT]), unit[::-1] * np.sqrt(test)
    rule, weights = np.ones(2), np.zeros(2)
    training, testing = np.empty((2, schedule.size))
    for step, rate in enumerate(schedule):
        residuals = features @ (weights - rule)
        training[step] = 0.5 * np.mean(residuals**2)
        testing[step] = 0.5 * np.mean((held_out @ (weights - rule)) ** 2)
        weights = weights - rate * features.T @ residuals / len(features)
    steps = np.array([np.flatnonzero(training <= level)[0] for level in LEVELS])
    return steps, training[steps], testing[steps]


def _annealing() -> xr.Dataset:
    schedules = {
        "small": constant(SMALL, 4000),
        "large first": np.append(constant(LARGE, FIRST), constant(SMALL, 4000)),
    }
    shape = (len(PATTERNS), len(schedules), LEVELS.size)
    training, testing, predicted = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, (test, _, _) in enumerate(PATTERNS.values()):
        for j, schedule in enumerate(schedules.values()):
            steps, training[i, j], testing[i, j] = _regression(test, schedule)
            early = np.minimum(steps, FIRST) if j else 0 * steps
            odds = FLAT / SHARP * risk_odds_factor(SMALL, steps - early, SHARP, FLAT)
            odds = odds * risk_odds_factor(LARGE, early, SHARP, FLAT)
            predicted[i, j] = training[i, j] * risk_transfer(odds, test[0] / SHARP, test[1] / FLAT)
    dims = ("pattern", "schedule", "level")
    return xr.Dataset(
        {"training": (dims, training), "test": (dims, predicted), "test_measured": (dims, testing)},
        coords={"pattern": list(PATTERNS), "schedule": list(schedules), "level": LEVELS},
    )


def _weights() -> xr.Dataset:
    """What is left of every update under decoupled weight decay, and the difference that a nudge of it makes."""
    predicted, measured = np.empty((2, len(SHRINKING), UPDATES))
    updates = np.random.default_rng(6).normal(size=UPDATES)
    for i, (made, _, _) in enumerate(SHRINKING.values()):
        rates = made(0.1, UPDATES)
        predicted[i] = update_weights(rates, DECAY).weight

        def last(updates: np.ndarray, rates: np.ndarray = rates) -> float:
            weight = 1.0
            for rate, update in zip(rates, updates, strict=True):
                weight = (1 - rate * DECAY) * weight - rate * update
            return weight

        measured[i] = [-DECAY * (last(updates + nudge) - last(updates)) for nudge in np.eye(UPDATES)]
    dims = ("shrinking", "made_at")
    return xr.Dataset(
        {"left_of_update": (dims, predicted), "left_of_update_measured": (dims, measured)},
        coords={"shrinking": list(SHRINKING), "made_at": np.arange(1, UPDATES + 1)},
    )


def _worst_cases(replicas: int) -> xr.Dataset:
    """The bound on the last iterate, with the gradients of the run, beside the risk that runs of a quadratic have."""
    curvature = np.geomspace(1, 0.01, 8)
    model = MiniBatchQuadratic(curvature, 1.0, displacement=1.0)
    worst, risk, spread = np.empty((3, len(SCHEDULES), PEAKS.size))
    for i, (made, _, _) in enumerate(SCHEDULES.values()):
        for j, peak in enumerate(PEAKS):
            rates = made(peak)
            rates = rates[rates > 0]
            law = moments(model, rates[:-1], record=np.arange(rates.size))
            squares = (curvature**2 * (law.mean_error**2 + law.variance + 1)).sum("mode")
            worst[i, j] = last_iterate_bound(
                rates, distance=math.sqrt(curvature.size), gradient_bound=math.sqrt(float(squares.max()))
            )
            run = ensemble(model, rates[:-1], replicas=replicas, seed=7)
            risks = run.error.values.reshape(replicas, -1) ** 2 @ curvature / 2
            risk[i, j], spread[i, j] = risks.mean(), risks.std() / math.sqrt(replicas)
    dims = ("planned", "peak")
    return xr.Dataset(
        {"worst_case": (dims, worst), "risk_measured": (dims, risk), "risk_standard_error": (dims, spread)},
        coords={"planned": list(SCHEDULES), "peak": PEAKS},
    )


def compute(fast: bool) -> xr.Dataset:
    replicas = 20_000 if fast else 200_000
    data = xr.merge([_decays(replicas), _averages(replicas), _optimisers(replicas), _annealing(), _weights()])
    data = data.merge(_worst_cases(replicas // 20))
    data["turnaround_rate"] = learning_order_rate(SHARP, FLAT)
    return described(data, source="derived")


def draw(data: xr.Dataset) -> Figure:
    figure, ((decays, averages, shrinking), (optimisers, annealing, worst)) = panels(
        2, 3, width=1.4 * DOUBLE, height=5.0
    )
    for name, (_, color, marker) in SHRINKING.items():
        here = data.sel(shrinking=name)
        theory_line(shrinking, data.made_at, here.left_of_update, color=color)
        some = here.isel(made_at=slice(4, None, 15))
        measured_points(shrinking, some.made_at, some.left_of_update_measured, color=color, marker=marker, label=name)
    shrinking.set(xlabel="update", ylabel="weight in the last weights")
    shrinking.legend(fontsize=6.5)

    for name, (_, color, marker) in SCHEDULES.items():
        here = data.sel(planned=name)
        theory_line(worst, data.peak, here.worst_case, color=color)
        measured_points(
            worst, data.peak, here.risk_measured, here.risk_standard_error, color=color, marker=marker, label=name
        )
    worst.set(xscale="log", yscale="log", ylim=(0.01, 100))
    worst.set(xlabel="peak learning rate", ylabel="risk (points), worst case (lines)")
    worst.legend(fontsize=6.5, ncols=2, loc="upper left")
    lengths = np.geomspace(20, 4000, 60)
    for name, (exponent, amplitude, color, marker) in SHAPES.items():
        here = data.sel(shape=name)
        if amplitude == 1:
            theory_line(decays, GAIN * lengths, decay_noise_left(GAIN, lengths, exponent), color=color)
        else:
            late = late_decay_noise_left(GAIN, lengths, exponent, amplitude)
            theory_line(decays, GAIN * lengths, late, color=color, linestyle="--")
        label = {"one_minus_sqrt": "1 - root"}.get(name, name)
        measured_points(
            decays,
            GAIN * data.length,
            here.left_measured,
            here.left_standard_error,
            color=color,
            marker=marker,
            label=label,
        )
    decays.set(xscale="log", yscale="log", ylim=(0.03, 1.2))
    decays.set(xlabel="gain of the plateau x steps of the decay", ylabel="share of the noise left")
    decays.legend(fontsize=6.5)

    for momentum, (color, marker) in MOMENTA.items():
        label = f"momentum {momentum:g}"
        compared(averages, data.sel(momentum=momentum), "tail", color=color, marker=marker, label=label)
    theory_line(averages, data.points, 1 / data.points, color=BLACK, linestyle=":", label="1/points")
    averages.set(xscale="log", yscale="log", ylim=(7e-4, 1.0))
    averages.set(xlabel="iterates in the average", ylabel="variance / center variance")
    averages.legend(fontsize=6.5)

    fine = np.geomspace(0.02, 4, 60)
    curves = {
        "Adam": (_adam_law(fine, 0.0), BLUE, "o"),
        "Adam, momentum 0.9": (_adam_law(fine, HEAVY), GREEN, "^"),
        "sign": (sign_descent_variance(fine, LOGISTIC), ORANGE, "s"),
    }
    for name, (curve, color, marker) in curves.items():
        theory_line(optimisers, fine, curve, color=color)
        here = data.sel(optimiser=name)
        measured_points(
            optimisers, data.rate, here.rest_measured, here.rest_standard_error, color=color, marker=marker, label=name
        )
    stable = fine[fine < 1.97]
    theory_line(
        optimisers, stable, stationary_variance(stable), color=BLACK, linestyle=":", label="SGD, rate x curvature"
    )
    optimisers.set(xscale="log", yscale="log", ylim=(8e-3, 30))
    optimisers.set(xlabel="learning rate / noise", ylabel="mean square at rest / noise$^2$")
    optimisers.legend(fontsize=6.5)

    for name, (_, color, marker) in PATTERNS.items():
        for schedule, line in (("small", "-"), ("large first", "--")):
            here = data.sel(pattern=name, schedule=schedule)
            theory_line(annealing, here.training, here.test, color=color, linestyle=line)
            measured_points(
                annealing,
                here.training,
                here.test_measured,
                color=color,
                marker=marker,
                label=name if schedule == "small" else None,
            )
    annealing.set(xscale="log", yscale="log", xlabel="training loss", ylabel="test loss")
    annealing.set_title("small rate (solid), large rate first (dashed)", fontsize=8)
    annealing.invert_xaxis()
    annealing.legend(fontsize=6.5)
    return figure


FEW_RUNS = "a variance of as many runs as a quick figure has time for"


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield exact("noise that a decay leaves, of simulated runs").statistical(
        data.left, data.left_measured, data.left_standard_error, "variance", weakest=0.05, reason=FEW_RUNS
    )
    for name, (exponent, amplitude, _, _) in SHAPES.items():
        here = data.left.sel(shape=name)
        if amplitude == 1:
            yield asymptotic(f"law of small gains, {name} decay").close(
                decay_noise_left(GAIN, LENGTHS, exponent), here.values, tolerance=0.03
            )
        long = here.isel(length=-1)
        yield asymptotic(f"long decays leave what their end says, {name}").close(
            late_decay_noise_left(GAIN, LENGTHS[-1], exponent, amplitude), long.values, tolerance=0.05
        )
    yield exact("averages of runs at rest, plain and with momentum").statistical(
        data["tail"], data.tail_measured, data.tail_standard_error, "variance", weakest=0.05, reason=FEW_RUNS
    )
    yield asymptotic("long averages see the noise alone, with momentum or without").close(
        np.full(2, 1 / POINTS[-1]), data["tail"].isel(points=-1).values, tolerance=0.05
    )
    for name in ("Adam", "Adam, momentum 0.9", "sign"):
        here = data.sel(optimiser=name)
        claim = f"mean square at rest in one direction, {name}"
        yield (exact(claim) if name == "sign" else asymptotic(claim)).statistical(
            here.rest, here.rest_measured, here.rest_standard_error, "variance", weakest=0.08, reason=FEW_RUNS
        )
    yield exact("test loss at a training loss, from the odds of two patterns").close(
        data.test.values, data.test_measured.values, tolerance=1e-6
    )
    end = data.test_measured.isel(level=-1) / data.training.isel(level=-1)
    gain = np.log(end.sel(schedule="small") / end.sel(schedule="large first"))
    yield exact(
        "a large rate first ends lower on test where the flat pattern counts more there", "li2019; derived"
    ).positive(gain.sel(pattern="flat counts more").values)
    yield exact("and higher where the sharp one does").negative(gain.sel(pattern="sharp counts more").values)
    yield exact("it makes no difference where the two losses are in proportion").close(
        0.0, gain.sel(pattern="in proportion").values, absolute=1e-9
    )
    yield exact("the large rate is beyond that at which the order of learning turns around").below(
        LARGE, data.turnaround_rate
    )
    yield exact("what is left of every update under decoupled weight decay, on any schedule").close(
        data.left_of_update.values, data.left_of_update_measured.values, tolerance=1e-9
    )
    yield bound("the risk of the last iterate is below the worst case of convex functions", "defazio2023").below(
        data.worst_case.values, data.risk_measured.values
    )
    yield heuristic(
        "the worst case wants a smaller peak of every schedule than the risk does", "schaipp2025; derived"
    ).above(data.peak.values[data.worst_case.argmin("peak")], data.peak.values[data.risk_measured.argmin("peak")])
    # from the last to the first by the worst case
    ranked = data.drop_sel(planned="cosine").min("peak").sortby("worst_case", ascending=False).risk_measured.values
    yield heuristic(
        "at the best peaks the worst case ranks constant, root, stable and linear as the risk does, last to first",
        "schaipp2025; derived",
    ).above(ranked[1:], ranked[:-1], note="cosine is first by the risk and second by the worst case")
