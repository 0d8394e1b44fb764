"""Second derivatives of every example's loss along directions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked, choice
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.objective import Objective, an_objective

__all__ = ["per_example_curvatures"]

Array = NDArray[Any]


@checked(objective=an_objective, v=arguments.columns, part=choice("whole", "gauss_newton"))
def per_example_curvatures(
    objective: Objective, v: ArrayLike, *, part: Literal["whole", "gauss_newton"] = "whole"
) -> Array:
    r"""The second derivative of every example's loss along directions; their mean is :math:`v^T H v`.

    With :math:`z` the outputs of the network at an example and dots for derivatives along :math:`v`,

    .. math:: h_i = \dot z^T \frac{\partial^2\ell}{\partial z^2}\,\dot z
              + \frac{\partial\ell}{\partial z}\cdot\ddot z + \lambda |v|^2 .

    The first term is the Gauss-Newton part, never negative; the second vanishes where the example is fitted, and need
    not be small elsewhere.

    Parameters
    ----------
    objective : Objective
        Its weight decay is part of every example's loss.
    v : array, shape (parameters,) or (parameters, directions)
        One direction, or several as columns; not normalised. Components at parameters that are not trainable count as
        zero.
    part : {"whole", "gauss_newton"}
        All of it, or the first term alone, which the callables of a UserNetwork do not tell.

    Returns
    -------
    array, shape (examples,) or (examples, directions)
        :math:`h_i = v^T H_i v`, or its Gauss-Newton part.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, network, per_example_curvatures
    >>> net = network([1, 1], "linear", biases=False, seed=0)
    >>> per_example_curvatures(Objective(net, [[1.0], [3.0]], [1.0, 6.0], "mse"), [1.0])
    array([1., 9.])
    """
    given: Array = v  # type: ignore[assignment]
    arguments.length("per_example_curvatures", "v", given, objective.size, "parameters")
    with one_blas_thread(), np.errstate(all="ignore"):
        found = objective.curvatures(given.reshape(objective.size, -1), part)
    return found[:, 0] if given.ndim == 1 else found
