r"""The loss along a direction, seen by a step of SGD: where it is least, and when the step goes past it.

Along a unit direction with slope :math:`\bar g` and curvature :math:`\lambda` of the full loss, :math:`\alpha` times
the step :math:`-\eta q` of a batch with slope :math:`q` changes the loss by

.. math:: \varphi_B(\alpha) = -\alpha\eta\,q\bar g + \tfrac12\alpha^2\eta^2\lambda q^2, \qquad
          E\,\varphi(\alpha) = -\alpha\eta\,\bar g^2 + \tfrac12\alpha^2\eta^2\lambda(\bar g^2 + v),

where :math:`v` is the variance of :math:`q`: the factor :math:`c_S = (n-S)/(S(n-1))` times the variance of per-example
slopes, for batches without replacement.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numbers, Numeric, checked, positive, real
from sgdynamics.formula import formula, law
from sgdynamics.theory._quotients import quotient
from sgdynamics.theory.sharpest_directions.parameters import PARAMETERS


@formula(
    PARAMETERS,
    quantity="share",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic along the direction", "unbiased batches"),
)
def mean_minimiser(
    learning_rate: Numeric, curvature: Numeric, slope: Numeric, batch_variance: Numeric = 0.0
) -> Numeric:
    r"""How far along its step SGD finds the least loss along a direction, on average over batches.

    The multiple of the step at which :math:`E\,\varphi` is least,

    .. math:: \hat\alpha = \frac{1}{\eta\lambda\,(1 + v/\bar g^2)}.

    Below 1 the step overshoots in the mean; below 1/2 it raises the mean loss along the direction. For the full batch
    it is :math:`1/(\eta\lambda)`. Of a run use :func:`step_to_curvature`: the mean of these ratios over steps is badly
    biased, because the slope crosses zero.

    Returns
    -------
    Numeric
        :math:`\hat\alpha`, dimensionless.

    Examples
    --------
    >>> mean_minimiser(0.5, 4.0, slope=1.0)
    0.5
    >>> mean_minimiser(0.5, 4.0, slope=1.0, batch_variance=1.0)
    0.25
    """
    return 1 / (learning_rate * curvature * (1 + batch_variance / slope**2))


@formula(
    PARAMETERS,
    quantity="share",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic along every step", "unbiased batches"),
)
def mean_minimiser_of_interaction(learning_rate: Numeric, interaction: Numeric) -> Numeric:
    r"""The mean minimiser from the gradient-noise interaction: :math:`\hat\alpha = 1/(\eta\,\mathrm{GNI})`.

    Along one direction :math:`\mathrm{GNI} = E[q^2]\lambda/\bar g^2`. In all of space the least mean loss along the
    steps of SGD is at the same multiple, with :math:`\mathrm{GNI} = E[g_B^THg_B]/|\bar g|^2`; it is then also half of
    the ratio of the critical to the actual interaction-aware sharpness.

    Returns
    -------
    Numeric
        :math:`\hat\alpha`; 1/2 where the interaction is :math:`2/\eta`.

    Examples
    --------
    >>> mean_minimiser_of_interaction(0.1, 20.0)
    0.5
    """
    return 1 / (learning_rate * interaction)


@formula(
    PARAMETERS,
    quantity="learning rate",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("quadratic along the step",),
)
def curvature_matched_rate(learning_rate: Numeric, minimiser: Numeric, factor: Numeric = 1.0) -> Numeric:
    r"""The learning rate at which the minimiser is at :math:`1/\sigma` of the step: :math:`\sigma\hat\alpha\,\eta`.

    For the direction :math:`u` of a step it is :math:`\sigma\,(-\bar g\cdot u)/(u^THu)`. With :math:`\sigma=1` the step
    ends at the least loss; with :math:`\sigma=2` it leaves the loss where it was.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> curvature_matched_rate(0.1, minimiser=0.5, factor=2.0)
    0.1
    """
    return quotient((factor, minimiser, learning_rate))


_EVENT = {"learning_rate": positive, "curvature": real, "slope": real, "batch_slope": real}


@overload
def overshoots(  # type: ignore[overload-overlap]
    learning_rate: float, curvature: float, slope: float, batch_slope: float
) -> np.bool: ...
@overload
def overshoots(  # type: ignore[overload-overlap]
    learning_rate: float | Numbers, curvature: float | Numbers, slope: float | Numbers, batch_slope: float | Numbers
) -> NDArray[np.bool]: ...
@overload
def overshoots(
    learning_rate: float | xr.DataArray,
    curvature: float | xr.DataArray,
    slope: float | xr.DataArray,
    batch_slope: float | xr.DataArray,
) -> xr.DataArray: ...
@law(PARAMETERS, quantity="outcome")
@checked(**_EVENT)
def overshoots(learning_rate: Numeric, curvature: Numeric, slope: Numeric, batch_slope: Numeric) -> Numeric:
    r"""Whether a step of SGD goes past the least loss along a direction: :math:`\varphi_B'(1) > 0`.

    .. math:: \eta\lambda\,q^2 > q\,\bar g

    For a positive curvature: the batch slope has the wrong sign, or :math:`|\bar g| < \eta\lambda|q|`. It does not
    depend on the sign of the direction.

    Status: exact for a loss that is quadratic along the direction.

    Parameters
    ----------
    curvature, slope : Numeric
        :math:`\lambda` and :math:`\bar g`, of the full loss along the direction.
    batch_slope : Numeric
        :math:`q`, of the batch's loss.

    Returns
    -------
    bool, array of bool or DataArray of bool

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> bool(overshoots(0.1, 8.0, slope=1.0, batch_slope=1.0)), bool(overshoots(0.1, 8.0, slope=1.0, batch_slope=2.0))
    (False, True)
    """
    return learning_rate * curvature * batch_slope**2 > batch_slope * slope


@overload
def increases(  # type: ignore[overload-overlap]
    learning_rate: float, curvature: float, slope: float, batch_slope: float
) -> np.bool: ...
@overload
def increases(  # type: ignore[overload-overlap]
    learning_rate: float | Numbers, curvature: float | Numbers, slope: float | Numbers, batch_slope: float | Numbers
) -> NDArray[np.bool]: ...
@overload
def increases(
    learning_rate: float | xr.DataArray,
    curvature: float | xr.DataArray,
    slope: float | xr.DataArray,
    batch_slope: float | xr.DataArray,
) -> xr.DataArray: ...
@law(PARAMETERS, quantity="outcome")
@checked(**_EVENT)
def increases(learning_rate: Numeric, curvature: Numeric, slope: Numeric, batch_slope: Numeric) -> Numeric:
    r"""Whether a step of SGD raises the full loss along a direction: :math:`\varphi_B(1) > 0`.

    .. math:: \tfrac12\eta\lambda\,q^2 > q\,\bar g

    Status: exact for a loss that is quadratic along the direction.

    Parameters
    ----------
    curvature, slope : Numeric
        :math:`\lambda` and :math:`\bar g`, of the full loss along the direction.
    batch_slope : Numeric
        :math:`q`, of the batch's loss.

    Returns
    -------
    bool, array of bool or DataArray of bool

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> bool(increases(0.1, 8.0, slope=1.0, batch_slope=2.0)), bool(increases(0.1, 8.0, slope=1.0, batch_slope=3.0))
    (False, True)
    """
    return learning_rate * curvature * batch_slope**2 / 2 > batch_slope * slope
