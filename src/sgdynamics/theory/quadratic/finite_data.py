r"""A finite set of examples: sampling without replacement, and epochs of reshuffled batches.

Batches of an epoch share one partition of the examples. Their centers add to a constant, so that the noise of one
batch is taken back by the others: what is left at the ends of epochs is smaller than for independent batches. Random
curvatures multiply over an epoch; with one example a batch the product is the same in every order, so that the edge is
that of a path, not the stricter one in mean square.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from heapq import merge
from itertools import combinations, permutations
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import (
    Numeric,
    Value,
    checked,
    count,
    flag,
    instance_of,
    is_symbolic,
    positive,
    swept,
    unit_interval,
)
from sgdynamics.formula import formula, geometric_sum, law, raised, stable_below, where
from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory._roots import bracketed_root, root_below
from sgdynamics.theory.quadratic._kernel import edge_gain
from sgdynamics.theory.quadratic._sweep import over_points, unswept
from sgdynamics.theory.quadratic.path_edges import almost_sure_edge

__all__ = ["reshuffled_edge", "reshuffled_growth", "reshuffled_variance"]

Array = NDArray[np.float64]

# Partitions of an epoch, with momentum in all their orders, that are enumerated.
_MOST_PARTITIONS = 100_000
# Rates below the edge of the mean at which the growth with momentum is looked at, beside those between two roots.
_GRID = 64


@formula(
    PARAMETERS,
    batch_size=Parameter("S", "examples of one batch", count, 4.0),
    edge=stable_below(gain=2),
    quantity="variance",
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
    if batch_size == 1:  # the one way, which needs no level of the recursion for every example
        yield [(example,) for example in examples]
        return
    if not examples:
        yield []
        return
    first, rest = examples[0], examples[1:]
    for others in combinations(rest, batch_size - 1):
        left = tuple(example for example in rest if example not in others)
        for batches in _partitions(left, batch_size):
            yield [(first, *others), *batches]


def _epoch_curvatures(model: FiniteSumQuadratic, owner: str, ordered: bool) -> Array:
    """Curvatures (partition, batch) of all partitions of the examples, with momentum in all orders of their batches."""
    if model.sampling != "reshuffled":
        raise ValueError(f"{owner}: model must have sampling 'reshuffled', got {model.sampling!r}")
    if model.modes > 1:
        raise ValueError(f"{owner}: model must have one mode, got {model.modes} modes")
    n, draws = model.examples, model.batch_size
    batches = n // draws
    orders = math.factorial(batches)
    number = math.factorial(n) // (math.factorial(draws) ** batches * orders) * (orders if ordered else 1)
    if number > _MOST_PARTITIONS:
        raise ValueError(
            f"{owner}: model must have at most {_MOST_PARTITIONS} partitions into batches, which are enumerated"
            + (", with momentum in all orders" if ordered else "")
            + f", got {number}"
        )
    index = np.array(list(_partitions(tuple(range(n)), draws)))
    curvatures: Array = model.hessians[:, 0, 0][index].mean(axis=-1)
    if ordered:
        curvatures = curvatures[:, list(permutations(range(batches)))].reshape(-1, batches)
    return curvatures


def _growth(curvatures: Array, rate: float, momentum: float, nesterov: bool) -> float:
    """Spectral radius of the mean over all epochs of the map of second moments of two iterates in a row."""
    product = np.broadcast_to(np.eye(2), (len(curvatures), 2, 2))
    for curvature in curvatures.T:
        kept = 1 - rate * curvature
        step = np.zeros((len(curvatures), 2, 2))
        step[:, 0, 0] = kept * (1 + momentum) if nesterov else kept + momentum
        step[:, 0, 1] = -momentum * (kept if nesterov else 1.0)
        step[:, 1, 0] = 1.0
        product = step @ product
    pairs = np.einsum("nij,nkl->ikjl", product, product).reshape(4, 4) / len(curvatures)
    return float(np.abs(np.linalg.eigvals(pairs)).max())


@law(PARAMETERS, quantity="factor")
@checked(
    model=instance_of(FiniteSumQuadratic), learning_rate=swept(positive), momentum=swept(unit_interval), nesterov=flag
)
def reshuffled_growth(
    model: FiniteSumQuadratic, learning_rate: float | Value, *, momentum: float | Value = 0.0, nesterov: bool = False
) -> Value:
    r"""Factor per epoch of the second moment in one direction of random curvature, reshuffled.

    .. math:: E \prod_{B \in \text{epoch}} (1 - \eta h_B)^2, \qquad
        \text{with momentum } \rho\Bigl(E \prod_{B} A_B \otimes \prod_{B} A_B\Bigr)

    over all partitions of the examples, and all their orders where the matrices :math:`A_B` of one update do not
    commute. With one example a batch and no momentum it is :math:`\prod_i (1 - \eta h_i)^2` and certain. Momentum is
    kept from epoch to epoch.

    Status: exact, by enumeration.

    Parameters
    ----------
    model : FiniteSumQuadratic
        Of one mode, reshuffled, with at most 100000 partitions; with momentum they count in every order of their
        batches.

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
    >>> model = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    >>> round(reshuffled_growth(model, 2.0), 12), round(reshuffled_growth(model, 2.0, momentum=0.5), 4)
    (0.0, 1.327)
    """
    ordered = bool(np.any(np.asarray(momentum) > 0))
    curvatures = _epoch_curvatures(model, "reshuffled_growth", ordered)

    def core(rate: Array, momentum: Array) -> float:
        if momentum > 0:
            return _growth(curvatures, float(rate), float(momentum), nesterov)
        with np.errstate(over="ignore"):
            return float(np.mean(np.prod((1 - float(rate) * curvatures) ** 2, axis=1)))

    (made,) = over_points(core, [(learning_rate, []), (momentum, [])], [[]], {})
    swept: Numeric = unswept(made)
    return cast("Value", swept)


@law(PARAMETERS, quantity="learning rate")
@checked(model=instance_of(FiniteSumQuadratic), momentum=swept(unit_interval), nesterov=flag)
def reshuffled_edge(model: FiniteSumQuadratic, *, momentum: float | Value = 0.0, nesterov: bool = False) -> Value:
    r"""Learning rate at which the second moment at epoch ends ceases to be stable, in one direction, reshuffled.

    The first rate with :func:`reshuffled_growth` 1. With one example a batch and no momentum this is
    :func:`almost_sure_edge`: in which order the examples come changes nothing. In general it is at most that, by
    Jensen's inequality.

    Status: exact, by enumeration: without momentum the growth is a polynomial in the rate, monotone between the roots
    of its derivative, so that the first of these at which it is not below 1 brackets the first crossing. With momentum
    the map of second moments is a matrix of polynomials. It is positive, so that its spectral radius is one of its
    eigenvalues, and crosses 1 at roots of :math:`\det(1 - E \prod A_B \otimes \prod A_B)` alone: one rate between any
    two of them is looked at. With many batches an epoch these roots lose digits, and a grid of a 64th of the edge of
    the mean is looked at, too.

    Parameters
    ----------
    model : FiniteSumQuadratic
        Of one mode, reshuffled, with at most 100000 partitions; with momentum they count in every order of their
        batches.

    Returns
    -------
    Numeric
        A float, or labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If the model is none of these.

    Examples
    --------
    >>> model = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    >>> round(reshuffled_edge(model), 10), round(reshuffled_edge(model, momentum=0.5), 4)
    (2.6666666667, 1.3915)
    """

    def core(momentum: Array) -> float:
        return _plain_edge(model) if momentum == 0 else _edge(model, float(momentum), nesterov)

    (made,) = over_points(core, [(momentum, [])], [[]], {})
    swept: Numeric = unswept(made)
    return cast("Value", swept)


def _edge(model: FiniteSumQuadratic, momentum: float, nesterov: bool) -> float:
    curvatures = _epoch_curvatures(model, "reshuffled_edge", ordered=True)
    unit = float(edge_gain(momentum, nesterov)) / float(curvatures.mean())
    roots = unit * _roots(unit * curvatures, momentum, nesterov)
    # one rate between any two roots, and a grid where roots of many batches may be off by rounding
    rates = merge(np.sqrt(roots[1:] * roots[:-1]), (point * unit / _GRID for point in itertools.count(1)))

    def excess(rate: float) -> float:
        return _growth(curvatures, rate, momentum, nesterov) - 1

    below = 0.0
    for rate in rates:
        if excess(rate) >= 0:
            break
        below = float(rate)
    return bracketed_root(excess, below, float(rate)) if below else root_below(excess, float(rate))


def _roots(gains: Array, momentum: float, nesterov: bool) -> Array:
    """Rates at which 1 is an eigenvalue of the mean map of second moments of an epoch, sorted."""
    from scipy.linalg import eigvals

    still = np.array([[1 + momentum, -momentum], [1.0, 0.0]])
    pull = np.array([[1 + momentum, -momentum] if nesterov else [1.0, 0.0], [0.0, 0.0]])
    epochs, batches = gains.shape
    powers = np.zeros((batches + 1, epochs, 2, 2))  # of the rate, in the product of the updates of an epoch
    powers[0] = np.eye(2)
    for gain in gains.T:
        moved = still @ powers
        moved[1:] -= gain[:, None, None] * (pull @ powers[:-1])
        powers = moved
    # on the entries xx, xy, yy of a symmetric matrix
    spread, picked = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]), [0, 1, 3]
    maps = np.zeros((2 * batches + 1, 3, 3))
    for i, left in enumerate(powers):
        for j, right in enumerate(powers):
            pairs = np.einsum("nab,ncd->acbd", left, right).reshape(4, 4) / epochs
            maps[i + j] += (pairs @ spread)[picked]
    maps[0] -= np.eye(3)
    size = 3 * (2 * batches - 1)
    companion, weight = np.eye(size + 3, k=3), np.eye(size + 3)
    companion[size:] = -np.concatenate(maps[:-1], axis=1)
    weight[size:, size:] = maps[-1]
    with one_blas_thread(), np.errstate(all="ignore"):
        found = eigvals(companion, weight)
    # a double root may have left the real line by the root of the rounding; at a rate of 0 nothing ever shrinks
    real = np.isfinite(found) & (np.abs(found.imag) < 1e-3 * np.abs(found)) & (found.real > 1e-9)
    return np.sort(found.real[real])


def _plain_edge(model: FiniteSumQuadratic) -> float:
    curvatures = _epoch_curvatures(model, "reshuffled_edge", ordered=False)
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
