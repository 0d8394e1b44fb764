r"""What one step does to the loss along given directions: the raw numbers behind overshoot.

Along a unit direction :math:`d` with :math:`\bar g_d = \nabla L\cdot d`, :math:`q = g_B\cdot d` and
:math:`\lambda = d^THd`, :math:`\alpha` times a step of :math:`-\eta q` changes the parabola of the loss by

.. math:: \varphi_B(\alpha) = -\alpha\eta\, q\,\bar g_d + \tfrac12\alpha^2\eta^2\lambda q^2 .

Verdicts (did it overshoot, did the loss rise, how far off is the mean minimiser) are counts and ratios of sums of these
over steps, and belong to theory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import checked, complain, flag, integer, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import Entry, dataset
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.sampling import (
    Directions,
    IndexRows,
    check_batch_size,
    direction_columns,
    index_rows,
)

__all__ = ["projected_steps"]

Array = NDArray[Any]


@checked(
    objective=real_objective,
    directions=arguments.directions,
    batch_size=integer(1),
    batches=optional(arguments.index_rows),
    replacement=flag,
)
def projected_steps(
    objective: Objective,
    *,
    directions: Directions,
    batch_size: int,
    batches: IndexRows | None = None,
    replacement: bool = False,
) -> xr.Dataset:
    r"""Gradients and curvatures along directions: of the full loss, exactly, and of batches.

    One pass over the examples gives all projections :math:`g_i\cdot d` and curvatures :math:`d^TH_id`; a batch costs a
    mean of them. So the moments over all batches are exact,

    .. math:: E\,q^2 = \bar g_d^2 + c_S\,d^TKd, \qquad
              c_S = \frac{n-S}{S(n-1)} \text{ without replacement}, \quad \frac1S \text{ with},

    and thousands of batches are cheap. To look at the batches of a run, replay their numbers with
    :meth:`Batches.numbers`.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    directions : array, shape (parameters,) or (parameters, directions), or callable
        Directions :math:`d` as columns, not normalised; or a callable ``objective -> array``, such as
        ``tracker.directions``.
    batch_size : int
        :math:`S`, >= 1; without replacement at most the number of examples.
    batches : array of int, shape (draws, batch_size), or callable, optional
        Batches as numbers of examples, from :func:`draw_batches`; or a callable ``objective -> array``, such as
        :func:`fresh_batches`. None: only what is exact.
    replacement : bool
        How batches are drawn; enters the second moment alone.

    Returns
    -------
    xarray.Dataset
        Along ``direction``: ``gradient_projection``, :math:`\bar g_d`; ``curvature``, :math:`\lambda`;
        ``projection_variance``, :math:`d^TKd` (divisor n); ``projection_second_moment``, :math:`E\,q^2`, exact;
        ``curvature_variance``, the variance of :math:`d^TH_id` over examples (divisor n); ``gauss_newton_curvature``,
        the Gauss-Newton part of :math:`\lambda` (not of a UserNetwork). With batches along ``draw`` too:
        ``batch_projection``, :math:`q`, and ``batch_curvature``, :math:`d^TH_Bd`, one by one.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, network, projected_steps
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> x, y = [[1.0], [3.0]], [1.0, 6.0]  # gradients 1 and 0
    >>> found = projected_steps(Objective(net, x, y, "mse"), directions=[1.0], batch_size=1, batches=[[0], [1]])
    >>> found.projection_second_moment.values, found.batch_projection.values.ravel()
    (array([0.5]), array([1., 0.]))
    """
    owner = "projected_steps"
    check_batch_size(owner, batch_size, objective.examples, replacement)
    columns = direction_columns(owner, directions, objective)
    chosen = None if batches is None else index_rows(owner, batches, objective)
    if chosen is not None and chosen.shape[1] != batch_size:
        raise complain(owner, "batches", f"of shape (draws, {batch_size}), the batch size", f"shape {chosen.shape}")
    dims = ["direction"]
    with one_blas_thread(), np.errstate(all="ignore"):
        projections = objective.gradient_rows().project(columns)
        curvatures = objective.curvatures(columns)
        gradient, variance = projections.mean(axis=0), projections.var(axis=0)
        factor = batch_factor(owner, objective.examples, batch_size, replacement)
        entries: dict[str, Entry] = {
            "gradient_projection": (dims, gradient, "slope of the loss along the direction", "loss"),
            "curvature": (dims, curvatures.mean(axis=0), "curvature of the loss along the direction", "loss"),
            "projection_variance": (dims, variance, "variance of per-example slopes along the direction", "loss^2"),
            "projection_second_moment": (
                dims,
                gradient**2 + factor * variance,
                "mean square over batches of the slope along the direction",
                "loss^2",
            ),
            "curvature_variance": (
                dims,
                curvatures.var(axis=0),
                "variance of per-example curvatures along the direction",
                "loss^2",
            ),
        }
        if objective.mean.knows_gauss_newton:
            entries["gauss_newton_curvature"] = (
                dims,
                objective.curvatures(columns, "gauss_newton").mean(axis=0),
                "Gauss-Newton part of the curvature along the direction",
                "loss",
            )
        if chosen is not None:
            pairs = ["draw", "direction"]
            entries |= {
                "batch_projection": (
                    pairs,
                    np.stack([projections[some].mean(axis=0) for some in chosen]),
                    "slope of the loss of a batch along the direction",
                    "loss",
                ),
                "batch_curvature": (
                    pairs,
                    np.stack([curvatures[some].mean(axis=0) for some in chosen]),
                    "curvature of the loss of a batch along the direction",
                    "loss",
                ),
            }
        return dataset(owner, entries, loss=objective.loss)
