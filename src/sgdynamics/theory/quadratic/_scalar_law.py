r"""The law of the curvature of one mini-batch in one direction, and what products of its multipliers do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from itertools import combinations, combinations_with_replacement, pairwise

import numpy as np
from numpy.typing import NDArray

from sgdynamics.models.quadratic import FiniteSumQuadratic, GaussianLeastSquares
from sgdynamics.theory._roots import bracketed_root

__all__ = ["CurvatureLaw", "DiscreteLaw", "GammaLaw", "curvature_law"]

Array = NDArray[np.float64]

# How close to a pole the side of it is seen, relative to the pole.
_ASIDE: float = 4 * float(np.finfo(float).eps)
# Different batches of a finite set of examples that are enumerated.
_MOST_BATCHES = 4096


class CurvatureLaw(ABC):
    """Curvatures h >= 0 of one batch."""

    @abstractmethod
    def mean_log(self, rate: float) -> float:
        r""":math:`E \log |1 - \eta h|`."""

    @abstractmethod
    def log_moment(self, rate: float, power: float) -> float:
        r""":math:`\log E |1 - \eta h|^\kappa`."""

    @abstractmethod
    def almost_sure_edge(self) -> float:
        """The first rate at which the mean logarithm is 0."""

    @abstractmethod
    def contracts(self, rate: float) -> bool:
        """Whether no batch expands the error."""

    def tail_index(self, rate: float) -> float:
        r"""The root of :math:`\log E|1-\eta h|^\kappa / \kappa`, the logarithm of a power mean, increasing in kappa."""
        if self.contracts(rate):
            return math.inf
        if self.mean_log(rate) >= 0:
            return 0.0

        def log_power_mean(power: float) -> float:
            return self.log_moment(rate, power) / power

        low = high = 1.0
        while log_power_mean(low) >= 0:
            low /= 2
        while log_power_mean(high) <= 0:
            high *= 2
        return bracketed_root(log_power_mean, low, high)


class DiscreteLaw(CurvatureLaw):
    """Finitely many curvatures with their probabilities."""

    def __init__(self, values: Array, probabilities: Array) -> None:
        possible = probabilities > 0
        order = np.argsort(values[possible], kind="stable")
        values, probabilities = values[possible][order], probabilities[possible][order]
        # equal up to the rounding of a mean, which is that of its own size
        first = np.concatenate([[True], np.diff(values) > 1e-13 * values[1:]])
        self.values: Array = values[first]
        self.probabilities: Array = np.add.reduceat(probabilities, np.flatnonzero(first))

    def mean_log(self, rate: float) -> float:
        with np.errstate(divide="ignore"):
            return float(np.sum(self.probabilities * np.log(np.abs(1 - rate * self.values))))

    def log_moment(self, rate: float, power: float) -> float:
        from scipy.special import logsumexp

        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(1 - rate * self.values))
        return float(logsumexp(power * logs, b=self.probabilities))

    def contracts(self, rate: float) -> bool:
        return bool(rate * self.values[-1] <= 2)

    def almost_sure_edge(self) -> float:
        """The mean logarithm is concave between its poles, the reciprocals of the curvatures, and -inf at them."""

        def slope(rate: float) -> float:
            with np.errstate(divide="ignore"):  # on a pole
                return float(-np.sum(self.probabilities * self.values / (1 - rate * self.values)))

        poles = 1 / self.values[self.values > 0][::-1]
        # no crossing below the edge in mean square, by Jensen's inequality
        mean = np.sum(self.probabilities * self.values)
        safe = 2 * mean / np.sum(self.probabilities * self.values**2)
        for left, right in zip(poles, np.append(poles[1:], np.inf), strict=True):
            if right <= safe:
                continue
            begin = left * (1 + _ASIDE)
            if math.isinf(right):
                right = 2 * left
                while self.mean_log(right) <= 0:
                    right *= 2
                top = right
            else:
                end = right * (1 - _ASIDE)
                if end <= begin:
                    continue
                if slope(begin) <= 0 or slope(end) >= 0:  # the pole of a rare curvature is narrower than a rounding
                    top = begin if slope(begin) <= 0 else end
                else:
                    top = bracketed_root(slope, begin, end)
                if self.mean_log(top) < 0:
                    continue
            low = top
            while self.mean_log(low) >= 0:  # towards the pole, where it is -inf
                if low == begin:
                    return float(low)
                low = max(left + (low - left) / 2, begin)
            return bracketed_root(self.mean_log, low, top)
        raise AssertionError("the mean logarithm grows without bound beyond the last pole")


class GammaLaw(CurvatureLaw):
    r"""Mean of S squares of Gaussians of variance :math:`\lambda`: a Gamma law of shape S/2 and mean lambda."""

    def __init__(self, variance: float, draws: int) -> None:
        self.scale = 2 * variance / draws
        self.shape = draws / 2

    def _expect(self, gain: float, log_weight: float, power: float) -> float:
        """Integral over the root of h, which takes the pole of the density at 0 away, cut where 1 - eta h is 0.

        No node lies at an end of a piece: the root is above 0.
        """
        from scipy.integrate import quad
        from scipy.special import gammaln

        def integrand(root: float) -> float:
            h = root * root
            density = 2 * math.exp((2 * self.shape - 1) * math.log(root) - h - gammaln(self.shape))
            distance = abs(1 - gain * h)
            if distance == 0:
                return 0.0
            logarithm = math.log(distance)
            return density * (logarithm if log_weight else math.exp(power * logarithm))

        cut = 1 / math.sqrt(gain)
        far = math.sqrt(self.shape) + 12.0 + math.sqrt(power)  # the density is below 1e-60 beyond
        points = sorted({0.0, min(cut, far), math.sqrt(self.shape), far})
        options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 200}
        pieces = [quad(integrand, a, b, **options)[0] for a, b in pairwise(points) if b > a]
        return math.fsum(pieces)

    def mean_log(self, rate: float) -> float:
        return self._expect(rate * self.scale, 1.0, 0.0)

    def log_moment(self, rate: float, power: float) -> float:
        return math.log(self._expect(rate * self.scale, 0.0, power))

    def contracts(self, rate: float) -> bool:
        return False

    def almost_sure_edge(self) -> float:
        def mean_log(gain: float) -> float:
            return self._expect(gain, 1.0, 0.0)

        low = 1 / (self.shape + 1)  # half the edge in mean square
        high = 2 * low
        while mean_log(high) <= 0:
            low, high = high, 1.25 * high
        return bracketed_root(mean_log, low, high) / self.scale


def _batches(model: FiniteSumQuadratic, owner: str) -> DiscreteLaw:
    """Every batch with its probability."""
    curvatures, draws, n = model.hessians[:, 0, 0], model.batch_size, model.examples
    if draws == 1:
        return DiscreteLaw(curvatures, model.probabilities)
    again = model.sampling == "replacement"
    number = math.comb(n + draws - 1, draws) if again else math.comb(n, draws)
    if number > _MOST_BATCHES:
        raise ValueError(
            f"{owner}: model must have at most {_MOST_BATCHES} different batches, which are enumerated, got {number}"
        )
    values, probabilities = [], []
    for batch in (combinations_with_replacement if again else combinations)(range(n), draws):
        values.append(curvatures[list(batch)].mean())
        orders = math.factorial(draws)
        for times in Counter(batch).values():
            orders //= math.factorial(times)
        probabilities.append(orders * math.prod(model.probabilities[list(batch)]) if again else 1 / number)
    return DiscreteLaw(np.array(values), np.array(probabilities))


def curvature_law(model: FiniteSumQuadratic | GaussianLeastSquares, owner: str) -> CurvatureLaw:
    """The law of the curvature of a batch of a model of one mode."""
    if isinstance(model, GaussianLeastSquares):
        return GammaLaw(float(model.feature_variance[0]), model.batch_size)
    return _batches(model, owner)
