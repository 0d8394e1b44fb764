r"""Geometry of the stationary cloud: distances, angles, and what a line search along a gradient sees.

Isotropic model in many dimensions, plain SGD at constant gain :math:`x = \eta h < 2`, :math:`a = 1-x`, :math:`V =
x/(2-x)`. Squared lengths are per dimension in units of the center variance; losses are in units of :math:`\tfrac12 h d
\sigma^2`, so that the floor is 1.
"""

from __future__ import annotations

from sgdynamics.domains import Interval, Numeric, count, is_symbolic
from sgdynamics.formula import decay, decayed, formula, raised, sqrt, where
from sgdynamics.models.quadratic.parameters import PARAMETERS

stable_gain: Interval = Interval("a number in (0, 2), inside the stability edge", low=0, high=2)
_HIGH_DIMENSION = ("isotropic", "additive noise", "stationary", "plain SGD", "dimension to infinity")
_EXPECTED = ("isotropic", "additive noise", "stationary", "plain SGD")


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="correlation",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_EXPECTED,
)
def iterate_cosine(gain: Numeric, lag: Numeric) -> Numeric:
    r"""Correlation of two iterates ``lag`` steps apart, the cosine seen from the minimiser: :math:`a^k`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> iterate_cosine(0.5, 2)
    0.25
    """
    return decay(gain, lag)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_EXPECTED,
)
def squared_distance(gain: Numeric, lag: Numeric) -> Numeric:
    r"""Mean squared distance of two iterates ``lag`` steps apart: :math:`2 V (1-a^k)`.

    Returns
    -------
    Numeric
        Per dimension, in units of the center variance.

    Examples
    --------
    >>> round(squared_distance(0.3, 4), 12)
    0.2682
    """
    return 2 * gain / (2 - gain) * decayed(gain, lag)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="relative loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_EXPECTED,
)
def chord_excess(gain: Numeric, lag: Numeric, position: Numeric) -> Numeric:
    r"""Excess risk on the chord between two iterates, over its value at the ends.

    .. math:: (1-s)^2 + s^2 + 2 s (1-s) a^k,

    lowest at the midpoint, where it is :math:`(1+a^k)/2`: averaging moves to the inside.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> chord_excess(0.5, 2, 0.5)
    0.625
    """
    between = 2 * position * (1 - position)
    beyond = 1 - between * decayed(gain, lag)
    if is_symbolic(beyond):
        return beyond
    return where(between > 0, (1 - 2 * position) ** 2 + between * raised(gain, lag), beyond)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="correlation",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=_HIGH_DIMENSION,
)
def gradient_cosine(gain: Numeric) -> Numeric:
    r"""Cosine of the gradients of two independent batches at the same iterate: :math:`V/(V+1) = x/2`.

    The mean cosine in d dimensions is smaller by a relative O(1/d).

    Returns
    -------
    Numeric

    Examples
    --------
    >>> gradient_cosine(0.3)
    0.15
    """
    return gain / 2


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="correlation",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=_HIGH_DIMENSION,
)
def batch_full_gradient_cosine(gain: Numeric) -> Numeric:
    r"""Cosine of a batch gradient and the full gradient at the same iterate: :math:`\sqrt{x/2}`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> batch_full_gradient_cosine(0.5)
    0.5
    """
    return sqrt(gain / 2)


@formula(
    PARAMETERS,
    gain=stable_gain,
    lag=count,
    quantity="correlation",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=_HIGH_DIMENSION,
)
def lagged_gradient_cosine(gain: Numeric, lag: Numeric = 1) -> Numeric:
    r"""Cosine of two gradients that SGD used ``lag`` steps apart: :math:`-\tfrac{x}{2} a^{k-1}`.

    Consecutive gradients point against each other exactly as much as independent ones point along each other.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> lagged_gradient_cosine(0.3)
    -0.15
    """
    return -gain / 2 * decay(gain, lag - 1)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="relative loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_EXPECTED,
)
def held_out_loss(gain: Numeric) -> Numeric:
    r"""Expected loss of a batch that has not been used yet, hence of held-out data: :math:`1 + V = 2/(2-x)`.

    Returns
    -------
    Numeric
        In units of the floor.

    Examples
    --------
    >>> held_out_loss(1.0)
    2.0
    """
    return 2 / (2 - gain)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="relative loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_EXPECTED,
)
def used_batch_loss(gain: Numeric, lag: Numeric) -> Numeric:
    r"""Expected loss of a batch ``lag`` steps after the step that used it.

    .. math:: 1 + V - 2 x a^k = \frac{2 a^2}{2-x} + 2 x (1 - a^k), \qquad a = 1 - x.

    At lag 0, right after its step, it is :math:`(1-x)^2` times what it was before; it then recovers to the held-out
    loss.

    Returns
    -------
    Numeric
        In units of the floor.

    Examples
    --------
    >>> used_batch_loss(1.0, 0)
    0.0
    """
    return 2 * (1 - gain) ** 2 / (2 - gain) + 2 * gain * decayed(gain, lag)


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="relative loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_EXPECTED,
)
def stepped_loss(gain: Numeric, trial_gain: Numeric) -> Numeric:
    r"""Expected held-out loss after one step of gain :math:`\lambda h` along the gradient of a fresh batch.

    .. math:: 1 + (1-\lambda h)^2 V + (\lambda h)^2

    A jump to the batch minimum, :math:`\lambda h = 1`, multiplies the held-out loss by :math:`2-x`.

    Returns
    -------
    Numeric
        In units of the floor.

    Examples
    --------
    >>> stepped_loss(1.0, 1.0) / held_out_loss(1.0)
    1.0
    """
    return 1 + (1 - trial_gain) ** 2 * gain / (2 - gain) + trial_gain**2


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def line_search_gain(gain: Numeric) -> Numeric:
    r"""Trial gain at which the population loss along a batch gradient is lowest: :math:`x/2`, half the learning rate.

    Holds in every eigendirection and so for every spectrum: at stationarity the population loss is the same before and
    after a step, and a parabola with equal values at 0 and :math:`\eta` has its vertex half way.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> line_search_gain(0.3)
    0.15
    """
    return gain / 2


@formula(
    PARAMETERS,
    gain=stable_gain,
    quantity="relative loss",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def half_rate_excess(gain: Numeric) -> Numeric:
    r"""Excess risk after one step at half the learning rate, over its stationary value: :math:`1 - x/2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> half_rate_excess(0.5)
    0.75
    """
    return 1 - gain / 2


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("Gaussian stationary law", "dimension is the effective one, (tr S)^2 / tr S^2"),
)
def shell_fluctuation(dimension: Numeric) -> Numeric:
    r"""Relative standard deviation of the squared distance from the minimiser: :math:`\sqrt{2/d}`, a thin shell.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> shell_fluctuation(200)
    0.1
    """
    return sqrt(2 / dimension)
