r"""Random curvature sets the edge of the variance far below that of the runs: between the two almost every run settles.

Above, the share of runs of SGD that end nearer to the minimum than they began, in one direction and with no noise but
that of the curvature: one of ten examples sharper than the others, and batches of Gaussian least squares. The
lines are the rates at which the mean, the second moment and almost every run cease to be stable; points are the rates
at which half of the runs survive. Below, what lies between the edges: stationary laws whose tails are power laws, and
how fast runs and their mean squares grow, also with momentum, where no closed form for a run is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.engine.check import Check, asymptotic, bound, exact
from figures.engine.colors import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from figures.engine.elsewhere import elsewhere
from figures.engine.labels import axis, described
from figures.engine.sampling import Indices, replica_mean
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.quadratic import FiniteSumQuadratic, GaussianLeastSquares
from sgdynamics.models.schedules import constant
from sgdynamics.simulate.quadratic import ensemble, top_lyapunov_exponent
from sgdynamics.theory.quadratic import (
    almost_sure_edge,
    mean_edge,
    mean_square_growth,
    second_moment_edge,
    tail_index,
)

Floats = NDArray[np.float64]
Model = FiniteSumQuadratic | GaussianLeastSquares

EDGES: dict[str, Callable[..., float]] = {
    "mean": mean_edge,
    "mean square": second_moment_edge,
    "almost sure": almost_sure_edge,
}
COLORS = {"mean": GREY, "mean square": ORANGE, "almost sure": BLUE}

# Of so many examples one is sharper.
EXAMPLES = 10
NOISES = np.linspace(0.05, 2.0, 40)
BATCH_SIZES = np.array([1, 2, 4, 8, 16, 32, 64])
OTHER_EDGES = elsewhere("least_squares_edges")

# Two curvatures, as likely as each other.
PAIR = (0.5, 1.5)
OTHER_INDICES = elsewhere("tail_index")
TAIL_RATES = (1.6, 1.8, 2.2)
# Where the tails are measured: the slope is that between the probabilities of passing the two.
TAIL_FROM, TAIL_TO = (16.0, 32.0, 128.0), (96.0, 512.0, 2.0**15)
TAIL_STEPS = 100
MOMENTUM = 0.5


def _noisy(noise: float, displacement: float = 1.0) -> FiniteSumQuadratic:
    """Mean curvature 1 and the given relative deviation: one example is sharper than the rest."""
    odds = np.sqrt(EXAMPLES - 1)
    curvatures = np.full(EXAMPLES, 1 - noise / odds)
    curvatures[0] = 1 + noise * odds
    return FiniteSumQuadratic(curvatures, displacement=displacement, sampling="replacement")


def _features(batch_size: float) -> GaussianLeastSquares:
    return GaussianLeastSquares(1.0, 0.0, displacement=1.0, batch_size=int(batch_size))


def _survival(model: Model, rates: Floats, steps: int, replicas: int | Indices, seed: int) -> Floats:
    """Share of the runs that end nearer to the minimum than they began, at each rate, for the same batches."""
    swept = xr.DataArray(rates, dims="learning_rate")
    runs = ensemble(model, constant(swept, steps), replicas=replicas, seed=seed).error
    share: Floats = (abs(runs) < 1.0).mean("replica").values[:, 0, 0]
    return share


def _half_survival(model: Model, steps: int, replicas: int, seed: int) -> tuple[float, float]:
    """Rate at which half of the runs survive, and its standard error: by the line through rates around the edge."""
    rates = float(almost_sure_edge(model)) * np.array([0.97, 0.985, 1.0, 1.015, 1.03])
    for first in (True, False):  # the first time to find out where to look, the second with new batches
        shares = _survival(model, rates, steps, np.arange(replicas) + first * replicas, seed)
        slope, level = np.polyfit(rates - rates[2], shares - 0.5, 1)
        middle = rates[2] - level / slope
        width = 0.5 / abs(slope)
        rates = middle + width * np.array([-0.6, -0.3, 0.0, 0.3, 0.6])
    return float(middle), float(np.sqrt(0.25 / replicas) / abs(slope))


def _edges(name: str, models: dict[float, Model], rates: Floats, measured: Sequence[float], fast: bool) -> xr.Dataset:
    """Edges, the map of survival, and the rates at which half of the runs survive, along one parameter of a model."""
    steps, replicas = (150, 100) if fast else (200, 300)
    long_steps, many = (600, 1500) if fast else (1000, 4000)
    edges = [[float(edge(model)) for model in models.values()] for edge in EDGES.values()]
    share = [_survival(model, rates, steps, replicas, seed=61) for model in models.values()]
    half = np.array([_half_survival(models[value], long_steps, many, seed=62) for value in measured]).T
    return xr.Dataset(
        {
            f"edge_{name}": (("edge", name), edges),
            f"survival_{name}": ((name, f"rate_{name}"), share),
            f"half_{name}": (f"measured_{name}", half[0]),
            f"half_{name}_standard_error": (f"measured_{name}", half[1]),
        },
        coords={
            "edge": list(EDGES),
            name: list(models),
            f"rate_{name}": rates,
            f"measured_{name}": list(measured),
        },
    )


def _tails(fast: bool) -> xr.Dataset:
    """The stationary law of two curvatures with Gaussian center noise, beyond a few thresholds."""
    replicas, block = (200_000, 100_000) if fast else (1_000_000, 100_000)
    model = FiniteSumQuadratic(PAIR, center_covariance=1.0, sampling="replacement")
    levels = xr.DataArray(2.0 ** np.arange(19), dims="level")
    levels = levels.assign_coords(level=levels.values)
    rates = axis("tail_rate", TAIL_RATES)
    schedule = constant(rates, TAIL_STEPS)
    ends = xr.DataArray([TAIL_FROM, TAIL_TO], dims=("end", "tail_rate"), coords={"tail_rate": list(TAIL_RATES)})

    def beyond(indices: Indices) -> xr.DataArray:
        size = abs(ensemble(model, schedule, replicas=indices, seed=63).error).squeeze(("step", "mode"), drop=True)
        counted = [(size > level).astype(float) for level in levels.values]
        passed = [(size > ends.isel(end=end)).astype(float).expand_dims(level=[-1.0 - end]) for end in (0, 1)]
        together: xr.DataArray = xr.concat([*passed, xr.concat(counted, levels)], "level")
        return together

    share, error = replica_mean(beyond, replicas, block=block)
    first, last = share.isel(level=0), share.isel(level=1)
    span = np.log(ends.isel(end=1) / ends.isel(end=0))
    # the runs that pass the higher threshold are some of those that pass the lower one
    slope = xr.DataArray(np.log(first / last) / span)
    slope_error = xr.DataArray(np.sqrt((1 - last / first) / (replicas * last)) / span)
    index = [float(tail_index(model, rate)) for rate in TAIL_RATES]
    return xr.Dataset(
        {
            "tail_probability": share.isel(level=slice(2, None)),
            "tail_probability_standard_error": error.isel(level=slice(2, None)),
            "tail_index_measured": slope,
            "tail_index_standard_error": slope_error,
            "tail_index": ("tail_rate", index),
            "tail_anchor": ("tail_rate", first.values),
        }
    ).drop_vars("edge", errors="ignore")


def _growth(fast: bool) -> xr.Dataset:
    """Growth rates of runs and of their mean squares against the learning rate, and the early second moment."""
    steps, replicas = (1000, 400) if fast else (2000, 1000)
    model = FiniteSumQuadratic(PAIR, displacement=1.0, sampling="replacement")
    rates = xr.DataArray(np.linspace(0.05, 3.2, 127), dims="growth_rate")
    rates = rates.assign_coords(growth_rate=rates.values)
    some = xr.DataArray([0.3, 0.8, 1.3, 1.8, 2.2, 2.6, 3.0], dims="measured_rate")
    some = some.assign_coords(measured_rate=some.values)
    curvature = xr.DataArray(list(PAIR), dims="example")
    with np.errstate(divide="ignore"):
        path, path_there = (xr.DataArray(np.log(abs(1 - at * curvature))).mean("example") for at in (rates, some))
    found = {}
    for rule, momentum in (("SGD", 0.0), ("heavy ball", MOMENTUM)):
        here = top_lyapunov_exponent(model, some, steps=steps, replicas=replicas, seed=64, momentum=momentum)
        found[rule] = here.assign(
            half_log_growth=0.5 * np.log(mean_square_growth(model, rates, momentum=momentum)),
            half_log_growth_there=0.5 * np.log(mean_square_growth(model, some, momentum=momentum)),
        )
    both = xr.concat(list(found.values()), xr.DataArray(list(found), dims="rule", name="rule"), combine_attrs="drop")
    both["path_growth"] = path
    both["path_growth_there"] = path_there

    # well below the edge in mean square, where fourth moments are finite and a sample variance means something
    stable = axis("stable_rate", [0.4, 0.8, 1.2])
    noisy = FiniteSumQuadratic(PAIR, center_covariance=1.0, sampling="replacement")

    def squares(indices: Indices) -> xr.DataArray:
        square: xr.DataArray = ensemble(noisy, constant(stable, 80), replicas=indices, seed=65).error ** 2
        return square.squeeze(("step", "mode"), drop=True)

    mean, error = replica_mean(squares, 200_000 if fast else 500_000, block=50_000)
    both["stable_variance"] = mean
    both["stable_variance_standard_error"] = error
    return both


TEXTS: dict[str, str | tuple[str, str]] = {
    "path_growth": ("growth rate of almost every run", "1/step"),
    "path_growth_there": ("growth rate of almost every run at the rates measured", "1/step"),
    "stable_variance": ("stationary variance, simulated", "center variance"),
    "known_tail_index": "tail index at known rates",
    "tail_probability": "share of runs beyond",
    "tail_index": "tail index",
    "tail_anchor": "share of runs beyond the first level",
    "lyapunov_exponent": ("growth rate of almost every run, simulated", "1/step"),
    "standard_error": ("standard error of the growth rate", "1/step"),
    "half_log_growth": ("growth rate of the root mean square", "1/step"),
    "noise": "relative standard deviation of the curvature",
    "batch_size": ("batch size", "examples"),
    "level": ("distance from the minimum", "standard deviation of the centers"),
}
TEXTS |= {f"edge_{name}": ("learning rate at the edge", "1/mean curvature") for name in ("noise", "batch_size")}
TEXTS |= {f"survival_{name}": ("share of surviving runs", "1") for name in ("noise", "batch_size")}
TEXTS |= {f"half_{name}": ("rate at which half survive", "1/mean curvature") for name in ("noise", "batch_size")}
RATES = ("rate_noise", "rate_batch_size", "tail_rate", "growth_rate", "measured_rate", "stable_rate")
TEXTS |= {name: ("learning rate", "1/mean curvature") for name in RATES}


def compute(fast: bool) -> xr.Dataset:
    noises = NOISES[::2] if fast else NOISES
    by_noise = _edges(
        "noise",
        {float(noise): _noisy(noise) for noise in noises},
        np.linspace(0.1, 5.5, 28 if fast else 55),
        [float(noises[i]) for i in np.linspace(2, len(noises) - 1, 6).round().astype(int)],
        fast,
    )
    sizes = BATCH_SIZES[:5] if fast else BATCH_SIZES
    by_size = _edges(
        "batch_size",
        {float(size): _features(size) for size in sizes},
        np.linspace(0.1, 3.0, 20 if fast else 41),
        [float(size) for size in sizes[: 3 if fast else 4]],
        fast,
    )
    data = xr.merge([by_noise, by_size, _tails(fast), _growth(fast)], combine_attrs="drop_conflicts")
    indices = [tail_index(FiniteSumQuadratic(PAIR), rate) for rate in OTHER_INDICES.values]
    data["known_tail_index"] = ("known_tail", indices)
    return described(data, TEXTS, source="derived", momentum=MOMENTUM, examples=float(EXAMPLES))


# Runs that are lost are dark: what survives is paper.
LOST = LinearSegmentedColormap.from_list("lost", ["#9A9A9A", "#FFFFFF"])


def _draw_map(axes: Axes, data: xr.Dataset, name: str) -> None:
    share = data[f"survival_{name}"]
    axes.pcolormesh(
        data[name], data[f"rate_{name}"], share.T, cmap=LOST, vmin=0, vmax=1, shading="nearest", rasterized=True
    )
    for edge, color in COLORS.items():
        theory_line(axes, data[name], data[f"edge_{name}"].sel(edge=edge), color=color, label=f"{edge} edge")
    measured_points(
        axes,
        data[f"measured_{name}"],
        data[f"half_{name}"],
        data[f"half_{name}_standard_error"],
        color=COLORS["almost sure"],
        label="half of the runs survive",
    )
    axes.set_ylabel(r"learning rate $\eta\,\bar h$")


def _draw_tails(axes: Axes, data: xr.Dataset) -> None:
    for i, color in enumerate((GREEN, ORANGE, BLUE)):
        here = data.isel(tail_rate=i)
        seen = here.tail_probability > 1e-4  # fewer than a handful of runs say nothing
        measured_points(
            axes,
            data.level.where(seen),
            here.tail_probability.where(seen),
            here.tail_probability_standard_error.where(seen),
            color=color,
            markersize=2.5,
            label=rf"$\eta = {float(here.tail_rate):g}$: index {float(here.tail_index):.2f}",
        )
        levels = np.geomspace(TAIL_FROM[i] / 4, TAIL_TO[i] * 3, 10)
        line = float(here.tail_anchor) * (levels / TAIL_FROM[i]) ** -float(here.tail_index)
        theory_line(axes, levels, line, color=color)
    axes.set(xscale="log", yscale="log", ylim=(5e-5, 2), xlim=(1, 3e5))
    axes.set(title="between the edges the tails are power laws", xlabel=r"distance $u$ / $\sigma$")
    axes.set_ylabel(r"share of runs with $|e| > u$")
    axes.legend(loc="lower left", fontsize=6)


def _draw_growth(axes: Axes, data: xr.Dataset) -> None:
    theory_line(axes, data.growth_rate, data.path_growth, color=BLUE, label="runs of SGD")
    for rule, color, square in (("SGD", BLUE, ORANGE), ("heavy ball", PURPLE, VERMILION)):
        here = data.sel(rule=rule)
        theory_line(axes, data.growth_rate, here.half_log_growth, color=square, label=f"root mean square, {rule}")
        measured_points(
            axes,
            data.measured_rate,
            here.lyapunov_exponent,
            here.standard_error,
            color=color,
            label="runs of heavy ball" if rule == "heavy ball" else None,
        )
    axes.axhline(0.0, color=BLACK, linewidth=0.6, zorder=1)
    axes.set(ylim=(-1.5, 1.25), xlabel=r"learning rate $\eta\,\bar h$", ylabel="growth per step (logarithm)")
    axes.set_title("runs grow later than their mean square")
    axes.legend(loc="upper left", fontsize=6, borderaxespad=0.1)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(2, 2, width=DOUBLE, height=5.4)
    _draw_map(axes[0, 0], data, "noise")
    axes[0, 0].set(title="noise in the curvature parts the edges", xlabel="relative deviation of curvature")
    axes[0, 0].set(ylim=(0.1, 5.5))
    regions = {
        "runs are lost": (0.45, 4.2),
        "runs settle,\nvariance diverges": (1.15, 1.3),
        "variance\nsettles": (0.1, 0.6),
    }
    for text, place in regions.items():
        axes[0, 0].text(*place, text, fontsize=7)
    _draw_map(axes[0, 1], data, "batch_size")
    axes[0, 1].set(xscale="log", title="larger batches: the edges meet", xlabel="batch size", ylim=(0.1, 3.0))
    ticks(axes[0, 1].xaxis, data.batch_size.values)
    _draw_tails(axes[1, 0], data)
    _draw_growth(axes[1, 1], data)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    for edge, absolute in (("mean square", 5e-5), ("almost sure", 5e-3)):
        other = OTHER_EDGES.under(edge)
        sizes = [size for size in other.values if size in data.batch_size.values]
        yield exact(f"{edge} edge of one-dimensional least squares at batch sizes 1, 4 and 16").close(
            xr.DataArray(other.along(*sizes), coords={"batch_size": sizes}),
            data.edge_batch_size.sel(edge=edge, batch_size=sizes, drop=True).assign_coords(batch_size=sizes),
            absolute=absolute,
        )
    for name, text in (("noise", "curvature noise"), ("batch_size", "batch size")):
        edges = data[f"edge_{name}"].sel(edge="almost sure", drop=True)
        there = edges.sel({name: data[f"measured_{name}"].values}).rename({name: f"measured_{name}"})
        yield asymptotic(f"half of the runs survive at the almost-sure edge, against {text}").statistical(
            there,
            data[f"half_{name}"],
            data[f"half_{name}_standard_error"],
            "variance",
            note="a share of 1/2 finds the median, which tends to the mean logarithm with the number of steps",
        )
        yield bound(
            f"no run is lost before its variance: almost-sure edge above that in mean square, against {text}"
        ).above(data[f"edge_{name}"].sel(edge="mean square", drop=True), edges)
    yield exact("tail indices 4.2858, 2 and 1.2529 of curvatures 1/2 and 3/2 at rates 1.45, 1.6 and 1.8").close(
        list(OTHER_INDICES.values.values()), data.known_tail_index.values, absolute=5e-5
    )
    yield asymptotic("slope of the measured tails is the tail index, to 10%, at three rates between the edges").close(
        data.tail_index,
        data.tail_index_measured,
        tolerance=0.1,
        note=f"standard errors up to {float(data.tail_index_standard_error.max()):.2g}; as far out as enough runs get, "
        "the law is not quite a power law yet",
    )
    sgd = data.sel(rule="SGD", drop=True)
    yield exact("Lyapunov exponent of one direction is the mean logarithm, seven rates").statistical(
        data.path_growth_there, sgd.lyapunov_exponent, sgd.standard_error, "mean", scale=1.0
    )
    yield bound("almost every run grows more slowly than the root mean square, with and without momentum").below(
        data.half_log_growth_there, data.lyapunov_exponent, data.standard_error
    )
    rate = data.stable_rate
    second = np.mean(np.square(PAIR))
    yield exact("stationary variance of two curvatures below the edge in mean square, three rates").statistical(
        rate * second / (2 * np.mean(PAIR) - rate * second),
        data.stable_variance,
        data.stable_variance_standard_error,
        "variance",
    )
