r"""The sharpest directions along a run: eigenpairs of the Hessian, told apart by where they point.

Eigenvalues cross; an index then names another direction than before. A tracker keeps the eigenvectors of the last
weights, starts the next search from them, and matches new to old by overlap :math:`|V_\text{old}^TV_\text{new}|`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import named_tuple_repr
from sgdynamics.domains import checked, complain, integer, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.curvature import HessianEigenvalues, tolerance, top_eigenpairs
from sgdynamics.simulate.trainer.labelled import dataset
from sgdynamics.simulate.trainer.objective import Objective

__all__ = ["EigenpairTracker", "MatchedDirections", "matched_directions", "tracked_eigenpairs"]

Array = NDArray[Any]

# A search for fewer would see a single Krylov space, which can miss what has overtaken the old eigenvector.
LEAST_SEARCHED = 3


class MatchedDirections(NamedTuple):
    r"""Which new direction continues which old one.

    Attributes
    ----------
    order : array of int, shape (k,)
        ``new[:, order[j]]`` continues ``old[:, j]``.
    overlaps : array, shape (k,)
        :math:`|v_j^\text{old}\cdot v_{\text{order}[j]}^\text{new}|`, 1 where the direction did not move.
    subspace_overlap : float
        :math:`|V_\text{old}^TV_\text{new}|_F^2/k`, the mean squared cosine between the two spans: 1 where they are the
        same, whatever happened inside.
    """

    order: NDArray[np.int64]
    overlaps: Array
    subspace_overlap: float

    def __repr__(self) -> str:
        return named_tuple_repr(self)


@checked(old=arguments.matrix, new=arguments.matrix)
def matched_directions(old: ArrayLike, new: ArrayLike) -> MatchedDirections:
    """Match two sets of orthonormal directions so that the overlaps add up to the most.

    Parameters
    ----------
    old, new : array, shape (parameters, k)
        Orthonormal columns; signs do not matter.

    Returns
    -------
    MatchedDirections
        NamedTuple of ``order``, ``overlaps`` and ``subspace_overlap``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or shapes differ.

    Examples
    --------
    >>> matched_directions([[1, 0], [0, 1]], [[0, -1], [1, 0]])
    MatchedDirections(order=[1, 0], overlaps=[1, 1], subspace_overlap=1)
    """
    from scipy.optimize import linear_sum_assignment

    first: Array = old  # type: ignore[assignment]
    second: Array = new  # type: ignore[assignment]
    if first.shape != second.shape:
        raise complain("matched_directions", "new", f"of the shape {first.shape} of old", f"shape {second.shape}")
    with one_blas_thread():
        overlaps = np.abs(first.T @ second)
    places, order = linear_sum_assignment(overlaps, maximize=True)
    return MatchedDirections(order, overlaps[places, order], float((overlaps**2).sum() / overlaps.shape[1]))


class EigenpairTracker:
    """Follows the sharpest directions from weights to weights; made by :func:`tracked_eigenpairs`.

    Call it with an objective to measure there. It remembers: hand a new one to every run.
    """

    def __init__(self, k: int, tol: float, subset: NDArray[np.int64] | None) -> None:
        self._k, self._tol, self._subset = k, tol, subset
        self._last: tuple[Objective, Array] | None = None
        self._found: HessianEigenvalues | None = None
        self._followed: Array | None = None
        self._measured: xr.Dataset | None = None

    def directions(self, objective: Objective) -> Array:
        """The eigenvectors (parameters, k) of an objective, largest eigenvalue first; searched for only where new.

        What other instruments take as ``directions`` in the same run.
        """
        self(objective)
        assert self._found is not None
        return self._found.vectors[:, : self._k]

    def __call__(self, objective: Objective) -> xr.Dataset:
        """Eigenpairs of an objective, matched with those of the last one: see :func:`tracked_eigenpairs`."""
        if self._measured is None or not self._was_last(objective):
            self._measured = self._measure(self._looked_at(objective))
            self._last = objective, objective.flat()
        return self._measured

    def _looked_at(self, objective: Objective) -> Objective:
        if self._subset is None:
            return objective
        if self._subset.max() >= objective.examples:
            text = f"example numbers in 0..{objective.examples - 1}"
            raise complain("tracked_eigenpairs", "subset", text, int(self._subset.max()))
        return objective.of_examples(self._subset)

    def _was_last(self, objective: Objective) -> bool:
        """Whether the last call was the same; the network may have been edited since."""
        if self._last is None or not np.array_equal(objective.flat(), self._last[1]):
            return False
        return all(getattr(objective, name) is getattr(self._last[0], name) for name in ("x", "targets", "trainable"))

    def _measure(self, objective: Objective) -> xr.Dataset:
        last = None if self._found is None or not np.isfinite(self._found.vectors).all() else self._found.vectors
        searched = max(self._k, min(LEAST_SEARCHED, objective.trainable_size))
        found = top_eigenpairs(objective, k=searched, tol=self._tol, start=last)
        self._found = found
        values, vectors = found.values[: self._k], found.vectors[:, : self._k]
        order, overlaps, together = np.arange(self._k), np.ones(self._k), 1.0
        if np.isfinite(vectors).all():
            if self._followed is not None:
                order, overlaps, together = matched_directions(self._followed, vectors)
            self._followed = vectors[:, order]
        return dataset(
            "tracked_eigenpairs",
            {
                "sharpness": ([], values[0], "largest eigenvalue of the Hessian", "curvature"),
                "hessian_eigenvalues": (["eigenvalue"], values, "eigenvalue of the Hessian", "curvature"),
                "tracked_eigenvalues": (
                    ["direction"],
                    values[order],
                    "eigenvalue of the Hessian whose eigenvector continues the last one of this number",
                    "curvature",
                ),
                "overlap": (["direction"], overlaps, "overlap with the direction that is continued", "1"),
                "subspace_overlap": ([], together, "mean squared cosine between the subspaces", "1"),
                "residual": (["eigenvalue"], found.residuals[: self._k], "length of Hv - lambda v", "curvature"),
                "converged": ([], found.converged, "whether the search for eigenvalues converged", "1"),
                "hessian_products": ([], found.iterations, "number of Hessian-vector products", "1"),
            },
            loss=objective.loss,
            hessian_products=found.iterations,
        )


@checked(k=integer(1), tol=tolerance, subset=optional(arguments.indices))
def tracked_eigenpairs(*, k: int = 3, tol: float = 1e-3, subset: ArrayLike | None = None) -> EigenpairTracker:
    r"""An instrument that follows the ``k`` sharpest directions of an objective from weights to weights.

    Every search starts from the last eigenvectors, mixed with a little of a random vector, looks for at least three,
    and deflates what it found to look for more, so that an eigenvalue that has overtaken the old ones is not missed.
    New eigenvectors are matched with the last ones by :func:`matched_directions`.

    Near a degeneracy the eigenvectors turn fast within their plane, and which of them continues which becomes
    arbitrary: the overlaps fall towards :math:`1/\sqrt2` while ``subspace_overlap`` stays near 1. A direction that has
    left the ``k`` sharpest shows as an overlap near 0, and its number passes to the newcomer. Trust a followed
    direction where its overlap is large, and the subspace otherwise.

    Parameters
    ----------
    k : int
        Number of directions, >= 1, at most the number of trainable parameters.
    tol : float
        Residual of the search relative to the spectral scale, in (0, 1).
    subset : array of int, shape (some,), optional
        Numbers of the examples whose Hessian is taken, for a cheap look. None: all.

    Returns
    -------
    EigenpairTracker
        ``tracker(objective)`` gives a Dataset: ``sharpness``, the largest eigenvalue; ``hessian_eigenvalues``
        (eigenvalue), descending, with ``residual``; ``tracked_eigenvalues`` (direction), in the order of the first
        call, with ``overlap`` to the direction before (1 at first); ``subspace_overlap``; ``converged``;
        ``hessian_products``. ``tracker.directions(objective)`` gives the eigenvectors. +inf where the Hessian overflows
        or the search was stopped.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, network, tracked_eigenpairs
    >>> net = network([2, 1], "linear", biases=False, seed=0)
    >>> objective = Objective(net, [[2.0, 0.0], [0.0, 1.0]], [0.0, 0.0], "mse")
    >>> tracker = tracked_eigenpairs(k=2)
    >>> tracker(objective).hessian_eigenvalues.values.round(12), tracker(objective).sharpness.item()
    (array([2. , 0.5]), 2.0)
    """
    return EigenpairTracker(k, tol, None if subset is None else np.asarray(subset))
