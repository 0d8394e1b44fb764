r"""One step on a batch teaches the network that batch and nothing else, which it soon forgets.

A small network on the digits, at a constant learning rate for long enough that its loss no longer falls. Along the
gradient of a batch the batch's loss is a parabola that falls far below the best full loss, while the full loss and the
held-out loss rise; the full loss is lowest at half the learning rate and after the whole step it is where it was. The
batch's loss then climbs back as the network forgets. Two iterates are on opposite sides of a bowl: the loss is lower
between them. The steep directions have long forgotten where they came from when the flat ones still wander.

Lines are the mini-batch quadratic, with the Hessian at the mean of one window of the run and the gradient noise of
single batches there; no line is fitted to the points. Where it starts to fail: steps of many learning rates, because a
batch is more curved along its own gradient than the mean of all batches is; and runs on shared batches, which do not
meet as exactly as they would if all batches had one curvature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, heuristic
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from figures.quadratic._digits_chains import (
    MEASURED_WINDOW,
    RATE,
    RECIPE,
    WINDOW,
    Batch,
    Chain,
    Modes,
    Window,
    agreement,
    chains,
    over_chains,
    standard_error,
)
from sgdynamics.models.schedules import constant
from sgdynamics.theory.quadratic import (
    chord_excess,
    held_out_loss,
    iterate_cosine,
    squared_distance,
    stationary_variance,
    stepped_loss,
    used_batch_loss,
)

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Line search along every 40th batch gradient, in steps of half the learning rate.
STEP_LENGTHS = np.arange(0, 8.5, 0.5)
SEARCHES = np.arange(20, WINDOW, 40)
# Up to here the parabola of the full loss is fitted: two learning rates.
NEAR = STEP_LENGTHS <= 2

# Beyond, the loss of the batch hardly changes any more.
FALLS_UNTIL = 5

# The batch of every 8th step in the middle of the window is followed, from well before its use until long after.
USED = np.arange(100, 400, 8)
LAGS = np.array([-100, -30, -10, -3, 0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 400])

CHORD = 200
CHORD_STARTS = np.arange(0, WINDOW - CHORD + 1, 60)
POSITIONS = np.arange(-1, 2.01, 0.25)

# At every 4th iterate the gradient of its batch is held against that of another one.
COMPARED = np.arange(0, WINDOW, 4)

STEEP = 10
DISTANCES = np.array([1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 100, 200, 400])
RUNS = 12


class Sample(NamedTuple):
    """What is looked at in every window."""

    searches: Indices
    used: Indices
    chords: Indices
    compared: Indices


# Neighbours in a window resemble each other: of half of them the means are nearly as sure.
ALL, HALF = (Sample(*(steps[::every] for steps in (SEARCHES, USED, CHORD_STARTS, COMPARED))) for every in (1, 2))


def _line_search(chain: Chain, window: Window, batches: list[Batch], searches: Indices) -> dict[str, Array]:
    """Losses along batch gradients: (search, step length)."""
    points = window.iterates[searches, None] - STEP_LENGTHS[:, None] * RATE * window.gradients[searches, None]
    return {
        "batch": np.array([chain.batch_loss(row, batches[used]) for row, used in zip(points, searches, strict=True)]),
        "full": chain.full_loss(points),
        "held_out": chain.held_out_loss(points),
    }


def _r_squared(x: Array, losses: Array) -> Array:
    """Of a parabola through every row."""
    coefficients = np.polynomial.polynomial.polyfit(x, losses.T, 2)
    residuals = losses - np.polynomial.polynomial.polyval(x, coefficients)
    found: Array = 1 - residuals.var(axis=1) / losses.var(axis=1)
    return found


def _vertex(losses: Array) -> float:
    """Where the parabola through the mean loss is lowest, in learning rates."""
    _, slope, curvature = np.polynomial.polynomial.polyfit(STEP_LENGTHS[NEAR], losses[NEAR], 2)
    return float(-slope / (2 * curvature))


def _followed(chain: Chain, window: Window, batches: list[Batch], steps: Indices) -> Array:
    """Mean loss of a batch against steps since just before its use."""
    found: Array = np.mean([chain.batch_loss(window.iterates[used + LAGS], batches[used]) for used in steps], axis=0)
    return found


def _chords(chain: Chain, window: Window, batches: list[Batch], firsts: Indices) -> tuple[Array, Array]:
    """Full loss (chord, position) and R^2 of a parabola for the loss of the batch used at the start (chord)."""
    starts, ends = window.iterates[firsts, None], window.iterates[firsts + CHORD, None]
    points = (1 - POSITIONS[:, None]) * starts + POSITIONS[:, None] * ends
    batch = [chain.batch_loss(row, batches[first]) for row, first in zip(points, firsts, strict=True)]
    return chain.full_loss(points), _r_squared(POSITIONS, np.array(batch))


def _cosines(chain: Chain, window: Window, steps: Indices) -> tuple[float, float]:
    """Mean cosines of consecutive gradients, and of gradients of independent batches at the same point."""
    unit = window.gradients / np.linalg.norm(window.gradients, axis=1, keepdims=True)
    consecutive = float((unit[1:] * unit[:-1]).sum(axis=1).mean())
    others = chain.batches(chain.seed("independent batches", window.index), WINDOW)
    independent = []
    for step in steps:
        gradient = chain.batch_gradient(window.iterates[step], others[step])
        independent.append(unit[step].dot(gradient) / np.linalg.norm(gradient))
    return consecutive, float(np.mean(independent))


class Groups(NamedTuple):
    """Squared lengths in the steep directions, in the others that relax within the window, and in the flat rest."""

    steep: Array
    middle: Array
    flat: Array


def _displacements(modes: Modes, window: Window) -> Groups:
    """Mean squared displacement against lag."""
    seen = window.iterates @ modes.vectors
    found = []
    for lag in DISTANCES:
        per_mode = ((seen[lag:] - seen[:-lag]) ** 2).mean(axis=0)
        moved = window.iterates[lag:] - window.iterates[:-lag]
        total = float(np.einsum("ij,ij->", moved, moved)) / len(moved)
        found.append((per_mode[:STEEP].sum(), per_mode[STEEP:].sum(), total - per_mode.sum()))
    return Groups(*np.array(found).T)


def _predicted_displacements(modes: Modes) -> Groups:
    """Relaxing modes saturate; in the flat rest gradient noise drives a random walk."""
    per_mode = modes.center_variance * squared_distance(modes.gain, DISTANCES[:, None])
    return Groups(
        per_mode[:, :STEEP].sum(axis=1), per_mode[:, STEEP:].sum(axis=1), RATE**2 * modes.flat_noise * DISTANCES
    )


def _pairs(chain: Chain, modes: Modes, window: Window, other: Array) -> dict[str, Array]:
    """Squared distance of two runs in the steep directions: shared batches or shared start, against steps.

    ``other`` is an earlier iterate of the same chain.
    """
    steep = modes.vectors[:, :STEEP]
    steps = np.concatenate([[0], DISTANCES])
    here = window.iterates[steps] @ steep
    seeds = [chain.seed("other batches", run) for run in range(RUNS)]
    starts = [*[window.iterates[0]] * RUNS, other]
    *others, shared = chain.runs(starts, constant(RATE, int(steps[-1])), [*seeds, window.seed], steps) @ steep
    forgotten = iterate_cosine(modes.gain[:STEEP], 2 * steps[:, None])
    plateau = 2 * modes.center_variance[:STEEP] * stationary_variance(modes.gain[:STEEP])
    gap = ((other - window.iterates[0]) @ steep) ** 2
    return {
        "shared_batches": ((shared - here) ** 2).sum(axis=1),
        "predicted_shared_batches": forgotten @ gap,
        # Twice the variance over runs is the mean squared distance of two of them.
        "shared_start": 2 * np.var(others, axis=0, ddof=1).sum(axis=1),
        "predicted_shared_start": (1 - forgotten) @ plateau,
    }


def _predicted_losses(modes: Modes) -> dict[str, tuple[str, Array] | float]:
    """What the quadratic says of the mean losses that are measured.

    Formulas are in units of a mode's floor, half its curvature times center variance; the flat rest has a slope and no
    curvature.
    """
    gain, floor = modes.gain[:, None], modes.curvature * modes.center_variance / 2
    fresh = held_out_loss(gain)
    trial = gain * STEP_LENGTHS
    slope = modes.flat_noise * RATE
    forgotten = used_batch_loss(gain, np.maximum(LAGS - 1, 0)) - fresh
    excess = floor * stationary_variance(modes.gain)
    aligned = modes.curvature**2 * modes.center_variance * stationary_variance(modes.gain)
    return {
        "predicted_full_change": ("step_length", floor @ (stepped_loss(gain, trial) - fresh)),
        "predicted_batch_change": ("step_length", floor @ (fresh * ((1 - trial) ** 2 - 1)) - slope * STEP_LENGTHS),
        "predicted_followed_change": ("lag", np.where(LAGS > 0, floor @ forgotten - slope, 0.0)),
        "predicted_chord_change": ("position", excess @ (chord_excess(gain, CHORD, POSITIONS) - 1)),
        "predicted_cosine": float(aligned.sum() / (aligned.sum() + modes.noise.sum() + modes.flat_noise)),
    }


def _chain(chain: Chain, sample: Sample) -> xr.Dataset:
    searches: list[dict[str, Array]] = []
    followed, chords, fits, cosines, best = [], [], [], [], []
    for window in chain.windows():
        batches = chain.batches(window.seed, WINDOW)
        searches.append(_line_search(chain, window, batches, sample.searches))
        followed.append(_followed(chain, window, batches, sample.used))
        full, fit = _chords(chain, window, batches, sample.chords)
        chords.append(full.mean(axis=0))
        fits.append(fit)
        cosines.append(_cosines(chain, window, sample.compared))
        best.append(chain.full_loss(window.iterates.mean(axis=0)))
        if window.index == MEASURED_WINDOW - 1:
            earlier = window.iterates[0]
        if window.index == MEASURED_WINDOW:
            modes = chain.modes
            data = xr.Dataset(_predicted_losses(modes))
            data = data.assign(
                {name: ("step", values) for name, values in _pairs(chain, modes, window, earlier).items()}
            )
            for groups, prefix in (
                (_displacements(modes, window), "displacement"),
                (_predicted_displacements(modes), "predicted_displacement"),
            ):
                data = data.assign({f"{prefix}_{name}": ("distance", sums) for name, sums in groups._asdict().items()})
    along = {name: np.concatenate([search[name] for search in searches]) for name in searches[0]}
    consecutive, independent = np.mean(cosines, axis=0)
    return data.assign(
        {f"{name}_loss": ("step_length", losses.mean(axis=0)) for name, losses in along.items()}
        | {
            "vertex": _vertex(along["full"].mean(axis=0)),
            "batch_fit": ("search", _r_squared(STEP_LENGTHS, along["batch"])),
            "best_full_loss": float(np.mean(best)),
            "followed_loss": ("lag", np.mean(followed, axis=0)),
            "chord_loss": ("position", np.mean(chords, axis=0)),
            "chord_fit": ("chord", np.concatenate(fits)),
            "relaxing_modes": modes.curvature.size,
            "consecutive_cosine": consecutive,
            "independent_cosine": independent,
        }
    )


LOSS, SQUARED = "loss", "weight^2"
STEEPEST = f"{STEEP} steepest directions"
TEXTS = {
    "step_length": "step length over the learning rate",
    "lag": "steps since just before the batch was used",
    "position": "position on the chord, 0 and 1 at its ends",
    "distance": "steps between two iterates",
    "step": "steps since the start",
    "chain": "independent chain",
    "batch_loss": ("loss of the batch along its gradient, mean over batches", LOSS),
    "full_loss": ("full loss along batch gradients, mean over batches", LOSS),
    "held_out_loss": ("expected loss on held-out inputs along batch gradients, mean over batches", LOSS),
    "best_full_loss": ("full loss at the mean of a window, mean over windows", LOSS),
    "predicted_batch_change": ("change of the batch loss along its gradient, predicted", LOSS),
    "predicted_full_change": ("change of the full loss along a batch gradient, predicted", LOSS),
    "vertex": "step length of the lowest full loss on its parabola, over the learning rate",
    "batch_fit": "R^2 of a parabola for the batch loss along its gradient",
    "followed_loss": ("loss of a batch along the trajectory, mean over batches", LOSS),
    "predicted_followed_change": ("change of the loss of a batch since just before its use, predicted", LOSS),
    "chord_loss": ("full loss along chords of the trajectory, mean over chords", LOSS),
    "predicted_chord_change": ("change of the full loss along a chord, predicted", LOSS),
    "relaxing_modes": "modes that relax within a window",
    "chord_fit": "R^2 of a parabola for the batch loss along a chord",
    "consecutive_cosine": "cosine of consecutive batch gradients, mean",
    "independent_cosine": "cosine of gradients of independent batches at one point, mean",
    "predicted_cosine": "cosine of gradients of independent batches at one point, predicted",
    "shared_batches": (f"squared distance of two runs on shared batches, {STEEPEST}", SQUARED),
    "shared_start": (f"squared distance of two runs from a shared start, {STEEPEST}", SQUARED),
    "displacement_steep": (f"squared displacement, {STEEPEST}", SQUARED),
    "displacement_middle": ("squared displacement, other directions that relax within the window", SQUARED),
    "displacement_flat": ("squared displacement, all other directions", SQUARED),
}
PLACES = {
    "step_length": STEP_LENGTHS,
    "lag": LAGS,
    "position": POSITIONS,
    "distance": DISTANCES,
    "step": np.concatenate([[0], DISTANCES]),
}


def compute(fast: bool) -> xr.Dataset:
    every = chains(5 if fast else 16)
    data = xr.concat([_chain(chain, HALF if fast else ALL) for chain in every], "chain")
    data = data.assign_coords(PLACES | {"chain": np.arange(len(every))})
    return described(data, TEXTS, source="sandler2023", **RECIPE)


def _points(axes: Axes, x: xr.DataArray, values: xr.DataArray, color: str, label: str | None = None) -> None:
    """Mean over chains with its standard error."""
    measured_points(axes, x, *over_chains(values), color=color, label=label)


def _draw_step(axes: Axes, data: xr.Dataset) -> None:
    x = data.step_length
    start = data.full_loss.isel(step_length=0).mean()
    held_out_start = data.held_out_loss.isel(step_length=0).mean()
    full_change = data.predicted_full_change.mean("chain")
    theory_line(axes, x, start + data.predicted_batch_change.mean("chain"), color=BLUE)
    theory_line(axes, x, start + full_change, color=VERMILION)
    theory_line(axes, x, held_out_start + full_change, color=ORANGE)
    _points(axes, x, data.held_out_loss, ORANGE, "held-out loss")
    _points(axes, x, data.full_loss, VERMILION, "full loss")
    _points(axes, x, data.batch_loss, BLUE, "loss of the batch")
    axes.axhline(float(data.best_full_loss.mean()), color=GREY, linestyle=":", linewidth=0.9)
    axes.text(8.2, float(data.best_full_loss.mean()) - 0.012, "best full loss", color=GREY, ha="right", va="top")
    axes.set(
        title="one step: its batch gains, the rest lose",
        xlabel=r"step along the batch gradient / $\eta$",
        ylabel="loss",
        ylim=(0.58, 1.52),
    )
    axes.legend(loc="upper left")


def _draw_vertex(axes: Axes, data: xr.Dataset) -> None:
    near = data.isel(step_length=NEAR)
    change = 1e3 * (near.full_loss - near.full_loss.isel(step_length=0))
    grid = np.linspace(0, 2, 81)
    # Through three of its own points: the prediction is a parabola.
    coefficients = np.polynomial.polynomial.polyfit(near.step_length, 1e3 * near.predicted_full_change.mean("chain"), 2)
    theory_line(axes, grid, np.polynomial.polynomial.polyval(grid, coefficients), color=VERMILION)
    _points(axes, near.step_length, change, VERMILION)
    axes.axhline(0, color=GREY, linewidth=0.6)
    for position, text in ((0.5, "lowest at half\nthe learning rate"), (1.0, "no change at\nthe learning rate")):
        axes.axvline(position, color=GREY, linestyle=":", linewidth=0.9)
        axes.text(position - 0.04, 12, text, color=GREY, ha="right", va="top", fontsize=7, rotation=90)
    axes.set(
        title="the full loss is lowest at half the rate",
        xlabel=r"step along the batch gradient / $\eta$",
        ylabel=r"change of full loss / $10^{-3}$",
        ylim=(-2.2, 12.5),
        xticks=[0, 0.5, 1, 1.5, 2],
    )


def _draw_followed(axes: Axes, data: xr.Dataset) -> None:
    change = data.followed_loss - data.followed_loss.sel(lag=0)
    before, after = data.lag <= 0, data.lag > 0
    for side in (before, after):
        theory_line(axes, data.lag[side], data.predicted_followed_change.mean("chain")[side], color=BLUE)
    _points(axes, data.lag, change, BLUE)
    axes.set_xscale("symlog", linthresh=2, linscale=0.5)
    axes.set_xticks([-100, -10, 0, 1, 10, 100], ["−100", "−10", "0", "1", "10", "100"])
    axes.annotate("its step", (0.5, -0.05), (-60, -0.07), color=GREY, arrowprops={"arrowstyle": "->", "color": GREY})
    axes.set(
        title="a batch is learnt at once, forgotten slowly",
        xlabel="steps since the batch came up",
        ylabel="change of its loss",
    )


def _draw_chord(axes: Axes, data: xr.Dataset) -> None:
    ends = data.chord_loss.sel(position=[0, 1]).mean("position")
    grid = np.linspace(-1, 2, 121)
    middle = float(data.predicted_chord_change.sel(position=0.5).mean())
    theory_line(axes, grid, middle * 4 * grid * (1 - grid), color=GREEN)
    _points(axes, data.position, data.chord_loss - ends, GREEN)
    axes.axhline(0, color=GREY, linewidth=0.6)
    for position, text in ((0, r"$x_t$"), (1, rf"$x_{{t+{CHORD}}}$")):
        axes.plot(position, 0, "s", color=BLACK, zorder=4)
        axes.text(position, 0.012, text, ha="center", va="bottom")
    axes.set(
        title="between two iterates the loss is lower",
        xlabel="position on the line through two iterates",
        ylabel="change of full loss",
    )


def _draw_pairs(axes: Axes, data: xr.Dataset) -> None:
    later = data.isel(step=slice(1, None))
    for name, color, label in (
        ("shared_start", VERMILION, "same start, other batches"),
        ("shared_batches", BLUE, "other start, same batches"),
    ):
        theory_line(axes, later.step, later[f"predicted_{name}"].mean("chain"), color=color)
        _points(axes, later.step, later[name], color, label)
    axes.set(
        title="same batches bring two runs together",
        xscale="log",
        yscale="log",
        ylim=(2e-4, 3),
        xlabel="steps",
        ylabel=f"squared distance, {STEEP} steepest",
    )
    axes.legend(loc="upper left")


def _draw_displacements(axes: Axes, data: xr.Dataset) -> None:
    for name, color, label in (
        ("steep", BLUE, f"{STEEP} steepest directions"),
        ("middle", GREEN, f"the next {int(data.relaxing_modes.mean()) - STEEP}"),
        ("flat", ORANGE, "the flat rest"),
    ):
        theory_line(axes, data.distance, data[f"predicted_displacement_{name}"].mean("chain"), color=color)
        _points(axes, data.distance, data[f"displacement_{name}"], color, label)
    axes.set(
        title="steep directions rest, flat ones wander",
        xscale="log",
        yscale="log",
        ylim=(1e-3, 60),
        xlabel="steps between two iterates",
        ylabel="squared displacement",
    )
    axes.legend(loc="upper left")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(3, 2, width=DOUBLE, height=7.6)
    drawings = (_draw_step, _draw_vertex, _draw_followed, _draw_chord, _draw_pairs, _draw_displacements)
    for panel, drawing in zip(axes.flat, drawings, strict=True):
        drawing(panel, data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield from _step_checks(data)
    yield from _rest_checks(data)
    yield from _other_chain_checks(data)


def _step_checks(data: xr.Dataset) -> Iterator[Check]:
    """One step along a batch gradient."""
    falls = data.batch_loss.diff("step_length").sel(step_length=slice(0, FALLS_UNTIL))
    lowest = float(data.step_length[data.batch_loss.mean("chain").argmin("step_length")])
    yield heuristic(
        f"the loss of a batch falls along its own gradient, up to {FALLS_UNTIL} learning rates", "sandler2023, abstract"
    ).negative(
        *over_chains(falls),
        note=f"lowest at {lowest:g} learning rates; beyond, the step overshoots in the steepest directions",
    )
    below = data.batch_loss.sel(step_length=8) - data.best_full_loss
    yield heuristic(
        "one long step takes the loss of its batch below the best full loss", "sandler2023, abstract"
    ).negative(*over_chains(below))
    for name, words in (("full", "the full loss"), ("held_out", "the loss on held-out inputs")):
        rises = data[f"{name}_loss"].diff("step_length").sel(step_length=slice(1.5, None))
        yield heuristic(f"{words} rises all the way beyond one learning rate", "sandler2023, abstract").positive(
            *over_chains(rises)
        )
    yield heuristic("the full loss is lowest at half the learning rate").statistical(
        0.5,
        *over_chains(data.vertex),
        "mean",
        weakest=0.25,
        reason="exact for a quadratic at rest; on the network the depth of the parabola is 1e-3 of the loss",
    )
    step = data.full_loss.sel(step_length=1) - data.full_loss.sel(step_length=0)
    yield heuristic("the full loss is the same before and after a step").statistical(
        0.0,
        *over_chains(step),
        "mean",
        scale=-data.batch_loss.sel(step_length=[0, 1]).diff("step_length").mean(),
        weakest=0.02,
        reason="relative to what the step does to the loss of its batch",
    )
    near = data.isel(step_length=NEAR).isel(step_length=slice(1, None))
    change = near.full_loss - data.full_loss.sel(step_length=0)
    predicted = near.predicted_full_change
    yield heuristic("change of the full loss up to two learning rates, from curvature and gradient noise alone").close(
        predicted.mean("chain"),
        change.mean("chain"),
        scale=abs(predicted.sel(step_length=2).mean()),
        tolerance=0.25,
        absolute=3 * standard_error(change - predicted),
        note="relative to the change at two learning rates; further out the network bends upwards",
    )
    yield heuristic(
        "the loss of a batch is a parabola along its gradient: R^2 above 0.999", "sandler2023, abstract"
    ).above(0.999, data.batch_fit.median("search").mean())


def _rest_checks(data: xr.Dataset) -> Iterator[Check]:
    """The trajectory at rest, against what curvature and gradient noise predict."""
    for name, words, sign in (("consecutive", "consecutive batches", -1), ("independent", "independent batches", 1)):
        cosine = data[f"{name}_cosine"]
        claim = heuristic(f"gradients of {words} point {'along' if sign > 0 else 'against'} each other")
        yield (claim.positive if sign > 0 else claim.negative)(*over_chains(cosine))
        yield heuristic(f"cosine of gradients of {words}, from curvature and gradient noise alone").close(
            sign * data.predicted_cosine.mean(),
            cosine.mean(),
            tolerance=0.1,
            absolute=3 * standard_error(cosine - sign * data.predicted_cosine),
        )
    change = data.followed_loss - data.followed_loss.sel(lag=0)
    predicted = data.predicted_followed_change
    yield heuristic(
        "loss of a batch before and after its use: nothing, a drop, and forgetting over hundreds of steps"
    ).close(
        predicted.mean("chain"),
        change.mean("chain"),
        scale=abs(predicted.sel(lag=1).mean()),
        tolerance=0.05,
        absolute=3 * standard_error(change - predicted),
        note="relative to the drop",
    )
    yield heuristic(
        f"the loss of a batch is a parabola along chords of {CHORD} steps: R^2 above 0.997", "sandler2023, abstract"
    ).above(0.997, data.chord_fit.median("chord").mean())
    ends = data.chord_loss.sel(position=[0, 1]).mean("position")
    depth = (data.chord_loss - ends).sel(position=0.5)
    yield heuristic(f"midpoint of two iterates {CHORD} steps apart: full loss below that of its ends").close(
        data.predicted_chord_change.sel(position=0.5).mean(),
        depth.mean(),
        tolerance=0.1,
        absolute=3 * standard_error(depth - data.predicted_chord_change.sel(position=0.5)),
    )
    for name, words in (("shared_batches", "on shared batches"), ("shared_start", "from a shared start")):
        early = data[name].sel(step=slice(1, 10))
        expected = data[f"predicted_{name}"].sel(step=slice(1, 10))
        yield heuristic(f"squared distance of two runs {words}, ten steepest directions, ten steps").close(
            expected.mean("chain"),
            early.mean("chain"),
            scale=data[f"predicted_{name}"].max("step").mean(),
            tolerance=0.05,
            absolute=3 * standard_error(early - expected),
            note="relative to the largest distance",
        )
    shrunk = data.shared_batches.sel(step=400) / data.shared_batches.sel(step=0)
    yield heuristic(
        "two runs on shared batches come together: less than a fiftieth of their squared distance is left",
        "sandler2023, section 1",
    ).below(
        0.02,
        *over_chains(shrunk),
        note="a quadratic would leave nothing: the batches of the network have curvatures of their own",
    )
    for name, words, tolerance in (
        ("steep", "in the ten steepest directions", 0.1),
        ("middle", "in the other directions that relax", 0.1),
        ("flat", "in the flat rest", 0.3),
    ):
        moved, expected = data[f"displacement_{name}"], data[f"predicted_displacement_{name}"]
        yield heuristic(f"squared displacement against lag {words}, from curvature and gradient noise alone").close(
            expected.mean("chain"),
            moved.mean("chain"),
            tolerance=tolerance,
            absolute=2 * standard_error(moved - expected),
        )
    growth = {
        name: data[f"displacement_{name}"].sel(distance=400) / data[f"displacement_{name}"].sel(distance=50)
        for name in ("steep", "flat")
    }
    yield heuristic(
        "steep directions are at rest: no further apart after 400 steps than after 50", "sandler2023, section 1"
    ).below(1.0, *over_chains(growth["steep"]))
    yield heuristic(
        "flat directions still move: squared displacement after 400 steps over that after 50", "sandler2023, section 1"
    ).above(4.0, growth["flat"].mean())


def _other_chain_checks(data: xr.Dataset) -> Iterator[Check]:
    """Against one chain that was trained elsewhere with the same recipe."""
    other = elsewhere("batch_loss_on_digits")
    for words, measured in (
        ("full loss", data.full_loss.sel(step_length=0)),
        ("full loss after 8 learning rates along a batch gradient", data.full_loss.sel(step_length=8)),
        ("loss of a batch before its step", data.batch_loss.sel(step_length=0)),
        ("loss of a batch after 8 learning rates along its gradient", data.batch_loss.sel(step_length=8)),
        ("best full loss", data.best_full_loss),
        ("R^2 of a parabola along a batch gradient, median", data.batch_fit.median("search")),
        ("R^2 of a parabola along a batch gradient, 5% quantile", data.batch_fit.quantile(0.05, "search")),
        ("R^2 of a parabola along a chord, median", data.chord_fit.median("chord")),
        ("vertex of the full loss over the learning rate", data.vertex),
    ):
        yield heuristic(f"as in one chain trained elsewhere: {words}").close(
            other.values[words],
            measured.mean("chain"),
            absolute=agreement(measured),
            note="within three combined standard errors, that of one chain being the spread of ours",
        )
    step = data.full_loss.sel(step_length=1) - data.full_loss.sel(step_length=0)
    after = elsewhere("followed_batch_loss_on_digits")
    lags = [lag for lag in after.values if lag]
    others = xr.DataArray(after.along(*lags), dims="lag", coords={"lag": lags}) - after.values[0]
    followed = (data.followed_loss - data.followed_loss.sel(lag=0)).sel(lag=lags)
    by_step = "change of the full loss by a step"
    for text, measured, numbers, error in (
        (by_step, step, xr.DataArray(other.values[by_step]), other.errors[by_step]),
        ("change of the loss of a batch after its use", followed, others, after.errors[0]),
    ):
        yield heuristic(f"as in one chain trained elsewhere: {text}").close(
            numbers,
            measured.mean("chain"),
            scale=other.values["drop of the loss of a batch by its step"],
            absolute=agreement(measured, error),
            note="within three combined standard errors, relative to the drop of the loss of a batch by its step",
        )
