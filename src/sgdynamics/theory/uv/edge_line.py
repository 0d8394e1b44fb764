r"""Gradient descent beyond the critical learning rate: the edge line and its 2-cycle.

While an orbit oscillates within bounds the imbalance of the layers dies out, and the orbit collapses onto the boundary
of the cone, the line :math:`\lambda = 2\sqrt\kappa|f|`. There, with :math:`x = \eta\sqrt\kappa f`, :math:`r = 1+q`,

.. math:: x' = x\,(r-x)^2, \qquad \eta\lambda = 2x, \qquad \eta\lambda^H = \max(3x-q,\; q-x).

:math:`q = \eta\sqrt\kappa y` is the learning rate over :func:`critical_learning_rate`.
"""

from __future__ import annotations

import math

from sgdynamics.domains import Interval, Numeric, Value, checked
from sgdynamics.formula import formula, law, sqrt
from sgdynamics.models.uv._pointwise import pointwise
from sgdynamics.models.uv.parameters import PARAMETERS

_LINE = ("two linear layers", "one example", "balanced layers")
cycling: Interval = Interval("a finite number >= 1, where the 2-cycle exists", low=1, low_open=False)
cycling_stably: Interval = Interval(
    "a number in [1, sqrt(5)-1], where the 2-cycle is stable",
    low=1,
    high=math.sqrt(5) - 1,
    low_open=False,
    high_open=False,
)


@formula(PARAMETERS, quantity="scaled kernel", status="exact", symbolic=True, source="derived", assumptions=_LINE)
def edge_map(x: Numeric, q: Numeric) -> Numeric:
    r"""One step on the edge line: :math:`x' = x\,(1+q-x)^2`.

    Bounded orbits live in [0, 2+q].

    Returns
    -------
    Numeric

    Examples
    --------
    >>> edge_map(1.0, 1.0), edge_map(0.5, 1.0)
    (1.0, 1.125)
    """
    return x * (1 + q - x) ** 2


@formula(PARAMETERS, quantity="scaled sharpness", status="exact", symbolic=True, source="derived", assumptions=_LINE)
def edge_sharpness(x: Numeric, q: Numeric) -> Numeric:
    r"""Learning rate times top Hessian eigenvalue on the edge line: :math:`\max(3x-q,\, q-x)`.

    :math:`3x-q` is the curvature along the line, :math:`q-x` that across it.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> edge_sharpness(1.0, 1.0), edge_sharpness(0.25, 1.0)
    (2.0, 0.75)
    """
    return x + abs(2 * x - q)


@law(quantity="scaled kernel")
@checked(q=cycling)
def two_cycle(q: float | Value) -> tuple[Value, Value]:
    r"""The 2-cycle on the edge line, between whose points gradient descent alternates beyond the critical rate.

    .. math:: x_\pm = \tfrac12\bigl[r \pm \sqrt{r^2-4}\bigr], \qquad r = 1+q, \qquad x_+x_- = 1.

    It is born at :math:`q = 1` and stable up to :math:`q = \sqrt5-1`; between them it is where the run ends.

    Status: exact.

    Parameters
    ----------
    q : Numeric
        Learning rate over the critical one, >= 1.

    Returns
    -------
    low, high : Numeric
        Scaled outputs :math:`\eta\sqrt\kappa f`.

    Raises
    ------
    ValueError, TypeError
        If q is below 1: there is no 2-cycle.

    Examples
    --------
    >>> two_cycle(1.1)
    (0.729843..., 1.370156...)
    """

    def core(q: Numeric) -> tuple[Numeric, Numeric]:
        high = (1 + q + sqrt((q - 1) * (q + 3))) / 2
        return 1 / high, high

    low, high = pointwise("two_cycle", core, 2, q=q)
    return low, high


@formula(PARAMETERS, q=cycling, quantity="factor", status="exact", symbolic=True, source="derived", assumptions=_LINE)
def two_cycle_multiplier(q: Numeric) -> Numeric:
    r"""Growth of a small distance along the line over one round of the 2-cycle: :math:`9 - 2(1+q)^2`.

    Returns
    -------
    Numeric
        1 at birth, -1 at :math:`q = \sqrt5-1`.

    Examples
    --------
    >>> two_cycle_multiplier(1.0)
    1.0
    """
    return 9 - 2 * (1 + q) ** 2


@formula(PARAMETERS, q=cycling, quantity="factor", status="exact", symbolic=True, source="derived", assumptions=_LINE)
def two_cycle_transverse_multiplier(q: Numeric) -> Numeric:
    r"""Growth of a small imbalance of the layers over one round of the 2-cycle: :math:`(3-2q)^2`.

    Returns
    -------
    Numeric
        Below 1 for :math:`1 < q < 2`: there the line attracts.

    Examples
    --------
    >>> two_cycle_transverse_multiplier(1.5)
    0.0
    """
    return (3 - 2 * q) ** 2


@formula(
    PARAMETERS, q=cycling, quantity="scaled kernel", status="exact", symbolic=True, source="derived", assumptions=_LINE
)
def two_cycle_mean_ntk(q: Numeric) -> Numeric:
    r"""Mean of :math:`\eta\lambda` over the 2-cycle: :math:`1 + q`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_cycle_mean_ntk(1.1)
    2.1
    """
    return 1 + q


@formula(
    PARAMETERS,
    q=cycling_stably,
    quantity="scaled sharpness",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_LINE,
)
def two_cycle_mean_sharpness(q: Numeric) -> Numeric:
    r"""Mean of learning rate times top Hessian eigenvalue over the stable 2-cycle: :math:`(3+q)/2`.

    2 only at its birth. Beyond :math:`q = \sqrt5-1` the top eigenvalue changes its direction on the cycle.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_cycle_mean_sharpness(1.1)
    2.05
    """
    return (3 + q) / 2


@formula(
    PARAMETERS, q=cycling, quantity="relative loss", status="exact", symbolic=True, source="derived", assumptions=_LINE
)
def two_cycle_mean_square_residual(q: Numeric) -> Numeric:
    r"""Mean of :math:`s^2`, twice the scaled loss, over the 2-cycle: :math:`(q^2-1)/2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_cycle_mean_square_residual(1.25)
    0.28125
    """
    return (q - 1) * (q + 1) / 2


_chaotic = Interval("a number in (0, 4)", low=0, high=4)


@formula(PARAMETERS, x=_chaotic, quantity="density", status="exact", source="derived", assumptions=(*_LINE, "q = 2"))
def chaotic_density(x: Numeric) -> Numeric:
    r"""Invariant density of the edge map at the escape rate, q = 2: :math:`1/(\pi\sqrt{x(4-x)})`.

    With :math:`x = 4\cos^2\theta` a step triples the angle, hence the Lyapunov exponent is :math:`\ln 3`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> chaotic_density(2.0)  # 1/(2 pi)
    0.159154...
    """
    return 1 / (math.pi * sqrt(x * (4 - x)))
