r"""Gradient flow from a balanced start: every singular value of the target is learned by itself.

With inputs whitened and layers balanced and aligned with the target, the strength :math:`a` of a mode of singular value
:math:`s` obeys, in time :math:`t` = learning rate times step,

.. math:: \frac{da}{dt} = D\, a^{2-2/D} (s - a) .
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import Numeric, checked, complain, integer, is_symbolic, nonnegative, one, positive
from sgdynamics.formula import exp, formula, law, log, where
from sgdynamics.models.deep_linear.parameters import PARAMETERS

_BALANCED_FLOW = ("gradient flow", "whitened inputs", "balanced start aligned with the target")


@formula(
    PARAMETERS,
    quantity="strength",
    status="exact",
    symbolic=True,
    source="saxe2013",
    assumptions=(*_BALANCED_FLOW, "two layers"),
)
def two_layer_strength(time: Numeric, start: Numeric, singular_value: Numeric) -> Numeric:
    r"""Strength of a mode of a two-layer network.

    .. math:: a(t) = \frac{s\, a_0}{a_0 + (s - a_0)\, e^{-2st}}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_layer_strength(0.0, 0.25, 1.0), two_layer_strength(50.0, 0.25, 1.0)
    (0.25, 1.0)
    """
    if any(map(is_symbolic, (time, start, singular_value))):
        return singular_value * start / (start + (singular_value - start) * exp(-2 * singular_value * time))
    left, gone = np.exp(-2 * singular_value * time), -np.expm1(-2 * singular_value * time)
    ratio = start / singular_value
    return where(ratio <= 1, start / (left + ratio * gone), singular_value / (left / ratio + gone))


def _log_odds_ratio(one: Numeric, other: Numeric) -> Numeric:
    r""":math:`\ln\frac{p(1-p_0)}{p_0(1-p)}` in two terms of one sign, however close the fractions are."""
    if is_symbolic(one) or is_symbolic(other):
        return log(one * (1 - other) / (other * (1 - one)))
    low, high = np.minimum(one, other), np.maximum(one, other)
    growth = (high - low) / low
    of_fractions = where(growth < 1e10, np.log1p(growth), np.log(high) - np.log(low))
    return np.sign(one - other) * (of_fractions + np.log1p((high - low) / (1 - high)))


@formula(
    PARAMETERS,
    quantity="time",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_BALANCED_FLOW, "two layers"),
)
def two_layer_learning_time(fraction: Numeric, start_fraction: Numeric, singular_value: Numeric) -> Numeric:
    r"""Time in which two layers learn a mode from one fraction of its singular value to another.

    .. math:: t = \frac{1}{2s} \Bigl[ \ln\frac{p}{1-p} - \ln\frac{p_0}{1-p_0} \Bigr]

    Strong modes first: the time goes like :math:`1/s`, but for a logarithm of the start.

    Returns
    -------
    Numeric
        Learning rate times steps.

    Examples
    --------
    >>> round(two_layer_learning_time(0.5, 0.01, 2.0), 6)
    1.14878
    """
    return _log_odds_ratio(fraction, start_fraction) / 2 / singular_value


@formula(
    PARAMETERS,
    quantity="time",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_BALANCED_FLOW, "depth to infinity at fixed depth times time"),
)
def infinite_depth_learning_time(fraction: Numeric, start_fraction: Numeric, singular_value: Numeric) -> Numeric:
    r"""Depth times the time to learn a mode, as the depth goes to infinity.

    .. math:: D t \to \frac{1}{s^2} \Bigl[ \ln\frac{p\,(1-p_0)}{p_0\,(1-p)} + \frac{1}{p_0} - \frac1p \Bigr],

    the time of :math:`da/dt = a^2 (s-a)`. A small start now costs its inverse, not its logarithm.

    Returns
    -------
    Numeric
        Depth times learning rate times steps.

    Examples
    --------
    >>> round(infinite_depth_learning_time(0.5, 0.01, 2.0), 4)
    25.6488
    """
    waiting = (fraction - start_fraction) / fraction / start_fraction
    return (_log_odds_ratio(fraction, start_fraction) + waiting) / singular_value / singular_value


@law(quantity="strength")
@checked(time=nonnegative, start=one(positive), singular_value=one(positive), depth=integer(1))
def mode_strength(time: ArrayLike, start: float, singular_value: float, depth: int) -> xr.DataArray:
    r"""Strength of a mode of a network of any depth, by integrating :math:`\dot a = D a^{2-2/D} (s-a)`.

    Status: exact but for the tolerance of the integrator, a relative 1e-10.

    Parameters
    ----------
    time : array, shape (times,), or float
        :math:`t \ge 0`, learning rate times step; strictly increasing.
    start : float
        :math:`a_0 > 0`.
    singular_value : float
        :math:`s > 0` of the target.
    depth : int
        :math:`D \ge 1` weight matrices.

    Returns
    -------
    xarray.DataArray
        Dim ``time``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Saxe et al. 2013. The equation is integrated for :math:`\ln a`, which starts may be far below.

    Examples
    --------
    >>> mode_strength([0.0, 2.0], 0.01, 2.0, 2).values.round(6)
    array([0.01    , 1.874841])
    """
    from scipy.integrate import solve_ivp

    times: NDArray[np.float64] = np.atleast_1d(np.asarray(time, dtype=np.float64))
    if times.ndim != 1 or (np.diff(times) <= 0).any():
        raise complain("mode_strength", "time", "a 1-D array of strictly increasing times >= 0", time)
    power = 1 - 2 / depth

    def speed(_: float, logarithm: NDArray[np.float64]) -> NDArray[np.float64]:
        strength = np.exp(logarithm)
        return np.asarray(depth * strength**power * (singular_value - strength))

    end = float(times[-1]) or 1.0  # an interval of no length gives no values
    found = solve_ivp(speed, (0.0, end), [np.log(start)], method="LSODA", t_eval=times, rtol=1e-12, atol=1e-12)
    return xr.DataArray(
        np.exp(found.y[0]),
        dims="time",
        coords={"time": ("time", times, {"long_name": "learning rate times step", "units": "1"})},
        attrs={"long_name": "mode strength", "units": "1"},
    )
