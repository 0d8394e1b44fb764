r"""Losses of a product of two weights, :math:`L(x, y) = \ell(xy)`.

Gradient descent is :math:`x' = x - \eta y\,\ell'(xy)`, :math:`y' = y - \eta x\,\ell'(xy)`. Whatever :math:`\ell`
is, the imbalance obeys :math:`(y^2-x^2)' = (y^2-x^2)(1 - \eta^2 \ell'(xy)^2)` exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numeric,
    Value,
    check_arguments,
    checked,
    choice,
    complain,
    nonnegative,
    one,
    real,
)
from sgdynamics.models.edge_of_stability._choose import chosen

OUTER = ("square", "log_cosh", "square_root", "quartic")


def _log_cosh(z: Numeric) -> Numeric:
    # near 0 the first form, far out the second: neither cancels or overflows where it is used
    near = np.log1p(2 * np.sinh(np.clip(z, -1, 1) / 2) ** 2)
    far = abs(z) + np.log1p(np.exp(-2 * abs(z))) - np.log(2.0)
    inside = abs(z) < 1
    return inside * near + (1 - inside) * far


def _outer(kind: str, target: float, z: Numeric) -> tuple[Numeric, Numeric, Numeric]:
    """The outer function and its first two derivatives at a product z."""
    if kind == "quartic":
        size = abs(z)  # of two factors only the first can be 0, and it is taken before the other one overflows
        root = math.sqrt(3) * size
        return (
            ((size - target) / 2 * (size + target)) ** 2,
            z * (size - target) * (size + target),
            (root - target) * (root + target),
        )
    r = z - target
    if kind == "square":
        return r * r / 2, r, np.ones_like(r)
    if kind == "log_cosh":
        e = np.exp(-2 * abs(r))
        return _log_cosh(r), np.tanh(r), 4 * e / (1 + e) ** 2
    # near 0 the first form, far out the second: neither cancels or overflows where it is used
    small, finite = np.clip(r, -1, 1), np.clip(r, -1e300, 1e300)
    root, inside = np.hypot(1.0, r), abs(r) < 1
    near = small * (small / (1 + np.hypot(1.0, small)))
    return inside * near + (1 - inside) * (root - 1), finite / np.hypot(1.0, finite), root**-3.0


@dataclass(frozen=True, eq=False, repr=False)
class ProductLoss(Shown):
    r"""The loss :math:`\ell(xy)`, zero at its minimum :math:`xy = t`.

    ===============  ================================  ======================================================
    outer            :math:`\ell(z)`                   gradient descent on it is
    ===============  ================================  ======================================================
    ``square``       :math:`\tfrac12 (z-t)^2`          the uv network of width 1
    ``log_cosh``     :math:`\log\cosh(z-t)`            a threshold neuron (Ahn et al., :math:`t = 0`)
    ``square_root``  :math:`\sqrt{1+(z-t)^2} - 1`      another one
    ``quartic``      :math:`\tfrac14 (z^2-t^2)^2`      that on :math:`\tfrac12(t^2-xyzw)^2` with x = z, y = w
    ===============  ================================  ======================================================

    The quartic is half of :math:`\tfrac12(t^2 - x^2y^2)^2`. Gradient descent on that two-variable loss moves twice as
    far as the four-parameter model does, so the two agree only if one of the learning rates is halved.

    Parameters
    ----------
    outer : {"square", "log_cosh", "square_root", "quartic"}
    target : float
        :math:`t`; > 0 for the quartic, which has another minimum at :math:`-t`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    Ahn et al.: on the axis the sharpness is :math:`y^2`.

    >>> neuron = ProductLoss("log_cosh")
    >>> float(neuron.sharpness(0.0, 3.0))
    9.0

    Zhu et al.: at the minima :math:`xy = 1` it is :math:`2(x^2+y^2)`.

    >>> float(ProductLoss("quartic", target=1.0).sharpness(2.0, 0.5))
    8.5
    """

    outer: Literal["square", "log_cosh", "square_root", "quartic"]
    _: KW_ONLY
    target: float = 0.0

    domains: ClassVar[Mapping[str, Domain]] = {"outer": choice(*OUTER), "target": one(real)}

    def __post_init__(self) -> None:
        fields = check_arguments(type(self).__name__, self.domains, {"outer": self.outer, "target": self.target})
        if self.outer == "quartic" and fields["target"] <= 0:
            raise complain(type(self).__name__, "target", "a finite number > 0 for the quartic", self.target)
        object.__setattr__(self, "target", fields["target"])

    @property
    def derivatives(self) -> tuple[float, float, float]:
        r"""Second, third and fourth derivative of :math:`\ell` at its minimum :math:`z = t`."""
        t = self.target
        return {
            "square": (1.0, 0.0, 0.0),
            "log_cosh": (1.0, 0.0, -2.0),
            "square_root": (1.0, 0.0, -3.0),
            "quartic": (2 * t * t, 6 * t, 6.0),
        }[self.outer]

    def _at(self, x: Numeric, y: Numeric) -> tuple[Numeric, Numeric, Numeric]:
        with np.errstate(over="ignore"):  # infinite is an answer
            return _outer(self.outer, self.target, x * y)

    @checked(x=real, y=real)
    def loss(self, x: float | Value, y: float | Value) -> Value:
        r"""The loss :math:`\ell(xy)`.

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.

        Returns
        -------
        Numeric
        """
        return cast("Value", self._at(x, y)[0])

    @checked(x=real, y=real)
    def slope(self, x: float | Value, y: float | Value) -> Value:
        r"""The first derivative :math:`\ell'(xy)` of the outer function.

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.

        Returns
        -------
        Numeric
        """
        return cast("Value", self._at(x, y)[1])

    @checked(x=real, y=real)
    def gradient(self, x: float | Value, y: float | Value) -> tuple[Value, Value]:
        r"""The gradient :math:`(y\,\ell',\ x\,\ell')`.

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.

        Returns
        -------
        tuple of Numeric
        """
        slope = self._at(x, y)[1]
        return y * slope, x * slope

    @checked(x=real, y=real)
    def hessian(self, x: Numeric, y: Numeric) -> NDArray[np.float64]:
        r"""The Hessian, with diagonal :math:`(\ell'' y^2,\ \ell'' x^2)` and :math:`\ell' + \ell'' xy` beside it.

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.

        Returns
        -------
        array, shape (..., 2, 2)
        """
        _, slope, bend = self._at(x, y)
        beside = slope + bend * x * y
        rows = [np.stack([bend * y * y, beside], axis=-1), np.stack([beside, bend * x * x], axis=-1)]
        return np.stack(rows, axis=-2)

    @checked(x=real, y=real)
    def sharpness(self, x: float | Value, y: float | Value) -> Value:
        r"""Largest eigenvalue of the Hessian.

        .. math:: \tfrac12\Bigl[\ell''(x^2+y^2) + \sqrt{{\ell''}^2 (y^2-x^2)^2 + 4(\ell' + \ell'' xy)^2}\Bigr]

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.

        Returns
        -------
        Numeric
        """
        _, slope, bend = self._at(x, y)
        trace = bend * x * x + bend * y * y
        twist = slope + 2 * (bend * x * y)  # times the slope, what the determinant is short of 0
        root = np.hypot(bend * (y - x) * (y + x), slope + twist)
        # where the trace is negative the other eigenvalue is the large one, and the determinant gives this one
        lower = 2 * slope * (chosen(trace < 0, twist, 0.0) / chosen(trace < 0, root - trace, 1.0))
        return cast("Value", chosen(trace < 0, lower, 0.5 * trace + 0.5 * root)[()])

    @checked(x=real, y=real)
    def imbalance(self, x: float | Value, y: float | Value) -> Value:
        r"""The imbalance :math:`y^2 - x^2`, which gradient flow conserves.

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.

        Returns
        -------
        Numeric
        """
        return (y - x) * (y + x)  # type: ignore[return-value]

    @checked(x=real, y=real, learning_rate=nonnegative)
    def step(self, x: float | Value, y: float | Value, learning_rate: float | Value) -> tuple[Value, Value]:
        r"""One step of gradient descent.

        Parameters
        ----------
        x, y : Numeric
            The two weights; they broadcast.
        learning_rate : Numeric
            :math:`\eta \ge 0`.

        Returns
        -------
        tuple of Numeric
        """
        slope = self._at(x, y)[1]
        return x - learning_rate * y * slope, y - learning_rate * x * slope
