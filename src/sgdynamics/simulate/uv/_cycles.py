"""What a bounded orbit that cannot settle ends in: a cycle, or not."""

from __future__ import annotations

import numpy as np

from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv._core import Floats, Integers, cone_advance

__all__: list[str] = []

# Steps at the end of a run that are looked at, the longest period looked for, and how well a cycle must repeat over
# the last half of these steps, relative to its largest residual.
WINDOW = 128
LONGEST_PERIOD = 32
TOLERANCE = 1e-6

NO_CYCLE = -1


@kernel
def find_periods(lanes: Integers, states: Floats, targets: Floats, period: Integers) -> None:
    """The least period of the residual in the window that begins at the given states.

    0 where there is no oscillation about the target to speak of, -1 where there is one that does not repeat.
    """
    path = np.empty(WINDOW)
    half = WINDOW // 2
    for lane in lanes:
        p, m, s, q = states[0, lane], states[1, lane], states[2, lane], targets[lane]
        largest = 0.0
        crosses = False
        for i in range(WINDOW):
            p, m, s, path[i], _ = cone_advance(p, m, s, q)
            if i >= half:
                largest = max(largest, abs(path[i]))
                crosses = crosses or path[i] * path[i - 1] < 0.0
        period[lane] = 0
        if crosses:
            period[lane] = NO_CYCLE
            for candidate in range(2, LONGEST_PERIOD + 1):
                i = WINDOW - 1
                while i - candidate >= half and abs(path[i] - path[i - candidate]) <= TOLERANCE * largest:
                    i -= 1
                if i - candidate < half:
                    period[lane] = candidate
                    break
