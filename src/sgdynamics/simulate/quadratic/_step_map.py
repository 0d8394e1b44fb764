r"""One step of a mini-batch quadratic, in one mode, as an affine map.

Every method carries the pair :math:`s = (e, w)` of the error and what the next step remembers of the past. With the
standard normal :math:`z` of the batch center :math:`\xi = \sigma z`, :math:`\sigma^2 = C/B`, gain :math:`g = \eta h`
and :math:`q = 1 - g`

.. math:: s_t = A_t s_{t-1} + b_t z_t.

==========  ==================  ======================================  ===========================
method      :math:`w`           rows of :math:`A`                       :math:`b`
==========  ==================  ======================================  ===========================
plain SGD   none                :math:`q`                               :math:`g\sigma`
heavy ball  velocity :math:`u`  :math:`(q, -\eta\beta), (h, \beta)`     :math:`(g\sigma, -h\sigma)`
Nesterov    :math:`e_{t-1}`     :math:`((1+\beta)q, -\beta q), (1, 0)`  :math:`(g\sigma, 0)`
==========  ==================  ======================================  ===========================

Without momentum both are plain SGD, and run as such.
"""

from __future__ import annotations

from typing import NamedTuple

from sgdynamics.simulate._kernel import inlined
from sgdynamics.simulate._vector_math import fma
from sgdynamics.simulate.quadratic._cells import Floats, Method


class Modes(NamedTuple):
    """One value per mode."""

    curvature: Floats
    deviation: Floats  # standard deviation of the batch center
    start: Floats
    risk_weight: Floats


@inlined
def plain_map(rate: float, curvature: float, deviation: float) -> tuple[float, float]:
    """A and b of a step of plain SGD."""
    gain = rate * curvature
    return 1.0 - gain, gain * deviation


@inlined
def momentum_map(
    rate: float, curvature: float, deviation: float, method: Method
) -> tuple[float, float, float, float, float, float]:
    """A, row by row, and b of a step with momentum."""
    keep, kick = plain_map(rate, curvature, deviation)
    beta = method.momentum
    if method.nesterov:
        return (1.0 + beta) * keep, -beta * keep, 1.0, 0.0, kick, 0.0
    return keep, -rate * beta, curvature, beta, kick, -curvature * deviation


@inlined
def plain_step(error: float, normal: float, rate: float, curvature: float, deviation: float) -> float:
    """The error after a step of plain SGD."""
    keep, kick = plain_map(rate, curvature, deviation)
    return fma(keep, error, kick * normal)


@inlined
def momentum_step(
    error: float, memory: float, normal: float, rate: float, curvature: float, deviation: float, method: Method
) -> tuple[float, float]:
    """The state after a step with momentum."""
    a11, a12, a21, a22, b1, b2 = momentum_map(rate, curvature, deviation, method)
    return fma(a11, error, fma(a12, memory, b1 * normal)), fma(a21, error, fma(a22, memory, b2 * normal))
