"""One backward pass: what each batch center weighs in an average of the iterates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Array = Any


def center_weights_backward(
    gain_at: Callable[[int], Array],
    average: Array,
    momentum: Array = 0.0,
    nesterov: bool = False,
) -> Iterator[tuple[int, Array]]:
    r"""Yield ``(j, w_j)`` for j = T..1 and then ``(0, P_0)``, the weights of the centers and of the start.

    The adjoint :math:`\lambda` of the state is pulled back step by step; an average adds :math:`\alpha_j` to the
    adjoint of :math:`x_j`. Only the adjoint is kept, so the memory does not grow with the number of steps.

    Parameters
    ----------
    gain_at : callable
        The gain of step j = 1..T.
    average : array, shape (..., T + 1)
    momentum : array
    nesterov : bool

    Notes
    -----
    Plain SGD: :math:`x_j = (1-g_j) x_{j-1} + g_j c_j`.
    Heavy ball: :math:`u_j = \beta u_{j-1} + x_{j-1} - c_j`, :math:`x_j = x_{j-1} - g_j u_j`, :math:`u_0 = 0`.
    Nesterov: :math:`x_j = (1-g_j) y_j + g_j c_j`, :math:`y_j = x_{j-1} + \beta (x_{j-1} - x_{j-2})`,
    :math:`x_{-1} = x_0`.
    """
    steps = average.shape[-1] - 1
    point = average[..., steps]  # adjoint of x_j
    other = 0.0 * point  # adjoint of the second half of the state
    if not nesterov and not _any(momentum):
        for j in range(steps, 0, -1):
            weight = gain_at(j) * point
            yield j, weight
            point = point - weight + average[..., j - 1]
    elif not nesterov:  # the second half is the velocity u_j
        for j in range(steps, 0, -1):
            velocity = other - gain_at(j) * point
            yield j, -velocity
            point, other = point + velocity + average[..., j - 1], momentum * velocity
    else:  # the second half is the previous point x_{j-1}
        for j in range(steps, 0, -1):
            gain = gain_at(j)
            yield j, gain * point
            ahead = (1 - gain) * point
            point, other = ahead * (1 + momentum) + other + average[..., j - 1], -momentum * ahead
        point = point + other  # x_{-1} is x_0
    yield 0, point


def _any(value: Array) -> bool:
    return bool(value.any()) if hasattr(value, "any") else bool(value)
