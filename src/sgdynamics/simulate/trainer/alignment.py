"""How far gradients point along given directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked, optional
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import Entry, dataset, ratio, with_error
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.sampling import (
    Directions,
    IndexRows,
    deviation_and_error,
    direction_columns,
    index_rows,
    mean_and_error,
)

__all__ = ["alignments"]

Array = NDArray[Any]


@checked(
    objective=real_objective,
    directions=arguments.directions,
    batches=optional(arguments.index_rows),
)
def alignments(
    objective: Objective,
    *,
    directions: Directions,
    batches: IndexRows | None = None,
) -> xr.Dataset:
    r"""Cosines of gradients with directions: of the mean gradient, of all examples (exact) and of batches (sampled).

    Signs of eigenvectors are arbitrary, and so are those of mean cosines; absolute ones are not. A gradient that
    vanishes has cosine 0.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    directions : array, shape (parameters,) or (parameters, directions), or callable
        Directions as columns, of any length; or a callable ``objective -> array``, such as ``tracker.directions``.
    batches : array of int, shape (draws, batch_size), or callable, optional
        At least two batches as numbers of examples, from :func:`draw_batches`; or a callable ``objective -> array``,
        such as :func:`fresh_batches`. None: no batches are looked at.

    Returns
    -------
    xarray.Dataset
        All along ``direction``. ``gradient_cosine``, of the mean gradient. ``example_cosine``,
        ``example_absolute_cosine`` and ``example_cosine_deviation``: mean, mean absolute value and standard deviation
        (divisor n) over all examples. With batches ``batch_cosine``, ``batch_absolute_cosine`` and
        ``batch_cosine_deviation``, each with ``..._standard_error``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, alignments, network
    >>> net = network([2, 1], "linear", biases=False, seed=0).with_flat([3.0, 4.0])
    >>> x, y = [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]  # gradients (3, 0) and (0, 4)
    >>> found = alignments(Objective(net, x, y, "mse"), directions=[2.0, 0.0])
    >>> found.gradient_cosine.values, found.example_cosine.values
    (array([0.6]), array([0.5]))
    """
    owner = "alignments"
    columns = direction_columns(owner, directions, objective)
    chosen = None if batches is None else index_rows(owner, batches, objective, least=2)
    dims = ["direction"]
    with one_blas_thread(), np.errstate(all="ignore"):
        units = ratio(columns, np.linalg.norm(columns, axis=0))
        gradients = objective.gradient_rows()
        mean = gradients.mean()
        lengths = np.sqrt(np.maximum(gradients.squared_norms(), 0.0))
        of_examples = ratio(gradients.project(units), lengths[:, None])
        entries: dict[str, Entry] = {
            "gradient_cosine": (
                dims,
                ratio(mean @ units, np.linalg.norm(mean)),
                "cosine of the mean gradient with the direction",
                "1",
            ),
            "example_cosine": (dims, of_examples.mean(axis=0), "mean cosine of per-example gradients", "1"),
            "example_absolute_cosine": (
                dims,
                np.abs(of_examples).mean(axis=0),
                "mean absolute cosine of per-example gradients",
                "1",
            ),
            "example_cosine_deviation": (
                dims,
                of_examples.std(axis=0),
                "standard deviation of the cosine of per-example gradients",
                "1",
            ),
        }
        if chosen is not None:
            rows = np.stack([objective.of_examples(some).gradient() for some in chosen])
            cosines = ratio(rows @ units, np.linalg.norm(rows, axis=1)[:, None])
            for name, estimate, long_name in (
                ("batch_cosine", mean_and_error(cosines), "mean cosine of batch gradients"),
                (
                    "batch_absolute_cosine",
                    mean_and_error(np.abs(cosines)),
                    "mean absolute cosine of batch gradients",
                ),
                (
                    "batch_cosine_deviation",
                    deviation_and_error(cosines),
                    "standard deviation of the cosine of batch gradients",
                ),
            ):
                entries |= with_error(name, dims, estimate, long_name, "1")
        return dataset(owner, entries, loss=objective.loss, draws=0 if chosen is None else len(chosen))
