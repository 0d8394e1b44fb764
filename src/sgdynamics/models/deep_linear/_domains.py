"""What deep linear networks take: weights of a chain, matrices that fit together, covariances, widths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import ArrayOf, Domain, complain, integer, optional, real

Floats: TypeAlias = NDArray[np.float64]
Layers: TypeAlias = tuple[Floats, ...]


@dataclass(frozen=True)
class _ChainWeights:
    """Finite weights along the last axis, or along the dim ``layer`` of a DataArray."""

    text: str = "finite weights, one per layer along the last axis (of a DataArray: along the dim 'layer')"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if np.ndim(value) == 0 or isinstance(value, str):
            raise complain(owner, name, self.text, value, TypeError)
        value = replace(real, text=self.text).check(owner, name, value)
        if isinstance(value, xr.DataArray) and "layer" not in value.dims:
            raise complain(owner, name, self.text, value.dims)
        return value


chain_weights: Domain = _ChainWeights()


finite_matrix: Domain = ArrayOf((2,), "a 2-D array of finite numbers")


@dataclass(frozen=True)
class _Covariance:
    text: str = "a symmetric positive semidefinite matrix"

    def check(self, owner: str, name: str, value: Any) -> Floats:
        matrix: Floats = finite_matrix.check(owner, name, value)
        if matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0.0):
            raise complain(owner, name, self.text, value)
        matrix = (matrix + matrix.T) / 2
        eigenvalues = np.linalg.eigvalsh(matrix)
        if eigenvalues[0] < -1e-10 * abs(eigenvalues[-1]):
            raise complain(owner, name, self.text, value)
        return matrix


input_covariance_matrix: Domain = optional(_Covariance())


@dataclass(frozen=True)
class _WeightMatrices:
    text: str = "matrices W_1..W_D of shapes (..., fan_out, fan_in) whose product exists"

    def check(self, owner: str, name: str, value: Any) -> Layers:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise complain(owner, name, self.text, value, TypeError)
        if len(value) == 0:
            raise complain(owner, name, self.text, value)
        layers = []
        for matrix in value:
            try:
                layers.append(np.asarray(real.check(owner, name, np.asarray(matrix))))
            except (TypeError, ValueError):
                raise complain(owner, name, self.text, value) from None
        if any(layer.ndim < 2 or layer.shape[:-2] != layers[0].shape[:-2] for layer in layers) or any(
            lower.shape[-2] != upper.shape[-1] for lower, upper in itertools.pairwise(layers)
        ):
            raise complain(owner, name, self.text, f"shapes {[layer.shape for layer in layers]}")
        return tuple(layers)


weight_matrices: Domain = _WeightMatrices()


@dataclass(frozen=True)
class _Widths:
    """Integers >= 1, at least ``least`` of them."""

    least: int
    text: str

    def check(self, owner: str, name: str, value: Any) -> tuple[int, ...]:
        if isinstance(value, str) or not hasattr(value, "__len__"):
            raise complain(owner, name, self.text, value, TypeError)
        if len(value) < self.least:
            raise complain(owner, name, self.text, value)
        try:
            return tuple(integer(1).check(owner, name, width) for width in value)
        except (TypeError, ValueError):
            raise complain(owner, name, self.text, value) from None


hidden_widths: Domain = _Widths(0, "a sequence of widths, integers >= 1")
all_widths: Domain = _Widths(2, "a sequence of at least two integers >= 1")
