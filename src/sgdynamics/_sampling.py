"""How much of the variance of one example is left in the mean over a batch."""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, complain, is_symbolic

__all__ = ["batch_factor"]


def batch_factor(owner: str, examples: Numeric, batch_size: Numeric, replacement: bool) -> Numeric:
    r"""Variance of a batch mean per variance of one example, divisor n.

    :math:`c_S = \frac{n-S}{S(n-1)}` without replacement, 0 for the only example; :math:`1/S` with.
    """
    if replacement:
        return 1 / batch_size + 0 * examples
    if is_symbolic(examples) or is_symbolic(batch_size):
        return (examples - batch_size) / (batch_size * (examples - 1))
    if np.any(batch_size > examples):
        raise complain(owner, "batch_size", f"at most examples = {examples}", batch_size)
    return (examples - batch_size) / (batch_size * (examples - 1 + (examples == 1)))
