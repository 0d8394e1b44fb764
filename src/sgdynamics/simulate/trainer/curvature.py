r"""The largest eigenvalues of the Hessian.

Up to :data:`DENSE_LIMIT` parameters the Hessian is formed by one product per parameter and diagonalised. Above, SciPy's
Lanczos method (ARPACK) works with Hessian-vector products alone.

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
from sgdynamics.domains import Interval, checked, complain, integer, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.derivatives import HessianProducts, decay_domain, objective, trainable_domain
from sgdynamics.simulate.trainer.losses import loss_name
from sgdynamics.simulate.trainer.network import Network, a_network, check_real

__all__ = ["HessianEigenvalues", "top_hessian_eigenvalues"]

Array = NDArray[Any]
Product = Callable[[Array], Array]

# Up to this many trainable parameters the whole Hessian is formed.
DENSE_LIMIT = 500
# ARPACK's basis holds 20 vectors or 2k + 1; problems that are not larger than twice that are formed too.
BASIS = 20


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
        Whether every residual is at most ``tol`` times the largest eigenvalue found in absolute value. A search
        that was stopped returns NaN.
    """

    values: Array
    vectors: Array
    residuals: Array
    iterations: int
    converged: bool


def _dense(product: Product, size: int, k: int, tol: float) -> HessianEigenvalues:
    import scipy.linalg

    hessian = np.stack([product(row) for row in np.eye(size)])
    hessian = (hessian + hessian.T) / 2
    if not np.isfinite(hessian).all():
        return _nothing(size, k, size, math.inf)
    values, vectors = scipy.linalg.eigh(hessian)
    top, chosen = values[::-1][:k], vectors[:, ::-1][:, :k]
    residuals = np.linalg.norm(hessian @ chosen - chosen * top, axis=0)
    scale = np.abs(values).max()
    return HessianEigenvalues(top.copy(), chosen.copy(), residuals, size, bool((residuals <= tol * scale).all()))


def _nothing(size: int, k: int, iterations: int, value: float) -> HessianEigenvalues:
    """The answer where the Hessian overflows (infinite) or the search was stopped (NaN)."""
    values = np.full(k, value)
    return HessianEigenvalues(values, np.full((size, k), value), np.full(k, math.inf), iterations, False)


class _Stopped(Exception):
    """Raised from inside ARPACK: the products are used up, or the Hessian overflows."""


def _iterative(
    product: Product, size: int, k: int, tol: float, start: Array | None, max_products: int
) -> HessianEigenvalues:
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    products = 0

    def counted(v: Array) -> Array:
        nonlocal products
        if products >= max_products:
            raise _Stopped(math.nan)
        products += 1
        image = product(v)
        if not np.isfinite(image).all():
            raise _Stopped(math.inf)
        return image

    def top(count: int, first: Array, values: Array, vectors: Array) -> tuple[Array, Array]:
        """The largest eigenpairs, the given ones moved out of the way to below everything else."""
        lowered = values + np.abs(values).max(initial=0.0)

        def deflated(v: Array) -> Array:
            v = np.ravel(v)
            image: Array = counted(v) - vectors @ (lowered * (vectors.T @ v))
            return image

        operator = LinearOperator((size, size), matvec=deflated, dtype=np.float64)
        found, eigenvectors = eigsh(operator, k=count, which="LA", v0=first, tol=tol)
        return found, eigenvectors

    random = np.random.default_rng(0)
    guess = random.standard_normal(size) / math.sqrt(size)
    first = guess
    if start is not None:  # a touch of the random vector shows what has overtaken the old eigenvectors
        old = start.sum(axis=1)
        first = old / np.linalg.norm(old) + 0.01 * guess
    try:
        values, vectors = top(k, first, np.empty(0), np.empty((size, 0)))
        while k > 1:
            # a new vector every time: the old one has no part in what it failed to see
            value, vector = top(1, random.standard_normal(size), values, vectors)
            if value[0] <= values.min() + tol * np.abs(values).max():
                break
            values, vectors = np.append(values, value), np.append(vectors, vector, axis=1)
            kept = np.argsort(values)[::-1][:k]
            values, vectors = values[kept], np.linalg.qr(vectors[:, kept])[0]
        order = np.argsort(values)[::-1]
        values, vectors = values[order], vectors[:, order]
        images = np.stack([counted(column) for column in vectors.T], axis=1)
    except _Stopped as stopped:
        return _nothing(size, k, products, stopped.args[0])
    except ArpackError:
        if counted(guess).any():  # not converged within ARPACK's own limit
            return _nothing(size, k, products, math.nan)
        # the Hessian vanishes, and every vector is an eigenvector
        values, vectors = np.zeros(k), np.linalg.qr(random.standard_normal((size, k)))[0]
        images = np.zeros((size, k))
    residuals = np.linalg.norm(images - vectors * values, axis=0)
    converged = bool((residuals <= tol * np.abs(values).max()).all())
    return HessianEigenvalues(values, vectors, residuals, products, converged)


@checked(
    net=a_network,
    x=arguments.matrix,
    y=arguments.columns,
    k=integer(1),
    loss=loss_name,
    tol=arguments.one(Interval("a number in (0, 1)", low=0, high=1)),
    start=optional(arguments.columns),
    weight_decay=decay_domain,
    trainable=trainable_domain,
    max_products=integer(1),
)
def top_hessian_eigenvalues(
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 1,
    loss: str,
    tol: float = 1e-3,
    start: ArrayLike | None = None,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
    max_products: int = 2000,
) -> HessianEigenvalues:
    r"""The ``k`` largest (algebraic) eigenvalues of the Hessian of the training loss, repeated ones included.

    Up to 500 trainable parameters the Hessian is formed by one product per parameter and diagonalised, and ``tol`` and
    ``start`` do not matter. Above, the Lanczos method of SciPy (ARPACK) runs with Hessian-vector products, and
    eigenvalues that a single Krylov space cannot see are looked for by deflation; lack of convergence is reported, not
    raised.

    Parameters
    ----------
    net : Network
        Where the Hessian is taken.
    x, y, loss, weight_decay
        As for :func:`loss_value`.
    k : int
        Number of eigenvalues, in 1..number of trainable parameters.
    tol : float
        Largest residual, relative to the spectral scale (the largest eigenvalue found in absolute value), in (0, 1).
        The error of a value is of the order of the residual squared over the gap.
    start : array, shape (parameters,) or (parameters, j), optional
        Warm start: eigenvectors from nearby weights. A little of a fixed random vector is mixed in.
    trainable : array of bool, shape (parameters,), optional
        Restrict the Hessian to these rows and columns.
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
    >>> from sgdynamics.simulate.trainer import network, top_hessian_eigenvalues
    >>> net = network([2, 2], "linear", biases=False, seed=0)
    >>> found = top_hessian_eigenvalues(net, [[3, 0], [0, 1]], [[0, 1], [1, 0]], k=3, loss="mse")
    >>> found.values.round(12)
    array([4.5, 4.5, 0.5])
    """
    owner = "top_hessian_eigenvalues"
    check_real(owner, net)
    what = objective(owner, net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    where = np.arange(net.size) if what.trainable is None else np.flatnonzero(what.trainable)
    if k > where.size:
        raise complain(owner, "k", f"at most the {where.size} trainable parameters", k)
    guess = None
    if start is not None:
        guess = np.asarray(start).reshape(len(start), -1)  # type: ignore[arg-type]
        arguments.length(owner, "start", guess, net.size, "parameters")
        guess = guess[where]

    def embedded(v: Array) -> Array:
        if where.size == net.size:
            return v
        whole = np.zeros((net.size, *v.shape[1:]))
        whole[where] = v
        return whole

    with one_blas_thread(), np.errstate(all="ignore"):
        products = HessianProducts(what, net)

        def product(v: Array) -> Array:
            return products(embedded(np.ascontiguousarray(v)))[where]

        if where.size <= max(DENSE_LIMIT, 2 * BASIS, 4 * k + 2):
            found = _dense(product, where.size, k, tol)
        else:
            found = _iterative(product, where.size, k, tol, guess, max_products)
    return found._replace(vectors=embedded(found.vectors))
