r"""Critical learning rates of the first step.

A normalised rate :math:`c` is the learning rate times the sharpness of the start: ``units="ntk"`` takes the kernel
:math:`\lambda_0` for it, ``units="hessian"`` the top Hessian eigenvalue :math:`\lambda^H_0`. They differ at finite
width. The start enters through :math:`\rho = \kappa f_0^2/\lambda_0^2 \in [0, 1/4]`.
"""

from __future__ import annotations

from typing import Literal

from sgdynamics.domains import Numeric, nonnegative
from sgdynamics.formula import formula, sqrt, where
from sgdynamics.models.uv.dynamics import flow_root
from sgdynamics.models.uv.parameters import PARAMETERS

_ZERO_TARGET = ("two linear layers", "one example", "target 0")
_ONE_EXAMPLE = ("two linear layers", "one example")


@formula(PARAMETERS, quantity="ratio", status="exact", symbolic=True, source="derived", assumptions=_ZERO_TARGET)
def sharpness_over_ntk(rho: Numeric) -> Numeric:
    r"""Top Hessian eigenvalue of the start over its kernel: :math:`\tfrac12(1+\sqrt{1+12\rho})`.

    Returns
    -------
    Numeric
        In [1, 3/2]; what turns a rate in kernel units into one in Hessian units.

    Examples
    --------
    >>> sharpness_over_ntk(0.25)
    1.5
    """
    return (1 + sqrt(1 + 12 * rho)) / 2


@formula(
    PARAMETERS,
    c=nonnegative,
    quantity="relative loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_ZERO_TARGET,
)
def first_loss_ratio(c: Numeric, rho: Numeric) -> Numeric:
    r"""Loss after the first step over loss before it: :math:`(1 - c + \rho c^2)^2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> first_loss_ratio(3.0, 0.0)
    4.0
    """
    return (1 - c + rho * c**2) ** 2


@formula(
    PARAMETERS, quantity="normalised rate", status="exact", symbolic=True, source="derived", assumptions=_ZERO_TARGET
)
def c_loss(rho: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Smallest normalised rate beyond which the first step raises the loss.

    .. math:: c = \frac{4}{1+\sqrt{1-8\rho}}, \qquad \rho \le \tfrac18,

    times :func:`sharpness_over_ntk` in Hessian units. It is in [2, 4] in kernel units, 2 for an infinite network.

    Returns
    -------
    Numeric
        +inf for :math:`\rho > 1/8`: no rate up to :func:`c_max` raises the loss of the first step.

    Examples
    --------
    >>> c_loss(0.125), c_loss(0.2)
    (4.0, inf)
    """
    scale = sharpness_over_ntk.function(rho) if units == "hessian" else 1
    return where(8 * rho <= 1, 4 * scale / (1 + sqrt(1 - 8 * rho)), float("inf"))


@formula(PARAMETERS, quantity="normalised rate", status="exact", source="derived", assumptions=_ONE_EXAMPLE)
def c_loss_at(
    output: Numeric, ntk: Numeric, kappa: Numeric, target: Numeric = 0.0, units: Literal["ntk", "hessian"] = "ntk"
) -> Numeric:
    r"""Smallest normalised rate beyond which a step from this point raises the loss, for any target.

    With :math:`\Delta = f-y` the residual is multiplied by :math:`1 - c + c^2\kappa f\Delta/\lambda^2`, so that
    :math:`\kappa f\Delta/\lambda^2`, which may be negative, takes the place of :math:`\rho` in :func:`c_loss`. At
    output 0 the value is 2 at every width, in kernel units.

    Returns
    -------
    Numeric
        +inf where no rate with :math:`c^2\kappa f\Delta < c\lambda^2` raises the loss.

    Examples
    --------
    >>> c_loss_at(0.0, 2.0, 0.25, target=2.0), c_loss_at(0.0, 2.0, 0.25, target=2.0, units="hessian")
    (2.0, 2.414213562...)
    """
    reach = sqrt(kappa) / ntk
    rho = (reach * output) * (reach * (output - target))
    scale = (1 + flow_root(output, ntk, kappa, 2 * output - target) / ntk) / 2 if units == "hessian" else 1
    return where(8 * rho <= 1, 4 * scale / (1 + sqrt(1 - 8 * rho)), float("inf"))


@formula(PARAMETERS, quantity="normalised rate", status="exact", source="derived", assumptions=_ZERO_TARGET)
def c_sharp(rho: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Smallest normalised rate beyond which the first step raises the top Hessian eigenvalue, in both units of it.

    With :math:`h` of :func:`sharpness_over_ntk` it is the one root of

    .. math:: (c-4)h + 3(\rho c-1)(2-c+\rho c^2) = 0,

    found by Newton's method on this increasing cubic. 5/2 for an infinite network, there at every horizon of the linear
    regime. The kernel itself, the trace of the Hessian, rises only beyond 4.

    Returns
    -------
    Numeric
        5/2 at :math:`\rho = 0`; in kernel units 4 at :math:`\rho = 1/4`.

    Examples
    --------
    >>> c_sharp(0.0), c_sharp(0.25)
    (2.5, 4.0)
    """
    scale = sharpness_over_ntk.function(rho)
    c = 2.5 + 0 * rho
    for _ in range(8):  # converges quadratically; six reach the last digit over the whole range
        bend = rho * c
        value = (c - 4) * scale + 3 * (bend - 1) * (2 - c + bend * c)
        c = c - value / (9 * bend**2 - 12 * bend + 3 + 6 * rho + scale)
    return c * scale if units == "hessian" else c
