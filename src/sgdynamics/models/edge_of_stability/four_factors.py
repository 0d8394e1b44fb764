r"""The example of Zhu et al. in its four parameters, :math:`L = \tfrac12(t - xyzw)^2`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, Numeric, check_arguments, checked, complain, nonnegative, one, positive, real

Array = NDArray[np.float64]

# entry (i, j): the two factors that are neither i nor j; on the diagonal nothing
_OTHERS = np.array([[[k for k in range(4) if k not in (i, j)][:2] for j in range(4)] for i in range(4)])


@dataclass(frozen=True, eq=False, repr=False)
class FourFactors(Shown):
    r"""The loss :math:`\tfrac12(t - xyzw)^2`.

    From a start with x = z and y = w gradient descent keeps that symmetry and is gradient descent on the ``quartic``
    :class:`ProductLoss` of target :math:`\sqrt t`, at the same learning rate.

    Parameters
    ----------
    target : float
        :math:`t > 0`.

    Raises
    ------
    ValueError, TypeError
        If the target is outside its range.

    Examples
    --------
    >>> model = FourFactors()
    >>> round(model.sharpness([2.0, 0.5, 2.0, 0.5]), 12)
    8.5
    """

    _: KW_ONLY
    target: float = 1.0

    domains: ClassVar[Mapping[str, Domain]] = {"target": one(positive)}

    def __post_init__(self) -> None:
        target = check_arguments(type(self).__name__, self.domains, {"target": self.target})["target"]
        object.__setattr__(self, "target", target)

    def _weights(self, weights: Numeric) -> Array:
        array = np.asarray(weights)
        if array.ndim == 0 or array.shape[-1] != 4:
            raise complain(type(self).__name__, "weights", "an array of 4 on its last axis", weights)
        return array

    def _cofactors(self, weights: Array) -> Array:
        """Products of the three other factors, without dividing by a weight that may be 0."""
        rest = np.broadcast_to(weights[..., None, :], (*weights.shape, 4)).copy()
        rest[..., range(4), range(4)] = 1.0
        made: Array = rest.prod(axis=-1)
        return made

    @checked(weights=real)
    def loss(self, weights: Numeric) -> float | Array:
        """The loss.

        Parameters
        ----------
        weights : array_like, shape (..., 4)
            x, y, z, w.

        Returns
        -------
        float or array, shape (...)
        """
        return cast("float | Array", 0.5 * (self.target - self._weights(weights).prod(axis=-1)) ** 2)

    @checked(weights=real)
    def gradient(self, weights: Numeric) -> Array:
        """The gradient.

        Parameters
        ----------
        weights : array_like, shape (..., 4)
            x, y, z, w.

        Returns
        -------
        array, shape (..., 4)
        """
        array = self._weights(weights)
        made: Array = (array.prod(axis=-1, keepdims=True) - self.target) * self._cofactors(array)
        return made

    @checked(weights=real)
    def hessian(self, weights: Numeric) -> Array:
        """The Hessian.

        Parameters
        ----------
        weights : array_like, shape (..., 4)
            x, y, z, w.

        Returns
        -------
        array, shape (..., 4, 4)
        """
        array = self._weights(weights)
        slopes = self._cofactors(array)
        pairs = array[..., _OTHERS[..., 0]] * array[..., _OTHERS[..., 1]] * (1 - np.eye(4))
        residual = array.prod(axis=-1) - self.target
        made: Array = slopes[..., :, None] * slopes[..., None, :] + residual[..., None, None] * pairs
        return made

    @checked(weights=real)
    def sharpness(self, weights: Numeric) -> float | Array:
        """Largest eigenvalue of the Hessian.

        Parameters
        ----------
        weights : array_like, shape (..., 4)
            x, y, z, w.

        Returns
        -------
        float or array, shape (...)
        """
        top = np.linalg.eigvalsh(self.hessian(weights))[..., -1]
        return cast("float | Array", float(top) if np.ndim(top) == 0 else top)

    @checked(weights=real, learning_rate=nonnegative)
    def step(self, weights: Numeric, learning_rate: Numeric) -> Array:
        r"""One step of gradient descent.

        Parameters
        ----------
        weights : array_like, shape (..., 4)
            x, y, z, w.
        learning_rate : Numeric
            :math:`\eta \ge 0`; a scalar, or of shape (...).

        Returns
        -------
        array, shape (..., 4)
        """
        made: Array = self._weights(weights) - np.asarray(learning_rate)[..., None] * self.gradient(weights)
        return made
