r"""Data, training and number of examples: the configurations that are studied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Interval,
    check_arguments,
    checked,
    complain,
    flag,
    instance_of,
    integer,
    one,
    seeds,
    unit_interval,
)
from sgdynamics.models.patterns.data import TwoPatternData, TwoPatternSample
from sgdynamics.models.patterns.training import TwoPatternTraining

__all__ = ["TwoPatternSetting"]

# of smaller ones there are too many examples to draw
_p_fraction = Interval("a number in [1e-6, 1)", low=1e-6, high=1, low_open=False)
_rate_ratio = Interval("a finite number >= 1", low=1, low_open=False)


@dataclass(frozen=True, eq=False, repr=False)
class TwoPatternSetting(Shown):
    r"""A distribution, a training and a number of examples.

    Parameters
    ----------
    data : TwoPatternData
    training : TwoPatternTraining
    examples : int
        :math:`N \ge 1` training examples.
    allow_unstable : bool
        Accept steps at or beyond :attr:`largest_step`. Such a run oscillates along the rays from the start: the loss on
        Q-only examples above log 2 is its symptom.

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range, or a step is unstable, which names the limit.

    Examples
    --------
    >>> setting = TwoPatternSetting.desk()
    >>> setting.examples, setting.data.dimension, round(setting.largest_step, 3)
    (400, 100, 1.078)
    """

    data: TwoPatternData
    training: TwoPatternTraining
    examples: int
    _: KW_ONLY
    allow_unstable: bool = False

    domains: ClassVar[Mapping[str, Domain]] = {
        "data": instance_of(TwoPatternData),
        "training": instance_of(TwoPatternTraining),
        "examples": integer(1),
        "allow_unstable": flag,
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if not self.allow_unstable:
            for name in ("large_rate", "small_step"):
                self._check_stability(owner, name)

    def _check_stability(self, owner: str, name: str) -> None:
        step = getattr(self.training, name)
        if step >= self.largest_step:
            known = "coarse_step" if name == "small_step" and self.training.coarse_step is not None else name
            known = "small_rate" if known == "small_step" else known
            text = f"below the stability limit {self.largest_step:.6g} of the rays (or allow_unstable=True)"
            raise complain(owner, known, text, step)

    @property
    def largest_step(self) -> float:
        r"""The step at which descent along the rays ceases to be stable at the start.

        At output 0 the logistic loss has second derivative 1/4, so the Hessian of the weights that see Q has the top
        eigenvalue :math:`\mu/4`, with :math:`\mu` that of :math:`(1-p_0) E[\alpha^2] \sqrt{\pi_k \pi_l} K(k, l)`, where
        :math:`\pi = (\tfrac12, \tfrac14, \tfrac14)` are the probabilities of the rays and :math:`K` their kernel
        (gradients of an infinitely wide network); with weight decay the limit is :math:`2/(\mu/4 + \lambda)`. For
        :math:`r \to 0`, :math:`\mu = (1-p_0) E[\alpha^2] s^2/2`. A necessary condition: the weights that see P are left
        out.
        """
        rays = self.data.rays
        angle = np.arctan2(rays[:, 1], rays[:, 0])
        length = float(np.hypot(*rays[1]))
        rays = rays / length  # their squares are numbers
        kernel = (rays @ rays.T) * (math.pi - np.abs(angle[:, None] - angle)) / (2 * math.pi)
        weight = np.sqrt([0.5, 0.25, 0.25])
        top = float(np.linalg.eigvalsh(weight[:, None] * kernel * weight)[-1])
        top *= (1 - self.data.p_only) * self.data.mean_square_alpha * length * length
        return 2 / (top / 4 + self.training.weight_decay)

    @checked(seed=seeds)
    def draw(self, seed: int | np.random.SeedSequence) -> TwoPatternSample:
        """The training examples of a seed, the same for every algorithm.

        Parameters
        ----------
        seed : int or SeedSequence

        Returns
        -------
        TwoPatternSample
        """
        return self.data.draw(self.examples, seed)

    def with_data(self, **changes: Any) -> Self:
        """The same setting with some parameters of the data changed, such as ``separation=0.2``.

        Raises
        ------
        TypeError, ValueError
            If a parameter is unknown or a value is outside its range.
        """
        return replace(self, data=replace(self.data, **changes))

    def with_training(self, **changes: Any) -> Self:
        """The same setting with some parameters of the training changed, such as ``small_rate=0.08``.

        Raises
        ------
        TypeError, ValueError
            If a parameter is unknown or a value is outside its range.
        """
        return replace(self, training=replace(self.training, **changes))

    @classmethod
    def desk(cls) -> Self:
        r"""A configuration small enough for a desk in which the order of learning reverses.

        :math:`d = 100`, :math:`N = 400`, no margin, :math:`\alpha = 1`, amplitude 4, separation 0.1, rates 0.8 and
        0.0008, weight decay 0.0003. Not the paper's exponents: with those the order of the two learning times is wrong
        at any such dimension (:func:`sgdynamics.theory.patterns.reversal_conditions` says so).
        """
        data = TwoPatternData(100, p_only=0.05, q_only=0.2, margin=0.0, separation=0.1, amplitude=4.0, alpha_low=1.0)
        training = TwoPatternTraining(0.8, 8e-4, 1500.0, 800.0, weight_decay=3e-4, coarse_step=0.8)
        return cls(data, training, 400)

    @classmethod
    def desk_with_margin(cls) -> Self:
        r"""As :meth:`desk` with a margin :math:`\gamma_0 = 1/\sqrt d`, in 200 dimensions, and more P-only examples.

        The errors are small, so that their ratio is what to look at.
        """
        desk = cls.desk()
        return replace(
            desk.with_data(dimension=200, p_only=0.1, margin=1.0), training=replace(desk.training, first_time=800.0)
        )

    @classmethod
    def desk_with_uniform_alpha(cls) -> Self:
        r"""As :meth:`desk` with :math:`\alpha` uniform in [0, 1].

        Examples near the origin are never fitted by Q and keep teaching P, which narrows the gap.
        """
        return cls.desk().with_data(alpha_low=0.0)

    @classmethod
    @checked(dimension=integer(2), p_fraction=one(_p_fraction), q_only=one(unit_interval), rate_ratio=one(_rate_ratio))
    def unit_constants(
        cls, dimension: int, *, p_fraction: float = 0.2, q_only: float = 0.2, rate_ratio: float = 1000.0
    ) -> Self:
        r"""Powers of the dimension with all constants set to 1: the asymptotic regime, not the desk.

        With :math:`\kappa` = ``p_fraction``: :math:`p_0 = \kappa^2/2`, :math:`N = d/\kappa^2`, :math:`r = d^{-3/4}`,
        :math:`\lambda = d^{-5/4}`, :math:`\gamma_0 = 1/\sqrt d`, amplitude 1, :math:`\alpha` uniform in [0, 1], large
        rate 0.8 and both phases as long as it takes P to be learnt, :math:`8 d/(1 + \sqrt{2/\pi})^2/(1-q_0)`. These
        powers put the time to learn Q, :math:`d^{3/4}`, below that of P, :math:`d`, and the ceiling of Q under the
        large rate, :math:`r^3/\lambda = 1/d`, below 1. How far the constants let them at a given dimension is what
        :func:`sgdynamics.theory.patterns.reversal_conditions` tells.

        Parameters
        ----------
        dimension : int
            :math:`d`, >= 2.
        p_fraction : float
            :math:`\kappa` in [1e-6, 1).
        q_only : float
            :math:`q_0` in [0, 1).
        rate_ratio : float
            Large over small rate, >= 1.

        Returns
        -------
        TwoPatternSetting
        """
        kappa = p_fraction
        data = TwoPatternData(
            dimension,
            p_only=kappa**2 / 2,
            q_only=q_only,
            margin=1.0,
            separation=dimension**-0.75,
            alpha_low=0.0,
        )
        time = 8 * dimension / (1 + math.sqrt(2 / math.pi)) ** 2 / (1 - q_only)
        training = TwoPatternTraining(0.8, 0.8 / rate_ratio, time, time, weight_decay=dimension**-1.25, coarse_step=0.8)
        return cls(data, training, math.ceil(dimension / kappa**2))
