r"""What warm-up of the learning rate buys: rates that the start would not survive.

From the start a run survives up to :func:`largest_learning_rate`, about 4 over the kernel. Once the kernel has come
down, larger rates are survived, up to :func:`critical_learning_rate`, where even the flattest minimum is unstable. What
brings it down is a catapult, and a catapult needs a residual. Raised anew as soon as the loss has recovered, the rate
climbs catapult by catapult. Raised slowly from zero, without noise, it finds no residual left when it passes the edge,
and the catapult comes too late.
"""

from __future__ import annotations

import math

from scipy.special import lambertw, xlogy

from sgdynamics.domains import Interval, Numeric
from sgdynamics.formula import exp, formula, log, where
from sgdynamics.models.uv.dynamics import flow_root, inside_cone
from sgdynamics.models.uv.parameters import PARAMETERS, START_NTK, START_OUTPUT
from sgdynamics.parameters import Parameter
from sgdynamics.theory.uv.catapult import reflected_ntk

__all__ = ["catapult_count", "delayed_escape", "warm_up_reach"]

_one_end = Interval("a number in (2, 2.7], where ends do not depend on the width", low=2, high=2.7, high_open=False)
_NEAR = 1e-3  # where the next term of the series is below rounding, as W's is


@formula(
    PARAMETERS,
    c=Parameter("c", "learning rate times kernel at every raise", _one_end, 2.625),
    quantity="steps",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("two linear layers", "one example", "target 0", "width to infinity", "c to 2 from above"),
)
def catapult_count(rate_ratio: Numeric, c: Numeric) -> Numeric:
    r"""Catapults, one after the other, that it takes to raise the learning rate by a factor.

    .. math:: \frac{\ln(\eta/\eta_0)}{\ln(c/l_\infty)}, \qquad l_\infty = 4 - c - \tfrac23 (c-2)^2 - \tfrac49 (c-2)^3,

    for raises to :math:`c` over the kernel, each of which leaves :math:`l_\infty/c` of the kernel
    (:func:`reflected_ntk`). No whole number: the last raise may be a part of one.

    Returns
    -------
    Numeric
        Steps of the rate, not of gradient descent; one more catapult follows the last raise.

    Examples
    --------
    >>> round(catapult_count(100.0, 2.2), 2)
    21.16
    """
    return log(rate_ratio) / log(c / reflected_ntk.function(c))


@formula(
    PARAMETERS,
    quantity="scaled kernel",
    status="asymptotic",
    source="derived",
    assumptions=("one direction", "no noise", "rate rises linearly and slowly", "curvature stays until then"),
)
def delayed_escape(start: Numeric) -> Numeric:
    r"""Learning rate times curvature at which a slow linear warm-up is seen to have passed the edge.

    A residual shrinks by :math:`|1 - u|` in a step at the gain :math:`u`, until :math:`u = 2`, and must first grow
    back. It is where it was at the start of the warm-up, :math:`u = x_0`, when

    .. math:: \int_{x_0}^{x} \ln|1 - u|\, du = 0, \qquad (x-1)\ln(x-1) - x = (x_0-1)\ln|x_0-1| - x_0,

    solved by Lambert's W: :math:`x = 1 + e^{1 + W(G/e)}`, with 1 plus the right side for :math:`G`. From zero it is
    4.591. On the uv network at target 0, where nothing beyond 4 comes back, a warm-up from below .914 hence leads to
    divergence, however slow; noise keeps the residual alive and the delay short.

    Returns
    -------
    Numeric
        In (2, 4.591].

    Examples
    --------
    >>> delayed_escape(0.0), delayed_escape(1.9)
    (4.5911..., 2.10...)
    """
    near = 2 - start < _NEAR  # next to the branch point of W
    gain = where(near, 1.0, start - 1)
    far = 1 + exp(1 + lambertw((xlogy(gain, abs(gain)) - gain) / math.e).real)
    short = where(near, 2 - start, 0.0)
    return where(near, 2 + short * (1 + short / 3 + short**2 / 9), far)


@formula(
    PARAMETERS,
    output=START_OUTPUT,
    ntk=START_NTK,
    quantity="ratio",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("two linear layers", "one example", "warm-up catapult by catapult"),
)
def warm_up_reach(output: Numeric, ntk: Numeric, kappa: Numeric, target: Numeric) -> Numeric:
    r"""Largest rate at which a run settles after warm-up by catapults, over the largest that its start survives.

    .. math:: \frac{\eta_c}{\eta_{\max}} = \frac{\lambda_0 + \sqrt{\lambda_0^2 + 16\kappa y(y-f_0)}}{8\sqrt\kappa |y|},

    :func:`critical_learning_rate` over :func:`largest_learning_rate`. In the neural tangent parametrization it grows as
    the root of the width; below 1 warm-up buys nothing.

    Returns
    -------
    Numeric
        +inf at target 0, where the kernel may fall without end.

    Examples
    --------
    >>> warm_up_reach(0.0, 2.0, 0.01, 0.5)
    10.02...
    """
    inside_cone("warm_up_reach", output, ntk, kappa)
    height = (ntk + flow_root(output, ntk, kappa, output - 2 * target)) / 8
    return height / (kappa**0.5 * abs(target))
