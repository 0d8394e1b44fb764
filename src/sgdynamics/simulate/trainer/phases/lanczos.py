r"""The largest eigenvalue of a symmetric operator, from a good guess of its eigenvector.

Between two steps of a run the eigenvector turns little, and a handful of products is enough; SciPy's ARPACK would
spend at least twenty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Eigenpair", "largest_eigenpair"]

Array = NDArray[Any]

# So much of a fixed random vector is mixed into a guess, to see what has overtaken the old eigenvector.
TOUCH = 0.01


class Eigenpair(NamedTuple):
    """An eigenvalue, its eigenvector of length 1 and the number of products it took."""

    value: float
    vector: Array
    products: int


def largest_eigenpair(
    product: Callable[[Array], Array], size: int, *, guess: Array | None, tolerance: float, most: int = 120
) -> Eigenpair:
    r"""Lanczos' method with full orthogonalisation, until the residual is ``tolerance`` times the eigenvalue.

    The value is a Rayleigh quotient: never above the largest eigenvalue, and below it by about the square of the
    residual over the gap. Where the operator is not finite it is ``+inf``; not converged after ``most`` products, it is
    the best lower bound found.
    """
    import scipy.linalg

    most = min(most, size)
    direction = np.random.default_rng(0).standard_normal(size)
    direction /= np.linalg.norm(direction)
    if guess is not None:
        direction = guess / np.linalg.norm(guess) + TOUCH * direction
        direction /= np.linalg.norm(direction)
    basis = np.empty((most, size))
    diagonal, offdiagonal = np.empty(most), np.empty(most)
    for last in range(most):
        basis[last] = direction
        image = product(direction)
        if not np.isfinite(image).all():
            return Eigenpair(math.inf, np.full(size, math.inf), last + 1)
        known = basis[: last + 1]
        diagonal[last] = direction @ image
        # twice, because once leaves what rounding has put back
        for _ in range(2):
            image = image - known.T @ (known @ image)
        rest = float(np.linalg.norm(image))
        offdiagonal[last] = rest
        values, vectors = scipy.linalg.eigh_tridiagonal(diagonal[: last + 1], offdiagonal[:last])
        value, weights = float(values[-1]), vectors[:, -1]
        if rest * abs(weights[-1]) <= tolerance * abs(value):
            break
        direction = image / rest
    vector = known.T @ weights
    return Eigenpair(value, vector / np.linalg.norm(vector), last + 1)
