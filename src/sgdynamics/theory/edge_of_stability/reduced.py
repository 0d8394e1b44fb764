r"""The reduced dynamics of a run that leaves a minimum beyond the edge, solved exactly.

:math:`\dot X = 2X(e - X)`, :math:`\dot e = -\rho X`, see :mod:`sgdynamics.theory.edge_of_stability.end_gap`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import exp, formula, where
from sgdynamics.models.edge_of_stability.parameters import PARAMETERS

# 1 + W_0(-(1+d) exp(-(1+d))) as a power series in d, from the coefficient of d on
_SERIES = (1, -2 / 3, 4 / 9, -44 / 135, 104 / 405, -40 / 189, 7648 / 42525, -2848 / 18225)


@formula(
    PARAMETERS,
    quantity="invariant",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("reduced dynamics dX = 2X(e - X), de = -rho X",),
)
def reduced_invariant(excess: Numeric, amplitude: Numeric, drift: Numeric) -> Numeric:
    r"""What the reduced dynamics conserves: :math:`(X - e - \rho/2)\, e^{-2e/\rho}`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> reduced_invariant(0.0, 1.0, drift=1.0)
    0.5
    """
    if any(map(is_symbolic, (excess, amplitude, drift))):
        return (amplitude - excess - drift / 2) * exp(-2 * excess / drift)
    distance = amplitude - excess - drift / 2
    third = np.exp(-2 / 3 * (excess / drift))  # the exponential may be beyond the numbers where the product is not
    return where(distance == 0, 0.0, distance * third * third * third)


@formula(
    PARAMETERS,
    excess=replace(PARAMETERS["excess"], meaning=r"at least :math:`-\rho/2`, where the line ends"),
    quantity="oscillation",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("reduced dynamics dX = 2X(e - X), de = -rho X", "excess of the start much larger than the drift"),
)
def tracking_amplitude(excess: Numeric, drift: Numeric) -> Numeric:
    r"""The invariant line :math:`X = e + \rho/2` that a run follows down to the edge.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> tracking_amplitude(0.5, drift=0.5)
    0.75
    """
    return excess + drift / 2


def _series(d: NDArray[np.float64]) -> Any:
    """1 + W_0(-(1+d) e^{-(1+d)}) over d where Lambert's function meets its branch point."""
    series: Any = 0.0
    for coefficient in reversed(_SERIES):
        series = coefficient + d * series
    return series


@formula(
    PARAMETERS,
    quantity="scaled sharpness",
    status="exact",
    source="derived",
    assumptions=("reduced dynamics dX = 2X(e - X), de = -rho X", "infinitesimal oscillation at the start"),
)
def end_excess(start_excess: Numeric, drift: Numeric) -> Numeric:
    r"""Where the reduced dynamics ends, for every start: by its invariant, with Lambert's function :math:`W_0`,

    .. math:: e_\infty = -\frac{\rho}{2}\Bigl[1 + W_0\bigl(-g\,e^{-g}\bigr)\Bigr], \qquad g = 1 + \frac{2 e_0}{\rho}.

    It is :math:`-\rho/2` for :math:`e_0 \gg \rho` and :math:`-e_0` for :math:`e_0 \ll \rho`.

    Returns
    -------
    Numeric
        :math:`e_\infty \le 0`; the gap is :math:`2/\eta - S_\infty = -e_\infty/\eta`.

    Examples
    --------
    >>> round(end_excess(1.0, drift=0.01), 12), round(end_excess(0.0001, drift=1.0), 12)
    (-0.005, -9.9986668e-05)
    """
    distance = 2 * (start_excess / drift)
    near = -start_excess * _series(where(distance < 0.01, distance, 0.0))
    beyond = 1 + where(distance < 0.01, 1.0, where(distance < 1e3, distance, 1e3))  # from there on W_0 is 0
    return where(distance < 0.01, near, -(drift / 2) * (1 + lambertw(-beyond * exp(-beyond)).real))


@formula(
    PARAMETERS,
    quantity="scaled sharpness",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("reduced dynamics dX = 2X(e - X), de = -(rho + e)X", "infinitesimal oscillation at the start"),
)
def critical_end_excess(start_excess: Numeric, drift: Numeric) -> Numeric:
    r"""Where runs of the uv network end just below its critical rate: :math:`e_\infty = -\rho e_0/(2 e_0 + \rho)`.

    With :math:`q = \eta t` close to 1 the minimum is nearly balanced, and losing imbalance lowers its sharpness the
    less the closer it is to the edge: :math:`\dot e = -(\rho + e)X`, :math:`\rho = (1-q^2)/q^2`. Then
    :math:`(X - 2e - \rho)/(e+\rho)^2` is conserved. The end is :math:`-\rho/2` for :math:`e_0 \gg \rho` as elsewhere,
    but it is approached like :math:`\rho/e_0` only, not exponentially.

    Returns
    -------
    Numeric
        :math:`e_\infty \le 0`.

    Examples
    --------
    >>> critical_end_excess(0.5, drift=1.0)
    -0.25
    """
    if is_symbolic(start_excess) or is_symbolic(drift):
        return -drift * start_excess / (2 * start_excess + drift)
    # the smaller one over what is between 1 and 2
    small, ratio = start_excess < drift / 2, 2 * (start_excess / drift)
    return -where(small, start_excess, drift / 2) / (1 + where(small, ratio, 1 / where(small, 1.0, ratio)))
