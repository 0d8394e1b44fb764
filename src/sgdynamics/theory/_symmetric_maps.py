"""Linear maps of symmetric matrices that are symmetric themselves: as operators, and their largest eigenvalue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread

__all__ = ["SymmetricMatrices", "edge_of_second_moment", "largest_eigenvalue"]

Array = NDArray[np.float64]

# Above this many directions symmetric maps are applied, not tabulated.
_DENSE = 20


class SymmetricMatrices:
    """Symmetric matrices as vectors that keep the inner product."""

    def __init__(self, size: int) -> None:
        self.rows, self.columns = np.triu_indices(size)
        self.scale = np.where(self.rows == self.columns, 1.0, np.sqrt(2.0))
        self.size = size

    def vector(self, matrix: Array) -> Array:
        entries: Array = self.scale * matrix[self.rows, self.columns]
        return entries

    def matrix(self, vector: Array) -> Array:
        matrix = np.zeros((self.size, self.size))
        matrix[self.rows, self.columns] = matrix[self.columns, self.rows] = vector / self.scale
        return matrix

    def operator(self, apply: Callable[[Array], Array]) -> Any:
        """A symmetric map of symmetric matrices: dense for few directions, else only applied."""
        from scipy.sparse.linalg import LinearOperator

        entries = self.rows.size

        def act(vector: Array) -> Array:
            return self.vector(apply(self.matrix(np.ravel(vector))))

        if self.size <= _DENSE:
            return np.array([act(unit) for unit in np.eye(entries)])
        return LinearOperator((entries, entries), matvec=act, dtype=np.float64)


def largest_eigenvalue(apply: Callable[[Array], Array], size: int) -> float:
    """Of a symmetric map that keeps positive semidefinite matrices so, where it is also the spectral radius."""
    from scipy.sparse.linalg import eigsh

    space = SymmetricMatrices(size)
    with one_blas_thread():
        operator = space.operator(apply)
        if isinstance(operator, np.ndarray):
            return float(np.linalg.eigvalsh((operator + operator.T) / 2)[-1])
        # the eigenmatrix is positive semidefinite: the identity cannot be orthogonal to it
        start = space.vector(np.eye(size))
        return float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-12, return_eigenvectors=False)[0])


def edge_of_second_moment(curvature: Array, second: Callable[[Array], Array]) -> float:
    r"""Largest rate of plain SGD that is stable in mean square, in the eigenbasis of the mean Hessian.

    With ``second``, :math:`X \mapsto E\,H_B X H_B`, the condition :math:`\eta E\,H_B X H_B \le \bar H X + X \bar H` is
    linear in the rate: a generalised eigenvalue problem on symmetric matrices.
    """
    root = np.sqrt(curvature[:, None] + curvature[None, :])
    return 1 / largest_eigenvalue(lambda matrix: second(matrix / root) / root, curvature.size)
