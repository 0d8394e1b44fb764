r"""The self-stabilisation map of Damian, Nichani and Lee, and the cubic loss whose gradient descent it is.

Along the top eigenvector the weight :math:`x` oscillates; the curvature :math:`S` along it grows at rate
:math:`\alpha` (progressive sharpening) and is pushed back by the oscillation,

.. math:: x' = (1 - \eta S)\,x, \qquad S' = S + \eta\,(\alpha - \tfrac12 \beta x^2).

With the excess :math:`y = S - 2/\eta` the first line reads :math:`x' = -(1+\eta y)\,x`. A loss that is not symmetric
along the eigenvector adds :math:`-\tfrac32\eta\zeta x^2` to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, Numeric, Value, check_arguments, checked, nonnegative, one, positive, real


@dataclass(frozen=True, eq=False, repr=False)
class SelfStabilization(Shown):
    r"""Gradient descent on :math:`\tfrac12 \sqrt\beta\, v x^2 - \frac{\alpha}{\sqrt\beta} v + \tfrac12\zeta x^3`.

    The curvature along :math:`x` is :math:`S = \sqrt\beta\, v`; points are given as :math:`(x, S)`.

    Parameters
    ----------
    sharpening : float
        :math:`\alpha = -\nabla L \cdot \nabla S > 0`, how fast gradient flow sharpens.
    restoring : float
        :math:`\beta = |\nabla S_\perp|^2 > 0`, how strongly the oscillation pushes the curvature back.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    On the cycle of amplitude :math:`\sqrt{2\alpha/\beta}` the weight flips and the curvature stays:

    >>> model = SelfStabilization(sharpening=2.0, restoring=1.0)
    >>> x, curvature = model.step(2.0, 200.0, learning_rate=0.01)
    >>> float(x), float(curvature)
    (-2.0, 200.0)
    """

    sharpening: float = 1.0
    restoring: float = 1.0
    asymmetry: float = 0.0

    domains: ClassVar[Mapping[str, Domain]] = {
        "sharpening": one(positive),
        "restoring": one(positive),
        "asymmetry": one(real),
    }

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.domains}
        for name, value in check_arguments(type(self).__name__, self.domains, given).items():
            object.__setattr__(self, name, value)

    @checked(x=real, curvature=real)
    def loss(self, x: float | Value, curvature: float | Value) -> Value:
        r"""The loss :math:`S (x^2/2 - \alpha/\beta) + \tfrac12\zeta x^3`; it has no lower bound.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`S`, the curvature along it.

        Returns
        -------
        Numeric
        """
        skew = self.asymmetry * x * x * x / 2
        return curvature * (x * x / 2 - self.sharpening / self.restoring) + skew  # type: ignore[return-value]

    @checked(x=real, curvature=real)
    def gradient(self, x: float | Value, curvature: float | Value) -> tuple[Value, Value]:
        r"""The gradient in :math:`(x, v)`.

        .. math:: S x + \tfrac32\zeta x^2, \qquad \tfrac12\sqrt\beta x^2 - \alpha/\sqrt\beta

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`S`, the curvature along it.

        Returns
        -------
        tuple of Numeric
        """
        root = self.restoring**0.5
        along = curvature * x + 1.5 * self.asymmetry * x * x
        across = root * x * x / 2 - self.sharpening / root + 0 * curvature
        return along, across  # type: ignore[return-value]

    @checked(x=real, curvature=real)
    def hessian(self, x: Numeric, curvature: Numeric) -> NDArray[np.float64]:
        r"""The Hessian in :math:`(x, v)`: :math:`S + 3\zeta x` and 0 on the diagonal, :math:`\sqrt\beta x` beside it.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`S`, the curvature along it.

        Returns
        -------
        array, shape (..., 2, 2)
        """
        beside = self.restoring**0.5 * x + 0 * curvature
        first = curvature + 3 * self.asymmetry * x
        rows = [np.stack([first, beside], axis=-1), np.stack([beside, 0 * first], axis=-1)]
        return np.stack(rows, axis=-2)

    @checked(x=real, curvature=real)
    def sharpness(self, x: float | Value, curvature: float | Value) -> Value:
        r"""Largest eigenvalue of the Hessian, :math:`\tfrac12(S + \sqrt{S^2 + 4\beta x^2})`; :math:`S` on the axis.

        With an asymmetry :math:`S + 3\zeta x` takes the place of :math:`S`.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`S`, the curvature along it.

        Returns
        -------
        Numeric
        """
        along: Numeric = curvature + 3 * self.asymmetry * x
        beside: Numeric = self.restoring**0.5 * x
        # the product of both eigenvalues is -beta x^2, so that a negative curvature does not cancel the root
        larger = 0.5 * np.hypot(along, 2 * beside) + 0.5 * abs(along)
        return cast("Value", np.maximum(along, 0.0) + beside * (beside / (larger + (larger == 0))))

    @checked(x=real, curvature=real, learning_rate=nonnegative)
    def step(self, x: float | Value, curvature: float | Value, learning_rate: float | Value) -> tuple[Value, Value]:
        r"""One step of gradient descent.

        Parameters
        ----------
        x : Numeric
            The oscillating weight.
        curvature : Numeric
            :math:`S`, the curvature along it.
        learning_rate : Numeric
            :math:`\eta \ge 0`.

        Returns
        -------
        tuple of Numeric
            The new :math:`x` and :math:`S`.
        """
        return (  # type: ignore[return-value]
            (1 - learning_rate * curvature) * x - 1.5 * learning_rate * self.asymmetry * x * x,
            curvature + learning_rate * (self.sharpening - self.restoring * x * x / 2),
        )
