r"""The risk of a merge as a quadratic form in its weights, and the weights that make it smallest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.merging.window import Window

Steps = NDArray[np.int64]
Kept = NDArray[np.bool_]


class QuadraticForm:
    r"""Risk :math:`\alpha^T G \alpha` of the merged point on batches that it shares with the target.

    The distance to the target is :math:`\operatorname{E} \tfrac12 |x_\alpha - x_\text{target}|_H^2 = \alpha^T G \alpha
    - 2 b^T \alpha + c`. Both runs are followed as one state; between two checkpoints the covariances with the earlier
    ones are carried by one matrix.
    """

    def __init__(self, window: Window, base: Array, target: Array, checkpoints: Steps) -> None:
        half = window.start_covariance()
        width = half.shape[-1]
        covariance = np.tile(half, (1, 2, 2))  # both runs leave from the same point
        matrix, noise = np.zeros_like(covariance), np.zeros(covariance.shape[:-1])
        carried = np.broadcast_to(np.eye(2 * width), covariance.shape)
        earlier = np.zeros((*noise.shape, checkpoints.size))  # E z e_k for every checkpoint k so far
        earlier[..., 0] = covariance[..., 0]
        self.matrix: Array = np.zeros((checkpoints.size, checkpoints.size))
        self.matrix[0, 0] = window.share @ earlier[:, 0, 0]
        saved = 1
        for step, rates in enumerate(zip(base.tolist(), target.tolist(), strict=True), 1):
            for run, rate in enumerate(rates):
                part = slice(run * width, (run + 1) * width)
                matrix[:, part, part], noise[:, part] = window.transition(rate)
            added = (window.noise[:, None] * noise)[..., None] * noise[:, None, :]
            covariance = matrix @ covariance @ np.swapaxes(matrix, 1, 2) + added
            carried = matrix @ carried
            if step == checkpoints[saved]:
                earlier[..., :saved] = carried @ earlier[..., :saved]
                earlier[..., saved] = covariance[..., 0]
                row = window.share @ earlier[:, 0, : saved + 1]
                self.matrix[saved, : saved + 1] = self.matrix[: saved + 1, saved] = row
                carried = np.broadcast_to(np.eye(2 * width), covariance.shape)
                saved += 1
        self.overlap: Array = window.share @ earlier[:, width]
        self.target_risk: float = float(window.share @ covariance[:, width, width])

    def best(self, wanted: Array, kept: Kept) -> Array:
        """Weights on the kept checkpoints that sum to 1 and minimise a^T G a - 2 wanted.a."""
        size = int(kept.sum())
        system = np.zeros((size + 1, size + 1))
        system[:size, :size] = self.matrix[np.ix_(kept, kept)]
        system[size, :size] = system[:size, size] = np.trace(self.matrix) / len(self.matrix)  # as large as the rest
        solution = np.linalg.lstsq(system, np.append(wanted[kept], system[size, 0]), rcond=None)[0]
        weights = np.zeros(kept.size)
        weights[kept] = solution[:size]
        return weights

    def closest(self) -> Array:
        """The weights closest to the target."""
        return self.best(self.overlap, np.ones(self.overlap.size, dtype=bool))

    def lowest(self) -> Array:
        """The weights of lowest risk."""
        return self.best(np.zeros_like(self.overlap), np.ones(self.overlap.size, dtype=bool))

    def closest_nonnegative(self) -> Array:
        """The weights >= 0 closest to the target, by non-negative least squares on a square root of the matrix."""
        from scipy.optimize import nnls

        values, vectors = np.linalg.eigh(self.matrix)
        values = np.maximum(values, values[-1] * np.finfo(float).eps)
        root = np.sqrt(values)[:, None] * vectors.T
        goal = (vectors.T @ self.overlap) / np.sqrt(values)
        # the sum is asked for with a weight far above everything else; the support then decides, and is solved exactly
        heavy = 1e4 * np.sqrt(values[-1])
        rows = np.vstack([root, np.full(goal.size, heavy)])
        support = nnls(rows, np.append(goal, heavy))[0] > 0
        weights = self.best(self.overlap, support)
        while (weights < 0).any():
            support &= weights > 0
            weights = self.best(self.overlap, support)
        return weights
