r"""Fully connected networks of any depth, as weight matrices and one flat vector.

.. math:: e_0 = x, \qquad z_l = e_{l-1} W_l + b_l, \qquad e_l = \varphi(z_l), \qquad f(x) = z_L ,

or, with residual connections and layer normalisation, :math:`h_l = \varphi(z_l) + h_{l-1}` and :math:`e_l = N(h_l)`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, checked, complain, flag, instance_of, nonnegative, one, optional, seeds
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.activations import AnyActivation, activation_domain
from sgdynamics.simulate.trainer.hidden import Hidden
from sgdynamics.simulate.trainer.streams import generator
from sgdynamics.simulate.trainer.user_network import UserNetwork

__all__ = ["Network", "network"]

Array = NDArray[Any]


class Layers(NamedTuple):
    """Weights (fan_in, fan_out) and biases (fan_out,) of every layer."""

    weights: list[Array]
    biases: list[Array] | None

    @property
    def bias_or_none(self) -> Sequence[Array | None]:
        """The biases of every layer, None where it has none."""
        return [None] * len(self.weights) if self.biases is None else self.biases


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
class Network(Shown):
    """A fully connected network: its widths, its hidden layers and its parameters, and compared by them.

    Attributes
    ----------
    widths : tuple of int
        Inputs, hidden widths, outputs.
    hidden : Hidden
        Activation, residual connections and normalisation of the hidden layers; the last layer is linear.
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
    hidden: Hidden
    weights: list[Array]
    biases: list[Array] | None

    def __repr__(self) -> str:
        without = "" if self.biases is not None else " without biases"
        return f"Network {'-'.join(map(str, self.widths))}{without}, {self.hidden}, {self.size} parameters"

    def __hash__(self) -> int:
        return hash((self.widths, self.hidden))  # the parameters may be edited in place

    @property
    def activation(self) -> str:
        """The name of the nonlinearity; ``"own"`` if it was given as callables."""
        return self.hidden.activation.name

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

    def with_flat(self, vector: ArrayLike) -> Network:
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
        flat: Array = arguments.parameters.check("with_flat", "vector", vector)
        arguments.length("with_flat", "vector", flat, self.size, "parameters")
        return self.at(flat.copy())

    def layers(self) -> Layers:
        """The parameters as the trainer's inner loops take them."""
        return Layers(self.weights, self.biases)

    def views(self, vector: Array) -> Layers:
        """A flat vector as the trainer's inner loops take it: as layers."""
        return unflatten(vector, self.widths, self.biases is not None)

    def at(self, vector: Array) -> Network:
        """The network whose parameters are views of ``vector``, finite or not."""
        weights, biases = self.views(vector)
        return replace(self, weights=weights, biases=biases)


AnyNetwork: TypeAlias = Network | UserNetwork

a_network: Domain = instance_of(Network, text="a network made by network(...)")
any_network: Domain = instance_of(Network, UserNetwork, text="a network made by network(...), or a UserNetwork")


def check_real(owner: str, net: AnyNetwork) -> None:
    """Refuse complex weights where only real ones have a meaning."""
    if np.iscomplexobj(net.flat()):
        raise complain(owner, "net", "a network with real weights", net)


@checked(
    widths=arguments.widths,
    activation=activation_domain,
    init_scale=one(nonnegative),
    biases=flag,
    residual=flag,
    layer_norm=optional(one(nonnegative)),
    seed=seeds,
)
def network(
    widths: Sequence[int],
    activation: AnyActivation,
    *,
    init_scale: float = 1.0,
    biases: bool = True,
    residual: bool = False,
    layer_norm: float | None = None,
    seed: int | np.random.SeedSequence,
) -> Network:
    r"""A random fully connected network in standard parametrisation.

    Weights are :math:`N(0, \text{init\_scale}^2 g/\text{fan\_in})` with :math:`g = 2` in the hidden layers of relu
    networks and :math:`g = 1` otherwise; W1 is drawn first; biases start at zero.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden widths, outputs: at least two integers >= 1. Two widths make a single linear layer.
    activation : {"linear", "tanh", "relu", "gelu", "silu"}, or sequence of callables
        Nonlinearity of the hidden layers. The last layer is linear. Any other as two or three functions of the
        pre-activations z, elementwise on arrays: ``(value, slope)``, or ``(value, slope, second derivative)``, without
        which what needs curvature is refused.
    init_scale : float
        Factor on all weights, >= 0.
    biases : bool
        Whether layers have biases.
    residual : bool
        Whether every hidden layer as wide as the hidden layer before it adds its values to what that one hands on,
        :math:`h_l = \varphi(z_l) + h_{l-1}`.
    layer_norm : float, optional
        Normalise what enters every layer but the first, :math:`e = (h - \bar h)/s` with :math:`s^2 =
        \overline{(h-\bar h)^2} + \epsilon` over the features of an example; the number is :math:`\epsilon` >= 0,
        PyTorch's is 1e-5. There are no gains and shifts but those that the next layer's weights and biases are. With
        ``residual`` the sum goes on unnormalised ("pre-norm"). None: no normalisation.
    seed : int or numpy.random.SeedSequence
        Seed of the weights, >= 0.

    Returns
    -------
    Network
        With ``weights``, ``biases``, ``flat()`` and ``with_flat(vector)``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or there is no layer for a residual connection.

    Notes
    -----
    Complex weights give directional derivatives as imaginary parts (complex steps) if callables of one's own take
    complex arrays. Networks of another kind are a :class:`UserNetwork`.

    Examples
    --------
    >>> net = network([64, 32, 10], "tanh", init_scale=0.3, seed=0)
    >>> [w.shape for w in net.weights], [b.shape for b in net.biases], net.flat().shape
    ([(64, 32), (32, 10)], [(32,), (10,)], (2410,))
    >>> network([64, 32, 32, 10], "gelu", residual=True, layer_norm=1e-5, seed=0)
    Network 64-32-32-10, gelu, residual, layer norm, 3466 parameters
    >>> import numpy as np
    >>> network([2, 3, 1], (np.sin, np.cos, lambda z: -np.sin(z)), seed=0)
    Network 2-3-1, own, 13 parameters
    """
    hidden = Hidden(activation, residual, layer_norm)  # type: ignore[arg-type]
    hidden_widths = tuple(widths)[1:-1]
    if residual and all(before != here for before, here in itertools.pairwise(hidden_widths)):
        text = "False where no hidden layer is as wide as the hidden layer before it"
        raise complain("network", "residual", text, f"True for widths {tuple(widths)}")
    random = generator(seed, "initial weights")
    weights: list[Array] = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        is_last = layer == len(widths) - 2
        gain = 2.0 if hidden.activation.name == "relu" and not is_last else 1.0
        weights.append(random.standard_normal((fan_in, fan_out)) * (init_scale * math.sqrt(gain / fan_in)))
    shifts: list[Array] | None = [np.zeros(fan_out) for fan_out in widths[1:]] if biases else None
    return Network(tuple(widths), hidden, weights, shifts)
