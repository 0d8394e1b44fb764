"""What is said of a run, from what was recorded of it.

Where there are many blocks, by one kernel for each. Array by array NumPy would hand the interpreter to another thread
and wait to have it back some twenty times a block, which takes longer than the arithmetic; for a single block, the
kernel would take longer to compile.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.outcome import Outcome
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv._core import Floats, Integers
from sgdynamics.simulate.uv._cycles import NO_CYCLE

__all__: list[str] = []

MONOTONE, LOSS, BOTH = Outcome.MONOTONE.value, Outcome.LOSS_CATAPULT.value, Outcome.LOSS_AND_SHARPNESS_CATAPULT.value
DIVERGED, PERIODIC, CHAOTIC = Outcome.DIVERGED.value, Outcome.PERIODIC.value, Outcome.CHAOTIC.value


class Found(NamedTuple):
    """What is found about every run."""

    outcome: NDArray[np.int8]
    final_sharpness: Floats
    peak_sharpness_ratio: Floats
    peak_loss_ratio: Floats
    divergence_step: NDArray[np.int32]
    period: NDArray[np.int16]


def judge(
    rate: Floats,
    height: Floats,
    sharpness: Floats,
    final_sharpness: Floats,
    peak_height: Floats,
    peak_sharpness: Floats,
    divergence_step: Integers,
    period: Integers,
    margin: float,
    found: Found,
) -> None:
    """From learning rate, squared residual and sharpness at step 0 and the records, all scaled."""
    bound, diverged = 1.0 + margin, divergence_step >= 0
    with np.errstate(all="ignore"):
        loss, sharp, found.final_sharpness[:] = peak_height / height, peak_sharpness / sharpness, final_sharpness / rate
    for ratio, out in ((loss, found.peak_loss_ratio), (sharp, found.peak_sharpness_ratio)):
        ratio[np.isnan(ratio)] = 1.0  # where both were 0
        out[:] = np.where(diverged, math.inf, ratio)
    outcome = np.where(loss > bound, np.where(sharp > bound, BOTH, LOSS), MONOTONE)
    outcome = np.where(period == 0, outcome, np.where(period == NO_CYCLE, CHAOTIC, PERIODIC))
    found.outcome[:] = np.where(diverged, DIVERGED, outcome)
    found.divergence_step[:], found.period[:] = divergence_step, np.maximum(period, 0)


@kernel
def judge_by_kernel(
    rate: Floats,
    height: Floats,
    sharpness: Floats,
    final_sharpness: Floats,
    peak_height: Floats,
    peak_sharpness: Floats,
    divergence_step: Integers,
    period: Integers,
    margin: float,
    found: Found,
) -> None:
    """The same as :func:`judge`."""
    bound = 1.0 + margin
    for i in range(rate.size):
        step, cycle = divergence_step[i], period[i]
        loss, sharp, final = peak_height[i] / height[i], peak_sharpness[i] / sharpness[i], final_sharpness[i] / rate[i]
        if step >= 0:
            loss, sharp, outcome = math.inf, math.inf, DIVERGED
        else:
            loss, sharp = loss if loss == loss else 1.0, sharp if sharp == sharp else 1.0  # where both were 0
            outcome = (BOTH if sharp > bound else LOSS) if loss > bound else MONOTONE
            if cycle != 0:
                outcome = CHAOTIC if cycle == NO_CYCLE else PERIODIC
        found.outcome[i], found.divergence_step[i], found.period[i] = outcome, step, cycle if cycle > 0 else 0
        found.peak_loss_ratio[i], found.peak_sharpness_ratio[i], found.final_sharpness[i] = loss, sharp, final
