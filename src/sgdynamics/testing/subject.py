"""What a model computes, as functions of flat weights: all that the laws ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import complain
from sgdynamics.testing.strategies import vectors

__all__ = ["Subject", "of_network"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Subject:
    """A model under test.

    Only ``weights``, ``loss`` and ``gradient`` are needed; each law is looked at where what it speaks of is given.

    Parameters
    ----------
    weights : strategy of array, shape (parameters,)
        The points at which laws are looked at, for instance ``testing.vectors(3)``.
    loss : callable
        ``loss(weights)``, a number: the loss over everything.
    gradient : callable
        ``gradient(weights)``, shape (parameters,).
    hessian : callable, optional
        ``hessian(weights)``, shape (parameters, parameters). The gradient must then have no jumps.
    sharpness : callable, optional
        ``sharpness(weights)``, the largest eigenvalue of the Hessian.
    batches : sequence of (probability, batch), optional
        Every mini-batch that a step can meet, drawn independently in every step; probabilities sum to 1. A continuous
        law with the same moments may stand as few points.
    batch_gradient : callable, optional
        ``batch_gradient(weights, batch)``, shape (parameters,). Goes with ``batches``.
    step : callable, optional
        ``step(weights, rate)``, or ``step(weights, rate, batch)`` where there are batches: one step of (stochastic)
        gradient descent.
    moments : callable, optional
        ``moments(weights, rates)``, mean and covariance of the weights after these steps from there, shapes
        (parameters,) and (parameters, parameters), or (parameters,) for the variances alone.
    run : callable, optional
        ``run(rates, replicas)``, the losses that a simulation records, an array with the replicas along the first axis
        and steps along the last; ``replicas`` are indices >= 0 that name runs, whatever their place in the array.
    rates : array
        The schedule of the runs that are compared with each other.
    diverging : array, optional
        A schedule under which the losses of ``run`` leave the floats.
    """

    weights: st.SearchStrategy[Array]
    loss: Callable[[Array], Any]
    gradient: Callable[[Array], ArrayLike]
    _: KW_ONLY
    hessian: Callable[[Array], ArrayLike] | None = None
    sharpness: Callable[[Array], Any] | None = None
    batches: Sequence[tuple[float, Any]] | None = None
    batch_gradient: Callable[[Array, Any], ArrayLike] | None = None
    step: Callable[..., ArrayLike] | None = None
    moments: Callable[[Array, Array], tuple[ArrayLike, ArrayLike]] | None = None
    run: Callable[[Array, Array], ArrayLike] | None = None
    rates: ArrayLike = (0.1, 0.05, 0.2)
    diverging: ArrayLike | None = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if not isinstance(self.weights, st.SearchStrategy):
            raise complain(owner, "weights", "a strategy, for instance testing.vectors(3)", self.weights, TypeError)
        if (self.batches is None) != (self.batch_gradient is None):
            raise ValueError(f"{owner}: batches must be given with batch_gradient, got one of them")
        if self.moments is not None and (self.batches is None or self.step is None):
            raise ValueError(f"{owner}: moments must be given with batches and step, by which they are counted out")
        if self.diverging is not None and self.run is None:
            raise ValueError(f"{owner}: diverging must be given with run, which follows it")
        if self.batches is not None:
            total = float(sum(probability for probability, _ in self.batches))
            if not abs(total - 1) <= 1e-12:
                raise ValueError(f"{owner}: batches must be with probabilities that sum to 1, got a sum of {total!r}")

    def has(self, names: Sequence[str]) -> bool:
        """Whether all of these are given."""
        return all(getattr(self, name) is not None for name in names)


def of_network(net: Any, x: ArrayLike, y: ArrayLike, loss: str = "own", *, smooth: bool = True) -> Subject:
    """A network of the trainer, or your own adapter of another framework, as a subject.

    Parameters
    ----------
    net : Network or UserNetwork
        Points are drawn around its weights.
    x, y : array
        Examples.
    loss : {"mse", "cross_entropy", "own"}
    smooth : bool
        Whether the gradient has no jumps, so that the Hessian is looked at.

    Returns
    -------
    Subject
        With loss, gradient and step, and the Hessian where it is ``smooth``.
    """
    from sgdynamics.simulate import trainer

    x, y, start = np.asarray(x), np.asarray(y), net.flat()

    def hessian(weights: Array) -> Array:
        at = net.with_flat(weights)
        rows = [trainer.hessian_vector_product(at, x, y, unit, loss) for unit in np.eye(weights.size)]
        return np.array(rows)

    def step(weights: Array, rate: float) -> Array:
        after: Array = trainer.train(net.with_flat(weights), x, y, [rate], loss=loss, seed=0).final_weights.values
        return after

    return Subject(
        vectors(start.size).map(lambda around: start + around),
        lambda weights: trainer.loss_value(net.with_flat(weights), x, y, loss),
        lambda weights: trainer.gradient(net.with_flat(weights), x, y, loss),
        hessian=hessian if smooth else None,
        step=step,
    )
