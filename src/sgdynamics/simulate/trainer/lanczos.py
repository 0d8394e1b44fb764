r"""Lanczos' method for the largest eigenvalues of a symmetric operator, with no more products than the accuracy needs.

After every product the eigenvalues of the operator on the span of the directions so far (Ritz values) are found, and
the search ends once their residuals are small. The directions are kept orthogonal to rounding; where they become too
many, the best combinations are kept (thick restart).

A small residual says that *an* eigenvalue is near, not that it is the largest: a start near an old eigenvector may not
have seen what has overtaken it. With :math:`m` directions, Ritz values :math:`\theta_i` and the lengths
:math:`\beta_i` that new directions were divided by,

.. math:: q_{m+1} = p(H)\,q_1, \qquad p(\lambda) = \prod_{i\le m} \frac{\lambda - \theta_i}{\beta_i} .

Since :math:`q_{m+1}` has length 1, an eigenvector of eigenvalue :math:`\lambda` has a part of at most
:math:`1/|p(\lambda)|` in the start :math:`q_1`. Its part in a random vector of length 1 is above
:math:`\epsilon/\sqrt n` but for a chance of about :math:`\sqrt{2/\pi}\,\epsilon`. So where
:math:`p(\lambda)\epsilon/\sqrt n > 1`, nothing above :math:`\lambda` was missed, but for that chance; no search ends
before. The Ritz values that a restart drops remain roots of p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Eigenpairs", "largest_eigenpairs"]

Array = NDArray[Any]

# Directions held at a time, at least: fewer cost products, more cost memory.
DIRECTIONS = 40
# An operator this small against its largest eigenvalue is rounding.
ROUNDING = 1e-14
# An eigenvalue that is larger by this part of the spectral scale is missed with this chance at most.
MARGIN = 0.02
CHANCE = 8e-4


class Eigenpairs(NamedTuple):
    """Eigenvalues (k,), descending, orthonormal eigenvectors as rows (k, size), and the lengths of Hv - lambda v."""

    values: Array
    vectors: Array
    residuals: Array

    def scale(self) -> float:
        """The largest eigenvalue in absolute value."""
        return float(np.abs(self.values).max())

    def best_with(self, others: Eigenpairs) -> Eigenpairs:
        """As many, the largest of these and of others that are orthogonal to them."""
        values, vectors, residuals = (np.concatenate(both) for both in zip(self, others, strict=True))
        best = np.argsort(-values, kind="stable")[: len(self.values)]
        return Eigenpairs(values[best], vectors[best], residuals[best])


def _orthogonal(vector: Array, rows: Array) -> tuple[Array, Array]:
    """What is left of a vector without its parts along orthonormal rows, and these parts."""
    parts = rows @ vector
    rest = vector - parts @ rows
    again = rows @ rest  # once leaves what rounding has put back
    rest -= again @ rows
    return rest, parts + again


class _Space:
    """An orthonormal basis that grows by one product at a time, orthogonal to rows given, and the operator on it."""

    def __init__(self, product: Callable[[Array], Array], start: Array, apart: Array, room: int) -> None:
        self.product, self.held, self.size = product, len(apart), 0
        self.basis = np.concatenate([apart, np.empty((room, start.size))])
        self.projected = np.zeros((len(apart) + room, room))
        self.turn_to(start)

    def turn_to(self, direction: Array) -> None:
        """Go on with the part of a direction that is orthogonal to everything so far."""
        self.rest = _orthogonal(direction, self.basis[: self.held + self.size])[0]
        self.length = float(np.linalg.norm(self.rest))

    def grow(self) -> tuple[Array, Array]:
        """One more product; returns the Ritz values, ascending, and the parts of their vectors in the basis."""
        last = self.held + self.size
        self.size += 1
        self.basis[last] = self.rest / self.length
        self.rest, parts = _orthogonal(self.product(self.basis[last]), self.basis[: last + 1])
        self.length = float(np.linalg.norm(self.rest))
        self.projected[: last + 1, self.size - 1] = parts
        self.projected[last, : self.size] = parts[self.held :]
        values, shares = np.linalg.eigh(self.projected[self.held : last + 1, : self.size])
        return values, shares

    def residuals(self, shares: Array) -> Array:
        """Lengths of the residuals within the space orthogonal to the rows given."""
        return np.asarray(self.length * np.abs(shares[-1]))

    def vectors(self, shares: Array) -> Array:
        """Ritz vectors as rows."""
        return np.asarray(shares.T @ self.basis[self.held : self.held + self.size])

    def brought_back(self, shares: Array) -> Array:
        """Lengths of what the operator makes of the Ritz vectors along the rows given."""
        return np.asarray(np.linalg.norm(self.projected[: self.held, : self.size] @ shares, axis=0))

    def keep(self, values: Array, shares: Array) -> None:
        """Keep these Ritz vectors only."""
        outside = self.projected[: self.held, : self.size] @ shares
        vectors = self.vectors(shares)
        self.size = len(values)
        self.basis[self.held : self.held + self.size] = vectors
        self.projected[: self.held, : self.size] = outside
        self.projected[self.held : self.held + self.size, : self.size] = np.diag(values)


def largest_eigenpairs(
    product: Callable[[Array], Array],
    start: Array,
    k: int,
    tol: float,
    *,
    random_part: float = 1.0,
    apart_from: Eigenpairs | None = None,
    at_least: Callable[[], float] = lambda: -math.inf,
) -> Eigenpairs:
    """The ``k`` largest eigenpairs that a start can see, to residuals of ``tol`` times the largest value of them.

    No tolerance is above :data:`MARGIN`. For ``k`` > 1 nothing is said of what was missed: a search apart from what is
    found must follow.

    ``random_part`` is the length of the random part in a start of length 1. With ``apart_from``, on the space
    orthogonal to eigenvectors already known, whose largest value sets the scale too; there the search ends early, with
    large residuals, where it would have seen an eigenvalue that is larger than the known ones by more than the
    margin times that. Residuals are those of the operator itself.

    ``at_least`` says, once there was a product, how large an eigenvalue must be to matter: the search ends early, with
    large residuals, too, where it would have seen one that is larger.
    """
    tol = min(tol, MARGIN)
    known = apart_from or Eigenpairs(np.zeros(1), np.empty((0, start.size)), np.empty(0))
    above_known = known.values.min() + MARGIN * known.scale() if apart_from else -math.inf
    available = start.size - len(known.vectors)
    space = _Space(product, start, known.vectors, min(available, max(DIRECTIONS, 3 * k)))
    random = np.random.default_rng(1)
    # log of the part that may go unseen, over the lengths divided by, and the roots of p that restarts have dropped
    hidden = math.log(CHANCE * math.sqrt(math.pi / 2) * random_part / math.sqrt(start.size))
    dropped = np.empty(0)
    while True:
        values, shares = space.grow()
        everything = max(np.abs(values).max(), known.scale())
        top, chosen = values[::-1][:k], shares[:, ::-1][:, :k]
        if space.length <= ROUNDING * everything or space.size == available:  # nothing else can be reached
            if space.size >= k:
                break
            space.turn_to(random.standard_normal(start.size))
            continue
        hidden -= math.log(space.length)

        roots = np.append(values, dropped)

        def seen(value: float, roots: Array = roots, hidden: float = hidden) -> bool:
            return bool(np.log(value - roots).sum() + hidden >= 0)

        wanted = max(tol * max(np.abs(top).max(), known.scale()), ROUNDING * everything)
        accurate = space.size >= k and space.residuals(chosen).max() <= wanted
        if accurate and (k > 1 or seen(top[0] + MARGIN * everything)):
            break
        matters = max(above_known, at_least())
        if top[0] < matters and seen(matters):
            break
        if space.size == len(space.basis) - space.held:
            half = (space.size + k) // 2
            space.keep(values[-half:], shares[:, -half:])
            dropped = np.append(dropped, values[:-half])
    residuals = np.hypot(space.residuals(chosen), space.brought_back(chosen))
    return Eigenpairs(top.copy(), space.vectors(chosen), residuals)
