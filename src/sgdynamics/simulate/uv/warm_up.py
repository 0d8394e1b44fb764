r"""The uv network under learning rates that rise: by a schedule, or catapult by catapult.

Steps are taken in the residual :math:`\Delta` and the root of the imbalance :math:`D`, which a step multiplies by
:math:`1 - \eta\lambda + s\phi` and by :math:`|1 - s^2|`, whatever the rate was before: nothing cancels, however small
the residual has become. The kernel is :math:`\lambda^2 = D + 4\kappa f^2`.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import Interval, Numeric, checked, complain, integer, nonnegative, one, positive, real
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.models.uv import imbalance
from sgdynamics.models.uv.dynamics import inside_cone
from sgdynamics.simulate.uv._core import Floats

__all__ = ["persistent_catapults", "scheduled_trajectory"]

_LARGEST = 1e100  # beyond it squares of squares leave the range of a float, and nothing comes back
_strength = Interval("a number in (2, 4), where the catapult is", low=2, high=4)


class _Walker:
    """One network, step by step."""

    def __init__(self, owner: str, output: float, ntk: float, kappa: float, target: float) -> None:
        inside_cone(owner, output, ntk, kappa)
        self.target, self.reach = target, 2 * math.sqrt(kappa)
        self.residual = output - target
        self.imbalance_root = math.sqrt(imbalance(output, ntk, kappa))

    @property
    def output(self) -> float:
        return self.residual + self.target

    @property
    def ntk(self) -> float:
        return math.hypot(self.imbalance_root, self.reach * self.output)

    @property
    def loss(self) -> float:
        return self.residual * self.residual / 2

    def step(self, rate: float) -> None:
        pull = rate * self.reach / 2
        s, phi = pull * self.residual, pull * self.output
        self.residual *= 1 - rate * self.ntk + s * phi
        self.imbalance_root *= abs(1 - s * s)

    @property
    def gone(self) -> bool:
        return not abs(self.residual) + self.imbalance_root < _LARGEST

    def state(self) -> tuple[float, float, float, float]:
        """Output, kernel, sharpness and loss; infinite where their squares leave the range of a float."""
        if self.gone:
            return (math.inf,) * 4
        spread = math.hypot(self.imbalance_root, self.reach * (self.output + self.residual))
        return self.output, self.ntk, (self.ntk + spread) / 2, self.loss


def _labelled(states: list[tuple[float, float, float, float]], rates: Floats) -> xr.Dataset:
    """What is said about a path."""
    columns = {
        "output": ("output", "units of the target"),
        "ntk": ("neural tangent kernel", "1/learning rate"),
        "sharpness": ("top eigenvalue of the Hessian", "1/learning rate"),
        "loss": ("loss", "loss"),
    }
    values = np.array(states).T
    data = xr.Dataset(
        {
            name: ("step", row, {"long_name": text, "units": units})
            for (name, (text, units)), row in zip(columns.items(), values, strict=True)
        },
        coords={"step": ("step", np.arange(len(states)), {"long_name": "step", "units": "1"})},
        attrs={"source": "kalra2024", "version": sgdynamics.__version__},
    )
    data["learning_rate"] = (
        "step",
        rates,
        {"long_name": "rate of the step that is taken there", "units": "1/curvature"},
    )
    gone = np.isinf(values[1])
    data["divergence_step"] = (
        (),
        np.int32(gone.argmax() if gone.any() else -1),
        {"long_name": "first step outside the range of a float, -1 for never", "units": "1"},
    )
    return data


@checked(
    output=one(real),
    ntk=one(nonnegative),
    schedule=schedule_of_rates,
    kappa=one(positive),
    target=one(real),
)
def scheduled_trajectory(
    output: float, ntk: float, schedule: Numeric, *, kappa: float, target: float = 0.0
) -> xr.Dataset:
    r"""Gradient descent on the uv network with a rate for every step.

    Status: exact, as :func:`trajectory`, of one start.

    Parameters
    ----------
    output, ntk : float
        :math:`f_0` and :math:`\lambda_0 \ge 2\sqrt\kappa|f_0|`.
    schedule : array, shape (T,)
        :math:`\eta_1..\eta_T \ge 0`.
    kappa : float
        :math:`\kappa > 0`.
    target : float
        :math:`y`.

    Returns
    -------
    xarray.Dataset
        As from :func:`trajectory`, and ``learning_rate``, at step t that of the step which is taken there (at the last
        one that which led to it).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or no single number.

    Examples
    --------
    A rate that would diverge at once is survived after a catapult, but not after a warm-up from zero.

    >>> import numpy as np
    >>> def diverges(rates):
    ...     return scheduled_trajectory(0.1, 2.0, rates, kappa=0.01).divergence_step.item() > 0
    >>> end = np.full(200, 2.5)
    >>> diverges(end), diverges(np.append(np.full(60, 1.2), end)), diverges(np.append(np.linspace(0, 2.5, 200), end))
    (True, False, True)
    """
    given = np.asarray(schedule)
    if given.ndim != 1:
        raise complain("scheduled_trajectory", "schedule", "of shape (T,)", f"shape {given.shape}")
    network = _Walker("scheduled_trajectory", output, ntk, kappa, target)
    states = [network.state()]
    for rate in given.tolist():
        if not network.gone:
            network.step(rate)
        states.append(network.state())
    return _labelled(states, np.append(given, given[-1:]))


@checked(
    output=one(real),
    ntk=one(positive),
    kappa=one(positive),
    target=one(real),
    strength=one(_strength),
    peak=one(positive),
    steps=integer(1),
)
def persistent_catapults(
    output: float, ntk: float, *, kappa: float, target: float = 0.0, strength: float, peak: float, steps: int
) -> xr.Dataset:
    r"""Warm-up by catapults, one after the other: whenever the loss has recovered, the rate is raised anew.

    The rate is raised to ``strength`` over the kernel, just beyond the edge, and held while the loss catapults; once it
    is below what it was when the rate was raised, and the kernel below the edge, the rate is raised to ``strength``
    over the kernel that is left. At target 0 the kernel falls by the same factor each time, and
    :func:`sgdynamics.theory.uv.catapult_count` is the number of raises.

    Status: exact, as :func:`trajectory`, of one start; the rule is that of kalra2024, with the kernel in the place of a
    sharpness estimated from the loss.

    Parameters
    ----------
    output, ntk : float
        :math:`f_0` and :math:`\lambda_0 \ge 2\sqrt\kappa|f_0|`.
    kappa : float
        :math:`\kappa > 0`.
    target : float
        :math:`y`.
    strength : float
        :math:`c`, rate times kernel at every raise, in (2, 4).
    peak : float
        Rate at which the warm-up ends, > 0; the last raise goes no further.
    steps : int
        >= 1.

    Returns
    -------
    xarray.Dataset
        As from :func:`scheduled_trajectory`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or no single number.

    Examples
    --------
    >>> run = persistent_catapults(1e-3, 2.0, kappa=1e-4, strength=2.5, peak=50.0, steps=300)
    >>> round(float(run.learning_rate[0] * run.ntk[0]), 6), float(run.learning_rate[-1]), float(run.loss[-1]) < 1e-9
    (2.5, 50.0, True)
    """
    network = _Walker("persistent_catapults", output, ntk, kappa, target)
    rate, mark = min(strength / network.ntk, peak), network.loss
    states, rates = [network.state()], [rate]
    for _ in range(steps):
        if not network.gone:
            network.step(rate)
            if network.loss < mark and rate * network.ntk < 2:
                rate, mark = max(rate, min(strength / network.ntk, peak)), network.loss
        states.append(network.state())
        rates.append(rate)
    return _labelled(states, np.array(rates))
