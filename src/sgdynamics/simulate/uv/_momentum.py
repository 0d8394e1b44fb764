r"""Orbits of the uv network under the heavy ball.

The sums and differences of the two layers, :math:`h \pm v`, are multiplied by :math:`1 \mp s` in a step. With momentum
from rest each keeps its direction, so that the network still closes, in two numbers and their last values:

.. math:: A' = (1 + \beta - s) A - \beta A_-, \qquad B' = (1 + \beta + s) B - \beta B_-, \qquad s = \tfrac14(A^2 - B^2)
    - q,

with :math:`P = A^2` and :math:`M = B^2` of :func:`sgdynamics.models.uv.to_cone`.
"""

from __future__ import annotations

import numpy as np

from sgdynamics.simulate.uv._core import Floats


def scaled_momentum_paths(plus: Floats, minus: Floats, q: Floats, momentum: float, steps: int) -> Floats:
    """Residual, kernel and sharpness of every orbit, scaled, shape (3, orbits, steps + 1)."""
    made = np.empty((3, q.size, steps + 1))
    sides = np.sqrt(np.stack([plus, minus]))
    before = sides
    for step in range(steps + 1):
        squares = sides**2
        residual, kernel = (squares[0] - squares[1]) / 4 - q, squares.sum(axis=0) / 2
        spread = np.hypot(4 * residual + 2 * q, np.abs(sides[0] * sides[1]))  # 2(2 phi - q), and the imbalance
        made[:, :, step] = residual, kernel, (kernel + spread) / 2
        pull = np.stack([-residual, residual])
        sides, before = (1 + momentum + pull) * sides - momentum * before, sides
    return made
