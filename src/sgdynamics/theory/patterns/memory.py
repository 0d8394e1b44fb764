r"""How much curvature the network can hold while the noise of a large learning rate keeps erasing it."""

from __future__ import annotations

import numpy as np
from scipy.special import hyp2f1

from sgdynamics.domains import Numeric, closed_unit_interval, is_symbolic
from sgdynamics.formula import formula, sqrt, where
from sgdynamics.models.patterns.parameters import PARAMETERS
from sgdynamics.theory._quotients import quotient
from sgdynamics.theory.patterns._angles import arctan, pi

__all__ = ["curvature_ceiling", "memory_integral", "small_separation_memory"]


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("stationary noise", "learning rate times weight decay much smaller than separation squared"),
)
def memory_integral(separation: Numeric) -> Numeric:
    r"""The curvature form integrated over the memory of the weights.

    In the stationary law the correlation over a time :math:`t/\lambda` is :math:`\rho = e^{-t}`, and what a step taught
    has shrunk by the same factor, so that

    .. math:: I(r) = \int_0^\infty e^{-t}\, e^\top K(e^{-t})\, e\, dt = \int_0^1 e^\top K(\rho)\, e\, d\rho
        = \frac{1}{2\pi} \Bigl[(1+r^2) \arctan r + 2\bigl(\sqrt{1+r^2} - 1\bigr) - r - r^2\Bigr].

    Returns
    -------
    Numeric
        For amplitude 1; :math:`r^3/(3\pi)` for small r.

    Notes
    -----
    An upper bound of the sum over whole steps, :math:`\eta\lambda \sum_{k \ge 1} (1-\eta\lambda)^{k-1}\, e^\top
    K((1-\eta\lambda)^k)\, e`: the form falls as the correlation does. The two agree for :math:`2\eta\lambda \ll r^2`;
    beyond, one step turns the pattern by more than r, and the large rate holds less still.

    Evaluated as :math:`\frac{r^3}{2\pi} \bigl[\tfrac23\, {}_2F_1(\tfrac12, 1; \tfrac52; -r^2) -
    r/(1+\sqrt{1+r^2})^2\bigr]`, which does not cancel, for :math:`r < 2`.

    Examples
    --------
    >>> memory_integral(0.1)
    0.00010193...
    """
    r = separation
    if is_symbolic(r):
        import sympy

        return ((1 + r**2) * arctan(r) + 2 * (sqrt(1 + r**2) - 1) - r - r**2) / (2 * sympy.pi)
    return r * (r * _over_square(r))


def _over_square(r: Numeric) -> Numeric:
    """The integral over the square of the separation, which overflows for none."""
    small = where(r < 2, r, 2.0)
    bracket = 2 / 3 * hyp2f1(0.5, 1.0, 2.5, -(small**2)) - small / (1 + sqrt(1 + small**2)) ** 2
    large = arctan(r) - 1 + (arctan(r) - 2 + (np.hypot(1, r) - r) + np.hypot(1, r)) / r / r
    return where(r < 2, small * bracket, large) / (2 * np.pi)


@formula(
    PARAMETERS,
    quantity="ratio",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("separation much smaller than 1",),
)
def small_separation_memory(separation: Numeric) -> Numeric:
    r"""The memory integral for small separations, :math:`r^3/(3\pi)`; the relative error is :math:`3r/8`.

    Returns
    -------
    Numeric
        For amplitude 1.

    Examples
    --------
    >>> small_separation_memory(0.1)
    0.00010610...
    """
    return separation**3 / (3 * pi(separation))


@formula(
    PARAMETERS,
    mean_alpha=closed_unit_interval,
    quantity="curvature",
    status="heuristic",
    symbolic=True,
    source="derived",
    assumptions=("stationary noise of the large rate", "examples that carry Q at chance", "infinite width"),
)
def curvature_ceiling(
    separation: Numeric,
    weight_decay: Numeric,
    amplitude: Numeric = 1.0,
    q_bearing: Numeric = 1.0,
    mean_alpha: Numeric = 1.0,
) -> Numeric:
    r"""Curvature that the large rate can hold while every example that carries Q pulls with weight 1/2.

    .. math:: c_L = (1-p_0) \frac{E[\alpha]}{4} \frac{s^2 I(r)}{\lambda} \approx (1-p_0) E[\alpha] \frac{s^2
        r^3}{12 \pi\lambda}

    Q is invisible to the large rate where this is much smaller than 1. The pull weakens once Q is fitted in part, so
    that the curvature of a run stays below. (The statement of li2019 is of the kind :math:`r^2/\lambda`; this one is
    ours.)

    Returns
    -------
    Numeric
        In units of the network's output.

    Examples
    --------
    >>> curvature_ceiling(0.1, 3e-4, 4.0, 0.95)
    1.29114...
    """
    pull = (q_bearing, mean_alpha, amplitude, amplitude)
    if is_symbolic(separation):
        return quotient((*pull, memory_integral.function(separation)), (4, weight_decay))
    return quotient((*pull, separation, separation, _over_square(separation)), (4, weight_decay))
