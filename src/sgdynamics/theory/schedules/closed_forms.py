r"""Closed forms of the schedules that end on the usual averages."""

from __future__ import annotations

from sgdynamics.domains import Numeric, count, real
from sgdynamics.formula import decay, formula, geometric_sum, where
from sgdynamics.theory.schedules.parameters import PARAMETERS


@formula(PARAMETERS, quantity="gain", status="exact", source="derived", assumptions=("one curvature",))
def ema_schedule_gain(gain: Numeric, beta: Numeric, remaining: Numeric) -> Numeric:
    r"""Gain, with ``remaining`` steps to go, of the schedule that ends on the exponential moving average of SGD.

    With :math:`a = 1-x` and :math:`k` steps to go

    .. math:: g = \frac{(1-\beta)\, x\, (\beta^{k+1} - a^{k+1})}{x \beta^{k+1} - (1-\beta) a^{k+1}}
        = (1-\beta)\, x\, \frac{\sum_{i \le k} r^i}{s \sum_{i < k} r^i + r^k},

    where :math:`r = \beta/a`, :math:`s = 1-\beta` if :math:`|a| > \beta`, and :math:`r = a/\beta`, :math:`s = x`
    otherwise: for :math:`a \ge 0` sums of positive terms, at any size. The schedule starts near
    :math:`\min(x, 1-\beta)` and ends at :math:`x (1-\beta)`.

    Returns
    -------
    Numeric
        The gain of step j.

    Examples
    --------
    >>> ema_schedule_gain(0.1, 0.9, [0, 1, 10])
    array([0.01      , 0.01818182, 0.055     ])
    """
    survival = 1 - gain
    slower = (gain < 1 - beta) | (gain - 1 > beta)  # |a| > beta, decided before 1 - x is rounded
    one = where(slower, survival, where(beta == 0, 1.0, beta))
    gap = where(slower, (1 - beta) - gain, gain - (1 - beta)) / one  # 1 - r
    before = where(slower, 1 - beta, gain) * geometric_sum(gap, remaining) + decay(gap, remaining)
    return (1 - beta) * gain * geometric_sum(gap, remaining + 1) / before


@formula(
    PARAMETERS,
    steps=count,
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("one curvature", "step <= steps"),
)
def swa_schedule_gain(gain: Numeric, step: Numeric, steps: Numeric) -> Numeric:
    r"""Gain of the schedule that ends on the uniform average of :math:`x_1..x_T` of SGD.

    .. math:: \frac{1}{g_j} = \frac1x + \frac{j-1}{1 - (1-x)^{T-j+1}}

    At :math:`x = 1` this is the :math:`1/j` schedule. It ends at :math:`x/T`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> swa_schedule_gain(0.1, 2, 100)
    0.090908...
    """
    return gain / (1 + (step - 1) / geometric_sum(gain, steps - step + 1))


@formula(
    PARAMETERS,
    quantity="gain",
    status="exact",
    source="derived",
    assumptions=("one curvature", "separation <= number of steps"),
)
def two_point_schedule_gain(gain: Numeric, separation: Numeric, remaining: Numeric) -> Numeric:
    r"""Gain, with ``remaining`` steps to go, of the schedule that ends on the midpoint of :math:`x_T` and
    :math:`x_{T-k}`.

    :math:`x` as long as :math:`k` or more steps remain; then, with :math:`m` steps to go,
    :math:`x/(1 + (1-x)^{-m})`: the schedule drops to almost nothing and ramps up to :math:`x/2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_point_schedule_gain(0.1, 20, [0, 10, 19, 20])
    array([0.05      , 0.02585334, 0.01190088, 0.1       ])
    """
    left = decay(gain, remaining)
    return where(remaining >= separation, gain, gain / (1 + 1 / left))


@formula(
    PARAMETERS,
    gain=real,
    quantity="momentum",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("one curvature",),
)
def ema_heavy_ball_momentum(gain: Numeric, beta: Numeric) -> Numeric:
    r"""Momentum of the heavy-ball run that is, step by step, the exponential moving average of SGD.

    The average :math:`y_t = \beta y_{t-1} + (1-\beta) x_t` of SGD at gain :math:`x` is SGD with heavy ball at momentum
    :math:`(1-x)\beta` and gain :math:`x(1-\beta)` (:func:`ema_heavy_ball_gain`), started at rest, for every t.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> round(ema_heavy_ball_momentum(0.1, 0.9), 12)
    0.81
    """
    return (1 - gain) * beta


@formula(
    PARAMETERS,
    gain=real,
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("one curvature",),
)
def ema_heavy_ball_gain(gain: Numeric, beta: Numeric) -> Numeric:
    r"""Gain of the heavy-ball run that is, step by step, the exponential moving average of SGD.

    :math:`x (1-\beta)`; see :func:`ema_heavy_ball_momentum`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ema_heavy_ball_gain(0.5, 0.5)
    0.25
    """
    return gain * (1 - beta)
