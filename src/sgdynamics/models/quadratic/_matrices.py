"""Ranges of curvatures and covariances that are matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import as_floats, complain

__all__ = ["Semidefinite", "matrix_vector", "square_matrix"]

Array = NDArray[np.float64]

# Measured matrices are symmetric and semidefinite up to the rounding of whatever made them.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Semidefinite:
    """Numbers >= 0 or symmetric positive semidefinite matrices, of the numbers of axes that are allowed."""

    text: str
    axes: tuple[int, ...]

    def check(self, owner: str, name: str, value: Any) -> Array:
        """The array, its matrices made exactly symmetric; an error names the entry or eigenvalue that is wrong."""
        array = as_floats(owner, name, self.text, value)
        if array.ndim not in self.axes or (array.ndim > 1 and array.shape[-1] != array.shape[-2]):
            if array.size == 1:
                raise complain(owner, name, self.text, value)
            raise ValueError(f"{owner}: {name} must be {self.text}, got shape {array.shape}")
        if not np.isfinite(array).all():
            raise complain(owner, name, self.text, float(array[~np.isfinite(array)].flat[0]))
        if array.ndim < 2:
            if (array < 0).any():
                raise complain(owner, name, self.text, array[array < 0].flat[0].item())
            return array
        return self._symmetric(owner, name, array)

    def _symmetric(self, owner: str, name: str, matrices: Array) -> Array:
        scale = np.abs(matrices).max(axis=(-1, -2), keepdims=True)
        other = np.swapaxes(matrices, -1, -2)
        crooked = np.abs(matrices - other) > _ROUNDING * scale
        if crooked.any():
            place = tuple(int(i) for i in np.argwhere(crooked)[0])
            raise ValueError(
                f"{owner}: {name} must be {self.text}, got {matrices[place].item()!r} at index {place} "
                f"but {other[place].item()!r} opposite"
            )
        symmetric: Array = (matrices + other) / 2
        lowest = np.linalg.eigvalsh(symmetric)[..., 0]
        negative = lowest < -_ROUNDING * scale[..., 0, 0]
        if negative.any():
            where = np.argwhere(negative)[0]
            which = f" of matrix {int(where[0])}" if symmetric.ndim == 3 else ""
            raise ValueError(
                f"{owner}: {name} must be {self.text}, got the eigenvalue {lowest[tuple(where)].item()!r}{which}"
            )
        return symmetric


def matrix_vector(matrix: Array, vector: Array) -> Array:
    """Matrices times vectors along the last axis, without BLAS, so that the bits do not depend on its threads."""
    product: Array = np.einsum("...ij,...j->...i", matrix, vector)
    return product


def square_matrix(owner: str, name: str, value: Array, modes: int) -> Array:
    """A matrix of the size of one Hessian; a number is that multiple of the identity."""
    if value.ndim == 0:
        multiple: Array = value * np.eye(modes)
        return multiple
    if value.shape != (modes, modes):
        raise ValueError(
            f"{owner}: {name} must be a number or have the shape {(modes, modes)} of one Hessian, "
            f"got shape {value.shape}"
        )
    return value
