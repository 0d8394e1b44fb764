r"""Forcing and memory: a loss curve as what is left of the start and what is left of the noise of every step.

Least squares on fresh features makes gradient noise in proportion to the loss itself. In intrinsic time :math:`z = \sum
\eta` the expected excess risk then obeys

.. math:: R(z) = e(z) + \int_0^z K(z-u)\, \bigl(2R(u) + \sigma^2\bigr) \frac{\eta(u)}{S}\, du, \qquad
    K(u) = \tfrac12 \sum_i h_i^2 e^{-2 h_i u},

with what is left of the start, :math:`e`, as forcing and :math:`K` as memory of the noise. Power laws in the spectrum
make both of them powers of time, and the best schedule is then a power as well: the kernel K asks for rates in
proportion to :math:`K^{-1/2}` of the time left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import gamma, gammaln

from sgdynamics.domains import Numeric, checked, increasing_steps, instance_of, optional, positive
from sgdynamics.formula import exp, formula, law, log, where
from sgdynamics.models.quadratic import GaussianLeastSquares
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.parameters import Parameter
from sgdynamics.theory.quadratic._sweep import over_points

_NOISE = Parameter(
    "N", r"gradient noise over curvature, :math:`\sigma^2/S` of label noise and batch size", positive, 0.1
)

__all__ = ["best_decay_exponent", "best_schedule_peak", "best_schedule_risk", "forcing_and_memory", "memory_kernel"]

Array = NDArray[np.float64]

_NOISE_LIKE_CURVATURE = ("gradient noise proportional to the curvature", "infinitely many modes", "small gains")
_BEST = (*_NOISE_LIKE_CURVATURE, "rates are not limited", "2 * intrinsic time >> 1")


@formula(
    PARAMETERS,
    time=positive,
    quantity="loss",
    status="asymptotic",
    source="derived",
    assumptions=(*_NOISE_LIKE_CURVATURE, "2 * time >> 1"),
)
def memory_kernel(time: Numeric, curvature_exponent: Numeric) -> Numeric:
    r"""What is left in the risk, after some flow time, of noise that was proportional to the curvature.

    .. math:: K(t) = \tfrac12 \sum_i h_i^2 e^{-2 h_i t} \to \frac{\Gamma(2 - 1/a)}{2a} (2t)^{-(2 - 1/a)}, \qquad
        h_i = i^{-a}

    Per squared learning rate and variance :math:`\sigma^2/S` of the labels of a batch.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> memory_kernel(50.0, 1.5)
    0.0006412...
    """
    power = 2 - 1 / curvature_exponent
    return gamma(power) / (2 * curvature_exponent) * (2 * time) ** (-power)


@formula(PARAMETERS, quantity="exponent", status="asymptotic", symbolic=True, source="derived", assumptions=_BEST)
def best_decay_exponent(curvature_exponent: Numeric) -> Numeric:
    r"""Exponent of the best decay: rates like :math:`s^{2a-1}`, s steps before the end.

    Noise made at the intrinsic time u before the end costs :math:`K(u)`. For a given number of steps :math:`\int
    du/\eta`, the noise :math:`\int K \eta\, du` is least with :math:`\eta \propto K^{-1/2} \propto u^{1 - 1/(2a)}`, and
    then :math:`u \propto s^{2a}`. The source exponent has no say: it sets how long the run flows in all
    (:func:`best_schedule_peak`). Where rates are limited, the plateau at the limit comes first and the same power after
    it.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> best_decay_exponent(1.5)
    2.0
    """
    return 2 * curvature_exponent - 1


def _log_steps_over_noise(steps: Numeric, a: Numeric, noise: Numeric) -> Numeric:
    """Logarithm of T / (a N Gamma(2 - 1/a))."""
    return log(steps) - log(noise) - log(a) - gammaln(2 - 1 / a)


def _log_gamma_over(a: Numeric, b: Numeric) -> Numeric:
    """The logarithm of Gamma(kappa + 1), over b; by Stirling's formula where only that is a number."""
    kappa = (b - 1) / a
    return where(kappa > 1e16, (log(kappa) - 1) / a, gammaln(kappa + 1) / b)


@formula(
    PARAMETERS, steps=positive, noise=_NOISE, quantity="loss", status="asymptotic", source="derived", assumptions=_BEST
)
def best_schedule_risk(
    steps: Numeric, curvature_exponent: Numeric, source_exponent: Numeric, noise: Numeric
) -> Numeric:
    r"""Expected excess risk that the best schedule of a number of steps reaches, on power laws.

    The minimum over the intrinsic time Z of the run of

    .. math:: \frac{\Gamma(\kappa)}{2a} (2Z)^{-\kappa} + \frac{N}{T}\, \frac{a\, \Gamma(2-1/a)}{2} (2Z)^{1/a}, \qquad
        \kappa = \frac{b-1}{a},

    where the second term is the noise of the best decay (:func:`best_decay_exponent`). It falls like
    :math:`T^{-(b-1)/b}`, whatever the curvatures.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(best_schedule_risk(1e4, 1.5, 2.5, 0.1), 6)
    0.000993
    """
    a, b = curvature_exponent, source_exponent
    # at the minimum the noise is kappa a times what is left of the start
    return 0.5 / (1 - 1 / b) * exp(_log_gamma_over(a, b) - (1 - 1 / b) * _log_steps_over_noise(steps, a, noise))


@formula(
    PARAMETERS,
    steps=positive,
    noise=_NOISE,
    quantity="learning rate",
    status="asymptotic",
    source="derived",
    assumptions=_BEST,
)
def best_schedule_peak(
    steps: Numeric, curvature_exponent: Numeric, source_exponent: Numeric, noise: Numeric
) -> Numeric:
    r"""Learning rate that the best schedule starts from, on power laws.

    .. math:: \eta_1 = \frac{2aZ}{T}, \qquad (2Z)^{b/a} = \frac{\Gamma(\kappa+1)}{\Gamma(2-1/a)}\, \frac{T}{aN}

    It is proportional to :math:`T^{a/b-1}`. On easy tasks, :math:`b > a`, it falls with the length of the run and some
    decay of exponent :math:`2a-1` from the start is best. On hard ones, :math:`b < a`, it grows until it meets the
    largest stable rate: runs then stay at that one and decay at the end.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> round(best_schedule_peak(1e4, 1.5, 2.5, 0.1), 4)
    0.1259
    """
    a, b = curvature_exponent, source_exponent
    log_flow = a * _log_gamma_over(a, b) + a / b * _log_steps_over_noise(steps, a, noise)  # of 2 Z
    return a * exp(log_flow) / steps


@law(quantity="report")
@checked(model=instance_of(GaussianLeastSquares), schedule=schedule_of_rates, record=optional(increasing_steps))
def forcing_and_memory(model: GaussianLeastSquares, schedule: Numeric, *, record: Any = None) -> xr.Dataset:
    r"""A run of least squares as forcing and memory: exact, in continuous time, and to first order in the memory.

    With :math:`\rho_i = (1-\eta h_i)^2 + \eta^2 h_i^2/S`, exactly

    .. math:: R_t = \tfrac12 \sum_i h_i e_{0,i}^2 \prod_{s \le t} \rho_i(s) + \sum_{s \le t} \frac{\eta_s^2}{S}
        (2R_{s-1} + \sigma^2)\, \tfrac12 \sum_i h_i^2 \prod_{s < r \le t} \rho_i(r).

    In continuous time :math:`e^{-2\eta h_i}` takes the place of :math:`\rho_i`: off by a share of the order of the
    gain. To first order the risk in the memory is that of the start alone, as functional scaling laws are stated: at
    rest that is off by the factor :math:`1 - \eta \operatorname{tr} H/(2S)` at small rates, however slowly time runs.

    Status: exact for the excess risk and its two parts; the other two are the approximations that they are named after.

    Parameters
    ----------
    model : GaussianLeastSquares
    schedule : array, shape (T,), or a DataArray with the dim ``step``
        Learning rates :math:`\eta_1..\eta_T`.
    record : array of int, optional
        Steps 0..T to report. Default: the last one.

    Returns
    -------
    xarray.Dataset
        ``excess_risk``, ``forcing`` (what is left of the start), ``memory`` (the rest), ``continuous_risk`` and
        ``first_order_risk``, each (step).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.models.schedules import constant
    >>> model = GaussianLeastSquares([1.0, 0.5], 1.0, displacement=3.0, batch_size=4)
    >>> law = forcing_and_memory(model, constant(0.2, 200))
    >>> [round(law[name].item(), 4) for name in ("excess_risk", "continuous_risk", "first_order_risk")]
    [0.0219, 0.0195, 0.0188]
    """
    steps = schedule.sizes["step"] if isinstance(schedule, xr.DataArray) else schedule.size
    recorded = np.array([steps]) if record is None else record
    if recorded[-1] > steps:
        raise ValueError(f"forcing_and_memory: record must hold steps in 0..{steps}, got {recorded[-1]}")
    names = ("excess_risk", "forcing", "memory", "continuous_risk", "first_order_risk")
    h, draws, labels = model.feature_variance, model.batch_size, model.label_noise

    def core(schedule: Array) -> tuple[Array, ...]:
        start = model.displacement**2
        exact, forced, flowing, flowing_start, first = start.copy(), start.copy(), start.copy(), start.copy(), 0 * start

        def risk(second: Array) -> float:
            return float(0.5 * h @ second)

        rows = {int(step): row for row, step in enumerate(recorded)}
        made = np.empty((len(names), recorded.size))
        for step in range(int(recorded[-1]) + 1):
            if step:
                rate = schedule[step - 1]
                kept, flow = (1 - rate * h) ** 2 + (rate * h) ** 2 / draws, np.exp(-2 * rate * h)
                noise = rate**2 * h / draws
                flow_noise = rate * -np.expm1(-2 * rate * h) / (2 * draws)
                exact = kept * exact + noise * (2 * risk(exact) + labels)
                forced = kept * forced
                first = flow * first + flow_noise * (2 * risk(flowing_start) + labels)
                flowing = flow * flowing + flow_noise * (2 * risk(flowing) + labels)
                flowing_start = flow * flowing_start
            if step in rows:
                here = (risk(exact), risk(forced), risk(exact - forced), risk(flowing), risk(flowing_start + first))
                made[:, rows[step]] = here
        return tuple(np.where(np.isnan(values), math.inf, values) for values in made)

    with np.errstate(over="ignore", invalid="ignore"):
        results = over_points(core, [(schedule, ["step"])], [["recorded"]] * len(names), {"recorded": recorded.size})
    long_names = (
        "expected excess risk",
        "what is left of the start",
        "what is left of the noise",
        "excess risk in continuous time",
        "excess risk to first order in the memory",
    )
    data = xr.Dataset(
        {
            name: values.assign_attrs(long_name=long_name, units="loss")
            for name, long_name, values in zip(names, long_names, results, strict=True)
        }
    )
    coordinate = ("step", recorded, {"long_name": "step", "units": "1"})
    data = data.rename(recorded="step").assign_coords(step=coordinate)
    return data.assign_attrs(source="theory.quadratic.forcing_and_memory")
