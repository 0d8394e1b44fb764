r"""Layer normalisation, without gains and shifts: the weights and biases that follow it are those.

.. math:: e = N(h) = \frac{h - \bar h}{s}, \qquad s = \sqrt{\overline{(h - \bar h)^2} + \epsilon},

with means over the features of an example. Its Jacobian is symmetric, so that one function serves forwards and
backwards,

.. math:: J g = \frac{g - \bar g - e\,\overline{eg}}{s}, \qquad
          (Jg)^\cdot = -\frac{\dot e\,\overline{eg} + e\,\overline{\dot e g} + Jg\,\overline{e\dot h}}{s}
          \quad\text{along } \dot h, \text{ with } \dot e = J\dot h .

Nothing here casts to real numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Normalised(NamedTuple):
    """Normalised features (examples, features) and what they were divided by, (examples, 1)."""

    features: Array
    spread: Array

    def along(self, g: Array) -> Array:
        """The Jacobian times g."""
        return np.asarray((g - _mean(g) - self.features * _mean(self.features * g)) / self.spread)

    def turned(self, g: Array, moved: Array, features_moved: Array) -> Array:
        """How the Jacobian times a fixed g changes along ``moved``, along which the normalised features change too."""
        features = self.features
        change = features_moved * _mean(features * g) + features * _mean(features_moved * g)
        return np.asarray(-(change + self.along(g) * _mean(features * moved)) / self.spread)


def normalise(features: Array, constant: float) -> Normalised:
    """Features less their mean over their root mean square; the constant is added under the root."""
    centred = features - _mean(features)
    spread = np.sqrt(_mean(centred * centred) + constant)
    return Normalised(centred / spread, spread)


def _mean(values: Array) -> Any:
    return values.mean(axis=1, keepdims=True)
