r"""One sharp direction that sharpens until SGD is unstable along it, and is pushed back by the instability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sgdynamics.domains import Numeric, checked, real
from sgdynamics.models.break_even._stabilizing import Array, Stabilizing, plain

__all__ = ["SelfStabilizingMode"]


@dataclass(frozen=True, eq=False, repr=False)
class SelfStabilizingMode(Stabilizing):
    r"""Examples with losses :math:`\ell_i(x, y) = \tfrac12 h_i y x^2 - b_i x - \frac{a}{\beta} y`.

    :math:`x` is the weight along the sharp direction and :math:`y` the curvature along it, itself
    :math:`\sqrt\beta` times a weight :math:`v`. A step of SGD on a batch is

    .. math:: x' = x - \eta (h_B y x - b_B), \qquad y' = y + \eta \bigl(a - \tfrac12 \beta h_B x^2\bigr).

    Until SGD becomes unstable the curvature grows at the rate :math:`a` per unit of :math:`\eta t`. With
    :math:`h_i = 1, b_i = 0` this is the self-stabilisation map of full-batch descent.

    Two floors are part of the map. Without noise :math:`x` shrinks until it underflows, and :math:`y` then passes
    every edge: :math:`|x|` is kept at or above ``oscillation_floor``. The loss has no lower bound in :math:`y`: after a
    rare large kick :math:`y` would turn negative and the run diverge, so :math:`y` is kept at or above
    ``curvature_floor``; a mode there is dead for a long time (:meth:`dead`).

    Parameters
    ----------
    relative_curvatures : array, shape (n,)
        :math:`h_i`, of mean 1.
    forces : float or array, shape (n,)
        :math:`b_i`, of mean 0.
    sharpening : float
        :math:`a \ge 0`.
    restoring : float
        :math:`\beta > 0`.
    batch_size : int
        :math:`S \ge 1`, the same in every step.
    sampling : {"without_replacement", "replacement"}
        A fresh simple random sample of different examples in every step, or independent draws.
    start, start_curvature : float
        :math:`x_0`, and :math:`y_0 > 0`.
    oscillation_floor, curvature_floor : float
        Floors of :math:`|x|` and of :math:`y`, >= 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the curvatures do not have mean 1 or the forces not mean 0.

    Examples
    --------
    >>> mode = SelfStabilizingMode([0.5, 1.5], [-1.0, 1.0], sharpening=0.01)
    >>> mode.relative_variance, mode.force_variance, mode.batch_factor
    (0.25, 1.0, 1.0)
    >>> x, curvature = mode.step(0.1, 2.0, 0.1, drawn=[1])
    >>> round(x, 12), round(curvature, 12)
    (0.17, 2.00025)
    """

    _axes: ClassVar[int] = 1

    @checked(x=real, curvature=real)
    def loss(self, x: Numeric, curvature: Numeric) -> Any:
        r"""The mean loss, :math:`\tfrac12 y x^2 - \frac{a}{\beta} y`; it has no lower bound.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`y`.

        Returns
        -------
        Numeric
        """
        return plain(curvature * (0.5 * x * x - self.sharpening / self.restoring))

    @checked(x=real, curvature=real)
    def example_losses(self, x: Numeric, curvature: Numeric) -> Array:
        r"""The losses :math:`\ell_i` of the examples.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`y`.

        Returns
        -------
        array, shape (..., n)
        """
        x, curvature = np.asarray(x)[..., None], np.asarray(curvature)[..., None]
        bowl = 0.5 * self.relative_curvatures * curvature * x * x
        made: Array = bowl - self.forces * x - self.sharpening / self.restoring * curvature
        return made

    @checked(x=real, curvature=real)
    def hessian(self, x: Numeric, curvature: Numeric) -> Array:
        r"""Hessian of the mean loss in :math:`(x, v)`: :math:`y` and 0 on the diagonal, :math:`\sqrt\beta x` beside it.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`y`.

        Returns
        -------
        array, shape (..., 2, 2)
        """
        beside = self.restoring**0.5 * x + 0 * curvature
        first = curvature + 0 * x
        rows = [np.stack([first, beside], axis=-1), np.stack([beside, 0 * first], axis=-1)]
        return np.stack(rows, axis=-2)

    @checked(x=real, curvature=real)
    def sharpness(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Largest eigenvalue of the Hessian, :math:`\tfrac12(y + \sqrt{y^2 + 4\beta x^2})`; :math:`y` at x = 0.

        Above :math:`y` by about :math:`\beta x^2/y`, which is small where the curvature is at its edge.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`y`.

        Returns
        -------
        Numeric
        """
        return plain(self._own_sharpness(x, curvature))

    @checked(x=real, curvature=real)
    def gradient_variance(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Trace of the covariance of per-example gradients in :math:`(x, v)`, divisor n.

        :math:`K_{11}` of :meth:`projection_variance` plus :math:`\tfrac14 \beta \kappa^2 x^4`.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`y`.

        Returns
        -------
        Numeric
        """
        return plain(self._own_gradient_variance(x, curvature))
