r"""Training: two learning rates, weight decay, Gaussian noise, and the three algorithms.

With :math:`U` any block of first-layer weights, :math:`\xi_t \sim N(0, \tau_\xi^2)` independent in every entry,

.. math:: U_{t+1} = (1 - \eta_t \lambda) U_t - \eta_t (\nabla L(U_t) + \xi_t), \qquad U_0 \sim N(0, \tau_0^2), \qquad
    \tau_0^2 = \frac{\eta_1^2 \tau_\xi^2}{1 - (1 - \eta_1 \lambda)^2},

so that the noise part of the weights is stationary under the large rate :math:`\eta_1`. Training time is the sum of
the learning rates: runs are comparable at equal time, not at equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, check_arguments, checked, choice, complain, nonnegative, one, optional, positive

__all__ = ["ALGORITHMS", "TwoPatternTraining"]

# Sums of learning rates are times up to this fraction of them.
_ROUNDING = 1e-12

ALGORITHMS = ("large_then_small", "small", "small_with_activation_noise")


@dataclass(frozen=True, eq=False, repr=False)
class TwoPatternTraining(Shown):
    r"""How the network is trained.

    ==================================  ===============================================================================
    algorithm                           what it does
    ==================================  ===============================================================================
    ``"large_then_small"`` (L-S)        the large rate for ``first_time``, then the small one for ``second_time``
    ``"small"`` (S)                     the small rate all the time
    ``"small_with_activation_noise"``   the small rate all the time, with noise in the pre-activations for
                                        ``first_time``
    ==================================  ===============================================================================

    Parameters
    ----------
    large_rate, small_rate : float
        Learning rates :math:`\eta_1 \ge \eta_2 > 0`.
    first_time, second_time : float
        Training time (sum of learning rates) :math:`T_1 > 0` before and :math:`T_2 \ge 0` after the switch.
    weight_decay : float
        :math:`\lambda > 0`, with :math:`\eta_1 \lambda < 1`.
    coarse_step : float, optional
        Time :math:`h \ge \eta_2` of one step wherever the rate is small. The drift is stepped by :math:`h`, and the
        noise of :math:`h/\eta_2` steps, of variance :math:`h \eta_2 \tau_\xi^2`, is added at once. None steps by
        :math:`\eta_2` itself, which is exact.
    noise_scale_p, noise_scale_q : float
        Standard deviation :math:`\tau_0` of the weights that see P and of those that see Q.
    activation_noise : float
        Standard deviation :math:`a \ge 0` of the noise in the pre-activations of ``"small_with_activation_noise"``,
        fresh in every step, unit and example, in units of the current standard deviation of a pre-activation,
        :math:`\operatorname{sd}(U_t) |x|`.

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range.

    Examples
    --------
    >>> training = TwoPatternTraining(0.8, 8e-4, 1500.0, 800.0, weight_decay=3e-4, coarse_step=0.8)
    >>> training.steps("large_then_small").sizes["step"]  # 1875 + 1000 steps and the start
    2876
    """

    large_rate: float
    small_rate: float
    first_time: float
    second_time: float
    _: KW_ONLY
    weight_decay: float
    coarse_step: float | None = None
    noise_scale_p: float = 0.1
    noise_scale_q: float = 3.0
    activation_noise: float = 2.0

    domains: ClassVar[Mapping[str, Domain]] = {
        "large_rate": one(positive),
        "small_rate": one(positive),
        "first_time": one(positive),
        "second_time": one(nonnegative),
        "weight_decay": one(positive),
        "coarse_step": optional(one(positive)),
        "noise_scale_p": one(positive),
        "noise_scale_q": one(positive),
        "activation_noise": one(nonnegative),
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.small_rate > self.large_rate:
            raise complain(owner, "small_rate", f"at most large_rate = {self.large_rate:g}", self.small_rate)
        if self.coarse_step is not None and self.coarse_step < self.small_rate:
            raise complain(owner, "coarse_step", f"None or at least small_rate = {self.small_rate:g}", self.coarse_step)
        longest = max(self.large_rate, self.small_step)
        if longest * self.weight_decay >= 1:
            raise complain(owner, "weight_decay", f"below 1/{longest:g}, one over the longest step", self.weight_decay)

    @property
    def small_step(self) -> float:
        """Time of one step wherever the rate is small."""
        return self.small_rate if self.coarse_step is None else self.coarse_step

    @property
    def noise_variance(self) -> float:
        r""":math:`\tau_\xi^2 = \lambda (2 - \eta_1 \lambda)/\eta_1`, in units of :math:`\tau_0^2`."""
        return self.weight_decay * (2 - self.large_rate * self.weight_decay) / self.large_rate

    @checked(algorithm=choice(*ALGORITHMS))
    def steps(self, algorithm: str) -> xr.Dataset:
        r"""All steps of an algorithm, and the law of the noise part of the weights.

        The noise part :math:`\tilde U_t` is a Gaussian process of its own: :math:`\tilde U_{t+1} = (1-h_t\lambda)
        \tilde U_t + \sigma_t \epsilon_t`, whose variance follows :math:`v_{t+1} = (1-h_t\lambda)^2 v_t + \sigma_t^2`.

        Parameters
        ----------
        algorithm : str
            One of ``ALGORITHMS``.

        Returns
        -------
        xarray.Dataset
            Dim ``step`` 0..n, one entry per iterate, of

            ``time``
                Sum of the step sizes before it.
            ``step_size``
                :math:`h_t`, the step that leaves the iterate; 0 for the last one.
            ``step_noise``
                :math:`\sigma_t`, standard deviation of the noise added to every weight in that step, in units of
                :math:`\tau_0` of its block; 0 for the last one.
            ``activation_noise``
                :math:`a_t`; the last iterate is that of a network at rest, without noise.
            ``weight_deviation``
                :math:`\sqrt{v_t}` in units of :math:`\tau_0`; 1 at the start.

            The attribute ``switch_step`` is the iterate at the end of the first phase.
        """
        large = algorithm == "large_then_small"
        first_step = self.large_rate if large else self.small_step
        total = self.first_time + self.second_time
        first = _whole_steps(self.first_time, first_step, self.first_time)
        second = _whole_steps(total - first * first_step, self.small_step, total)
        size = np.concatenate([np.full(first, first_step), np.full(second, self.small_step)])
        rate = np.concatenate(
            [np.full(first, self.large_rate if large else self.small_rate)] + second * [[self.small_rate]]
        )
        step_noise = np.sqrt(size * rate * self.noise_variance)
        variance = np.ones(size.size + 1)
        for t, (keep, added) in enumerate(zip((1 - size * self.weight_decay) ** 2, step_noise**2, strict=True)):
            variance[t + 1] = keep * variance[t] + added
        noisy = np.zeros(size.size + 1)
        if algorithm == "small_with_activation_noise":
            noisy[:first] = self.activation_noise
        columns: dict[str, tuple[Any, str, str]] = {
            "time": (np.concatenate([[0.0], np.cumsum(size)]), "training time", "learning rate x steps"),
            "step_size": (np.append(size, 0.0), "step size", "learning rate x steps"),
            "step_noise": (np.append(step_noise, 0.0), "noise of one step", "standard deviation of the start"),
            "activation_noise": (noisy, "noise in the pre-activations", "standard deviation of a pre-activation"),
            "weight_deviation": (np.sqrt(variance), "deviation of the weights", "standard deviation of the start"),
        }
        return xr.Dataset(
            {
                name: ("step", values, {"long_name": text, "units": units})
                for name, (values, text, units) in columns.items()
            },
            coords={"step": np.arange(size.size + 1)},
            attrs={"algorithm": algorithm, "switch_step": float(first), "source": "li2019"},
        )


def _whole_steps(time: float, step: float, total: float) -> int:
    """The number of steps that cover a time, up to the rounding of the total of which it is left."""
    return max(0, math.ceil((time - _ROUNDING * total) / step))
