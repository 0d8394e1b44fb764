r"""Mini-batch quadratic whose curvature and center noise need not commute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, Numeric, check_arguments, checked, integer, nonnegative, real
from sgdynamics.models.quadratic._matrices import Semidefinite, matrix_vector, square_matrix
from sgdynamics.models.quadratic._points import half_square, one_per_mode, one_start

__all__ = ["FullQuadratic"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class FullQuadratic(Shown):
    r"""A mini-batch quadratic with a full Hessian and a full covariance of the batch centers.

    The minimiser of the population loss is the origin: iterates are errors :math:`e`, centers deviations :math:`\xi_t`.

    .. math:: L_t(e) = \tfrac12 (e - \xi_t)^\top H (e - \xi_t), \qquad \operatorname{Cov} \xi_t = C/B, \qquad
        e_t = e_{t-1} - \eta_t H (e_{t-1} - \xi_t).

    The gradient noise has covariance :math:`H C H/B`. :math:`H` and :math:`C` need not commute, so that the noise may
    correlate directions of different curvature. The Hessian may be singular: a direction without curvature never moves,
    feels no noise and carries no risk.

    Parameters
    ----------
    hessian : array, shape (d, d)
        :math:`H`, symmetric positive semidefinite and not 0.
    center_covariance : float or array, shape (d, d)
        :math:`C`, symmetric positive semidefinite, at batch size 1; a number stands for that multiple of the identity.
    displacement : float or array, shape (d,)
        Start :math:`e_0`, measured from the minimiser.
    batch_size : int
        :math:`B \ge 1`.

    All fields are kept as float64 arrays of full shape. The dim ``mode`` of a result numbers the coordinates in which
    the matrices are given.

    Raises
    ------
    ValueError, TypeError
        If a matrix is not symmetric or has a negative eigenvalue beyond rounding (relative 1e-12), which is named, or
        if a value is outside its range or shapes disagree.

    Examples
    --------
    >>> model = FullQuadratic([[1.0, 0.5], [0.5, 2.0]], [[2.0, 1.0], [1.0, 1.0]], displacement=1.0, batch_size=4)
    >>> model.floor, model.excess_risk(model.start)
    (0.625, 2.0)
    """

    hessian: Any
    center_covariance: Any
    _: KW_ONLY
    displacement: Any = 0.0
    batch_size: int = 1

    domains: ClassVar[Mapping[str, Domain]] = {
        "hessian": Semidefinite("a symmetric positive semidefinite matrix of shape (d, d), not 0", (2,)),
        "center_covariance": Semidefinite("a number >= 0 or a symmetric positive semidefinite matrix (d, d)", (0, 2)),
        "displacement": real,
        "batch_size": integer(1),
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        size = len(fields["hessian"])
        if not fields["hessian"].any():
            raise ValueError(f"{owner}: hessian must be {self.domains['hessian'].text}, got zeros")
        fields["center_covariance"] = square_matrix(owner, "center_covariance", fields["center_covariance"], size)
        fields["displacement"] = one_start(owner, fields["displacement"], size)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def modes(self) -> int:
        """Number of coordinates, d."""
        return len(self.hessian)

    @property
    def batch_center_covariance(self) -> Array:
        r"""Covariance :math:`C/B` of the center of one mini-batch."""
        covariance: Array = self.center_covariance / self.batch_size
        return covariance

    @property
    def start(self) -> Array:
        """The error at step 0, the displacement."""
        start: Array = self.displacement
        return start

    @property
    def floor(self) -> float:
        r"""The irreducible part :math:`\tfrac12 \operatorname{tr}(H C)/B` of the expected mini-batch loss."""
        return float(0.5 * (self.hessian * self.batch_center_covariance).sum())

    def to_eigenbasis(self) -> tuple[FullQuadratic, Array]:
        r"""The same model in the eigenbasis of its Hessian.

        Returns
        -------
        model : FullQuadratic
            With a diagonal Hessian, curvatures increasing.
        basis : array, shape (d, d)
            Orthonormal eigenvectors as columns: a point :math:`e` has the new coordinates ``basis.T @ e``.
        """
        with one_blas_thread():
            curvature, basis = np.linalg.eigh(self.hessian)
            covariance = basis.T @ self.center_covariance @ basis
            displacement = basis.T @ self.displacement
        rotated = FullQuadratic(
            np.diag(np.maximum(curvature, 0.0)),
            (covariance + covariance.T) / 2,
            displacement=displacement,
            batch_size=self.batch_size,
        )
        return rotated, basis

    def _point(self, name: str, value: Any) -> Array:
        return one_per_mode(type(self).__name__, name, value, self.modes)

    @checked(error=real)
    def excess_risk(self, error: Numeric) -> Numeric:
        r"""Population loss above its minimum, :math:`\tfrac12 e^\top H e`.

        Parameters
        ----------
        error : array, shape (..., d), or a DataArray with the dim ``mode``
            Distance from the minimiser.

        Returns
        -------
        Numeric, shape (...)
        """
        return half_square(type(self).__name__, self.hessian, error)

    @checked(error=real, center=real)
    def batch_loss(self, error: Numeric, center: Numeric) -> float | Array:
        r"""Loss of the mini-batch with the given center, :math:`\tfrac12 (e - \xi)^\top H (e - \xi)`.

        Parameters
        ----------
        error, center : array, shape (..., d)
            Iterate and batch center, both measured from the minimiser.

        Returns
        -------
        float or array, shape (...)
        """
        return cast("float | Array", self.excess_risk(self._point("error", error) - self._point("center", center)))

    @checked(error=real, center=real)
    def batch_gradient(self, error: Numeric, center: Numeric) -> Array:
        r"""Gradient of the mini-batch loss, :math:`H (e - \xi)`.

        Parameters
        ----------
        error, center : array, shape (..., d)
            Iterate and batch center, both measured from the minimiser.

        Returns
        -------
        array, shape (..., d)
        """
        return matrix_vector(self.hessian, self._point("error", error) - self._point("center", center))

    @checked(error=real, center=real, learning_rate=nonnegative)
    def step(self, error: Numeric, center: Numeric, learning_rate: Numeric) -> Array:
        r"""One step of SGD, :math:`e - \eta H (e - \xi)`.

        Parameters
        ----------
        error, center : array, shape (..., d)
            Iterate and batch center, both measured from the minimiser.
        learning_rate : float or array that broadcasts against (..., d)
            :math:`\eta`.

        Returns
        -------
        array, shape (..., d)
        """
        stepped: Array = self._point("error", error) - learning_rate * self.batch_gradient(error, center)
        return stepped
