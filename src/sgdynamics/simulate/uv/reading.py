"""Reading a phase diagram: thresholds along the learning rate of every network, and averages over networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import checked, complain, instance_of, nonnegative, swept
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.simulate._thresholds import first_hit, last_before, with_statistics
from sgdynamics.simulate.uv._core import Floats
from sgdynamics.simulate.uv.diagram import OUTCOMES

__all__ = ["over_seeds", "thresholds"]

NAMES = {
    "c_loss": "smallest c at which the loss ever rises above its start",
    "c_sharp": "smallest c at which the sharpness ever rises above its start",
    "c_max": "largest c before the first that diverges",
}


def _check_diagram(owner: str, diagram: xr.Dataset, dim: str) -> None:
    needed = {"outcome", "initial_sharpness", "final_sharpness", "peak_loss_ratio", "peak_sharpness_ratio"}
    if not needed <= set(diagram.data_vars) or dim not in diagram.outcome.dims:
        raise complain(owner, "diagram", f"a Dataset as from phase_diagram, with the dim {dim!r}", list(diagram.sizes))


def _first_hit(hit: NDArray[np.bool_], *, c: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    return first_hit(hit, c)


def _last_before(lost: NDArray[np.bool_], *, c: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    return last_before(lost, np.ones_like(lost), c)


@checked(diagram=instance_of(xr.Dataset), margin=swept(nonnegative))
def thresholds(diagram: xr.Dataset, *, margin: float = 1e-9) -> xr.Dataset:
    r"""Where, on the grid of learning rates, each network begins to catapult, to sharpen and to diverge.

    Everything is said of the first T steps of the diagram. The grid is read from below, as a learning rate would be
    raised: a network that survives again beyond its first divergence is not looked at. Divergence is a rise of both
    loss and sharpness. Thresholds are averaged over networks; a threshold of averages would be another number.

    Parameters
    ----------
    diagram : Dataset
        From :func:`phase_diagram`, along increasing ``c``.
    margin : float
        How far above its start, relative to it, a quantity must be to have risen.

    Returns
    -------
    Dataset
        For each of ``c_loss``, ``c_sharp`` and ``c_max``, in the units of ``c``:

        ``c_loss`` (..., seed)
            A point of the grid: for ``c_loss`` and ``c_sharp`` the threshold is at most one spacing below it, for
            ``c_max`` at most one above.
        ``c_loss_censored`` (..., seed)
            ``above``: not met on the grid, and the value is its last point; ``below``: met at the first point already.
        ``c_loss_mean``, ``c_loss_standard_error``, ``c_loss_censored_count`` (...)
            Over seeds, censored ones included at the end of the grid, so that the mean errs towards the grid and never
            by leaving networks out. The standard error of one seed is ``+inf``.

    Raises
    ------
    ValueError, TypeError
        If the diagram has no increasing axis ``c``.

    Examples
    --------
    At target 0 the loss first rises at 2 + 2.5/(n+1) on average, at large width, and divergence begins at 4 + 3/(n+1):

    >>> import numpy as np
    >>> from sgdynamics.simulate.uv import phase_diagram
    >>> found = thresholds(phase_diagram(np.arange(1.5, 4.6, 0.02), [64], steps=200, seeds=200))
    >>> found.c_loss_mean.values.round(2), found.c_max_mean.values.round(2), int(found.c_max_censored_count.sum())
    (array([2.05]), array([4.04]), 0)
    """
    _check_diagram("thresholds", diagram, "c")
    c = np.asarray(diagram.c.values, dtype=np.float64)
    if c.ndim != 1 or (np.diff(c) <= 0).any():
        raise complain("thresholds", "diagram", "along increasing c", c)
    hits = {
        "c_loss": diagram.peak_loss_ratio > 1 + margin,
        "c_sharp": diagram.peak_sharpness_ratio > 1 + margin,
        "c_max": diagram.outcome == Outcome.DIVERGED,
    }
    data = xr.Dataset()
    for name, hit in hits.items():
        value, censored = xr.apply_ufunc(
            _last_before if name == "c_max" else _first_hit,
            hit if hit.chunks is None else hit.chunk(c=-1),
            kwargs={"c": c},
            input_core_dims=[["c"]],
            output_core_dims=[[], []],
            dask="parallelized",
            output_dtypes=[np.float64, np.int8],
        )
        data = data.assign(with_statistics(name, NAMES[name], value, censored))
    return data.assign_attrs(diagram.attrs)


@checked(diagram=instance_of(xr.Dataset))
def over_seeds(diagram: xr.Dataset) -> xr.Dataset:
    r"""What most networks of a cell do, and how much sharpness they keep.

    Parameters
    ----------
    diagram : Dataset
        From :func:`phase_diagram`.

    Returns
    -------
    Dataset
        ``majority``, the commonest outcome (of equals the one with the smallest code), and its ``majority_share``;
        ``survivors``, how many networks did not diverge; ``sharpness_ratio_mean`` and
        ``sharpness_ratio_standard_error``, of final over initial sharpness over survivors: the mean of ratios, in which
        every network counts the same, not the ratio of means. Without survivors, ``+inf``.
        ``sharpness_ratio_median``, over all networks.

    Raises
    ------
    ValueError, TypeError
        If it is not a phase diagram.

    Examples
    --------
    >>> from sgdynamics.simulate.uv import phase_diagram
    >>> found = over_seeds(phase_diagram([1.9], [64], steps=200, seeds=400))
    >>> float(found.sharpness_ratio_median.squeeze().round(2))
    0.97
    """
    _check_diagram("over_seeds", diagram, "seed")
    if diagram.outcome.chunks is not None:
        diagram = diagram.chunk(seed=-1)  # in one piece: sums over chunks would depend on how they are cut
    counts = xr.concat([(diagram.outcome == outcome).sum("seed") for outcome in OUTCOMES], "member")
    codes = np.array(OUTCOMES, dtype=np.int8)
    ratio = diagram.final_sharpness / diagram.initial_sharpness
    alive = np.isfinite(ratio)
    survivors = alive.sum("seed")
    mean = ratio.where(alive, 0.0).sum("seed") / np.maximum(survivors, 1)
    spread = ((ratio.where(alive, 0.0) - mean) ** 2).where(alive, 0.0).sum("seed")
    error = (spread / np.maximum(survivors - 1, 1) / np.maximum(survivors, 1)) ** 0.5
    text = "final over initial sharpness"
    found = {
        "majority": xr.apply_ufunc(
            lambda member: codes[member], counts.argmax("member"), dask="parallelized", output_dtypes=[np.int8]
        ),
        "majority_share": counts.max("member") / diagram.sizes["seed"],
        "survivors": survivors,
        "sharpness_ratio_mean": mean.where(survivors > 0, math.inf),
        "sharpness_ratio_standard_error": error.where(survivors > 1, math.inf),
        "sharpness_ratio_median": xr.apply_ufunc(
            np.median,
            ratio,
            kwargs={"axis": -1},
            input_core_dims=[["seed"]],
            dask="parallelized",
            output_dtypes=[np.float64],
        ),
    }
    texts = {
        "majority": "commonest outcome",
        "majority_share": "share of the networks with the commonest outcome",
        "survivors": "networks that did not diverge",
        "sharpness_ratio_mean": f"mean over survivors of {text}",
        "sharpness_ratio_standard_error": f"standard error of the mean of {text}",
        "sharpness_ratio_median": f"median over networks of {text}",
    }
    data = xr.Dataset({name: value.assign_attrs(long_name=texts[name], units="1") for name, value in found.items()})
    data.majority.attrs |= outcome_attributes(*OUTCOMES)
    return data.assign_attrs(diagram.attrs)
