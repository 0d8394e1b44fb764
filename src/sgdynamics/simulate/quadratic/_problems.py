"""Models as the arrays that kernels take."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from sgdynamics._blas import one_blas_thread
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares
from sgdynamics.simulate._streams import Purpose
from sgdynamics.simulate.quadratic._batches import Batches, Centers, Examples, Features
from sgdynamics.simulate.quadratic._cells import Floats

_NO_FLOATS = np.empty(0)
_NO_MATRIX = np.empty((0, 0))
_NO_INTEGERS = np.empty(0, np.int64)


class Problem(NamedTuple):
    """One model, ready to run."""

    batches: Batches  # still without room to work in
    start: Floats
    curvature: Floats  # (d, d), of the population loss
    purpose: Purpose

    def without_noise(self) -> Problem:
        """The same random curvatures, in the same draws, around one common minimum."""
        batches = self.batches
        if isinstance(batches, Examples):
            return self._replace(batches=batches._replace(forces=np.zeros_like(batches.forces), root=_NO_MATRIX))
        if isinstance(batches, Features):
            return self._replace(batches=batches._replace(deviation=np.append(batches.deviation[:-1], 0.0)))
        return self._replace(batches=batches._replace(root=np.zeros_like(batches.root)))


@functools.singledispatch
def problem_of(model: Any) -> Problem:
    """The arrays of a model."""
    raise TypeError(f"problem_of: model must be a quadratic of coupled directions, got {model!r}")


@problem_of.register
def _(model: FullQuadratic) -> Problem:
    batches = Centers(_plain(model.hessian[None]), _root(model.batch_center_covariance), _NO_FLOATS, _NO_FLOATS)
    return Problem(batches, _plain(model.start), _plain(model.hessian), Purpose.QUADRATIC_FULL)


@problem_of.register
def _(model: FiniteSumQuadratic) -> Problem:
    hessians = model.hessians[:1] if (model.hessians == model.hessians[0]).all() else model.hessians
    probabilities = model.probabilities
    batches = Examples(
        hessians=_plain(hessians),
        forces=_plain(model.forces),
        root=_root(model.center_covariance) if model.center_covariance.any() else _NO_MATRIX,
        cumulative=_NO_FLOATS if (probabilities == probabilities[0]).all() else _cumulative(probabilities),
        batch_size=model.batch_size,
        epoch={
            "replacement": 0,
            "without_replacement": 1,
            "reshuffled": model.examples // model.batch_size,
        }[model.sampling],
        order=_NO_INTEGERS,
        normals=_NO_FLOATS,
        offset=_NO_FLOATS,
    )
    return Problem(batches, _plain(model.start), _plain(model.mean_hessian), Purpose.QUADRATIC_FINITE_SUM)


@problem_of.register
def _(model: GaussianLeastSquares) -> Problem:
    deviation = np.sqrt(np.append(model.feature_variance, model.label_noise))
    curvature = np.diag(model.feature_variance)
    batches = Features(deviation, model.batch_size, _NO_FLOATS)
    return Problem(batches, _plain(model.start), curvature, Purpose.QUADRATIC_LEAST_SQUARES)


def _plain(array: Floats) -> Floats:
    """In the one layout that kernels are compiled for."""
    return np.require(array, np.float64, ["C", "W"])


def _root(covariance: Floats) -> Floats:
    """Lower triangular R with a diagonal >= 0 and R R^T the covariance, which may be singular.

    From the QR decomposition of a symmetric root: Cholesky's own factorisation breaks down at a zero eigenvalue.
    """
    with one_blas_thread():
        variances, axes = np.linalg.eigh(covariance)
        # the root of what is only the rounding of a zero would be eight digits larger
        rounding = variances[-1] * len(variances) * np.finfo(np.float64).eps
        deviations = np.sqrt(np.where(variances > rounding, variances, 0.0))
        upper = np.linalg.qr(deviations[:, None] * axes.T, mode="r")
    return _plain((np.copysign(1.0, np.diag(upper))[:, None] * upper).T)


def _cumulative(probabilities: Floats) -> Floats:
    """Probabilities summed up; exactly 1 from the last possible example on."""
    sums: Floats = np.cumsum(probabilities)
    sums /= sums[-1]
    sums[sums == sums[-1]] = 1.0
    return sums
