r"""The law of a loss curve: linear in a floor, a start and two noises, at fixed shapes of their spectra.

.. math:: L(t) = L_0 + A\, r(S_t) + \sum_h w(h) V_h(t), \qquad r(S) = (1 + 2 h_c S)^{-\alpha}, \qquad
    V_h(t) = (1 - \eta_t h)^2 V_h(t-1) + \eta_t^{2-\zeta} (B_0 + B_1 r(S_t))

with :math:`S_t` the sum of the rates and :math:`w \propto h^q e^{-h/h_c}` in the logarithm of the curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from sgdynamics.theory.forecast._pieces import Pieces

Array = NDArray[np.float64]

# The trapezoid rule in ln h: integrands are double exponentials, so that this spacing leaves 1e-6.
_SPACING = 0.6
# The grid reaches below one over the intrinsic time and above the inverse of the largest rate by these factors.
_BELOW, _ABOVE = 1e-6, 40.0
COLUMNS = ("floor", "start", "steady_noise", "early_noise")


@dataclass(frozen=True)
class Shape:
    """The nonlinear numbers: exponents of start and noise, cut-off of the curvature, and how noise follows the rate.

    Rates are in units of ``unit``, the largest one of the fitted runs, curvatures in its inverse.
    """

    exponent: float
    cutoff: float
    noise_exponent: float
    following: float

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the numbers, in order."""
        return tuple(field.name for field in fields(cls))


def curvatures(longest: float, largest: float) -> Array:
    """The grid for runs of at most this intrinsic time and rate."""
    low, high = np.log(_BELOW / max(longest, largest)), np.log(_ABOVE / largest)
    return np.exp(np.arange(high, low, -_SPACING)[::-1])


def relaxation(time: Array, shape: Shape) -> Array:
    """What is left of the start, r(S)."""
    return np.asarray((1 + 2 * shape.cutoff * time) ** -shape.exponent)


def weights(curvature: Array, shape: Shape) -> Array:
    """Weights of the noise of the modes; they sum to 1 where the grid holds the whole spectrum."""
    scaled = curvature / shape.cutoff
    return np.asarray(
        _SPACING * np.exp(shape.noise_exponent * np.log(scaled) - scaled - gammaln(shape.noise_exponent))
    )


def noise_input(rate: Array, shape: Shape) -> Array:
    """Noise that one step brings in, without its amplitude."""
    return np.where(rate > 0, rate, 0.0) ** (2 - shape.following)


def step_maps(rate: Array, count: Array, curvature: Array) -> tuple[Array, Array]:
    """Factor of V over every piece, and V after it for a unit input per step, shape (pieces, modes).

    A mode that a step would carry beyond its minimum forgets in that step: its curvature is above what the rate admits,
    and would follow it down.
    """
    gain = np.minimum(rate[:, None] * curvature, 1.0)
    forgetting = gain * (2 - gain)  # 1 - (1 - gain)^2
    with np.errstate(divide="ignore"):
        exponent = count[:, None] * np.log1p(-forgetting)
    total = np.where(forgetting > 0, -np.expm1(exponent) / np.where(forgetting > 0, forgetting, 1.0), count[:, None])
    return np.exp(exponent), total


class Runs:
    """Several runs side by side on one grid of curvatures; what does not depend on the shape is made once."""

    def __init__(self, pieces: Sequence[Pieces], curvature: Array) -> None:
        self.pieces, self.curvature = pieces, curvature
        longest = max(run.rate.size for run in pieces)
        self.factor = np.ones((longest, len(pieces), 1, curvature.size))  # pieces that a run lacks change nothing
        self.total = np.zeros((longest, len(pieces), 1, curvature.size))
        for place, run in enumerate(pieces):
            maps = step_maps(run.rate, run.count, curvature)
            self.factor[: run.rate.size, place, 0], self.total[: run.rate.size, place, 0] = maps

    def noise(self, shape: Shape) -> list[tuple[Array, Array]]:
        """Steady and early noise of every run after each of its pieces."""
        brought = np.zeros((*self.total.shape[:2], 2, 1))
        for place, run in enumerate(self.pieces):
            per_step = noise_input(run.rate, shape)
            brought[: run.rate.size, place, 0, 0] = per_step
            brought[: run.rate.size, place, 1, 0] = per_step * relaxation(run.middle, shape)
        states = brought * self.total
        state = np.zeros(states.shape[1:])
        for keep, after in zip(self.factor, states, strict=True):
            state *= keep
            state += after
            after[...] = state
        noise = states @ weights(self.curvature, shape)
        return [
            (noise[: run.rate.size, place, 0], noise[: run.rate.size, place, 1])
            for place, run in enumerate(self.pieces)
        ]

    def columns(self, shape: Shape) -> list[Array]:
        """What floor, start and the two noises of unit amplitude give at the records, (records, 4), for every run."""
        found = []
        for run, (steady, early) in zip(self.pieces, self.noise(shape), strict=True):
            left = run.at_records(relaxation(run.end, shape), 1.0)
            parts = [np.ones_like(left), left, run.at_records(steady, 0.0), run.at_records(early, 0.0)]
            found.append(np.stack(parts, axis=1))
        return found
