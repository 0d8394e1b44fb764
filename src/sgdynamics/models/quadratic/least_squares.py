r"""Linear regression on fresh Gaussian features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numeric,
    check_arguments,
    checked,
    complain,
    integer,
    nonnegative,
    one,
    positive,
    real,
)
from sgdynamics.models.quadratic._points import of_points, one_per_mode

__all__ = ["GaussianLeastSquares"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class GaussianLeastSquares(Shown):
    r"""Least squares on examples that are never seen twice.

    Features :math:`\phi \sim N(0, \operatorname{diag} \lambda)`, labels :math:`w^* \cdot \phi` plus independent noise
    of variance :math:`\sigma^2`. With the error :math:`e = w - w^*` a mini-batch of :math:`S` fresh examples has

    .. math:: L_B(e) = \frac{1}{2S} \sum_{s=1}^S (e \cdot \phi_s - \nu_s)^2, \qquad
        e \leftarrow e - \frac{\eta}{S} \sum_s \phi_s (e \cdot \phi_s - \nu_s).

    The Hessian of a batch is random and of rank S; its mean is :math:`\operatorname{diag} \lambda`.

    Parameters
    ----------
    feature_variance : float or array, shape (d,)
        :math:`\lambda > 0`, the curvatures of the population loss.
    label_noise : float
        Variance :math:`\sigma^2 \ge 0` of the label noise :math:`\nu`.
    displacement : float or array, shape (d,)
        Start :math:`e_0`.
    batch_size : int
        :math:`S \ge 1`.

    ``feature_variance`` and ``displacement`` are kept as float64 arrays (d,).

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range or shapes disagree.

    Examples
    --------
    >>> model = GaussianLeastSquares([1.0, 0.5], 0.1, displacement=1.0, batch_size=2)
    >>> model.floor, model.excess_risk(model.start)
    (0.05, 0.75)
    """

    feature_variance: Any
    label_noise: float
    _: KW_ONLY
    displacement: Any = 0.0
    batch_size: int = 1

    domains: ClassVar[Mapping[str, Domain]] = {
        "feature_variance": positive,
        "label_noise": one(nonnegative),
        "displacement": real,
        "batch_size": integer(1),
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        for name in ("feature_variance", "displacement"):
            if np.ndim(fields[name]) > 1:
                raise ValueError(
                    f"{owner}: {name} must be a scalar or have one value per mode, got shape {np.shape(fields[name])}"
                )
        variance = np.atleast_1d(np.asarray(fields["feature_variance"], dtype=np.float64))
        displacement = fields["displacement"]
        if variance.size == 1:
            variance = np.broadcast_to(variance, np.shape(displacement) or (1,))
        fields["feature_variance"] = variance
        fields["displacement"] = one_per_mode(owner, "displacement", displacement, variance.size)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def modes(self) -> int:
        """Number of features, d."""
        return int(self.feature_variance.size)

    @property
    def start(self) -> Array:
        """The error at step 0, the displacement."""
        start: Array = self.displacement
        return start

    @property
    def floor(self) -> float:
        r"""Expected batch loss at the minimiser, :math:`\sigma^2/2`."""
        return 0.5 * self.label_noise

    @checked(error=real)
    def excess_risk(self, error: Numeric) -> Numeric:
        r"""Population loss above its minimum, :math:`\tfrac12 \sum_i \lambda_i e_i^2`.

        Parameters
        ----------
        error : array, shape (..., d), or a DataArray with the dim ``mode``
            Distance from the minimiser.

        Returns
        -------
        Numeric, shape (...)
        """
        return of_points(
            type(self).__name__,
            lambda point: 0.5 * (self.feature_variance * point**2).sum(axis=-1),
            error,
            self.modes,
        )

    def _residuals(self, error: Numeric, features: Numeric, noise: Numeric) -> tuple[Array, Array]:
        """Features (..., S, d), and prediction minus label of every example, (..., S)."""
        owner = type(self).__name__
        drawn = np.asarray(features, dtype=np.float64)
        text = f"of shape (..., examples, modes) with {self.modes} modes"
        if drawn.ndim < 2:
            raise complain(owner, "features", text, drawn.tolist())
        if drawn.shape[-1] != self.modes:
            raise ValueError(f"{owner}: features must be {text}, got shape {drawn.shape}")
        point = one_per_mode(owner, "error", error, self.modes)
        return drawn, np.einsum("...i,...si->...s", point, drawn) - np.asarray(noise, dtype=np.float64)

    @checked(error=real, features=real, noise=real)
    def batch_loss(self, error: Numeric, features: Numeric, noise: Numeric = 0.0) -> float | Array:
        r"""Loss of a mini-batch, :math:`\tfrac{1}{2S} \sum_s (e \cdot \phi_s - \nu_s)^2`.

        Parameters
        ----------
        error : array, shape (..., d)
            Distance from the minimiser.
        features : array, shape (..., S, d)
            :math:`\phi_s`.
        noise : float or array, shape (..., S)
            Label noise :math:`\nu_s`.

        Returns
        -------
        float or array, shape (...)
        """
        _, residuals = self._residuals(error, features, noise)
        loss = 0.5 * (residuals**2).mean(axis=-1)
        return float(loss) if np.ndim(loss) == 0 else loss

    @checked(error=real, features=real, noise=real)
    def batch_gradient(self, error: Numeric, features: Numeric, noise: Numeric = 0.0) -> Array:
        r"""Gradient of the loss of a mini-batch, :math:`\tfrac1S \sum_s \phi_s (e \cdot \phi_s - \nu_s)`.

        Parameters
        ----------
        error : array, shape (..., d)
            Distance from the minimiser.
        features : array, shape (..., S, d)
            :math:`\phi_s`.
        noise : float or array, shape (..., S)
            Label noise :math:`\nu_s`.

        Returns
        -------
        array, shape (..., d)
        """
        drawn, residuals = self._residuals(error, features, noise)
        gradient: Array = (drawn * residuals[..., None]).mean(axis=-2)
        return gradient

    @checked(error=real, features=real, learning_rate=nonnegative, noise=real)
    def step(self, error: Numeric, features: Numeric, learning_rate: Numeric, noise: Numeric = 0.0) -> Array:
        r"""One step of SGD, :math:`e - \eta \nabla L_B(e)`.

        Parameters
        ----------
        error : array, shape (..., d)
            Distance from the minimiser.
        features : array, shape (..., S, d)
            :math:`\phi_s`.
        learning_rate : float or array that broadcasts against (..., d)
            :math:`\eta`.
        noise : float or array, shape (..., S)
            Label noise :math:`\nu_s`.

        Returns
        -------
        array, shape (..., d)

        Examples
        --------
        >>> GaussianLeastSquares([1.0, 1.0], 0.0).step([1.0, 1.0], [[1.0, 0.0]], 0.5)
        array([0.5, 1. ])
        """
        gradient = self.batch_gradient(error, features, noise)
        stepped: Array = one_per_mode(type(self).__name__, "error", error, self.modes) - learning_rate * gradient
        return stepped
