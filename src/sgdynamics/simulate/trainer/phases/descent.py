"""Full-batch gradient descent of one network, until it ends or blows up, and what is followed along it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.trainer.curvature import iterative
from sgdynamics.simulate.trainer.derivatives import HessianProducts, Objective
from sgdynamics.simulate.trainer.network import Network, network
from sgdynamics.simulate.trainer.passes import value_and_gradient

__all__ = [
    "START_TOLERANCE",
    "TOLERANCE",
    "Eigenpair",
    "descent",
    "last_network",
    "loss_of_zero_outputs",
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


def start_network(inputs: int, outputs: int, depth: int, width: int, activation: str, start: str, seed: int) -> Network:
    """The network of a cell: ``depth`` weight matrices without biases in standard parametrisation."""
    net = network([inputs, *[width] * (depth - 1), outputs], activation, biases=False, seed=seed)
    if start == "zero_output":
        net.weights[-1][:] = 0.0
    return net.at(net.flat())


def loss_of_zero_outputs(what: Objective) -> float:
    """The loss of a network that says nothing."""
    total, _ = what.loss.value_and_slope(np.zeros_like(what.targets), what.targets)
    return float(total / what.examples)


def descent(what: Objective, net: Network, rate: float, steps: int, limit: float) -> Iterator[tuple[float, Network]]:
    """Loss and network at the steps 0, 1, ..., ``steps``; it ends early where the loss passes the limit."""
    for step in range(steps + 1):
        if step < steps:
            slope = np.empty(net.size)
            into = net.views(slope)
            value = float(value_and_gradient(net.layers(), net.hidden, what.loss, what.x, what.targets, into))
        else:
            value = what.value(net)
        if not value <= limit:  # NaN too
            return
        yield value, net
        if step < steps:
            slope *= -rate
            slope += net.flat()
            net = net.at(slope)


def losses(what: Objective, net: Network, rate: float, steps: int, limit: float) -> Array:
    """The loss by step, +inf from divergence on."""
    found = np.full(steps + 1, math.inf)
    for step, (value, _) in enumerate(descent(what, net, rate, steps, limit)):
        found[step] = value
    return found


def last_network(what: Objective, net: Network, rate: float, steps: int, limit: float) -> Network | None:
    """The network after all steps; None if it diverged."""
    for step, (_, last) in enumerate(descent(what, net, rate, steps, limit)):
        if step == steps:
            return last
    return None


def top_eigenpair(what: Objective, net: Network, guess: Array | None, tolerance: float) -> Eigenpair:
    """The largest eigenvalue of the Hessian: NaN where it was not found, +inf where the Hessian overflows."""
    start = None if guess is None else guess[:, None]
    found = iterative(HessianProducts(what, net), net.size, 1, tolerance, start, MOST)
    return Eigenpair(float(found.values[0]), found.vectors[:, 0])


def sharpness(
    what: Objective, net: Network, rate: float, steps: int, limit: float, top: Eigenpair
) -> tuple[Array, Network | None]:
    """The largest eigenvalue of the Hessian by step, and the last network.

    From divergence on it is +inf, and there is no last network.
    """
    found = np.full(steps + 1, math.inf)
    found[0], guess, last = top.value, top.vector, net
    step = -1
    for step, (_, last) in enumerate(descent(what, net, rate, steps, limit)):
        if step > 0:
            now = top_eigenpair(what, last, guess, TOLERANCE)
            found[step] = now.value
            if math.isfinite(now.value):
                guess = now.vector
    return found, last if step == steps else None


def peak_on_segment(what: Objective, start: Network, end: Network) -> float:
    """The largest loss on the straight segment between two networks, the start left out."""
    here, way = start.flat(), end.flat() - start.flat()
    return max(float(what.value(start.at(here + share * way))) for share in SEGMENT)
