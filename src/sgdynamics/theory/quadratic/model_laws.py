"""The stationary law of a whole model, and where it ceases to exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, flag, instance_of, positive, swept, unit_interval
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory.quadratic._gradient_noise import ANY_MODEL, MatrixModel, gradient_noise
from sgdynamics.theory.quadratic._matrix_stationary import stationary_covariance
from sgdynamics.theory.quadratic._sweep import over_modes, over_points
from sgdynamics.theory.quadratic.stationary import contraction_factor, stability_edge, stationary_variance

Array = NDArray[np.float64]


@law(PARAMETERS, quantity="report")
@checked(
    model=ANY_MODEL,
    learning_rate=swept(positive),
    momentum=swept(unit_interval),
    nesterov=flag,
)
def stationary(
    model: MiniBatchQuadratic | MatrixModel,
    learning_rate: Numeric,
    *,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
) -> xr.Dataset:
    r"""Stationary law of a whole model above its floor.

    ===============================  ==================================================================================
    :class:`MiniBatchQuadratic`      :math:`R = \tfrac12 \sum_i n_i h_i \sigma_i^2 V(\eta h_i)`
    :class:`FullQuadratic`           :math:`S_{ij} = C_{ij}` times :func:`covariance_ratio`, in the eigenbasis of H
    :class:`FiniteSumQuadratic`      the same with the gradient noise in place of HCH/B that solves :math:`G =
                                     E[\Delta S(G) \Delta] + E f f^\top`, a linear system; epoch ends if reshuffled
    :class:`GaussianLeastSquares`    a closed sum over directions, see :func:`trace_rule_term`
    ===============================  ==================================================================================

    Directions without curvature never leave their start and count as constants, of covariance 0.

    Status: exact.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Examples of different curvature that are reshuffled have no closed law and are refused.

    Returns
    -------
    xarray.Dataset
        ``variance`` (mode), ``excess_risk``, ``floor`` and ``effective_dimension`` :math:`(\sum v)^2/\sum v^2`, which
        :func:`shell_fluctuation` takes; except for MiniBatchQuadratic also ``covariance`` (mode, other_mode), in the
        coordinates of the model, and the dimension is :math:`(\operatorname{tr} S)^2/\operatorname{tr} S^2`. Beyond
        the mean-square edge variances, covariances and risk are +inf and the dimension is NaN.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> law = stationary(MiniBatchQuadratic([1.0, 0.1], 1.0), 0.5)
    >>> print(f"{float(law.excess_risk):.10f} above {float(law.floor):.2f}")
    0.1679487179 above 0.55
    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic
    >>> law = stationary(FiniteSumQuadratic([0.5, 1.5], center_covariance=1.0), 0.8)
    >>> round(float(law.variance[0]), 12)  # the additive-noise value would be 0.8/1.2
    1.0
    """
    if not isinstance(model, MiniBatchQuadratic):
        variance, covariance, risk, dimension = _matrix_law(model, learning_rate, momentum, nesterov)
    else:
        variance, risk, dimension = _diagonal_law(model, learning_rate, momentum, nesterov)
        covariance = None
    data = xr.Dataset(
        {
            "variance": variance.assign_attrs(long_name="stationary variance", units="weight^2"),
            "excess_risk": risk.assign_attrs(long_name="stationary excess risk", units="loss"),
            "floor": xr.DataArray(model.floor).assign_attrs(long_name="irreducible batch loss", units="loss"),
            "effective_dimension": dimension.assign_attrs(
                long_name="effective dimension of the stationary law", units="1"
            ),
        }
    )
    if covariance is None:
        return data
    return data.assign(covariance=covariance.assign_attrs(long_name="stationary covariance", units="weight^2"))


def _diagonal_law(
    model: MiniBatchQuadratic, learning_rate: Numeric, momentum: Numeric, nesterov: bool
) -> tuple[xr.DataArray, ...]:
    """Variance, risk and effective dimension."""

    def core(
        curvature: Array, center_variance: Array, _: Array, multiplicity: Array, rate: Array, momentum: Array
    ) -> tuple[Array, Any, Any]:
        per_center = np.asarray(stationary_variance(rate * curvature, momentum=momentum, nesterov=nesterov))
        with np.errstate(invalid="ignore"):
            variance = np.where(np.isinf(per_center), np.inf, center_variance * per_center)
            risk = 0.5 * np.sum(multiplicity * curvature * variance)
            dimension = np.sum(multiplicity * variance) ** 2 / np.sum(multiplicity * variance**2)
        return variance, risk, dimension

    return over_modes(core, model, [(learning_rate, []), (momentum, [])], [["mode"], [], []], sizes={})


def _matrix_law(
    model: MatrixModel, learning_rate: Numeric, momentum: Numeric, nesterov: bool
) -> tuple[xr.DataArray, ...]:
    """Variance, covariance, risk and effective dimension."""
    hessian = gradient_noise(model).hessian

    def core(rate: Array, momentum: Array) -> tuple[Array, Array, Any, Any]:
        covariance = stationary_covariance(model, float(rate), float(momentum), nesterov)
        variance = np.diagonal(covariance).copy()
        with np.errstate(invalid="ignore"):
            risk = np.inf if np.isinf(variance).any() else 0.5 * (hessian * covariance).sum()
            dimension = variance.sum() ** 2 / (covariance**2).sum()
        return variance, covariance, risk, dimension

    return over_points(
        core,
        [(learning_rate, []), (momentum, [])],
        [["mode"], ["mode", "other_mode"], [], []],
        sizes={"mode": model.modes, "other_mode": model.modes},
    )


@law(PARAMETERS, quantity="report")
@checked(
    model=instance_of(MiniBatchQuadratic), learning_rate=swept(positive), momentum=swept(unit_interval), nesterov=flag
)
def stability(
    model: MiniBatchQuadratic, learning_rate: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> xr.Dataset:
    """Stability of a whole model in mean, in mean square and almost surely.

    Status: exact for additive noise, where the three verdicts agree.

    Parameters
    ----------
    model : MiniBatchQuadratic

    Returns
    -------
    xarray.Dataset
        ``mean_factor`` and ``mean_square_factor``, growth per step of mean and second moment; ``lyapunov_exponent`` per
        step of a path; ``edge``, the largest stable learning rate; ``outcome``, by the exact edge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> Outcome(int(stability(MiniBatchQuadratic([1.0, 0.1], 1.0), 2.5).outcome)).sentence
    'The iterates grow without bound.'
    """

    def core(
        curvature: Array, _: Array, __: Array, ___: Array, rate: Array, momentum: Array
    ) -> tuple[float, float, float, float, float]:
        slowest = np.max(contraction_factor(rate * curvature, momentum=momentum, nesterov=nesterov))
        edge = np.min(stability_edge(curvature, momentum=momentum, nesterov=nesterov))
        code = Outcome.STABLE if rate < edge else Outcome.DIVERGED if rate > edge else Outcome.MARGINAL
        with np.errstate(divide="ignore"):
            return slowest, slowest**2, np.log(slowest), edge, float(code)

    verdicts = outcome_attributes(Outcome.STABLE, Outcome.MARGINAL, Outcome.DIVERGED)
    described = {
        "mean_factor": {"long_name": "growth of the mean per step", "units": "1"},
        "mean_square_factor": {"long_name": "growth of the second moment per step", "units": "1"},
        "lyapunov_exponent": {"long_name": "Lyapunov exponent", "units": "1/step"},
        "edge": {"long_name": "largest stable learning rate", "units": "1/curvature"},
        "outcome": verdicts,
    }
    values = over_modes(core, model, [(learning_rate, []), (momentum, [])], [[]] * len(described), sizes={})
    data = xr.Dataset(
        {name: value.assign_attrs(attrs) for (name, attrs), value in zip(described.items(), values, strict=True)}
    )
    return data.assign(outcome=data.outcome.astype(np.int8))
