"""The law at an average of the iterates: what the start and the noise of every step weigh in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sgdynamics.theory._backward import center_weights_backward
from sgdynamics.theory.forecast._law import Shape, curvatures, noise_input, relaxation, spectrum, weights

Array = NDArray[np.float64]


def averaged_columns(rates: Array, average: Array, shapes: Sequence[Shape]) -> Array:
    """Floor, start and noise of unit amplitude at the averaged point, for several shapes, (shapes, 3)."""
    time = np.cumsum(rates)
    largest = max(1.0, float(rates.max(initial=0.0)))
    curvature = curvatures(float(time[-1]), largest)
    inputs = np.array([noise_input(rates, time - rates / 2, shape) for shape in shapes])
    collected = np.zeros((len(shapes), curvature.size))
    per_mode = np.broadcast_to(average, (curvature.size, average.size))
    start = np.ones_like(curvature)
    # the adjoint of a step is its gain times that of the iterate; noise comes in once per step, without the gain
    for step, weight in center_weights_backward(lambda j: np.minimum(rates[j - 1] * curvature, 1.0), per_mode):
        if step == 0:
            start = weight
        elif rates[step - 1] > 0:
            adjoint = weight / np.minimum(rates[step - 1] * curvature, 1.0)
            collected += inputs[:, step - 1, None] * adjoint**2
    found = []
    for place, shape in enumerate(shapes):
        noise = float(collected[place] @ weights(curvature, shape))
        # the spectrum of the start reaches to curvature 0: there the average has what its last iterate has, and the
        # closed form of that one is changed by the difference
        last = np.exp(-2 * curvature * time[-1])
        left = relaxation(time[-1:], shape)[0] + float(spectrum(curvature, shape) @ (start**2 - last))
        found.append([1.0, left, noise])
    return np.array(found)
