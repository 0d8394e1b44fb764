r"""Nonlinearities of the hidden layers, with their first and second derivatives.

All of them are analytic expressions without casts to real numbers, so that complex weights :math:`w + ihv` give
directional derivatives as imaginary parts (complex steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import Domain, complain
from sgdynamics.simulate.trainer import elementwise

Array = NDArray[Any]


class InPlace(NamedTuple):
    """An activation that needs no new arrays: ``enter(z, biases)`` on the way forward and ``leave(delta, a, sums)`` on
    the way back, see :mod:`sgdynamics.simulate.trainer.elementwise`.
    """

    enter: Callable[[Array, Array | None], None]
    leave: Callable[[Array, Array, Array | None], None]


@dataclass(frozen=True)
class Activation:
    r"""A nonlinearity :math:`a = \varphi(z)`, elementwise.

    Attributes
    ----------
    name : str
        How networks call it.
    value : callable
        :math:`\varphi` of z.
    slope, bend : callable
        :math:`\varphi'` and :math:`\varphi''` of z, or, if ``of_value``, of a: then z need not be kept. A bend of None
        is identically zero.
    in_place : InPlace, optional
        The same in given arrays; for those of the value alone.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Any]
    bend: Callable[[Array], Array] | None
    of_value: bool = False
    in_place: InPlace | None = None

    def __reduce__(self) -> Any:
        """Those of the trainer are pickled by name, others by their callables."""
        if ACTIVATIONS.get(self.name) is self:
            return _named, (self.name,)
        return type(self), (self.name, self.value, self.slope, self.bend)


def _tanh_bend(value: Array) -> Array:
    return np.asarray(-2 * value * (1 - value * value))


def _tanh(z: Array) -> Array:
    value = np.array(z, dtype=np.result_type(z, 1.0), order="C")
    elementwise.enter_tanh(value.reshape(1, -1), None)
    return value


def _normal_distribution(z: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def _normal_density(z: Array) -> Array:
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def _gelu_bend(z: Array) -> Array:
    density = _normal_density(z)
    return np.asarray(2 * density - z * (z * density))


def _logistic(z: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-z)))


def _silu_slope(z: Array) -> Array:
    return np.asarray(_logistic(z) * (1 + z * _logistic(-z)))


def _silu_bend(z: Array) -> Array:
    rising, falling = _logistic(z), _logistic(-z)
    return np.asarray(rising * falling * (2 + z * (falling - rising)))


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation(
            "linear",
            lambda z: z,
            lambda a: 1.0,
            None,
            of_value=True,
            in_place=InPlace(elementwise.enter_linear, elementwise.leave_linear),
        ),
        Activation(
            "tanh",
            _tanh,
            lambda a: 1 - a * a,
            _tanh_bend,
            of_value=True,
            in_place=InPlace(elementwise.enter_tanh, elementwise.leave_tanh),
        ),
        # The kink is decided by the real part; its second derivative counts as zero.
        Activation(
            "relu",
            lambda z: z * (z.real > 0),
            lambda a: a.real > 0,
            None,
            of_value=True,
            in_place=InPlace(elementwise.enter_relu, elementwise.leave_relu),
        ),
        # z times the normal distribution function, not its approximation by tanh
        Activation(
            "gelu",
            lambda z: z * _normal_distribution(z),
            lambda z: _normal_distribution(z) + z * _normal_density(z),
            _gelu_bend,
        ),
        Activation("silu", lambda z: z * _logistic(z), _silu_slope, _silu_bend),
    )
}


def _named(name: str) -> Activation:
    return ACTIVATIONS[name]


OWN = "own"
Callables: TypeAlias = Sequence[Callable[..., Any]]
AnyActivation: TypeAlias = str | Callables | Activation


def _elementwise(part: str, function: Callable[..., Any], z: Array) -> Array:
    """What a callable says, which must be as many numbers as it is given."""
    found = np.asarray(function(z))
    if found.shape != z.shape:
        text = f"callables of z that return arrays of its shape, here {z.shape}"
        raise complain("network", "activation", text, f"shape {found.shape} from the {part}")
    return found


def _no_bend(z: Array) -> Array:
    text = "a triple (value, slope, second derivative) of callables where curvature is measured"
    raise complain("network", "activation", text, "a pair")


@dataclass(frozen=True)
class _AnActivation:
    options: tuple[str, ...] = tuple(ACTIVATIONS)
    text: str = (
        f"one of {', '.join(map(repr, ACTIVATIONS))}, or two or three callables of the pre-activation z: "
        "(value, slope) or (value, slope, second derivative)"
    )

    def check(self, owner: str, name: str, value: Any) -> Activation:
        if isinstance(value, Activation):
            return value
        if isinstance(value, str):
            if value not in ACTIVATIONS:
                raise complain(owner, name, self.text, value)
            return ACTIVATIONS[value]
        if not isinstance(value, Sequence) or not all(map(callable, value)):
            raise complain(owner, name, self.text, value, TypeError)
        if len(value) not in (2, 3):
            raise complain(owner, name, self.text, value)
        parts = zip(("value", "slope", "second derivative"), value, strict=False)
        functions = [partial(_elementwise, part, function) for part, function in parts]
        return Activation(OWN, functions[0], functions[1], functions[2] if len(value) == 3 else _no_bend)


activation_domain: Domain = _AnActivation()
