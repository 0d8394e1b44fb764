r"""On a real network the plan made from curvature and gradient noise foretells what every merge of checkpoints gains.

A small network on the digits at a constant learning rate. Checkpoints of a window are merged by every rule, and the
change of the expected loss against the last checkpoint is compared with the risks of ``merge_plan``, whose model comes
from the Hessian and the gradient noise at another window of the chain. A linear decay that was really run, and a run at
half the rate, stand beside them.

The whole spectrum foretells the gains to a few hundredths, three numbers (largest curvature, trace of the Hessian,
variance of the gradient) to less than a fifth, and in the same order. Below right, the distance of every merge to the
real decay on the same batches: a remainder is left over, the same for all rules, as it would be of batches that differ
in their curvature as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from figures.quadratic._digits_chains import (
    MEASURED_WINDOW,
    RATE,
    RECIPE,
    WINDOW,
    WINDOWS,
    Chain,
    Modes,
    Window,
    chains,
    over_chains,
    standard_error,
)
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, linear
from sgdynamics.simulate import trainer
from sgdynamics.theory.schedules import merge_plan
from sgdynamics.theory.schedules.merging.plan import merge_plans

Array = NDArray[np.float64]

DECAY = linear(RATE, WINDOW)
RERUNS = {"linear decay": DECAY, "half rate": constant(RATE / 2, WINDOW)}
RULES = ("wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk", "uniform")
SPACINGS = (10, 40, 160)
DRAWN = 40
# Where the rule that is exact at one curvature is exact: in the middle of those that relax within a window.
CURVATURE = 0.03
MODES = 40

Models = Mapping[str, MiniBatchQuadratic]


def _models(modes: Modes) -> Models:
    """The measured spectrum, and what three numbers say of it: largest curvature, trace and gradient noise."""
    low = 1 / (RATE * WINDOW)
    prior = np.geomspace(low, modes.curvature[0], MODES)
    multiplicity = modes.curvature.sum() / prior.sum()
    # gradient noise in proportion to the curvature, as near a minimum of a log-likelihood
    noise = modes.noise.sum() / modes.curvature.sum()
    return {
        "spectrum": MiniBatchQuadratic(modes.curvature, modes.center_variance),
        "three numbers": MiniBatchQuadratic(prior, noise / prior, multiplicity=multiplicity),
    }


Plans = dict[int, list[xr.Dataset]]


def _plans(model: MiniBatchQuadratic) -> Plans:
    """By spacing of the checkpoints, one for every rule; a rule that has no plan raises what it says."""
    made: Plans = {spacing: [] for spacing in SPACINGS}
    for spacing, plans in made.items():
        steps = np.arange(0, WINDOW + 1, spacing)
        for plan in merge_plans(DECAY, RATE, steps, rules=RULES, model=model, curvature=CURVATURE):
            if isinstance(plan, ValueError):
                raise plan
            plans.append(plan)
    return made


def _predicted(model: MiniBatchQuadratic, plans: Plans) -> xr.Dataset:
    """Changes of the risk against the last checkpoint, and distances to the decay."""
    ends = [merge_plan(rates, RATE, [0, WINDOW], rule="uniform", model=model) for rates in RERUNS.values()]
    every = list(plans.values())
    return xr.Dataset(
        {
            "predicted_change": (
                ("spacing", "rule"),
                [[float(plan.merged_risk - plan.base_risk) for plan in row] for row in every],
            ),
            "predicted_distance": (
                ("spacing", "rule"),
                [[float(plan.residual * plan.target_risk) for plan in row] for row in every],
            ),
            "predicted_rerun": ("run", [float(plan.target_risk - plan.base_risk) for plan in ends]),
        }
    )


def _measured(chain: Chain, windows: Sequence[Window], plans: Plans) -> xr.Dataset:
    """The same in every window, on the full and on the held-out loss."""
    changes, distances, reruns = [], [], []
    for window, ends in zip(windows, chain.reruns(windows, list(RERUNS.values())), strict=True):
        points = [plan.weight.values @ window.iterates[::spacing] for spacing in SPACINGS for plan in plans[spacing]]
        at_mean = chain.initial.with_flat(window.iterates.mean(axis=0))
        product = trainer.hessian_operator(chain.objective(at_mean, chain.x, chain.expected)).matvec
        apart = [point - ends[0] for point in points]
        every = np.array([window.iterates[-1], *ends, *points])
        losses = np.array([chain.full_loss(every), chain.held_out_loss(every)]).T
        reruns.append(losses[1 : 1 + len(ends)] - losses[0])
        changes.append(losses[1 + len(ends) :] - losses[0])
        distances.append([0.5 * gap @ product(gap) for gap in apart])
    shape = (len(SPACINGS), len(RULES))
    change, rerun = np.mean(changes, axis=0), np.mean(reruns, axis=0)
    return xr.Dataset(
        {
            "change": (("spacing", "rule"), change[:, 0].reshape(shape)),
            "held_out_change": (("spacing", "rule"), change[:, 1].reshape(shape)),
            "distance": (("spacing", "rule"), np.mean(distances, axis=0).reshape(shape)),
            "rerun": ("run", rerun[:, 0]),
            "held_out_rerun": ("run", rerun[:, 1]),
        }
    )


TEXTS = {
    "spacing": "steps between checkpoints",
    "rule": "rule that the checkpoints are merged by",
    "run": "run that was really made",
    "chain": "independent chain",
    "knowledge": "what is known of curvature and noise",
    "change": ("change of the full loss against the last checkpoint, mean over windows", "loss"),
    "held_out_change": ("change of the expected loss on held-out inputs, mean over windows", "loss"),
    "distance": ("squared distance to the decayed run, in the metric of half the Hessian", "loss"),
    "rerun": ("change of the full loss by a run that was really made", "loss"),
    "held_out_rerun": ("change of the expected loss on held-out inputs by a run that was really made", "loss"),
    "predicted_change": ("change of the full loss, predicted", "loss"),
    "predicted_distance": ("squared distance to the decayed run, predicted", "loss"),
    "predicted_rerun": ("change of the full loss by a run, predicted", "loss"),
}


def _chain(chain: Chain, windows: int) -> xr.Dataset:
    seen = list(chain.windows(windows))
    models = _models(chain.modes)
    plans = {name: _plans(model) for name, model in models.items()}
    predicted = [_predicted(model, plans[name]) for name, model in models.items()]
    known = xr.concat(predicted, xr.Variable("knowledge", list(models)))
    return _measured(chain, seen, plans["spectrum"]).merge(known)


def compute(fast: bool) -> xr.Dataset:
    every = chains(3 if fast else 8)
    data = xr.concat([_chain(chain, MEASURED_WINDOW + 1 if fast else WINDOWS) for chain in every], "chain")
    data = data.assign_coords(spacing=list(SPACINGS), rule=list(RULES), run=list(RERUNS), chain=np.arange(len(every)))
    return described(data, TEXTS, source="sandler2023", **RECIPE)


KNOWLEDGE = (("spectrum", BLACK, "predicted, spectrum"), ("three numbers", GREY, "three numbers"))
COLORS = dict(zip(SPACINGS, (BLUE, GREEN, VERMILION), strict=True))


def _draw_rules(axes: Axes, data: xr.Dataset) -> None:
    """Merges of one spacing and the runs that were made, best first."""
    kept = data.sel(spacing=DRAWN)
    names = [str(rule) for rule in kept.rule.values] + [f"run: {name}" for name in RERUNS]
    predicted, measured, held_out = (
        1e3 * xr.concat([kept[merged].rename(rule="row"), kept[run].rename(run="row")], "row", coords="minimal")
        for merged, run in (
            ("predicted_change", "predicted_rerun"),
            ("change", "rerun"),
            ("held_out_change", "held_out_rerun"),
        )
    )
    order = np.argsort(predicted.sel(knowledge="spectrum").mean("chain").values)
    places = np.arange(order.size)
    for knowledge, color, text in KNOWLEDGE:
        ticks = predicted.sel(knowledge=knowledge).mean("chain").values[order]
        for place, tick in zip(places, ticks, strict=True):
            label = text if place == 0 else None
            theory_line(axes, [tick, tick], [place - 0.35, place + 0.55], color=color, label=label)
    for values, color, marker, shift, label in (
        (measured, BLUE, "o", 0.0, "full loss"),
        (held_out, GREEN, "s", 0.25, "held-out loss"),
    ):
        shown = values.isel(row=order)
        measured_points(
            axes,
            shown.mean("chain"),
            places + shift,
            xerr=standard_error(shown),
            color=color,
            marker=marker,
            label=label,
        )
    axes.set_yticks(places, [names[place] for place in order])
    axes.invert_yaxis()
    axes.set(title=f"a checkpoint every {DRAWN} steps", xlabel=r"change of loss / $10^{-3}$", xlim=(-27, -4))
    axes.legend(loc="upper right")


def _draw_gains(axes: Axes, data: xr.Dataset) -> None:
    theory_line(axes, [-26, -10], [-26, -10], color=GREY, linewidth=0.8)
    for spacing, color in COLORS.items():
        kept = data.sel(spacing=spacing)
        measured_points(
            axes,
            1e3 * kept.predicted_change.sel(knowledge="spectrum").mean("chain"),
            1e3 * kept.change.mean("chain"),
            1e3 * standard_error(kept.change - kept.predicted_change.sel(knowledge="spectrum")),
            color=color,
            label=f"every {spacing} steps",
        )
    runs = data.predicted_rerun.sel(knowledge="spectrum")
    measured_points(
        axes,
        1e3 * runs.mean("chain"),
        1e3 * data.rerun.mean("chain"),
        1e3 * standard_error(data.rerun - runs),
        color=BLACK,
        marker="s",
        label="decay and half rate",
    )
    axes.legend(loc="upper left")
    axes.set(
        title="all merges, on one line",
        xlabel=r"predicted change / $10^{-3}$",
        ylabel=r"measured change / $10^{-3}$",
        xlim=(-26, -10),
        ylim=(-26, -10),
    )


def _draw_spacings(axes: Axes, data: xr.Dataset) -> None:
    for rule, color in (("risk", BLUE), ("wsm", GREEN), ("exact", VERMILION), ("binomial", GREY)):
        predicted = 1e3 * data.predicted_change.sel(rule=rule, knowledge="spectrum").mean("chain")
        measured = 1e3 * data.change.sel(rule=rule)
        theory_line(axes, SPACINGS, predicted, color=color, label=rule)
        measured_points(axes, SPACINGS, *over_chains(measured), color=color)
    decay = 1e3 * float(data.predicted_rerun.sel(knowledge="spectrum").isel(run=0).mean())
    theory_line(axes, SPACINGS, [decay] * len(SPACINGS), color=BLACK, linestyle="--", label="the decay itself")
    axes.set_xscale("log")
    ticks(axes.xaxis, SPACINGS)
    axes.legend(loc="upper left", ncol=2, fontsize=6.5)
    axes.set(
        title="sparser checkpoints gain a little less",
        xlabel="steps between checkpoints",
        ylabel=r"change of full loss / $10^{-3}$",
        ylim=(-25.5, -11),
    )


def _draw_distances(axes: Axes, data: xr.Dataset) -> None:
    theory_line(axes, [0.5, 15], [0.5, 15], color=GREY, linewidth=0.8)
    for spacing, color in COLORS.items():
        kept = data.sel(spacing=spacing)
        measured_points(
            axes,
            1e3 * kept.predicted_distance.sel(knowledge="spectrum").mean("chain"),
            1e3 * kept.distance.mean("chain"),
            1e3 * standard_error(kept.distance),
            color=color,
            label=f"every {spacing} steps",
        )
    axes.set(
        title="how far a merge is from the real decay",
        xscale="log",
        yscale="log",
        xlabel=r"predicted squared distance / $10^{-3}$",
        ylabel=r"measured / $10^{-3}$",
    )
    axes.legend(loc="upper left")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.4)
    drawings = (_draw_rules, _draw_gains, _draw_spacings, _draw_distances)
    for panel, drawing in zip(axes.flat, drawings, strict=True):
        drawing(panel, data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    predicted = data.predicted_change.sel(knowledge="spectrum", drop=True)
    apart = data.change - predicted
    first = predicted.mean("chain").idxmin("rule")
    found, foreseen = data.change.sel(rule=first), predicted.sel(rule=first)
    yield heuristic("gain of the rule that the plan ranks first, at every spacing of the checkpoints").close(
        foreseen.mean("chain"),
        found.mean("chain"),
        absolute=3 * standard_error(found - foreseen),
        note="within three standard errors of the mean over chains; nothing is fitted",
    )
    best = data.change.sel(rule=data.change.mean("chain").idxmin("rule"))
    yield heuristic(
        "no rule is better than the one that the plan ranks first, beyond the noise of the comparison"
    ).below(
        0.0,
        float((found - best).mean("chain").max()),
        float(standard_error(found - best).max()) or float(standard_error(found).max()),
        note="paired on the same checkpoints",
    )
    yield heuristic(
        "change of the full loss by every rule at every spacing, from curvature and gradient noise alone"
    ).close(
        predicted.mean("chain"),
        data.change.mean("chain"),
        scale=abs(predicted.mean("chain").min()),
        tolerance=0.05,
        absolute=3 * standard_error(apart),
        note="relative to the largest",
    )
    runs = data.predicted_rerun.sel(knowledge="spectrum", drop=True)
    yield heuristic("change of the full loss by a real linear decay and by a real run at half the rate").close(
        runs.mean("chain"),
        data.rerun.mean("chain"),
        scale=abs(runs.mean("chain").min()),
        tolerance=0.05,
        absolute=3 * standard_error(data.rerun - runs),
    )
    distances = data.predicted_distance.sel(knowledge="spectrum", drop=True)
    closest = "lsq"
    beyond, foreseen_beyond = (
        values.drop_sel(rule=closest) - values.sel(rule=closest, drop=True) for values in (data.distance, distances)
    )
    remainder = 1e3 * float((data.distance - distances).mean())
    yield heuristic(
        "squared distance of every merge to the real decay on the same batches, beyond that of the closest"
    ).close(
        foreseen_beyond.mean("chain"),
        beyond.mean("chain"),
        scale=foreseen_beyond.mean("chain").max("rule"),
        tolerance=0.05,
        absolute=3 * standard_error(beyond - foreseen_beyond),
        note=f"all are {remainder:.2g}e-3 further from the decay than the plan says",
    )
    worse = (data.change.sel(rule="binomial") - data.change.sel(rule=["wsm", "risk"])).sel(spacing=list(SPACINGS[:2]))
    yield heuristic(
        "where noise limits the loss, matching the bias alone (binomial) gains less than wsm and risk"
    ).positive(*over_chains(worse))
    three = data.predicted_change.sel(knowledge="three numbers", drop=True)
    yield heuristic("change of the full loss from three numbers: largest curvature, trace and gradient noise").close(
        three.mean("chain"),
        data.change.mean("chain"),
        scale=abs(three.mean("chain").min()),
        tolerance=0.25,
        absolute=3 * standard_error(data.change - three),
        note="relative to the largest; a spectrum even in the logarithm, noise in proportion to curvature",
    )
