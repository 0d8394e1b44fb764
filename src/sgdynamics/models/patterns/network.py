r"""The network: one layer of ReLU units, each of which sees one of the two patterns.

.. math:: f(x) = w^\top \mathrm{relu}(W x_1) + v^\top \mathrm{relu}(V x_2), \qquad w_i, v_i = \pm 1/\sqrt m,

without biases; the second layer :math:`w, v` is fixed, the first half of the units of a block has the sign +. The loss
is the mean of :math:`\log(1 + e^{-y f(x)})`. Since :math:`x_2` lies in a plane, a row of :math:`V` has two entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, check_arguments, checked, complain, instance_of, integer, nonnegative, real
from sgdynamics.models.patterns.data import TwoPatternData, TwoPatternSample

__all__ = ["TwoBlockNetwork"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class TwoBlockNetwork(Shown):
    r"""Pointwise facts of a network whose units see one pattern each.

    Weights are handed in: ``first`` is :math:`W` (width_p, dimension), ``second`` is :math:`V` (width_q, 2).

    Parameters
    ----------
    width_p, width_q : int
        Units that see P and units that see Q; even, so that both signs of the second layer are equally many.

    Raises
    ------
    ValueError, TypeError
        If a width is not an even integer >= 2.

    Examples
    --------
    >>> import numpy as np
    >>> network = TwoBlockNetwork(2, 2)
    >>> data = TwoPatternData(2, p_only=0.0, q_only=1.0, margin=0.0, separation=0.5)
    >>> network.ray_values(np.array([[1.0, 0.0], [0.0, 1.0]]), data).round(4)  # relu(1) and relu of 0, 1/2, -1/2
    array([0.7071, 0.3536, 0.7071])
    """

    width_p: int
    width_q: int

    domains: ClassVar[Mapping[str, Domain]] = {"width_p": integer(2), "width_q": integer(2)}

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        for name, value in fields.items():
            if value % 2:
                raise complain(owner, name, "an even integer >= 2", value)
            object.__setattr__(self, name, value)

    @property
    def second_layer_p(self) -> Array:
        r""":math:`w`, shape (width_p,)."""
        return _second_layer(self.width_p)

    @property
    def second_layer_q(self) -> Array:
        r""":math:`v`, shape (width_q,)."""
        return _second_layer(self.width_q)

    def _weights(self, name: str, value: Any, shape: tuple[int, int]) -> Array:
        if np.ndim(value) == 0:
            raise complain(type(self).__name__, name, f"an array of shape {shape}", value)
        if np.shape(value) != shape:
            raise ValueError(f"{type(self).__name__}: {name} must have shape {shape}, got {np.shape(value)}")
        return np.asarray(value, dtype=np.float64)

    @checked(second=real, data=instance_of(TwoPatternData))
    def ray_values(self, second: Any, data: TwoPatternData) -> Array:
        r"""Output :math:`g` of the units that see Q on the three rays: :math:`g(\alpha\, \cdot) = \alpha\, g(\cdot)`.

        Parameters
        ----------
        second : array, shape (width_q, 2)
        data : TwoPatternData

        Returns
        -------
        array, shape (3,)
            At :math:`s z`, :math:`s (z + \zeta)`, :math:`s (z - \zeta)`.
        """
        weights = self._weights("second", second, (self.width_q, 2))
        values: Array = np.einsum("i,ik->k", self.second_layer_q, np.maximum(weights @ data.rays.T, 0.0))
        return values

    @checked(first=real, second=real, sample=instance_of(TwoPatternSample), data=instance_of(TwoPatternData))
    def output(self, first: Any, second: Any, sample: TwoPatternSample, data: TwoPatternData) -> Array:
        r"""Output of the network on every example.

        Parameters
        ----------
        first : array, shape (width_p, dimension)
        second : array, shape (width_q, 2)
        sample : TwoPatternSample
        data : TwoPatternData

        Returns
        -------
        array, shape (examples,)
        """
        first = self._weights("first", first, (self.width_p, sample.dimension))
        second = self._weights("second", second, (self.width_q, 2))
        p_part: Array = np.maximum(sample.inputs @ first.T, 0.0) @ self.second_layer_p
        q_part: Array = np.maximum(data.second_inputs(sample) @ second.T, 0.0) @ self.second_layer_q
        return p_part + q_part

    @checked(first=real, second=real, sample=instance_of(TwoPatternSample), data=instance_of(TwoPatternData))
    def loss(self, first: Any, second: Any, sample: TwoPatternSample, data: TwoPatternData) -> float:
        r"""Mean logistic loss over the examples, without the penalty of the weight decay.

        Parameters
        ----------
        first : array, shape (width_p, dimension)
        second : array, shape (width_q, 2)
        sample : TwoPatternSample
        data : TwoPatternData

        Returns
        -------
        float
        """
        return float(np.logaddexp(0.0, -sample.label * self.output(first, second, sample, data)).mean())

    @checked(first=real, second=real, sample=instance_of(TwoPatternSample), data=instance_of(TwoPatternData))
    def gradient(self, first: Any, second: Any, sample: TwoPatternSample, data: TwoPatternData) -> tuple[Array, Array]:
        r"""Gradient of the mean logistic loss in both blocks; the derivative of relu at 0 is 1.

        Parameters
        ----------
        first : array, shape (width_p, dimension)
        second : array, shape (width_q, 2)
        sample : TwoPatternSample
        data : TwoPatternData

        Returns
        -------
        tuple of arrays, shapes (width_p, dimension) and (width_q, 2)
        """
        first = self._weights("first", first, (self.width_p, sample.dimension))
        second = self._weights("second", second, (self.width_q, 2))
        output = self.output(first, second, sample, data)
        # -y sigma(-y f)/N, without overflow
        slope = -sample.label * np.exp(-np.logaddexp(0.0, sample.label * output)) / sample.examples
        planar = data.second_inputs(sample)
        return (
            _block_gradient(first, self.second_layer_p, sample.inputs, slope),
            _block_gradient(second, self.second_layer_q, planar, slope),
        )

    @checked(
        first=real,
        second=real,
        sample=instance_of(TwoPatternSample),
        data=instance_of(TwoPatternData),
        learning_rate=nonnegative,
        weight_decay=nonnegative,
        noise_first=real,
        noise_second=real,
    )
    def step(
        self,
        first: Any,
        second: Any,
        sample: TwoPatternSample,
        data: TwoPatternData,
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        noise_first: Any = 0.0,
        noise_second: Any = 0.0,
    ) -> tuple[Array, Array]:
        r"""One step, :math:`(1 - \eta\lambda) U - \eta (\nabla L(U) + \xi)` in both blocks.

        Parameters
        ----------
        first : array, shape (width_p, dimension)
        second : array, shape (width_q, 2)
        sample : TwoPatternSample
        data : TwoPatternData
        learning_rate, weight_decay : float
            :math:`\eta, \lambda \ge 0`.
        noise_first, noise_second : float or array
            :math:`\xi` of every entry; inside the step, so that it enters as :math:`\eta \xi`.

        Returns
        -------
        tuple of arrays, shapes (width_p, dimension) and (width_q, 2)
        """
        slopes = self.gradient(first, second, sample, data)
        keep = 1 - learning_rate * weight_decay
        return (
            keep * np.asarray(first) - learning_rate * (slopes[0] + noise_first),
            keep * np.asarray(second) - learning_rate * (slopes[1] + noise_second),
        )


def _second_layer(width: int) -> Array:
    signs: Array = np.repeat([1.0, -1.0], width // 2) / np.sqrt(width)
    return signs


def _block_gradient(weights: Array, signs: Array, inputs: Array, slope: Array) -> Array:
    active = np.where(inputs @ weights.T >= 0.0, slope[:, None], 0.0)
    gradient: Array = signs[:, None] * (active.T @ inputs)
    return gradient
