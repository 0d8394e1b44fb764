"""What is minimised, whatever network computes the loss: examples, weight decay and the parameters that count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """Examples, weight decay and the mask of parameters that count."""

    x: Array
    targets: Array
    weight_decay: float
    trainable: Array | None

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.x.shape[0])

    def batch(self, chosen: Array) -> Self:
        """The same problem on some of the examples."""
        return replace(self, x=self.x[chosen], targets=self.targets[chosen])

    def masked(self, vector: Array) -> Array:
        """The vector with frozen entries at zero."""
        return vector if self.trainable is None else np.where(self.trainable, vector, 0.0)

    def masked_columns(self, directions: Array) -> Array:
        """Columns with frozen entries at zero."""
        return directions if self.trainable is None else directions * self.trainable[:, None]

    def decay(self, vector: Array) -> Any:
        """The weight decay's part of the loss."""
        kept = self.masked(vector)
        return 0.5 * self.weight_decay * kept.dot(kept)
