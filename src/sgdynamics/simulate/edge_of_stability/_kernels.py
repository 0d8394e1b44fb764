"""One step of each model, and the kernel that iterates it over many orbits, abreast.

A step takes two parameters, the learning rate and four numbers, and returns four; a model with fewer leaves the rest
alone. The loop over orbits is the inner one, and the compiler makes vector instructions of it, but for the hyperbolic
tangent, which is a call.
"""

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

# Steps of one orbit before it is the next one's turn, and steps between two looks at whether any is left.
UNROLLED = 4
PATIENCE = 64

Four: TypeAlias = tuple[float, float, float, float]
Step: TypeAlias = Callable[[float, float, float, float, float, float, float], Four]


def _product(slope: Callable[[float, float], float]) -> Step:
    """Of an outer function, given its slope."""

    @inlined
    def step(target: float, unused: float, rate: float, x: float, y: float, z: float, w: float) -> Four:
        turn = slope(target, x * y)
        return x - rate * y * turn, y - rate * x * turn, z, w

    return step


@inlined
def _square(target: float, z: float) -> float:
    return z - target


@inlined
def _log_cosh(target: float, z: float) -> float:
    return math.tanh(z - target)


@inlined
def _square_root(target: float, z: float) -> float:
    r = z - target
    return r / math.sqrt(1.0 + r * r)


@inlined
def _quartic(target: float, z: float) -> float:
    return z * (z - target) * (z + target)


@inlined
def _four_factors(target: float, unused: float, rate: float, x: float, y: float, z: float, w: float) -> Four:
    turn = rate * (x * y * z * w - target)
    return x - turn * (y * z * w), y - turn * (x * z * w), z - turn * (x * y * w), w - turn * (x * y * z)


@inlined
def _self_stabilization(
    sharpening: float, restoring: float, rate: float, x: float, curvature: float, asymmetry: float, w: float
) -> Four:
    turn = (1.0 - rate * curvature) * x - 1.5 * rate * asymmetry * x * x
    return turn, curvature + rate * (sharpening - restoring * x * x / 2.0), asymmetry, w


@inlined
def _second_order(one: float, other: float, rate: float, residual: float, ntk: float, moment: float, w: float) -> Four:
    total, product = one + other, one * other
    second = total * moment - product * ntk
    third = total * second - product * moment
    turn = rate * residual
    return (
        residual - turn * ntk + 0.5 * turn * turn * moment,
        ntk - 2.0 * turn * moment + turn * turn * second,
        moment - 2.0 * turn * second + turn * turn * third,
        w,
    )


@inlined
def _within(a: float, b: float, c: float, d: float) -> bool:
    return (abs(a) <= FAR) & (abs(b) <= FAR) & (abs(c) <= FAR) & (abs(d) <= FAR)  # NaN is not


def _orbits_of(step: Step) -> Kernel:
    """The kernel that iterates a step."""

    @inlined
    def careful(
        one: float, other: float, rate: float, x: float, y: float, z: float, w: float, age: float
    ) -> tuple[float, float, float, float, float]:
        """A step and the number of those taken; of a diverged orbit the first number is infinite and stays so."""
        a, b, c, d = step(one, other, rate, x, y, z, w)
        alive = (x < math.inf) & _within(a, b, c, d)
        return (
            a if alive else math.inf,
            b if alive else y,
            c if alive else z,
            d if alive else w,
            age + 1.0 if alive else age,
        )

    @kernel
    def orbits(
        parameters: Floats, starts: Floats, rates: Floats, record: Integers, path: Floats, diverged: Integers
    ) -> None:
        count, size = starts.shape
        one, other = parameters[0], parameters[1]
        x, y = starts[:, 0].copy(), starts[:, 1].copy()
        # an array assigned to a slice would make Numba compile a library of strings, for the error of other shapes
        z = starts[:, 2].copy() if size > 2 else np.zeros(count)
        w = starts[:, 3].copy() if size > 3 else np.zeros(count)
        rate, age = rates.copy(), np.zeros(count)
        t = 0
        for at in range(record.size):
            while t < record[at]:
                look = min(t + PATIENCE, record[at])
                while t < look:
                    if t + UNROLLED <= look:
                        t += UNROLLED
                        for i in range(count):
                            a, b, c, d, old = x[i], y[i], z[i], w[i], age[i]
                            for _ in range(UNROLLED):
                                a, b, c, d, old = careful(one, other, rate[i], a, b, c, d, old)
                            x[i], y[i], z[i], w[i], age[i] = a, b, c, d, old
                    else:
                        t += 1
                        for i in range(count):
                            x[i], y[i], z[i], w[i], age[i] = careful(
                                one, other, rate[i], x[i], y[i], z[i], w[i], age[i]
                            )
                if np.isinf(x).all():
                    t = record[-1]
            for i in range(count):
                alive = x[i] < math.inf
                path[i, at, 0] = x[i]
                path[i, at, 1] = y[i] if alive else math.inf
                if size > 2:
                    path[i, at, 2] = z[i] if alive else math.inf
                if size > 3:
                    path[i, at, 3] = w[i] if alive else math.inf
        for i in range(count):
            diverged[i] = -1 if x[i] < math.inf else int(age[i]) + 1

    return orbits


PRODUCT = {
    "square": _orbits_of(_product(_square)),
    "log_cosh": _orbits_of(_product(_log_cosh)),
    "square_root": _orbits_of(_product(_square_root)),
    "quartic": _orbits_of(_product(_quartic)),
}
four_factors = _orbits_of(_four_factors)
self_stabilization = _orbits_of(_self_stabilization)
second_order = _orbits_of(_second_order)
