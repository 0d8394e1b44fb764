r"""Across a spectrum the average of one fast run beats the best schedule; larger batches at some point stop paying.

The noisy quadratic model with :math:`h_i = 1/i`, 1000 modes and the start :math:`\operatorname{E} e_i^2 = 1/1000`,
centers of variance :math:`1/(1000 h_i)`, 200 steps. The optimal schedule is found by exact line minimisations; the
others are at their best learning rate. Below right, steps to a target risk at the best constant learning rate of each
batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from figures.engine.check import Check, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import described
from figures.engine.sampling import Indices, replica_mean
from figures.engine.style import DOUBLE, compared, measured_points, panels, theory_line, ticks
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, cosine, linear, swa
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import greedy_schedule, moments, optimal_schedule, steps_to_target

MODES = 1000
STEPS = 200
AVERAGE = "average of one run"
COLORS = {
    AVERAGE: BLACK,
    "optimal": VERMILION,
    "linear": BLUE,
    "cosine": GREEN,
    "constant": ORANGE,
    "greedy": PURPLE,
}
MEASURED_STEPS = (2, 5, 10, 20, 50, 100, STEPS)

# Final risks that were computed once elsewhere, to the digits given there; the average is of a run at this rate.
OTHER_RISKS = elsewhere("noisy_quadratic_risk").values
KNOWN_AVERAGE_RATE = 1.471

TARGET = 3e-4
BATCH_SIZES = tuple(2**power for power in range(17))
MEASURED_BATCH_SIZES = BATCH_SIZES[::4]
NEAR_THE_TARGET = (0.98, 1.0, 1.02)


def _model(batch_size: Any = 1, noise: float = 1.0) -> MiniBatchQuadratic:
    curvature = 1 / np.arange(1.0, MODES + 1)
    variance = noise / (MODES * curvature)
    return MiniBatchQuadratic(curvature, variance, displacement=MODES**-0.5, batch_size=batch_size)


def _best(schedule: Callable[[float], NDArray[np.float64]], **options: Any) -> float:
    """The learning rate with the lowest final risk."""

    def risk(rate: float) -> float:
        return float(moments(_model(), schedule(rate), **options).excess_risk.squeeze())

    return float(minimize_scalar(risk, bounds=(0.05, 1.9), method="bounded", options={"xatol": 1e-7}).x)


def _from_the_peak(shape: Callable[[float, int], NDArray[np.float64]], rate: float) -> NDArray[np.float64]:
    """The decay a step later, so that the first step is at the peak and the last is not lost at 0."""
    return np.concatenate([[rate], shape(rate, STEPS)[:-1]])


def _schedules() -> xr.DataArray:
    families: dict[str, Callable[[float], NDArray[np.float64]]] = {
        "linear": lambda rate: _from_the_peak(linear, rate),
        "cosine": lambda rate: _from_the_peak(cosine, rate),
        "constant": lambda rate: constant(rate, STEPS),
    }
    found = {"optimal": optimal_schedule(_model(), STEPS)}
    found |= {name: family(_best(family)) for name, family in families.items()}
    found["greedy"] = greedy_schedule(_model(), STEPS)
    return xr.DataArray(
        list(found.values()),
        dims=("schedule", "step"),
        coords={"schedule": list(found), "step": np.arange(1, STEPS + 1)},
    )


def _running_averages(at: NDArray[np.int64]) -> xr.DataArray:
    """Uniform averages of x_1..x_t for several t, as weights over all iterates."""
    weights = np.zeros((at.size, STEPS + 1))
    for row, step in enumerate(at.tolist()):
        weights[row, : step + 1] = swa(step)
    return xr.DataArray(weights, dims=("at", "step"), coords={"at": at})


def _final_risks(replicas: int) -> xr.Dataset:
    model, schedules = _model(), _schedules()
    base = constant(_best(lambda rate: constant(rate, STEPS), average=swa(STEPS)), STEPS)
    every, some = np.arange(1, STEPS + 1), np.array(MEASURED_STEPS)

    risk = moments(model, schedules, record=every).excess_risk
    averaged = moments(model, base, average=_running_averages(every)).excess_risk
    averaged = averaged.squeeze("step", drop=True).rename(at="step").expand_dims(schedule=[AVERAGE])
    exact = xr.concat([averaged, risk], "schedule")

    def risks(indices: Indices) -> xr.DataArray:
        runs = ensemble(model, schedules, replicas=indices, seed=51, record=some, method="jumps")
        averages = ensemble(
            model, base, replicas=indices, seed=52, average=_running_averages(some), method="jumps"
        ).excess_risk
        averages = averages.squeeze("step", drop=True).rename(at="step").expand_dims(schedule=[AVERAGE])
        together: xr.DataArray = xr.concat([averages, runs.excess_risk], "schedule")
        return together

    measured, standard_error = replica_mean(risks, replicas, block=250)
    rates = xr.concat([xr.zeros_like(schedules[:1]).assign_coords(schedule=[AVERAGE]) + base[0], schedules], "schedule")
    known_average = moments(model, constant(KNOWN_AVERAGE_RATE, STEPS), average=swa(STEPS)).excess_risk
    found = xr.Dataset(
        {
            "learning_rate": rates,
            "excess_risk": exact,
            "excess_risk_measured": measured.rename(step="measured_step"),
            "excess_risk_standard_error": standard_error.rename(step="measured_step"),
            "known_average_risk": known_average.squeeze(drop=True),
        }
    )
    return found


def _fewest_steps(model: MiniBatchQuadratic) -> tuple[xr.DataArray, xr.DataArray]:
    """Steps to the target at the best constant learning rate, and that rate: a coarse grid, then a fine one."""
    grid = xr.DataArray(np.geomspace(0.02, 1.99, 33), dims="trial")
    for _ in range(2):
        steps = steps_to_target(model, grid, TARGET).real_step
        rates = grid.broadcast_like(steps)
        best = steps.fillna(np.inf).argmin("trial")
        below, above = (rates.isel(trial=(best + shift).clip(0, 32)) for shift in (-1, 1))
        grid = below + (above - below) * xr.DataArray(np.linspace(0, 1, 33), dims="trial")
    return steps.isel(trial=best), rates.isel(trial=best)


def _crossing(risk: xr.DataArray, at: NDArray[np.int64]) -> tuple[float, float]:
    """Where the mean risk of replicas passes the target, between the first and the last step recorded; with its error.

    By the line through their logarithms, and to first order in the deviations of the two.
    """
    ends = risk.isel(step=[0, -1])
    first, last = ends.mean("replica").values
    share = np.log(first / TARGET) / np.log(first / last)
    pull = (1 - share) / first * ends.isel(step=0) + share / last * ends.isel(step=1)
    length = float(at[-1] - at[0])
    error = length / np.log(first / last) * pull.std("replica") / np.sqrt(risk.sizes["replica"])
    return float(at[0] + length * share), float(error)


def _steps_against_batch_size(replicas: int) -> xr.Dataset:
    sizes = xr.DataArray(
        np.array(BATCH_SIZES, dtype=float), dims="batch_size", coords={"batch_size": list(BATCH_SIZES)}
    )
    steps, rates = _fewest_steps(_model(sizes))
    noiseless, _ = _fewest_steps(_model(noise=0.0))

    predicted, measured = [], []
    for size in MEASURED_BATCH_SIZES:
        model = _model(size)
        fewest = float(steps.sel(batch_size=size))
        at = np.round(fewest * np.array(NEAR_THE_TARGET)).astype(int)
        schedule = constant(float(rates.sel(batch_size=size)), int(at[-1]))
        runs = ensemble(model, schedule, replicas=replicas, seed=53, record=at, method="jumps").excess_risk
        middle = runs.isel(step=1)
        predicted.append(float(moments(model, schedule, record=at).excess_risk[1]))
        error = float(middle.std("replica")) / np.sqrt(replicas)
        measured.append([*_crossing(runs, at), float(middle.mean("replica")), error])
    names = ("steps_measured", "steps_standard_error", "risk_near_target_measured", "risk_near_target_standard_error")
    columns = dict(zip(names, np.array(measured).T, strict=True)) | {"risk_near_target": predicted}
    return xr.Dataset(
        {name: ("measured_batch_size", values) for name, values in columns.items()},
        {"measured_batch_size": list(MEASURED_BATCH_SIZES)},
    ).assign(steps=steps, best_rate=rates, noiseless_steps=noiseless)


TEXTS = {
    "step": "step",
    "steps": "steps to the target at the best constant rate",
    "best_rate": ("best constant learning rate", "1/curvature"),
    "noiseless_steps": "steps to the target without noise",
    "risk_near_target": ("expected excess risk at the step nearest to the target", "loss"),
    "batch_size": ("batch size", "examples"),
    "schedule": "schedule",
    "learning_rate": ("learning rate", "1/curvature"),
    "excess_risk": ("expected excess risk", "loss"),
    "known_average_risk": ("excess risk of the average of a run at a given rate", "loss"),
}


def compute(fast: bool) -> xr.Dataset:
    replicas = 3000 if fast else 20_000
    data = xr.merge([_final_risks(replicas), _steps_against_batch_size(replicas)], combine_attrs="drop_conflicts")
    return described(data, TEXTS, source="zhang2019", target=TARGET, modes=float(MODES))


def _draw_schedules(axes: Axes, data: xr.Dataset) -> None:
    for name, color in COLORS.items():
        dashes = "--" if name == AVERAGE else "-"
        theory_line(axes, data.step, data.learning_rate.sel(schedule=name), color=color, label=name, linestyle=dashes)
    axes.set(title="six plans for 200 steps", xlabel="step", ylabel=r"learning rate $\eta$", ylim=(0, 1.55))


def _draw_risks(axes: Axes, data: xr.Dataset) -> None:
    for name, color in COLORS.items():
        here, dashes = data.sel(schedule=name), "--" if name == AVERAGE else "-"
        compared(axes, here, "excess_risk", color=color, scale=1e3, linestyle=dashes)
    axes.set(title="greedy leads at first and ends last", xlabel="step", ylabel="excess risk / 0.001")
    axes.set(xscale="log", yscale="log")
    ticks(axes.xaxis, [1, 10, 100])
    ticks(axes.yaxis, [1, 2, 3, 4])


def _draw_final_risks(axes: Axes, data: xr.Dataset) -> None:
    final = data.sel(step=STEPS, measured_step=STEPS)
    axes.axvline(1e3 * float(final.excess_risk.sel(schedule="optimal")), color=GREY, linestyle=":", linewidth=0.9)
    for row, (name, color) in enumerate(COLORS.items()):
        here = 1e3 * final[["excess_risk", "excess_risk_measured", "excess_risk_standard_error"]].sel(schedule=name)
        theory_line(axes, [here.excess_risk] * 2, [row - 0.32, row + 0.32], color=color)
        measured_points(axes, here.excess_risk_measured, row, xerr=float(here.excess_risk_standard_error), color=color)
    axes.set_yticks(range(len(COLORS)), list(COLORS))
    axes.invert_yaxis()
    axes.set(title="the average beats the best schedule", xlabel="final excess risk / 0.001", xlim=(0.9, 1.6))


def _draw_steps(axes: Axes, data: xr.Dataset) -> None:
    compared(axes, data, "steps", color=BLUE)
    perfect = float(data.steps.isel(batch_size=0)) / data.batch_size
    theory_line(axes, data.batch_size, perfect, color=GREY, linestyle="--", label="perfect scaling")
    axes.axhline(float(data.noiseless_steps), color=GREY, linestyle=":", linewidth=0.9, label="no noise at all")
    axes.set(xscale="log", yscale="log", ylim=(60, 8000), xlim=(0.7, 1e5))
    axes.set_xticks([1, 100, 10_000])
    axes.set(title="larger batches stop paying", xlabel="batch size", ylabel=f"steps to excess risk {TARGET:g}")
    axes.legend()


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.2)
    _draw_schedules(axes[0, 0], data)
    _draw_risks(axes[0, 1], data)
    _draw_final_risks(axes[1, 0], data)
    _draw_steps(axes[1, 1], data)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, columnspacing=1.2)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    final = data.excess_risk.sel(step=STEPS, drop=True)
    yield exact("final risk of the optimal schedule, 1.049908e-3").close(
        OTHER_RISKS["optimal"],
        final.sel(schedule="optimal"),
        absolute=1e-9,
        note="no single learning rate can be changed to lower it; a second, lower minimum is not excluded by proof",
    )
    others = final.sel(schedule=["linear", "cosine", "constant", "greedy"])
    yield exact(
        "final risks: best linear 1.05760e-3, cosine 1.09329e-3, constant 1.27899e-3, and greedy 1.52103e-3"
    ).close(others.copy(data=[OTHER_RISKS[name] for name in others.schedule.values]), others, absolute=1e-8)
    yield exact(f"final risk of the average of a run at rate {KNOWN_AVERAGE_RATE}, 9.58845e-4").close(
        OTHER_RISKS["average at 1.471"],
        data.known_average_risk,
        absolute=5e-9,
        note="as far as four digits of the rate determine it",
    )
    measured, error = data.excess_risk_measured, data.excess_risk_standard_error
    expected = data.excess_risk.sel(step=list(MEASURED_STEPS)).rename(step="measured_step")
    yield exact("final risks of five schedules and of the average, simulated", "zhang2019").statistical(
        expected.sel(measured_step=STEPS), measured.sel(measured_step=STEPS), error.sel(measured_step=STEPS), "mean"
    )
    yield exact("risk against step, seven steps, simulated", "zhang2019").statistical(
        expected, measured, error, "variance", note="a risk is a sum of variances"
    )
    last = xr.Dataset({"risk": measured, "error": error}).sel(measured_step=STEPS)
    average, optimal = last.sel(schedule=AVERAGE), last.sel(schedule="optimal")
    yield exact("across a spectrum the average of one run is below the best schedule").positive(
        optimal.risk - average.risk, np.hypot(average.error, optimal.error)
    )
    ranking = list(COLORS)
    yield bound("average < optimal <= linear < cosine < constant < greedy").below(
        final.sel(schedule=ranking[1:]).assign_coords(schedule=ranking[:-1]), final.sel(schedule=ranking[:-1])
    )
    start = data.excess_risk.sel(step=1, drop=True)
    yield bound("no first step lowers the risk more than that of the greedy schedule").below(
        start.drop_sel(schedule="greedy"), start.sel(schedule="greedy", drop=True)
    )
    yield exact(
        "excess risk where steps_to_target finds the target, five batch sizes, simulated", "zhang2019"
    ).statistical(
        data.risk_near_target, data.risk_near_target_measured, data.risk_near_target_standard_error, "variance"
    )
    yield exact("steps to the target, five batch sizes, simulated", "zhang2019").statistical(
        data.steps.sel(batch_size=list(MEASURED_BATCH_SIZES)).rename(batch_size="measured_batch_size"),
        data.steps_measured,
        data.steps_standard_error,
        "variance",
    )
    ratio = data.steps[:-1] / data.steps[1:].values
    yield heuristic("twice the batch size saves at most half of the steps", "zhang2019").below(2.0, ratio)
    yield heuristic("small batches scale perfectly: from 1 to 2 the steps are halved, to 5%", "zhang2019").close(
        2.0, float(ratio[0]), tolerance=0.05
    )
    yield heuristic(
        f"large batches do not scale: at {BATCH_SIZES[-1]} the steps are those without noise, to 1%", "zhang2019"
    ).close(data.noiseless_steps, float(data.steps[-1]), tolerance=0.01)
