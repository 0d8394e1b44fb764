"""The loss at many points: along straight lines through the weights, or anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import dataset
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.sampling import Directions, direction_columns

__all__ = ["loss_along", "losses_at"]

Array = NDArray[Any]


@checked(
    objective=real_objective,
    directions=arguments.directions,
    distances=arguments.row,
)
def loss_along(
    objective: Objective,
    *,
    directions: Directions,
    distances: ArrayLike,
) -> xr.Dataset:
    r"""The loss :math:`L(\theta + a\,d)` along directions, by forward passes, and its parabola at :math:`a = 0`.

    The examples are those given, whatever the directions were made from: on the batch that made a step the loss nearly
    always falls, and says little about the step.

    Parameters
    ----------
    objective : Objective
        Components of the directions at parameters that are not trainable count as zero.
    directions : array, shape (parameters,) or (parameters, directions), or callable
        Directions :math:`d` as columns, not normalised; or a callable ``objective -> array``.
    distances : float or array, shape (distances,)
        The multipliers :math:`a`, of any sign.

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
    >>> from sgdynamics.simulate.trainer import Objective, loss_along, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = loss_along(Objective(net, [[1.0]], [0.0], "mse"), directions=[1.0], distances=[-2.0, 0.0, 1.0])
    >>> found.line_loss.values, found.slope.values, found.curvature.values
    (array([[0. , 2. , 4.5]]), array([2.]), array([1.]))
    """
    owner = "loss_along"
    columns = direction_columns(owner, directions, objective)
    multipliers = np.atleast_1d(np.asarray(distances))
    with one_blas_thread(), np.errstate(all="ignore"):
        start = objective.flat()
        moves = [objective.masked(column) for column in columns.T]
        losses = [[objective.at(start + a * move).loss_value() for a in multipliers] for move in moves]
        found = dataset(
            owner,
            {
                "line_loss": (["direction", "distance"], losses, "loss along the direction", "loss"),
                "start_loss": ([], objective.loss_value(), "loss at the weights", "loss"),
                "slope": (
                    ["direction"],
                    columns.T @ objective.gradient(),
                    "slope of the loss along the direction",
                    "loss",
                ),
                "curvature": (
                    ["direction"],
                    objective.curvatures(columns).mean(axis=0),
                    "curvature of the loss along the direction",
                    "loss",
                ),
            },
            loss=objective.loss,
        )
    attributes = {"long_name": "multiple of the direction", "units": "1"}
    return found.assign_coords(distance=("distance", multipliers, attributes))


@checked(objective=real_objective, weights=arguments.matrix)
def losses_at(
    objective: Objective,
    *,
    weights: ArrayLike,
) -> Array:
    r"""The loss at many weights: its ``loss_value()`` at each, bit for bit.

    Parameters
    ----------
    objective : Objective
        Its own weights do not matter.
    weights : array, shape (points, parameters)
        Weights as rows, each in the order of ``objective.flat()``.

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
    >>> from sgdynamics.simulate.trainer import Objective, losses_at, network
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> losses_at(Objective(net, [[1.0]], [0.0], "mse"), weights=[[1.0], [-2.0]])
    array([0.5, 2. ])
    """
    owner = "losses_at"
    rows: Array = weights  # type: ignore[assignment]
    arguments.length(owner, "weights", rows.T, objective.size, "parameters, along the second axis")
    with one_blas_thread(), np.errstate(all="ignore"):
        return np.array([objective.at(row).loss_value() for row in rows])
