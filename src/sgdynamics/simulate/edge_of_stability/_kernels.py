"""One step of each model, and the kernel that iterates it over many orbits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined, kernel

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Kernel: TypeAlias = Callable[[Floats, Floats, Floats, Integers, Floats, Integers], None]

# A state beyond this has diverged; its eighth power, which a loss may hold, is still a float.
FAR = 1e30

SQUARE, LOG_COSH, SQUARE_ROOT, QUARTIC = range(4)
OUTER = {"square": SQUARE, "log_cosh": LOG_COSH, "square_root": SQUARE_ROOT, "quartic": QUARTIC}


@inlined
def _slope(outer: float, target: float, z: float) -> float:
    if outer == QUARTIC:
        return z * (z - target) * (z + target)
    r = z - target
    if outer == LOG_COSH:
        return math.tanh(r)
    if outer == SQUARE_ROOT:
        return r / math.sqrt(1.0 + r * r)
    return r


@inlined
def _product(parameters: Floats, rate: float, state: Floats) -> None:
    x, y = state[0], state[1]
    slope = _slope(parameters[0], parameters[1], x * y)
    state[0] = x - rate * y * slope
    state[1] = y - rate * x * slope


@inlined
def _four_factors(parameters: Floats, rate: float, state: Floats) -> None:
    x, y, z, w = state[0], state[1], state[2], state[3]
    turn = rate * (x * y * z * w - parameters[0])
    state[0] = x - turn * (y * z * w)
    state[1] = y - turn * (x * z * w)
    state[2] = z - turn * (x * y * w)
    state[3] = w - turn * (x * y * z)


@inlined
def _self_stabilization(parameters: Floats, rate: float, state: Floats) -> None:
    x, curvature = state[0], state[1]
    state[0] = (1.0 - rate * curvature) * x
    state[1] = curvature + rate * (parameters[0] - parameters[1] * x * x / 2.0)


@inlined
def _second_order(parameters: Floats, rate: float, state: Floats) -> None:
    residual, ntk, moment = state[0], state[1], state[2]
    total, product = parameters[0] + parameters[1], parameters[0] * parameters[1]
    second = total * moment - product * ntk
    third = total * second - product * moment
    turn = rate * residual
    state[0] = residual - turn * ntk + 0.5 * turn * turn * moment
    state[1] = ntk - 2.0 * turn * moment + turn * turn * second
    state[2] = moment - 2.0 * turn * second + turn * turn * third


def _orbits_of(step: Callable[[Floats, float, Floats], None]) -> Kernel:
    """The kernel that iterates a step."""

    @kernel
    def orbits(
        parameters: Floats, starts: Floats, rates: Floats, record: Integers, path: Floats, diverged: Integers
    ) -> None:
        size = starts.shape[1]
        state = np.empty(size)
        for orbit in range(starts.shape[0]):
            state[:] = starts[orbit]
            diverged[orbit] = -1
            t = 0
            for at in range(record.size):
                while t < record[at] and diverged[orbit] < 0:
                    step(parameters, rates[orbit], state)
                    t += 1
                    for i in range(size):
                        if not abs(state[i]) <= FAR:  # NaN too
                            diverged[orbit] = t
                for i in range(size):
                    path[orbit, at, i] = state[i] if diverged[orbit] < 0 else math.inf

    return orbits


product = _orbits_of(_product)
four_factors = _orbits_of(_four_factors)
self_stabilization = _orbits_of(_self_stabilization)
second_order = _orbits_of(_second_order)
