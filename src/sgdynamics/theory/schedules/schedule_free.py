r"""Schedule-Free SGD, Polyak averaging and primal averaging as weights of the same centers."""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr

from sgdynamics.domains import Numbers, Numeric, checked, closed_unit_interval
from sgdynamics.formula import law
from sgdynamics.theory.schedules._along_steps import AnyNumbers, Array, gain_sequence, scalar, sweep


def _schedule_free_weights(gains: Array, interpolation: Array) -> tuple[Array, Array]:
    steps = gains.shape[-1]
    shape = np.broadcast_shapes(gains.shape[:-1], np.shape(interpolation))
    weights = np.empty((*shape, steps))
    base, averaged = np.zeros(shape), np.ones(shape)  # adjoints of z_t and x_t
    for t in range(steps, 0, -1):
        gain = gains[..., t - 1]
        base, averaged = base + averaged / t, averaged * (1 - 1 / t)
        weight = gain * base
        weights[..., t - 1] = weight
        base, averaged = base - (1 - interpolation) * weight, averaged - interpolation * weight
    return base + averaged, weights


@overload
def schedule_free_weights(gains: xr.DataArray, interpolation: AnyNumbers) -> tuple[xr.DataArray, xr.DataArray]: ...
@overload
def schedule_free_weights(gains: Numbers, interpolation: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]: ...
@overload
def schedule_free_weights(gains: Numbers, interpolation: Numbers | float) -> tuple[float | Array, Array]: ...
@law(quantity="center weights")
@checked(gains=gain_sequence, interpolation=closed_unit_interval)
def schedule_free_weights(gains: Numeric, interpolation: Numeric) -> tuple[Numeric, Numeric]:
    r"""Weights of the start and of every batch center in the averaged point of Schedule-Free SGD.

    The method interpolates, steps and averages: :math:`y_t = (1-b) z_{t-1} + b x_{t-1}`,
    :math:`z_t = z_{t-1} - g_t (y_t - c_t)`, :math:`x_t = (1 - 1/t) x_{t-1} + z_t/t`, with :math:`z_0 = x_0`.
    :math:`b = 0` is Polyak averaging, :math:`b = 1` primal averaging.

    Status: exact, pathwise, at one curvature. For large :math:`b` the equivalent schedule
    (:func:`gains_from_weights`) leaves [0, 1].

    Parameters
    ----------
    gains : array, shape (..., T), or a DataArray with the dim ``step``
        Gains of the base sequence.
    interpolation : Numeric
        :math:`b`, in [0, 1].

    Returns
    -------
    start_weight : float or array, shape (...)
    weights : array, shape (..., T)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Defazio et al. 2024.

    Examples
    --------
    >>> import numpy as np
    >>> _, weights = schedule_free_weights(np.full(100, 0.3), 0.9)
    >>> print(f"{(weights**2).sum():.6f}")
    0.041688
    """
    start_weight, weights = sweep(_schedule_free_weights, [gains, interpolation], ["step", ""], ["", "step"])
    return scalar(start_weight), weights
