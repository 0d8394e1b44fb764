r"""Two-cycles of a deep linear network beyond its edge: one mode, balanced layers.

Where all D layers give a mode the same factor :math:`w`, gradient descent on :math:`\tfrac12 (w^D - s)^2` reads

.. math:: w' = w - \eta\, (w^D - s)\, w^{D-1},

a map of one number whose fixed point :math:`s^{1/D}` loses stability at :func:`persistent_edge`, :math:`2/(D
s^{2-2/D})`. Beyond, it alternates between :math:`\rho` and :math:`\rho z`, :math:`z > 1`; the ratio z is the parameter
in which everything is explicit. Modes whose own edge lies above the rate stay at rest: only the largest singular values
cycle.
"""

from __future__ import annotations

from sgdynamics.domains import Interval, Numeric
from sgdynamics.formula import formula, geometric_sum
from sgdynamics.models.deep_linear.parameters import PARAMETERS

__all__ = ["cycle_low", "cycle_multiplier", "cycle_rate"]

_CYCLE = ("whitened inputs", "balanced layers", "one mode")
two_or_more: Interval = Interval("a whole number >= 2", low=2, low_open=False, integer=True)


# In the powers of 1/z, which are too small for no number that counts: those of z are soon too large.


def _high_power(ratio: Numeric, depth: Numeric) -> Numeric:
    r""":math:`(\rho z)^D / s`."""
    return (1 + ratio ** (1 - depth)) / (1 + ratio ** (1 - 2 * depth))


def _low(ratio: Numeric, singular_value: Numeric, depth: Numeric) -> Numeric:
    r""":math:`\rho`."""
    return (singular_value * _high_power(ratio, depth)) ** (1 / depth) / ratio


def _strength(ratio: Numeric, depth: Numeric) -> Numeric:
    r"""Learning rate times :math:`s \rho^{D-2}`."""
    return ratio * (1 + ratio ** (1 - 2 * depth)) / geometric_sum((ratio - 1) / ratio, depth)


@formula(
    PARAMETERS,
    depth=two_or_more,
    quantity="strength",
    status="exact",
    symbolic=True,
    source="ghosh2025",
    assumptions=_CYCLE,
)
def cycle_low(ratio: Numeric, singular_value: Numeric, depth: Numeric) -> Numeric:
    r"""The smaller factor of a two-cycle whose larger one is ``ratio`` times as large.

    .. math:: \rho^D \frac{1 + z^{2D-1}}{1 + z^{D-1}} = s,

    because the two steps of the cycle are opposite, :math:`(s - \rho^D) = (\rho^D z^D - s) z^{D-1}`.

    Returns
    -------
    Numeric
        :math:`\rho`, below :math:`s^{1/D}`.

    Examples
    --------
    >>> round(cycle_low(2.0, 3.0, 2), 12)
    1.0
    """
    return _low(ratio, singular_value, depth)


@formula(
    PARAMETERS,
    depth=two_or_more,
    quantity="learning rate",
    status="exact",
    symbolic=True,
    source="ghosh2025",
    assumptions=_CYCLE,
)
def cycle_rate(ratio: Numeric, singular_value: Numeric, depth: Numeric) -> Numeric:
    r"""Learning rate at which a mode alternates between :math:`\rho` and :math:`\rho z`.

    .. math:: \eta = \frac{z - 1}{(s - \rho^D)\, \rho^{D-2}} = \frac{1 + z^{2D-1}}{s\, z^{D-1} [D]_z\, \rho^{D-2}},
        \qquad [D]_z = 1 + z + \dots + z^{D-1},

    which is :func:`persistent_edge` at :math:`z = 1` and rises from there; :math:`(z - 1 + 1/z)/s` for two layers.

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> cycle_rate(2.0, 3.0, 2)
    0.5
    """
    # the root of rho^(2-D), which is a number where the rate is one; a power of rho would have D roundings
    root = ratio ** (depth / 2 - 1) * (singular_value * _high_power(ratio, depth)) ** ((2 / depth - 1) / 2)
    return _strength(ratio, depth) / singular_value * root * root


@formula(
    PARAMETERS,
    depth=two_or_more,
    quantity="factor",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_CYCLE,
)
def cycle_multiplier(ratio: Numeric, depth: Numeric) -> Numeric:
    r"""Factor by which a small deviation from the two-cycle shrinks or grows over its two steps.

    .. math:: \prod_{w \in \{\rho, \rho z\}} \left( 1 - \eta \left[ (2D-1) w^{2D-2} - (D-1) s w^{D-2} \right] \right),

    the same for every target at equal z. It is 1 where the cycle is born and falls; at -1 the period doubles again.
    Deviations that unbalance the layers are not in it.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(cycle_multiplier(2.0, 2), 12)
    -3.5
    """
    strength, high = _strength(ratio, depth), _high_power(ratio, depth)

    def slope(factor: Numeric, share: Numeric) -> Numeric:
        return 1 - strength * factor ** (depth - 2) * ((2 * depth - 1) * share - (depth - 1))

    return slope(1, high * ratio**-depth) * slope(ratio, high)
