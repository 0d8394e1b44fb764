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
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._sampling import batch_factor
from sgdynamics.domains import checked, flag, integer
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.derivatives import data_domains, objective, trainable_domain
from sgdynamics.simulate.trainer.examples import example_gradients
from sgdynamics.simulate.trainer.labelled import Entry, dataset, ratio, with_error
from sgdynamics.simulate.trainer.losses import AnyLoss
from sgdynamics.simulate.trainer.network import AnyNetwork, check_real
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


@checked(**data_domains, batch_size=integer(1), replacement=flag, trainable=trainable_domain)
def gradient_interaction(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    batch_size: int,
    replacement: bool = False,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> xr.Dataset:
    r"""Gradient-noise interaction and interaction-aware sharpness over all batches, exactly, with their pieces.

    Costs one Hessian product per example or per parameter, whichever is fewer; :func:`sampled_interaction` costs one
    per batch drawn.

    Parameters
    ----------
    net, x, y, loss, weight_decay, trainable
        As for :func:`hessian_vector_product`.
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
    >>> from sgdynamics.simulate.trainer import gradient_interaction, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = gradient_interaction(net, [[1.0], [3.0]], [1.0, 6.0], "mse", batch_size=1)  # gradients 1 and 0, H = 5
    >>> found.gradient_noise_interaction.item(), found.interaction_aware_sharpness.item()
    (10.0, 5.0)
    """
    owner = "gradient_interaction"
    check_real(owner, net)
    what = objective(owner, net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    check_batch_size(owner, batch_size, what.examples, replacement)
    with one_blas_thread(), np.errstate(all="ignore"):
        gradients, products = example_gradients(what, net), what.products(net)
        mean = gradients.mean()
        squared = mean.dot(mean)
        variance = gradients.variance()
        along_mean = mean.dot(products(mean))
        along_noise = _noise_curvature(gradients, products, mean)
        factor = batch_factor(owner, what.examples, batch_size, replacement)
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
            loss=loss,
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


_SAMPLED = {**data_domains, "batches": arguments.index_rows, "trainable": trainable_domain}


@checked(**_SAMPLED)
def sampled_interaction(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    batches: IndexRows,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> xr.Dataset:
    r"""The numbers of :func:`gradient_interaction` from some batches, with standard errors.

    Parameters
    ----------
    net, x, y, loss, weight_decay, trainable
        As for :func:`hessian_vector_product`.
    batches : array of int, shape (draws, batch_size), or callable
        At least two independent batches as numbers of examples, from :func:`draw_batches`; or a callable ``net ->
        array``, such as :func:`fresh_batches`.

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
    >>> from sgdynamics.simulate.trainer import network, sampled_interaction
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = sampled_interaction(net, [[1.0], [3.0]], [1.0, 6.0], "mse", batches=[[0], [1]])
    >>> found.interaction.item(), found.interaction_standard_error.item()
    (2.5, 2.5)
    """
    owner = "sampled_interaction"
    check_real(owner, net)
    what = objective(owner, net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    chosen = index_rows(owner, batches, net, what.examples, least=2)
    with one_blas_thread(), np.errstate(all="ignore"):
        products = what.products(net)
        mean = what.gradient(net)
        squared = mean.dot(mean)
        rows = [what.batch(some).gradient(net) for some in chosen]
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
        return dataset(owner, entries, loss=loss, hessian_products=len(chosen), draws=len(chosen))


@checked(**_SAMPLED)
def batch_sharpness(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    loss: AnyLoss,
    *,
    batches: IndexRows,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
) -> xr.Dataset:
    r"""Curvature of every batch's own loss along its own gradient, averaged over batches.

    Parameters
    ----------
    net, x, y, loss, weight_decay, trainable
        As for :func:`hessian_vector_product`.
    batches : array of int, shape (draws, batch_size), or callable
        At least two independent batches as numbers of examples, from :func:`draw_batches`; or a callable ``net ->
        array``, such as :func:`fresh_batches`.

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
    >>> from sgdynamics.simulate.trainer import batch_sharpness, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    >>> found = batch_sharpness(net, [[1.0], [3.0]], [0.0, 0.0], "mse", batches=[[0], [1]])  # gradients 1 and 9
    >>> found.batch_sharpness.item(), round(found.batch_sharpness_of_means.item(), 3)
    (5.0, 8.902)
    """
    owner = "batch_sharpness"
    check_real(owner, net)
    what = objective(owner, net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    chosen = index_rows(owner, batches, net, what.examples, least=2)
    with one_blas_thread(), np.errstate(all="ignore"):
        curved, lengths = np.empty(len(chosen)), np.empty(len(chosen))
        for draw, some in enumerate(chosen):
            batch = what.batch(some)
            row = batch.gradient(net)
            curved[draw], lengths[draw] = row.dot(batch.products(net)(row)), row.dot(row)
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
            loss=loss,
            hessian_products=len(chosen),
            draws=len(chosen),
        )
