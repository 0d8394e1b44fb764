r"""The law of a loss curve: linear in a floor, a start and a noise, at fixed shapes of their spectra.

.. math:: L(t) = L_0 + A\, r(S_t) + \sum_h w(h) V_h(t), \qquad r(S) = (1 + 2 h_c S)^{-\alpha}, \qquad
    V_h(t) = (1 - \eta_t h)^2 V_h(t-1) + \eta_t^{2-\zeta} \bigl(1 - \varphi + \varphi\, r(S_t)/r(S)\bigr)

with :math:`S_t` the sum of the rates, :math:`S` that of the longest fitted run, and :math:`w = B\, h^q e^{-h/h_c}` in
the logarithm of the curvature.
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
COLUMNS = ("floor", "start", "noise")


@dataclass(frozen=True)
class Shape:
    """The nonlinear numbers.

    Exponents of start and noise, cut-off of the curvature, how noise follows the rate, and the part of it that goes
    with what is left of the start, at the intrinsic time ``reference``. Rates are in units of the largest one of the
    fitted runs, curvatures in its inverse.
    """

    exponent: float
    cutoff: float
    noise_exponent: float
    following: float
    early: float
    reference: float

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the numbers, in order."""
        return tuple(field.name for field in fields(cls))[:-1]


def curvatures(longest: float, largest: float) -> Array:
    """The grid for runs of at most this intrinsic time and rate."""
    low, high = np.log(_BELOW / max(longest, largest)), np.log(_ABOVE / largest)
    return np.asarray(np.exp(np.arange(high, low, -_SPACING)[::-1]))


def relaxation(time: Array, shape: Shape) -> Array:
    """What is left of the start, r(S)."""
    return np.asarray((1 + 2 * shape.cutoff * time) ** -shape.exponent)


def weights(curvature: Array, shape: Shape) -> Array:
    """Weights of the noise of the modes; they sum to 1 where the grid holds the whole spectrum."""
    scaled = curvature / shape.cutoff
    return np.asarray(_SPACING * np.exp(shape.noise_exponent * np.log(scaled) - scaled - gammaln(shape.noise_exponent)))


def spectrum(curvature: Array, shape: Shape) -> Array:
    """What the modes add to the start, for a unit amplitude."""
    scaled = curvature / shape.cutoff
    return np.asarray(_SPACING * np.exp(shape.exponent * np.log(scaled) - scaled - gammaln(shape.exponent)))


def noise_input(rate: Array, time: Array, shape: Shape) -> Array:
    """Noise that a step of this rate brings in at this intrinsic time, without its amplitude."""
    return np.asarray(rate ** (2 - shape.following) * noise_at(time, shape))


def noise_at(time: Array, shape: Shape) -> Array:
    """How the noise goes with what is left of the start; 1 at the reference."""
    grown = 1 + 2 * shape.cutoff * time
    left = ((1 + 2 * shape.cutoff * shape.reference) / grown) ** shape.exponent
    return np.asarray(1 - shape.early + shape.early * left)


def step_maps(rate: Array, count: Array, curvature: Array) -> tuple[Array, Array]:
    """Factor of V over every piece, and V after it for a unit input per step, shape (pieces, modes).

    A mode that a step would carry beyond its minimum forgets in that step: its curvature is above what the rate admits,
    and would follow it down.
    """
    gain = np.minimum(rate[:, None] * curvature, 1.0)
    forgetting = np.minimum(gain * (2 - gain), 1.0)  # 1 - (1 - gain)^2, in any rounding
    with np.errstate(divide="ignore"):
        exponent = count[:, None] * np.log1p(-forgetting)
    total = np.where(forgetting > 0, -np.expm1(exponent) / np.where(forgetting > 0, forgetting, 1.0), count[:, None])
    return np.exp(exponent), total


class Runs:
    """Several runs side by side on one grid of curvatures; what does not depend on the shape is made once."""

    def __init__(self, pieces: Sequence[Pieces], curvature: Array) -> None:
        self.pieces, self.curvature = pieces, curvature
        self.longest = max(float(run.end[-1]) for run in pieces)
        longest = max(run.rate.size for run in pieces)
        self.factor = np.ones((longest, len(pieces), curvature.size))  # pieces that a run lacks change nothing
        self.total = np.zeros((longest, len(pieces), curvature.size))
        for place, run in enumerate(pieces):
            maps = step_maps(run.rate, run.count, curvature)
            self.factor[: run.rate.size, place], self.total[: run.rate.size, place] = maps

    def states(self, shape: Shape) -> Array:
        """V of every mode after each piece of every run, shape (pieces, runs, modes)."""
        brought = np.zeros((*self.total.shape[:2], 1))
        for place, run in enumerate(self.pieces):
            brought[: run.rate.size, place, 0] = noise_input(run.rate, run.middle, shape)
        states = brought * self.total
        state = np.zeros(states.shape[1:])
        for keep, after in zip(self.factor, states, strict=True):
            state *= keep
            state += after
            after[...] = state
        return states

    def noise(self, shape: Shape) -> list[Array]:
        """Noise of every run after each of its pieces, for a unit amplitude."""
        noise = self.states(shape) @ weights(self.curvature, shape)
        return [noise[: run.rate.size, place] for place, run in enumerate(self.pieces)]

    def columns(self, shape: Shape) -> list[Array]:
        """What floor, start and noise of unit amplitude give at the records, shape (records, 3), for every run."""
        found = []
        for run, noise in zip(self.pieces, self.noise(shape), strict=True):
            left = run.at_records(relaxation(run.end, shape), 1.0)
            found.append(np.stack([np.ones_like(left), left, run.at_records(noise, 0.0)], axis=1))
        return found
