r"""Update rules: what one step does with a gradient.

A rule is any callable ``update(weights, gradient, rate, state) -> weights, state`` on flat vectors; ``state`` is None
at the first step and whatever the rule returned afterwards. Both vectors belong to the rule: it may edit them, return
them and keep them, for the trainer makes a new gradient at every step and does not write into the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import checked, flag, one, unit_interval
from sgdynamics.simulate.trainer.elementwise import descend, roll

__all__ = ["Update", "momentum", "sgd"]

Array = NDArray[Any]
Update: TypeAlias = Callable[[Array, Array, float, Any], tuple[Array, Any]]


class InPlace(ABC):
    """A rule that keeps neither vector, so that the trainer can use the same two at every step."""

    @abstractmethod
    def overwrite(self, weights: Array, gradient: Array, rate: float, state: Any) -> Any:
        """Update weights and state in place, using up the gradient; the state."""

    def __call__(self, weights: Array, gradient: Array, rate: float, state: Any) -> tuple[Array, Any]:
        """The same on copies."""
        dtype = np.result_type(weights, gradient, rate)
        moved, spent = np.array(weights, dtype), np.array(gradient, dtype)
        return moved, self.overwrite(moved, spent, rate, None if state is None else np.array(state, dtype))


class _Sgd(InPlace):
    def overwrite(self, weights: Array, gradient: Array, rate: float, state: Any) -> Any:
        descend(weights, gradient, rate)


@dataclass(frozen=True)
class _Momentum(InPlace):
    beta: float
    nesterov: bool

    def overwrite(self, weights: Array, gradient: Array, rate: float, state: Any) -> Any:
        velocity = np.zeros_like(gradient) if state is None else state
        if self.nesterov:
            np.multiply(velocity, self.beta, velocity)
            np.add(velocity, gradient, velocity)
            gradient += self.beta * velocity
            descend(weights, gradient, rate)
        else:
            roll(velocity, weights, gradient, self.beta, rate)
        return velocity


@checked()
def sgd() -> Update:
    r"""Plain gradient descent, :math:`w \leftarrow w - \eta g`.

    Returns
    -------
    callable
        ``update(weights, gradient, rate, state) -> weights, state``.

    Examples
    --------
    >>> import numpy as np
    >>> sgd()(np.array([1.0]), np.array([2.0]), 0.25, None)
    (array([0.5]), None)
    """
    return _Sgd()


@checked(beta=one(unit_interval), nesterov=flag)
def momentum(beta: float, nesterov: bool = False) -> Update:
    r"""Momentum: :math:`u \leftarrow \beta u + g`, then :math:`w \leftarrow w - \eta u`, or :math:`w \leftarrow w -
    \eta(g + \beta u)`.

    With Nesterov's form the weights are the look-ahead points :math:`w_t = x_t + \beta(x_t - x_{t-1})`, where gradients
    are taken. At a constant rate on a quadratic of curvature :math:`h`, errors of :math:`x` and of :math:`w` both
    follow

    .. math:: e_{t+1} = (1+\beta) q\, e_t - \beta q\, e_{t-1}, \qquad q = 1 - \eta h ,

    and the points :math:`x_t` are an exponential moving average of the weights with decay :math:`\beta/(1+\beta)`.

    Parameters
    ----------
    beta : float
        :math:`\beta`, in [0, 1). The gradient is not damped: the effective rate is :math:`\eta/(1-\beta)`.
    nesterov : bool
        Whether to look ahead.

    Returns
    -------
    callable
        ``update(weights, gradient, rate, state) -> weights, state``; the state is :math:`u`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> momentum(0.5)(np.array([1.0]), np.array([2.0]), 0.25, np.array([4.0]))
    (array([0.]), array([4.]))
    """
    return _Momentum(beta, nesterov)
