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
from functools import cache, partial
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
    measurements: int = MEASUREMENTS,
    keep_weights: bool = False,
) -> xr.Dataset:
    """A run at a constant rate, recorded and measured at evenly spaced steps."""
    at = np.unique(np.linspace(0, steps, measurements + 1).round().astype(int))
    size = None if batch_size == EXAMPLES else batch_size
    return trainer.trajectory(
        objective(net, loss),
        constant(rate, steps),
        batches=trainer.Batches(size, replacement=True, seed=np.random.SeedSequence(seed)),
        update=update,
        record=at,
        measure=measure,
        keep_weights=keep_weights,
    )


def instruments(batch_size: int, draws: int = 0, seed: int = 0) -> dict[str, Any]:
    """The sharpest direction, and gradients and curvatures along it; with ``draws``, those of batches too."""
    replacement = batch_size < EXAMPLES
    tracker = trainer.tracked_eigenpairs(k=1, tol=TOLERANCE)
    batches = None
    if draws:
        batches = trainer.fresh_batches(
            EXAMPLES, batch_size, draws=draws if replacement else 1, replacement=replacement, seed=seed
        )
    along = partial(
        trainer.projected_steps,
        directions=tracker.directions,
        batch_size=batch_size,
        batches=batches,
        replacement=replacement,
    )
    return {"sharpest": tracker, "along": along}


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
    watched = instruments(batch_size)
    found = train(
        start(seed, init_scale),
        rate,
        batch_size,
        steps_of(rate, time),
        (seed, 0),
        loss=loss,
        measure=watched if along else {"sharpest": watched["sharpest"]},
    )
    return found.squeeze("direction")


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
        measure=instruments(batch_size, WINDOW_BATCHES, seed),
        measurements=WINDOW // WINDOW_STRIDE,
    )
    return found.squeeze("direction").isel(step=slice(1, None))


def covariance(weights: Array, loss: str) -> tuple[float, float]:
    """Largest eigenvalue and trace of the covariance of per-example gradients."""
    found = trainer.gradient_covariance(objective(start(0).with_flat(weights), loss), k=1)
    return found.covariance_eigenvalues.values[0].item(), found.gradient_variance.item()


@cache
def covariance_at_loss(rate: float, batch_size: int, seed: int, level: float) -> tuple[float, float]:
    """The same where the training loss, cross-entropy on labels of which a fifth are random, first is below a level."""
    found = train(
        start(seed),
        rate,
        batch_size,
        steps_of(rate, TIME_TO_LEVEL),
        (seed, 2),
        loss="cross_entropy",
        measurements=round(2 * TIME_TO_LEVEL),
        keep_weights=True,
    )
    below = np.flatnonzero(found.loss.values < level)
    if not below.size:
        raise RuntimeError(f"no loss below {level} at rate {rate}, batches of {batch_size}, seed {seed}")
    return covariance(found.weights.values[below[0]], "cross_entropy")


@cache
def covariance_path(
    rate: float, batch_size: int, seed: int, *, loss: str, measurements: int, time: float = TIME
) -> xr.Dataset:
    """Largest eigenvalue and trace of the gradient covariance along a run."""

    def look(here: trainer.Objective) -> dict[str, float]:
        found = trainer.gradient_covariance(here, k=1)
        return {
            "covariance_top": found.covariance_eigenvalues.values[0].item(),
            "gradient_variance": found.gradient_variance.item(),
        }

    return train(
        start(seed),
        rate,
        batch_size,
        steps_of(rate, time),
        (seed, 0),
        loss=loss,
        measure={"covariance": look},
        measurements=measurements,
    )


def eigenvectors(k: int, loss: str = "mse") -> Any:
    """The sharpest directions as a function of the weights."""
    return trainer.hessian_eigenvectors(objective(start(0), loss), k=k, tol=TOLERANCE)


@cache
def nudged(
    gamma: float, seed: int, *, rate: float = STEERED_RATE, k: int = STEERED_DIRECTIONS, loss: str = "mse"
) -> xr.Dataset:
    """Nudged-SGD from the start, its directions looked up once an epoch; gamma 1 is SGD on the same batches."""
    update = trainer.nudged_sgd(eigenvectors(k, loss), gamma=gamma, refresh=EXAMPLES // STEERED_BATCH)
    found = train(
        start(seed),
        rate,
        STEERED_BATCH,
        steps_of(rate, NUDGED_TIME),
        (seed, 3),
        loss=loss,
        update=None if gamma == 1 else update,
        measure={"sharpest": instruments(STEERED_BATCH)["sharpest"]},
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
        measure={"sharpest": instruments(STEERED_BATCH)["sharpest"]},
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
