"""Averaging two iterates far apart is worth nearly a halving of the learning rate, and no more.

Left, the excess risk on the chord between two iterates of a run at rest: a U, the deeper the further apart they are.
Middle, its value at the midpoint, which settles at one half once they are further apart than the memory of the run.
Right, the constant gain that has the variance of the midpoint of two far iterates: always more than half the gain.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, bound, exact, law
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.sampling import Indices, replica_mean
from figures.engine.style import DOUBLE, compared, panels, theory_line, ticks
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import chord_excess, equivalent_gain, two_point_variance

# The chord is drawn for one gain and some separations, its midpoint for all.
GAINS = (0.02, 0.1, 0.5, 1.5)
SEPARATIONS = (1, 2, 3, 5, 10, 20, 50, 200)
CHORD_GAIN = 0.1
CHORD_SEPARATIONS = (1, 5, 20, 200)
POSITIONS = (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
COLORS = (BLUE, GREEN, ORANGE, VERMILION)

# Steps until nothing is left of the start: 1e-7 of the variance at the smallest gain.
BURN_IN = 400
# At gain 0.1.
OTHER_GAINS = elsewhere("equivalent_gain_of_two_points")
FAR = 200
MEASURED_GAINS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)


def _excess(ends: tuple[xr.DataArray, xr.DataArray], position: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean square at a place on the chord over that at its ends, and the standard error of the ratio."""
    first, last = ends
    square = ((1 - position) * first + position * last) ** 2
    at_the_ends = (first**2 + last**2) / 2
    scale = at_the_ends.mean("replica")
    ratio = square.mean("replica") / scale
    # The error of a ratio of means, to first order, is that of the mean of what it leaves unexplained.
    residual = (square - ratio * at_the_ends) / scale
    return ratio, residual.std("replica") / np.sqrt(first.sizes["replica"])


def _chords(replicas: int) -> xr.Dataset:
    record = np.array([BURN_IN, *(BURN_IN + separation for separation in SEPARATIONS)])
    schedule = constant(1.0, int(record[-1]))
    model = MiniBatchQuadratic(GAINS, 1.0)
    errors = ensemble(model, schedule, replicas=replicas, seed=41, record=record, method="jumps").error
    errors = errors.rename(mode="gain").assign_coords(gain=list(GAINS))
    last = errors.isel(step=slice(1, None)).rename(step="measured_separation")
    ends = errors.isel(step=0, drop=True), last.assign_coords(measured_separation=list(SEPARATIONS))

    midpoint, midpoint_error = _excess(ends, 0.5)
    first, last = (end.sel(gain=CHORD_GAIN, drop=True) for end in ends)
    last = last.sel(measured_separation=list(CHORD_SEPARATIONS)).rename(measured_separation="chord_separation")
    places = [_excess((first, last), position) for position in POSITIONS]
    placed = axis("measured_position", POSITIONS)
    chord, chord_error = (xr.concat(part, placed) for part in zip(*places, strict=True))
    gain, separation = axis("gain", GAINS), axis("separation", np.unique(np.geomspace(1, 300, 80).round()))
    chord_separation = axis("chord_separation", CHORD_SEPARATIONS)
    return xr.Dataset(
        {
            "chord": chord_excess(CHORD_GAIN, chord_separation, axis("position", np.linspace(-0.35, 1.35, 69))),
            "chord_predicted": chord_excess(CHORD_GAIN, chord_separation, placed),
            "chord_measured": chord,
            "chord_standard_error": chord_error,
            "midpoint": chord_excess(gain, separation, 0.5),
            "midpoint_predicted": chord_excess(gain, midpoint["measured_separation"], 0.5),
            "midpoint_measured": midpoint,
            "midpoint_standard_error": midpoint_error,
        }
    )


def _equivalent_gains(replicas: int) -> xr.Dataset:
    model = MiniBatchQuadratic(MEASURED_GAINS, 1.0)

    def squares(indices: Indices) -> xr.DataArray:
        record = [BURN_IN, BURN_IN + FAR]
        schedule = constant(1.0, BURN_IN + FAR)
        errors = ensemble(model, schedule, replicas=indices, seed=42, record=record, method="jumps").error
        midpoint: xr.DataArray = errors.mean("step")
        return midpoint**2

    measured_gain = axis("measured_gain", MEASURED_GAINS)
    variance, error = (
        item.rename(mode="measured_gain").assign_coords(measured_gain=measured_gain)
        for item in replica_mean(squares, replicas)
    )
    base_gain = axis("base_gain", np.linspace(0.01, 1.99, 100))
    return xr.Dataset(
        {
            "equivalent": equivalent_gain(two_point_variance(base_gain, FAR)),
            "equivalent_predicted": equivalent_gain(two_point_variance(measured_gain, FAR)),
            "equivalent_measured": equivalent_gain(variance),
            # the derivative of 2V/(1+V) carries the error of the variance over
            "equivalent_standard_error": 2 * error / (1 + variance) ** 2,
            # what one would say for small gains, and what is true of every gain
            "naive": base_gain / 2,
            "naive_predicted": measured_gain / 2,
            "far_limit": 2 * measured_gain / (4 - measured_gain),
        }
    )


TEXTS = {
    "chord": "excess risk over that at the ends",
    "midpoint": "excess risk over that at the ends",
    "equivalent": "equivalent gain",
    "known_gain": "equivalent gain of the gain 0.1",
    "naive": "half the gain",
    "far_limit": "far limit of the equivalent gain",
    "base_gain": "gain of the run",
    "measured_gain": "gain of the run",
    "position": "position on the chord",
    "separation": ("separation of the two iterates", "steps"),
    "chord_separation": ("separation of the two iterates", "steps"),
}


def compute(fast: bool) -> xr.Dataset:
    replicas = 120_000 if fast else 400_000
    data = xr.merge([_chords(replicas), _equivalent_gains(replicas)], combine_attrs="drop_conflicts")
    known = xr.DataArray(list(OTHER_GAINS.values), dims="known_separation")
    data["known_gain"] = equivalent_gain(two_point_variance(0.1, known))
    return described(data, TEXTS, source="sandler2023", chord_gain=CHORD_GAIN, far_separation=float(FAR))


def _draw_chords(axes: Axes, data: xr.Dataset) -> None:
    for separation, color in zip(CHORD_SEPARATIONS, COLORS, strict=True):
        compared(axes, data.sel(chord_separation=separation), "chord", color=color, label=f"{separation}")
    axes.set(ylim=(0.4, 1.72), xlabel="position on the chord", ylabel="excess risk / that at the ends")
    axes.set_title(f"gain {CHORD_GAIN}: the middle is lower")
    axes.legend(title="steps apart", ncols=2, loc="upper center", columnspacing=1.2)


def _draw_midpoints(axes: Axes, data: xr.Dataset) -> None:
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=0.9)
    for gain, color in zip(GAINS, (SKY, GREEN, ORANGE, VERMILION), strict=True):
        compared(axes, data.sel(gain=gain), "midpoint", color=color, label=f"{gain:g}")
    axes.set(xscale="log", ylim=(0.2, 1.03), xlabel="steps apart", ylabel="excess risk, midpoint / ends")
    ticks(axes.xaxis, [1, 10, 100])
    axes.set_title("far apart, one half remains")
    axes.legend(title="gain", loc="upper right", bbox_to_anchor=(1.0, 1.0))


def _draw_equivalent_gains(axes: Axes, data: xr.Dataset) -> None:
    theory_line(axes, data.base_gain, data.base_gain, color=BLACK, linestyle=":", label="no averaging, $x$")
    compared(axes, data, "equivalent", color=VERMILION, label="two far points, $2x/(4-x)$")
    theory_line(axes, data.base_gain, data.naive, color=GREY, linestyle="--", label="naive, $x/2$")
    axes.set(xlim=(0, 2), ylim=(0, 2.6), xticks=[0, 1, 2], yticks=[0, 1, 2])
    axes.set(title="more than half the rate", xlabel=r"gain $x = \eta h$", ylabel="equivalent gain")
    axes.legend(loc="upper left")


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=2.7)
    _draw_chords(axes[0], data)
    _draw_midpoints(axes[1], data)
    _draw_equivalent_gains(axes[2], data)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    yield law("excess risk on the chord at seven places and four separations").agreement(data, "chord", "variance")
    middle = data.chord_measured.sel(measured_position=0.5, drop=True)
    yield bound("the chord is lowest in the middle, at every separation").below(
        data.chord_measured.drop_sel(measured_position=0.5), middle, note="measured on the same runs"
    )
    yield law("excess risk at the midpoint, eight separations and four gains").agreement(data, "midpoint", "variance")
    yield asymptotic(
        f"{FAR} steps apart the midpoint has half the excess risk, at gains from {CHORD_GAIN} on",
        "sandler2023, abstract: averaging two points many steps apart",
    ).statistical(
        0.5,
        data.midpoint_measured.sel(measured_separation=FAR, gain=slice(CHORD_GAIN, None)),
        data.midpoint_standard_error.sel(measured_separation=FAR, gain=slice(CHORD_GAIN, None)),
        "variance",
    )
    yield law(f"equivalent gain of two points {FAR} apart, ten gains").agreement(data, "equivalent", "variance")
    yield asymptotic("the far limit of the equivalent gain is 2x/(4-x)").statistical(
        data.far_limit, data.equivalent_measured, data.equivalent_standard_error, "variance"
    )
    wide = data.sel(measured_gain=slice(0.2, None))
    yield exact("the naive x/2 is too small: the equivalent gain is above it, at gains from 0.2 on").positive(
        wide.equivalent_measured - wide.naive_predicted, wide.equivalent_standard_error
    )
    yield exact("at gain 0.1 the equivalent gain is 0.0685501264 at 10 steps apart and 0.0512820513 far apart").close(
        list(OTHER_GAINS.values.values()),
        data.known_gain.values,
        tolerance=1e-9,
        note=OTHER_GAINS.made_by,
    )
