r"""Just beyond their edge deep linear networks alternate between two points that are known exactly, mode by mode.

Top left, the two values of a layer's factor against the learning rate over the edge, for networks of two, three and
five balanced layers: lines are the two-cycles as functions of their ratio, points are gradient descent, and crosses the
heavy ball at a rate that is larger by the momentum. Only modes whose own edge is passed cycle. Top right, catapults
just above their threshold :math:`c = 2` at infinite width: the kernel comes down at :math:`4 - c`, and what is missing
of that by one order and by two orders more. Bottom left, catapults with momentum :math:`\beta`, everything over
:math:`1 + \beta`: they begin at the same place and are the same mirror at first, and then fall below it, the earlier
the more momentum. Bottom right, the largest loss that two layers on one example meet on their way, over the bound that
no run below its largest rate exceeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, bound, exact, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from figures.engine.labels import axis, described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.uv import MultiExampleUV, UVNetwork
from sgdynamics.simulate import trainer
from sgdynamics.simulate.uv import trajectory
from sgdynamics.theory.deep_linear import cycle_low, cycle_multiplier, cycle_rate, persistent_edge
from sgdynamics.theory.edge_of_stability import two_cycle_rate, two_cycle_threshold
from sgdynamics.theory.uv import (
    catapult_final_ntk,
    first_rise_rate,
    largest_learning_rate,
    loss_bound,
    mirror_ntk,
    reflected_ntk,
)

DEPTHS = {2: (BLUE, "o"), 3: (ORANGE, "s"), 5: (GREEN, "^")}
RATIOS = 1 + np.linspace(0.01, 1, 200)
VALUE = 2.0
POINTS, STEPS = 9, 10_000
RUNS, FOLLOWED = 400, 3000
NETWORKS, WIDTH, EXAMPLES, INPUTS = 6, 7, 3, 4
MOMENTA = {0.0: (BLACK, "o"), 0.5: (BLUE, "s"), 0.9: (VERMILION, "^")}
MOMENTUM_C = np.array([1.6, 1.8, 1.95, 2.02, 2.05, 2.1, 2.15, 2.2, 2.3, 2.4, 2.5, 2.6])
CYCLE_MOMENTUM = 0.5
EXCESS = np.geomspace(0.02, 0.4, 12)


def _descend(rate: np.ndarray, depth: int, momentum: float = 0.0) -> np.ndarray:
    """The two last values of the common factor of balanced layers, smaller one first."""
    factor = np.full_like(rate, 1.01 * VALUE ** (1 / depth))
    before = factor
    for _ in range(STEPS):
        slope = (factor**depth - VALUE) * factor ** (depth - 1)
        before, factor = factor, factor - rate * slope + momentum * (factor - before)
    return np.sort([before, factor], axis=0)


def _cycles() -> xr.Dataset:
    ratio = axis("ratio", RATIOS)
    parts = []
    for depth in DEPTHS:
        edge, multiplier = persistent_edge(VALUE, depth), cycle_multiplier(ratio, depth)
        shown = ratio.where(multiplier > -1)
        chosen = RATIOS[np.linspace(8, int((multiplier > -0.9).sum()) - 1, POINTS).round().astype(int)]
        at = xr.DataArray(chosen, dims="point")
        low, high = _descend(cycle_rate(chosen, VALUE, depth), depth)
        # near its birth a cycle attracts with momentum, too
        gentle = chosen[cycle_multiplier(chosen, depth) > 0.5 * two_cycle_threshold(CYCLE_MOMENTUM)]
        pushed = np.full((2, POINTS), np.nan)
        rate = cycle_rate(gentle, VALUE, depth)
        there = _descend(rate / two_cycle_rate(1.0, CYCLE_MOMENTUM), depth, CYCLE_MOMENTUM)
        pushed[:, : gentle.size] = np.nan_to_num(there, nan=np.inf)  # missing is only what was not run
        unit = VALUE ** (1 / depth)
        foretold = cycle_low(at, VALUE, depth)
        parts.append(
            xr.Dataset(
                {
                    "rate": cycle_rate(ratio, VALUE, depth).where(shown.notnull()) / edge,
                    "low": cycle_low(ratio, VALUE, depth) / unit,
                    "high": cycle_low(ratio, VALUE, depth) * ratio / unit,
                    "point_rate": cycle_rate(at, VALUE, depth) / edge,
                    "low_predicted": foretold / unit,
                    "low_measured": ("point", low / unit),
                    "low_with_momentum": ("point", pushed[0] / unit),
                    "high_with_momentum": ("point", pushed[1] / unit),
                    "high_predicted": foretold * at / unit,
                    "high_measured": ("point", high / unit),
                }
            )
        )
    return xr.concat(parts, xr.DataArray(list(DEPTHS), dims="depth", name="depth"))


def _catapults() -> xr.Dataset:
    excess = axis("excess", EXCESS)
    end = catapult_final_ntk(2 + excess, 1e-9)
    return xr.Dataset(
        {"mirror_error": mirror_ntk(2 + excess) - end, "reflected_error": reflected_ntk(2 + excess) - end}
    )


def _momentum() -> xr.Dataset:
    """Catapults of wide networks with momentum, kernels over 1 + momentum; NaN where a run diverges."""
    c = axis("c", MOMENTUM_C)
    ends = []
    for beta in MOMENTA:
        run = trajectory(1e-6, (1 + beta) * c, 1.0, kappa=1.0, steps=STEPS, momentum=beta)
        end = (run.ntk / (1 + beta)).isel(step=-1, drop=True)
        ends.append(end.where(np.isfinite(end)))
    made = xr.concat(ends, xr.DataArray(list(MOMENTA), dims="momentum", name="momentum"))
    return xr.Dataset({"momentum_end": made})


def _peaks() -> xr.Dataset:
    """The largest loss of random starts and targets, at rates up to the largest one."""
    random = np.random.default_rng(0)
    model = UVNetwork(16, target=xr.DataArray(random.uniform(0, 12, RUNS), dims="run"))
    alignment, size = random.random((2, RUNS))
    output, ntk = model.start(xr.DataArray(alignment, dims="run"), xr.DataArray(size, dims="run"))
    share = xr.DataArray(random.uniform(0.5, 0.9999, RUNS), dims="run")
    rate = share * largest_learning_rate(output, ntk, model.kappa, model.target)
    path = trajectory(output, ntk, rate, kappa=model.kappa, target=model.target, steps=FOLLOWED)
    return xr.Dataset({"share": share, "peak": path.loss.max("step") / loss_bound(rate, model.kappa)})


def _several_examples() -> xr.Dataset:
    """Largest curvature and first rise of the loss from three numbers of a network, and from its weights."""
    found = []
    for seed in range(NETWORKS):
        random = np.random.default_rng(seed)
        x, y = random.normal(size=(EXAMPLES, INPUTS)), random.normal(size=EXAMPLES)
        hidden, readout = random.normal(size=(WIDTH, INPUTS)), random.normal(size=WIDTH)
        seen = x @ hidden.T
        root = math.sqrt(WIDTH)
        state = seen @ readout / root, float(readout @ readout) / WIDTH, seen @ seen.T / WIDTH
        model = MultiExampleUV(x, y, width=WIDTH)
        # with weights smaller by a fourth root of the width there is no factor, and curvatures are larger by its root
        net = trainer.network([INPUTS, WIDTH, 1], "linear", biases=False, seed=0)
        net = net.with_flat(np.concatenate([hidden.T.ravel(), readout]) / np.sqrt(root))
        predicted = first_rise_rate(model, *state)
        objective = trainer.Objective(net, x, y, "mse")
        rise = trainer.critical_rate(
            objective, direction=objective.gradient(), learning_rate=predicted / root / 30, accuracy=1e-8
        )
        top = trainer.top_hessian_eigenvalues(net, x, y, loss="mse", tol=1e-10)
        spectrum = model.hessian_spectrum(*state)
        found.append([predicted, root * rise.critical_rate.item(), spectrum[0], top.values[0] / root])
    names = ("rise_predicted", "rise_measured", "top_predicted", "top_measured")
    return xr.Dataset({name: ("network", column) for name, column in zip(names, np.transpose(found), strict=True)})


def compute(fast: bool) -> xr.Dataset:
    data = xr.merge([_cycles(), _catapults(), _momentum(), _peaks(), _several_examples()])
    return described(data, source="ghosh2025; lewkowycz2020")


def draw(data: xr.Dataset) -> Figure:
    figure, ((cycle, catapult), (pushed, peak)) = panels(2, 2, width=DOUBLE, height=5.4)
    for depth, (color, marker) in DEPTHS.items():
        here = data.sel(depth=depth)
        for side in ("low", "high"):
            theory_line(cycle, here.rate, here[side], color=color)
            measured_points(
                cycle,
                here.point_rate,
                here[f"{side}_measured"],
                color=color,
                marker=marker,
                label=f"{depth} layers" if side == "low" else None,
            )
            cycle.plot(here.point_rate, here[f"{side}_with_momentum"], "x", color=color, markersize=4)
    cycle.axhline(1, color=BLACK, linewidth=0.8, linestyle=":")
    cycle.set(xlabel="learning rate / edge", ylabel="factor of a layer / at the minimum", title="two-cycles")
    cycle.legend(fontsize=7)
    excess = data.excess
    for name, color, order, label in (
        ("mirror_error", VERMILION, 2, r"of $4 - c$"),
        ("reflected_error", BLUE, 4, r"of $4 - c - \frac{2}{3}(c-2)^2 - \frac{4}{9}(c-2)^3$"),
    ):
        error = abs(data[name])
        theory_line(catapult, excess, error[0].item() * (excess / excess[0].item()) ** order, color=color)
        measured_points(catapult, excess, error, color=color, label=label)
    catapult.set(xscale="log", yscale="log", xlabel="$c - 2$", ylabel="error of the final kernel")
    ticks(catapult.xaxis, [0.02, 0.05, 0.1, 0.2, 0.4])
    catapult.set_title("catapults just above 2")
    catapult.legend(fontsize=7, loc="upper left")
    low, high = catapult.get_ylim()
    catapult.set_ylim(low, high * 30)
    mirror = np.array([1.5, 2.0, 2.6])
    theory_line(pushed, mirror, np.where(mirror > 2, 4 - mirror, mirror), color=GREY)
    for beta, (color, marker) in MOMENTA.items():
        here = data.momentum_end.sel(momentum=beta)
        measured_points(pushed, data.c, here, color=color, marker=marker, label=rf"$\beta = {beta:g}$")
    pushed.set(
        xlabel=r"$\eta\lambda_0 / (1+\beta)$",
        ylabel=r"final  $\eta\lambda / (1+\beta)$",
        title="catapults with momentum",
        ylim=(0, 2.1),
    )
    pushed.legend(fontsize=7, loc="lower left")
    peak.plot(data.share, data.peak, ".", color=BLUE, markersize=3, markeredgewidth=0)
    peak.axhline(1, color=BLACK, linewidth=1.0)
    peak.text(0.5, 1.05, r"$2/(\eta^2\kappa)$", va="bottom", fontsize=7)
    peak.set(xlabel="learning rate / largest", ylabel="largest loss / bound", title="losses of 400 runs", ylim=(0, 1.2))
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    for side in ("low", "high"):
        yield exact(
            f"the {'smaller' if side == 'low' else 'larger'} point of the two-cycle is where descent goes", "ghosh2025"
        ).close(data[f"{side}_predicted"], data[f"{side}_measured"], tolerance=1e-9)
    for side in ("low", "high"):
        found = data[f"{side}_with_momentum"]
        yield exact(f"with momentum the {side} point of the cycle is that of the rate over 1 + momentum").close(
            data[f"{side}_predicted"],
            found.where(found.notnull(), data[f"{side}_predicted"]),
            tolerance=1e-9,
            note="where the cycle attracts with momentum, too",
        )
    yield asymptotic("with momentum no kernel moves below 2 (1 + momentum) over the rate").close(
        data.c.where(data.c < 2, drop=True) + 0 * data.momentum,
        data.momentum_end.where(data.c < 2, drop=True).transpose("c", "momentum"),
        tolerance=1e-6,
    )
    yield heuristic(
        "beyond it they fall to the mirror's kernel or below, the lower the more momentum; large rates diverge"
    ).above(0.0, -data.momentum_end.sel(c=[2.05, 2.1, 2.2]).diff("momentum"))
    yield bound("no run below its largest rate ever has a larger loss than the bound, whatever start and target").below(
        1.0, data.peak
    )
    yield bound("and runs come near that bound").above(0.8, data.peak.max())
    for name, text in (("rise", "rate at which a step first raises the loss"), ("top", "largest Hessian eigenvalue")):
        yield exact(f"on several examples, {text}: from outputs and second moments, and from the weights").close(
            data[f"{name}_predicted"], data[f"{name}_measured"], tolerance=1e-6
        )
    for name, order in (("mirror", 2), ("reflected", 4)):
        error = np.log(abs(data[f"{name}_error"].values))
        yield asymptotic(f"the error of the final kernel above 2 is of order {order} for the {name} law").close(
            order, (error[2] - error[0]) / np.log(EXCESS[2] / EXCESS[0]), absolute=0.15
        )
