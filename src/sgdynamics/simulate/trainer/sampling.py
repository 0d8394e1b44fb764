r"""Which examples the mini-batches of a measurement hold, and what a mean over them is worth.

A measurement takes its batches as an array of example numbers, one batch a row, so that the same batches can be handed
to several instruments, all subsets can be enumerated, and the batches of a run can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import checked, complain, flag, integer, seeds
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import ratio
from sgdynamics.simulate.trainer.objective import Objective
from sgdynamics.simulate.trainer.streams import generator

__all__ = ["draw_batches", "fresh_batches"]

Array = NDArray[Any]
Directions: TypeAlias = ArrayLike | Callable[[Objective], Array]
IndexRows: TypeAlias = ArrayLike | Callable[[Objective], Array]

_DRAWING = {
    "examples": integer(1),
    "batch_size": integer(1),
    "draws": integer(1),
    "replacement": flag,
    "seed": seeds,
}


def _drawn(examples: int, batch_size: int, draws: int, replacement: bool, random: np.random.Generator) -> Array:
    if replacement:
        return random.integers(examples, size=(draws, batch_size))
    return np.stack([random.choice(examples, batch_size, replace=False, shuffle=False) for _ in range(draws)])


def check_batch_size(owner: str, batch_size: int, examples: int, replacement: bool) -> None:
    """Refuse batches that cannot be drawn."""
    if batch_size > examples and not replacement:
        raise complain(owner, "batch_size", f"at most the {examples} examples, without replacement", batch_size)


@checked(**_DRAWING)
def draw_batches(
    examples: int, batch_size: int, *, draws: int, replacement: bool = False, seed: int | np.random.SeedSequence
) -> NDArray[np.int64]:
    """Independent mini-batches, as numbers of examples.

    Parameters
    ----------
    examples : int
        Size of the training set, >= 1.
    batch_size : int
        Examples in a batch, >= 1; without replacement at most ``examples``.
    draws : int
        Number of batches, >= 1. They are independent of each other.
    replacement : bool
        Whether an example may occur more than once in a batch.
    seed : int or numpy.random.SeedSequence
        Seed, >= 0. More draws with one seed begin with the same batches.

    Returns
    -------
    array of int, shape (draws, batch_size)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> draw_batches(5, 5, draws=2, seed=0).sum(axis=1)
    array([10, 10])
    """
    check_batch_size("draw_batches", batch_size, examples, replacement)
    return _drawn(examples, batch_size, draws, replacement, generator(seed, "measured batches"))


@checked(**_DRAWING)
def fresh_batches(
    examples: int, batch_size: int, *, draws: int, replacement: bool = False, seed: int | np.random.SeedSequence
) -> Callable[[Objective], NDArray[np.int64]]:
    """New batches at every call: what an instrument takes as ``batches`` when it is used along a run.

    The same batches at every recorded step would make the errors of all steps one and the same. Make a new one for
    every run: it counts its calls.

    Parameters
    ----------
    examples, batch_size, draws, replacement, seed
        As for :func:`draw_batches`.

    Returns
    -------
    callable
        ``batches(objective)``, an index array of shape (draws, batch_size); the objective is not looked at.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> rows = fresh_batches(100, 2, draws=3, seed=0)
    >>> bool((rows(None) == rows(None)).all())
    False
    """
    check_batch_size("fresh_batches", batch_size, examples, replacement)
    random = generator(seed, "measured batches")

    def batches(objective: Objective) -> NDArray[np.int64]:
        return _drawn(examples, batch_size, draws, replacement, random)

    return batches


def index_rows(owner: str, batches: IndexRows, objective: Objective, least: int = 1) -> NDArray[np.int64]:
    """The batches of a measurement, checked against the data."""
    rows = batches(objective) if callable(batches) else batches
    found: NDArray[np.int64] = arguments.index_rows.check(owner, "batches", rows)
    if found.max() >= objective.examples:
        raise complain(owner, "batches", f"example numbers in 0..{objective.examples - 1}", int(found.max()))
    if len(found) < least:
        raise complain(owner, "batches", f"at least {least} batches", f"shape {found.shape}")
    return found


def direction_columns(owner: str, directions: Directions, objective: Objective) -> Array:
    """Directions as columns, checked against the network."""
    given = arguments.columns.check(owner, "directions", directions(objective) if callable(directions) else directions)
    arguments.length(owner, "directions", given, objective.size, "parameters")
    return np.asarray(given.reshape(objective.size, -1))


def mean_and_error(values: Array) -> tuple[Array, Array]:
    """Mean over draws (the first axis) and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def deviation_and_error(values: Array) -> tuple[Array, Array]:
    """Standard deviation over draws and its standard error, by the delta method from the fourth moment."""
    centred = values - values.mean(axis=0)
    variance = (centred**2).sum(axis=0) / (len(values) - 1)
    error = np.sqrt(np.maximum((centred**4).mean(axis=0) - variance**2, 0) / len(values))
    deviation = np.sqrt(variance)
    return deviation, np.divide(error, 2 * deviation, out=np.zeros_like(error), where=deviation > 0)


def ratio_and_error(numerators: Array, denominators: Array) -> tuple[Any, Any]:
    """Ratio of two means over the same draws and its standard error by the delta method."""
    value = ratio(numerators.mean(), denominators.mean())
    residual = numerators - value * denominators
    return value, ratio(residual.std(ddof=1) / np.sqrt(len(residual)), np.abs(denominators.mean()))
