r"""Averages that emulate a decay, given as fractions :math:`r_j` of the base learning rate."""

from __future__ import annotations

from typing import cast

import numpy as np

from sgdynamics.domains import Numbers, Numeric, Values, checked
from sgdynamics.formula import law
from sgdynamics.theory.schedules._along_steps import Array, relative_rates, sweep
from sgdynamics.theory.schedules.weights import NoEquivalentSchedule

__all__ = ["average_for_every_curvature", "binomial_average", "wsm_average"]


def tail_sums(fractions: Array) -> Array:
    """The fractions, with 1 before and 0 after them, each less the next."""
    ends = np.ones((*fractions.shape[:-1], 1))
    padded = np.concatenate([ends, fractions, 0 * ends], axis=-1)
    made: Array = padded[..., :-1] - padded[..., 1:]
    return made


def binomial_coefficients(fractions: Array) -> Array:
    r"""Coefficients of :math:`\prod_j (1 - r_j + r_j t)`."""
    made = np.zeros((*fractions.shape[:-1], fractions.shape[-1] + 1))
    made[..., 0] = 1
    for j in range(fractions.shape[-1]):
        fraction = fractions[..., j, None]
        made[..., 1 : j + 2] = (1 - fraction) * made[..., 1 : j + 2] + fraction * made[..., : j + 1]
        made[..., 0] *= 1 - fractions[..., j]
    return made


@law(quantity="average")
@checked(fractions=relative_rates)
def wsm_average(fractions: Values | Numbers) -> Values:
    r"""Tail-sum weights: the average that re-weighs the recorded updates of a base run by the fractions.

    .. math:: \alpha_0 = 1 - r_1, \quad \alpha_j = r_j - r_{j+1}, \quad \alpha_T = r_T

    Status: exact for flat directions (the limit of :func:`gains_to_average` as the gain goes to 0) and for recorded
    updates of any optimiser; no re-run with noise at finite curvature.

    Parameters
    ----------
    fractions : array, shape (..., T), or a DataArray with the dim ``step``
        :math:`r_j` in [0, 1], target learning rate over base learning rate.

    Returns
    -------
    array, shape (..., T + 1)
        Negative where the fractions increase.

    Raises
    ------
    ValueError, TypeError
        If fractions leave [0, 1].

    Notes
    -----
    Tian et al. 2025.

    Examples
    --------
    >>> wsm_average([0.75, 0.5, 0.25])
    array([0.25, 0.25, 0.25, 0.25])
    """
    (made,) = sweep(tail_sums, [fractions], ["step"], ["iterate"])
    return cast("Values", made)


@law(quantity="average")
@checked(fractions=relative_rates)
def binomial_average(fractions: Values | Numbers) -> Values:
    r"""The average that contracts the start like the decay does, at every curvature.

    The weights are the coefficients of :math:`\prod_j (1 - r_j + r_j t)`, so that :math:`\sum_i \alpha_i a^i` is the
    decay's own contraction for every :math:`a = 1-x`. The noise weights are not matched.

    Status: exact for the bias only.

    Parameters
    ----------
    fractions : array, shape (..., T), or a DataArray with the dim ``step``
        :math:`r_j` in [0, 1], target learning rate over base learning rate. The work grows as the square of T.

    Returns
    -------
    array, shape (..., T + 1)

    Raises
    ------
    ValueError, TypeError
        If fractions leave [0, 1].

    Examples
    --------
    >>> binomial_average([0.75, 0.5, 0.25])
    array([0.09375, 0.40625, 0.40625, 0.09375])
    """
    (made,) = sweep(binomial_coefficients, [fractions], ["step"], ["iterate"])
    return cast("Values", made)


@law(quantity="average")
@checked(fractions=relative_rates)
def average_for_every_curvature(fractions: Numeric) -> Array:
    r"""The average that equals the given decay at every curvature at once, where there is one.

    One set of weights reproduces a schedule batch by batch for every curvature if and only if the schedule is the
    base learning rate, then one partial step, then nothing: :math:`r = (1, .., 1, r_m, 0, .., 0)`. The weights are
    then :math:`1-r_m` on :math:`x_{m-1}` and :math:`r_m` on :math:`x_m`.

    Status: exact. (The weight of :math:`c_T` forces :math:`\alpha_T = r_T`; the weight of :math:`c_{T-1}`, a
    polynomial in the curvature, forces :math:`r_T = r_{T-1} r_T`; and so on down.)

    Parameters
    ----------
    fractions : array, shape (T,)
        :math:`r_j` in [0, 1], target learning rate over base learning rate.

    Returns
    -------
    array, shape (T + 1,)

    Raises
    ------
    NoEquivalentSchedule
        For every other schedule; ``first_bad_index`` is the first entry that breaks the pattern.
    ValueError, TypeError
        If fractions leave [0, 1].

    Examples
    --------
    >>> average_for_every_curvature([1.0, 0.3, 0.0])
    array([0. , 0.7, 0.3, 0. ])
    """
    values = np.asarray(fractions)
    if values.ndim != 1:
        raise ValueError(f"average_for_every_curvature: fractions must be one schedule, 1-D, got shape {values.shape}")
    # after anything below 1 only zeros may follow
    broken = np.flatnonzero((values[1:] != 0) & (values[:-1] != 1))
    if broken.size:
        index = int(broken[0]) + 1
        raise NoEquivalentSchedule(
            "average_for_every_curvature: fractions must be 1, .., 1, one value in [0, 1], 0, .., 0: "
            f"entry {index} is {values[index]} after {values[index - 1]}, and no other schedule has an average that is "
            "exact at every curvature",
            index,
        )
    made: Array = wsm_average(values)
    return made
