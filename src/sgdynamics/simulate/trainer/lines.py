"""The loss at many points: along straight lines through the weights, or anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.derivatives import data_domains, objective, trainable_domain
from sgdynamics.simulate.trainer.examples import curvatures_along
from sgdynamics.simulate.trainer.labelled import dataset
from sgdynamics.simulate.trainer.losses import AnyLoss
from sgdynamics.simulate.trainer.network import AnyNetwork, check_real
from sgdynamics.simulate.trainer.sampling import Directions, direction_columns

__all__ = ["loss_along", "losses_at"]

Array = NDArray[Any]


@checked(
    **data_domains,
    directions=arguments.directions,
    distances=arguments.row,
    trainable=trainable_domain,
)
def loss_along(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    directions: Directions,
    distances: ArrayLike,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> xr.Dataset:
    r"""The loss :math:`L(\theta + a\,d)` along directions, by forward passes, and its parabola at :math:`a = 0`.

    The examples are those given, whatever the directions were made from: on the batch that made a step the loss nearly
    always falls, and says little about the step.

    Parameters
    ----------
    net, x, y, loss, weight_decay
        As for :func:`loss_value`.
    directions : array, shape (parameters,) or (parameters, directions), or callable
        Directions :math:`d` as columns, not normalised; or a callable ``net -> array``.
    distances : float or array, shape (distances,)
        The multipliers :math:`a`, of any sign.
    trainable : array of bool, shape (parameters,), optional
        Components of the directions at the other parameters count as zero.

    Returns
    -------
    xarray.Dataset
        ``line_loss`` (direction, distance), +inf where it overflows. ``start_loss``, at :math:`a=0`. ``slope``
        (direction), :math:`\nabla L\cdot d`, and ``curvature`` (direction), :math:`d^THd` by the R-operator:
        :math:`L(\theta + a d) = L + a\,\text{slope} + \tfrac12a^2\,\text{curvature} + O(a^3)`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import loss_along, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = loss_along(net, [[1.0]], [0.0], "mse", directions=[1.0], distances=[-2.0, 0.0, 1.0])
    >>> found.line_loss.values, found.slope.values, found.curvature.values
    (array([[0. , 2. , 4.5]]), array([2.]), array([1.]))
    """
    owner = "loss_along"
    check_real(owner, net)
    what = objective(owner, net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    columns = direction_columns(owner, directions, net)
    multipliers = np.atleast_1d(np.asarray(distances))
    with one_blas_thread(), np.errstate(all="ignore"):
        start = net.flat()
        moves = [what.masked(column) for column in columns.T]
        losses = [[what.value(net.at(start + a * move)) for a in multipliers] for move in moves]
        found = dataset(
            owner,
            {
                "line_loss": (["direction", "distance"], losses, "loss along the direction", "loss"),
                "start_loss": ([], what.value(net), "loss at the weights", "loss"),
                "slope": (
                    ["direction"],
                    columns.T @ what.gradient(net),
                    "slope of the loss along the direction",
                    "loss",
                ),
                "curvature": (
                    ["direction"],
                    curvatures_along(what, net, columns).mean(axis=0),
                    "curvature of the loss along the direction",
                    "loss",
                ),
            },
            loss=loss,
        )
    attributes = {"long_name": "multiple of the direction", "units": "1"}
    return found.assign_coords(distance=("distance", multipliers, attributes))


@checked(**data_domains, weights=arguments.matrix, trainable=trainable_domain)
def losses_at(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    weights: ArrayLike,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> Array:
    r"""The loss at many weights: :func:`loss_value` of each, bit for bit, with the arguments checked once.

    Parameters
    ----------
    net : Network or UserNetwork
        Gives the architecture; its weights do not matter.
    x, y, loss, weight_decay, trainable
        As for :func:`loss_value`.
    weights : array, shape (points, parameters)
        Weights as rows, each in the order of ``net.flat()``.

    Returns
    -------
    array, shape (points,)
        +inf where the loss overflows.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import losses_at, network
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> losses_at(net, [[1.0]], [0.0], "mse", weights=[[1.0], [-2.0]])
    array([0.5, 2. ])
    """
    owner = "losses_at"
    check_real(owner, net)
    what = objective(owner, net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    rows: Array = weights  # type: ignore[assignment]
    arguments.length(owner, "weights", rows.T, net.size, "parameters, along the second axis")
    with one_blas_thread(), np.errstate(all="ignore"):
        return np.array([what.value(net.at(row)) for row in rows])
