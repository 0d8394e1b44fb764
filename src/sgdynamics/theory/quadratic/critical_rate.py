r"""The critical rate of a step: how much longer the step could be before the expected loss rises.

A step :math:`x \to x - \eta u` of a run that is to be looked at again along its own direction: at :math:`x - s u` the
expected loss is a parabola in :math:`s`, which comes back to the loss at :math:`s = 0` at the critical rate
:math:`\eta_c`. Two over it is the critical sharpness, which needs a few evaluations of the loss and no Hessian.

**What it certifies.** Where the expected loss stays, :math:`E L(x - \eta u) = E L(x)`, the critical rate *is* the rate,
:math:`\eta_c = \eta`, whatever the spectrum, the batch size, the optimiser; no more than a convex profile is used. So
:math:`\eta_c/\eta` near 1 says that the run no longer descends on average, not why. On a plateau of gradient noise
every curvature may be far below :math:`2/\eta`; in one direction the critical gain is :func:`equivalent_gain` of the
second moment, :math:`2v/(1+v)`. Without noise the profile is that of the gradient itself, and the critical sharpness is
an average of curvatures,

.. math:: \frac{2}{\eta_c} = \frac{\sum_i n_i h_i^3 m_i^2}{\sum_i n_i h_i^2 m_i^2} \le h_{\max},

so that there :math:`\eta_c = \eta` does mean that the curvature along the gradient is at :math:`2/\eta`. To tell the
two apart, ask for the :math:`\eta_c` of the full gradient: at the edge it is :math:`\eta` as well, on a plateau of
noise it is larger.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Numeric, checked, flag, increasing_steps, optional
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.quadratic._gradient_noise import ANY_MODEL, MatrixModel, gradient_noise
from sgdynamics.theory.quadratic._sweep import over_modes
from sgdynamics.theory.quadratic.moments import moments

__all__ = ["critical_rate"]

Array = NDArray[np.float64]


def _ratio(slope: Any, bend: Any) -> Any:
    """Twice the slope over the bend: where the parabola comes back to its start. NaN where there is nothing to lose."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * slope / bend


def _by_mode(model: MiniBatchQuadratic, second: xr.DataArray, noisy: bool) -> xr.DataArray:
    def core(curvature: Array, variance: Array, _: Array, multiplicity: Array, second: Array) -> Any:
        square = multiplicity * curvature**2
        with np.errstate(over="ignore", invalid="ignore"):
            bend = square * curvature * (second + variance if noisy else second)
            return _ratio((square * second).sum(-1), bend.sum(-1))

    (made,) = over_modes(
        core, model, [(second, ["step", "mode"])], outputs=[["step"]], sizes={"step": second.sizes["step"]}
    )
    return made


def _by_matrix(model: MatrixModel, law: xr.Dataset, noisy: bool) -> xr.DataArray:
    noise = gradient_noise(model)
    hessian = noise.hessian

    def core(second: Array, mean: Array) -> Any:
        with one_blas_thread():
            gradient = hessian @ second @ hessian
        step = gradient + noise.covariance(second, mean) if noisy else gradient
        return _ratio(np.trace(gradient), np.sum(hessian * step))

    made: xr.DataArray = xr.apply_ufunc(
        core,
        law.second_moment,
        law.mean_error,
        input_core_dims=[["mode", "other_mode"], ["mode"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return made


@law(quantity="learning rate")
@checked(
    model=ANY_MODEL,
    schedule=schedule_of_rates,
    full_gradient=flag,
    record=optional(increasing_steps),
)
def critical_rate(
    model: MiniBatchQuadratic | MatrixModel,
    schedule: Numeric,
    *,
    full_gradient: bool = False,
    record: Any = None,
) -> xr.DataArray:
    r"""Learning rate at which the next step of a run would no longer lower the expected loss.

    .. math:: \eta_c = \frac{2 \operatorname{tr}(H S H)}{\operatorname{tr} H (H S H + G)}

    with the second moment :math:`S` of the error, from :func:`moments`, and the covariance :math:`G` of the gradient of
    one batch; without :math:`G` for steps along the full gradient. Loss and batch are independent: this is the loss
    that is held out, not that of the batch that made the step.

    Status: exact for plain SGD, of expected losses: the critical rate of one step is a random number.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
    schedule : array, shape (T,), or a DataArray with the dim ``step``
        Learning rates of the run until then.
    full_gradient : bool
        Steps along the full gradient in place of that of a batch.
    record : array of int, optional
        Steps 0..T at whose point it is asked for. Default: the last one.

    Returns
    -------
    xarray.DataArray
        (step), after the dims of any sweep. Two over it is the critical sharpness. NaN where the run is at the
        minimiser and nothing moves it.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    On a plateau of noise it is the rate, of a batch; the full gradient is still far from the edge.

    >>> from sgdynamics.models.schedules import constant
    >>> model = MiniBatchQuadratic([1.0, 0.1], 1.0, displacement=1.0)
    >>> round(critical_rate(model, constant(0.5, 1000)).item(), 6)
    0.5
    >>> round(critical_rate(model, constant(0.5, 1000), full_gradient=True).item(), 3)
    2.001
    """
    law = moments(model, schedule, record=record)
    noisy = not full_gradient
    if isinstance(model, MiniBatchQuadratic):
        made = _by_mode(model, law.variance + law.mean_error**2, noisy)
    else:
        made = _by_matrix(model, law, noisy)
    return (
        made.assign_coords(step=law.step)
        .rename("critical_rate")
        .assign_attrs(
            long_name="critical rate of a step", units="learning rate", source="theory.quadratic.critical_rate"
        )
    )
