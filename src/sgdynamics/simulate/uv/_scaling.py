"""From a network's output and kernel to the scaled numbers of ``_core``, and who runs in which form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv._core import Floats
from sgdynamics.simulate.uv._zero_target import LOW, STEEP

__all__: list[str] = []

# The forms of ``_zero_target``, for what has no target, and those of ``_lanes``, for the rest.
BY_GAP, BY_KERNEL, BY_RESIDUAL, BY_CONE = range(4)

# A learning rate of which no bit of the run could tell, so much over the largest curvature there is, is raised, so that
# nothing scaled underflows.
LEAST = 1e-30


class Scaled(NamedTuple):
    """Starts in scaled units, flat arrays of one shape."""

    rate: Floats  # the learning rate
    form: NDArray[np.int8]
    residual: Floats
    q: Floats
    ntk: Floats
    reach: Floats  # twice the output
    height: Floats  # squared residual
    sharpness: Floats

    @property
    def settles(self) -> NDArray[np.bool_]:
        """Whether there is a minimum that is stable, or the start is one: from it an orbit does not move."""
        settles: NDArray[np.bool_] = self.form != BY_CONE
        return settles

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


@kernel
def _scale(
    outputs: Floats, ntks: Floats, sharpnesses: Floats, per: Floats, network: Floats, out: Scaled
) -> tuple[int, int, int, int]:
    """Row by row into flat arrays; how many run in each form. Starts may have one row for all."""
    gaps, kernels, residuals, cones = 0, 0, 0, 0
    rows, columns = network.shape[1], outputs.shape[1]
    k = 0
    for i in range(rows):
        at = i if outputs.shape[0] > 1 else 0
        c, pull, target = network[0, i], math.sqrt(network[1, i]), network[2, i]
        drive = pull * target
        for j in range(columns):
            output, ntk = outputs[at, j], ntks[at, j]
            speed = ntk + abs(drive)
            least, rate = LEAST / (speed if speed != 0.0 else math.inf), c / per[at, j]
            rate = least if rate < least else rate
            s, q, ntk = rate * (pull * (output - target)), rate * drive, rate * ntk
            out.rate[k], out.residual[k], out.q[k], out.ntk[k] = rate, s, q, ntk
            out.reach[k], out.height[k], out.sharpness[k] = (
                rate * (2.0 * pull * output),
                s * s,
                rate * sharpnesses[at, j],
            )
            if q == 0.0 and ntk >= LOW and ntk <= STEEP:
                out.form[k] = BY_GAP
                gaps += 1
            elif q == 0.0 and ntk < LOW:
                out.form[k] = BY_KERNEL
                kernels += 1
            elif abs(q) <= 1.0 or s == 0.0:
                out.form[k] = BY_RESIDUAL
                residuals += 1
            else:
                out.form[k] = BY_CONE
                cones += 1
            k += 1
    return gaps, kernels, residuals, cones


def scaled(
    c: Floats, kappa: Floats, target: Floats, output: Floats, ntk: Floats, sharpness: Floats, per: Floats
) -> tuple[Scaled, Sequence[int]]:
    """Scale networks, of which ``c``, ``kappa`` and ``target`` are the same along a row.

    These three are given as rows of one column, or of one row; the starts as rows and columns, or one row for all. The
    learning rate is ``c / per``. What overflows is infinite or NaN, and diverges with the first step. Beside the scaled
    starts, how many run in each form.
    """
    pull = np.sqrt(kappa)
    drive = pull * target
    with np.errstate(all="ignore"):
        speed = ntk + abs(drive)
        rate = c / per
        least = LEAST / np.where(speed == 0.0, math.inf, speed)
        rate = np.where(rate < least, least, rate)
        s, q, ntk = rate * (pull * (output - target)), rate * drive, rate * ntk
        reach, height, sharpness = rate * (2.0 * pull * output), s * s, rate * sharpness
    settles = (abs(q) <= 1.0) | (s == 0.0)
    form = np.where(settles, BY_RESIDUAL, BY_CONE)
    form = np.where((q == 0.0) & (ntk <= STEEP), np.where(ntk < LOW, BY_KERNEL, BY_GAP), form).astype(np.int8)
    out = Scaled(*(array.ravel() for array in np.broadcast_arrays(rate, form, s, q, ntk, reach, height, sharpness)))
    return out, np.bincount(out.form, minlength=4).tolist()


def scaled_by_kernel(
    c: Floats, kappa: Floats, target: Floats, output: Floats, ntk: Floats, sharpness: Floats, per: Floats
) -> tuple[Scaled, Sequence[int]]:
    """The same bits as of :func:`scaled`; compiled first, then several times as fast, and beside other threads."""
    starts = [np.ascontiguousarray(values).view() for values in np.broadcast_arrays(output, ntk, sharpness, per)]
    for values in starts:  # some are, and Numba compiles anew for every mixture of read-only arrays and others
        values.flags.writeable = False
    rows, columns = np.broadcast_shapes(c.shape, kappa.shape, target.shape, starts[0].shape)
    network = np.empty((3, rows))
    for row, value in zip(network, (c, kappa, target), strict=True):
        row[:] = value[:, 0]
    size = rows * columns
    out = Scaled(np.empty(size), np.empty(size, np.int8), *(np.empty(size) for _ in range(6)))
    return out, _scale(starts[0], starts[1], starts[2], starts[3], network, out)
