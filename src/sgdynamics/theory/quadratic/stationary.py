r"""Stationary laws of the iterates and of their averages, and the edge where they cease to exist.

One direction of curvature :math:`h`, constant learning rate :math:`\eta`, independent batch centers of variance
:math:`\sigma^2`; gain :math:`x = \eta h`, :math:`a = 1 - x`. Variances are in units of :math:`\sigma^2`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import (
    Numeric,
    checked,
    count,
    flag,
    instance_of,
    is_symbolic,
    nonnegative,
    positive,
    unit_interval,
)
from sgdynamics.formula import decay, decayed, formula, geometric_sum, sqrt, stable_below, triangular_sum, where
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory.quadratic._gradient_noise import MatrixModel, gradient_noise
from sgdynamics.theory.quadratic._kernel import edge_gain
from sgdynamics.theory.quadratic._matrix_stationary import stationary_covariance
from sgdynamics.theory.quadratic._sweep import over_modes, over_points

Array = NDArray[np.float64]


@formula(
    gain=positive,
    momentum=unit_interval,
    nesterov=flag,
    edge=stable_below(gain=edge_gain),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def stationary_variance(gain: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Stationary variance of the iterates of SGD, with or without momentum.

    .. math:: V = \frac{x}{2-x}, \qquad
        V_\text{heavy ball} = \frac{x (1+\beta)}{(1-\beta)(2(1+\beta) - x)}, \qquad
        V_\text{Nesterov} = \frac{x (1+\beta q)}{(1-\beta q)(1 + q (1+2\beta))}, \quad q = 1-x.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond the stability edge the result is
        +inf.
    momentum : Numeric
        :math:`\beta` in [0, 1), with :math:`u \leftarrow \beta u + \nabla`, :math:`x \leftarrow x - \eta u`.
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

    Returns
    -------
    Numeric
        Variance in units of the center variance; broadcasts; symbolic for symbolic input.

    Examples
    --------
    >>> stationary_variance(0.1)
    0.052631...
    >>> stationary_variance(0.1, momentum=0.9)
    0.513513...
    """
    if nesterov:
        q = 1 - gain
        return gain * (1 + momentum * q) / (((1 - momentum) + momentum * gain) * (1 + q * (1 + 2 * momentum)))
    return gain * (1 + momentum) / ((1 - momentum) * (2 * (1 + momentum) - gain))


@formula(
    gain=positive,
    beta=unit_interval,
    edge=stable_below(gain=2),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def ema_variance(gain: Numeric, beta: Numeric) -> Numeric:
    r"""Stationary variance of the exponential moving average of SGD iterates.

    :math:`y_t = \beta y_{t-1} + (1-\beta) x_t` has

    .. math:: V = \frac{x}{2-x}\,\frac{(1-\beta)(1+a\beta)}{(1+\beta)(1-a\beta)}.

    With :math:`u = 1/x - 1/2` and :math:`g = 1/(1-\beta) - 1/2` the equivalent gain obeys
    :math:`u_\text{eq} = (u+g)/(1 + 1/(4ug))`: slow averages and low rates add like conductances.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond 2 the result is +inf.
    beta : Numeric
        Decay of the average, in [0, 1). 0 is plain SGD.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> ema_variance(0.1, 0.9)
    0.026388686...
    """
    forget = 1 - beta
    return gain / (2 - gain) * forget * (1 + (1 - gain) * beta) / ((1 + beta) * (forget + gain * beta))


@formula(
    gain=positive,
    separation=count,
    edge=stable_below(gain=2),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def two_point_variance(gain: Numeric, separation: Numeric) -> Numeric:
    r"""Stationary variance of the midpoint of two iterates.

    .. math:: V = \frac{x}{2-x}\,\frac{1+a^k}{2}

    Far apart it halves the variance; the equivalent gain is then :math:`2x/(4-x)`, more than half the gain.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond 2 the result is +inf.
    separation : Numeric
        :math:`k >= 1` steps between the two points.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> two_point_variance(0.1, 10)
    0.035491537...
    """
    return gain / (2 - gain) * (1 + decay(gain, separation)) / 2


@formula(
    gain=positive,
    points=count,
    stride=count,
    edge=stable_below(gain=2),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def tail_variance(gain: Numeric, points: Numeric, stride: Numeric = 1) -> Numeric:
    r"""Stationary variance of the uniform average of iterates a fixed stride apart.

    With :math:`\rho = a^s`

    .. math:: V = \frac{x}{2-x}\,\frac1n \left[ \frac{1+\rho}{1-\rho} - \frac{2\rho(1-\rho^n)}{n(1-\rho)^2} \right]
        = \frac{x}{2-x}\,\frac{1}{n^2} \Bigl[ 2 \sum_{i<n} (n-i)\rho^i - n \Bigr],

    evaluated in the second form, which does not cancel for small gains.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond 2 the result is +inf.
    points : Numeric
        :math:`n >= 1` iterates in the average.
    stride : Numeric
        :math:`s >= 1` steps between two of them.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> tail_variance(0.1, 20)
    0.029195236...
    """
    correlations = 2 * triangular_sum(decayed(gain, stride), points) - points
    return gain / (2 - gain) * correlations / points**2


@formula(
    gain=positive,
    points=count,
    edge=stable_below(gain=2),
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD", "separation much larger than 1/gain"),
)
def far_points_variance(gain: Numeric, points: Numeric) -> Numeric:
    r"""Stationary variance of the uniform average of iterates so far apart that they are independent.

    :math:`V = x/((2-x) n)`, the limit of :func:`tail_variance` for a long stride, off by a relative
    :math:`2 \sum_{0<i<n} (1-i/n) a^{is}`.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond 2 the result is +inf.
    points : Numeric
        :math:`n >= 1` iterates in the average.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> far_points_variance(0.5, 2)
    0.1666666...
    """
    return gain / (2 - gain) / points


@formula(gain=positive, steps=count, status="exact", symbolic=True, source="derived", assumptions=("plain SGD",))
def swa_start_weight(gain: Numeric, steps: Numeric) -> Numeric:
    r"""Weight of the start in the uniform average of :math:`x_1..x_T`: its bias.

    .. math:: b_0 = \frac{a (1-a^T)}{x T}

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0.
    steps : Numeric
        :math:`T >= 1`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> swa_start_weight(0.5, 2)
    0.375
    """
    return (1 - gain) * geometric_sum(gain, steps) / steps


def _third_binomials(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`\sum_i \tbinom{n+1}{i+3} (-x)^i`, for :math:`n x` at most 1."""
    series: Numeric = 1.0
    for i in range(16, 0, -1):  # the i-th factor is below 1/(i+3): 16 reach 1e-16
        series = 1 - (count - 1 - i) * gain / (i + 3) * series
    return (count + 1) * count * (count - 1) / 6 * series


def _swa_squares(gain: Numeric, steps: Numeric) -> Numeric:
    r""":math:`\sum_{m=1}^{T} (1-a^m)^2`, without cancellation for small gains."""
    a = 1 - gain
    closed = steps - 2 * a * geometric_sum(gain, steps) + a**2 * geometric_sum(gain * (2 - gain), steps)
    if is_symbolic(closed):
        return closed
    forget = gain * (2 - gain)  # 1 - a^2
    third = (2 - gain) ** 2 * _third_binomials(forget, steps) - 2 * _third_binomials(gain, steps)
    return where(gain * steps < 0.5, gain**2 * (steps * (steps + 1) / 2 + third), closed)


@formula(
    gain=positive,
    steps=count,
    edge=stable_below(gain=2),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "fixed start", "plain SGD"),
)
def swa_variance(gain: Numeric, steps: Numeric) -> Numeric:
    r"""Variance of the uniform average of :math:`x_1..x_T` from a fixed start.

    The stationary value (:func:`tail_variance`) less :math:`b_0^2\, x/(2-x)`, what the spread of a stationary start
    would add. Summing the squared weights :math:`w_j = (1-a^{T-j+1})/T` of the centers instead of subtracting,

    .. math:: V = \frac{1}{T^2} \sum_{m=1}^{T} (1-a^m)^2
        = \frac{1}{T^2} \Bigl[ T - \frac{2a(1-a^T)}{x} + \frac{a^2 (1-a^{2T})}{x(2-x)} \Bigr].

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond 2 the result is +inf.
    steps : Numeric
        :math:`T >= 1`.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Notes
    -----
    For small :math:`x T` the three terms cancel to :math:`x^2 (T+1)(2T+1)/(6T)`; there the sum is evaluated as
    :math:`x^2 \bigl[\tbinom{T+1}{2} + (2-x)^2 P(2x-x^2) - 2 P(x)\bigr]` with the binomial series :math:`P(z) = \sum_i
    \tbinom{T+1}{i+3} (-z)^i`.

    Examples
    --------
    >>> swa_variance(0.5, 1)
    0.25
    """
    return _swa_squares(gain, steps) / steps**2


@formula(gain=positive, beta=unit_interval, steps=count, status="exact", source="derived", assumptions=("plain SGD",))
def ema_start_weight(gain: Numeric, beta: Numeric, steps: Numeric) -> Numeric:
    r"""Weight of the start in the exponential moving average after T steps: its bias.

    .. math:: \beta^T + (1-\beta) \sum_{s=1}^{T} \beta^{T-s} a^s
        = \beta^T + (1-\beta)\, a\, \frac{\beta^T - a^T}{\beta - a}

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0.
    beta : Numeric
        Decay of the average, in [0, 1).
    steps : Numeric
        :math:`T >= 1`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ema_start_weight(0.5, 0.5, 2)  # 1/4 + 1/2 (1/4 + 1/4)
    0.5
    """
    a = 1 - gain
    slower = abs(a) > beta
    larger = where(slower, a, where(beta == 0, 1.0, beta))
    gap = where(slower, (1 - beta) - gain, gain - (1 - beta)) / larger
    mixed = where(slower, decay(gain, steps - 1), beta ** (steps - 1)) * geometric_sum(gap, steps)
    return beta**steps + (1 - beta) * a * mixed


@formula(
    variance=nonnegative, status="exact", symbolic=True, source="derived", assumptions=("additive noise", "stationary")
)
def equivalent_gain(variance: Numeric) -> Numeric:
    r"""Constant gain at which plain SGD has the given stationary variance.

    .. math:: x_\text{eq} = \frac{2V}{1+V},

    the inverse of :math:`V = x/(2-x)`. It does not depend on the batch size. Over the gain it is the effective learning
    rate of an average as a fraction of the actual one.

    Parameters
    ----------
    variance : Numeric
        :math:`V` in units of the center variance, >= 0.

    Returns
    -------
    Numeric
        In [0, 2).

    Examples
    --------
    >>> equivalent_gain(two_point_variance(0.1, 10))
    0.0685501...
    """
    return 2 * variance / (1 + variance)


@formula(
    learning_rate=positive,
    curvature=positive,
    center_variance=nonnegative,
    batch_size=positive,
    momentum=unit_interval,
    nesterov=flag,
    edge=stable_below(learning_rate=lambda curvature, momentum, nesterov: edge_gain(momentum, nesterov) / curvature),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def stationary_risk(
    learning_rate: Numeric,
    curvature: Numeric,
    center_variance: Numeric,
    batch_size: Numeric = 1,
    *,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
) -> Numeric:
    r"""Stationary excess risk of one direction in the units of the loss.

    .. math:: R = \tfrac12 h \frac{C}{B} V(\eta h)

    Its derivatives (``stationary_risk.derivative("batch_size")`` and the like) are the sensitivities of the plateau.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`. At or beyond the stability edge the result is +inf.
    curvature : Numeric
        :math:`h > 0`.
    center_variance : Numeric
        :math:`C >= 0` at batch size 1.
    batch_size : Numeric
        :math:`B > 0`.
    momentum : Numeric
        :math:`\beta` in [0, 1).
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> stationary_risk(0.5, 1.0, 3.0, batch_size=2)
    0.25
    """
    gain = learning_rate * curvature
    variance = stationary_variance.function(gain, momentum=momentum, nesterov=nesterov)
    return curvature * center_variance / batch_size * variance / 2


@formula(
    curvature=positive,
    momentum=unit_interval,
    nesterov=flag,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise",),
)
def stability_edge(curvature: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Learning rate at which the iterates cease to be stable.

    .. math:: \eta = \frac{2(1+\beta)}{h} \text{ (heavy ball)}, \qquad \frac{2(1+\beta)}{(1+2\beta)\, h} \text{
        (Nesterov)}

    With additive noise the same matrix contracts mean, second moment and every path, so that the edges of the mean, in
    mean square and almost surely coincide. Curvature noise pulls them apart.

    Parameters
    ----------
    curvature : Numeric
        :math:`h > 0`; the largest one decides.
    momentum : Numeric
        :math:`\beta` in [0, 1).
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> stability_edge(4.0), stability_edge(4.0, momentum=0.5)
    (0.5, 0.75)
    """
    return edge_gain(momentum, nesterov) / curvature


@formula(
    gain=positive,
    momentum=unit_interval,
    nesterov=flag,
    status="exact",
    source="derived",
    assumptions=("additive noise",),
)
def contraction_factor(gain: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Asymptotic factor per step by which the mean error shrinks, or grows.

    The spectral radius of the transfer matrix with trace :math:`1+\beta-x` and determinant :math:`\beta` (heavy ball),
    or :math:`(1+\beta)q` and :math:`\beta q` (Nesterov, :math:`q = 1-x`). The second moment has its square; its
    logarithm is the Lyapunov exponent of every path.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0.
    momentum : Numeric
        :math:`\beta` in [0, 1).
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

    Returns
    -------
    Numeric
        Below 1 where stable, 1 at the edge.

    Examples
    --------
    >>> contraction_factor(0.1), contraction_factor(0.5, momentum=0.25)
    (0.9, 0.5)
    """
    # trace^2 - 4 determinant, factored: next to critical damping the difference would cancel
    q = 1 - gain
    if nesterov:
        trace, determinant = (1 + momentum) * q, momentum * q
        discriminant = q * ((1 - momentum) ** 2 - (1 + momentum) ** 2 * gain)
    else:
        trace, determinant = 1 + momentum - gain, momentum + 0 * gain
        discriminant = ((1 - sqrt(momentum)) ** 2 - gain) * ((1 + sqrt(momentum)) ** 2 - gain)
    real = (abs(trace) + sqrt(discriminant)) / 2
    return where(discriminant >= 0, real, sqrt(abs(determinant)))


@checked(
    model=instance_of(MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic, GaussianLeastSquares),
    learning_rate=positive,
    momentum=unit_interval,
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
    learning_rate : Numeric
        > 0.
    momentum : Numeric
        :math:`\beta` in [0, 1).
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

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
            "variance": variance.assign_attrs(long_name="stationary variance", units="squared parameter"),
            "excess_risk": risk.assign_attrs(long_name="stationary excess risk", units="loss"),
            "floor": xr.DataArray(model.floor).assign_attrs(long_name="irreducible batch loss", units="loss"),
            "effective_dimension": dimension.assign_attrs(
                long_name="effective dimension of the stationary law", units="1"
            ),
        }
    )
    if covariance is None:
        return data
    return data.assign(covariance=covariance.assign_attrs(long_name="stationary covariance", units="squared parameter"))


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


@checked(model=instance_of(MiniBatchQuadratic), learning_rate=positive, momentum=unit_interval, nesterov=flag)
def stability(
    model: MiniBatchQuadratic, learning_rate: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> xr.Dataset:
    """Stability of a whole model in mean, in mean square and almost surely.

    Status: exact for additive noise, where the three verdicts agree.

    Parameters
    ----------
    model : MiniBatchQuadratic
    learning_rate : Numeric
        > 0.
    momentum : Numeric
        In [0, 1).
    nesterov : bool
        Nesterov's momentum instead of the heavy ball.

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
