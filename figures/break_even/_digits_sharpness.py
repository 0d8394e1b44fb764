"""Runs of one small network on the digits in which the sharpest directions are watched, or steered.

A 64-32(tanh)-10 network with biases on 1024 images, the other 773 for testing. Its start is 0.3 times the usual one: at
the usual scale the network is all but linear and its sharpness does not rise. Two losses: half the squared error, and
the cross-entropy with a fifth of the labels replaced once and for all by random ones. Batches are drawn independently,
with replacement; a batch of all examples is the full batch. Runs are compared at equal ``time``, the sum of the
learning rates.

Every run is kept for as long as the process lives, so that what shares it pays once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.models.schedules import constant
from sgdynamics.simulate import trainer

Array = NDArray[Any]

EXAMPLES = 1024
CLASSES = 10
INIT_SCALE = 0.3
LABEL_NOISE = 0.2
SPLIT_SEED = 0

TIME = 300.0
MEASUREMENTS = 50
# Long enough for every run with cross-entropy to come to the loss at which runs are compared.
TIME_TO_LEVEL = 200.0
# Relative residual of eigenpairs; the error of an eigenvalue is of its square.
TOLERANCE = 1e-2

# The late window: steps after ``TIME`` at which batches are held against the parabola along the sharpest direction.
WINDOW = 300
WINDOW_STRIDE = 4
WINDOW_BATCHES = 64

STEERED_DIRECTIONS = 5
CHECKPOINT_STEPS = 300
STEERED_STEPS = 400
STEERED_RATE, STEERED_BATCH = 0.4, 32
# Steps between two looks at the Hessian where nothing else is said.
REFRESH = 10
NUDGED_TIME = 200.0
# Nudged-SGD keeps its directions for an epoch, in which their span loses a tenth to a quarter of its overlap with the
# sharpest. Those of a quarter of the images lose a fiftieth of it; the authors took a twentieth of theirs.
LOOKED_AT = EXAMPLES // 4

RECIPE = {
    "network": "64-32(tanh)-10 with biases",
    "init_scale": INIT_SCALE,
    "examples": float(EXAMPLES),
    "sampling": "independent batches, with replacement",
    "seed": float(SPLIT_SEED),
}


class Problem(NamedTuple):
    """Training data with the targets of a loss, and test data with true labels."""

    x: Array
    targets: Array
    x_test: Array
    labels_test: Array


@cache
def problem(loss: str, split: int = SPLIT_SEED) -> Problem:
    """The digits for a loss; the replaced labels are the same for every run."""
    x, labels, x_test, labels_test = trainer.split(*trainer.digits("raw_deviation"), train=EXAMPLES, seed=split)
    if loss == "cross_entropy":
        random = np.random.default_rng(SPLIT_SEED)
        labels = np.where(random.random(EXAMPLES) < LABEL_NOISE, random.integers(CLASSES, size=EXAMPLES), labels)
    return Problem(x, trainer.one_hot(labels, CLASSES), x_test, labels_test)


def start(seed: int, init_scale: float = INIT_SCALE) -> trainer.Network:
    """The network before its first step."""
    return trainer.network([64, 32, CLASSES], "tanh", init_scale=init_scale, seed=seed)


def steps_of(rate: float, time: float) -> int:
    """Steps at a constant rate whose rates add up to the time."""
    return round(time / rate)


def accuracy(net: trainer.Network, x: Array, labels: Array) -> float:
    """Share of examples whose label has the largest output."""
    (first, second), (shift, last) = net.weights, net.biases or [np.zeros(1), np.zeros(1)]
    outputs = np.tanh(x @ first + shift) @ second + last
    return float((outputs.argmax(axis=1) == labels).mean())


def test_accuracy(weights: Array) -> float:
    """Accuracy on the test images; a network whose run diverged recognises none."""
    if not np.isfinite(weights).all():
        return 0.0
    data = problem("mse")
    return accuracy(start(0).with_flat(weights), data.x_test, data.labels_test)


def objective(net: trainer.Network, loss: str) -> trainer.Objective:
    """The loss of a network on the training data."""
    data = problem(loss)
    return trainer.Objective(net, data.x, data.targets, loss)


def train(
    net: trainer.Network,
    rate: float,
    batch_size: int,
    steps: int,
    seed: tuple[int, ...],
    *,
    loss: str = "mse",
    update: trainer.Update | None = None,
    measure: Mapping[str, Any] | None = None,
    first: int = 0,
    measurements: int = MEASUREMENTS,
    evaluate_loss: bool = True,
    keep_weights: bool = False,
) -> xr.Dataset:
    """A run at a constant rate, recorded and measured at evenly spaced steps, from the first of them on."""
    at = np.unique(np.linspace(first, steps, measurements + 1).round().astype(int))
    size = None if batch_size == EXAMPLES else batch_size
    return trainer.trajectory(
        objective(net, loss),
        constant(rate, steps),
        batches=trainer.Batches(size, replacement=True, seed=np.random.SeedSequence(seed)),
        update=update,
        record=at,
        measure=measure,
        evaluate_loss=evaluate_loss,
        keep_weights=keep_weights,
    )


def sharpness(here: trainer.Objective) -> dict[str, float]:
    """The largest eigenvalue of the Hessian, from a search of its own: to follow directions takes twice as long."""
    return {"sharpness": trainer.top_eigenpairs(here, k=1, tol=TOLERANCE).values[0]}


def along_sharpest(batch_size: int, draws: int = 0, seed: int = 0) -> Callable[[trainer.Objective], xr.Dataset]:
    """The sharpness, and gradients and curvatures along its direction; with ``draws``, those of batches too."""
    replacement = batch_size < EXAMPLES
    batches = None
    if draws:
        batches = trainer.fresh_batches(
            EXAMPLES, batch_size, draws=draws if replacement else 1, replacement=replacement, seed=seed
        )

    def look(here: trainer.Objective) -> xr.Dataset:
        top = trainer.top_eigenpairs(here, k=1, tol=TOLERANCE)
        steps = trainer.projected_steps(
            here, directions=top.vectors, batch_size=batch_size, batches=batches, replacement=replacement
        )
        return steps.squeeze("direction").assign(sharpness=top.values[0])

    return look


@cache
def run(
    rate: float,
    batch_size: int,
    seed: int,
    *,
    loss: str = "mse",
    time: float = TIME,
    init_scale: float = INIT_SCALE,
    along: bool = True,
) -> xr.Dataset:
    """Plain SGD from the start, watched along the sharpest direction; without ``along`` its curvature alone is."""
    return train(
        start(seed, init_scale),
        rate,
        batch_size,
        steps_of(rate, time),
        (seed, 0),
        loss=loss,
        measure={"along": along_sharpest(batch_size) if along else sharpness},
    )


@cache
def end(rate: float, batch_size: int, seed: int) -> Array:
    """The last weights of ``run``, which does not depend on being watched."""
    found: Array = train(
        start(seed), rate, batch_size, steps_of(rate, TIME), (seed, 0), measurements=1
    ).final_weights.values
    return found


@cache
def late(rate: float, batch_size: int, seed: int) -> xr.Dataset:
    """The steps after ``run``, with many batches held against the parabola of the loss along the sharpest direction."""
    net = start(seed).with_flat(end(rate, batch_size, seed))
    found = train(
        net,
        rate,
        batch_size,
        WINDOW,
        (seed, 1),
        measure={"along": along_sharpest(batch_size, WINDOW_BATCHES, seed)},
        measurements=WINDOW // WINDOW_STRIDE,
    )
    return found.isel(step=slice(1, None))


def covariance(weights: Array, loss: str) -> tuple[float, float]:
    """Largest eigenvalue and trace of the covariance of per-example gradients."""
    found = trainer.gradient_covariance(objective(start(0).with_flat(weights), loss), k=1)
    return found.covariance_eigenvalues.values[0].item(), found.gradient_variance.item()


class _Reached(Exception):
    """A run has come to the loss at which runs are compared; with the covariance there."""


@cache
def covariance_at_loss(rate: float, batch_size: int, seed: int, level: float) -> tuple[float, float]:
    """The same where the training loss, cross-entropy on labels of which a fifth are random, first is below a level.

    The run ends there: nothing that comes later matters.
    """

    def look(here: trainer.Objective) -> dict[str, float]:
        if here.loss_value() < level:
            raise _Reached(covariance(here.flat(), "cross_entropy"))
        return {}

    try:
        train(
            start(seed),
            rate,
            batch_size,
            steps_of(rate, TIME_TO_LEVEL),
            (seed, 2),
            loss="cross_entropy",
            measure={"level": look},
            measurements=round(2 * TIME_TO_LEVEL),
            evaluate_loss=False,
        )
    except _Reached as reached:
        found: tuple[float, float] = reached.args[0]
        return found
    raise RuntimeError(f"no loss below {level} at rate {rate}, batches of {batch_size}, seed {seed}")


@cache
def covariance_path(
    rate: float,
    batch_size: int,
    seed: int,
    *,
    loss: str,
    measurements: int,
    time: float = TIME,
    since: float = 0.0,
    below: float = np.inf,
) -> xr.Dataset:
    """Largest eigenvalue and trace of the gradient covariance along a run, from a time on.

    NaN where the loss is not below a level: what is not asked for is not diagonalised.
    """

    def look(here: trainer.Objective) -> dict[str, float]:
        top, trace = np.nan, np.nan
        if not here.loss_value() >= below:
            found = trainer.gradient_covariance(here, k=1)
            top, trace = found.covariance_eigenvalues.values[0].item(), found.gradient_variance.item()
        return {"covariance_top": top, "gradient_variance": trace}

    return train(
        start(seed),
        rate,
        batch_size,
        steps_of(rate, time),
        (seed, 0),
        loss=loss,
        measure={"covariance": look},
        first=steps_of(rate, since),
        measurements=measurements,
    )


def eigenvectors(k: int, loss: str = "mse") -> Callable[[Array], Array]:
    """The sharpest directions as a function of the weights."""
    return trainer.hessian_eigenvectors(objective(start(0), loss), k=k, tol=TOLERANCE)


def cheap_eigenvectors(what: trainer.Objective, k: int = STEERED_DIRECTIONS) -> Callable[[Array], Array]:
    """The sharpest directions on some of the examples, for those who keep them for an epoch."""
    return trainer.hessian_eigenvectors(what.batch(np.arange(LOOKED_AT)), k=k, tol=TOLERANCE)


@cache
def nudged(
    gamma: float, seed: int, *, rate: float = STEERED_RATE, k: int = STEERED_DIRECTIONS, loss: str = "mse"
) -> xr.Dataset:
    """Nudged-SGD from the start, its directions looked up once an epoch; gamma 1 is SGD on the same batches."""
    top = cheap_eigenvectors(objective(start(0), loss), k)
    update = trainer.nudged_sgd(top, gamma=gamma, refresh=EXAMPLES // STEERED_BATCH)
    found = train(
        start(seed),
        rate,
        STEERED_BATCH,
        steps_of(rate, NUDGED_TIME),
        (seed, 3),
        loss=loss,
        update=None if gamma == 1 else update,
        measure={"sharpness": sharpness},
        measurements=30,
    )
    return found.assign(test_accuracy=test_accuracy(found.final_weights.values))


@cache
def checkpoint(seed: int) -> xr.Dataset:
    """The run from which steering starts."""
    return train(start(seed), STEERED_RATE, STEERED_BATCH, CHECKPOINT_STEPS, (seed, 4), measurements=1)


@cache
def steered(
    rule: str, seed: int, *, refresh: int | None = REFRESH, steps: int = STEERED_STEPS, every: int = 10
) -> xr.Dataset:
    """From the checkpoint on: "normal", "dominant", "constant top" or "bulk", all on the same batches.

    Measured ``every`` so many steps.
    """
    top = eigenvectors(STEERED_DIRECTIONS)
    updates = {
        "normal": None,
        "dominant": trainer.dominant_sgd(top, refresh=refresh),
        "constant top": trainer.dominant_sgd(top, refresh=None),
        "bulk": trainer.bulk_sgd(top, refresh=refresh),
    }
    return train(
        start(seed).with_flat(checkpoint(seed).final_weights.values),
        STEERED_RATE,
        STEERED_BATCH,
        steps,
        (seed, 5),
        update=updates[rule],
        measure={"sharpness": sharpness},
        measurements=steps // every,
    )


def standard_error(values: xr.DataArray, dim: str = "seed") -> xr.DataArray:
    """Standard error of the mean over seeds; with one seed it is not known and counts as 0."""
    count = values.sizes[dim]
    found: xr.DataArray = values.std(dim, ddof=1 if count > 1 else 0) / np.sqrt(count)
    return found


Cell = tuple[float, int]


def over_cells(cells: Sequence[Cell], seeds: int, found: Callable[[float, int, int], xr.Dataset]) -> xr.Dataset:
    """What is found for every learning rate and batch size, and for every seed."""
    rows = [xr.concat([found(*cell, seed) for seed in range(seeds)], "seed") for cell in cells]
    rates, sizes = zip(*cells, strict=True)
    return xr.concat(rows, "cell").assign_coords(
        cell=("cell", [f"{rate:g}, {name_of(size)}" for rate, size in cells], {"long_name": "rate and batch size"}),
        learning_rate=("cell", list(rates), {"long_name": "learning rate", "units": "1/curvature"}),
        batch_size=("cell", list(sizes), {"long_name": "batch size", "units": "examples"}),
        seed=("seed", np.arange(seeds), {"long_name": "seed of start and batches", "units": "1"}),
    )


def name_of(batch_size: int) -> str:
    """A batch size in words."""
    return "all" if batch_size == EXAMPLES else str(batch_size)
