r"""Mini-batches of the models whose directions do not part: draw one, and say its gradient at a point.

Every kind of batch is a named tuple with room to work in, and a function
``gradient(batches, state, step, point, out) -> state`` that draws the batch of a step from its stream and writes

============  ===============================================  ==============================================
kind          gradient                                         draws of a step, in this order
============  ===============================================  ==============================================
``Centers``   :math:`H (e - R z)`                              :math:`z`: d normals
``Examples``  mean of :math:`H_i (e - R z) - f_i`              for each example its index and, where there is
                                                               center noise, :math:`z`: d normals
``Features``  mean of :math:`\phi (\phi \cdot e - \nu)`        for each example :math:`(\phi, \nu)`: d + 1
                                                               normals
============  ===============================================  ==============================================

Normals are drawn in pairs, and the last of an odd number is thrown away. An index takes one word, and now and then
another one (see ``whole_number``): its place in the stream depends on the earlier draws of its own replica alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from sgdynamics.simulate._kernel import inlined
from sgdynamics.simulate._streams import State, next_word, normal_pair, whole_number
from sgdynamics.simulate.quadratic._cells import Floats, Integers

# ---------------------------------------------------------------------------------------------------------------------
# Draws

# Typed, as in _streams: between a uint64 and a plain int Numba would fall back to float64.
_11 = np.uint64(11)
_UNIT = 2.0**-53


@inlined
def _fill_normals(out: Floats, count: int, state: State) -> State:
    """``count`` normals into the beginning of ``out``, which has room for one more."""
    for i in range(0, count, 2):
        out[i], out[i + 1], state = normal_pair(state)
    return state


@inlined
def _gaussian(root: Floats, out: Floats, state: State) -> State:
    """A Gaussian vector of covariance root root^T into the beginning of ``out``, which has room for one more."""
    size = root.shape[0]
    state = _fill_normals(out, size, state)
    for i in range(size - 1, -1, -1):  # backwards: a row needs the normals up to its own
        total = 0.0
        for j in range(i + 1):
            total += root[i, j] * out[j]
        out[i] = total
    return state


@inlined
def _add_product(matrices: Floats, which: int, vector: Floats, out: Floats) -> None:
    """One of some matrices times a vector, added to ``out``."""
    for i in range(vector.size):
        total = 0.0
        for j in range(vector.size):
            total += matrices[which, i, j] * vector[j]
        out[i] += total


# ---------------------------------------------------------------------------------------------------------------------
# One curvature, Gaussian centers


class Centers(NamedTuple):
    """Batches of one Hessian around Gaussian centers."""

    hessian: Floats  # (1, d, d)
    root: Floats  # (d, d), lower triangular: the covariance of a batch center is root root^T
    normals: Floats  # room for d + 1
    offset: Floats  # room for d

    def with_room(self) -> Centers:
        """The same batches with room of their own."""
        size = len(self.root)
        return self._replace(normals=np.empty(size + 1), offset=np.empty(size))


@inlined
def _centers_gradient(batches: Centers, state: State, step: int, point: Floats, out: Floats) -> State:
    """H (e - R z)."""
    state = _gaussian(batches.root, batches.normals, state)
    for i in range(point.size):
        batches.offset[i] = point[i] - batches.normals[i]
        out[i] = 0.0
    _add_product(batches.hessian, 0, batches.offset, out)
    return state


# ---------------------------------------------------------------------------------------------------------------------
# A finite set of examples


class Examples(NamedTuple):
    """Batches of ``batch_size`` out of n examples."""

    hessians: Floats  # (n, d, d), or (1, d, d) where all examples share one
    forces: Floats  # (n, d): H_i (c_i - minimiser)
    root: Floats  # (d, d), lower triangular, or (0, 0): the covariance of the center noise is root root^T
    cumulative: Floats  # (n,): probabilities summed up to each example, or (0,) where all are as likely
    batch_size: int
    epoch: int  # batches after which all examples are back; 0: each is back at once, with replacement
    order: Integers  # room for n
    normals: Floats  # room for d + 1
    offset: Floats  # room for d

    def with_room(self) -> Examples:
        """The same batches with room of their own."""
        count, size = self.forces.shape
        return self._replace(order=np.empty(count, np.int64), normals=np.empty(size + 1), offset=np.empty(size))


@inlined
def _with_replacement(batches: Examples, state: State, step: int, k: int) -> tuple[np.int64, State]:
    """The k-th example of the batch of a step: any of them."""
    return whole_number(np.uint64(batches.forces.shape[0]), state)


@inlined
def _by_probability(batches: Examples, state: State, step: int, k: int) -> tuple[np.int64, State]:
    """The k-th example of the batch of a step: the first whose summed probability exceeds a uniform number."""
    cumulative = batches.cumulative
    word, state = next_word(state)
    uniform = (word >> _11) * _UNIT
    low, high = 0, cumulative.size - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > uniform:
            high = middle
        else:
            low = middle + 1
    return np.int64(low), state


@inlined
def _without_replacement(batches: Examples, state: State, step: int, k: int) -> tuple[np.int64, State]:
    """The k-th example of the batch of a step: one that its epoch has not used."""
    order = batches.order
    if step == 0 and k == 0:
        for i in range(order.size):
            order[i] = i
    # a Fisher-Yates shuffle, as far as the batch needs it: from whatever order it starts, all results are as likely
    place = step % batches.epoch * batches.batch_size + k
    ahead, state = whole_number(np.uint64(order.size - place), state)
    example = order[place + ahead]
    order[place + ahead] = order[place]
    order[place] = example
    return example, state


@functools.cache
def _examples_gradient(draw: Callable[..., Any], shared: bool, noisy: bool) -> Callable[..., State]:
    """The gradient of ``Examples``, compiled for one kind of them.

    A test of the kind in every step is ten times slower: Numba then cannot see that no array is let go inside of the
    loops, and counts references to them all the way.
    """

    @inlined
    def gradient(batches: Examples, state: State, step: int, point: Floats, out: Floats) -> State:
        hessians, forces, offset, noise = batches.hessians, batches.forces, batches.offset, batches.normals
        size = point.size
        for i in range(size):
            out[i] = 0.0
            offset[i] = 0.0 if shared else point[i]
        for k in range(batches.batch_size):
            example, state = draw(batches, state, step, k)
            if noisy:
                state = _gaussian(batches.root, noise, state)
                for i in range(size):
                    offset[i] = (offset[i] if shared else point[i]) - noise[i]
            for i in range(size):
                out[i] -= forces[example, i]
            if not shared:
                _add_product(hessians, example, offset, out)
        for i in range(size):
            out[i] /= batches.batch_size
        if shared:  # the mean of the noise first: one product for the batch
            for i in range(size):
                offset[i] = point[i] + offset[i] / batches.batch_size
            _add_product(hessians, 0, offset, out)
        return state

    return gradient


# ---------------------------------------------------------------------------------------------------------------------
# Fresh Gaussian features


class Features(NamedTuple):
    """Batches of ``batch_size`` fresh examples of least squares."""

    deviation: Floats  # (d + 1,): of the features and of the label noise
    batch_size: int
    normals: Floats  # room for d + 2

    def with_room(self) -> Features:
        """The same batches with room of their own."""
        return self._replace(normals=np.empty(self.deviation.size + 1))


@inlined
def _features_gradient(batches: Features, state: State, step: int, point: Floats, out: Floats) -> State:
    """Mean of phi (phi . e - nu) over a batch."""
    size = point.size
    normals, deviation = batches.normals, batches.deviation
    for i in range(size):
        out[i] = 0.0
    for _ in range(batches.batch_size):
        state = _fill_normals(normals, size + 1, state)
        residual = -deviation[size] * normals[size]
        for i in range(size):
            normals[i] *= deviation[i]
            residual += normals[i] * point[i]
        for i in range(size):
            out[i] += residual * normals[i]
    for i in range(size):
        out[i] /= batches.batch_size
    return state


# ---------------------------------------------------------------------------------------------------------------------
# All of them

Batches: TypeAlias = Centers | Examples | Features


def gradient_of(batches: Batches) -> Callable[..., State]:
    """The function that draws a batch of this kind and writes its gradient."""
    if isinstance(batches, Centers):
        return _centers_gradient
    if isinstance(batches, Features):
        return _features_gradient
    equal = _without_replacement if batches.epoch else _with_replacement
    draw = _by_probability if batches.cumulative.size else equal
    return _examples_gradient(draw, len(batches.hessians) == 1, batches.root.size > 0)
