r"""The covariance of per-example gradients, exact, and the estimate that the literature makes from a few batches.

.. math:: K = \frac1n\sum_i (g_i-\bar g)(g_i-\bar g)^T ,\qquad K_{nc} = K + \bar g\bar g^T .

With :math:`G` the matrix of gradients as rows, :math:`K = G_c^TG_c/n` and :math:`G_cG_c^T/n` have the same spectrum but
for zeros. Of the two the smaller is formed: the second from the factors of the gradients, the first from blocks of
128 gradients, so that the whole of :math:`G` is never held.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import checked, choice, complain, flag, integer
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import dataset, with_error
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.sampling import IndexRows, index_rows

__all__ = ["batch_gradient_covariance", "gradient_covariance"]

Array = NDArray[Any]


def _top(matrix: Array, k: int) -> tuple[Array, Array]:
    """The k largest eigenpairs of a symmetric matrix; infinite where it overflows."""
    import scipy.linalg

    size = len(matrix)
    if not np.isfinite(matrix).all():
        return np.full(k, np.inf), np.full((size, k), np.inf)
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=(size - k, size - 1))
    return values[::-1], vectors[:, ::-1]


def _by_examples(gradients: Any, k: int, centred: bool) -> tuple[Array, Array]:
    """Eigenvalues, and combinations of the gradients that are eigenvectors but for their length."""
    gram = gradients.gram()
    if centred:
        means = gram.mean(axis=0)
        gram = gram - means - means[:, None] + means.mean()
    values, vectors = _top((gram + gram.T) / (2 * gradients.examples), k)
    return values, vectors - vectors.mean(axis=0) if centred else vectors


def _combined(gradients: Any, combinations: Array) -> Array:
    """The eigenvectors themselves, orthonormal; infinite where they overflow."""
    images = gradients.combine(combinations)
    if not np.isfinite(images).all():
        return np.full_like(images, np.inf)
    # what belongs to a zero eigenvalue has no image of its own; the factorization completes the basis
    return np.linalg.qr(images)[0]


def _by_parameters(gradients: Any, k: int, centred: bool) -> tuple[Array, Array]:
    matrix = np.zeros((gradients.size, gradients.size))
    for rows in gradients.centred_blocks():
        matrix += rows.T @ rows
    matrix /= gradients.examples
    if not centred:
        mean = gradients.mean()
        matrix += np.outer(mean, mean)
    return _top(matrix, k)


@checked(
    objective=real_objective,
    k=integer(1),
    centred=flag,
    route=choice("smaller", "examples", "parameters"),
    vectors=flag,
)
def gradient_covariance(
    objective: Objective,
    *,
    k: int = 1,
    centred: bool = True,
    route: Literal["smaller", "examples", "parameters"] = "smaller",
    vectors: bool = False,
) -> xr.Dataset:
    r"""The exact covariance of per-example gradients, :math:`K` with divisor n: its largest eigenvalues and its trace.

    A batch of :math:`S` examples has a gradient of covariance :math:`\frac{n-S}{S(n-1)}K`, without replacement, and
    :math:`K/S` with.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    k : int
        Number of eigenvalues, in 1..min(examples, parameters). Centring makes at least one of ``examples`` zero. Their
        rounding error is of the order of 1e-16 times :math:`|\bar g|^2+\lambda_1`.
    centred : bool
        False: the eigenvalues of the second moment :math:`K_{nc} = K + \bar g\bar g^T` instead.
    route : {"smaller", "examples", "parameters"}
        Which matrix is diagonalised: examples by examples, parameters by parameters, or the smaller of the two. The
        cost is the cube of its size.
    vectors : bool
        Whether to return the eigenvectors.

    Returns
    -------
    xarray.Dataset
        ``covariance_eigenvalues`` (covariance_eigenvalue), descending; ``gradient_variance``,
        :math:`\operatorname{Tr}K`, of the centred covariance always; ``squared_gradient``, :math:`|\bar g|^2`: the two
        add up to the trace of :math:`K_{nc}`. ``covariance_eigenvectors`` (parameter, covariance_eigenvalue) if asked
        for, orthonormal, of arbitrary sign. +inf where gradients overflow.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, gradient_covariance, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = gradient_covariance(Objective(net, [[1.0], [3.0]], [1.0, 6.0], "mse"))  # gradients 1 and 0
    >>> found.gradient_variance.item(), found.squared_gradient.item(), found.covariance_eigenvalues.values
    (0.25, 0.25, array([0.25]))
    """
    owner = "gradient_covariance"
    with one_blas_thread(), np.errstate(all="ignore"):
        gradients = objective.gradient_rows()
        smaller = min(gradients.examples, gradients.size)
        if route == "smaller":
            route = "examples" if gradients.examples <= gradients.size else "parameters"
        if k > smaller:
            raise complain(owner, "k", f"at most {smaller}, the smaller of examples and parameters", k)
        mean = gradients.mean()
        squared = mean.dot(mean)
        values, basis = (_by_examples if route == "examples" else _by_parameters)(gradients, k, centred)
        if vectors and route == "examples":
            basis = _combined(gradients, basis)
        kind = "covariance" if centred else "second moment"
        found = dataset(
            owner,
            {
                "covariance_eigenvalues": (
                    ["covariance_eigenvalue"],
                    values,
                    f"eigenvalue of the {kind} of per-example gradients",
                    "squared gradient",
                ),
                "gradient_variance": (
                    [],
                    gradients.variance(),
                    "trace of the covariance of per-example gradients",
                    "squared gradient",
                ),
                "squared_gradient": ([], squared, "squared length of the mean gradient", "squared gradient"),
            },
            loss=objective.loss,
        )
    if vectors:
        attributes = {"long_name": f"eigenvector of the {kind} of per-example gradients", "units": "1"}
        found["covariance_eigenvectors"] = (("parameter", "covariance_eigenvalue"), basis, attributes)
    return found


@checked(
    objective=real_objective,
    batches=arguments.index_rows,
    replacement=flag,
)
def batch_gradient_covariance(
    objective: Objective,
    *,
    batches: IndexRows,
    replacement: bool = False,
) -> xr.Dataset:
    r"""The sample covariance of a few batch gradients: the literature's estimate from 25 batches of 128 examples.

    With :math:`L` independent batches of :math:`M` examples the estimate is :math:`\hat C = \frac1{L-1}\sum_b
    (g_b-\bar g)(g_b-\bar g)^T` around the mean of the batches, through the Gram matrix of the centred gradients. Its
    expectation is :math:`c_M K` with :math:`c_M = \frac{n-M}{M(n-1)}` (or :math:`1/M` with replacement). So the trace
    is unbiased. The largest eigenvalue is not: it is a convex function of the matrix, so that :math:`E\,\lambda_1(\hat
    C) \ge c_M\lambda_1(K)`. It is far too large when the trace of :math:`K` is spread over many more than :math:`L`
    directions (a flat spectrum seems to have :math:`\operatorname{Tr}(K)c_M/L` in each of :math:`L-1` directions) and
    about right for one that dominates. The smallest non-zero eigenvalue, number :math:`L-1`, measures mostly that floor
    and depends on :math:`L` and :math:`M`; it is no estimate of an eigenvalue of :math:`K`. Trace over largest
    eigenvalue, the measure of conditioning in jastrzebski2020, is at most :math:`L-1`.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    batches : array of int, shape (draws, batch_size), or callable
        Independent batches as numbers of examples, at least three, from :func:`draw_batches`; or a callable ``objective
        -> array``, such as :func:`fresh_batches`.
    replacement : bool
        How the batches were drawn; enters ``batch_factor`` alone.

    Returns
    -------
    xarray.Dataset
        ``batch_covariance_eigenvalues`` (batch_covariance_eigenvalue), all :math:`L`, descending, the last one zero by
        centring; ``largest_eigenvalue``, with the standard error :math:`\lambda_1\sqrt{2/(L-1)}` of a sample variance
        along a fixed direction of Gaussian gradients, which does not count the inflation;
        ``smallest_nonzero_eigenvalue``, number :math:`L-1`; ``batch_gradient_variance``, the trace, with the standard
        error from the spread of its :math:`L` terms; ``batch_factor``, :math:`c_M`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, batch_gradient_covariance, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> x, y = [[1.0], [3.0], [1.0]], [1.0, 6.0, 3.0]
    >>> every = batch_gradient_covariance(Objective(net, x, y, "mse"), batches=[[0], [1], [2]])  # gradients 1, 0, -1
    >>> every.batch_gradient_variance.item(), every.batch_factor.item()
    (1.0, 1.0)
    """
    owner = "batch_gradient_covariance"
    chosen = index_rows(owner, batches, objective, least=3)
    draws, batch_size = chosen.shape
    with one_blas_thread(), np.errstate(all="ignore"):
        rows = np.stack([objective.of_examples(some).gradient() for some in chosen])
        centred = rows - rows.mean(axis=0)
        gram = centred @ centred.T / (draws - 1)
        values, _ = _top((gram + gram.T) / 2, draws)
        terms = np.diagonal(gram) * draws
        return dataset(
            owner,
            {
                "batch_covariance_eigenvalues": (
                    ["batch_covariance_eigenvalue"],
                    values,
                    "eigenvalue of the sample covariance of batch gradients",
                    "squared gradient",
                ),
                **with_error(
                    "largest_eigenvalue",
                    [],
                    (values[0], values[0] * np.sqrt(2 / (draws - 1))),
                    "largest eigenvalue of the sample covariance of batch gradients",
                    "squared gradient",
                ),
                "smallest_nonzero_eigenvalue": (
                    [],
                    values[-2],
                    "smallest non-zero eigenvalue of the sample covariance of batch gradients",
                    "squared gradient",
                ),
                **with_error(
                    "batch_gradient_variance",
                    [],
                    (terms.mean(), terms.std(ddof=1) / np.sqrt(draws)),
                    "trace of the sample covariance of batch gradients",
                    "squared gradient",
                ),
                "batch_factor": (
                    [],
                    batch_factor(owner, objective.examples, batch_size, replacement),
                    "covariance of batch gradients over that of per-example gradients",
                    "1",
                ),
            },
            loss=objective.loss,
            draws=draws,
        )
