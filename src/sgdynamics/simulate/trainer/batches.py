r"""The batches of a run, with their label noise: a stream keyed by the seed alone.

Nothing here depends on a learning rate, on weights or on how many steps are drawn at once. Two runs with one seed see
the same batches and the same noise, a longer run begins with the batches of a shorter one, and a test or a figure can
replay them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import checked, choice, complain, flag, integer, nonnegative, one, optional, seeds
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.losses import LOSSES, AnyLoss, OwnLoss, check_examples, loss_domain
from sgdynamics.simulate.trainer.streams import generator

__all__ = ["batches"]

Array = NDArray[Any]

# Random numbers are drawn for many steps at once; how many is a matter of speed only, because every stream is consumed
# in the order of the steps.
BLOCK_VALUES = 16384

noise_kind = choice("fresh", "fixed")
noise_size = one(nonnegative)


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


def checked_noise(owner: str, label_noise: float, loss: AnyLoss) -> None:
    """Refuse a label noise that is no probability where it must be one, or that the trainer cannot add."""
    if label_noise and loss not in LOSSES:
        raise complain(owner, "label_noise", "0 for a loss of one's own, whose targets are its own", label_noise)
    if loss == "cross_entropy" and label_noise > 1:
        raise complain(owner, "label_noise", "a probability in [0, 1] for the loss 'cross_entropy'", label_noise)


def checked_size(owner: str, batch_size: int | None, examples: int, replacement: bool) -> None:
    """Refuse batches larger than the data if nothing is put back."""
    if batch_size is not None and not replacement and batch_size > examples:
        text = f"at most the {examples} examples, without replacement"
        raise complain(owner, "batch_size", text, batch_size)


def stream(
    x: Array,
    y: Array,
    batch_size: int | None,
    replacement: bool,
    label_noise: float,
    label_noise_kind: str,
    classes: int,
    loss: AnyLoss,
    seed: int | np.random.SeedSequence,
    into: tuple[Array, Array] | None = None,
) -> Iterator[tuple[Array, Array]]:
    """Checked data as an endless stream of batches; each is gathered into the same arrays if there are any."""
    examples = x.shape[0]
    noise = generator(seed, "label noise")
    # One number per target: Gaussian for targets, uniform for labels.
    draw = noise.standard_normal if loss == "mse" else noise.random
    shape = y.shape[1:] if loss == "mse" else ()
    if label_noise and label_noise_kind == "fixed":
        y = noisy(y, draw((examples, *shape)), label_noise, classes, loss)
    fresh = noise_rows(draw, (batch_size or examples, *shape)) if label_noise and label_noise_kind == "fresh" else None
    rows = None if batch_size is None else index_rows(examples, batch_size, replacement, generator(seed, "batches"))
    x_into, y_into = into or (None, None)
    while True:
        if rows is None:
            x_batch, y_batch = x, y
        else:
            chosen = next(rows)
            # the indices are in range; other modes would gather into a copy first
            x_batch, y_batch = x.take(chosen, 0, x_into, "clip"), y.take(chosen, 0, y_into, "clip")
        if fresh is not None:
            y_batch = noisy(y_batch, next(fresh), label_noise, classes, loss)
        yield x_batch, y_batch


def _outputs(targets: Array, classes: int | None, label_noise: float, loss: str) -> int:
    """How many outputs a network has that fits the targets of a named loss."""
    if targets.ndim == 2:
        if classes not in (None, targets.shape[1]):
            raise complain("batches", "classes", f"the {targets.shape[1]} columns of y, or None", classes)
        return int(targets.shape[1])
    if loss == "mse":
        return 1
    if classes is None:
        if label_noise:
            raise complain("batches", "classes", "the number of classes, for noise on integer labels", None)
        return max(1, int(targets.max()) + 1)
    return classes


@checked(
    x=arguments.matrix,
    y=arguments.examples,
    steps=integer(1),
    batch_size=optional(integer(1)),
    replacement=flag,
    label_noise=noise_size,
    label_noise_kind=noise_kind,
    classes=optional(integer(1)),
    loss=loss_domain,
    seed=seeds,
)
def batches(
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int,
    batch_size: int | None = None,
    replacement: bool = False,
    label_noise: float = 0.0,
    label_noise_kind: str = "fresh",
    classes: int | None = None,
    loss: AnyLoss,
    seed: int | np.random.SeedSequence,
) -> Iterator[tuple[Array, Array]]:
    r"""The batches that :func:`train` uses with the same arguments, one per step.

    Parameters
    ----------
    x : array, shape (examples, inputs)
        Inputs.
    y : array
        Targets (examples, outputs) or (examples,); for ``"cross_entropy"`` labels (examples,) or probabilities
        (examples, classes).
    steps : int
        Number of batches, >= 1.
    batch_size : int, optional
        Examples in a batch, >= 1. None takes all examples, in order.
    replacement : bool
        False: examples are shuffled anew every epoch and used once; an incomplete last batch of an epoch is dropped.
        True: every example of every batch is drawn independently.
    label_noise : float
        For ``"mse"`` the standard deviation of Gaussian noise added to every target. For ``"cross_entropy"`` the
        probability that a label is replaced by one drawn uniformly from all classes.
    label_noise_kind : {"fresh", "fixed"}
        Whether noise is drawn at every use of an example, or once per example.
    classes : int, optional
        Number of classes; needed for noise on integer labels.
    loss : {"mse", "cross_entropy"}, or sequence of callables
        Says what the targets are; for callables they are left as they are.
    seed : int or numpy.random.SeedSequence
        The seed of the run, >= 0.

    Yields
    ------
    x_batch, y_batch : arrays
        Not to be edited: full batches are the data themselves.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> x, y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]
    >>> first, second = batches(x, y, steps=2, batch_size=1, loss="mse", seed=0)
    >>> bool(first[1][0] != second[1][0])
    True
    """
    inputs: Array = x  # type: ignore[assignment]
    targets: Array = y  # type: ignore[assignment]
    outputs = 1
    if not isinstance(loss, OwnLoss):  # whose targets are what its callables take
        targets = arguments.columns.check("batches", "y", targets)
        outputs = _outputs(targets, classes, label_noise, loss)  # type: ignore[arg-type]
    check_examples("batches", inputs, inputs.shape[1], targets, outputs, loss)
    checked_noise("batches", label_noise, loss)
    checked_size("batches", batch_size, inputs.shape[0], replacement)
    if loss == "cross_entropy" and targets.ndim == 1:
        targets = targets.astype(np.int64)
    endless = stream(
        inputs, targets, batch_size, replacement, label_noise, label_noise_kind, outputs, loss, seed
    )  # fmt: skip
    return itertools.islice(endless, steps)
