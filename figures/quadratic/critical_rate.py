r"""On a plateau of noise the critical rate of a step is the learning rate, whatever the spectrum: no sign of the edge.

The critical rate is the smallest one at which the next step would raise the held-out loss. Above left, of runs of SGD
that have come to rest on their plateau, by the learning rate over the edge: of a step along the gradient of a batch it
is the rate itself; along the full gradient it is far above, and comes down to the rate only where the sharpest
direction is at its edge. Right, along one run: far from the minimiser both agree, on the plateau they part. Below left,
full-batch descent of a network: two over the critical rate is anywhere from the largest curvature down to the share of
it that the squared gradient has along the sharpest direction. Right, least squares on random features with curvature
noise: rates beyond which SGD is unstable in mean square, exactly and by bounds that need traces or one direction only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, bound, exact
from figures.engine.colors import BLACK, BLUE, GREEN, ORANGE, VERMILION
from figures.engine.labels import described
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.quadratic import FiniteSumQuadratic, MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate import trainer
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import critical_rate, one_step_edge, second_moment_edge, top_direction_edge, trace_edge

SPECTRA = {
    "flat": ([1.0], BLUE, "o"),
    "two scales": ([1.0, 0.03], ORANGE, "s"),
    "power law": (np.arange(1, 41) ** -1.5, GREEN, "^"),
}
SHARES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
EDGE = 2.0  # over the largest curvature, which is 1
RUN_RATE, RUN_STEPS = 0.2, 300
NET_RATE, NET_STEPS, SETTLED = 0.4, 1200, 900
# Steps after which little is left of the negative curvatures of the start.
LATE = 100
# Share of the squared gradient from which it counts as along the sharpest direction.
ALIGNED = 0.9
EXAMPLES, DIMENSIONS = 40, np.array([2, 5, 10, 20])


def _model(curvature: np.ndarray) -> MiniBatchQuadratic:
    return MiniBatchQuadratic(curvature, 1.0, displacement=1.0)


def _settled(curvature: np.ndarray, rate: float) -> int:
    """Steps after which nothing is left of the start."""
    return math.ceil(20 / float(np.minimum(rate * curvature, 2 - rate * curvature).min()))


def _profile(model: MiniBatchQuadratic, rate: float, replicas: int, full: bool) -> tuple[float, float]:
    """Critical rate from the slope and the bend of the loss along fresh steps, with its standard error."""
    steps = _settled(np.asarray(model.curvature), rate)
    error = ensemble(model, constant(rate, steps), replicas=replicas, seed=1, method="jumps").error.values[:, 0]
    h = np.asarray(model.curvature)
    center = 0.0 if full else np.random.default_rng(2).normal(size=error.shape)
    step = h * (error - center)
    slope, bend = (h * error * step).sum(1), (h * step**2).sum(1)
    found = 2 * slope.mean() / bend.mean()
    spread = (2 * slope - found * bend).std(ddof=1) / bend.mean() / np.sqrt(replicas)
    return float(found), float(spread)


def _plateaus(replicas: int) -> xr.Dataset:
    shape = (2, len(SPECTRA), SHARES.size)
    predicted, measured, spread = np.empty(shape), np.empty(shape), np.empty(shape)
    for full in (0, 1):
        for i, (curvature, _, _) in enumerate(SPECTRA.values()):
            model = _model(np.asarray(curvature))
            for j, rate in enumerate(EDGE * SHARES):
                long = constant(rate, _settled(np.asarray(curvature), rate))
                predicted[full, i, j] = critical_rate(model, long, full_gradient=bool(full)).item()
                measured[full, i, j], spread[full, i, j] = _profile(model, rate, replicas, bool(full))
    dims = ("direction", "spectrum", "share")
    return xr.Dataset(
        {
            "plateau": (dims, predicted),
            "plateau_measured": (dims, measured),
            "plateau_standard_error": (dims, spread),
        },
        coords={"direction": ["batch", "full"], "spectrum": list(SPECTRA), "share": SHARES},
    )


def _run() -> xr.Dataset:
    model = MiniBatchQuadratic([1.0, 0.03], 1.0, displacement=[30.0, 30.0])
    record = np.arange(RUN_STEPS + 1)
    schedule = constant(RUN_RATE, RUN_STEPS)
    return xr.Dataset(
        {
            f"run_{name}": critical_rate(model, schedule, full_gradient=name == "full", record=record)
            for name in ("batch", "full")
        }
    )


def _network(start: int) -> xr.Dataset:
    """Gradient descent of a small network: both sharpnesses, as multiples of two over the rate, and the alignment.

    The alignment is the share of the squared gradient that lies along the sharpest direction.
    """
    x, labels = trainer.digits("raw_deviation")
    chosen = np.random.default_rng(0).permutation(len(x))[:128]
    x, y = x[chosen], trainer.one_hot(labels[chosen], 10)
    search = functools.partial(
        trainer.critical_rate,
        direction=trainer.Objective.gradient,
        learning_rate=NET_RATE,
        accuracy=1e-3,
    )

    def sharpest(here: trainer.Objective) -> dict[str, float]:
        found, gradient = trainer.top_eigenpairs(here), here.gradient()
        along = float(gradient @ found.vectors[:, 0])
        return {"top": float(found.values[0]), "alignment": along**2 / float(gradient @ gradient)}

    run = trainer.trajectory(
        trainer.Objective(trainer.network([64, 16, 10], "tanh", seed=start), x, y, "mse"),
        constant(NET_RATE, NET_STEPS),
        evaluate_loss=False,
        measure={"critical": search, "sharpest": sharpest},
        measure_at=np.arange(0, NET_STEPS + 1, 10),
    )
    found = {
        "network_critical": run.critical_sharpness * NET_RATE / 2,
        "network_top": run.top * NET_RATE / 2,
        "network_alignment": run.alignment,
    }
    return xr.Dataset(
        {name: ("network_step", value.values) for name, value in found.items()},
        coords={"network_step": run.measured_step.values},
    )


def _edges() -> xr.Dataset:
    laws: dict[str, Callable[..., float]] = {
        "edge": second_moment_edge,
        "trace": trace_edge,
        "sharpest": top_direction_edge,
        "one_step": one_step_edge,
    }
    rows = []
    for dimension in DIMENSIONS:
        features = np.random.default_rng(dimension).normal(size=(EXAMPLES, dimension)) / np.sqrt(dimension)
        model = FiniteSumQuadratic(features[:, :, None] * features[:, None, :])
        rows.append(xr.Dataset({name: law(model) for name, law in laws.items()}))
    return xr.concat(rows, xr.DataArray(DIMENSIONS, dims="dimension", name="dimension"))


def compute(fast: bool) -> xr.Dataset:
    networks = xr.concat([_network(start) for start in range(5 if fast else 20)], "start")
    data = xr.merge([_plateaus(20_000 if fast else 200_000), _run(), networks, _edges()])
    return described(data, source="kalra2026; mulayoff2024")


def draw(data: xr.Dataset) -> Figure:
    figure, ((plateau, run), (network, edges)) = panels(2, 2, width=DOUBLE, height=5.2)
    share = data.share
    for name, (_, color, marker) in SPECTRA.items():
        here = data.sel(spectrum=name)
        theory_line(plateau, share, here.plateau.sel(direction="full") / EDGE, color=color, linestyle="--")
        for direction in ("batch", "full"):
            points = here.sel(direction=direction)
            measured_points(
                plateau,
                share,
                points.plateau_measured / EDGE,
                points.plateau_standard_error / EDGE,
                color=color,
                marker=marker,
                label=name if direction == "batch" else None,
            )
    theory_line(plateau, share, share, color=BLACK)
    plateau.text(0.08, 0.5, "batch gradient:\nthe rate itself", fontsize=7)
    plateau.text(0.1, 1.1, "full gradient", fontsize=7)
    plateau.set(ylim=(0, 1.25), xlabel="learning rate / edge", ylabel="critical rate / edge")
    plateau.set_title("plateaus of three spectra")
    plateau.legend(fontsize=6.5, loc="lower right")

    for name, color in (("batch", BLUE), ("full", VERMILION)):
        theory_line(run, data.step, data[f"run_{name}"], color=color, label=f"{name} gradient")
    run.axhline(RUN_RATE, color=BLACK, linewidth=0.8, linestyle=":")
    run.text(RUN_STEPS, RUN_RATE * 0.9, "the learning rate", fontsize=7, ha="right", va="top")
    run.axhline(EDGE, color=BLACK, linewidth=0.8, linestyle=":")
    run.text(RUN_STEPS, EDGE * 0.92, "2 / largest curvature", fontsize=7, ha="right", va="top")
    run.set(yscale="log", ylim=(0.13, 20), xlabel="step", ylabel="critical rate")
    run.set_title("along one run")
    run.legend(fontsize=6.5, loc="upper right")

    network.axhline(1, color=BLACK, linewidth=0.8, linestyle=":")
    for name, color, marker, label in (
        ("network_top", BLACK, "o", "largest curvature"),
        ("network_critical", VERMILION, "s", "critical sharpness"),
    ):
        first = data[name].isel(start=0)
        measured_points(network, data.network_step, first, color=color, marker=marker, markersize=2, label=label)
    network.set(yscale="log", xlabel="step", ylabel=r"sharpness / $(2/\eta)$", title="a network without noise")
    network.legend(fontsize=6.5, loc="center right")

    theory_line(edges, data.dimension, data.sharpest, color=ORANGE, label="bound, sharpest direction")
    theory_line(edges, data.dimension, data.trace, color=GREEN, label="bound, traces")
    measured_points(edges, data.dimension, data.edge, color=BLACK, label="exact")
    theory_line(edges, data.dimension, data.one_step, color=BLUE, linestyle="--", label="no step may grow")
    edges.set(xscale="log", xlabel="dimension", ylabel="learning rate", title="edges in mean square")
    ticks(edges.xaxis, DIMENSIONS)
    edges.legend(fontsize=6.5)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    batch, full = data.sel(direction="batch"), data.sel(direction="full")
    yield exact(
        "on a plateau of noise the critical rate of a batch step is the learning rate, for every spectrum",
        "kalra2026; derived",
    ).close(np.broadcast_to(EDGE * data.share, batch.plateau.shape), batch.plateau.values, tolerance=1e-9)
    # in one direction the full gradient's is 2/curvature in every run, without scatter
    for name, here in (("a batch", batch), ("the full gradient", full.sel(spectrum=["two scales", "power law"]))):
        yield exact(
            f"critical rate along {name}, from the held-out loss of simulated runs along fresh steps"
        ).statistical(
            here.plateau,
            here.plateau_measured,
            here.plateau_standard_error,
            "variance",
            weakest=0.1,
            reason="a ratio of two means, and in one direction the held-out slope is mostly noise",
        )
    yield bound("along the full gradient it lies above the learning rate on every plateau").above(
        np.broadcast_to(EDGE * data.share, full.plateau.shape), full.plateau.values
    )
    yield asymptotic(
        "far from the minimiser batch and full gradient see the same critical rate, above the learning rate"
    ).above(0.95 * data.run_full.isel(step=0, drop=True), data.run_batch.isel(step=0, drop=True))
    top, critical, alignment = data.network_top, data.network_critical, data.network_alignment
    starts = f"{data.sizes['start']} starts"
    settled = (data.network_step >= SETTLED) & (alignment > ALIGNED)
    yield asymptotic(
        "of a network at its edge whose gradient is along the sharpest direction the critical sharpness is two over "
        "the rate",
        "kalra2026; derived",
    ).close(
        1.0,
        critical.where(settled).mean(),
        tolerance=0.03,
        note=f"mean over {int(settled.sum())} late steps with {ALIGNED:g} of the squared gradient along it, {starts}",
    )
    convex = "a theorem of convex quadratic losses; of a network up to the bend of its profile"
    yield bound("the critical sharpness of the full gradient is at most the largest curvature").below(
        top, critical, tolerance=0.02, note=convex
    )
    late = data.network_step >= LATE
    yield bound("and at least the share of it that the squared gradient has along the sharpest direction").above(
        (alignment - 0.05).where(late, drop=True),
        (critical / top).where(late, drop=True),
        note=f"{convex}; past the start, where it is not convex",
    )
    elsewhere = (top > 0.95) & (alignment < 0.01)
    yield bound(
        "it may be far below: at the edge, while the gradient is elsewhere, in most steps less than a twentieth"
    ).below(0.05, critical.where(elsewhere).median(), note=f"of {int(elsewhere.sum())} steps, {starts}")
    for name, limit in (("traces", data.trace), ("the sharpest direction", data.sharpest)):
        yield bound(f"no rate beyond the bound from {name} is stable in mean square", "mulayoff2024").below(
            limit, data.edge, tolerance=1e-9
        )
    yield bound("where no step may grow the second moment is stable").above(data.one_step, data.edge, tolerance=1e-9)
