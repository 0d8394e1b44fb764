r"""The uv network on several examples, closed in the outputs and two second moments of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, check_arguments, checked, complain, count, nonnegative, one, real

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class MultiExampleUV(Shown):
    r"""Two linear layers, one output, several examples, in the neural tangent parametrization.

    .. math:: f_a = n^{-1/2}\, v\cdot(Ux_a), \qquad L = \frac{1}{2m}\sum_a (f_a-y_a)^2.

    Gradient descent closes in the outputs :math:`f`, :math:`\nu = |v|^2/n` and :math:`\Gamma_{ab} = Ux_a\cdot Ux_b/n`;
    the inputs enter through :math:`X_{ab} = x_a\cdot x_b`.

    Parameters
    ----------
    inputs : array, shape (examples, dimension)
        :math:`x_a`, one a row.
    targets : array, shape (examples,)
        :math:`y_a`.
    width : float
        :math:`n \ge 1`, a whole number.

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range or lengths disagree.

    Examples
    --------
    >>> model = MultiExampleUV([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0], width=4)
    >>> outputs, readout_norm, hidden_gram = model.step([1.0, 0.0], 2.0, [[1.0, 0.0], [0.0, 3.0]], 0.1)
    >>> outputs
    array([0.850625, 0.5475  ])
    """

    inputs: Any
    targets: Any
    _: KW_ONLY
    width: float

    domains: ClassVar[Mapping[str, Domain]] = {"inputs": real, "targets": real, "width": one(count)}

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.domains}
        fields = check_arguments(type(self).__name__, self.domains, given)
        if np.ndim(fields["inputs"]) != 2:
            raise self._wrong_shape("inputs", "an array with one row per example", fields["inputs"])
        examples = len(fields["inputs"])
        if np.shape(fields["targets"]) != (examples,):
            raise self._wrong_shape("targets", f"one number per example, {examples}", fields["targets"])
        for name, value in fields.items():
            object.__setattr__(self, name, value if name == "width" else np.asarray(value))

    def _wrong_shape(self, name: str, text: str, value: Any) -> Exception:
        return complain(type(self).__name__, name, text, value)

    @property
    def gram(self) -> Array:
        r"""Gram matrix :math:`X_{ab} = x_a\cdot x_b` of the inputs."""
        return np.asarray(self.inputs @ self.inputs.T)

    @checked(outputs=real)
    def residual(self, outputs: Any) -> Array:
        r"""What is left to learn, :math:`r = f - y`.

        Parameters
        ----------
        outputs : array, shape (examples,)
            :math:`f`.

        Returns
        -------
        array, shape (examples,)
        """
        if np.shape(outputs) != self.targets.shape:
            raise self._wrong_shape("outputs", f"one number per example, {len(self.targets)}", outputs)
        return np.asarray(outputs - self.targets)

    @checked(outputs=real, readout_norm=one(nonnegative), hidden_gram=real, learning_rate=nonnegative)
    def step(
        self, outputs: Any, readout_norm: float, hidden_gram: Any, learning_rate: float
    ) -> tuple[Array, float, Array]:
        r"""One step of gradient descent, with :math:`r = f - y` and :math:`\Theta = \nu X + \Gamma`.

        .. math::

            f' &= f - \tfrac{\eta}{m}\Theta r + \tfrac{\eta^2}{m^2n}(f\cdot r) X r \\
            \nu' &= \nu - \tfrac{2\eta}{mn} f\cdot r + \tfrac{\eta^2}{m^2n} r^T\Gamma r \\
            \Gamma' &= \Gamma - \tfrac{\eta}{mn}[f(Xr)^T + (Xr)f^T] + \tfrac{\eta^2\nu}{m^2n}(Xr)(Xr)^T

        Status: exact, for every width.

        Parameters
        ----------
        outputs : array, shape (examples,)
            :math:`f`.
        readout_norm : float
            :math:`\nu \ge 0`.
        hidden_gram : array, shape (examples, examples)
            :math:`\Gamma`.
        learning_rate : float
            :math:`\eta \ge 0`.

        Returns
        -------
        outputs, readout_norm, hidden_gram
            As the arguments.
        """
        residual, examples = self.residual(outputs), len(self.targets)
        kernel = self.ntk(readout_norm, hidden_gram)
        felt = self.gram @ residual
        rate = learning_rate / examples
        overlap = outputs @ residual
        cross = np.outer(outputs, felt)
        return (
            outputs - rate * kernel @ residual + rate**2 / self.width * overlap * felt,
            float(readout_norm + (rate**2 * residual @ hidden_gram @ residual - 2 * rate * overlap) / self.width),
            hidden_gram + (rate**2 * readout_norm * np.outer(felt, felt) - rate * (cross + cross.T)) / self.width,
        )

    @checked(readout_norm=one(nonnegative), hidden_gram=real)
    def ntk(self, readout_norm: float, hidden_gram: Any) -> Array:
        r"""The neural tangent kernel :math:`\Theta = \nu X + \Gamma`.

        Its top eigenvalue over the number of examples is the Gauss-Newton part of the sharpness.

        Parameters
        ----------
        readout_norm : float
            :math:`\nu \ge 0`.
        hidden_gram : array, shape (examples, examples)
            :math:`\Gamma`.

        Returns
        -------
        array, shape (examples, examples)
        """
        examples = len(self.targets)
        if np.shape(hidden_gram) != (examples, examples):
            raise self._wrong_shape("hidden_gram", f"a square matrix over the {examples} examples", hidden_gram)
        return np.asarray(readout_norm * self.gram + hidden_gram)

    @checked(outputs=real, readout_norm=one(nonnegative), hidden_gram=real)
    def hessian_spectrum(self, outputs: Any, readout_norm: float, hidden_gram: Any) -> Array:
        r"""Eigenvalues of the loss Hessian, the sharpness first.

        :math:`v` and :math:`Ux_a` span at most :math:`m+1` directions among the n units. A network of that many units,
        with the same second moments and the inputs in coordinates of their own span, has the same Hessian there; its
        dense Hessian is

        .. math:: \frac1m \Bigl[\sum_a \nabla f_a \nabla f_a^T + \sum_a r_a \nabla^2 f_a\Bigr], \qquad
            \nabla f_a = \frac{(Ux_a,\; v \otimes x_a)}{\sqrt n}, \qquad
            \sum_a r_a \nabla^2 f_a\; (v, U) = \frac{(U X^Tr,\; v \otimes X^Tr)}{\sqrt n}.

        Every further unit adds the eigenvalues :math:`\pm|X^Tr|/(m\sqrt n)`, none above the first one, and zeros.

        Status: exact, at every point and width.

        Parameters
        ----------
        outputs : array, shape (examples,)
            :math:`f`.
        readout_norm : float
            :math:`\nu \ge 0`.
        hidden_gram : array, shape (examples, examples)
            :math:`\Gamma`.

        Returns
        -------
        array
            In falling order, of the network of at most :math:`m+1` units.
        """
        residual, examples = self.residual(outputs), len(self.targets)
        self.ntk(readout_norm, hidden_gram)  # refuses other shapes
        root = np.sqrt(self.width)
        # the second moments of v and the U x_a, and some vectors that have them
        moments = self.width * np.block(
            [[np.array([[readout_norm]]), outputs / root], [(outputs / root)[:, None], hidden_gram]]
        )
        values, vectors = np.linalg.eigh(moments)
        if values[0] < -1e-9 * values[-1]:
            raise complain(
                type(self).__name__, "hidden_gram", "second moments that some weights have", f"eigenvalue {values[0]}"
            )
        units = min(examples + 1, int(self.width))
        sides = vectors[:, -units:] * np.sqrt(np.maximum(values[-units:], 0.0))
        readout, hidden = sides[0], sides[1:]
        left, sizes, _ = np.linalg.svd(self.inputs, full_matrices=False)
        inputs = left * sizes
        gradients = (
            np.concatenate([hidden, np.einsum("i,aj->aij", readout, inputs).reshape(examples, -1)], axis=1) / root
        )
        bend = np.kron(np.eye(units), inputs.T @ residual / root)
        hessian = gradients.T @ gradients
        hessian[:units, units:] += bend
        hessian[units:, :units] += bend.T
        return np.asarray(np.linalg.eigvalsh(hessian / examples)[::-1])
