"""How much of the variance of one example is left in the mean over a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdynamics.domains import complain, is_symbolic
from sgdynamics.formula import where


def batch_factor(owner: str, examples: Any, batch_size: Any, replacement: bool) -> Any:
    """Variance of a batch mean per variance of one example, divisor n."""
    if replacement:
        return 1 / batch_size + 0 * examples
    if not is_symbolic(examples) and not is_symbolic(batch_size) and np.any(batch_size > examples):
        raise complain(owner, "batch_size", f"at most examples = {examples}", batch_size)
    return (examples - batch_size) / (batch_size * where(examples == 1, 1, examples - 1))
