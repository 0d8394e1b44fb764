"""Ensembles of mini-batch quadratics: many cells of a sweep, many replicas.

``steps`` draws every mini-batch; ``jumps`` draws the recorded points alone, from their exact joint law.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate.quadratic._cells import BLOCK, Floats, Integers, Method, Words, row
from sgdynamics.simulate.quadratic._jumps import compose, room_for_jumps, run_jumps
from sgdynamics.simulate.quadratic._step_map import Modes
from sgdynamics.simulate.quadratic._steps import run_steps


def run(
    schedule: Floats,
    momentum: Floats,
    curvature: Floats,
    variance: Floats,
    start: Floats,
    multiplicity: Floats,
    average: Floats | None = None,
    *,
    key: Words,
    replicas: Integers,
    record: Integers,
    nesterov: bool,
    by_jumps: bool,
) -> tuple[Floats, Floats]:
    """Error and excess risk, shapes (..., replica, step, mode) and (..., replica, step), over broadcast cells."""
    momentum = np.asarray(momentum)[..., None]
    average = np.empty(0) if average is None else average
    with np.errstate(all="ignore"):
        per_mode = (curvature, np.sqrt(variance), start, 0.5 * multiplicity * curvature)
    shape = np.broadcast_shapes(*(array.shape[:-1] for array in (schedule, average, momentum, *per_mode)))
    count = curvature.shape[-1]
    error = np.empty((*shape, replicas.size, record.size, count))
    risk = np.zeros((*shape, replicas.size, record.size))  # to which that of every pair of modes is added
    indices = replicas.astype(np.uint64)

    composing: list[Callable[[], None]] = []
    drawing: list[Callable[[], None]] = []
    for cell in np.ndindex(shape):
        modes = Modes(*(row(array, cell) for array in per_mode))
        method = Method(float(row(momentum, cell)[0]), nesterov)
        rates, weights = row(schedule, cell), row(average, cell)
        draw: Callable[..., None]
        if by_jumps:
            jumps = room_for_jumps(record.size, count, method)
            composing.append(functools.partial(compose, record, weights, rates, modes, method, jumps))
            draw = functools.partial(run_jumps, key, jumps=jumps, modes=modes, method=method)
        else:
            draw = functools.partial(
                run_steps, key, record=record, rates=rates, weights=weights, modes=modes, method=method
            )
        drawing += [
            functools.partial(draw, indices[block], error=error[cell][block], risk=risk[cell][block])
            for block in slices(replicas.size, BLOCK)
        ]
    run_all(composing)
    run_all(drawing)
    return error, risk
