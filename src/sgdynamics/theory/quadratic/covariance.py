r"""Directions of different curvature under noise that correlates them, and the memory of the iterates.

With batch centers of covariance :math:`C` the errors obey
:math:`S_t = (I - \eta_t H) S_{t-1} (I - \eta_t H) + \eta_t^2 H C H`. In the eigenbasis of :math:`H` the entries of the
covariance separate, whether or not :math:`H` and :math:`C` commute.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, flag, increasing_steps, positive, swept, unit_interval
from sgdynamics.formula import formula, law, stable_below, where
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory.quadratic._gradient_noise import MATRIX_MODEL, MatrixModel
from sgdynamics.theory.quadratic._kernel import edge_gain, kernel_parts
from sgdynamics.theory.quadratic._matrix_stationary import lagged_covariance
from sgdynamics.theory.quadratic._sweep import over_points

__all__ = ["autocovariance", "covariance_ratio"]

Array = NDArray[np.float64]


@formula(
    PARAMETERS,
    edge=stable_below(
        gain=lambda other_gain, momentum, nesterov: where(
            other_gain < edge_gain(momentum, nesterov), edge_gain(momentum, nesterov), 0.0
        )
    ),
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def covariance_ratio(gain: Numeric, other_gain: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Stationary covariance of the iterates in two eigendirections, per covariance of the batch centers.

    With gains :math:`x = \eta h_i`, :math:`y = \eta h_j`

    .. math::
        \frac{S_{ij}}{C_{ij}} = \frac{xy}{x + y - xy}, \qquad
        \text{heavy ball: } \frac{(1-\beta^2)\, xy}{(1-\beta)^2 [(1+\beta)(x+y) - xy] + \beta (x-y)^2},

    .. math::
        \text{Nesterov: } \frac{(1 - \beta^2 pq)\, xy}{(1-\beta p)(1-\beta q) [(1+\beta)(x+y) - (1+2\beta) xy]
        + \beta^2 (x-y)^2}, \quad p = 1-x,\ q = 1-y.

    At equal gains this is :func:`stationary_variance`. Momentum decorrelates directions of different curvature: the
    squares :math:`(x-y)^2` are what it adds.

    Returns
    -------
    Numeric
        :math:`S_{ij}/C_{ij}`, where :math:`C_{ij}` is an entry of the covariance of the centers of one mini-batch in
        the eigenbasis of the Hessian.

    Examples
    --------
    >>> covariance_ratio(0.5, 0.1)
    0.0909090...
    """
    numerator, denominator = kernel_parts(gain, other_gain, momentum, nesterov)
    return numerator / denominator


@law(PARAMETERS, quantity="second moment")
@checked(
    model=MATRIX_MODEL,
    learning_rate=swept(positive),
    lags=increasing_steps,
    momentum=swept(unit_interval),
    nesterov=flag,
)
def autocovariance(
    model: MatrixModel, learning_rate: Numeric, lags: Any, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> xr.DataArray:
    r"""Stationary covariance of two iterates a number of steps apart.

    .. math:: E\, e_{t+k} e_t^\top = (I - \eta H)^k S

    with the mean Hessian :math:`H`, also where Hessians are random; with momentum the same for the state of error and
    velocity. Given the present state, fresh batches change the mean of the future by the mean Hessian alone.

    Status: exact, for batches that are independent from step to step.

    Parameters
    ----------
    model : FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
    lags : array of int
        Increasing numbers of steps :math:`k \ge 0`.

    Returns
    -------
    xarray.DataArray
        Over the dims of the sweep, then (lag, mode, other_mode): the later iterate first. Not symmetric for k > 0.
        +inf beyond the mean-square edge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or the model is reshuffled: its law is not the same at all steps.

    Examples
    --------
    >>> from sgdynamics.models.quadratic import FullQuadratic
    >>> model = FullQuadratic([[1.0, 0.0], [0.0, 0.1]], [[1.0, 0.5], [0.5, 1.0]])
    >>> autocovariance(model, 0.5, [0, 1]).values[:, 0, 1].round(6)
    array([0.02381 , 0.011905])
    """

    def core(rate: Array, momentum: Array) -> Array:
        return lagged_covariance(model, float(rate), lags, float(momentum), nesterov)

    (made,) = over_points(
        core,
        [(learning_rate, []), (momentum, [])],
        [["lag", "mode", "other_mode"]],
        {"lag": lags.size, "mode": model.modes, "other_mode": model.modes},
    )
    labelled: xr.DataArray = made.assign_coords(lag=("lag", lags, {"long_name": "lag", "units": "step"}))
    return labelled.rename("autocovariance").assign_attrs(
        long_name="stationary autocovariance", units="weight^2", source="theory.quadratic.autocovariance"
    )
