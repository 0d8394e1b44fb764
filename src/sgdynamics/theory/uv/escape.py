r"""The largest learning rate: the triangle in which bounded orbits live.

Scaled, :math:`s = \eta\sqrt\kappa(f-y)`, :math:`\phi = \eta\sqrt\kappa f`, :math:`q = \phi - s`, :math:`l =
\eta\lambda`. Beside the boundary of the cone, :math:`l = \pm2\phi`, gradient descent leaves a third line invariant:

.. math:: V = 4 + qs - l, \qquad V' = (1 + s\phi)\,V,

which follows by expansion. For :math:`|q| < 2` the factor is positive, so the sign of :math:`V` never changes. The
three lines bound a triangle, with corners at the fixed points of :func:`fixed_points`; orbits that start in it stay in
it forever, with :math:`|s| < 2` between its corners at :math:`s = \pm2`. On the third line :math:`s' = s^3 - 3s`, which
is the tripling of an angle.
"""

from __future__ import annotations

from typing import Literal

from sgdynamics.domains import Numeric, nonnegative
from sgdynamics.formula import formula
from sgdynamics.models.uv.dynamics import flow_root, inside_cone
from sgdynamics.models.uv.parameters import PARAMETERS, START_NTK, START_OUTPUT
from sgdynamics.theory.uv.critical import sharpness_over_ntk

_ZERO_TARGET = ("two linear layers", "one example", "target 0")
_ONE_EXAMPLE = ("two linear layers", "one example")
_ALMOST = "bounded below it for every start; that almost every start diverges above it is measured, not proved"


@formula(
    PARAMETERS, quantity="normalised rate", status="exact", symbolic=True, source="derived", assumptions=_ZERO_TARGET
)
def c_max(rho: Numeric, units: Literal["ntk", "hessian"] = "ntk") -> Numeric:
    r"""Largest normalised rate at which gradient descent converges, at target 0.

    In kernel units exactly 4 at every width, because :math:`4-l' = (4-l)(1+\phi^2)`; in Hessian units
    :math:`2(1+\sqrt{1+12\rho})`. Below it every start converges, above it every start with an output other than 0
    diverges.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> c_max(0.1), c_max(0.25, "hessian")
    (4.0, 6.0)
    """
    return 4 * sharpness_over_ntk.function(rho) if units == "hessian" else 4 + 0 * rho


@formula(
    PARAMETERS,
    output=START_OUTPUT,
    ntk=START_NTK,
    quantity="learning rate",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_ONE_EXAMPLE, _ALMOST),
)
def largest_learning_rate(output: Numeric, ntk: Numeric, kappa: Numeric, target: Numeric = 0.0) -> Numeric:
    r"""Largest learning rate at which gradient descent from this point stays bounded, for any width and target.

    .. math:: \eta = \frac{8}{\lambda_0 + \sqrt{\lambda_0^2 + 16\kappa y(y-f_0)}},

    the first positive root of :math:`V`, see :func:`escape_margin`. The radicand is :math:`D + 4\kappa(f_0-2y)^2`.
    There :math:`\eta\sqrt\kappa|y| \le 2` always. At target 0 it is :math:`4/\lambda_0`. Larger rates let almost every
    start diverge as long as :math:`\eta\sqrt\kappa|y| < 2` and :math:`V < 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> largest_learning_rate(0.0, 2.0, 1.0, target=2.0)
    0.780776...
    """
    inside_cone("largest_learning_rate", output, ntk, kappa)
    return 8 / (ntk + flow_root(output, ntk, kappa, output - 2 * target))


@formula(
    PARAMETERS,
    ntk=nonnegative,
    learning_rate=nonnegative,
    quantity="scaled kernel",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_ONE_EXAMPLE,
)
def escape_margin(
    output: Numeric, ntk: Numeric, learning_rate: Numeric, kappa: Numeric, target: Numeric = 0.0
) -> Numeric:
    r"""Distance :math:`V = 4 + qs - \eta\lambda` from the line beyond which orbits escape.

    A step multiplies it by :math:`1 + s\phi`. Where it is positive and :math:`|q| < 2`, the orbit is bounded forever.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> escape_margin(0.0, 2.0, 0.5, 1.0, target=2.0)
    2.0
    """
    return 4 + learning_rate * (learning_rate * kappa * target * (output - target) - ntk)


@formula(
    PARAMETERS,
    quantity="loss",
    status="bound",
    symbolic=True,
    source="derived",
    assumptions=(*_ONE_EXAMPLE, "below the largest learning rate of the start"),
)
def loss_bound(learning_rate: Numeric, kappa: Numeric) -> Numeric:
    r"""Loss that no run below its largest learning rate ever reaches, whatever the start: :math:`2/(\eta^2\kappa)`.

    In the cone :math:`l \ge 2|s + q|`, and :math:`V > 0` is :math:`l < 4 + qs`: together :math:`(2-q)(2-s) > 0` and
    :math:`(2+q)(2+s) > 0`, which for :math:`|q| < 2` is :math:`|s| < 2`. The loss is :math:`s^2/(2\eta^2\kappa)`. Runs
    come as near as one likes, next to two corners of the triangle of :func:`escape_margin`.

    Returns
    -------
    Numeric
        In proportion to the width; what is usually taken as divergence at a fixed loss may be a catapult.

    Examples
    --------
    >>> loss_bound(0.5, 0.01)
    800.0
    """
    return 2 / learning_rate / learning_rate / kappa
