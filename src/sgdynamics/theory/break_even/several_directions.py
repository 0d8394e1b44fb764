r"""The edge in several directions: exact for any finite set of per-example Hessians.

With :math:`\ell_i = \tfrac12 w^\top H_i w` the second moment :math:`X = E w w^\top` obeys

.. math:: X' = T(X) = X - 2\eta\,\mathcal C(X) + \eta^2 \mathcal D(X), \qquad
    \mathcal C(X) = \tfrac12 (HX + XH), \quad
    \mathcal D(X) = (1 - c_S) HXH + c_S \operatorname{mean}_i H_i X H_i .

T keeps positive semidefinite matrices so and is symmetric, hence its spectral radius is its largest eigenvalue, and
stability is :math:`\eta\mathcal D \le 2\mathcal C`: the edge is :math:`2/\lambda_{\max}(\mathcal C^{-1}\mathcal D)` on
symmetric matrices. At :math:`X = e_1 e_1^\top` this quotient is that of one direction, so that the edge of the sharpest
direction is never below the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import checked, choice, complain, integer, nonnegative, optional, real
from sgdynamics.formula import law
from sgdynamics.models.break_even.parameters import PARAMETERS
from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.theory import quadratic
from sgdynamics.theory._symmetric_maps import edge_of_second_moment

__all__ = ["direction_edges", "mean_square_edge", "sharpest_direction_edge", "strict_edge"]

Array = NDArray[np.float64]

# Curvatures below this fraction of the largest one are the rounding of 0, asymmetries below it that of symmetry.
_ROUNDING = 1e-12
# Numbers held at once while examples are summed.
_AT_ONCE = 2**21
# Batches and partitions that are enumerated.
_MOST_BATCHES = 100_000

_HESSIANS = replace(real, text="symmetric matrices of shape (examples, d, d)")
_FEATURES = replace(real, text="vectors of shape (examples, d)")
_SAMPLING = choice("without_replacement", "replacement")
_ENSEMBLE = {
    "hessians": optional(_HESSIANS),
    "batch_size": integer(1),
    "features": optional(_FEATURES),
    "sampling": _SAMPLING,
}


@dataclass(frozen=True)
class _Ensemble:
    """Per-example Hessians in the eigenbasis of their mean, where that is not flat."""

    curvature: Array  # ascending, shape (r,)
    examples: int
    spread: Callable[[Array], Array]  # X -> mean H_i X H_i
    along_sharpest: Array  # e_1' H_i e_1, shape (examples,)


def _of_features(owner: str, features: Array) -> _Ensemble:
    if features.ndim != 2:
        raise complain(owner, "features", _FEATURES.text, features.tolist())
    examples = len(features)
    with one_blas_thread():
        _, singular, basis = np.linalg.svd(features / math.sqrt(examples), full_matrices=False)
        curvature = singular[::-1] ** 2
        kept = curvature > _ROUNDING * curvature[-1]
        if not kept.any():
            raise complain(owner, "features", "vectors that are not all 0", features.tolist())
        inside: Array = features @ basis[::-1][kept].T

    def spread(matrix: Array) -> Array:
        weights = np.einsum("ni,ni->n", inside @ matrix, inside)
        made: Array = (inside * (weights / examples)[:, None]).T @ inside
        return made

    return _Ensemble(curvature[kept], examples, spread, inside[:, -1] ** 2)


def _of_hessians(owner: str, hessians: Array) -> _Ensemble:
    if hessians.ndim != 3 or hessians.shape[1] != hessians.shape[2]:
        raise complain(owner, "hessians", _HESSIANS.text, hessians.tolist())
    size = float(np.abs(hessians).max())
    if np.abs(hessians - hessians.transpose(0, 2, 1)).max() > _ROUNDING * size:
        raise complain(owner, "hessians", _HESSIANS.text, hessians.tolist())
    examples = len(hessians)
    with one_blas_thread():
        curvature, basis = np.linalg.eigh(hessians.mean(axis=0))
        kept = curvature > _ROUNDING * size
        if not kept.any() or curvature[0] < -_ROUNDING * size:
            text = "with a positive semidefinite mean that is not 0"
            raise complain(owner, "hessians", text, f"a mean of eigenvalues {curvature.tolist()}")
        flat = basis[:, ~kept]
        if flat.size and np.abs(hessians @ flat).max() > math.sqrt(_ROUNDING) * size:
            raise complain(owner, "hessians", "flat where their mean is, for any rate to be stable", hessians.tolist())
        basis = basis[:, kept]
        inside: Array = basis.T @ hessians @ basis
    block = max(1, _AT_ONCE // inside[0].size)

    def spread(matrix: Array) -> Array:
        total = np.zeros_like(matrix)
        for start in range(0, examples, block):
            some = inside[start : start + block]
            total += (some @ matrix @ some).sum(axis=0)
        return total / examples

    return _Ensemble(curvature[kept], examples, spread, inside[:, -1, -1])


def _ensemble(owner: str, hessians: Any, features: Any) -> _Ensemble:
    if (hessians is None) == (features is None):
        both = "None where features are given, and given where they are not"
        raise complain(owner, "hessians", both, hessians)
    return _of_features(owner, np.asarray(features)) if hessians is None else _of_hessians(owner, np.asarray(hessians))


def _factor(owner: str, examples: int, batch_size: int, sampling: str) -> float:
    return float(batch_factor(owner, examples, batch_size, sampling == "replacement"))


@law(PARAMETERS, quantity="learning rate")
@checked(**_ENSEMBLE)
def mean_square_edge(
    hessians: ArrayLike | None = None,
    batch_size: int = 1,
    *,
    features: ArrayLike | None = None,
    sampling: Literal["without_replacement", "replacement"] = "without_replacement",
) -> float:
    r"""Largest learning rate at which SGD on the given examples is stable in mean square, in all directions at once.

    :math:`2/\lambda_{\max}(\mathcal C^{-1}\mathcal D)`, see the module's page. In the eigenbasis of the mean Hessian
    :math:`\mathcal C` is diagonal, :math:`\tfrac12(\lambda_i + \lambda_j)`, and the largest eigenvalue of
    :math:`\mathcal C^{-1/2}\mathcal D\,\mathcal C^{-1/2}` is found by Lanczos iteration on the :math:`d(d+1)/2` entries
    of a symmetric matrix: above 20 directions nothing larger is ever made, and one product costs :math:`O(n d^2)` for
    rank-one Hessians and :math:`O(n d^3)` else.

    Plain SGD with a fresh batch in every step. For momentum see
    :func:`sgdynamics.theory.quadratic.second_moment_edge`, for reshuffled batches
    :func:`sgdynamics.theory.quadratic.reshuffled_edge`; they have other edges.

    Status: exact.

    Parameters
    ----------
    hessians : array, shape (examples, d, d)
        :math:`H_i`, symmetric; not each of them need be positive semidefinite, but their mean must be, and every one
        of them flat where the mean is: along a flat direction that single examples bend no rate is stable.
    features : array, shape (examples, d)
        :math:`\phi_i` of rank-one Hessians :math:`\phi_i\phi_i^\top`, in the place of ``hessians``.
    sampling : {"without_replacement", "replacement"}
        Batches of different examples, :math:`c_S = \frac{n-S}{S(n-1)}`, or of independent draws, :math:`c_S = 1/S`:
        the latter is also the edge of fresh examples from the law that the given ones stand for.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, both or none of ``hessians`` and ``features`` are given, or the mean
        Hessian is not positive semidefinite.

    Examples
    --------
    >>> round(mean_square_edge(features=[[1.0, 0.0], [0.0, 1.0]], batch_size=1), 12)
    2.0
    >>> round(mean_square_edge([[[0.5]], [[1.5]]], 1), 12), round(mean_square_edge([[[0.5]], [[1.5]]], 2), 12)
    (1.6, 2.0)
    """
    owner = "mean_square_edge"
    these = _ensemble(owner, hessians, features)
    factor = _factor(owner, these.examples, batch_size, sampling)
    curvature = these.curvature
    if factor == 0:
        return float(2 / curvature[-1])
    products = (1 - factor) * np.outer(curvature, curvature)
    return edge_of_second_moment(curvature, lambda matrix: products * matrix + factor * these.spread(matrix))


@law(PARAMETERS, quantity="learning rate")
@checked(**_ENSEMBLE)
def sharpest_direction_edge(
    hessians: ArrayLike | None = None,
    batch_size: int = 1,
    *,
    features: ArrayLike | None = None,
    sampling: Literal["without_replacement", "replacement"] = "without_replacement",
) -> float:
    r"""Edge of the sharpest direction alone, the top eigenvector of the mean Hessian.

    :func:`sgdynamics.theory.quadratic.second_moment_edge_gain` of the relative variance of its curvatures, over their
    mean.

    Status: bound, from above, of :func:`mean_square_edge`. Good for large batches and for spectra that fall fast; for
    flat ones other directions feed their noise into this one, and it is optimistic by any factor.

    Parameters
    ----------
    hessians : array, shape (examples, d, d)
        :math:`H_i`, as for :func:`mean_square_edge`.
    features : array, shape (examples, d)
        :math:`\phi_i` of rank-one Hessians, in the place of ``hessians``.
    sampling : {"without_replacement", "replacement"}
        As for :func:`mean_square_edge`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        As for :func:`mean_square_edge`.

    Examples
    --------
    >>> round(sharpest_direction_edge(features=[[2.0, 0.0], [0.0, 1.0]]), 12)
    0.5
    """
    owner = "sharpest_direction_edge"
    these = _ensemble(owner, hessians, features)
    factor = _factor(owner, these.examples, batch_size, sampling)
    top = float(these.curvature[-1])
    relative = factor * (these.along_sharpest.std() / top) ** 2
    return float(quadratic.mean_square_edge_gain.function(relative)) / top


def _extremes(stacks: Array) -> tuple[float, float]:
    """Extreme eigenvalues of means over batches, of Hessians (batch, S, d, d) or features (batch, S, d)."""
    with one_blas_thread():
        if stacks.ndim == 3:
            return 0.0, float(np.linalg.norm(stacks, ord=2, axis=(1, 2)).max() ** 2 / stacks.shape[1])
        eigenvalues = np.linalg.eigvalsh(stacks.mean(axis=1))
        return float(eigenvalues.min()), float(eigenvalues.max())


@law(PARAMETERS, quantity="learning rate")
@checked(**_ENSEMBLE)
def strict_edge(
    hessians: ArrayLike | None = None,
    batch_size: int = 1,
    *,
    features: ArrayLike | None = None,
    sampling: Literal["without_replacement", "replacement"] = "without_replacement",
) -> float:
    r"""Largest learning rate at which no single batch is unstable, :math:`2/\max_B \lambda_1(H_B)`.

    A batch with a negative eigenvalue is unstable at every rate: the edge is then 0.

    A bounded perturbation of a quadratic can diverge in expectation as soon as one batch is unstable, however rare it
    is. Never above :func:`mean_square_edge`. Sampled with replacement the worst batch is one example S times.

    Status: exact, by enumeration of at most 100000 batches.

    Parameters
    ----------
    hessians : array, shape (examples, d, d)
        :math:`H_i`, as for :func:`mean_square_edge`.
    features : array, shape (examples, d)
        :math:`\phi_i` of rank-one Hessians, in the place of ``hessians``.
    sampling : {"without_replacement", "replacement"}
        As for :func:`mean_square_edge`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        As for :func:`mean_square_edge`, or if there are too many batches.

    Examples
    --------
    >>> round(strict_edge(features=[[2.0, 0.0], [0.0, 1.0]]), 12)
    0.5
    """
    owner = "strict_edge"
    examples = _ensemble(owner, hessians, features).examples
    _factor(owner, examples, batch_size, sampling)
    draws = 1 if sampling == "replacement" else batch_size
    given = np.asarray(features if hessians is None else hessians)
    if given[0].size == 1:
        curvatures = np.sort(given.ravel() ** 2 if hessians is None else given.ravel())
        return _edge_within(float(curvatures[:draws].mean()), float(curvatures[-draws:].mean()))
    number = math.comb(examples, draws)
    if number > _MOST_BATCHES:
        text = f"such that at most {_MOST_BATCHES} batches are enumerated, not {number}"
        raise complain(owner, "batch_size", text, batch_size)
    chosen = np.array(list(combinations(range(examples), draws)))
    block = max(1, _AT_ONCE // (draws * given[0].size))
    extremes = [_extremes(given[chosen[start : start + block]]) for start in range(0, number, block)]
    return _edge_within(min(low for low, _ in extremes), max(high for _, high in extremes))


def _edge_within(lowest: float, highest: float) -> float:
    """The edge of batches whose eigenvalues lie between these."""
    return 0.0 if lowest < -_ROUNDING * highest else 2 / highest


@law(PARAMETERS, quantity="learning rate")
@checked(
    curvatures=replace(nonnegative, text="curvatures >= 0 of shape (examples,), not all 0"),
    batch_size=integer(1),
    sampling=_SAMPLING,
)
def direction_edges(
    curvatures: ArrayLike,
    batch_size: int = 1,
    *,
    sampling: Literal["without_replacement", "replacement"] = "without_replacement",
) -> xr.Dataset:
    r"""All edges of one direction whose examples have the given curvatures: which one is meant matters.

    ``mean``, :math:`2/\lambda`, is that of full-batch descent. ``mean_square`` is the break-even criterion.
    ``almost_sure`` is where almost every run ceases to contract; between the two, runs settle with infinite variance.
    ``strict`` is where the first single batch is unstable. ``reshuffled`` is that of the mean square at the ends of
    epochs: with one example a batch the order changes nothing, so that it is the almost-sure one.

    Status: exact, by enumeration where there are many batches.

    Parameters
    ----------
    curvatures : array, shape (examples,)
        :math:`h_i \ge 0`, not all 0.
    sampling : {"without_replacement", "replacement"}
        As for :func:`mean_square_edge`.

    Returns
    -------
    xarray.Dataset
        ``edge_learning_rate`` by ``edge``; without those that would take more than 4096 batches or 100000 partitions
        of an epoch, and without ``reshuffled`` where S does not divide the number of examples.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> found = direction_edges([0.5, 1.5]).edge_learning_rate
    >>> dict(zip(found.edge.values.tolist(), found.values.round(4).tolist()))
    {'mean': 2.0, 'mean_square': 1.6, 'strict': 1.3333, 'almost_sure': 2.6667, 'reshuffled': 2.6667}
    """
    owner = "direction_edges"
    values = np.asarray(curvatures)
    if values.ndim != 1 or not values.any():
        raise complain(owner, "curvatures", "curvatures >= 0 of shape (examples,), not all 0", values.tolist())
    examples = values.size
    _factor(owner, examples, batch_size, sampling)
    model = FiniteSumQuadratic(values, batch_size=batch_size, sampling=sampling)
    found = {
        "mean": quadratic.mean_edge(model),
        "mean_square": quadratic.second_moment_edge(model),
        "strict": strict_edge(values[:, None, None], batch_size, sampling=sampling),
    }
    again = sampling == "replacement"
    if batch_size == 1 or math.comb(examples + (batch_size - 1) * again, batch_size) <= 4096:
        found["almost_sure"] = quadratic.almost_sure_edge(model)
    batches, rest = divmod(examples, batch_size)
    if not rest and (
        batch_size == 1
        or math.lgamma(examples + 1) - batches * math.lgamma(batch_size + 1) - math.lgamma(batches + 1)
        <= math.log(_MOST_BATCHES)
    ):
        epochs = FiniteSumQuadratic(values, batch_size=batch_size, sampling="reshuffled")
        found["reshuffled"] = quadratic.reshuffled_edge(epochs)
    return xr.Dataset(
        {
            "edge_learning_rate": (
                "edge",
                [float(value) for value in found.values()],
                {"long_name": "learning rate at the edge", "units": "1/curvature"},
            )
        },
        {"edge": list(found)},
        {
            "source": f"sgdynamics.theory.break_even.{owner}",
            "version": sgdynamics.__version__,
            "batch_size": float(batch_size),
            "sampling": sampling,
        },
    )
