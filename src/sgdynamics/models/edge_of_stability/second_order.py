r"""Second-order regression: a residual that is quadratic in the weights.

.. math:: z = \tfrac12 \theta^\top Q\, \theta - E, \qquad L = \tfrac12 z^2, \qquad J = Q\theta, \qquad
    T_k = J^\top Q^k J.

Gradient descent :math:`\theta' = \theta - \eta z J` moves :math:`z` and the tower of :math:`T_k` by

.. math:: z' = z - \eta z T_0 + \tfrac12 \eta^2 z^2 T_1, \qquad
    T_k' = T_k - 2 \eta z T_{k+1} + \eta^2 z^2 T_{k+2},

which two distinct eigenvalues :math:`\omega_1, \omega_2` of :math:`Q` close:
:math:`T_{k+2} = (\omega_1+\omega_2) T_{k+1} - \omega_1\omega_2 T_k`. :math:`T_0` is the neural tangent kernel. The uv
network is the case :math:`\omega_1 = -\omega_2 = \sqrt\kappa`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    ArrayOf,
    Domain,
    Numeric,
    Value,
    check_arguments,
    checked,
    complain,
    integer,
    nonnegative,
    one,
    real,
)
from sgdynamics.models.edge_of_stability._choose import chosen

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class SecondOrderRegression(Shown):
    r"""One residual that is a quadratic form of the weights, in the eigenbasis of the form.

    Parameters
    ----------
    eigenvalues : array_like, shape (weights,)
        The eigenvalues of :math:`Q`, with repetitions.
    offset : float
        :math:`E`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or the eigenvalues are not 1-D.

    Examples
    --------
    >>> model = SecondOrderRegression([1.0, -0.5], offset=1.0)
    >>> model.residual([2.0, 0.0]), model.moment([2.0, 0.0], 0), model.sharpness([2.0, 0.0])
    (1.0, 4.0, 5.0)
    """

    eigenvalues: Numeric
    _: KW_ONLY
    offset: float = 0.0

    domains: ClassVar[Mapping[str, Domain]] = {
        "eigenvalues": ArrayOf((1,), "a 1-D array of finite real numbers"),
        "offset": one(real),
    }

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.domains}
        fields = check_arguments(type(self).__name__, self.domains, given)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _weights(self, weights: Numeric) -> Array:
        array = np.asarray(weights)
        if array.ndim == 0 or array.shape[-1] != self.eigenvalues.size:
            raise complain(
                type(self).__name__, "weights", f"an array of {self.eigenvalues.size} on its last axis", weights
            )
        return array

    @checked(weights=real)
    def residual(self, weights: Numeric) -> float | Array:
        r"""The residual :math:`z`.

        Parameters
        ----------
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.

        Returns
        -------
        float or array, shape (...)
        """
        made = 0.5 * (self.eigenvalues * self._weights(weights) ** 2).sum(axis=-1) - self.offset
        return float(made) if np.ndim(made) == 0 else made

    @checked(weights=real, order=integer(0))
    def moment(self, weights: Numeric, order: int) -> float | Array:
        r"""The moment :math:`T_k = J^\top Q^k J`; order 0 is the neural tangent kernel.

        Parameters
        ----------
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.
        order : int
            :math:`k \ge 0`.

        Returns
        -------
        float or array, shape (...)
        """
        made = (self.eigenvalues ** (order + 2) * self._weights(weights) ** 2).sum(axis=-1)
        return float(made) if np.ndim(made) == 0 else made

    @checked(weights=real)
    def loss(self, weights: Numeric) -> float | Array:
        r"""The loss :math:`\tfrac12 z^2`.

        Parameters
        ----------
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.

        Returns
        -------
        float or array, shape (...)
        """
        return 0.5 * self.residual(weights) ** 2

    @checked(weights=real)
    def gradient(self, weights: Numeric) -> Array:
        r"""The gradient :math:`z J`.

        Parameters
        ----------
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.

        Returns
        -------
        array, shape (..., weights)
        """
        made: Array = np.asarray(self.residual(weights))[..., None] * self.eigenvalues * self._weights(weights)
        return made

    @checked(weights=real)
    def hessian(self, weights: Numeric) -> Array:
        r"""The Hessian :math:`J J^\top + z Q`.

        Parameters
        ----------
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.

        Returns
        -------
        array, shape (..., weights, weights)
        """
        jacobian = self.eigenvalues * self._weights(weights)
        residual = np.asarray(self.residual(weights))[..., None, None]
        made: Array = jacobian[..., :, None] * jacobian[..., None, :] + residual * np.diag(self.eigenvalues)
        return made

    @checked(weights=real)
    def sharpness(self, weights: Numeric) -> float | Array:
        """Largest eigenvalue of the Hessian.

        Parameters
        ----------
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.

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
        weights : array_like, shape (..., weights)
            In the eigenbasis of :math:`Q`.
        learning_rate : Numeric
            :math:`\eta \ge 0`; a scalar, or of shape (...).

        Returns
        -------
        array, shape (..., weights)
        """
        made: Array = self._weights(weights) - np.asarray(learning_rate)[..., None] * self.gradient(weights)
        return made


@checked(residual=real, ntk=nonnegative, moment=real, learning_rate=nonnegative, first=real, second=real)
def second_order_step(
    residual: float | Value,
    ntk: float | Value,
    moment: float | Value,
    learning_rate: float | Value,
    *,
    first: float | Value,
    second: float | Value,
) -> tuple[Value, Value, Value]:
    r"""One step of gradient descent in function space, for a form with two distinct eigenvalues.

    Parameters
    ----------
    residual, ntk, moment : Numeric
        :math:`z`, :math:`T_0 \ge 0` and :math:`T_1`.
    learning_rate : Numeric
        :math:`\eta \ge 0`.
    first, second : Numeric
        The eigenvalues :math:`\omega_1` and :math:`\omega_2` of the form.

    Returns
    -------
    tuple of Numeric
        The new :math:`z`, :math:`T_0` and :math:`T_1`.

    Examples
    --------
    >>> z, ntk, moment = second_order_step(1.0, 4.0, 4.0, 0.25, first=1.0, second=-1.0)
    >>> float(z), float(ntk), float(moment)
    (0.125, 2.25, 2.25)
    """
    second_moment = (first + second) * moment - first * second * ntk
    third_moment = (first + second) * second_moment - first * second * moment
    turn = learning_rate * residual
    return (  # type: ignore[return-value]
        residual - turn * ntk + 0.5 * turn * turn * moment,
        ntk - 2 * turn * moment + turn * turn * second_moment,
        moment - 2 * turn * second_moment + turn * turn * third_moment,
    )


@checked(residual=real, ntk=nonnegative, moment=real, first=real, second=real)
def second_order_sharpness(
    residual: float | Value, ntk: float | Value, moment: float | Value, *, first: float | Value, second: float | Value
) -> Value:
    r"""Largest eigenvalue of the Hessian :math:`J J^\top + z Q`, for a form with two distinct eigenvalues.

    With the shares :math:`j_1 = (T_1 - \omega_2 T_0)/(\omega_1 - \omega_2)` and :math:`j_2 = T_0 - j_1` of
    :math:`|J|^2` in the two eigenspaces it is

    .. math:: \tfrac12\Bigl[T_0 + z(\omega_1+\omega_2)
        + \sqrt{\bigl(j_1 - j_2 + z(\omega_1-\omega_2)\bigr)^2 + 4 j_1 j_2}\Bigr].

    Parameters
    ----------
    residual, ntk, moment : Numeric
        :math:`z`, :math:`T_0 \ge 0` and :math:`T_1`, which lies between :math:`\omega_2 T_0` and
        :math:`\omega_1 T_0`.
    first, second : Numeric
        The eigenvalues :math:`\omega_1` and :math:`\omega_2` of the form, different from each other.

    Returns
    -------
    Numeric

    Raises
    ------
    ValueError
        If the eigenvalues are equal.

    Examples
    --------
    >>> float(second_order_sharpness(1.0, 4.0, 4.0, first=1.0, second=-0.5))
    5.0
    """
    if np.any(np.asarray(first == second)):
        raise complain("second_order_sharpness", "second", f"different from first = {first}", second)
    share = (moment - second * ntk) / (first - second)
    other = (first * ntk - moment) / (first - second)
    # rounding may leave a share just below 0, where no point of weight space is
    product = np.maximum(share, 0.0) * np.maximum(other, 0.0)
    trace = ntk + residual * (first + second)
    root = np.hypot(share - other + residual * (first - second), 2 * np.sqrt(product))
    # where the trace is negative the other eigenvalue is the large one, and the determinant gives this one
    inner = second * share + first * other + residual * first * second
    lower = -2 * residual * (chosen(trace < 0, inner, 0.0) / chosen(trace < 0, root - trace, 1.0))
    return cast("Value", chosen(trace < 0, lower, 0.5 * trace + 0.5 * root)[()])
