r"""The batches of a run, with their label noise: a stream keyed by the seed alone.

Nothing here depends on a learning rate, on weights or on how many steps are drawn at once. Two runs with one seed see
the same batches and the same noise, a longer run begins with the batches of a shorter one, and a test or a figure can
replay them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    check_arguments,
    checked,
    choice,
    complain,
    describe_seed,
    flag,
    instance_of,
    integer,
    nonnegative,
    one,
    optional,
    seeds,
)
from sgdynamics.simulate.trainer.losses import LOSSES, AnyLoss
from sgdynamics.simulate.trainer.objective import Objective, an_objective
from sgdynamics.simulate.trainer.streams import generator

__all__ = ["Batches"]

Array = NDArray[Any]

# Random numbers are drawn for many steps at once; how many is a matter of speed only, because every stream is consumed
# in the order of the steps.
BLOCK_VALUES = 16384


def index_rows(examples: int, batch_size: int, replacement: bool, random: np.random.Generator) -> Iterator[Array]:
    """The indices of one batch after the other."""
    if replacement:
        block = max(1, BLOCK_VALUES // batch_size)
        while True:
            yield from random.integers(examples, size=(block, batch_size))
    used = examples // batch_size * batch_size
    while True:
        yield from random.permutation(examples)[:used].reshape(-1, batch_size)


def noise_rows(draw: Any, shape: tuple[int, ...]) -> Iterator[Array]:
    """One array of random numbers of the given shape per step."""
    block = max(1, BLOCK_VALUES // int(np.prod(shape)))
    while True:
        yield from draw((block, *shape))


def drawn_classes(uniform: Array, probability: float, classes: int) -> Array:
    """The classes that uniform numbers below ``probability`` pick."""
    return np.minimum(uniform * (classes / probability), classes - 1).astype(np.int64)


def _replaced(y: Array, uniform: Array, probability: float, classes: int) -> Array:
    """Labels replaced by a uniformly drawn class where ``uniform`` < ``probability``; the same number picks it."""
    hit = uniform < probability
    drawn = drawn_classes(uniform[hit], probability, classes)
    noisy = y.copy()
    noisy[hit] = drawn if y.ndim == 1 else np.eye(classes)[drawn]
    return noisy


def noisy(y: Array, draws: Array, size: float, classes: int, loss: AnyLoss) -> Array:
    return y + size * draws.reshape(y.shape) if loss == "mse" else _replaced(y, draws, size, classes)


@dataclass(frozen=True, eq=False, repr=False)
class Batches(Shown):
    r"""Which examples the steps of a run see, and with which label noise.

    Parameters
    ----------
    size : int, optional
        Examples in a batch, >= 1. None takes all examples, in order.
    replacement : bool
        False: examples are shuffled anew every epoch and used once; an incomplete last batch of an epoch is dropped.
        True: every example of every batch is drawn independently.
    label_noise : float
        For ``"mse"`` the standard deviation of Gaussian noise added to every target. For ``"cross_entropy"`` the
        probability that a label is replaced by one drawn uniformly from all classes.
    label_noise_kind : {"fresh", "fixed"}
        Whether noise is drawn at every use of an example, or once per example.
    seed : int or numpy.random.SeedSequence
        Seed of batches and label noise, >= 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Batches, Objective, network
    >>> batches = Batches(1, seed=0)
    >>> batches.numbers(3, steps=3).ravel()  # every one once
    array([1, 0, 2])
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> [y.item() for x, y in batches.drawn(Objective(net, [[0.0], [1.0], [2.0]], [5.0, 6.0, 7.0], "mse"), steps=3)]
    [6.0, 5.0, 7.0]
    """

    size: int | None = None
    _: KW_ONLY
    replacement: bool = False
    label_noise: float = 0.0
    label_noise_kind: Literal["fresh", "fixed"] = "fresh"
    seed: int | np.random.SeedSequence

    domains: ClassVar[Mapping[str, Domain]] = {
        "size": optional(integer(1)),
        "replacement": flag,
        "label_noise": one(nonnegative),
        "label_noise_kind": choice("fresh", "fixed"),
        "seed": seeds,
    }

    def __post_init__(self) -> None:
        fields = {name: getattr(self, name) for name in self.domains}
        for name, value in check_arguments(type(self).__name__, self.domains, fields).items():
            object.__setattr__(self, name, value)

    @property
    def sampling(self) -> str:
        """How they are drawn: ``"full_batch"``, ``"replacement"`` or ``"reshuffled"``."""
        if self.size is None:
            return "full_batch"
        return "replacement" if self.replacement else "reshuffled"

    @checked(examples=integer(1), steps=integer(1))
    def numbers(self, examples: int, steps: int) -> NDArray[np.int64]:
        """The numbers of the examples in the batches of a run's first steps.

        Parameters
        ----------
        examples : int
            How many examples there are, >= 1.
        steps : int
            How many batches are wanted, >= 1.

        Returns
        -------
        array of int, shape (steps, size)

        Raises
        ------
        ValueError, TypeError
            If an argument is outside its range, or there are too few examples.
        """
        self._check_size("numbers", "size", examples)
        rows = self.rows(examples) or itertools.repeat(np.arange(examples))
        return np.array(list(itertools.islice(rows, steps)))

    @checked(objective=an_objective, steps=integer(1))
    def drawn(self, objective: Objective, steps: int) -> Iterator[tuple[Array, Array]]:
        """The batches themselves, one per step, as a run of the objective sees them.

        Parameters
        ----------
        objective : Objective
            Its examples and its loss.
        steps : int
            How many batches are wanted, >= 1.

        Yields
        ------
        x, y : arrays
            Not to be edited: full batches are the data themselves.

        Raises
        ------
        ValueError, TypeError
            If an argument is outside its range, or the batches do not fit the objective.
        """
        self.check_fit("drawn", objective)
        return itertools.islice(self.stream(objective, objective.y), steps)

    def _check_size(self, owner: str, name: str, examples: int) -> None:
        if self.size is not None and not self.replacement and self.size > examples:
            raise complain(owner, name, f"at most the {examples} examples, without replacement", self.size)

    def check_fit(self, owner: str, objective: Objective, size: str = "batches.size") -> None:
        """Refuse batches larger than the data if nothing is put back, and noise that cannot be added."""
        loss = objective.loss
        if self.label_noise and loss not in LOSSES:
            text = "0 for a loss of one's own, whose targets are its own"
            raise complain(owner, "batches.label_noise", text, self.label_noise)
        if loss == "cross_entropy" and self.label_noise > 1:
            text = "a probability in [0, 1] for the loss 'cross_entropy'"
            raise complain(owner, "batches.label_noise", text, self.label_noise)
        self._check_size(owner, size, objective.examples)

    def rows(self, examples: int) -> Iterator[Array] | None:
        """The indices of one batch after the other; None where it is always all of them."""
        if self.size is None:
            return None
        return index_rows(examples, self.size, self.replacement, generator(self.seed, "batches"))

    def draw(self, loss: AnyLoss) -> Any:
        """What draws the label noise: one number per target, Gaussian for targets, uniform for labels."""
        noise = generator(self.seed, "label noise")
        return noise.standard_normal if loss == "mse" else noise.random

    def stream(
        self, objective: Objective, y: Array, into: tuple[Array, Array] | None = None
    ) -> Iterator[tuple[Array, Array]]:
        """An endless stream of batches with targets y; each is gathered into the same arrays if there are any."""
        x, loss, examples, classes = objective.x, objective.loss, objective.examples, objective.targets.shape[-1]
        draw, kind = self.draw(loss), self.label_noise_kind if self.label_noise else "none"
        shape = y.shape[1:] if loss == "mse" else ()
        if kind == "fixed":
            y = noisy(y, draw((examples, *shape)), self.label_noise, classes, loss)
        fresh = noise_rows(draw, (self.size or examples, *shape)) if kind == "fresh" else None
        rows = self.rows(examples)
        x_into, y_into = into or (None, None)
        while True:
            if rows is None:
                x_batch, y_batch = x, y
            else:
                chosen = next(rows)
                # the indices are in range; other modes would gather into a copy first
                x_batch, y_batch = x.take(chosen, 0, x_into, "clip"), y.take(chosen, 0, y_into, "clip")
            if fresh is not None:
                y_batch = noisy(y_batch, next(fresh), self.label_noise, classes, loss)
            yield x_batch, y_batch

    def attributes(self, objective: Objective) -> dict[str, Any]:
        """What a result says of its batches."""
        return {
            "seed": describe_seed(self.seed),
            "batch_size": float(self.size or objective.examples),
            "sampling": self.sampling,
            "label_noise": self.label_noise,
            "label_noise_kind": self.label_noise_kind,
        }


some_batches = instance_of(Batches, text="Batches")
