r"""A finite set of examples: sampling without replacement, and epochs of reshuffled batches.

Batches of an epoch share one partition of the examples. Their centers add to a constant, so that the noise of one
batch is taken back by the others: what is left at the ends of epochs is smaller than for independent batches. Random
curvatures multiply over an epoch; with one example a batch the product is the same in every order, so that the edge is
that of a path, not the stricter one in mean square.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, count, instance_of, is_symbolic, positive
from sgdynamics.formula import formula, geometric_sum, raised, stable_below, where
from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.theory._roots import bracketed_root, root_below
from sgdynamics.theory.quadratic._sweep import over_points, unswept
from sgdynamics.theory.quadratic.path_edges import almost_sure_edge

__all__ = ["reshuffled_edge", "reshuffled_growth", "reshuffled_variance"]

Array = NDArray[np.float64]

# Partitions of an epoch that are enumerated.
_MOST_PARTITIONS = 100_000


@formula(
    gain=positive,
    batches=count,
    batch_size=count,
    edge=stable_below(gain=2),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("finite set of centers", "one Hessian", "reshuffled", "stationary at epoch ends", "plain SGD"),
)
def reshuffled_variance(gain: Numeric, batches: Numeric, batch_size: Numeric = 1) -> Numeric:
    r"""Stationary variance at the ends of reshuffled epochs.

    With :math:`m` batches of :math:`S` examples, :math:`n = mS`, and :math:`S_1 = \sum_{k<m} a^k`,
    :math:`S_2 = \sum_{k<m} a^{2k}`

    .. math:: V = \frac{n}{n-1}\, \frac{x^2 (S_2 - S_1^2/m)}{1 - a^{2m}}
        = \frac{x}{2-x}\, \frac{n}{n-1} \left[ 1 - \frac{(2-x)(1-a^m)}{m x (1+a^m)} \right].

    The bracket is the ratio to independent batches (:func:`stationary_variance`), up to :math:`n/(n-1)`; for
    :math:`m x \to 0` it vanishes like :math:`(m^2-1) x^2/12`. Within an epoch the variance is larger for gains up to
    1; beyond, where every step overshoots, it may be smaller.

    Parameters
    ----------
    gain : Numeric
        :math:`x`, learning rate times curvature, dimensionless, > 0. At or beyond 2 the result is +inf.
    batches : Numeric
        :math:`m \ge 1` batches per epoch.
    batch_size : Numeric
        :math:`S \ge 1`.

    Returns
    -------
    Numeric
        In units of the center variance of S independent draws, the population variance of the centers over S.

    Examples
    --------
    >>> reshuffled_variance(0.3, 8)  # 0.4216 of the value for independent draws
    0.074396...
    """
    examples = batches * batch_size
    both = batches * raised(gain, batches)  # m (1 + a^m)
    bracket = 1 - (2 - gain) * geometric_sum(gain, batches) / both
    if not is_symbolic(bracket):
        series: Numeric = 1.0
        for i in range(16, 0, -1):  # sum_i (i+1) C(m+1, i+3) (-x)^i over C(m+1, 3): the bracket is a difference
            series = 1 - (i + 1) / i * (batches - 1 - i) * gain / (i + 3) * series
        small = gain**2 * (batches + 1) * batches * (batches - 1) / 6 * series / both
        bracket = where((batches * gain < 0.5) | (batches == 1), small, bracket)
    return gain / (2 - gain) * examples / where(examples == 1, 1, examples - 1) * bracket


def _partitions(examples: tuple[int, ...], batch_size: int) -> Iterator[list[tuple[int, ...]]]:
    """All ways to part examples into unordered batches."""
    if not examples:
        yield []
        return
    first, rest = examples[0], examples[1:]
    for others in combinations(rest, batch_size - 1):
        left = tuple(example for example in rest if example not in others)
        for batches in _partitions(left, batch_size):
            yield [(first, *others), *batches]


def _epoch_curvatures(model: FiniteSumQuadratic, owner: str) -> Array:
    """Curvatures (partition, batch) of all partitions of the examples."""
    if model.sampling != "reshuffled":
        raise ValueError(f"{owner}: model must have sampling 'reshuffled', got {model.sampling!r}")
    if model.modes > 1:
        raise ValueError(f"{owner}: model must have one mode, got {model.modes} modes")
    n, draws = model.examples, model.batch_size
    batches = n // draws
    number = math.factorial(n) // (math.factorial(draws) ** batches * math.factorial(batches))
    if number > _MOST_PARTITIONS:
        raise ValueError(
            f"{owner}: model must have at most {_MOST_PARTITIONS} partitions into batches, which are enumerated, "
            f"got {number}"
        )
    index = np.array(list(_partitions(tuple(range(n)), draws)))
    curvatures: Array = model.hessians[:, 0, 0][index].mean(axis=-1)
    return curvatures


@checked(model=instance_of(FiniteSumQuadratic), learning_rate=positive)
def reshuffled_growth(model: FiniteSumQuadratic, learning_rate: Numeric) -> Numeric:
    r"""Factor per epoch of the second moment in one direction of random curvature, reshuffled.

    .. math:: E \prod_{B \in \text{epoch}} (1 - \eta h_B)^2

    over all partitions of the examples. With one example a batch it is :math:`\prod_i (1 - \eta h_i)^2` and certain.

    Status: exact, by enumeration.

    Parameters
    ----------
    model : FiniteSumQuadratic
        Of one mode, reshuffled, with at most 100000 partitions.
    learning_rate : Numeric
        > 0; a DataArray sweeps.

    Returns
    -------
    Numeric
        A float, or labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> round(reshuffled_growth(FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled"), 2.0), 12)
    0.0
    """
    curvatures = _epoch_curvatures(model, "reshuffled_growth")

    def core(rate: Array) -> float:
        with np.errstate(over="ignore"):
            return float(np.mean(np.prod((1 - float(rate) * curvatures) ** 2, axis=1)))

    (made,) = over_points(core, [(learning_rate, [])], [[]], {})
    swept: Numeric = unswept(made)
    return swept


@checked(model=instance_of(FiniteSumQuadratic))
def reshuffled_edge(model: FiniteSumQuadratic) -> float:
    r"""Learning rate at which the second moment at epoch ends ceases to be stable, in one direction, reshuffled.

    The first rate with :func:`reshuffled_growth` 1. With one example a batch this is :func:`almost_sure_edge`: in
    which order the examples come changes nothing. In general it is at most that, by Jensen's inequality.

    Status: exact, by enumeration: the growth is a polynomial in the rate, monotone between the roots of its
    derivative, so that the first of these at which it is not below 1 brackets the first crossing.

    Parameters
    ----------
    model : FiniteSumQuadratic
        Of one mode, reshuffled, with at most 100000 partitions.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If the model is none of these.

    Examples
    --------
    >>> round(reshuffled_edge(FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")), 10)
    2.6666666667
    """
    curvatures = _epoch_curvatures(model, "reshuffled_edge")
    limit = float(almost_sure_edge(model))
    if len(curvatures) == 1:
        return limit
    unit = float(curvatures.max())

    def log_growth(gain: float) -> float:
        with np.errstate(divide="ignore"):
            return float(np.log(np.mean(np.prod((1 - gain * curvatures / unit) ** 2, axis=1))))

    turns = np.roots(np.polyder(_growth_polynomial(curvatures / unit))).real
    below = 0.0
    for gain in [*np.sort(turns[(turns > 0) & (turns < limit * unit)]), limit * unit]:
        if log_growth(gain) >= 0:
            return (bracketed_root(log_growth, below, gain) if below else root_below(log_growth, gain)) / unit
        below = float(gain)
    return limit


def _growth_polynomial(gains: Array) -> Array:
    """Coefficients in the rate, highest power first, of the mean over partitions of the squared product."""
    product = np.ones((len(gains), 1))
    for batch in np.repeat(gains, 2, axis=1).T:
        longer = np.zeros((len(gains), product.shape[1] + 1))
        longer[:, 1:] = product
        longer[:, :-1] -= batch[:, None] * product
        product = longer
    coefficients: Array = product.mean(axis=0)
    return coefficients
