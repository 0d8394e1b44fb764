"""Mini-batches: how often every example is in the batch of a step."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.models.patterns import TwoPatternTraining
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._normals import Floats, Words, open_streams
from sgdynamics.simulate._streams import Purpose, Seed, next_word, stream_key

_11 = np.uint64(11)
_UNIT = 2.0**-53


@kernel
def _count(states: Words, draws: int, count: Floats) -> None:
    """How often every example is drawn, with replacement."""
    state = (states[0, 0], states[1, 0], states[2, 0], states[3, 0])
    count[:] = 0.0
    for _ in range(draws):
        word, state = next_word(state)
        count[int((word >> _11) * _UNIT * count.size)] += 1.0
    states[0, 0], states[1, 0], states[2, 0], states[3, 0] = state


class Batches:
    """The batches of all steps, drawn one after the other from one stream."""

    def __init__(
        self, training: TwoPatternTraining, course: xr.Dataset, batch_size: int, examples: int, seed: Seed
    ) -> None:
        # a step of size h made of h/rate ordinary ones has the variance h * rate * noise_variance
        ordinary = np.round(
            course.step_size**2 * training.noise_variance / course.step_noise.where(lambda s: s > 0) ** 2
        )
        self.sizes = batch_size * ordinary.fillna(1).astype(int).values
        self.counts = np.empty(examples)
        self.states = np.empty((4, 1), np.uint64)
        open_streams(stream_key(seed, Purpose.PATTERNS_BATCHES), np.uint64(0), 0, self.states)

    def draw(self, step: int) -> Floats:
        """Weights of the examples in the mean over the batch of a step."""
        _count(self.states, int(self.sizes[step]), self.counts)
        weights: Floats = self.counts / self.sizes[step]
        return weights
