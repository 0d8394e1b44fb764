"""The loops between the matrix products of a step, compiled: what their namesakes in ``elementwise`` do, in one pass.

One call replaces several of NumPy's, and values are read and written once. Each number is made of the same numbers in
the same order wherever it stands, so that results depend neither on threads nor on how examples and runs are cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._vector_math import exp_of_negative, tanh

Array = NDArray[Any]
OfOne = Callable[[float], float]


@inlined
def _rectified(z: float) -> float:
    return z * (1.0 if z > 0 else 0.0)  # a product, which keeps what is not a number


@inlined
def _tanh_slope(a: float) -> float:
    return 1.0 - a * a


@inlined
def _relu_slope(a: float) -> float:
    return 1.0 if a > 0 else 0.0


# Loops where an assignment would do: those to arrays take the compiler seconds.
@inlined
def _clear(sums: Array) -> None:
    for j in range(sums.size):
        sums[j] = 0.0


@inlined
def _copy(own: Array, sums: Array) -> None:
    for j in range(sums.size):
        sums[j] = own[j]


@inlined
def _enter_layer(activation: OfOne, z: Array, biases: Array | None) -> None:
    examples, width = z.shape
    for i in range(examples):
        for j in range(width):
            if biases is None:
                z[i, j] = activation(z[i, j])
            else:
                z[i, j] = activation(z[i, j] + biases[j])


@inlined
def _enter(activation: OfOne, z: Array, biases: Array | None) -> None:
    if z.ndim == 2:
        _enter_layer(activation, z, biases)
    else:
        for run in range(len(z)):
            # a copy lies side by side for certain, which vectors need
            _enter_layer(activation, z[run], None if biases is None else biases[run].copy())


@inlined
def _leave_layer(slope: OfOne, delta: Array, a: Array, sums: Array | None) -> None:
    examples, width = delta.shape
    if sums is not None:
        _clear(sums)
    for i in range(examples):
        for j in range(width):
            here = delta[i, j] * slope(a[i, j])
            delta[i, j] = here
            if sums is not None:
                sums[j] += here


@inlined
def _leave(slope: OfOne, delta: Array, a: Array, sums: Array | None) -> None:
    if delta.ndim == 2:
        _leave_layer(slope, delta, a, sums)
    else:
        own = np.empty(delta.shape[2])
        for run in range(len(delta)):
            _leave_layer(slope, delta[run], a[run], None if sums is None else own)
            if sums is not None:
                _copy(own, sums[run])


@kernel
def enter_tanh(z: Array, biases: Array | None) -> None:
    """From z to a = tanh(z + b)."""
    _enter(tanh, z, biases)


@kernel
def leave_tanh(delta: Array, a: Array, sums: Array | None) -> None:
    """From delta to delta (1 - a²), and its sums over examples."""
    _leave(_tanh_slope, delta, a, sums)


@kernel
def enter_relu(z: Array, biases: Array | None) -> None:
    """From z to a, what is positive of z + b."""
    _enter(_rectified, z, biases)


@kernel
def leave_relu(delta: Array, a: Array, sums: Array | None) -> None:
    """From delta to delta where a is positive, and its sums over examples."""
    _leave(_relu_slope, delta, a, sums)


@inlined
def _softmax_rows(z: Array, biases: Array | None, targets: Array, slope: Array, totals: Array) -> None:
    examples, classes = z.shape
    for i in range(examples):
        largest = -math.inf
        for j in range(classes):
            if biases is not None:
                z[i, j] += biases[j]
            if z[i, j] > largest or z[i, j] != z[i, j]:  # a NaN stays the largest
                largest = z[i, j]
        for j in range(classes):
            z[i, j] -= largest
    # rows are short: over all of them at once, vectors are full
    shifted, exponentials = z.reshape(-1), slope.reshape(-1)
    for k in range(shifted.size):
        exponentials[k] = exp_of_negative(shifted[k])
    for i in range(examples):
        total = 0.0
        for j in range(classes):
            total += slope[i, j]
        totals[i, 0] = total
        for j in range(classes):
            slope[i, j] = slope[i, j] / total - targets[i, j]


@kernel
def softmax_residual(z: Array, biases: Array | None, targets: Array, slope: Array, totals: Array) -> None:
    """From z to z + b minus the largest of its row; the softmax of a row minus its targets; sums of exponentials."""
    if z.ndim == 2:
        _softmax_rows(z, biases, targets, slope, totals)
    else:
        for run in range(len(z)):
            own = None if biases is None else biases[run].copy()
            _softmax_rows(z[run], own, targets[run], slope[run], totals[run])


@inlined
def _average_layer(delta: Array, examples: int, sums: Array | None) -> None:
    if sums is not None:
        _clear(sums)
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            delta[i, j] /= examples
            if sums is not None:
                sums[j] += delta[i, j]


@kernel
def average(delta: Array, examples: int, sums: Array | None) -> None:
    """From delta to delta over the number of examples, and its sums over them."""
    if delta.ndim == 2:
        _average_layer(delta, examples, sums)
    else:
        own = np.empty(delta.shape[2])
        for run in range(len(delta)):
            _average_layer(delta[run], examples, None if sums is None else own)
            if sums is not None:
                _copy(own, sums[run])


@kernel
def descend(weights: Array, gradient: Array, rate: Any) -> None:
    """From w to w - rate g."""
    if weights.ndim == 1:
        for k in range(weights.size):
            weights[k] -= rate * gradient[k]
    else:
        for run in range(len(weights)):
            own = rate[run, 0]
            for k in range(weights.shape[1]):
                weights[run, k] -= own * gradient[run, k]


@kernel
def _roll_run(velocity: Array, weights: Array, gradient: Array, beta: float, rate: float) -> None:
    for k in range(weights.size):
        here = velocity[k] * beta + gradient[k]
        velocity[k] = here
        weights[k] -= here * rate


@kernel
def roll(velocity: Array, weights: Array, gradient: Array, beta: float, rate: Any) -> None:
    """From u to beta u + g, then from w to w - rate u."""
    if weights.ndim == 1:
        _roll_run(velocity, weights, gradient, beta, rate)
    else:
        for run in range(len(weights)):
            _roll_run(velocity[run], weights[run], gradient[run], beta, rate[run, 0])


@kernel
def add_decay(gradient: Array, weights: Array, decay: float, spare: Array) -> None:
    """From g to g + decay w."""
    for k in range(weights.size):
        gradient[k] += weights[k] * decay
