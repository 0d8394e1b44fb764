r"""No rule for merging checkpoints is best for every goal, and sparse checkpoints leave noise that no weights remove.

A run at a constant rate on 40 curvatures over three decades, and decays that it might have ended on. To come close to
the decayed run and to have a low risk are different goals: equal weights risk less than the decay itself, yet are far
from it. Tail sums (wsm) fail where the rate drops in a jump: with two checkpoints they cannot tell a cut to r from one
to 1 - r, and have the risk of the run at one r alone, one half where gains are small. Each rule fails in directions of
its own, so the distance is given by gain (learning rate times curvature).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, exact
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import described
from figures.engine.sampling import replica_mean
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, linear
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import stationary_variance
from sgdynamics.theory.schedules import average_center_weights, center_weights, merge_plan

RATE = 1.0
STEPS = 200
CURVATURE = np.geomspace(1e-3, 1.0, 40)
# Gradient noise of covariance H, from a start at rest.
MODEL = MiniBatchQuadratic(CURVATURE, 1 / CURVATURE)
SETTLED = MiniBatchQuadratic(
    CURVATURE, 1 / CURVATURE, displacement=np.sqrt(stationary_variance(RATE * CURVATURE) / CURVATURE)
)

TARGETS = {
    "linear": linear(RATE, STEPS),
    "cosine": (1 + np.cos(np.pi * np.arange(1, STEPS + 1) / STEPS)) / 2,
    "jump to 0.1": np.where(np.arange(1, STEPS + 1) <= STEPS // 2, RATE, 0.1 * RATE),
}
RULES: tuple[Any, ...] = ("wsm", "exact", "binomial", "lsq_nonneg", "risk", "uniform")
COLORS = dict(zip(RULES, (GREEN, VERMILION, GREY, BLUE, ORANGE, PURPLE), strict=True))
EXACT_AT = 0.03
STRIDES = (1, 2, 4, 5, 10, 20, 40, 50, 100)
MEASURED_STRIDES = (10, 20, 50, 100)
# Those that have a checkpoint where the rate jumps.
EVEN_STRIDES = tuple(stride for stride in STRIDES if STEPS // 2 % stride == 0)

DRAWN_STRIDES = (1, 10)
DRAWN_BY_GAIN = ("wsm", "exact", "binomial", "lsq_nonneg")
# Equal weights are nearly those of lowest risk.
DASHED = {"uniform": {"linestyle": "--"}}
NAMES = {"lsq_nonneg": "lsq, weights >= 0", "exact": f"exact at {EXACT_AT:g}"}

# Two checkpoints, at the start and at the end, and a rate that is cut at once to a fraction of what it was.
CUTS = np.linspace(0.1, 0.9, 33)
MEASURED_CUTS = (0.1, 0.3, 0.5, 0.7, 0.9)

# What decays and rules are called where numbers of merges come from.
CALLED = {"linear": "linear", "cosine": "cosine", "jump": "jump to 0.1", "exact .03": "exact"}
CALLED |= {rule: rule for rule in RULES}

Weights = dict[tuple[str, int, str], NDArray[np.float64]]


def _saved(stride: int) -> NDArray[np.int64]:
    return np.arange(0, STEPS + 1, stride)


def _plans() -> tuple[xr.Dataset, Weights]:
    """Every rule for every target at every stride: what it risks, and its weights where they are measured."""
    shape = (len(TARGETS), len(STRIDES), len(RULES))
    risk, residual = np.empty(shape), np.empty(shape)
    weights: Weights = {}
    for place in np.ndindex(shape):
        name, stride, rule = list(TARGETS)[place[0]], STRIDES[place[1]], RULES[place[2]]
        plan = merge_plan(TARGETS[name], RATE, _saved(stride), rule=rule, model=MODEL, curvature=EXACT_AT)
        risk[place], residual[place] = float(plan.merged_risk), float(plan.residual)
        weights[name, stride, rule] = plan.weight.values
    ends = [merge_plan(target, RATE, [0, STEPS], rule="uniform", model=MODEL) for target in TARGETS.values()]
    decayed = [float(plan.target_risk) for plan in ends]
    dims = ("target", "stride", "rule")
    return xr.Dataset({"risk": (dims, risk), "residual": (dims, residual), "decayed": ("target", decayed)}), weights


def _half(error: xr.DataArray) -> xr.DataArray:
    """Excess risk of a point."""
    found: xr.DataArray = 0.5 * xr.dot(error**2, xr.DataArray(CURVATURE, dims="mode"), dim="mode")
    return found


def _merged(weights: Weights, replicas: int) -> xr.Dataset:
    """Risk of the merged point and its distance to the decayed run, from runs on the same batches."""
    step = int(np.gcd.reduce(MEASURED_STRIDES))
    names = [key for key in weights if key[1] in MEASURED_STRIDES]
    spread = np.zeros((len(names), STEPS // step + 1))
    for place, key in enumerate(names):
        spread[place, :: key[1] // step] = weights[key]
    every = _saved(step)
    targets = xr.DataArray(list(TARGETS.values()), dims=("target", "step"))
    of = xr.DataArray([list(TARGETS).index(name) for name, _, _ in names], dims="case")
    averages = xr.DataArray(spread, dims=("case", "step"))

    def statistic(some: NDArray[np.int64]) -> xr.DataArray:
        base = ensemble(SETTLED, constant(RATE, STEPS), replicas=some, seed=41, record=every).error.drop_vars("step")
        points = xr.dot(base, averages, dim="step")
        decayed = ensemble(SETTLED, targets, replicas=some, seed=41).error.squeeze("step", drop=True)
        return xr.concat([_half(points), _half(points - decayed.isel(target=of))], "what")

    mean, error = replica_mean(statistic, replicas, block=500)
    shape = (len(TARGETS), len(MEASURED_STRIDES), len(RULES))
    dims = ("target", "measured_stride", "rule")
    return xr.Dataset(
        {
            f"{name}{kind}": (dims, values.isel(what=place).values.reshape(shape))
            for place, name in enumerate(("measured_risk", "measured_distance"))
            for kind, values in (("", mean), ("_error", error))
        }
    )


def _two_checkpoints(replicas: int) -> xr.Dataset:
    """Risks of what tail sums and least squares make of two checkpoints, and of the run whose rate is cut."""
    rules: tuple[Any, ...] = ("wsm", "lsq", "run")
    found = np.empty((len(rules), CUTS.size))
    for place, cut in enumerate(CUTS):
        for row, rule in enumerate(rules[:2]):
            plan = merge_plan(constant(cut * RATE, STEPS), RATE, [0, STEPS], rule=rule, model=MODEL)
            found[row, place] = float(plan.merged_risk)
        found[2, place] = float(plan.target_risk)
    cuts = xr.DataArray(list(MEASURED_CUTS), dims="measured_cut")
    rates = cuts * RATE * xr.DataArray(np.ones(STEPS), dims="step")

    def statistic(some: NDArray[np.int64]) -> xr.DataArray:
        ends = ensemble(SETTLED, constant(RATE, STEPS), replicas=some, seed=42, record=[0, STEPS]).error
        points = (1 - cuts) * ends.isel(step=0, drop=True) + cuts * ends.isel(step=1, drop=True)
        runs = ensemble(SETTLED, rates, replicas=some, seed=42).error.squeeze("step", drop=True)
        return xr.concat([_half(points), _half(runs)], "what")

    mean, error = replica_mean(statistic, replicas, block=1000)
    return xr.Dataset(
        {
            "two_risk": (("two_rule", "cut"), found),
            "measured_two_risk": (("measured_two_rule", "measured_cut"), mean.transpose("what", ...).values),
            "measured_two_risk_error": (("measured_two_rule", "measured_cut"), error.transpose("what", ...).values),
        },
        coords={"two_rule": list(rules), "measured_two_rule": ["wsm", "run"]},
    )


def _by_gain(weights: Weights) -> xr.DataArray:
    """Distance to a linear decay of every mode: differences of what start and batches weigh, put together here."""
    target = np.multiply.outer(CURVATURE, TARGETS["linear"])
    decayed_start, decayed = center_weights(target)
    start, noise = SETTLED.displacement[:, None] ** 2, 1 / CURVATURE[:, None]
    found = np.empty((len(DRAWN_STRIDES), len(RULES), CURVATURE.size))
    for row, stride in enumerate(DRAWN_STRIDES):
        for place, rule in enumerate(RULES):
            average = np.zeros(STEPS + 1)
            average[::stride] = weights["linear", stride, rule]
            first, merged = average_center_weights(average, np.ones_like(target) * RATE * CURVATURE[:, None])
            apart = start[:, 0] * (first - decayed_start) ** 2 + noise[:, 0] * ((merged - decayed) ** 2).sum(axis=-1)
            found[row, place] = CURVATURE / 2 * apart
    return xr.DataArray(found, dims=("drawn_stride", "rule", "gain"), coords={"drawn_stride": list(DRAWN_STRIDES)})


TEXTS = {
    "target": "decay",
    "stride": "steps between checkpoints",
    "rule": "rule that the checkpoints are merged by",
    "gain": "learning rate times curvature",
    "cut": "fraction that the learning rate is cut to",
    "risk": ("expected excess risk of the merged point", "loss"),
    "residual": "distance to the decayed run over its risk",
    "decayed": ("expected excess risk of the decayed run", "loss"),
    "measured_risk": ("excess risk of the merged point, mean over runs", "loss"),
    "measured_risk_error": ("its standard error", "loss"),
    "measured_distance": ("distance to the decayed run on the same batches, mean over runs", "loss"),
    "measured_distance_error": ("its standard error", "loss"),
    "two_risk": ("expected excess risk with two checkpoints", "loss"),
    "measured_two_risk": ("excess risk with two checkpoints, mean over runs", "loss"),
    "measured_two_risk_error": ("its standard error", "loss"),
    "by_gain": ("distance to the linear decay, one mode", "loss"),
    "base_risk": ("expected excess risk of the last checkpoint", "loss"),
}


def compute(fast: bool) -> xr.Dataset:
    replicas = 2000 if fast else 20_000
    data, weights = _plans()
    data = data.merge(_merged(weights, replicas)).merge(_two_checkpoints(replicas))
    data["by_gain"] = _by_gain(weights)
    data["base_risk"] = float(merge_plan(TARGETS["linear"], RATE, [0, STEPS], rule="uniform", model=MODEL).base_risk)
    data = data.assign_coords(
        target=list(TARGETS),
        stride=list(STRIDES),
        measured_stride=list(MEASURED_STRIDES),
        rule=list(RULES),
        gain=RATE * CURVATURE,
        cut=CUTS,
        measured_cut=list(MEASURED_CUTS),
    )
    return described(
        data,
        TEXTS,
        source="sandler2023",
        steps=float(STEPS),
        exact_at=EXACT_AT,
        replicas=float(replicas),
        seed=41.0,
    )


def _draw_strides(axes: Axes, data: xr.Dataset, target: str, what: str) -> None:
    kept = data.sel(target=target, stride=list(EVEN_STRIDES))
    for rule, color in COLORS.items():
        line = kept.residual.sel(rule=rule) if what == "distance" else kept.risk.sel(rule=rule) / kept.decayed
        points = kept.sel(rule=rule)
        theory_line(axes, kept.stride, line, color=color, label=NAMES.get(rule, rule), **DASHED.get(rule, {}))
        measured_points(
            axes,
            data.measured_stride,
            points[f"measured_{what}"] / kept.decayed,
            points[f"measured_{what}_error"] / kept.decayed,
            color=color,
        )
    if what == "risk":
        axes.axhline(1.0, color=BLACK, linestyle=":", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="steps between checkpoints")


def _draw_two(axes: Axes, data: xr.Dataset) -> None:
    scale = float(data.base_risk)
    for rule, color, text in (
        ("run", BLACK, "the run"),
        ("wsm", GREEN, "merge, tail sums"),
        ("lsq", BLUE, "merge, least squares"),
    ):
        theory_line(axes, data.cut, data.two_risk.sel(two_rule=rule) / scale, color=color, label=text)
        if rule in data.measured_two_rule.values:
            points, errors = (
                values.sel(measured_two_rule=rule) / scale
                for values in (data.measured_two_risk, data.measured_two_risk_error)
            )
            measured_points(axes, data.measured_cut, points, errors, color=color)
    axes.set(
        title="two checkpoints",
        xlabel="rate is cut to this fraction",
        ylabel="risk / last checkpoint's",
        xlim=(0, 1),
        ylim=(0, 1.3),
    )
    axes.legend(loc="upper center", fontsize=6)


def _draw_gains(axes: Axes, data: xr.Dataset) -> None:
    scale = float(data.decayed.sel(target="linear"))
    for rule in DRAWN_BY_GAIN:
        line = data.by_gain.sel(rule=rule, drawn_stride=10) / scale
        theory_line(axes, data.gain, line, color=COLORS[rule])
    axes.set(
        title="one every 10 steps, by gain",
        xscale="log",
        yscale="log",
        xlabel="gain of the mode",
        ylabel="distance / decay's risk",
        ylim=(1e-5, 1),
    )


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 3, width=DOUBLE, height=4.9)
    for column, target in enumerate(("linear", "jump to 0.1")):
        text = "linear decay" if column == 0 else "jump to a tenth"
        _draw_strides(axes[0, column], data, target, "risk")
        _draw_strides(axes[1, column], data, target, "distance")
        axes[0, column].set(title=text, ylabel="risk / decay's", ylim=(0.25, 18))
        axes[1, column].set(ylabel="distance / decay's risk", ylim=(0.12, 12))
    axes[0, 0].legend(loc="upper left", fontsize=6, ncol=2, handlelength=1.2, columnspacing=0.8)
    axes[0, 1].text(1.1, 1.06, "the decay itself", fontsize=6, va="bottom")
    _draw_two(axes[0, 2], data)
    _draw_gains(axes[1, 2], data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    spread = "the risk of one run sits in few directions; more runs narrow it"
    weakest = 0.02 if data.replicas > 1e4 else 0.08
    theory = data[["risk", "residual", "decayed"]].sel(stride=list(MEASURED_STRIDES)).rename(stride="measured_stride")
    yield exact("risk of the merged point, for every target, stride and rule").statistical(
        theory.risk, data.measured_risk, data.measured_risk_error, "variance", weakest=weakest, reason=spread
    )
    yield exact("distance to the decayed run on the same batches, for every target, stride and rule").statistical(
        theory.residual * theory.decayed,
        data.measured_distance,
        data.measured_distance_error,
        "variance",
        weakest=weakest,
        reason=spread,
    )
    for name in ("risk", "residual"):
        other = elsewhere(f"merge_{name}")
        at = [key for key in other.values if key[2] in CALLED]
        here = [data[name].sel(target=CALLED[t], stride=s, rule=CALLED[r]).item() for t, s, r in at]
        yield exact(f"the {name} of merges that was computed elsewhere").close(
            other.along(*at),
            here,
            tolerance=5e-3,
            note=other.made_by,
        )
    whole = data.residual.sel(target="linear", stride=list(DRAWN_STRIDES)).rename(stride="drawn_stride")
    yield exact("the distance is the sum over modes of what start and batches weigh differently").close(
        whole * data.decayed.sel(target="linear"), data.by_gain.sum("gain"), tolerance=1e-9
    )
    dense = data.sel(target="linear", stride=1)
    yield exact(
        "equal weights risk less than the linear decay itself and yet are further from it than least squares"
    ).positive(
        [
            float(dense.decayed - dense.risk.sel(rule="uniform")),
            float(dense.residual.sel(rule="uniform") - dense.residual.sel(rule="lsq_nonneg")),
        ]
    )
    yield exact("with a checkpoint every 40 steps no weights bring the risk down to the linear decay's").below(
        data.risk.sel(target="linear", stride=40, rule="risk").item(), data.decayed.sel(target="linear").item()
    )
    two = data.measured_two_risk
    yield exact("risk of tail sums of two checkpoints and of the run whose rate is cut").statistical(
        data.two_risk.sel(two_rule=["wsm", "run"])
        .sel(cut=list(MEASURED_CUTS), method="nearest")
        .rename(two_rule="measured_two_rule", cut="measured_cut")
        .assign_coords(measured_cut=list(MEASURED_CUTS)),
        two,
        data.measured_two_risk_error,
        "variance",
        weakest=weakest,
        reason=spread,
    )
    tail, run = (data.two_risk.sel(two_rule=rule) for rule in ("wsm", "run"))
    yield exact("tail sums of two checkpoints cannot tell a cut to r from one to 1 - r").close(
        tail.values, tail.values[::-1], tolerance=1e-9
    )
    yield exact("the run's risk grows with the fraction that its rate is cut to").positive(run.diff("cut"))
