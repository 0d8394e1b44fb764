"""What a step does between its matrix products, in given arrays: biases, activations, their slopes, softmax, update.

A product of a mini-batch takes as long as a few of NumPy's loops over it. Each function here, as it stands, is such
loops; where there is Numba, real numbers go through one compiled loop of the same name and arguments instead, see
:mod:`sgdynamics.simulate.trainer.fused`. The two differ by the rounding of tanh, of the exponential and of the sum of
a row, and in nothing else.

Arrays of values are (examples, width) or (runs, examples, width), and those of biases (width,) or (runs, width); biases
of None are none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@functools.cache
def kernels() -> ModuleType | None:
    """The compiled loops; loaded by the first step, because importing the trainer must not wait for Numba."""
    try:
        import numba
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return None
    from sgdynamics.simulate.trainer import fused

    return fused


def compiled_where_possible(plain: Callable[..., None]) -> Callable[..., None]:
    """The compiled loop of the same name for real numbers that lie side by side, the function itself for others.

    The first argument decides; the function itself stays within reach as ``__wrapped__``.
    """
    name = plain.__name__

    @functools.wraps(plain)
    def chosen(first: Array, *others: Any) -> None:
        found = kernels() if first.dtype.char == "d" and first.flags.c_contiguous else None
        (plain if found is None else getattr(found, name))(first, *others)

    return chosen


def _add_biases(z: Array, biases: Array | None) -> None:
    if biases is not None:
        np.add(z, biases[..., None, :], z)


def _sum_examples(delta: Array, sums: Array | None) -> None:
    if sums is not None:
        np.add.reduce(delta, axis=-2, out=sums)


def enter_linear(z: Array, biases: Array | None) -> None:
    """From z to z + b."""
    _add_biases(z, biases)


def leave_linear(delta: Array, a: Array, sums: Array | None) -> None:
    """The sums of delta over examples: the derivatives with respect to the biases."""
    _sum_examples(delta, sums)


@compiled_where_possible
def enter_tanh(z: Array, biases: Array | None) -> None:
    """From z to a = tanh(z + b)."""
    _add_biases(z, biases)
    np.tanh(z, z)


@compiled_where_possible
def leave_tanh(delta: Array, a: Array, sums: Array | None) -> None:
    """From delta to delta (1 - a²), and its sums over examples; uses up a."""
    np.multiply(a, a, a)
    np.subtract(1.0, a, a)
    np.multiply(delta, a, delta)
    _sum_examples(delta, sums)


@compiled_where_possible
def enter_relu(z: Array, biases: Array | None) -> None:
    """From z to a, what is positive of z + b; the real part decides."""
    _add_biases(z, biases)
    np.multiply(z, z.real > 0, z)


@compiled_where_possible
def leave_relu(delta: Array, a: Array, sums: Array | None) -> None:
    """From delta to delta where a is positive, and its sums over examples."""
    np.multiply(delta, a.real > 0, delta)
    _sum_examples(delta, sums)


def residual(z: Array, biases: Array | None, targets: Array, slope: Array, totals: Array) -> None:
    """From z to z + b, and that minus the targets as the slope."""
    _add_biases(z, biases)
    np.subtract(z, targets, slope)


@compiled_where_possible
def softmax_residual(z: Array, biases: Array | None, targets: Array, slope: Array, totals: Array) -> None:
    """From z to z + b minus the largest of its row, by real parts; the softmax of a row minus its targets as the slope.

    Totals (..., examples, 1) become the sums of the exponentials of what is left in z: the shift leaves the loss
    unchanged and keeps them finite.
    """
    _add_biases(z, biases)
    largest = totals.real
    np.maximum.reduce(z.real, axis=-1, keepdims=True, out=largest)
    np.subtract(z, largest, z)
    np.exp(z, slope)
    np.add.reduce(slope, axis=-1, keepdims=True, out=totals)
    np.divide(slope, totals, slope)
    np.subtract(slope, targets, slope)


@compiled_where_possible
def average(delta: Array, examples: int, sums: Array | None) -> None:
    """From delta to delta over the number of examples, and its sums over them."""
    np.divide(delta, examples, delta)
    _sum_examples(delta, sums)


@compiled_where_possible
def descend(weights: Array, gradient: Array, rate: float | Array) -> None:
    """From w to w - rate g, rates of several runs as (runs, 1); uses up g."""
    np.multiply(gradient, rate, gradient)
    np.subtract(weights, gradient, weights)


@compiled_where_possible
def roll(velocity: Array, weights: Array, gradient: Array, beta: float, rate: float | Array) -> None:
    """From u to beta u + g, then from w to w - rate u, rates as in :func:`descend`; uses up g."""
    np.multiply(velocity, beta, velocity)
    np.add(velocity, gradient, velocity)
    np.multiply(velocity, rate, gradient)
    np.subtract(weights, gradient, weights)


@compiled_where_possible
def add_decay(gradient: Array, weights: Array, decay: float, spare: Array) -> None:
    """From g to g + decay w; uses up the spare array."""
    np.multiply(weights, decay, spare)
    np.add(gradient, spare, gradient)
