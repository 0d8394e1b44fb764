r"""How fast products of random curvatures grow."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import (
    Numeric,
    checked,
    complain,
    describe_seed,
    flag,
    instance_of,
    integer,
    nonnegative,
    replica_indices,
    seeds,
    unit_interval,
)
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._streams import Seed, State, normal_pair, open_stream, stream_key
from sgdynamics.simulate.quadratic._batches import gradient_of
from sgdynamics.simulate.quadratic._cells import BLOCK, Floats, Integers, Method, Words, swept
from sgdynamics.simulate.quadratic._coupled import advance
from sgdynamics.simulate.quadratic._problems import Problem, problem_of

__all__ = ["top_lyapunov_exponent"]

Model: TypeAlias = FullQuadratic | FiniteSumQuadratic | GaussianLeastSquares

# Direction pairs: those of an ensemble are others, so that the two never share a word.
_BATCHES, _DIRECTION = np.uint64(1), np.uint64(2)

# One step more for every so many counted ones, before them, in which the state turns to the direction that grows most.
_SETTLING = 10


@kernel
def _growth(
    batch_gradient: Callable[..., State],
    batches: Any,
    key: Words,
    replicas: Words,
    size: int,
    rate: float,
    settling: int,
    steps: int,
    method: Method,
    out: Floats,
) -> None:
    """Mean logarithm per step of the factor by which the largest entry of the state grows."""
    point, memory, ahead, gradient = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    for r in range(replicas.size):
        direction = open_stream(key, replicas[r], _DIRECTION)
        for i in range(size):
            point[i], _, direction = normal_pair(direction)
            memory[i] = point[i] if method.nesterov else 0.0
        state = open_stream(key, replicas[r], _BATCHES)
        total = 0.0
        for t in range(settling + steps):
            state = advance(batch_gradient, batches, state, t, rate, method, point, memory, ahead, gradient)
            largest = 0.0
            for i in range(size):
                remembered = abs(memory[i]) if method.momentum > 0.0 else 0.0
                for entry in (abs(point[i]), remembered):
                    if not entry <= largest:  # also where it is no number: that is a difference of infinities
                        largest = entry if math.isfinite(entry) else math.inf
            if largest == 0.0 or largest == math.inf:
                total = math.log(largest)
                break
            for i in range(size):  # at every step, so that nothing ever leaves the range of floats
                point[i] /= largest
                memory[i] /= largest
            if t >= settling:
                total += math.log(largest)
        out[r] = total / steps


def _run(
    learning_rate: Floats,
    momentum: Floats,
    *,
    problem: Problem,
    key: Words,
    replicas: Integers,
    steps: int,
    nesterov: bool,
) -> tuple[Floats, Floats]:
    """Mean over replicas and its standard error, over broadcast cells."""
    rates, momenta = np.broadcast_arrays(learning_rate, momentum)
    exponents = np.empty((*rates.shape, replicas.size))
    indices = replicas.astype(np.uint64)

    def task(cell: tuple[int, ...], block: slice) -> None:
        method = Method(float(momenta[cell]), nesterov)
        _growth(
            gradient_of(problem.batches),
            problem.batches.with_room(),
            key,
            indices[block],
            problem.start.size,
            float(rates[cell]),
            steps // _SETTLING,
            steps,
            method,
            exponents[cell][block],
        )

    blocks = list(slices(replicas.size, BLOCK))
    run_all(functools.partial(task, cell, block) for cell in np.ndindex(rates.shape) for block in blocks)
    finite = np.asarray(np.isfinite(exponents).all(axis=-1, keepdims=True))
    known = np.where(finite, exponents, 0.0)
    error = known.std(axis=-1, ddof=1) / math.sqrt(replicas.size)
    # a product that vanishes, or leaves the range of floats, does so in almost every run that is long enough
    mean = np.where(finite[..., 0], known.mean(axis=-1), exponents.max(axis=-1))
    return mean, error


@checked(
    model=instance_of(FullQuadratic, FiniteSumQuadratic, GaussianLeastSquares),
    learning_rate=nonnegative,
    steps=integer(1),
    replicas=replica_indices,
    seed=seeds,
    momentum=unit_interval,
    nesterov=flag,
)
def top_lyapunov_exponent(
    model: Model,
    learning_rate: Numeric,
    *,
    steps: int,
    replicas: Numeric,
    seed: Seed,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
) -> xr.Dataset:
    r"""Growth rate of almost every run around a minimum that all batches share.

    .. math:: \gamma = \lim_{t \to \infty} \tfrac1t \log \|P_t \cdots P_1 s\|, \qquad P_t = I - \eta H_t

    and, with momentum, the matrix of the same step for the pair of the point and what the step remembers. Runs settle
    almost surely for :math:`\gamma < 0`, also where their second moment diverges.

    Parameters
    ----------
    model : FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Its centers and its label noise do not matter, its sampling does. Where all batches have one curvature the
        exponent is the logarithm of a spectral radius.
    learning_rate : Numeric
        :math:`\eta \ge 0`; a number, or a DataArray to sweep.
    steps : int
        Steps that are counted, after a tenth as many that are not, in which the direction of the start is forgotten.
    replicas : int or 1-D array of int
        How many independent products, or the indices of them; at least two.
    seed : int or SeedSequence
        All cells of a sweep meet the same batches.
    momentum : Numeric
        :math:`\beta` in [0, 1), as in :func:`ensemble`.
    nesterov : bool
        As in :func:`ensemble`.

    Returns
    -------
    Dataset
        ``lyapunov_exponent``, per step, the mean over the replicas, and its ``standard_error``. The exponent is -inf
        where products vanish, as they do if a batch of one direction has :math:`\eta h = 1`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Divided by its largest entry at every step, the state never leaves the range of floats. What the direction of
    the start and of the end leave is of order 1/steps. Runs on ``SGDYNAMICS_THREADS`` threads, or one per core, with
    the same bits for any number of them.

    Examples
    --------
    Curvatures 1/2 and 3/2 at rate 2: :math:`\tfrac12 \log 0 + \tfrac12 \log 2`; at rate 8/3 the edge:

    >>> import xarray as xr
    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic
    >>> rates = xr.DataArray([2.0, 2.4, 8 / 3, 3.0], dims="learning_rate")
    >>> found = top_lyapunov_exponent(FiniteSumQuadratic([0.5, 1.5]), rates, steps=1000, replicas=200, seed=0)
    >>> found.lyapunov_exponent.values.round(1)
    array([-inf, -0.3,  0. ,  0.3])
    """
    if replicas.size < 2:
        raise complain("top_lyapunov_exponent", "replicas", "at least two, for a standard error", replicas.tolist())
    problem = problem_of(model).without_noise()
    exponent, error = xr.apply_ufunc(
        _run,
        swept("top_lyapunov_exponent", "learning_rate", learning_rate, None),
        swept("top_lyapunov_exponent", "momentum", momentum, None),
        output_core_dims=[[], []],
        kwargs={
            "problem": problem,
            "key": stream_key(seed, problem.purpose),
            "replicas": replicas,
            "steps": steps,
            "nesterov": nesterov,
        },
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
    )
    exponent.attrs = {"long_name": "top Lyapunov exponent", "units": "1/step"}
    error.attrs = {"long_name": "standard error of the top Lyapunov exponent", "units": "1/step"}
    return xr.Dataset(
        {"lyapunov_exponent": exponent, "standard_error": error},
        attrs={"source": "derived", "seed": describe_seed(seed), "version": sgdynamics.__version__},
    )
