r"""Random starts: whole matrices, and the tangent kernel by its exact law.

The kernel :math:`K = \sum_l q_{l-1} |b_l|^2` (see ``theory.deep_linear``) asks for no matrices. A Gaussian matrix that
has been applied to one vector is known in that direction only, so that with independent chi-squares

.. math:: q_l = q_{l-1}\, \chi^2_{n_l}/n_l, \qquad f^2 = q_{D-1} z^2, \qquad
    |b_{l-1}|^2 = \frac{f^2}{n_{l-1}\, q_{l-1}} + |b_l|^2\, \frac{\chi^2_{n_{l-1} - 1}}{n_{l-1}}, \qquad |b_D| = 1:

the gradient with respect to a layer is known along that layer, where it is the output itself, and independent of
everything before in all other directions.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import Numeric, checked, describe_seed, nonnegative, one, replica_indices, seeds
from sgdynamics.models.deep_linear._domains import all_widths, hidden_widths
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import Purpose, Seed, State, normal_pair, open_stream, stream_key

__all__ = ["initial_ntk", "initial_weights"]

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.uint64]

BLOCK = 64


@inlined
def _chi_square(count: int, state: State) -> tuple[float, State]:
    """A sum of ``count`` squared normals."""
    total = 0.0
    for _ in range(count // 2):
        left, right, state = normal_pair(state)
        total += left * left + right * right
    if count % 2:
        left, _unused, state = normal_pair(state)
        total += left * left
    return total, state


# Matrices are drawn from the streams of even numbers, one per layer, the law of the kernel from an odd one.
_LAW = np.uint64(1)


@kernel
def _ntk(key: Words, replicas: Words, widths: NDArray[np.int64], ntk: Floats, output: Floats) -> None:
    hidden = widths.size
    length = np.empty(hidden + 1)  # q
    for r in range(replicas.size):
        state = open_stream(key, replicas[r], _LAW)
        length[0] = 1.0
        for layer in range(hidden):
            square, state = _chi_square(widths[layer], state)
            length[layer + 1] = length[layer] * square / widths[layer]
        normal, _unused, state = normal_pair(state)
        f = math.sqrt(length[hidden]) * normal
        slope = 1.0  # |b|^2
        total = length[hidden]
        for layer in range(hidden - 1, -1, -1):
            square, state = _chi_square(widths[layer] - 1, state)
            slope = f * f / (widths[layer] * length[layer + 1]) + slope * square / widths[layer]
            total += length[layer] * slope
        ntk[r] = total
        output[r] = f


@kernel
def _matrices(key: Words, replicas: Words, layer: np.uint64, deviation: float, weights: Floats) -> None:
    size = weights.shape[1]
    for r in range(replicas.size):
        state = open_stream(key, replicas[r], layer + layer)
        for i in range(0, size, 2):
            left, right, state = normal_pair(state)
            weights[r, i] = deviation * left
            if i + 1 < size:
                weights[r, i + 1] = deviation * right


@checked(widths=hidden_widths, replicas=replica_indices, seed=seeds)
def initial_ntk(widths: Sequence[int], *, replicas: Numeric, seed: Seed) -> xr.Dataset:
    r"""The tangent kernel of random deep linear networks in NTK parametrisation, by its exact law.

    Parameters
    ----------
    widths : sequence of int
        Of the hidden layers; none of them for a network of depth 1.
    replicas : int or 1-D array of int
        How many networks, or their indices. A replica has the same bits whichever others are asked for.
    seed : int or SeedSequence

    Returns
    -------
    Dataset
        ``ntk`` and ``output`` (replica) of one output and one example with :math:`|x|^2` the number of inputs, which
        itself does not matter.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> start = initial_ntk([16, 16], replicas=100_000, seed=0)
    >>> round(float(start.ntk.mean()), 1), round(float((start.output**2).mean()), 1)
    (3.0, 1.0)
    """
    indices = replicas.astype(np.uint64)
    sizes = np.array(widths, np.int64)
    ntk, output = np.empty(indices.size), np.empty(indices.size)
    key = stream_key(seed, Purpose.DEEP_LINEAR_START)
    run_all(
        functools.partial(_ntk, key, indices[block], sizes, ntk[block], output[block])
        for block in slices(indices.size, BLOCK)
    )
    return xr.Dataset(
        {
            "ntk": ("replica", ntk, {"long_name": "tangent kernel at the start", "units": "1/learning rate"}),
            "output": ("replica", output, {"long_name": "output at the start", "units": "1"}),
        },
        coords={"replica": ("replica", replicas, {"long_name": "replica", "units": "1"})},
        attrs={"source": "derived", "seed": describe_seed(seed), "version": sgdynamics.__version__},
    )


@checked(widths=all_widths, replicas=replica_indices, seed=seeds, scale=one(nonnegative))
def initial_weights(widths: Sequence[int], *, replicas: Numeric, seed: Seed, scale: float = 1.0) -> tuple[Floats, ...]:
    r"""Random matrices in standard parametrisation: entries :math:`N(0, \text{scale}^2/\text{fan\_in})`.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden widths, outputs.
    replicas : int or 1-D array of int
        How many networks, or their indices. A replica has the same bits whichever others are asked for.
    seed : int or SeedSequence
    scale : float
        Factor on all weights, >= 0.

    Returns
    -------
    tuple of array, shapes (replica, fan_out, fan_in)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> [layer.shape for layer in initial_weights([3, 5, 2], replicas=10, seed=0)]
    [(10, 5, 3), (10, 2, 5)]
    """
    indices = replicas.astype(np.uint64)
    key = stream_key(seed, Purpose.DEEP_LINEAR_START)
    made = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        flat = np.empty((indices.size, fan_out * fan_in))
        deviation = float(scale) / math.sqrt(fan_in)
        run_all(
            functools.partial(_matrices, key, indices[block], np.uint64(layer), deviation, flat[block])
            for block in slices(indices.size, BLOCK)
        )
        made.append(flat.reshape(indices.size, fan_out, fan_in))
    return tuple(made)
