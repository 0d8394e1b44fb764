"""Step-by-step runs of the models whose directions do not part.

One loop for all of them: it is handed what a mini-batch is (see ``_batches``) and compiled for it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import State, open_stream
from sgdynamics.simulate.quadratic._batches import gradient_of
from sgdynamics.simulate.quadratic._cells import BLOCK, Floats, Integers, Method, Words, row
from sgdynamics.simulate.quadratic._problems import Problem

# Direction pair of the stream that batches are drawn from.
_BATCHES = np.uint64(0)


@inlined
def advance(
    batch_gradient: Callable[..., State],
    batches: Any,
    state: State,
    step: int,
    rate: float,
    method: Method,
    point: Floats,
    memory: Floats,
    ahead: Floats,
    gradient: Floats,
) -> State:
    """One step; ``memory`` is the velocity of heavy ball and the last point of Nesterov."""
    beta = method.momentum
    for i in range(point.size):
        ahead[i] = point[i] + beta * (point[i] - memory[i]) if method.nesterov else point[i]
    state = batch_gradient(batches, state, step, ahead, gradient)
    for i in range(point.size):
        if method.nesterov:
            memory[i] = point[i]
            point[i] = ahead[i] - rate * gradient[i]
        else:
            memory[i] = beta * memory[i] + gradient[i]
            point[i] -= rate * memory[i]
    return state


@inlined
def _record(curvature: Floats, values: Floats, replica: int, at: int, error: Floats, risk: Floats) -> None:
    total = 0.0
    for i in range(values.size):
        error[replica, at, i] = values[i] if math.isfinite(values[i]) else math.inf
        for j in range(values.size):
            total += curvature[i, j] * values[i] * values[j]
    # products that leave the range of floats may cancel to NaN
    risk[replica, at] = 0.5 * total if math.isfinite(total) else math.inf


@kernel
def _steps(
    batch_gradient: Callable[..., State],
    batches: Any,
    key: Words,
    replicas: Words,
    record: Integers,
    rates: Floats,
    weights: Floats,
    start: Floats,
    curvature: Floats,
    method: Method,
    error: Floats,
    risk: Floats,
) -> None:
    """Run every step; ``weights`` is empty or makes the averaged point, the one record at the last step."""
    size = start.size
    averaged = weights.size > 0
    point, memory, ahead, gradient, average = (
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
    )
    for r in range(replicas.size):
        state = open_stream(key, replicas[r], _BATCHES)
        for i in range(size):
            point[i] = start[i]
            memory[i] = start[i] if method.nesterov else 0.0
            average[i] = weights[0] * start[i] if averaged else 0.0
        t: Any = np.int64(0)  # for a plain 0, Numba would compile all that takes it a second time
        finite = True
        for at in range(record.size):
            while t < record[at]:
                if finite:
                    state = advance(batch_gradient, batches, state, t, rates[t], method, point, memory, ahead, gradient)
                    for i in range(size):
                        finite = finite and math.isfinite(point[i])
                    if not finite:  # infinity times a curvature of zero would be no number
                        point[:] = math.inf
                t += 1
                if averaged and weights[t] != 0.0:  # what the average leaves out may be infinite
                    for i in range(size):
                        average[i] += weights[t] * point[i]
            _record(curvature, average if averaged else point, r, at, error, risk)


def run(
    schedule: Floats,
    momentum: Floats,
    average: Floats | None = None,
    *,
    problem: Problem,
    key: Words,
    replicas: Integers,
    record: Integers,
    nesterov: bool,
) -> tuple[Floats, Floats]:
    """Error and excess risk, shapes (..., replica, step, mode) and (..., replica, step), over broadcast cells."""
    momentum = np.asarray(momentum)[..., None]
    average = np.empty(0) if average is None else average
    shape = np.broadcast_shapes(*(array.shape[:-1] for array in (schedule, average, momentum)))
    error = np.empty((*shape, replicas.size, record.size, problem.start.size))
    risk = np.empty((*shape, replicas.size, record.size))
    indices = replicas.astype(np.uint64)

    tasks: list[Callable[[], None]] = []
    for cell in np.ndindex(shape):
        method = Method(float(row(momentum, cell)[0]), nesterov)
        rates, weights = row(schedule, cell), row(average, cell)
        tasks += [
            functools.partial(
                _in_own_room,
                problem,
                key,
                indices[block],
                record,
                rates,
                weights,
                method,
                error[cell][block],
                risk[cell][block],
            )
            for block in slices(replicas.size, BLOCK)
        ]
    run_all(tasks)
    return error, risk


def _in_own_room(
    problem: Problem,
    key: Words,
    replicas: Words,
    record: Integers,
    rates: Floats,
    weights: Floats,
    method: Method,
    error: Floats,
    risk: Floats,
) -> None:
    """One block of replicas, with arrays to work in that no other block writes to."""
    _steps(
        gradient_of(problem.batches),
        problem.batches.with_room(),
        key,
        replicas,
        record,
        rates,
        weights,
        problem.start,
        problem.curvature,
        method,
        error,
        risk,
    )
