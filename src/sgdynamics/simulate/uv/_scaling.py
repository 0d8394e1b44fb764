r"""From a network's output and kernel to the scaled numbers of ``_core``, and who runs in which form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate.uv._core import Floats

__all__: list[str] = []


class Scaled(NamedTuple):
    """Starts in scaled units."""

    rate: Floats  # the learning rate
    settles: NDArray[np.bool_]
    q: Floats
    height: Floats  # squared residual
    sharpness: Floats
    residual_form: tuple[Floats, Floats, Floats]
    cone_form: tuple[Floats, Floats, Floats]


def scaled(output: Any, ntk: Any, learning_rate: Any, kappa: Any, target: Any, sharpness: Any) -> Scaled:
    """Scale arrays of one shape; what overflows is infinite or NaN, and diverges with the first step."""
    with np.errstate(all="ignore"):
        pull = np.sqrt(kappa)
        # a learning rate of which no bit of the run could tell is raised, so that nothing scaled underflows
        speed = ntk + np.abs(pull * target)
        rate = np.maximum(learning_rate, 1e-30 / np.where(speed == 0, np.inf, speed))
        s, q, kernel, reach = (
            rate * pull * (output - target),
            rate * pull * target,
            rate * ntk,
            2 * rate * pull * output,
        )
        plus, minus = np.maximum(kernel + reach, 0.0), np.maximum(kernel - reach, 0.0)
        # from its minimum an orbit does not move, stable or not
        settles = (np.abs(q) <= 1) | (s == 0)
        return Scaled(rate, settles, q, s * s, rate * sharpness, (s, plus * minus, kernel), (plus, minus, s))
