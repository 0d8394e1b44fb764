r"""Growth of products of random two-by-two matrices, estimated and bounded from both sides.

A matrix M takes a direction, an angle mod :math:`\pi`, to another, and a vector along it grows by :math:`l_M = \log
|M v|`. Where directions are at rest, the mean of :math:`l_M` is the top Lyapunov exponent :math:`\gamma`. For any
bounded function u of the direction the mean of :math:`u(Mv) - u(v)` is then 0, and hence

.. math:: \min_v \{E\,l_M + E\,u(Mv) - u(v)\} \le \gamma \le \max_v \{E\,l_M + E\,u(Mv) - u(v)\}.

A function that is constant on the cells of a grid makes both ends finite sums: of the extremes of :math:`l_M` over a
cell, and of u over the cells that its image meets. Iterated, u approaches the one at which the braces are constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["bounded_growth", "estimated_growth", "unevenness"]

Array = NDArray[np.float64]
Operator = Callable[[Array], Array]

# Weak noise forgets a direction slowly; an estimate waits for it, bounds hold whenever one stops.
_OF_AN_ESTIMATE, _OF_A_BOUND = 5000, 1000
_PADDING = 1e-9  # of a cell, for what angles are rounded by


def _moved(matrices: Array, angles: Array) -> tuple[Array, Array]:
    """Directions after each matrix, as angles, and logarithms of the growth (matrix, angle)."""
    points = np.einsum("mij,jc->mic", matrices, [np.cos(angles), np.sin(angles)])
    return np.arctan2(points[:, 1], points[:, 0]), np.log(np.hypot(points[:, 0], points[:, 1]))


def unevenness(matrices: Array, probabilities: Array) -> float:
    """How unlike directions grow in one step on average."""
    return float(np.ptp(probabilities @ _moved(matrices, np.linspace(0.0, math.pi, 64, endpoint=False))[1]))


def _iterated(operator: Operator, cells: int, tolerance: float, most: int) -> Array:
    """What an operator adds to a function of the direction once it adds nearly the same everywhere."""
    u = np.zeros(cells)
    for _ in range(most):
        moved = operator(u)
        added = moved - u
        if np.ptp(added) < tolerance:
            break
        u = moved - moved[0]
    return added


def estimated_growth(matrices: Array, probabilities: Array, cells: int) -> float:
    """The exponent, with functions of the direction interpolated between points of a grid.

    Examples
    --------
    >>> pair = np.array([[[1.0, -1.0], [1.0, 0.0]], [[-1.0, -1.0], [1.0, 0.0]]])
    >>> round(math.exp(estimated_growth(pair, np.full(2, 0.5), 4096)), 4)  # random Fibonacci: 1.13198824879
    1.132
    """
    from scipy.sparse import csr_array

    angles, logs = _moved(matrices, np.linspace(0.0, math.pi, cells, endpoint=False))
    place = np.mod(angles, math.pi) * (cells / math.pi)
    left = np.floor(place).astype(int)
    share, left = place - left, left % cells
    grown, weights = probabilities @ logs, probabilities[:, None]
    # What a step makes of the function at a point of the grid: a mean of its values at the points around each image.
    entries = np.concatenate([weights * (1.0 - share), weights * share]).T.ravel()
    columns = np.concatenate([left, (left + 1) % cells]).T.ravel()
    mean = csr_array((entries, columns, np.arange(0, entries.size + 1, 2 * len(matrices))), shape=(cells, cells))

    def operator(u: Array) -> Array:
        moved: Array = grown + mean @ u
        return moved

    return float(_iterated(operator, cells, 1e-12, _OF_AN_ESTIMATE).mean())


def _extremes(matrices: Array, logs: Array, cells: int) -> tuple[Array, Array]:
    """Least and largest logarithm of the growth over every cell, from those at the ends of the cells."""
    least, largest = np.minimum(logs[:, :-1], logs[:, 1:]), np.maximum(logs[:, :-1], logs[:, 1:])
    _, sizes, axes = np.linalg.svd(matrices)
    rows = np.arange(len(matrices))
    for values, which in ((largest, 0), (least, 1)):  # the only two turning points
        angle = np.mod(np.arctan2(axes[:, which, 1], axes[:, which, 0]), math.pi) * (cells / math.pi)
        for near in (angle - _PADDING, angle + _PADDING):
            values[rows, np.floor(near).astype(int) % cells] = np.log(sizes[:, which])
    return least, largest


def bounded_growth(matrices: Array, probabilities: Array, cells: int) -> tuple[float, float]:
    """Two numbers between which the exponent is, whatever the invertible matrices.

    Examples
    --------
    >>> pair = np.array([[[1.0, -1.0], [1.0, 0.0]], [[-1.0, -1.0], [1.0, 0.0]]])
    >>> np.exp(bounded_growth(pair, np.full(2, 0.5), 4096)).round(4)
    array([1.1313, 1.1327])
    """
    angles, logs = _moved(matrices, np.linspace(0.0, math.pi, cells + 1))
    least, largest = _extremes(matrices, logs, cells)
    turns = (np.linalg.det(matrices) < 0)[:, None]
    begin, end = np.where(turns, angles[:, 1:], angles[:, :-1]), np.where(turns, angles[:, :-1], angles[:, 1:])
    first = np.mod(begin, math.pi) * (cells / math.pi) - _PADDING
    last = first + np.mod(end - begin, math.pi) * (cells / math.pi) + 2 * _PADDING
    low = np.floor(first).astype(int)
    met = np.minimum(np.floor(last).astype(int) - low, cells - 1) + 1  # cells in a row that an image meets
    # Two rows of 2^power cells, one from the first cell and one up to the last, cover all that are met.
    power = np.frexp(met)[1] - 1
    begins, ends = power * cells + low % cells, power * cells + (low + met - (1 << power)) % cells

    def bound(grown: Array) -> float:
        def operator(u: Array) -> Array:
            largest_in = [u]
            for halved in range(int(power.max())):
                largest_in.append(np.maximum(largest_in[-1], np.roll(largest_in[-1], -(1 << halved))))
            rows = np.concatenate(largest_in)
            best = np.maximum(rows[begins], rows[ends])
            moved: Array = grown + probabilities @ best
            return moved

        return float(_iterated(operator, cells, 1e-7, _OF_A_BOUND).max())

    return -bound(-(probabilities @ least)), bound(probabilities @ largest)
