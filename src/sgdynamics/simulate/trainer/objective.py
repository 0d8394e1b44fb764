r"""What is minimised: a loss over examples, as a function of the weights of a network.

.. math:: L(\theta) = \frac1n \sum_i \ell(f_\theta(x_i), y_i) + \frac\lambda2 |\theta|^2 ,

with :math:`\ell` half the squared error summed over outputs (``"mse"``), the cross-entropy (``"cross_entropy"``), any
other as callables, or what a network of another framework computes. A mask of trainable parameters makes :math:`L` a
function of these alone: the others count as constants, also in the weight decay.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import Shown
from sgdynamics.domains import Domain, check_arguments, checked, complain, nonnegative, one, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.gradient_rows import GradientRows
from sgdynamics.simulate.trainer.losses import AnyLoss, OwnLoss, as_loss, as_targets, check_examples, loss_domain
from sgdynamics.simulate.trainer.mean_loss import MeanLoss
from sgdynamics.simulate.trainer.network import AnyNetwork, any_network
from sgdynamics.simulate.trainer.network_loss import NetworkLoss
from sgdynamics.simulate.trainer.user_network import OWN_LOSS, CallablesLoss, UserNetwork

__all__ = ["Objective"]

Array = NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")


def computed(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """On one BLAS thread, and what overflows is no warning."""

    @functools.wraps(method)
    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        with one_blas_thread(), np.errstate(all="ignore"):
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class Objective(Shown):
    r"""The loss of a network on examples, with weight decay, at the weights that the network has.

    Every instrument of this package takes one, and :func:`trajectory` minimises it. It answers the four questions of
    :class:`UserNetwork` (loss, gradient, Hessian times a vector, gradients of single examples) for any network.

    Parameters
    ----------
    net : Network or UserNetwork
        Gives the architecture and the weights. Complex weights give complex answers (complex-step derivatives), and no
        instrument takes them.
    x : array, shape (examples, inputs)
        Inputs. For a UserNetwork x and y are whatever it takes, examples along the first axis.
    y : array
        For ``"mse"`` targets of shape (examples, outputs), or (examples,) for one output. For ``"cross_entropy"``
        integer labels of shape (examples,), or class probabilities of shape (examples, outputs), which make the
        expected loss under label noise exact. For callables whatever they take, examples along the first axis.
    loss : {"mse", "cross_entropy", "own"}, or sequence of callables
        ``"mse"`` is half the squared error summed over outputs; ``"own"`` is what a UserNetwork computes. Any other as
        two or three functions of the outputs (examples, outputs) and of y: ``(value, slope)``, the loss of every
        example, (examples,), and its derivative with respect to the outputs, (examples, outputs); or ``(value, slope,
        second derivative)``, without which what needs curvature is refused: (examples, outputs, outputs), or (examples,
        outputs) where that is diagonal.
    weight_decay : float
        :math:`\lambda` in :math:`\frac\lambda2 |\theta|^2`, >= 0, part of the loss.
    trainable : array of bool, shape (parameters,), optional
        The loss is a function of these parameters alone: derivatives with respect to the others are zero, a run leaves
        them where they are, and the weight decay does not count them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> objective = Objective(net, [[1.0], [3.0]], [1.0, 6.0], "mse")
    >>> objective.loss_value(), objective.gradient(), objective.hessian_vector_product([1.0])
    (0.25, array([0.5]), array([5.]))
    >>> objective.with_flat([1.0]).loss_value(), objective.batch([0]).loss_value()
    (2.25, 0.5)
    >>> import numpy as np
    >>> absolute = (lambda z, y: np.abs(z[:, 0] - y), lambda z, y: np.sign(z - y[:, None]))
    >>> Objective(net, [[1.0], [3.0]], [1.0, 6.0], absolute).loss_value()
    0.5
    """

    domains: ClassVar[Mapping[str, Domain]] = {
        "net": any_network,
        "x": arguments.examples,
        "y": arguments.examples,
        "loss": loss_domain,
        "weight_decay": one(nonnegative),
        "trainable": optional(arguments.mask),
    }
    net: Any  # a Network or a UserNetwork
    x: Array
    y: Array
    loss: str | OwnLoss
    weight_decay: float
    trainable: Array | None
    targets: Array  # y as the loss takes it
    mean: MeanLoss

    def __init__(
        self,
        net: AnyNetwork,
        x: ArrayLike,
        y: ArrayLike,
        loss: AnyLoss = OWN_LOSS,
        *,
        weight_decay: float = 0.0,
        trainable: ArrayLike | None = None,
    ) -> None:
        given = {"net": net, "x": x, "y": y, "loss": loss, "weight_decay": weight_decay, "trainable": trainable}
        self._set(type(self).__name__, check_arguments(type(self).__name__, self.domains, given))

    @classmethod
    def of(cls, owner: str, net: AnyNetwork, x: Any, y: Any, loss: Any) -> Objective:
        """Checked arguments of a function as an objective; what does not fit is a fault of theirs."""
        made = cls.__new__(cls)
        made._set(owner, {"net": net, "x": x, "y": y, "loss": loss, "weight_decay": 0.0, "trainable": None})
        return made

    def _set(self, owner: str, given: dict[str, Any]) -> None:
        net, x, y, loss = given["net"], given["x"], given["y"], given["loss"]
        if isinstance(net, UserNetwork):
            if loss != OWN_LOSS:
                raise complain(owner, "loss", f"{OWN_LOSS!r} for a UserNetwork, whose callables compute it", loss)
            arguments.length(owner, "y", y, len(x), "examples")
            given |= {"targets": y, "mean": CallablesLoss()}
        else:
            x = arguments.matrix.check(owner, "x", x)
            if not isinstance(loss, OwnLoss):  # whose targets are what its callables take
                y = arguments.columns.check(owner, "y", y)
            check_examples(owner, x, net.widths[0], y, net.widths[-1], loss)
            if loss == "cross_entropy" and y.ndim == 1:
                y = y.astype(np.int64)
            given |= {"x": x, "y": y, "targets": as_targets(y, net.widths[-1], loss)}
            given["mean"] = NetworkLoss(as_loss(loss))
        if given["trainable"] is not None:
            arguments.length(owner, "trainable", given["trainable"], net.size, "parameters")
        self.__dict__.update(given)

    def _parts(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.domains]

    def _with(self, **changes: Any) -> Objective:
        made = copy.copy(self)
        made.__dict__.update(changes)
        return made

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.x.shape[0])

    @property
    def size(self) -> int:
        """Number of parameters."""
        return int(self.net.size)

    @property
    def trainable_size(self) -> int:
        """Number of parameters that are trainable."""
        return self.size if self.trainable is None else int(self.trainable.sum())

    def flat(self) -> Array:
        """The weights as one new vector, in the order of ``net.flat()``.

        Returns
        -------
        array, shape (parameters,)
        """
        found: Array = self.net.flat()
        return found

    def with_flat(self, vector: ArrayLike) -> Objective:
        """The same objective at other weights.

        Parameters
        ----------
        vector : array, shape (parameters,)
            In the order of :meth:`flat`.

        Returns
        -------
        Objective

        Raises
        ------
        ValueError, TypeError
            If the vector has another length or is not finite.
        """
        return self._with(net=self.net.with_flat(vector))

    def at(self, vector: Array) -> Objective:
        """The same where the weights are the given array itself, finite or not."""
        return self._with(net=self.net.at(vector))

    @checked(chosen=arguments.indices)
    def batch(self, chosen: ArrayLike) -> Objective:
        """The same objective on some of the examples.

        Parameters
        ----------
        chosen : array of int, shape (some,)
            Numbers of the examples, in 0..examples - 1; one may occur more than once.

        Returns
        -------
        Objective

        Raises
        ------
        ValueError, TypeError
            If a number is none of an example.
        """
        numbers: NDArray[np.int64] = chosen  # type: ignore[assignment]
        if numbers.max() >= self.examples:
            raise complain("batch", "chosen", f"example numbers in 0..{self.examples - 1}", int(numbers.max()))
        return self.of_examples(numbers)

    def of_examples(self, chosen: NDArray[np.int64]) -> Objective:
        """The same on some of the examples, their numbers known to be good."""
        return self._with(x=self.x[chosen], y=self.y[chosen], targets=self.targets[chosen])

    @computed
    def loss_value(self) -> Any:
        r"""The loss :math:`L(\theta)`; see :func:`loss_value`.

        Returns
        -------
        float
            +inf where it overflows; complex if the weights are.
        """
        value = self.mean.value(self.net, self.x, self.targets)
        if self.weight_decay:
            value = value + self.decay(self.net.flat())
        if not math.isfinite(value.real):
            return math.inf
        return value if np.iscomplexobj(value) else float(value)

    @computed
    def gradient(self) -> Array:
        r"""The gradient :math:`\nabla L` as one vector; see :func:`gradient`.

        Returns
        -------
        array, shape (parameters,)
            Zero where parameters are not trainable.
        """
        found = self.mean.gradient(self.net, self.x, self.targets)
        return self.masked(found + self.weight_decay * self.net.flat() if self.weight_decay else found)

    def loss_and_gradient(self) -> tuple[float, Array]:
        """Loss and gradient, in one pass where that can be; the loss may be NaN."""
        value, found = self.mean.value_and_gradient(self.net, self.x, self.targets)
        if self.weight_decay:
            weights = self.flat()
            value, found = value + self.decay(weights), found + self.weight_decay * weights
        return float(value), self.masked(found)

    @checked(v=arguments.vector)
    @computed
    def hessian_vector_product(self, v: ArrayLike) -> Array:
        """The Hessian times a vector, exact; see :func:`hessian_vector_product`.

        Parameters
        ----------
        v : array, shape (parameters,)
            The direction.

        Returns
        -------
        array, shape (parameters,)
            Rows and columns of parameters that are not trainable count as zero.

        Raises
        ------
        ValueError, TypeError
            If the vector has another length or is not finite.
        """
        direction: Array = v  # type: ignore[assignment]
        arguments.length("hessian_vector_product", "v", direction, self.size, "parameters")
        return self.products()(direction)

    @computed
    def example_gradients(self) -> Array:
        """The gradient of every example's loss, weight decay included; their mean over examples is the gradient.

        Returns
        -------
        array, shape (examples, parameters)
            Raw rows: their covariance is the gradient noise of batches of one. Zero where parameters are not trainable.
        """
        return self.gradient_rows().rows(slice(None))

    def products(self) -> Callable[[Array], Array]:
        """Products of the Hessian with vectors, one at a time; what they share is computed once."""
        product = self.mean.products(self.net, self.x, self.targets)

        def decayed(v: Array) -> Array:
            kept = self.masked(v)
            result = product(kept)
            if self.weight_decay:
                result = result + self.weight_decay * kept
            return self.masked(result)

        return decayed

    def gradient_rows(self) -> GradientRows:
        """The gradients of all examples, without holding them where that can be avoided."""
        return self.mean.gradient_rows(self)

    def curvatures(self, directions: Array, part: str = "whole") -> Array:
        """Second derivatives of every example's loss along columns, (examples, directions)."""
        return self.mean.curvatures(self, directions, part)

    def passes(self, examples: int) -> Any:
        """Loss and gradient of many batches of so many examples, without weight decay."""
        return self.mean.passes(self.net, examples)

    def masked(self, vector: Array) -> Array:
        """The vector with frozen entries at zero."""
        return vector if self.trainable is None else np.where(self.trainable, vector, 0.0)

    def masked_columns(self, directions: Array) -> Array:
        """Columns with frozen entries at zero."""
        return directions if self.trainable is None else directions * self.trainable[:, None]

    def decay(self, vector: Array) -> Any:
        """The weight decay's part of the loss."""
        kept = self.masked(vector)
        return 0.5 * self.weight_decay * kept.dot(kept)


@dataclass(frozen=True)
class _AnObjective:
    """An objective; where ``real``, one of real weights, for what has no meaning at complex ones."""

    real: bool

    @property
    def text(self) -> str:
        return "an Objective of a network with real weights" if self.real else "an Objective"

    def check(self, owner: str, name: str, value: Any) -> Objective:
        if not isinstance(value, Objective):
            raise complain(owner, name, self.text, value, TypeError)
        if self.real and np.iscomplexobj(value.net.flat()):
            raise complain(owner, name, self.text, value.net)
        return value


an_objective: Domain = _AnObjective(real=False)
real_objective: Domain = _AnObjective(real=True)
