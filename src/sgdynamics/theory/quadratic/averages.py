r"""Averages of the iterates of SGD: their stationary variance, what is left of the start, and the rate they stand for.

One direction of curvature :math:`h`, constant learning rate :math:`\eta`, independent batch centers of variance
:math:`\sigma^2`; gain :math:`x = \eta h`, :math:`a = 1 - x`. Variances are in units of :math:`\sigma^2`.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric, count, is_symbolic, unit_interval
from sgdynamics.formula import decay, decayed, formula, geometric_sum, raised, stable_below, triangular_sum, where
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory.quadratic._kernel import edge_gain
from sgdynamics.theory.quadratic.stationary import stationary_variance


@formula(
    PARAMETERS,
    momentum=Parameter(r"\mu", "of the run", unit_interval, 0.5),
    edge=stable_below(gain=edge_gain),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def ema_variance(gain: Numeric, beta: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Stationary variance of the exponential moving average of the iterates, of plain SGD or with momentum.

    :math:`y_t = \beta y_{t-1} + (1-\beta) x_t` of plain SGD has

    .. math:: V = \frac{x}{2-x}\,\frac{(1-\beta)(1+a\beta)}{(1+\beta)(1-a\beta)}.

    With :math:`u = 1/x - 1/2` and :math:`g = 1/(1-\beta) - 1/2` the equivalent gain obeys
    :math:`u_\text{eq} = (u+g)/(1 + 1/(4ug))`: slow averages and low rates add like conductances.

    With momentum :math:`\mu` iterates have a memory of two steps, of trace :math:`t` and determinant :math:`d`
    (:func:`contraction_factor`). With :func:`stationary_variance` :math:`V_\mu`

    .. math:: V = V_\mu\, \frac{1-\beta}{1+\beta}\, \frac{(1-\beta)(1+d\beta) + \beta\, (1+t+d)(1-d)/(1+d)}
        {(1-\beta)(1-d\beta) + \beta x}.

    For slow averages this is :math:`(1-\beta)/2` at any gain and momentum: they see the noise alone.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> ema_variance(0.1, 0.9)
    0.026388686...
    >>> ema_variance(0.1, 0.9, momentum=0.9)
    0.0883370...
    """
    forget = 1 - beta
    if nesterov:
        determinant, lost = momentum * (1 - gain), (1 - momentum) + momentum * gain
        flip = (2 - gain) + 2 * momentum * (1 - gain)
    else:
        determinant, lost = momentum, 1 - momentum
        flip = (2 - gain) + 2 * momentum
    ahead = forget * (1 + beta * determinant) + beta * flip * lost / (1 + determinant)
    behind = forget * (forget + beta * lost) + beta * gain
    return (
        stationary_variance.function(gain, momentum=momentum, nesterov=nesterov)
        * forget
        * ahead
        / ((1 + beta) * behind)
    )


@formula(
    PARAMETERS,
    edge=stable_below(gain=2),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def two_point_variance(gain: Numeric, separation: Numeric) -> Numeric:
    r"""Stationary variance of the midpoint of two iterates: the gain of averaging two points.

    .. math:: V = \frac{x}{2-x}\,\frac{1+a^k}{2}

    Far apart it halves the variance; the equivalent gain is then :math:`2x/(4-x)`, more than half the gain.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> two_point_variance(0.1, 10)
    0.035491537...
    """
    return gain / (2 - gain) * raised(gain, separation) / 2


@formula(
    PARAMETERS,
    edge=stable_below(gain=2),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD"),
)
def tail_variance(gain: Numeric, points: Numeric, stride: Numeric = 1) -> Numeric:
    r"""Variance at rest of the uniform average (SWA) of iterates a fixed stride apart.

    With :math:`\rho = a^s`

    .. math:: V = \frac{x}{2-x}\,\frac1n \left[ \frac{1+\rho}{1-\rho} - \frac{2\rho(1-\rho^n)}{n(1-\rho)^2} \right]
        = \frac{x}{2-x}\,\frac{1}{n^2} \Bigl[ 2 \sum_{i<n} (n-i)\rho^i - n \Bigr],

    evaluated in the second form, which does not cancel for small gains, and for negative :math:`\rho` in the first.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> tail_variance(0.1, 20)
    0.029195236...
    """
    apart = decayed(gain, stride)  # 1 - rho
    correlations = 2 * triangular_sum(apart, points) - points
    if not is_symbolic(correlations):  # where signs alternate the first form is a sum of what is positive
        ends = 2 * (apart - 1) * decayed(gain, stride * points) / apart**2
        correlations = where(apart > 1, points * raised(gain, stride) / apart + ends, correlations)
    return gain / (2 - gain) * correlations / points**2


@formula(
    PARAMETERS,
    edge=stable_below(gain=2),
    quantity="variance",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "plain SGD", "separation much larger than 1/gain"),
)
def far_points_variance(gain: Numeric, points: Numeric) -> Numeric:
    r"""Stationary variance of the uniform average of iterates so far apart that they are independent.

    :math:`V = x/((2-x) n)`, the limit of :func:`tail_variance` for a long stride, off by a relative
    :math:`2 \sum_{0<i<n} (1-i/n) a^{is}`.

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Examples
    --------
    >>> far_points_variance(0.5, 2)
    0.1666666...
    """
    return gain / (2 - gain) / points


@formula(
    PARAMETERS,
    steps=count,
    quantity="weight of the start",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("plain SGD",),
)
def swa_start_weight(gain: Numeric, steps: Numeric) -> Numeric:
    r"""Weight of the start in the uniform average of :math:`x_1..x_T`: its bias.

    .. math:: b_0 = \frac{a (1-a^T)}{x T}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> swa_start_weight(0.5, 2)
    0.375
    """
    return (1 - gain) * geometric_sum(gain, steps) / steps


def _third_binomials(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`\sum_i \tbinom{n+1}{i+3} (-x)^i`, for :math:`n x` at most 1."""
    series: Numeric = 1.0
    for i in range(16, 0, -1):  # the i-th factor is below 1/(i+3): 16 reach 1e-16
        series = 1 - (count - 1 - i) * gain / (i + 3) * series
    return (count + 1) * count * (count - 1) / 6 * series


def _swa_squares(gain: Numeric, steps: Numeric) -> Numeric:
    r""":math:`\sum_{m=1}^{T} (1-a^m)^2`, without cancellation for small gains."""
    a = 1 - gain
    closed = steps - 2 * a * geometric_sum(gain, steps) + a**2 * geometric_sum(gain * (2 - gain), steps)
    if is_symbolic(closed):
        return closed
    forget = gain * (2 - gain)  # 1 - a^2
    third = (2 - gain) ** 2 * _third_binomials(forget, steps) - 2 * _third_binomials(gain, steps)
    return where(gain * steps < 0.5, gain**2 * (steps * (steps + 1) / 2 + third), closed)


@formula(
    PARAMETERS,
    steps=count,
    edge=stable_below(gain=2),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "fixed start", "plain SGD"),
)
def swa_variance_from_start(gain: Numeric, steps: Numeric) -> Numeric:
    r"""Variance of the uniform average of :math:`x_1..x_T` from a fixed start.

    The stationary value (:func:`tail_variance`) less :math:`b_0^2\, x/(2-x)`, what the spread of a stationary start
    would add. Summing the squared weights :math:`w_j = (1-a^{T-j+1})/T` of the centers instead of subtracting,

    .. math:: V = \frac{1}{T^2} \sum_{m=1}^{T} (1-a^m)^2
        = \frac{1}{T^2} \Bigl[ T - \frac{2a(1-a^T)}{x} + \frac{a^2 (1-a^{2T})}{x(2-x)} \Bigr].

    Returns
    -------
    Numeric
        Variance in units of the center variance.

    Notes
    -----
    For small :math:`x T` the three terms cancel to :math:`x^2 (T+1)(2T+1)/(6T)`; there the sum is evaluated as
    :math:`x^2 \bigl[\tbinom{T+1}{2} + (2-x)^2 P(2x-x^2) - 2 P(x)\bigr]` with the binomial series :math:`P(z) = \sum_i
    \tbinom{T+1}{i+3} (-z)^i`.

    Examples
    --------
    >>> swa_variance_from_start(0.5, 1)
    0.25
    """
    return _swa_squares(gain, steps) / steps**2


@formula(
    PARAMETERS,
    steps=count,
    quantity="weight of the start",
    status="exact",
    source="derived",
    assumptions=("plain SGD",),
)
def ema_start_weight(gain: Numeric, beta: Numeric, steps: Numeric) -> Numeric:
    r"""Weight of the start in the exponential moving average after T steps: its bias.

    .. math:: \beta^T + (1-\beta) \sum_{s=1}^{T} \beta^{T-s} a^s
        = \beta^T + (1-\beta)\, a\, \frac{\beta^T - a^T}{\beta - a}

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ema_start_weight(0.5, 0.5, 2)  # 1/4 + 1/2 (1/4 + 1/4)
    0.5
    """
    a = 1 - gain
    slower = abs(a) > beta
    larger = where(slower, a, where(beta == 0, 1.0, beta))
    gap = where(slower, (1 - beta) - gain, gain - (1 - beta)) / larger
    mixed = where(slower, decay(gain, steps), a * beta ** (steps - 1)) * geometric_sum(gap, steps)
    return beta**steps + (1 - beta) * mixed


@formula(
    PARAMETERS,
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def equivalent_gain(variance: Numeric) -> Numeric:
    r"""Constant gain at which plain SGD has the given stationary variance.

    .. math:: x_\text{eq} = \frac{2V}{1+V},

    the inverse of :math:`V = x/(2-x)`. It does not depend on the batch size. Over the gain it is the effective learning
    rate of an average as a fraction of the actual one.

    Returns
    -------
    Numeric
        In [0, 2).

    Examples
    --------
    >>> equivalent_gain(two_point_variance(0.1, 10))
    0.0685501...
    """
    return 2 * variance / (1 + variance)


@formula(
    PARAMETERS,
    edge=stable_below(gain=lambda momentum, dampening: 2 * (1 + momentum) / (1 - dampening)),
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary"),
)
def heavy_ball_equivalent_gain(gain: Numeric, momentum: Numeric, dampening: Numeric = 0.0) -> Numeric:
    r"""Gain at which plain SGD has the stationary variance of the heavy ball.

    .. math:: \frac{1}{x_\text{eq}} = \frac{1-\beta}{(1-\tau) x} + \frac{\beta}{1+\beta},

    :func:`equivalent_gain` of :func:`stationary_variance`. The usual :math:`x/(1-\beta)` is its limit for small gains;
    the second term keeps it below the edge: at :math:`x = 2(1+\beta)` it is 2.

    With dampening, :math:`u \leftarrow \beta u + (1-\tau) \nabla`, every gain is :math:`(1-\tau) x`, here and in all
    laws of the heavy ball. At :math:`\tau = \beta`, where u is an average of gradients, a small gain stays what it is
    and the edge moves to :math:`2(1+\beta)/(1-\beta)`.

    Returns
    -------
    Numeric
        In (0, 2).

    Examples
    --------
    >>> round(heavy_ball_equivalent_gain(0.1, 0.9), 12)
    0.678571428571
    >>> round(heavy_ball_equivalent_gain(0.1, 0.9, dampening=0.9), 12)
    0.095477386935
    """
    return 1 / ((1 - momentum) / ((1 - dampening) * gain) + momentum / (1 + momentum))
