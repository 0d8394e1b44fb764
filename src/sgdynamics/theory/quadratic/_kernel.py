r"""Gradient noise in, covariance of the iterates out, pair of directions by pair of directions.

Gradient noise of covariance :math:`G` gives stationary errors of covariance :math:`S_{ij} = G_{ij} k(x, y)/(h_i h_j)`
with :math:`x = \eta h_i`, :math:`y = \eta h_j`. The kernels are positive wherever the mean is stable.
"""

from __future__ import annotations

import math

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import sqrt, where

__all__ = ["below_the_edge", "edge_gain", "gradient_point_parts", "kernel_parts", "variance_edge_gain"]


def edge_gain(momentum: Numeric, nesterov: bool) -> Numeric:
    """Gain at which the mean ceases to be stable."""
    return 2 * (1 + momentum) / (1 + 2 * momentum) if nesterov else 2 * (1 + momentum)


def below_the_edge(numerator: Numeric, denominator: Numeric) -> Numeric:
    """Their ratio, +inf from the edge on, where the denominator is no longer positive."""
    if is_symbolic(numerator) or is_symbolic(denominator):
        return numerator / denominator
    inside = denominator > 0
    return where(inside, numerator / where(inside, denominator, 1.0), math.inf)


def _left(x: Numeric, y: Numeric) -> Numeric:
    """Half of x (2 - y) + y (2 - x): x + y - x y with its digits next to 2."""
    return (x * (2 - y) + y * (2 - x)) / 2


def kernel_parts(x: Numeric, y: Numeric, momentum: Numeric, nesterov: bool) -> tuple[Numeric, Numeric]:
    """Numerator and denominator of k; sums of what is positive for small gains, so that nothing cancels there."""
    forget = 1 - momentum
    if nesterov:
        numerator = forget * (1 + momentum) + momentum**2 * (x + y - x * y)
        mixed = (forget + momentum * x) * (forget + momentum * y)
        mixed = mixed * (_left(x, y) + momentum * (x * (1 - y) + y * (1 - x)))
        return x * y * numerator, mixed + momentum**2 * (x - y) ** 2
    return (
        x * y * forget * (1 + momentum),
        forget**2 * (_left(x, y) + momentum * (x + y)) + momentum * (x - y) ** 2,
    )


def gradient_point_parts(x: Numeric, y: Numeric, momentum: Numeric, nesterov: bool) -> tuple[Numeric, Numeric]:
    """The same for the covariance of the points at which gradients are taken: for Nesterov they lie ahead."""
    numerator, denominator = kernel_parts(x, y, momentum, nesterov)
    if nesterov:
        linear = momentum * (1 + momentum * (1 - momentum)) * (x + y)
        numerator = (1 - momentum) * (1 + momentum) + linear + momentum**2 * (1 + 2 * momentum) * x * y
        numerator = x * y * numerator
    return numerator, denominator


def variance_edge_gain(relative_variance: Numeric, momentum: Numeric, nesterov: bool) -> Numeric:
    r"""Gain at which the variance of the gradient's point is 1/q, the reciprocal of the relative curvature variance."""
    q = relative_variance
    if nesterov:  # the positive root of a x^2 + b x - c/2 = 0
        a = momentum * (1 + 2 * momentum) * (1 + q)
        b = 1 - momentum - 4 * momentum**2 + q * (1 + momentum)
        c = 4 * (1 - momentum) * (1 + momentum)
        root = sqrt(b**2 + 2 * a * c)
        if is_symbolic(root):
            return c / (b + root)
        return where(b > 0, c / (b + root), (root - b) / where(b > 0, 1.0, 2 * a))
    return 2 * (1 - momentum) * (1 + momentum) / ((1 - momentum) + q * (1 + momentum))
