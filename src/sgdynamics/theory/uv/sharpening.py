r"""Which way the sharpness goes: along gradient flow, in one step, and over many steps of the linear regime."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import Numeric, nonnegative, positive
from sgdynamics.formula import formula, geometric_sum
from sgdynamics.models.uv.dynamics import flow_root, inside_cone
from sgdynamics.models.uv.parameters import PARAMETERS, START_NTK, START_OUTPUT

_ONE_EXAMPLE = ("two linear layers", "one example")
_WIDE = (*_ONE_EXAMPLE, "kappa to 0 at fixed output and kernel")


@formula(
    PARAMETERS,
    output=START_OUTPUT,
    ntk=replace(START_NTK, domain=nonnegative),
    quantity="kernel",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_ONE_EXAMPLE, "gradient flow", "not started with both layers parallel and against the target"),
)
def gradient_flow_ntk(output: Numeric, ntk: Numeric, kappa: Numeric, target: Numeric = 0.0) -> Numeric:
    r"""Kernel, hence sharpness, of the minimum that gradient flow reaches.

    .. math:: \lambda_\infty = \sqrt{\lambda_0^2 + 4\kappa(y^2 - f_0^2)} = \sqrt{D + 4\kappa y^2},

    because the flow conserves the imbalance :math:`D`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> gradient_flow_ntk(0.5, 2.0, 1.0, target=0.5)
    2.0
    """
    inside_cone("gradient_flow_ntk", output, ntk, kappa)
    return flow_root(output, ntk, kappa, target)


@formula(
    PARAMETERS,
    learning_rate=nonnegative,
    quantity="sharpness",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=_WIDE,
)
def sharpness_change(
    output: Numeric, ntk: Numeric, learning_rate: Numeric, kappa: Numeric, target: Numeric = 0.0
) -> Numeric:
    r"""Change of the top Hessian eigenvalue in one step of a wide network.

    .. math:: 2\eta\kappa\Delta\,[2(\eta\lambda-1)\Delta - 3f] + O(\kappa^2), \qquad \Delta = f - y.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> sharpness_change(0.5, 2.0, 1.25, 0.25, target=0.0)  # the threshold 5/2 of target 0
    0.0
    """
    residual = output - target
    return 2 * learning_rate * kappa * residual * (2 * (learning_rate * ntk - 1) * residual - 3 * output)


@formula(
    PARAMETERS, quantity="normalised rate", status="asymptotic", symbolic=True, source="derived", assumptions=_WIDE
)
def wide_c_sharp(output_over_residual: Numeric) -> Numeric:
    r"""Normalised rate beyond which one step of a wide network raises the sharpness: :math:`1 + \tfrac32 f_0/\Delta_0`.

    5/2 at target 0, 1 for a start with output 0.

    Returns
    -------
    Numeric
        Below 0 the sharpness rises at every rate.

    Examples
    --------
    >>> wide_c_sharp(1.0)
    2.5
    """
    return 1 + 3 * output_over_residual / 2


@formula(
    PARAMETERS,
    c=positive,
    quantity="ratio",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("two linear layers", "one example", "target 0", "rho to 0 at fixed number of steps"),
)
def linear_sharpness_growth(c: Numeric, steps: Numeric, rho: Numeric) -> Numeric:
    r"""Relative change of the top Hessian eigenvalue after a number of steps, while the network is still linear.

    .. math:: \frac{\lambda^H_t}{\lambda^H_0} - 1 = 2\rho c\,(2c-5)\sum_{k<t}(1-c)^{2k} + O(\rho^2).

    Its sign does not depend on the number of steps: the threshold 5/2 holds for every horizon.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> linear_sharpness_growth(3.0, 1, 0.125)
    0.75
    """
    return 2 * rho * c * (2 * c - 5) * geometric_sum(c * (2 - c), steps)
