r"""Where a self-stabilising direction settles: the fixed point of its averaged recursion, and how long it takes.

For :class:`~sgdynamics.models.break_even.SelfStabilizingMode` with :math:`q = c_S\kappa^2`, :math:`Q = 1 + q` and
:math:`v = E x^2`, treating curvature and oscillation as independent,

.. math:: v' = \bigl[1 - \eta y (2 - \eta y Q)\bigr] v + \eta^2 c_S \sigma^2, \qquad
    y' = y + \eta \bigl(a - \tfrac12\beta v\bigr).
"""

from __future__ import annotations

import math

from sgdynamics.domains import Numeric, is_symbolic, nonnegative, positive
from sgdynamics.formula import formula, sqrt, stable_below, where
from sgdynamics.models.break_even.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory._quotients import quotient

_CURVATURE = Parameter("y", "curvature of the plateau", positive, 2.0, "1/learning rate")

__all__ = [
    "break_even_steps",
    "collapse_curvature",
    "frozen_second_moment",
    "plateau_curvature",
    "plateau_projection_variance",
    "plateau_second_moment",
    "stochastic_sharpness_gap",
]

_MODE = ("self-stabilising mode", "curvature independent of the oscillation", "independent batches")


def _frozen_limit(curvature: Numeric, batch_factor: Numeric, relative_variance: Numeric) -> Numeric:
    return 2 / (curvature * (1 + relative_variance * batch_factor))


def _load(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    sharpening: Numeric,
    restoring: Numeric,
) -> Numeric:
    """The share of the largest noise that leaves a plateau, Q eps."""
    noise = (learning_rate, learning_rate, batch_factor, force_variance, restoring)
    spread = quotient((*noise, relative_variance, batch_factor), (2, sharpening))
    return quotient(noise, (2, sharpening)) + spread


def _plateau(fixed_point: Numeric, load: Numeric) -> Numeric:
    """A fixed point; +inf where noise alone holds the oscillation above its plateau, Q eps > 1."""
    return fixed_point if is_symbolic(load) else where(load > 1, math.inf, fixed_point)


@formula(
    PARAMETERS,
    curvature=_CURVATURE,
    edge=stable_below(learning_rate=_frozen_limit),
    quantity="second moment",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("frozen curvature", "independent batches", "curvature and force uncorrelated", "stationary"),
)
def frozen_second_moment(
    learning_rate: Numeric,
    curvature: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
) -> Numeric:
    r"""Stationary second moment of the oscillation at a frozen curvature.

    .. math:: E x^2 = \frac{\eta c_S \sigma^2}{y (2 - \eta y Q)}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> frozen_second_moment(0.1, 10.0, 0.0625, 0.0, 1.0)
    0.000625
    """
    quality = 1 + relative_variance * batch_factor
    room = 2 - learning_rate * curvature * quality
    return quotient((learning_rate, batch_factor, force_variance), (curvature, room))


@formula(PARAMETERS, quantity="curvature", status="heuristic", symbolic=True, source="derived", assumptions=_MODE)
def plateau_curvature(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""Curvature at which a self-stabilising direction hovers: the upper fixed point of the averaged recursion.

    .. math:: y^* = \frac{1 + \sqrt{1 - Q\varepsilon}}{\eta Q}, \qquad Q = 1 + \kappa^2 c_S, \qquad
        \varepsilon = \frac{\eta^2 c_S \sigma^2 \beta}{2a}

    Without noise :math:`2/\eta`, without forces :math:`2/(\eta Q)`; :math:`1/(\eta Q)` at :math:`Q\varepsilon =
    1`. There is no fixed point, and noise alone drives the curvature down without bound, where :math:`Q\varepsilon >
    1`: then the result is +inf, no plateau.

    The fixed point is that of the recursion of the module's page exactly; that recursion closes the moments of a run by
    treating curvature and oscillation as independent, which they are not. It is meant for :math:`Q\varepsilon` well
    below 1 and :math:`\eta a \ll y^*`, where a step moves the curvature little; rare kicks pull the curvature below
    it, more so for heavy-tailed curvatures and small batches.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> plateau_curvature(0.1, 1008 / (16 * 1023), 0.25, 1.0, sharpening=0.01)
    19.541569...
    """
    quality = 1 + relative_variance * batch_factor
    load = _load(learning_rate, batch_factor, relative_variance, force_variance, sharpening, restoring)
    return _plateau(quotient((1 + sqrt(1 - load),), (learning_rate, quality)), load)


@formula(PARAMETERS, quantity="curvature", status="heuristic", symbolic=True, source="derived", assumptions=_MODE)
def collapse_curvature(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""Curvature below which noise drives a self-stabilising direction down: the lower fixed point.

    .. math:: y = \frac{1 - \sqrt{1 - Q\varepsilon}}{\eta Q} = \frac{\varepsilon}{\eta (1 + \sqrt{1 - Q\varepsilon})}

    A flat direction lets the force noise accumulate to more than :math:`E x^2 = 2a/\beta`, which flattens it further.
    0 without forces; +inf where there is no fixed point.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> collapse_curvature(0.1, 1008 / (16 * 1023), 0.25, 1.0, sharpening=0.01)
    0.155181...
    """
    load = _load(learning_rate, batch_factor, relative_variance, force_variance, sharpening, restoring)
    noise = (learning_rate, batch_factor, force_variance, restoring)
    return _plateau(quotient(noise, (2, sharpening, 1 + sqrt(1 - load))), load)


@formula(
    PARAMETERS,
    sharpening=nonnegative,
    quantity="second moment",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("self-stabilising mode", "curvature stationary", "curvature independent of the oscillation"),
)
def plateau_second_moment(sharpening: Numeric, restoring: Numeric = 1.0) -> Numeric:
    r"""Mean square of the oscillation at a plateau, :math:`E x^2 = 2a/\beta`, for every learning rate and batch size.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> plateau_second_moment(0.01)
    0.02
    """
    return quotient((2, sharpening), (restoring,))


@formula(
    PARAMETERS,
    curvature=_CURVATURE,
    sharpening=nonnegative,
    quantity="gradient variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(
        "self-stabilising mode",
        "frozen curvature",
        "curvature stationary",
        "curvature and force uncorrelated",
    ),
)
def plateau_projection_variance(
    curvature: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""Mean gradient variance along a direction at its plateau.

    .. math:: E K_{11} = \kappa^2 y^2 \frac{2a}{\beta} + \sigma^2

    Without forces it goes with the square of the curvature: twice the learning rate, a quarter of the variance.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> plateau_projection_variance(20.0, 0.25, 0.5, sharpening=0.01)
    2.5
    """
    return quotient((relative_variance, curvature, curvature, 2, sharpening), (restoring,)) + force_variance


@formula(
    PARAMETERS,
    quantity="curvature",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_MODE, "no spread of the curvatures", "weak noise"),
)
def stochastic_sharpness_gap(
    learning_rate: Numeric,
    batch_factor: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""How far below :math:`2/\eta` weak force noise holds the plateau, :math:`\eta\beta c_S\sigma^2/(4a)`.

    The limit of :math:`2/\eta - y^*` of :func:`plateau_curvature` for :math:`\kappa = 0, \varepsilon \to 0`; the next
    order is :math:`\varepsilon/4` of it.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> stochastic_sharpness_gap(0.1, 0.0625, 1.0, sharpening=0.01)
    0.15625
    """
    return quotient((learning_rate, restoring, batch_factor, force_variance), (4, sharpening))


@formula(
    PARAMETERS,
    quantity="steps",
    status="bound",
    symbolic=True,
    source="derived",
    assumptions=("self-stabilising mode", "no negative curvatures of batches"),
)
def break_even_steps(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    *,
    sharpening: Numeric,
    start_curvature: Numeric,
) -> Numeric:
    r"""Steps that a self-stabilising direction takes at least to its break-even point.

    .. math:: t \ge \frac{1}{\eta a} \Bigl( \frac{2}{\eta (1 + \kappa^2 c_S)} - y_0 \Bigr)

    The curvature grows by at most :math:`\eta a` a step; the oscillation only delays it, at weak noise by little. 0
    for a start beyond the edge.

    Returns
    -------
    Numeric
        Not rounded to whole steps.

    Examples
    --------
    >>> break_even_steps(0.1, 0.0, 0.0, sharpening=0.01, start_curvature=1.0)
    19000.0
    """
    room = 2 / (learning_rate * (1 + relative_variance * batch_factor)) - start_curvature
    return where(room > 0, room / (learning_rate * sharpening), 0.0)
