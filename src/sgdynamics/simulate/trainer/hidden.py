r"""What happens between two layers of weights: activation, residual connection, normalisation.

.. math:: h_l = \varphi(z_l) + r_l\,h_{l-1}, \qquad e_l = N(h_l) ,

with :math:`r_l = 1` where there are residual connections and hidden layer :math:`l` is as wide as the one before it,
and 0 elsewhere; without normalisation :math:`e_l = h_l`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sgdynamics.simulate.trainer.activations import Activation

Array = NDArray[Any]


@dataclass(frozen=True)
class Hidden:
    """The hidden layers of a network: what all have in common.

    Attributes
    ----------
    activation : Activation
        Their nonlinearity.
    residual : bool
        Whether a layer as wide as the one before it adds its values to those.
    layer_norm : float, optional
        The constant under the root of the normalisation of what leaves a layer; None: there is none.
    """

    activation: Activation
    residual: bool = False
    layer_norm: float | None = None

    @property
    def plain(self) -> bool:
        """Whether what enters the next layer is the activation's value."""
        return not self.residual and self.layer_norm is None

    def adds(self, layer: int, weight: Array) -> bool:
        """Whether the hidden layer behind the given weights, counted from 0, adds what it has to the one before."""
        return self.residual and layer > 0 and weight.shape[0] == weight.shape[1]

    def __str__(self) -> str:
        parts = [self.activation.name, "residual" * self.residual, "layer norm" * (self.layer_norm is not None)]
        return ", ".join(filter(None, parts))
