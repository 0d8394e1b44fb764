r"""A semidefinite complementarity problem of a few rows, solved and checked.

.. math:: 0 \preceq X \perp R \succeq 0, \qquad R = A + \tfrac12 \textstyle\sum_n (X : B_n)\, B_n,

with symmetric :math:`A` and :math:`B_n`. Where :math:`R = 0` has a solution that will do, it is taken. Elsewhere an
interior-point method in the scaling of Nesterov and Todd goes most of the way, whether or not the :math:`B_n` are
independent; where its systems become singular, Newton's method on :math:`XR + RX = 0` takes over and ends at rounding.
What is returned satisfies all three conditions, or nothing is returned.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Mean of X R, in units of A, at which Newton's method takes over; most steps of the two.
_CLOSE = 1e-6
_INTERIOR, _NEWTON = 60, 30
# What may be left of each condition, relative to the terms of which it is the sum.
_ACCEPTED = 1e-9
# The same where linear equations were solved: rounding.
_ROUNDED = 1e-13


def complementary(constant: Array, parts: Array) -> Array | None:
    """The matrix X, given A of shape (k, k) and the B_n along the last axis; None where none was found.

    Where A is positive semidefinite X is 0. There may be no solution where a semidefinite X with X : B_n = 0 for all n
    has X : A < 0.
    """
    size, strength = np.abs(constant).max(), np.abs(parts).max()
    if size == 0 or np.linalg.eigvalsh(constant / size)[0] >= 0:
        return np.zeros_like(constant)
    if strength == 0:
        return None
    if constant.size == 1:
        alone = parts[0, 0] / strength
        return np.array([[-2 * constant[0, 0] / (alone @ alone) / strength / strength]])
    # in units of A, B and A/B^2; the half goes with the unknown
    scaled = _Problem(constant / size, parts / strength)
    found = _all_at_the_edge(scaled)
    if found is None:
        found = _newton(scaled, _interior(scaled))
        if not np.isfinite(found).all() or scaled.violation(found) > _ACCEPTED:
            return None
    answer: Array = 2 * found * (size / strength / strength)
    return answer


class _Problem:
    def __init__(self, constant: Array, parts: Array) -> None:
        self.constant, self.parts = constant, parts
        rows = [(i, j) for i in range(len(constant)) for j in range(i, len(constant))]
        # an orthonormal basis of the symmetric matrices
        self.basis = np.zeros((len(rows), *constant.shape))
        for n, (i, j) in enumerate(rows):
            self.basis[n, i, j] = self.basis[n, j, i] = 1.0 if i == j else 0.5**0.5

    @functools.cached_property
    def pushes(self) -> Array:
        """What a unit of every coordinate of the unknown adds to those of R."""
        made: Array = self.coordinates(np.array([self.push(matrix) for matrix in self.basis])).T
        return made

    def coordinates(self, matrix: Array) -> Array:
        made: Array = np.einsum("aij,...ij->...a", self.basis, matrix)
        return made

    def matrix(self, coordinates: Array) -> Array:
        made: Array = np.einsum("a,aij->ij", coordinates, self.basis)
        return made

    def push(self, unknown: Array) -> Array:
        """What the unknown adds to R."""
        made: Array = self.parts @ np.einsum("ij,ijn->n", unknown, self.parts)
        return made

    def violation(self, unknown: Array) -> float:
        """The worst of X >= 0, R >= 0 and X R = 0, each relative to what it is made of."""
        pushed = self.push(unknown)
        rest = self.constant + pushed
        scale = 1.0 + float(np.abs(pushed).max())
        largest = float(np.abs(unknown).max())
        if not np.isfinite(rest).all() or largest == 0:
            return np.inf
        return max(
            -float(np.linalg.eigvalsh(unknown)[0]) / largest,
            -float(np.linalg.eigvalsh(rest)[0]) / scale,
            float(np.abs(unknown @ rest).max()) / (largest * scale),
        )


def _all_at_the_edge(problem: _Problem) -> Array | None:
    """The solution with R = 0, linear equations, where there is one with X > 0: the usual case along a flow.

    Where the equations leave something of X free it is taken only if it is in the middle of all solutions, to which the
    interior-point method goes: where the determinant is largest, and the inverse has no part in what is free.
    """
    values, vectors = np.linalg.eigh(problem.pushes)
    bound = values > _ROUNDED * values[-1]
    seen = vectors[:, bound]
    unknown = problem.matrix(seen @ (seen.T @ -problem.coordinates(problem.constant) / values[bound]))
    if problem.violation(unknown) >= _ROUNDED:
        return None
    if not bound.all():
        if np.linalg.eigvalsh(unknown)[0] <= _ACCEPTED * np.abs(unknown).max():
            return None
        inverse = np.asarray(np.linalg.inv(unknown), np.float64)
        if np.abs(problem.coordinates(inverse) @ vectors[:, ~bound]).max() > _ACCEPTED * np.abs(inverse).max():
            return None
    return unknown


def _interior(problem: _Problem) -> Array:
    """Close to a solution, by a predictor and a corrector in each step."""
    size = len(problem.constant)
    unknown, rest = np.eye(size), np.eye(size)
    for _ in range(_INTERIOR):
        missing = problem.constant + problem.push(unknown) - rest
        try:
            left, right = np.linalg.cholesky(unknown), np.linalg.cholesky(rest)
            _, scale, turn = np.linalg.svd(right.T @ left)
            # in these coordinates both X and R are the same diagonal matrix
            frame = left @ turn.T / np.sqrt(scale)
            back = np.linalg.inv(frame)
        except np.linalg.LinAlgError:
            break
        mean = float(np.mean(scale * scale))
        if mean < _CLOSE:
            break
        columns = problem.coordinates(np.einsum("ijn,ip,jq->npq", problem.parts, frame, frame)).T
        system = np.eye(len(columns)) + columns @ columns.T
        gap = problem.coordinates(frame.T @ missing @ frame)
        pairs = (scale[:, None] + scale) / 2

        def direction(
            wanted: Array, system: Array = system, gap: Array = gap, pairs: Array = pairs
        ) -> tuple[Array, Array]:
            goal = wanted / pairs
            change = problem.matrix(np.asarray(np.linalg.solve(system, problem.coordinates(goal) - gap), np.float64))
            return change, goal - change

        def reach(change: Array, root: Array = np.sqrt(np.outer(scale, scale))) -> float:  # noqa: B008
            lowest = float(np.linalg.eigvalsh(change / root)[0])
            return np.inf if lowest >= 0 else -1 / lowest

        square = np.diag(scale * scale)
        try:
            first, second = direction(-square)
        except np.linalg.LinAlgError:
            break
        length = min(1.0, reach(first), reach(second))
        ahead = float(np.trace((np.diag(scale) + length * first) @ (np.diag(scale) + length * second))) / size
        center = min(1.0, ahead / mean) ** 3 * mean
        first, second = direction(center * np.eye(size) - square - (first @ second + second @ first) / 2)
        share = max(0.9, 1 - mean)
        length = min(1.0, share * reach(first), share * reach(second))
        unknown, rest = (
            unknown + length * (frame @ first @ frame.T),
            rest + length * (back.T @ second @ back),
        )
        unknown, rest = (unknown + unknown.T) / 2, (rest + rest.T) / 2
    return unknown


def _newton(problem: _Problem, start: Array) -> Array:
    """The best that Newton's method makes of a point, until it gets no better."""
    unknown, best, least, since = start, start, problem.violation(start), 0
    for _ in range(_NEWTON):
        rest = problem.constant + problem.push(unknown)
        times = [problem.coordinates(problem.basis @ m + m @ problem.basis).T for m in (unknown, rest)]
        wrong = problem.coordinates(unknown @ rest + rest @ unknown)
        slope = times[1] + times[0] @ problem.pushes
        if not (np.isfinite(slope).all() and np.isfinite(wrong).all()):
            break
        unknown = unknown - problem.matrix(np.asarray(np.linalg.lstsq(slope, wrong, rcond=None)[0], np.float64))
        now = problem.violation(unknown)
        best, least, since = (unknown, now, 0) if now < least else (best, least, since + 1)
        if since > 2:
            break
    return best
