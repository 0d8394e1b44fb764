r"""The largest eigenvalues of the Hessian.

Up to :data:`DENSE_LIMIT` parameters the Hessian is formed by one product per parameter and diagonalised. Above, the
method of Lanczos works with Hessian-vector products alone, and stops as soon as residuals are small.

A Krylov space of one vector never sees the second copy of a repeated eigenvalue. So the eigenvectors found are deflated
and the largest eigenvalue of what is left is looked for, until it is no larger than the smallest one kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import named_tuple_repr
from sgdynamics.domains import Interval, checked, complain, integer, one, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.derivatives import data_domains
from sgdynamics.simulate.trainer.lanczos import largest_eigenpairs
from sgdynamics.simulate.trainer.losses import AnyLoss
from sgdynamics.simulate.trainer.network import AnyNetwork, check_real
from sgdynamics.simulate.trainer.objective import Objective, real_objective

__all__ = ["HessianEigenvalues", "iterative", "top_eigenpairs", "top_hessian_eigenvalues"]

Array = NDArray[Any]
Product = Callable[[Array], Array]

# Up to this many trainable parameters the whole Hessian is formed.
DENSE_LIMIT = 500
# So are problems with less than this, or with not many more than the eigenvalues that are wanted.
SMALL = 40


class HessianEigenvalues(NamedTuple):
    r"""The largest eigenvalues of a Hessian.

    Attributes
    ----------
    values : array, shape (k,)
        Largest algebraic eigenvalues, descending.
    vectors : array, shape (parameters, k)
        Orthonormal eigenvectors as columns; signs are arbitrary.
    residuals : array, shape (k,)
        :math:`|Hv - \lambda v|`: every value is this close to an eigenvalue.
    iterations : int
        Number of Hessian-vector products.
    converged : bool
        Whether every residual is at most ``tol`` times the largest eigenvalue found in absolute value, and no
        eigenvalue exceeds the last of the values, those found left out, by more than 0.02 of the spectral scale: for
        certain where the Hessian was formed, else but for a chance of one in a thousand, taken over random starts. A
        search that was stopped returns NaN.
    """

    values: Array
    vectors: Array
    residuals: Array
    iterations: int
    converged: bool

    def __repr__(self) -> str:
        return named_tuple_repr(self)


def _dense(product: Product, size: int, k: int, tol: float) -> HessianEigenvalues:
    import scipy.linalg

    hessian = np.stack([product(row) for row in np.eye(size)])
    if not np.isfinite(hessian).all():
        return _nothing(size, k, size, math.inf)
    exponent = _exponent(hessian)
    hessian = _scaled(hessian, -exponent)
    hessian = (hessian + hessian.T) / 2
    values, vectors = scipy.linalg.eigh(hessian)
    top, chosen = values[::-1][:k], vectors[:, ::-1][:, :k]
    residuals = np.linalg.norm(hessian @ chosen - chosen * top, axis=0)
    return _found(top, chosen.copy(), residuals, size, tol * np.abs(values).max(), exponent)


def _found(
    values: Array, vectors: Array, residuals: Array, products: int, allowed: float, exponent: int
) -> HessianEigenvalues:
    """The answer, scaled back; a value that overflows then is no answer."""
    accurate = bool((residuals <= allowed).all())
    values, residuals = _scaled(values, exponent), _scaled(residuals, exponent)
    return HessianEigenvalues(values, vectors, residuals, products, accurate and bool(np.isfinite(values).all()))


def _nothing(size: int, k: int, iterations: int, value: float) -> HessianEigenvalues:
    """The answer where the Hessian overflows (infinite) or the search was stopped (NaN)."""
    values = np.full(k, value)
    return HessianEigenvalues(values, np.full((size, k), value), np.full(k, math.inf), iterations, False)


def _scaled(array: Array, exponent: int) -> Array:
    """An array times a power of two: what is squared later must not overflow, or vanish."""
    return np.asarray(np.ldexp(array, exponent))


def _exponent(array: Array) -> int:
    """The power of two that the largest entry is below; 0 where all are 0."""
    return math.frexp(float(np.abs(array).max()))[1]


class _Stopped(Exception):
    """The products are used up (NaN), or the Hessian overflows (infinite)."""


def iterative(
    product: Product,
    size: int,
    k: int,
    tol: float,
    start: Array | None,
    max_products: int,
    at_least: float = -math.inf,
) -> HessianEigenvalues:
    """The largest eigenvalues by products alone, from eigenvectors nearby (columns) or from nothing.

    One eigenvalue that is not ``at_least`` so large need not be found: the answer is then some smaller number.
    """
    products, exponent = 0, 0

    def counted(v: Array) -> Array:
        nonlocal products, exponent
        if products >= max_products:
            raise _Stopped(math.nan)
        products += 1
        image = product(v)
        if not np.isfinite(image).all():
            raise _Stopped(math.inf)
        if products == 1:
            exponent = _exponent(image)
        return _scaled(image, -exponent)

    random = np.random.default_rng(0)
    first, random_part = random.standard_normal(size), 1.0
    old = np.zeros(size) if start is None else start.sum(axis=1)
    if old.any():  # as much of the random vector shows what has overtaken the old eigenvectors
        first = first / np.linalg.norm(first) + old / np.linalg.norm(old)
        random_part = math.sqrt(0.5)
    try:
        found = largest_eigenpairs(
            counted, first, k, tol, random_part=random_part, at_least=lambda: math.ldexp(at_least, -exponent)
        )
        while 1 < k < size:
            # a new vector every time: the old one has no part in what it failed to see
            more = largest_eigenpairs(counted, random.standard_normal(size), 1, tol, apart_from=found)
            if more.values[0] <= found.values[-1] + tol * found.scale():
                break
            found = found.best_with(more)
    except _Stopped as stopped:
        return _nothing(size, k, products, stopped.args[0])
    return _found(found.values, found.vectors.T, found.residuals, products, tol * found.scale(), exponent)


tolerance = one(Interval("a number in (0, 1)", low=0, high=1))


@checked(
    objective=real_objective,
    k=integer(1),
    tol=tolerance,
    start=optional(arguments.columns),
    max_products=integer(1),
)
def top_eigenpairs(
    objective: Objective,
    *,
    k: int = 1,
    tol: float = 1e-3,
    start: ArrayLike | None = None,
    max_products: int = 2000,
) -> HessianEigenvalues:
    r"""The ``k`` largest (algebraic) eigenvalues of the Hessian of an objective, repeated ones included.

    Up to 500 trainable parameters the Hessian is formed by one product per parameter and diagonalised, and ``tol`` and
    ``start`` do not matter. Above, Lanczos' method runs with Hessian-vector products until the residuals are small
    enough and nothing larger by 0.02 of the spectral scale can have been missed, but for a chance of one in a thousand;
    for ``k`` > 1 eigenvalues that a single Krylov space cannot see are looked for by deflation. Lack of convergence is
    reported, not raised.

    Parameters
    ----------
    objective : Objective
        Where the Hessian is taken, restricted to the rows and columns of its trainable parameters.
    k : int
        Number of eigenvalues, in 1..number of trainable parameters.
    tol : float
        Largest residual, relative to the spectral scale (the largest eigenvalue found in absolute value), in (0, 1);
        above 0.02 it counts as that. The error of a value is of the order of the residual squared over the gap.
    start : array, shape (parameters,) or (parameters, j), optional
        Warm start: eigenvectors from nearby weights. As much of a fixed random vector is mixed in, so that what has
        overtaken them is seen as surely as by a cold start, see ``converged``.
    max_products : int
        The iteration stops after this many Hessian-vector products, with ``converged`` False.

    Returns
    -------
    HessianEigenvalues
        NamedTuple of ``values`` (k,), descending; ``vectors`` (parameters, k); ``residuals`` (k,); ``iterations``, the
        number of Hessian-vector products; ``converged``. Where the Hessian overflows the values are +inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, network, top_eigenpairs
    >>> net = network([2, 2], "linear", biases=False, seed=0)
    >>> found = top_eigenpairs(Objective(net, [[3, 0], [0, 1]], [[0, 1], [1, 0]], "mse"), k=3)
    >>> found.values.round(12)
    array([4.5, 4.5, 0.5])
    """
    return _top_eigenpairs("top_eigenpairs", objective, k, tol, start, max_products)


def _top_eigenpairs(
    owner: str, objective: Objective, k: int, tol: float, start: Any = None, max_products: int = 2000
) -> HessianEigenvalues:
    size = objective.size
    where = np.arange(size) if objective.trainable is None else np.flatnonzero(objective.trainable)
    if k > where.size:
        raise complain(owner, "k", f"at most the {where.size} trainable parameters", k)
    guess = None
    if start is not None:
        guess = np.asarray(start).reshape(len(start), -1)
        arguments.length(owner, "start", guess, size, "parameters")
        guess = guess[where]

    def embedded(v: Array) -> Array:
        if where.size == size:
            return v
        whole = np.zeros((size, *v.shape[1:]))
        whole[where] = v
        return whole

    with one_blas_thread(), np.errstate(all="ignore"):
        products = objective.products()

        def product(v: Array) -> Array:
            return products(embedded(np.ascontiguousarray(v)))[where]

        if where.size <= max(DENSE_LIMIT, SMALL, 4 * k + 2):
            found = _dense(product, where.size, k, tol)
        else:
            found = iterative(product, where.size, k, tol, guess, max_products)
    return found._replace(vectors=embedded(found.vectors))


@checked(**data_domains, k=integer(1), tol=tolerance)
def top_hessian_eigenvalues(
    net: AnyNetwork, x: ArrayLike, y: ArrayLike, *, k: int = 1, loss: AnyLoss, tol: float = 1e-3
) -> HessianEigenvalues:
    r"""The ``k`` largest eigenvalues of the Hessian of the training loss: :func:`top_eigenpairs` of its objective.

    Parameters
    ----------
    net, x, y, loss
        As for :class:`Objective`, which takes weight decay, too.
    k : int
        Number of eigenvalues, in 1..number of parameters.
    tol : float
        Largest residual, relative to the spectral scale, in (0, 1), as for :func:`top_eigenpairs`.

    Returns
    -------
    HessianEigenvalues
        NamedTuple of ``values`` (k,), descending; ``vectors`` (parameters, k); ``residuals`` (k,); ``iterations``, the
        number of Hessian-vector products; ``converged``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import network, top_hessian_eigenvalues
    >>> net = network([2, 2], "linear", biases=False, seed=0)
    >>> found = top_hessian_eigenvalues(net, [[3, 0], [0, 1]], [[0, 1], [1, 0]], k=3, loss="mse")
    >>> found.values.round(12)
    array([4.5, 4.5, 0.5])
    """
    owner = "top_hessian_eigenvalues"
    check_real(owner, net)
    return _top_eigenpairs(owner, Objective.of(owner, net, x, y, loss), k, tol)
