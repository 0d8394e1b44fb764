"""Stationary chains of SGD on the digits, and the mini-batch quadratic that is measured at one of their windows.

A 64-32(tanh)-10 network with biases on 1200 images, cross-entropy and weight decay, batches of 32 at a constant rate.
A fifth of the labels are replaced by a random class, anew at every use: without that noise the network would all but
interpolate and there would be no floor to fluctuate above. The **full loss** is the expected loss under this noise on
the training inputs, and every loss includes the weight decay.

Chains are independent in everything: split of the data, initial weights, batches and label noise. After a warm-up each
gives windows of ``WINDOW`` steps, ``GAP`` steps apart. Chains run abreast. Where a window starts, and what is measured
at one, is kept for as long as the process lives, so that the figures that share a chain pay once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.models.schedules import constant
from sgdynamics.simulate import trainer

Array = NDArray[np.float64]
Batch = tuple[Array, NDArray[np.int64]]

SEED = 2023
RATE = 0.5
BATCH_SIZE = 32
WEIGHT_DECAY = 1e-3
LABEL_NOISE = 0.2
TRAINING_EXAMPLES = 1200
CLASSES = 10

WARM_UP = 12_000
WINDOW = 800
GAP = 600
WINDOWS = 6
# The window at which the quadratic is measured, in the middle of the chain.
MEASURED_WINDOW = 2
# Chains that the fast versions of the figures look at, at most.
FAST_CHAINS = 6
# Examples, each with fresh label noise, from which the gradient noise is measured at each of three iterates.
NOISE_EXAMPLES = 2048

RECIPE = {
    "network": "64-32(tanh)-10 with biases",
    "learning_rate": RATE,
    "batch_size": float(BATCH_SIZE),
    "weight_decay": WEIGHT_DECAY,
    "label_noise": LABEL_NOISE,
    "warm_up_steps": float(WARM_UP),
    "window_steps": float(WINDOW),
    "windows_per_chain": float(WINDOWS),
    "full_loss": "expected loss under label noise on the training inputs, weight decay included",
    "seed": float(SEED),
}


@dataclass(frozen=True)
class Modes:
    """The mini-batch quadratic at a window: its directions, and what cannot be told from flat within the window.

    Attributes
    ----------
    curvature : array, shape (modes,)
        Eigenvalues of the Hessian of the full loss at the window's mean that are large enough for a mode to relax
        within the window, descending.
    vectors : array, shape (parameters, modes)
        Their eigenvectors.
    noise : array, shape (modes,)
        Variance of a batch gradient along each of them.
    flat_noise : float
        Variance of a batch gradient in all other directions together.
    """

    curvature: Array
    vectors: Array
    noise: Array
    flat_noise: float

    @property
    def gain(self) -> Array:
        """Learning rate times curvature."""
        return RATE * self.curvature

    @property
    def center_variance(self) -> Array:
        """Variance of the center of one batch: the gradient noise over the squared curvature."""
        return self.noise / self.curvature**2


@dataclass(frozen=True)
class Window:
    """``WINDOW`` steps of a chain: iterates x_0..x_T and the seed of the batches."""

    index: int
    iterates: Array
    seed: np.random.SeedSequence

    @property
    def gradients(self) -> Array:
        """The batch gradients between the iterates."""
        return (self.iterates[:-1] - self.iterates[1:]) / RATE


class Chain:
    """One chain: its data and whatever is run on them."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.x, self.y, self.x_test, self.y_test = trainer.split(
            _images().x, _images().y, train=TRAINING_EXAMPLES, seed=self.seed("split")
        )
        self.expected = trainer.smoothed_labels(self.y, CLASSES, LABEL_NOISE)
        self.expected_test = trainer.smoothed_labels(self.y_test, CLASSES, LABEL_NOISE)
        self.initial = trainer.network([64, 32, CLASSES], "tanh", seed=self.seed("initial weights"))
        # The recipe has variance 2/64 in the first layer, where the trainer's default for tanh is 1/64.
        self.initial.weights[0] *= np.sqrt(2)

    def seed(self, purpose: str, number: int = 0) -> np.random.SeedSequence:
        """A seed of this chain's own."""
        key = (self.index, int.from_bytes(purpose.encode(), "big"), number)
        return np.random.SeedSequence(SEED, spawn_key=key)

    def runs(self, starts: Any, schedule: Any, seeds: Sequence[np.random.SeedSequence], record: Any = None) -> Array:
        """Iterates (run, step, parameter) of SGD from each of the starts, at every step or at those recorded."""
        last = np.shape(schedule)[-1]
        return _abreast([self] * len(seeds), starts, schedule, seeds, np.arange(last + 1) if record is None else record)

    def reruns(self, windows: Sequence[Window], schedules: Sequence[Any]) -> Array:
        """Last iterates (window, schedule, parameter) of runs on the batches of the windows, at other rates."""
        starts = np.repeat([window.iterates[0] for window in windows], len(schedules), axis=0)
        seeds = [window.seed for window in windows for _ in schedules]
        ends = self.runs(starts, np.tile(schedules, (len(windows), 1)), seeds, [WINDOW])
        return ends.reshape(len(windows), len(schedules), -1)

    def batches(self, seed: np.random.SeedSequence, steps: int, batch_size: int = BATCH_SIZE) -> list[Batch]:
        """The batches that a run with this seed uses."""
        return list(_batches(seed, batch_size).drawn(self.objective(self.initial, self.x, self.y), steps))

    def objective(self, net: trainer.Network, x: Array, y: Any) -> trainer.Objective:
        """The loss of a network on examples."""
        return trainer.Objective(net, x, y, "cross_entropy", weight_decay=WEIGHT_DECAY)

    def windows(self, count: int = WINDOWS) -> Iterator[Window]:
        """The first windows of the chain, in order."""
        seeds = [self.seed("window", index) for index in range(count)]
        every = self.runs(_starts(self.index)[:count], constant(RATE, WINDOW), seeds)
        for index, (iterates, seed) in enumerate(zip(every, seeds, strict=True)):
            yield Window(index, iterates, seed)

    def window(self, index: int) -> Window:
        """One window of the chain."""
        seed = self.seed("window", index)
        (iterates,) = self.runs([_starts(self.index)[index]], constant(RATE, WINDOW), [seed])
        return Window(index, iterates, seed)

    def full_loss(self, weights: Array) -> Array:
        """Expected loss on the training inputs at weights (..., parameters)."""
        return self._loss(weights, self.x, self.expected)

    def held_out_loss(self, weights: Array) -> Array:
        """Expected loss on the test inputs at weights (..., parameters)."""
        return self._loss(weights, self.x_test, self.expected_test)

    def batch_loss(self, weights: Array, batch: Batch) -> Array:
        """Loss on one batch with its noisy labels at weights (..., parameters)."""
        return self._loss(weights, *batch)

    def batch_gradient(self, weights: Array, batch: Batch) -> Array:
        """Gradient of ``batch_loss``."""
        return self.objective(self.initial.with_flat(weights), *batch).gradient()

    def _loss(self, weights: Array, x: Array, y: Any) -> Array:
        rows = weights.reshape(-1, weights.shape[-1])
        found = trainer.losses_at(self.objective(self.initial, x, y), weights=rows)
        return found.reshape(weights.shape[:-1])

    @property
    def modes(self) -> Modes:
        """The quadratic around the window in the middle of the chain."""
        return _modes(self.index)

    def modes_around(self, iterates: Array) -> Modes:
        """The quadratic around a window: Hessian at its mean, gradient noise at its first, middle and last iterate."""
        at_mean = self.initial.with_flat(iterates.mean(axis=0))
        hessian = trainer.hessian_matrix(self.objective(at_mean, self.x, self.expected))
        slowest = 1 / (RATE * WINDOW)
        values, vectors = scipy.linalg.eigh(
            hessian, subset_by_value=(slowest, np.inf), overwrite_a=True, check_finite=False
        )
        curvature, basis = values[::-1].copy(), vectors[:, ::-1].copy()
        noise, total = np.zeros_like(curvature), 0.0
        ((x, y),) = self.batches(self.seed("noise"), 1, NOISE_EXAMPLES)
        chosen = iterates[[0, len(iterates) // 2, -1]]
        for weights in chosen:
            rows = self.objective(self.initial.with_flat(weights), x, y).example_gradients()
            noise += (rows @ basis).var(axis=0) / (BATCH_SIZE * len(chosen))
            total += float(rows.var(axis=0).sum()) / (BATCH_SIZE * len(chosen))
        return Modes(curvature, basis, noise, total - float(noise.sum()))


@cache
def _images() -> trainer.Digits:
    return trainer.digits("mean_image")


def chains(count: int) -> list[Chain]:
    """Independent chains; those that no figure has asked for before are run abreast.

    Never fewer than the fast versions look at together: some abreast take little longer than one.
    """
    new = [Chain(index) for index in range(max(count, FAST_CHAINS)) if index not in _run]
    if new:
        _run.update(zip([chain.index for chain in new], _window_starts(new), strict=True))
    return [Chain(index) for index in range(count)]


# The weights at which the windows of a chain start, (window, parameter).
_run: dict[int, Array] = {}


def _starts(chain: int) -> Array:
    if chain not in _run:
        chains(chain + 1)
    return _run[chain]


def _window_starts(new: Sequence[Chain]) -> Array:
    """Where the windows of chains start: (chain, window, parameter)."""

    def after(points: Array, steps: int, purpose: str, number: int = 0) -> Array:
        seeds = [chain.seed(purpose, number) for chain in new]
        return _abreast(new, points, constant(RATE, steps), seeds, [steps])[:, 0]

    starts = [after(np.array([chain.initial.flat() for chain in new]), WARM_UP, "warm-up")]
    for index in range(WINDOWS - 1):
        starts.append(after(after(starts[-1], WINDOW, "window", index), GAP, "gap", index))
    return np.stack(starts, axis=1)


def _batches(seed: np.random.SeedSequence, size: int) -> trainer.Batches:
    return trainer.Batches(size, replacement=True, label_noise=LABEL_NOISE, seed=seed)


def _abreast(
    owners: Sequence[Chain], starts: Any, schedule: Any, seeds: Sequence[np.random.SeedSequence], record: Any
) -> Array:
    """Recorded iterates (run, step, parameter) of runs on the data of chains, all at once."""
    found: Array = trainer.ensemble(
        [
            chain.objective(chain.initial.with_flat(start), chain.x, chain.y)
            for chain, start in zip(owners, starts, strict=True)
        ],
        schedule,
        batches=[_batches(seed, BATCH_SIZE) for seed in seeds],
        record=record,
        evaluate_loss=False,
        keep_weights=True,
    ).weights.values
    return found


@cache
def _modes(chain: int) -> Modes:
    this = Chain(chain)
    return this.modes_around(this.window(MEASURED_WINDOW).iterates)


def standard_error(values: xr.DataArray) -> xr.DataArray:
    """Standard error of the mean over chains."""
    found: xr.DataArray = spread(values) / np.sqrt(values.sizes["chain"])
    return found


def spread(values: xr.DataArray) -> xr.DataArray:
    """Standard deviation from chain to chain."""
    return values.std("chain", ddof=1)


def over_chains(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean over chains, and its standard error."""
    return values.mean("chain"), standard_error(values)


def agreement(values: xr.DataArray, other_standard_error: float | xr.DataArray | None = None) -> xr.DataArray:
    """How far the mean over chains may be from the number that one other chain gave: three combined standard errors.

    That chain's own standard error, where it is not known, is the spread from chain to chain here.
    """
    other = spread(values) if other_standard_error is None else other_standard_error
    found: xr.DataArray = 3 * (standard_error(values) ** 2 + other**2) ** 0.5
    return found
