r"""The variance of any average of a run at rest, with or without momentum."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numbers, Numeric, Value, average, checked, flag, positive, swept, unit_interval
from sgdynamics.formula import law
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory.quadratic._sweep import over_points, unswept
from sgdynamics.theory.quadratic.stationary import stationary_variance

__all__ = ["average_variance"]

Array = NDArray[np.float64]


def _correlations(gain: float, momentum: float, nesterov: bool, lags: int) -> Array:
    """Of iterates that are 0, 1, ... steps apart: an autoregression of second order, started at its own beginning."""
    from scipy.signal import lfilter

    kept = 1 - gain if nesterov else 1.0
    trace, determinant = kept * (1 + momentum) - (0 if nesterov else gain), kept * momentum
    first = trace / (1 + determinant)
    impulse = np.zeros(lags)
    impulse[0] = 1.0
    made: Array = lfilter([1.0, first - trace], [1.0, -trace, determinant], impulse)
    return made


@law(PARAMETERS, quantity="variance")
@checked(gain=swept(positive), average=average, momentum=swept(unit_interval), nesterov=flag)
def average_variance(
    gain: float | Value, average: Numbers | xr.DataArray, *, momentum: float | Value = 0.0, nesterov: bool = False
) -> Value:
    r"""Variance of a weighted average of the iterates of a run at rest, with or without momentum.

    .. math:: V = V_1 \sum_{s,t} \alpha_s \alpha_t \rho_{|s-t|}, \qquad \rho_1 = \frac{t}{1+d}, \quad
        \rho_{k+1} = t \rho_k - d \rho_{k-1}

    with the variance :math:`V_1` of one iterate (:func:`stationary_variance`) and trace and determinant of a step,
    :math:`1+\beta-x` and :math:`\beta` for the heavy ball, :math:`(1+\beta)(1-x)` and :math:`\beta(1-x)` for Nesterov.
    For plain SGD it is :func:`tail_variance`, :func:`two_point_variance` or :func:`ema_variance` where the weights are.

    A uniform tail of n points much longer than the memory of a run has the variance 1/n, whatever gain and momentum: it
    sees the noise alone. Two points of a run that oscillates may be worth more than two independent ones.

    Status: exact, for additive noise and a stationary run.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0; a DataArray sweeps. At or beyond the stability
        edge the result is +inf.
    average : array, shape (T + 1,), or a DataArray with the dim ``step``
        Weights over consecutive iterates that sum to 1, as from :mod:`sgdynamics.models.schedules`.

    Returns
    -------
    Numeric
        Variance in units of the center variance. A float, or labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.models.schedules import tail
    >>> weights = tail(399, points=400)
    >>> average_variance(0.1, weights), average_variance(0.1, weights, momentum=0.9)
    (0.0024407..., 0.0025547...)
    """
    from scipy.linalg import matmul_toeplitz

    def core(gain: Array, average: Array, momentum: Array) -> float:
        x, beta = float(gain), float(momentum)
        variance = stationary_variance(x, momentum=beta, nesterov=nesterov)
        if np.isinf(variance):
            return math.inf
        correlations = _correlations(x, beta, nesterov, average.size)
        return float(variance) * float(average @ matmul_toeplitz(correlations, average))

    (made,) = over_points(core, [(gain, []), (average, ["step"]), (momentum, [])], [[]], {})
    swept: Numeric = unswept(made)
    return cast("Value", swept)
