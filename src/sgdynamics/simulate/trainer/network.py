r"""Fully connected networks of any depth, as weight matrices and one flat vector.

.. math:: a_0 = x, \qquad z_l = a_{l-1} W_l + b_l, \qquad a_l = \varphi(z_l), \qquad f(x) = z_L .

Activations are analytic expressions without casts to real numbers, so that a network with complex weights
:math:`w + ihv` gives directional derivatives as imaginary parts (complex steps).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import checked, choice, complain, flag, instance_of, nonnegative, seeds
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.streams import generator
from sgdynamics.simulate.trainer.user_network import UserNetwork

__all__ = ["Network", "network"]

Array = NDArray[Any]


class Activation(NamedTuple):
    """A nonlinearity and its derivatives, written as functions of its own value a = phi(z); a bend of None is
    identically zero.

    In place: ``apply_in_place(z)``, and ``multiply_slope(delta, a)``, which may use up the value.
    """

    apply: Callable[[Array], Array]
    slope: Callable[[Array], Any]
    bend: Callable[[Array], Array] | None
    apply_in_place: Callable[[Array], Any]
    multiply_slope: Callable[[Array, Array], Any]


def _tanh_bend(value: Array) -> Array:
    return np.asarray(-2 * value * (1 - value * value))


def _multiply_tanh_slope(delta: Array, value: Array) -> None:
    np.multiply(value, value, value)
    np.subtract(1.0, value, value)
    np.multiply(delta, value, delta)


ACTIVATIONS = {
    "linear": Activation(lambda z: z, lambda a: 1.0, None, lambda z: None, lambda delta, a: None),
    "tanh": Activation(np.tanh, lambda a: 1 - a * a, _tanh_bend, lambda z: np.tanh(z, z), _multiply_tanh_slope),
    # The kink is decided by the real part; its second derivative counts as zero.
    "relu": Activation(
        lambda z: z * (z.real > 0),
        lambda a: a.real > 0,
        None,
        lambda z: np.multiply(z, z.real > 0, z),
        lambda delta, a: np.multiply(delta, a.real > 0, delta),
    ),
}


class Layers(NamedTuple):
    """Weights (fan_in, fan_out) and biases (fan_out,) of every layer."""

    weights: list[Array]
    biases: list[Array] | None


def parameter_count(sizes: Sequence[int], biases: bool) -> int:
    """Length of the flat vector."""
    return sum((fan_in + biases) * fan_out for fan_in, fan_out in itertools.pairwise(sizes))


def unflatten(vector: Array, sizes: Sequence[int], biases: bool) -> Layers:
    """Views of a flat vector W1, b1, W2, b2, ... as layers."""
    weights, shifts = [], []
    start = 0
    for fan_in, fan_out in itertools.pairwise(sizes):
        stop = start + fan_in * fan_out
        weights.append(vector[start:stop].reshape(fan_in, fan_out))
        start = stop
        if biases:
            start = stop + fan_out
            shifts.append(vector[stop:start])
    return Layers(weights, shifts if biases else None)


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A fully connected network: its widths, its activation and its parameters.

    Attributes
    ----------
    widths : tuple of int
        Inputs, hidden widths, outputs.
    activation : str
        Nonlinearity of the hidden layers; the last layer is linear.
    weights : list of array, shapes (fan_in, fan_out)
        May be edited in place, for instance to start from a zero last layer.
    biases : list of array, shapes (fan_out,), or None
        May be edited in place.

    Examples
    --------
    >>> net = network([2, 3, 1], "tanh", seed=0)
    >>> net
    Network 2-3-1, tanh, 13 parameters
    >>> bool((net.with_flat(2 * net.flat()).weights[0] == 2 * net.weights[0]).all())
    True
    """

    widths: tuple[int, ...]
    activation: str
    weights: list[Array]
    biases: list[Array] | None

    def __repr__(self) -> str:
        without = "" if self.biases is not None else " without biases"
        return f"Network {'-'.join(map(str, self.widths))}{without}, {self.activation}, {self.size} parameters"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return parameter_count(self.widths, self.biases is not None)

    def flat(self) -> Array:
        """All parameters as one new vector W1, b1, W2, b2, ..., each matrix row by row.

        Returns
        -------
        array, shape (parameters,)
        """
        shifts = self.biases if self.biases is not None else [np.empty(0)] * len(self.weights)
        return np.concatenate([part.ravel() for pair in zip(self.weights, shifts, strict=True) for part in pair])

    def with_flat(self, vector: Array) -> Network:
        """The same network with other parameters.

        Parameters
        ----------
        vector : array, shape (parameters,)
            In the order of :meth:`flat`; real or complex, finite.

        Returns
        -------
        Network

        Raises
        ------
        ValueError, TypeError
            If the vector has another length or is not finite.
        """
        vector = arguments.parameters.check("with_flat", "vector", vector)
        arguments.length("with_flat", "vector", vector, self.size, "parameters")
        return self.at(vector.copy())

    def layers(self) -> Layers:
        """The parameters as the trainer's inner loops take them."""
        return Layers(self.weights, self.biases)

    def views(self, vector: Array) -> Layers:
        """A flat vector as the trainer's inner loops take it: as layers."""
        return unflatten(vector, self.widths, self.biases is not None)

    def at(self, vector: Array) -> Network:
        """The network whose parameters are views of ``vector``, finite or not."""
        return Network(self.widths, self.activation, *self.views(vector))


AnyNetwork: TypeAlias = Network | UserNetwork

a_network = instance_of(Network, text="a network made by network(...)")
any_network = instance_of(Network, UserNetwork, text="a network made by network(...), or a UserNetwork")


def check_real(owner: str, net: AnyNetwork) -> None:
    """Refuse complex weights where only real ones have a meaning."""
    if np.iscomplexobj(net.flat()):
        raise complain(owner, "net", "a network with real weights", net)


@checked(
    widths=arguments.widths,
    activation=choice(*ACTIVATIONS),
    init_scale=arguments.one(nonnegative),
    biases=flag,
    seed=seeds,
)
def network(
    widths: Sequence[int],
    activation: str,
    *,
    init_scale: float = 1.0,
    biases: bool = True,
    seed: int | np.random.SeedSequence,
) -> Network:
    r"""A random fully connected network in standard parametrisation.

    Weights are :math:`N(0, \text{init\_scale}^2 g/\text{fan\_in})` with :math:`g = 2` in the hidden layers of relu
    networks and :math:`g = 1` otherwise; W1 is drawn first; biases start at zero.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden widths, outputs: at least two integers >= 1. Two widths make a single linear layer.
    activation : {"linear", "tanh", "relu"}
        Nonlinearity of the hidden layers. The last layer is linear.
    init_scale : float
        Factor on all weights, >= 0.
    biases : bool
        Whether layers have biases.
    seed : int or numpy.random.SeedSequence
        Seed of the weights, >= 0.

    Returns
    -------
    Network
        With ``weights``, ``biases``, ``flat()`` and ``with_flat(vector)``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> net = network([64, 32, 10], "tanh", init_scale=0.3, seed=0)
    >>> [w.shape for w in net.weights], [b.shape for b in net.biases], net.flat().shape
    ([(64, 32), (32, 10)], [(32,), (10,)], (2410,))
    """
    random = generator(seed, "initial weights")
    weights: list[Array] = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        is_last = layer == len(widths) - 2
        gain = 2.0 if activation == "relu" and not is_last else 1.0
        weights.append(random.standard_normal((fan_in, fan_out)) * (init_scale * math.sqrt(gain / fan_in)))
    shifts: list[Array] | None = [np.zeros(fan_out) for fan_out in widths[1:]] if biases else None
    return Network(tuple(widths), activation, weights, shifts)
