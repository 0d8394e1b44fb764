"""What follows from the gradients of single examples alone, however they are had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

# Per-example gradients held at once where they are needed themselves.
ROWS_AT_ONCE = 128


class GradientRows(ABC):
    """Gradients of ``examples`` examples, as rows of ``size`` numbers."""

    examples: int
    size: int

    @abstractmethod
    def rows(self, chosen: slice) -> Array:
        """The gradients of some examples, (some, parameters)."""

    @abstractmethod
    def mean(self) -> Array:
        """The gradient of the mean loss."""

    @abstractmethod
    def project(self, directions: Array) -> Array:
        """Components along the columns of ``directions`` (parameters, k): (examples, k)."""

    @abstractmethod
    def combine(self, weights: Array) -> Array:
        """Weighted sums over examples, weights (examples, k): (parameters, k)."""

    @abstractmethod
    def gram(self) -> Array:
        """Scalar products of the gradients, (examples, examples)."""

    @abstractmethod
    def squared_norms(self) -> Array:
        """The squared length of every gradient, (examples,)."""

    def centred_blocks(self) -> Iterator[Array]:
        """The gradients less their mean, a block of examples at a time."""
        mean = self.mean()
        for start in range(0, self.examples, ROWS_AT_ONCE):
            yield self.rows(slice(start, start + ROWS_AT_ONCE)) - mean

    def variance(self) -> Any:
        """The trace of the covariance; from centred rows, because a large mean gradient would drown it otherwise."""
        return sum((rows * rows).sum() for rows in self.centred_blocks()) / self.examples
