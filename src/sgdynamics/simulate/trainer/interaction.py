r"""Curvature along the gradients that SGD sees: batch sharpness, gradient-noise interaction and the sharpness that
counts the interaction (IAS).

With :math:`S_b = E\,g_Bg_B^T = \bar g\bar g^T + c_SK`,

.. math:: \text{GNI} = \frac{E\,g_B^THg_B}{|\bar g|^2} = \frac{\operatorname{tr}(HS_b)}{|\bar g|^2},\qquad
          \text{IAS} = \frac{\operatorname{tr}(HS_b)}{\operatorname{tr}S_b},\qquad
          \text{batch sharpness} = E\,\frac{g_B^TH_Bg_B}{|g_B|^2} .

The first two have closed forms from per-example gradients and Hessian products, the third does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import checked, flag, integer
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import Entry, dataset, ratio, with_error
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.sampling import (
    IndexRows,
    check_batch_size,
    index_rows,
    mean_and_error,
    ratio_and_error,
)

__all__ = ["batch_sharpness", "gradient_interaction", "sampled_interaction"]

Array = NDArray[Any]

SQUARE = "squared gradient"
CURVED = "squared gradient times curvature"


@checked(objective=real_objective, batch_size=integer(1), replacement=flag)
def gradient_interaction(
    objective: Objective,
    *,
    batch_size: int,
    replacement: bool = False,
) -> xr.Dataset:
    r"""Gradient-noise interaction and interaction-aware sharpness over all batches, exactly, with their pieces.

    Costs one Hessian product per example or per parameter, whichever is fewer; :func:`sampled_interaction` costs one
    per batch drawn.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    batch_size : int
        :math:`S`, >= 1; without replacement at most the number of examples.
    replacement : bool
        How batches are drawn: :math:`c_S` is :math:`\frac{n-S}{S(n-1)}` without, :math:`1/S` with replacement.

    Returns
    -------
    xarray.Dataset
        ``squared_gradient``, :math:`|\bar g|^2`; ``gradient_variance``, :math:`\operatorname{Tr}K`;
        ``batch_second_moment``, :math:`\operatorname{tr}S_b = |\bar g|^2 + c_S\operatorname{Tr}K`;
        ``gradient_curvature``, :math:`\bar g^TH\bar g`; ``noise_curvature``, :math:`\operatorname{tr}(HK)`;
        ``interaction``, :math:`\operatorname{tr}(HS_b)`; ``gradient_noise_interaction`` and
        ``interaction_aware_sharpness``, the ratios. +inf where a gradient overflows or is divided by zero (0/0 is 0).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, gradient_interaction, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> objective = Objective(net, [[1.0], [3.0]], [1.0, 6.0], "mse")  # gradients 1 and 0, H = 5
    >>> found = gradient_interaction(objective, batch_size=1)
    >>> found.gradient_noise_interaction.item(), found.interaction_aware_sharpness.item()
    (10.0, 5.0)
    """
    owner = "gradient_interaction"
    check_batch_size(owner, batch_size, objective.examples, replacement)
    with one_blas_thread(), np.errstate(all="ignore"):
        gradients, products = objective.gradient_rows(), objective.products()
        mean = gradients.mean()
        squared = mean.dot(mean)
        variance = gradients.variance()
        along_mean = mean.dot(products(mean))
        along_noise = _noise_curvature(gradients, products, mean)
        factor = batch_factor(owner, objective.examples, batch_size, replacement)
        moment, interaction = squared + factor * variance, along_mean + factor * along_noise
        return dataset(
            owner,
            {
                "squared_gradient": ([], squared, "squared length of the mean gradient", SQUARE),
                "gradient_variance": ([], variance, "trace of the covariance of per-example gradients", SQUARE),
                "batch_second_moment": ([], moment, "mean squared length of batch gradients", SQUARE),
                "gradient_curvature": ([], along_mean, "mean gradient times Hessian times mean gradient", CURVED),
                "noise_curvature": ([], along_noise, "trace of Hessian times gradient covariance", CURVED),
                "interaction": ([], interaction, "mean over batches of gradient times Hessian times gradient", CURVED),
                "gradient_noise_interaction": (
                    [],
                    ratio(interaction, squared),
                    "interaction over the squared mean gradient",
                    "curvature",
                ),
                "interaction_aware_sharpness": (
                    [],
                    ratio(interaction, moment),
                    "interaction over the mean squared batch gradient",
                    "curvature",
                ),
            },
            loss=objective.loss,
            hessian_products=1 + min(gradients.examples, gradients.size),
        )


def _noise_curvature(gradients: Any, products: Any, mean: Array) -> Any:
    """The trace of Hessian times covariance, over examples or over parameters."""
    total = 0.0
    if gradients.examples <= gradients.size:
        for i in range(gradients.examples):
            row = gradients.rows(slice(i, i + 1))[0] - mean
            total += row.dot(products(row))
        return total / gradients.examples
    for j in range(gradients.size):
        unit = np.zeros((gradients.size, 1))
        unit[j] = 1.0
        along = gradients.project(unit)
        along -= along.mean()
        total += gradients.combine(along)[:, 0].dot(products(unit[:, 0]))
    return total / gradients.examples


_SAMPLED = {"objective": real_objective, "batches": arguments.index_rows}


@checked(**_SAMPLED)
def sampled_interaction(
    objective: Objective,
    *,
    batches: IndexRows,
) -> xr.Dataset:
    r"""The numbers of :func:`gradient_interaction` from some batches, with standard errors.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    batches : array of int, shape (draws, batch_size), or callable
        At least two independent batches as numbers of examples, from :func:`draw_batches`; or a callable ``objective
        -> array``, such as :func:`fresh_batches`.

    Returns
    -------
    xarray.Dataset
        ``squared_gradient``, :math:`|\bar g|^2`, exact. ``batch_second_moment``, ``interaction``,
        ``gradient_noise_interaction`` and ``interaction_aware_sharpness``, each with ``..._standard_error`` (for the
        last, a ratio of two means, by the delta method: its bias is of the order of the error squared).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, network, sampled_interaction
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = sampled_interaction(Objective(net, [[1.0], [3.0]], [1.0, 6.0], "mse"), batches=[[0], [1]])
    >>> found.interaction.item(), found.interaction_standard_error.item()
    (2.5, 2.5)
    """
    owner = "sampled_interaction"
    chosen = index_rows(owner, batches, objective, least=2)
    with one_blas_thread(), np.errstate(all="ignore"):
        products = objective.products()
        mean = objective.gradient()
        squared = mean.dot(mean)
        rows = [objective.of_examples(some).gradient() for some in chosen]
        lengths = np.array([row.dot(row) for row in rows])
        curved = np.array([row.dot(products(row)) for row in rows])
        value, error = mean_and_error(curved)
        entries: dict[str, Entry] = {
            "squared_gradient": ([], squared, "squared length of the mean gradient", SQUARE),
        }
        for name, estimate, long_name, units in (
            ("batch_second_moment", mean_and_error(lengths), "mean squared length of batch gradients", SQUARE),
            ("interaction", (value, error), "mean over batches of gradient times Hessian times gradient", CURVED),
            (
                "gradient_noise_interaction",
                (ratio(value, squared), ratio(error, squared)),
                "interaction over the squared mean gradient",
                "curvature",
            ),
            (
                "interaction_aware_sharpness",
                ratio_and_error(curved, lengths),
                "interaction over the mean squared batch gradient",
                "curvature",
            ),
        ):
            entries |= with_error(name, [], estimate, long_name, units)
        return dataset(owner, entries, loss=objective.loss, hessian_products=len(chosen), draws=len(chosen))


@checked(**_SAMPLED)
def batch_sharpness(
    objective: Objective,
    *,
    batches: IndexRows,
) -> xr.Dataset:
    r"""Curvature of every batch's own loss along its own gradient, averaged over batches.

    Parameters
    ----------
    objective : Objective
        Where it is measured.
    batches : array of int, shape (draws, batch_size), or callable
        At least two independent batches as numbers of examples, from :func:`draw_batches`; or a callable ``objective
        -> array``, such as :func:`fresh_batches`.

    Returns
    -------
    xarray.Dataset
        ``batch_sharpness``, the mean of the ratios :math:`g_B^TH_Bg_B/|g_B|^2`, and ``batch_sharpness_of_means``, the
        ratio :math:`E\,g_B^TH_Bg_B\,/\,E|g_B|^2`: two different numbers, each with ``..._standard_error`` (the second
        by the delta method). ``largest_ratio`` over the batches. A batch without gradient counts as 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, batch_sharpness, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    >>> objective = Objective(net, [[1.0], [3.0]], [0.0, 0.0], "mse")  # gradients 1 and 9
    >>> found = batch_sharpness(objective, batches=[[0], [1]])
    >>> found.batch_sharpness.item(), round(found.batch_sharpness_of_means.item(), 3)
    (5.0, 8.902)
    """
    owner = "batch_sharpness"
    chosen = index_rows(owner, batches, objective, least=2)
    with one_blas_thread(), np.errstate(all="ignore"):
        curved, lengths = np.empty(len(chosen)), np.empty(len(chosen))
        for draw, some in enumerate(chosen):
            batch = objective.of_examples(some)
            row = batch.gradient()
            curved[draw], lengths[draw] = row.dot(batch.products()(row)), row.dot(row)
        ratios = ratio(curved, lengths)
        return dataset(
            owner,
            {
                **with_error(
                    "batch_sharpness",
                    [],
                    mean_and_error(ratios),
                    "mean over batches of the curvature along the batch's gradient",
                    "curvature",
                ),
                **with_error(
                    "batch_sharpness_of_means",
                    [],
                    ratio_and_error(curved, lengths),
                    "mean curved square of batch gradients over their mean square",
                    "curvature",
                ),
                "largest_ratio": (
                    [],
                    ratios.max(),
                    "largest curvature along the batch's gradient among the batches",
                    "curvature",
                ),
            },
            loss=objective.loss,
            hessian_products=len(chosen),
            draws=len(chosen),
        )
