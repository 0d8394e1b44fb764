r"""Refreshed arc-cosine kernels: what two examples share when the noise has moved the activation pattern in between."""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import formula
from sgdynamics.models.patterns.parameters import PARAMETERS
from sgdynamics.theory.patterns._angles import joint_activity

__all__ = ["noisy_correlation", "refreshed_kernel"]


@formula(
    PARAMETERS,
    quantity="probability",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("Gaussian weights", "infinite width"),
)
def refreshed_kernel(angle: Numeric, correlation: Numeric) -> Numeric:
    r"""Kernel of P and of Q: probability that a unit is active on one example at one time, on another at another.

    For rows :math:`u, u'` of the weights at the two times, Gaussian with correlation :math:`\rho` per entry,

    .. math:: \Pr(u \cdot x > 0,\ u' \cdot x' > 0) = \frac{\pi - \arccos(\rho \cos\theta)}{2\pi}.

    Times :math:`\langle x, x' \rangle` it is the kernel of gradient steps taken at one time and read at the other.

    Returns
    -------
    Numeric
        In [0, 1/2].

    Examples
    --------
    >>> refreshed_kernel(0.1, 0.9)
    0.42659224...
    """
    if is_symbolic(angle) or is_symbolic(correlation):
        import sympy

        cosine = correlation * sympy.cos(angle)
        return joint_activity(1 + cosine, 1 - cosine)
    apart = 1 - correlation
    above = apart + 2 * correlation * np.cos(angle / 2) ** 2
    below = apart + 2 * correlation * np.sin(angle / 2) ** 2
    return joint_activity(above, below)


@formula(
    PARAMETERS,
    quantity="correlation",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("noise fresh in every step, unit and example",),
)
def noisy_correlation(correlation: Numeric, activation_noise: Numeric) -> Numeric:
    r"""Correlation of the pre-activations of one example at two times when both carry noise of their own.

    .. math:: \rho \to \frac{\rho}{1 + a^2}

    Where only one of the two times has noise the factor is :math:`1/\sqrt{1+a^2}`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> noisy_correlation(1.0, 2.0)
    0.2
    """
    return correlation / (1 + activation_noise**2)
