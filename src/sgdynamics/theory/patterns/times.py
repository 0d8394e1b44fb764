r"""Time scales: how long each pattern takes to learn, and how wide a network must be for the theory to hold.

Times are training times, sums of learning rates. Both are set by the first moments of a run, when every example pulls
with weight 1/2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import expit

from sgdynamics.domains import Interval, Numeric, is_symbolic
from sgdynamics.formula import exp, formula, log, sqrt
from sgdynamics.models.patterns.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory._quotients import quotient
from sgdynamics.theory.patterns._angles import arctan, hypotenuse, pi

__all__ = ["lazy_width", "p_learning_time", "p_time", "q_learning_time", "q_time", "time_separation"]

_below_start = Interval("a number in (0, log 2], the loss of the start", low=0, high=math.log(2), high_open=False)
_reached_loss = Interval("a number in [1e-6, log 2]", low=1e-6, high=math.log(2), low_open=False, high_open=False)
_NODES, _NEWTON_STEPS = 120, 40


@formula(
    PARAMETERS,
    quantity="time",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("frozen activation pattern", "rate at the start", "balanced labels", "infinite width"),
)
def q_time(
    separation: Numeric, amplitude: Numeric = 1.0, q_bearing: Numeric = 1.0, mean_alpha: Numeric = 1.0
) -> Numeric:
    r"""Time in which a frozen activation pattern would reach curvature 1 at the rate of the start.

    .. math:: \frac{1}{T_Q} = \frac{dc}{dT} = (1-p_0) \frac{E[\alpha]}{4}\, s^2\, \frac{(1+r^2) \arctan r}{2\pi},
        \qquad T_Q \approx \frac{8\pi}{(1-p_0) E[\alpha] s^2 r}

    Returns
    -------
    Numeric
        Training time.

    Examples
    --------
    >>> q_time(0.1, 4.0, 0.95)
    16.425...
    """
    root = hypotenuse(1, separation)
    learnt = (q_bearing, mean_alpha, amplitude, amplitude, root, root, arctan(separation))
    return quotient((8, pi(separation)), learnt)


@formula(
    PARAMETERS,
    quantity="time",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("rate at the start", "linear part of the kernel", "infinitely many examples"),
)
def p_time(dimension: Numeric, margin: Numeric = 0.0, p_bearing: Numeric = 1.0) -> Numeric:
    r"""Time in which the mean margin of P on fresh examples would reach 1 at the rate of the start.

    .. math:: T_P = \frac{8}{(1-q_0)\, \mu_0^2}, \qquad \mu_0 = E\, y \langle w^*, x_1 \rangle
        = \frac{\gamma_0\sqrt d + \sqrt{2/\pi}}{\sqrt d}

    Returns
    -------
    Numeric
        Training time.

    Examples
    --------
    >>> p_time(100, 0.0, 0.8)
    1570.79...
    """
    signal = margin + sqrt(2 / pi(margin + dimension))
    return quotient((8, dimension), (p_bearing, signal, signal))


@formula(
    PARAMETERS,
    loss=Parameter(r"\ell", "mean over examples with Q", _below_start, 0.5),
    quantity="time",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("frozen activation pattern", "small separation", "alpha 1", "Q alone", "infinite width"),
)
def q_learning_time(loss: Numeric, separation: Numeric, amplitude: Numeric = 1.0, q_bearing: Numeric = 1.0) -> Numeric:
    r"""Time until the loss on Q has come down to a value, with a frozen activation pattern.

    Differences between the rays' margins heal at a rate :math:`s^2/8`, much faster than the curvature grows. So all
    margins are :math:`m = c/2`, their pull is :math:`\sigma(-m)`, and :math:`\dot m = \sigma(-m)/T_Q`, whence

    .. math:: T(\ell) = T_Q\,(m + e^m - 1), \qquad m = -\ln(e^\ell - 1),

    with :math:`T_Q` of :func:`q_time`. The relative error is of the order of the separation.

    Returns
    -------
    Numeric
        Training time.

    Examples
    --------
    >>> q_learning_time(0.35, 0.1, 4.0, 0.95)
    37.0552...
    """
    if is_symbolic(loss):
        margin = -log(exp(loss) - 1)
        return q_time.function(separation, amplitude, q_bearing) * (margin + exp(margin) - 1)
    odds = np.expm1(loss)
    return q_time.function(separation, amplitude, q_bearing) * ((1 - odds) / odds - log(odds))


@formula(
    PARAMETERS,
    loss=Parameter(r"\ell", "mean over examples with P", _reached_loss, 0.5),
    quantity="time",
    status="exact",
    source="derived",
    assumptions=("linear part of the kernel", "infinitely many examples", "P alone", "no weight decay"),
)
def p_learning_time(loss: Numeric, dimension: Numeric, margin: Numeric = 0.0, p_bearing: Numeric = 1.0) -> Numeric:
    r"""Time until the loss on fresh examples of P has come down to a value, by Gauss quadrature.

    The rule grows along the truth. With :math:`u = \gamma_0\sqrt d + |z|`, :math:`z` normal, and its slope :math:`b` in
    units of :math:`\sqrt d`,

    .. math:: \ell(b) = E \ln(1 + e^{-bu}), \qquad \dot b = \frac{1-q_0}{4d}\, E\, u\,\sigma(-bu),
        \qquad T(\ell) = \frac{4d}{1-q_0} \int_0^{b(\ell)} \frac{db}{E\, u\,\sigma(-bu)},

    at first with :math:`T_P` of :func:`p_time`, then slower, as examples that are told apart cease to pull.

    Returns
    -------
    Numeric
        Training time.

    Examples
    --------
    >>> round(p_learning_time(0.5, 100, 0.0, 0.8), 1)
    909.4
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    place, weights = (nodes + 1) / 2, weights / 2
    height = 9.5 * place**8  # of a half-normal: dense at 0, where the last examples pull
    density = weights * place**7 * np.exp(-(height**2) / 2)
    density /= density.sum()
    loss, dimension, margin, p_bearing = np.broadcast_arrays(loss, dimension, margin, p_bearing)
    size = margin[..., np.newaxis] + height

    def pull(slope: Any) -> Any:
        return np.sum(density * size * expit(-slope[..., np.newaxis] * size), axis=-1)

    reached = np.zeros(loss.shape)
    for _ in range(_NEWTON_STEPS):  # on the logarithm, which is convex: from below, never beyond
        here = np.sum(density * np.logaddexp(0, -reached[..., np.newaxis] * size), axis=-1)
        reached = reached + np.log(here / loss) * here / pull(reached)
    slowness = sum(weight * reached / pull(share * reached) for share, weight in zip(place, weights, strict=True))
    return quotient((4, dimension, slowness), (p_bearing,))


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("those of q_time and p_time",),
)
def time_separation(
    dimension: Numeric,
    margin: Numeric,
    separation: Numeric,
    amplitude: Numeric = 1.0,
    p_bearing: Numeric = 1.0,
    q_bearing: Numeric = 1.0,
    mean_alpha: Numeric = 1.0,
) -> Numeric:
    r"""Time to learn P over time to learn Q with a small learning rate, :math:`T_P/T_Q`.

    .. math:: \frac{T_P}{T_Q} = \frac{2 (1-p_0) E[\alpha]\, s^2\, e^\top K e}{(1-q_0)\, \mu_0^2}

    A small rate learns Q first where this is much larger than 1.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> time_separation(100, 0.0, 0.1, 4.0, 0.8, 0.95)
    95.63...
    """
    root, signal = hypotenuse(1, separation), margin + sqrt(2 / pi(margin + dimension))
    over = (dimension, q_bearing, mean_alpha, amplitude, amplitude, root, root, arctan(separation))
    return quotient(over, (pi(separation), p_bearing, signal, signal))


@formula(
    PARAMETERS,
    quantity="width",
    status="heuristic",
    symbolic=True,
    source="derived",
    assumptions=("order of magnitude",),
)
def lazy_width(curvature: Numeric, separation: Numeric, noise_scale: Numeric, amplitude: Numeric = 1.0) -> Numeric:
    r"""Width of the units that see Q above which a frozen pattern stays frozen while Q is learnt.

    A unit whose boundary lies between the rays drifts by :math:`\pi c/(s r \sqrt m)` along them while the curvature
    grows to c, and leaves the wedge if that exceeds :math:`r \tau_0`, so that

    .. math:: m \gg \Bigl(\frac{\pi c}{s r^2 \tau_0}\Bigr)^2.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> lazy_width(5.0, 0.1, 3.0, 4.0)
    17134.7...
    """
    return quotient((math.pi, curvature), (amplitude, separation, separation, noise_scale)) ** 2
