r"""On a real network, averages of stationary iterates are worth what the quadratic predicts from curvature and noise.

A small network on the digits at a constant learning rate. Replacing the last iterate by the midpoint of two, by an
average, or by the end of a decayed run on the same batches lowers the expected loss. The lines know nothing of these
losses: they come from the Hessian at the mean of one window and from the gradient noise of single batches there, and
hold to a few hundredths. Two points far apart are worth nearly a run at half the rate, longer averages more.

Where the prediction starts to fail: modes of middling curvature fluctuate by a few hundredths less than they should,
and runs at a lower rate gain a little more. About 500 of the 2410 directions relax within a window. The others, some of
negative curvature, are left out: no stationary law describes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, theory_strokes, ticks
from figures.quadratic._digits_chains import (
    FAST_CHAINS,
    MEASURED_WINDOW,
    RATE,
    RECIPE,
    WINDOW,
    Chain,
    Modes,
    Window,
    agreement,
    chains,
    over_chains,
    standard_error,
)
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, linear, swa, two_point
from sgdynamics.theory.quadratic import moments, stationary_variance, tail_variance, two_point_variance

Array = NDArray[np.float64]

SEPARATIONS = (1, 10, 50, 200, 400, 800)
LAST = constant(RATE, WINDOW)
AVERAGES = {f"two points {separation}": two_point(WINDOW, separation) for separation in SEPARATIONS} | {
    "EMA 0.98": ema(0.98, WINDOW),
    "EMA 0.995": ema(0.995, WINDOW),
    "uniform": swa(WINDOW),
}
RERUNS = {"half rate": constant(RATE / 2, WINDOW), "linear decay": linear(RATE, WINDOW)}
RULES = (*AVERAGES, *RERUNS)
FAR = f"two points {SEPARATIONS[-1]}"

# Modes by rank, largest curvature first, to average over: about 500 relax within a window.
RANKS = (0, 3, 9, 20, 40, 80, 160, 320, 480)
GRID = np.unique(np.geomspace(1, WINDOW, 50).round()).astype(int)


def _changes(chain: Chain, window: Window, ends: Array) -> Array:
    """Change of full and held-out loss against the last iterate, for every rule; ``ends`` are those of the reruns."""
    averaged = np.array(list(AVERAGES.values())) @ window.iterates
    points = np.array([window.iterates[-1], *averaged, *ends])
    losses = np.array([chain.full_loss(points), chain.held_out_loss(points)])
    changes: Array = losses[:, 1:] - losses[:, :1]
    return changes


def _predicted(modes: Modes) -> Array:
    """The same change of the full loss, of the quadratic, from a stationary start."""
    # The window starts from a random point of the stationary law, independent of its batches: a displacement of one
    # standard deviation has the same second moment.
    stationary = modes.center_variance * stationary_variance(modes.gain)
    model = MiniBatchQuadratic(modes.curvature, modes.center_variance, displacement=np.sqrt(stationary))
    last = moments(model, LAST).excess_risk.item()
    points = [moments(model, LAST, average=average).excess_risk.item() for average in AVERAGES.values()]
    points += [moments(model, rates).excess_risk.item() for rates in RERUNS.values()]
    changes: Array = np.array(points) - last
    return changes


def _predicted_two_points(modes: Modes) -> Array:
    """Gain of two points against their separation, in closed form."""
    weights = modes.curvature * modes.center_variance / 2
    gained = two_point_variance(modes.gain[:, None], GRID) - stationary_variance(modes.gain)[:, None]
    predicted: Array = weights @ gained
    return predicted


def _variances(modes: Modes, window: Window) -> tuple[Array, Array]:
    """Variance of every mode within the window: predicted and measured."""
    beyond_mean = stationary_variance(modes.gain) - tail_variance(modes.gain, WINDOW)
    return modes.center_variance * beyond_mean, (window.iterates[1:] @ modes.vectors).var(axis=0)


def _by_rank(values: Array) -> list[float]:
    return [float(values[first:last].mean()) for first, last in pairwise(RANKS)]


def _chain(chain: Chain) -> xr.Dataset:
    changes = []
    windows = list(chain.windows())
    for window, ends in zip(windows, chain.reruns(windows, list(RERUNS.values())), strict=True):
        changes.append(_changes(chain, window, ends))
        if window.index == MEASURED_WINDOW:
            modes = chain.modes
            predicted_variance, variance = _variances(modes, window)
    full, held_out = np.mean(changes, axis=0)
    return xr.Dataset(
        {
            "change": ("rule", full),
            "held_out_change": ("rule", held_out),
            "window_error": ("rule", np.std(changes, axis=0, ddof=1)[0] / np.sqrt(len(changes))),
            "predicted_change": ("rule", _predicted(modes)),
            "predicted_two_points": ("separation", _predicted_two_points(modes)),
            "curvature": ("group", _by_rank(modes.curvature)),
            "variance": ("group", _by_rank(variance)),
            "predicted_variance": ("group", _by_rank(predicted_variance)),
            "relaxing_modes": modes.curvature.size,
        }
    )


TEXTS = {
    "rule": "what replaces the last iterate",
    "separation": "steps between the two points",
    "chain": "independent chain",
    "change": ("change of the full loss against the last iterate, mean over windows", "loss"),
    "held_out_change": ("change of the expected loss on held-out inputs, mean over windows", "loss"),
    "window_error": ("standard error of the change of the full loss over the windows of a chain", "loss"),
    "predicted_change": ("change of the full loss, predicted from curvature and gradient noise", "loss"),
    "predicted_two_points": ("change of the full loss by two points, predicted", "loss"),
    "curvature": ("curvature, mean over a group of modes", "loss / squared parameter"),
    "variance": ("variance within the window, mean over a group of modes", "weight^2"),
    "predicted_variance": ("variance within the window, predicted", "weight^2"),
    "relaxing_modes": "modes that relax within a window",
}


def compute(fast: bool) -> xr.Dataset:
    every = chains(FAST_CHAINS if fast else 16)
    data = xr.concat([_chain(chain) for chain in every], "chain")
    data = data.assign_coords(rule=list(RULES), separation=GRID, chain=np.arange(len(every)))
    return described(data, TEXTS, source="sandler2023", **RECIPE)


def _draw_separations(axes: Axes, data: xr.Dataset) -> None:
    theory_line(axes, data.separation, 1e3 * data.predicted_two_points.mean("chain"), color=BLUE)
    two = 1e3 * data.change.sel(rule=[f"two points {separation}" for separation in SEPARATIONS])
    measured_points(axes, SEPARATIONS, *over_chains(two), color=BLUE)
    half = 1e3 * data.change.sel(rule="half rate")
    aside = 2600
    predicted = 1e3 * float(data.predicted_change.sel(rule="half rate").mean())
    theory_line(axes, [aside / 1.5, aside * 1.5], [predicted, predicted], color=VERMILION)
    measured_points(axes, aside, *over_chains(half), color=VERMILION)
    axes.text(aside * 1.5, -15.5, "run at half rate", color=VERMILION, ha="right", va="top")
    axes.text(1.2, -9.0, "midpoint of\ntwo iterates", color=BLUE, ha="left", va="top")
    axes.set_xscale("log")
    ticks(axes.xaxis, [1, 10, 100, 800])
    axes.set(
        title="two points far apart: nearly half the rate",
        xlabel="steps between the two points",
        ylabel=r"change of full loss / $10^{-3}$",
        ylim=(-17.5, 0.5),
    )


def _draw_rules(axes: Axes, data: xr.Dataset) -> None:
    order = data.predicted_change.mean("chain").argsort().values[::-1]
    ranked = data.isel(rule=order)
    places = np.arange(ranked.sizes["rule"])
    predicted = 1e3 * ranked.predicted_change.mean("chain")
    theory_strokes(axes, predicted, sideways=True, after=0.6, color=BLACK, label="predicted")
    for values, color, marker, shift, label in (
        (ranked.change, BLUE, "o", 0.0, "full loss"),
        (ranked.held_out_change, GREEN, "s", 0.25, "held-out loss"),
    ):
        measured_points(
            axes,
            1e3 * values.mean("chain"),
            places + shift,
            xerr=1e3 * standard_error(values),
            color=color,
            marker=marker,
            label=label,
        )
    axes.set_yticks(places, [str(name).replace("points ", "points, ") for name in ranked.rule.values])
    axes.invert_yaxis()
    axes.set(title="more averaging helps as predicted", xlabel=r"change of loss / $10^{-3}$")
    axes.legend(loc="lower right")


def _draw_variances(axes: Axes, data: xr.Dataset) -> None:
    x = data.curvature.mean("chain")
    predicted, measured = 1e3 * data.predicted_variance, 1e3 * data.variance
    theory_line(axes, x, predicted.mean("chain"), color=BLUE)
    measured_points(axes, x, *over_chains(measured), color=BLUE)
    axes.set(
        title="each direction has the variance predicted",
        xscale="log",
        yscale="log",
        xlabel="curvature, modes in groups by rank",
        ylabel=rf"variance within {WINDOW} steps / $10^{{-3}}$",
        ylim=(0.6, 10),
    )
    ticks(axes.yaxis, [1, 2, 5, 10])


def _draw_chains(axes: Axes, data: xr.Dataset) -> None:
    (half, half_error), (far, far_error) = (
        (1e3 * data.change.sel(rule=rule), 1e3 * data.window_error.sel(rule=rule)) for rule in ("half rate", FAR)
    )
    theory_line(axes, [-26, 0], [-26, 0], color=GREY, linewidth=0.8, label="equal")
    measured_points(axes, half, far, far_error, xerr=half_error, color=BLUE, elinewidth=0.5, label="one chain")
    predicted = [1e3 * float(data.predicted_change.sel(rule=rule).mean()) for rule in ("half rate", FAR)]
    axes.plot(*predicted, "+", color=BLACK, markersize=9, markeredgewidth=1.5, zorder=4, label="predicted")
    axes.legend(loc="upper left")
    axes.set(
        title="and so it is chain by chain",
        xlabel=r"run at half rate: change / $10^{-3}$",
        ylabel=rf"two points {SEPARATIONS[-1]} apart / $10^{{-3}}$",
        xlim=(-23, -4),
        ylim=(-23, -4),
        xticks=[-20, -15, -10, -5],
        yticks=[-20, -15, -10, -5],
    )


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.4)
    drawings = (_draw_separations, _draw_rules, _draw_variances, _draw_chains)
    for panel, drawing in zip(axes.flat, drawings, strict=True):
        drawing(panel, data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    change, predicted = data.change, data.predicted_change.mean("chain")
    mean, error = over_chains(change)
    yield heuristic("every average and every lower rate lowers the full loss", "sandler2023, abstract").negative(
        mean.drop_sel(rule="two points 1"), error.drop_sel(rule="two points 1")
    )
    yield heuristic("the same lowers the loss on held-out inputs", "sandler2023, abstract").negative(
        data.held_out_change.mean("chain").drop_sel(rule="two points 1"),
        standard_error(data.held_out_change).drop_sel(rule="two points 1"),
    )
    yield heuristic("change of the full loss by every rule, from curvature and gradient noise alone").close(
        predicted,
        mean,
        scale=abs(predicted.min()),
        tolerance=0.05,
        absolute=3 * standard_error(change - data.predicted_change),
        note="relative to the largest; nothing is fitted",
    )
    ordered = change.sel(rule=[f"two points {separation}" for separation in SEPARATIONS[:4]]).diff("rule")
    yield heuristic(
        f"two points gain more the further they are apart, up to {SEPARATIONS[3]} steps", "sandler2023, abstract"
    ).negative(*over_chains(ordered))
    apart = change.sel(rule=FAR) - change.sel(rule="half rate")
    yield heuristic(
        "two far points are worth half the learning rate, but for the gains 2x/(4-x) and x/2 being different"
    ).statistical(
        predicted.sel(rule=FAR) - predicted.sel(rule="half rate"),
        *over_chains(apart),
        "mean",
        scale=abs(mean.sel(rule="half rate")),
        weakest=0.25,
        reason="relative to the gain of half the rate, which itself is small against the loss of single windows",
    )
    longer = change.sel(rule="uniform") - change.sel(rule=[FAR, "EMA 0.98", "EMA 0.995"])
    yield heuristic(
        "the uniform average gains more than two points or a shorter average", "sandler2023, abstract"
    ).negative(*over_chains(longer))
    ratio = data.variance / data.predicted_variance
    yield heuristic("variance of the iterates within a window, direction by direction").close(
        data.predicted_variance.mean("chain"),
        data.variance.mean("chain"),
        tolerance=0.15,
        absolute=3 * standard_error(data.variance - data.predicted_variance),
        note=f"on average {float(ratio.mean()):.3f} of the prediction",
    )
    one_chain = elsewhere("averages_on_digits")
    names = list(one_chain.values)
    other, other_error = (
        xr.DataArray(list(numbers.values()), coords={"rule": names}) for numbers in (one_chain.values, one_chain.errors)
    )
    yield heuristic("the same changes as in one chain that was trained elsewhere").close(
        other,
        mean.sel(rule=names),
        absolute=agreement(change.sel(rule=names), other_error),
        note=f"within three combined standard errors; {one_chain.made_by}",
    )
