r"""Networks of any framework, as callables of flat weights and a batch: what every instrument needs of them.

The trainer's instruments ask a network for four things: its weights as one vector, and on a batch of examples the mean
loss, its gradient and the product of its Hessian with a vector. Whatever computes these, in whatever framework, can be
measured, and trained, like a network of :func:`network`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import complain
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.gradient_rows import GradientRows
from sgdynamics.simulate.trainer.mean_loss import MeanLoss

if TYPE_CHECKING:
    from sgdynamics.simulate.trainer.objective import Objective

__all__ = ["UserNetwork"]

Array = NDArray[Any]
# What the callables compute is the loss that is meant; none of the trainer's own is.
OWN_LOSS = "own"


class UserNetwork:
    r"""A network of any framework, as callables of its flat weights and a batch.

    With examples it is an :class:`Objective`, which every instrument of this package takes; the loss, ``"own"``, is
    what the callables compute. Examples may be arrays of any shape and type with the examples along the first axis.

    Parameters
    ----------
    weights : array, shape (parameters,), or callable
        All parameters as one vector, or a callable without arguments that returns it.
    loss : callable
        ``loss(weights, x, y)``, the mean loss over the examples of a batch: a number.
    gradient : callable
        ``gradient(weights, x, y)``, its gradient, shape (parameters,).
    hessian_vector_product : callable, optional
        ``hessian_vector_product(weights, x, y, v)``, its Hessian times ``v``, shape (parameters,). Without it what
        needs curvature is refused.
    example_gradients : callable, optional
        ``example_gradients(weights, x, y)``, the gradient of every example's loss, shape (examples, parameters); None
        calls ``gradient`` on batches of one.

    Raises
    ------
    ValueError, TypeError
        If the weights are not a vector of finite numbers or an argument cannot be called; when a callable returns
        something of another shape than said above.

    Notes
    -----
    Vectors go in and come out as float64. Frameworks that compute in single precision limit every result to that:
    eigenvalues to about 1e-6, and small differences of losses to nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdynamics.simulate.trainer import Objective, UserNetwork, top_eigenpairs
    >>> net = UserNetwork(
    ...     [1.0, 1.0],
    ...     loss=lambda w, x, y: np.mean((x @ w - y) ** 2) / 2,
    ...     gradient=lambda w, x, y: x.T @ (x @ w - y) / len(x),
    ...     hessian_vector_product=lambda w, x, y, v: x.T @ (x @ v) / len(x),
    ... )
    >>> top_eigenpairs(Objective(net, [[3.0, 0.0], [0.0, 1.0]], [0.0, 0.0])).values.round(12)
    array([4.5])
    """

    def __init__(
        self,
        weights: ArrayLike | Callable[[], ArrayLike],
        *,
        loss: Callable[[Array, Any, Any], Any],
        gradient: Callable[[Array, Any, Any], Any],
        hessian_vector_product: Callable[[Array, Any, Any, Array], Any] | None = None,
        example_gradients: Callable[[Array, Any, Any], Any] | None = None,
    ) -> None:
        owner = type(self).__name__
        given = weights() if callable(weights) else weights
        self._weights: Array = np.array(arguments.vector.check(owner, "weights", given))
        self._callables: dict[str, Callable[..., Any] | None] = {
            "loss": loss,
            "gradient": gradient,
            "hessian_vector_product": hessian_vector_product,
            "example_gradients": example_gradients,
        }
        for name, value in self._callables.items():
            optional = name in ("hessian_vector_product", "example_gradients")
            if not callable(value) and not (optional and value is None):
                raise complain(owner, name, "a callable" + (" or None" if optional else ""), value, TypeError)

    def __repr__(self) -> str:
        return f"UserNetwork, {self.size} parameters"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self._weights.size

    def flat(self) -> Array:
        """All parameters as one new vector."""
        return self._weights.copy()

    def with_flat(self, vector: ArrayLike) -> UserNetwork:
        """The same network with other parameters.

        Parameters
        ----------
        vector : array, shape (parameters,)

        Returns
        -------
        UserNetwork

        Raises
        ------
        ValueError, TypeError
            If the vector has another length or is not finite.
        """
        found = arguments.vector.check("with_flat", "vector", vector)
        arguments.length("with_flat", "vector", found, self.size, "parameters")
        return self.at(found.copy())

    def at(self, vector: Array) -> UserNetwork:
        """The network whose parameters are the given array itself, finite or not."""
        made = object.__new__(UserNetwork)
        made._weights, made._callables = vector, self._callables
        return made

    def views(self, vector: Array) -> Array:
        """A flat vector in the form that the trainer's inner loops take: here itself."""
        return vector

    def has(self, name: str) -> bool:
        """Whether the optional callable of that name was given."""
        return self._callables[name] is not None

    def number(self, name: str, *batch: Any) -> float:
        """What the callable says at these weights, as a number."""
        found = np.asarray(self._call(name, batch), dtype=np.float64)
        if found.size != 1:
            raise complain("UserNetwork", name, "a callable that returns one number", f"shape {found.shape}")
        return float(found.reshape(()))

    def numbers(self, name: str, *batch: Any, shape: tuple[int, ...]) -> Array:
        """What the callable says at these weights, as an array of a given shape."""
        found = np.asarray(self._call(name, batch), dtype=np.float64)
        if found.shape != shape:
            text = f"a callable that returns numbers of shape {shape}"
            raise complain("UserNetwork", name, text, f"shape {found.shape}")
        return found

    def _call(self, name: str, batch: tuple[Any, ...]) -> Any:
        function = self._callables[name]
        if function is None:
            raise complain("UserNetwork", name, "given where curvature is measured", None)
        return function(self._weights, *batch)


class CallablesLoss(MeanLoss):
    """The mean loss that the callables of a network compute."""

    def value(self, net: UserNetwork, x: Array, targets: Array) -> float:
        """The loss."""
        return net.number("loss", x, targets)

    def gradient(self, net: UserNetwork, x: Array, targets: Array) -> Array:
        """The gradient as one new vector."""
        return net.numbers("gradient", x, targets, shape=(net.size,)).copy()

    def products(self, net: UserNetwork, x: Array, targets: Array) -> Callable[[Array], Array]:
        """Products of the Hessian with vectors."""

        def product(v: Array) -> Array:
            return net.numbers("hessian_vector_product", x, targets, v, shape=(net.size,)).copy()

        return product

    def gradient_rows(self, what: Objective) -> UserGradientRows:
        """The gradients of all examples."""
        return UserGradientRows(what)

    def curvatures(self, what: Objective, directions: Array, part: str) -> Array:
        """Second derivatives of every example's loss along columns, (examples, directions)."""
        if part == "gauss_newton":
            raise complain("per_example_curvatures", "part", "'whole' for a UserNetwork", part)
        columns = what.masked_columns(directions).T
        found = np.empty((what.examples, len(columns)))
        for example in range(what.examples):
            product = what.of_examples(np.array([example])).products()
            found[example] = [direction.dot(product(direction)) for direction in columns]
        return found

    def passes(self, net: UserNetwork, examples: int) -> UserPasses:
        """Loss and gradient of many batches."""
        return UserPasses(net)


class UserGradientRows(GradientRows):
    """The gradients of all examples at one network, as rows."""

    def __init__(self, what: Objective) -> None:
        net = what.net
        self.examples, self.size = what.examples, net.size
        if net.has("example_gradients"):
            rows = net.numbers("example_gradients", what.x, what.targets, shape=(what.examples, net.size))
            self._rows = np.stack([what.masked(row) for row in rows + what.weight_decay * net.flat()])
        else:
            self._rows = np.stack([what.of_examples(np.array([one])).gradient() for one in range(what.examples)])

    def rows(self, chosen: slice) -> Array:
        """The gradients of some examples, (some, parameters)."""
        return self._rows[chosen]

    def project(self, directions: Array) -> Array:
        """Components along the columns of ``directions`` (parameters, k): (examples, k)."""
        return np.asarray(self._rows @ directions)

    def combine(self, weights: Array) -> Array:
        """Weighted sums over examples, weights (examples, k): (parameters, k)."""
        return np.asarray(self._rows.T @ weights)

    def mean(self) -> Array:
        """The gradient of the mean loss."""
        return np.asarray(self._rows.mean(axis=0))

    def gram(self) -> Array:
        """Scalar products of the gradients, (examples, examples)."""
        return np.asarray(self._rows @ self._rows.T)

    def squared_norms(self) -> Array:
        """The squared length of every gradient, (examples,)."""
        return np.asarray(np.einsum("ij,ij->i", self._rows, self._rows))


class UserPasses:
    """Loss and gradient of batches, in the form that the loop of a run takes."""

    def __init__(self, net: UserNetwork) -> None:
        self.net = net

    def loss_value(self, weights: Array, x: Array, targets: Array) -> float:
        """The mean loss."""
        return self.net.at(weights).number("loss", x, targets)

    def write_gradient(self, weights: Array, x: Array, targets: Array, into: Array, want_loss: bool) -> float | None:
        """The gradient of the mean loss, written into a vector; the loss itself if it is wanted."""
        here = self.net.at(weights)
        into[:] = here.numbers("gradient", x, targets, shape=into.shape)
        return here.number("loss", x, targets) if want_loss else None
