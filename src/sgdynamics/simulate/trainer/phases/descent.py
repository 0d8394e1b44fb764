"""Full-batch gradient descent of one network, until it ends or blows up, and what is followed along it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.curvature import iterative
from sgdynamics.simulate.trainer.network import Network, network
from sgdynamics.simulate.trainer.objective import Objective

__all__ = [
    "START_TOLERANCE",
    "TOLERANCE",
    "Eigenpair",
    "descent",
    "last",
    "losses",
    "peak_on_segment",
    "sharpness",
    "start_network",
    "top_eigenpair",
]

Array = NDArray[Any]

# Residuals of the searches for the top eigenvalue, relative to it. The start sets the learning rates.
START_TOLERANCE = 1e-4
TOLERANCE = 3e-3
# A search that has not ended after so many products is given up.
MOST = 2000
# Points of the straight segment from the start to the end of a run, besides the start itself.
SEGMENT = np.arange(1, 101) / 100


class Eigenpair(NamedTuple):
    """An eigenvalue and its eigenvector of length 1."""

    value: float
    vector: Array


def start_network(widths: Sequence[int], activation: str, start: str, seed: int) -> Network:
    """The network of a cell: weight matrices without biases in standard parametrisation."""
    net = network(widths, activation, biases=False, seed=seed)
    if start == "zero_output":
        net.weights[-1][:] = 0.0
    return net.at(net.flat())


def descent(here: Objective, rate: float, steps: int, limit: float) -> Iterator[tuple[float, Objective]]:
    """Loss and objective at the steps 0, 1, ..., ``steps``; it ends early where the loss passes the limit."""
    for step in range(steps + 1):
        if step < steps:
            value, slope = here.loss_and_gradient()
        else:
            value, slope = here.loss_value(), None
        if not value <= limit:  # NaN too
            return
        yield value, here
        if slope is not None:
            slope *= -rate
            slope += here.flat()
            here = here.at(slope)


def losses(start: Objective, rate: float, steps: int, limit: float) -> Array:
    """The loss by step, +inf from divergence on."""
    found = np.full(steps + 1, math.inf)
    for step, (value, _) in enumerate(descent(start, rate, steps, limit)):
        found[step] = value
    return found


def last(start: Objective, rate: float, steps: int, limit: float) -> Objective | None:
    """The objective after all steps; None if the run diverged."""
    for step, (_, here) in enumerate(descent(start, rate, steps, limit)):
        if step == steps:
            return here
    return None


def top_eigenpair(here: Objective, guess: Array | None, tolerance: float, at_least: float = -math.inf) -> Eigenpair:
    """The largest eigenvalue of the Hessian: NaN where it was not found, +inf where the Hessian overflows.

    One that is not ``at_least`` so large need not be found: the answer is then some smaller number.
    """
    start = None if guess is None else guess[:, None]
    found = iterative(here.products(), here.size, 1, tolerance, start, MOST, at_least)
    return Eigenpair(float(found.values[0]), found.vectors[:, 0])


def sharpness(
    start: Objective, rate: float, steps: int, limit: float, top: Eigenpair
) -> tuple[float, float, Objective | None]:
    """The largest eigenvalue of the Hessian, start included, the one after the last step, and the objective then.

    Where the run diverges they are +inf, and there is no last.
    """
    end = last(start, rate, steps, limit)
    if end is None:
        return math.inf, math.inf, None
    peak, now = top.value, top
    for step, (_, here) in enumerate(descent(start, rate, steps, limit)):
        if step == 0:
            continue
        # before the last step one that is no new peak need not be known
        found = top_eigenpair(here, now.vector, TOLERANCE, peak if step < steps else -math.inf)
        peak = float(np.maximum(peak, found.value))  # NaN stays
        now = found if math.isfinite(found.value) else Eigenpair(found.value, now.vector)
    return peak, now.value, end


def peak_on_segment(start: Objective, end: Objective) -> float:
    """The largest loss on the straight segment between two weights, the start left out."""
    here, way = start.flat(), end.flat() - start.flat()
    return max(float(start.at(here + share * way).loss_value()) for share in SEGMENT)
