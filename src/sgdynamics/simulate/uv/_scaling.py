r"""From a network's output and kernel to the scaled numbers of ``_core``, and who runs in which form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.uv._core import Floats

__all__: list[str] = []


class Scaled(NamedTuple):
    """Starts in scaled units, flat arrays of one shape."""

    rate: Floats  # the learning rate
    settles: NDArray[np.bool_]
    residual: Floats
    q: Floats
    ntk: Floats
    reach: Floats  # twice the output
    height: Floats  # squared residual
    sharpness: Floats

    @property
    def residual_form(self) -> tuple[Floats, Floats, Floats]:
        plus, minus, residual = self.cone_form
        with np.errstate(all="ignore"):
            return residual, plus * minus, self.ntk

    @property
    def cone_form(self) -> tuple[Floats, Floats, Floats]:
        with np.errstate(all="ignore"):
            plus, minus = np.maximum(self.ntk + self.reach, 0.0), np.maximum(self.ntk - self.reach, 0.0)
        return plus, minus, self.residual


def scaled(output: Any, ntk: Any, learning_rate: Any, kappa: Any, target: Any, sharpness: Any) -> Scaled:
    """Scale arrays that broadcast; what overflows is infinite or NaN, and diverges with the first step."""
    with np.errstate(all="ignore"):
        # what belongs to a start alone comes first: it meets many learning rates
        pull = np.sqrt(kappa)
        drive = pull * target
        error, reach = pull * (output - target), 2 * pull * output
        # a learning rate of which no bit of the run could tell, 1e-30 over the largest curvature there is, is raised,
        # so that nothing scaled underflows
        speed = ntk + np.abs(drive)
        rate = np.maximum(learning_rate, 1e-30 / np.where(speed == 0, np.inf, speed))
        s, q = rate * error, rate * drive
        # from its minimum an orbit does not move, stable or not
        settles = (np.abs(q) <= 1) | (s == 0)
        whole = (rate, settles, s, q, rate * ntk, rate * reach, s * s, rate * sharpness)
        shape = np.broadcast_shapes(*(array.shape for array in whole))
        # most have that shape already, and asking for it again takes longer than a short block's arithmetic
        return Scaled(
            *(array.ravel() if array.shape == shape else np.broadcast_to(array, shape).ravel() for array in whole)
        )
