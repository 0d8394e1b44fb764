r"""The catapult at target 0: what a rate between 2 and 4 over the kernel does to an infinitely wide network.

Scaled, :math:`\phi = \eta\sqrt\kappa f`, :math:`l = \eta\lambda`:

.. math:: \phi' = \phi\,(1 - l + \phi^2), \qquad 4 - l' = (4-l)(1+\phi^2).

Infinite width is :math:`\phi_0 \to 0` at :math:`l_0 = c`.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from sgdynamics.domains import Interval, Numeric, Value, checked, complain, positive
from sgdynamics.formula import formula, law, log
from sgdynamics.models.uv._pointwise import pointwise
from sgdynamics.models.uv.parameters import PARAMETERS

small_output: Interval = Interval("a number in (0, 0.1]", low=0, high=0.1, high_open=False)
_WIDE = ("two linear layers", "one example", "target 0", "width to infinity")


@formula(
    PARAMETERS,
    quantity="scaled kernel",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_WIDE, "c to 2 from above"),
)
def mirror_ntk(c: Numeric) -> Numeric:
    r"""Learning rate times final kernel just above the catapult's threshold: :math:`4 - c`.

    The kernel is reflected about 2, up to :math:`O((c-2)^2)`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> mirror_ntk(2.5)
    1.5
    """
    return 4 - c


@formula(
    PARAMETERS,
    quantity="relative loss",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_WIDE, "c to 2 from above"),
)
def peak_square_output(c: Numeric) -> Numeric:
    r"""Largest :math:`\phi^2 = \eta^2\kappa f^2` just above the catapult's threshold: :math:`(c-2)^2/2`.

    The peak loss is this over :math:`2\eta^2\kappa`, hence proportional to the width; relative error :math:`O(c-2)`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> peak_square_output(3.0)
    0.5
    """
    return (c - 2) ** 2 / 2


@formula(
    PARAMETERS,
    quantity="scaled kernel",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_WIDE, "c to 2 from above"),
)
def reflected_ntk(c: Numeric) -> Numeric:
    r"""Learning rate times final kernel just above the catapult's threshold, to third order.

    .. math:: 4 - c - \tfrac23 (c-2)^2 - \tfrac49 (c-2)^3 + O\bigl((c-2)^4\bigr)

    With :math:`u = l - 2` and :math:`p = \phi^2`, of the order :math:`u^2`, a step changes :math:`\tfrac12 u^2 +
    \tfrac13 u^3 + \tfrac18 u^4 + p` by terms of sixth order: over the :math:`O(1/u)` steps of a catapult it is kept to
    fifth order. It starts and ends at :math:`p = 0`. To first order the result is :func:`mirror_ntk`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(reflected_ntk(2.1), 12), round(catapult_final_ntk(2.1), 4)
    (1.892888888889, 1.8929)
    """
    u = c - 2
    return 2 - u - 2 * u**2 / 3 - 4 * u**3 / 9


@formula(
    PARAMETERS,
    quantity="relative loss",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_WIDE, "c to 2 from above"),
)
def reflected_peak(c: Numeric) -> Numeric:
    r"""Largest :math:`\phi^2` just above the catapult's threshold, one order beyond :func:`peak_square_output`.

    .. math:: \tfrac12 (c-2)^2 \bigl( 1 + \tfrac23 (c-2) \bigr) + O\bigl((c-2)^4\bigr),

    from the same invariant as :func:`reflected_ntk`, at :math:`u = p`, where the output ceases to grow. The largest
    value that a run meets lies up to a relative :math:`O((c-2)^2)` below, as steps rarely fall on the peak.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(reflected_peak(2.1), 12)
    0.005333333333
    """
    return (c - 2) ** 2 * (1 + 2 * (c - 2) / 3) / 2


@formula(PARAMETERS, quantity="steps", status="asymptotic", symbolic=True, source="derived", assumptions=_WIDE)
def peak_time(c: Numeric, width: Numeric) -> Numeric:
    r"""Steps to the largest loss, to leading order in the width: :math:`\frac{\ln n}{2\ln(c-1)}`.

    Up to a bounded number of steps that depends on the rate and the start.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> peak_time(2.5, 512)
    7.69280081...
    """
    return log(width) / (2 * log(c - 1))


_MOST_STEPS = 1_000_000
# Below this share of what is left per step an orbit takes too long.
_SLOWEST = 1e-4
_HALF_A_DIGIT = 2.0**-54
_POSSIBLE = "at least twice the start, as of all weights"
_FAST = (
    "away from 2 and from twice the start, (c - 2)^2 + 2 start^2 and c^2 - 4 start^2 at least 1e-8, "
    "because next to them it takes too many steps"
)


def _settle(c: Any, start: Any) -> Any:
    """Iterate until neither number moves any more anywhere; a pair that cannot move again is not carried along."""
    output, ntk = start + 0.0 * c, c + 0.0 * start
    shape = np.shape(ntk)
    if shape:
        output, ntk = output.ravel(), ntk.ravel()
    found, carried = np.array(ntk), np.ones(np.shape(ntk), dtype=bool)
    for _ in range(_MOST_STEPS):
        square = output**2
        output, change = output * (1 - ntk + square), square * (ntk - 4)
        before, ntk = ntk, ntk + change
        # both: at the start the kernel has not begun to move
        still = (abs(change) <= _HALF_A_DIGIT * before) & (before <= 2)
        if still.all():
            break
        if still.any():
            # unless the kernel rounds to itself, and the output cannot grow again
            kept = ~still | (ntk != before) | (square > before)
            found[carried] = ntk
            carried[carried] = kept
            output, ntk = output[kept], ntk[kept]
    found[carried] = ntk
    return found.reshape(shape)


@law(quantity="scaled kernel")
@checked(c=positive, start=small_output)
def catapult_final_ntk(c: float | Value, start: float | Value = 1e-8) -> Value:
    r"""Learning rate times final kernel of a wide network, by iterating the map of two numbers from a small output.

    Below 2 the kernel nearly keeps its start, :math:`c`; from 4 on there is no end. Up to about 2.7 the value hardly
    depends on the start, as long as that is small; beyond, it depends on it periodically in its logarithm, hence on the
    width.

    Status: exact for the given start, an iteration.

    Parameters
    ----------
    c : Numeric
        Learning rate times initial kernel, at least :math:`2\phi_0`, as of all weights. Refused are rates next to 2 and
        next to :math:`2\phi_0`, where :math:`(c-2)^2 + 2\phi_0^2` or :math:`c^2 - 4\phi_0^2` is below 1e-8: the run
        takes too many steps.
    start : Numeric
        :math:`\phi_0 = \eta\sqrt\kappa f_0` in (0, 0.1]; of the order :math:`n^{-1/2}` at width n.

    Returns
    -------
    Numeric
        +inf from 4 on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes do not broadcast.

    Examples
    --------
    >>> round(catapult_final_ntk(2.5), 4), catapult_final_ntk(4.5)
    (1.2823, inf)
    """

    def core(c: Any, start: Any) -> tuple[Any]:
        c, start = np.broadcast_arrays(c, start)
        impossible, runs = c < 2 * start, c < 4
        balance = np.sqrt(np.maximum(c - 2 * start, 0.0)) * np.sqrt(c + 2 * start)
        slow = runs & (np.minimum(balance, np.hypot(c - 2, math.sqrt(2) * start)) < _SLOWEST)
        for wrong, text in ((impossible, _POSSIBLE), (slow, _FAST)):
            if wrong.any():
                raise complain("catapult_final_ntk", "c", text, float(c[wrong].flat[0]))
        return (np.where(runs, _settle(np.where(runs, c, 2.5), start), np.inf),)

    (final,) = pointwise("catapult_final_ntk", core, 1, c=c, start=start)
    return cast("Value", final)
