r"""Several directions that sharpen independently: which of them the edge clips decides the conditioning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sgdynamics.domains import Numeric, checked, complain, nonnegative, positive, real
from sgdynamics.models.break_even._stabilizing import Stabilizing, plain

__all__ = ["SelfStabilizingModes"]


@dataclass(frozen=True, eq=False, repr=False)
class SelfStabilizingModes(Stabilizing):
    r"""Independent copies of :class:`SelfStabilizingMode` with rates of their own, whose losses add.

    .. math:: \ell_i = \sum_j \tfrac12 h_{ij} y_j x_j^2 - b_{ij} x_j - \frac{a_j}{\beta} y_j

    A batch is the same examples for all modes. The spectrum of the Hessian in the :math:`x_j` is :math:`\{y_j\}`.
    Points are arrays with the modes on their last axis. Floors and :meth:`dead` are as for one mode, mode by mode.

    Parameters
    ----------
    relative_curvatures : array, shape (n, d)
        :math:`h_{ij}`, of mean 1 over the examples in every mode.
    forces : float or array, shape (n, d)
        :math:`b_{ij}`, of mean 0 over the examples.
    sharpening : float or array, shape (d,)
        :math:`a_j \ge 0`.
    restoring : float
        :math:`\beta > 0`.
    batch_size : int
        :math:`S \ge 1`, the same in every step.
    sampling : {"without_replacement", "replacement"}
        A fresh simple random sample of different examples in every step, or independent draws.
    start, start_curvature : float or array, shape (d,)
        :math:`x_j(0)`, and :math:`y_j(0) > 0`.
    oscillation_floor, curvature_floor : float
        Floors of :math:`|x_j|` and of :math:`y_j`, >= 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the curvatures do not have mean 1 or the forces not mean 0.

    Examples
    --------
    >>> modes = SelfStabilizingModes([[0.5, 1.0], [1.5, 1.0]], sharpening=[0.02, 0.01])
    >>> modes.sharpness([0.0, 0.0], [3.0, 2.0]), modes.trace([3.0, 2.0]), modes.free_curvature(100.0)
    (3.0, 5.0, array([3., 2.]))
    """

    _axes: ClassVar[int] = 2

    @property
    def modes(self) -> int:
        """Number of modes, d."""
        return int(self.relative_curvatures.shape[1])

    def _pair(self, x: Any, curvature: Any) -> tuple[Any, Any]:
        for name, value in (("x", x), ("curvature", curvature)):
            if np.ndim(value) and np.shape(value)[-1] != self.modes:
                raise complain(type(self).__name__, name, f"an array of {self.modes} modes on its last axis", value)
        both = np.broadcast_arrays(x, curvature, np.zeros(self.modes))
        return both[0], both[1]

    @checked(x=real, curvature=real)
    def loss(self, x: Numeric, curvature: Numeric) -> Any:
        r"""The mean loss, :math:`\sum_j \tfrac12 y_j x_j^2 - \frac{a_j}{\beta} y_j`; it has no lower bound.

        Parameters
        ----------
        x : Numeric, shape (..., d)
            The oscillating weights.
        curvature : Numeric, shape (..., d)
            :math:`y_j`.

        Returns
        -------
        float or array, shape (...)
        """
        x, curvature = self._pair(x, curvature)
        return plain((curvature * (0.5 * x * x - self.sharpening / self.restoring)).sum(axis=-1))

    @checked(x=real, curvature=real)
    def sharpness(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Largest eigenvalue of the Hessian in all :math:`(x_j, v_j)`.

        :math:`\max_j \tfrac12(y_j + \sqrt{y_j^2 + 4\beta x_j^2})`, which is :math:`\max_j y_j` at x = 0.

        Parameters
        ----------
        x : Numeric, shape (..., d)
            The oscillating weights.
        curvature : Numeric, shape (..., d)
            :math:`y_j`.

        Returns
        -------
        float or array, shape (...)
        """
        return plain(self._own_sharpness(*self._pair(x, curvature)).max(axis=-1))

    @checked(x=real, curvature=real)
    def gradient_variance(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Trace of the covariance of per-example gradients in all :math:`(x_j, v_j)`, divisor n.

        Parameters
        ----------
        x : Numeric, shape (..., d)
            The oscillating weights.
        curvature : Numeric, shape (..., d)
            :math:`y_j`.

        Returns
        -------
        float or array, shape (...)
        """
        return plain(self._own_gradient_variance(*self._pair(x, curvature)).sum(axis=-1))

    @checked(curvature=real)
    def trace(self, curvature: Numeric) -> Any:
        r"""Trace of the Hessian, :math:`\sum_j y_j`.

        Parameters
        ----------
        curvature : Numeric, shape (..., d)
            :math:`y_j`.

        Returns
        -------
        float or array, shape (...)
        """
        return plain(self._pair(0.0, curvature)[1].sum(axis=-1))

    @checked(curvature=positive)
    def condition_ratio(self, curvature: Numeric) -> Any:
        r"""Smallest over largest curvature, :math:`\min_j y_j / \max_j y_j`: larger is better conditioned.

        Parameters
        ----------
        curvature : Numeric, shape (..., d)
            :math:`y_j > 0`.

        Returns
        -------
        float or array, shape (...)
        """
        values = self._pair(0.0, curvature)[1]
        return plain(values.min(axis=-1) / values.max(axis=-1))

    @checked(time=nonnegative)
    def free_curvature(self, time: Numeric) -> Any:
        r"""Curvatures at the time :math:`\eta t` if no edge were met, :math:`y_j(0) + a_j \eta t`.

        Parameters
        ----------
        time : Numeric, shape (...)
            :math:`\eta t`, learning rate times steps.

        Returns
        -------
        array, shape (..., d)
        """
        return self.start_curvature + self.sharpening * np.asarray(time)[..., None]
