r"""Where, along the learning rate, the first steps of a network begin to catapult, to sharpen or to diverge.

The loss alone is cheap and is followed on a fine grid of learning rates. Sharpness and the barrier on the segment from
start to end cost ten times as much and are followed on a grid of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import checked, choice, flag, integer, nonnegative, one, optional, replica_indices
from sgdynamics.simulate._thresholds import ABOVE, first_hit, last_before, with_statistics
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.activations import ACTIVATIONS
from sgdynamics.simulate.trainer.losses import named_loss
from sgdynamics.simulate.trainer.objective import Objective
from sgdynamics.simulate.trainer.phases.arguments import depths, existing_directory, learning_rates, widths
from sgdynamics.simulate.trainer.phases.cells import Cell, Experiment, Output, place, sweep
from sgdynamics.simulate.trainer.phases.descent import (
    START_TOLERANCE,
    Eigenpair,
    losses,
    peak_on_segment,
    sharpness,
    top_eigenpair,
)

__all__ = ["network_thresholds"]

Array = NDArray[Any]

# Of the loss of zero outputs: where a run counts as diverged, and below which it counts as having learned, after so
# many times the steps.
LIMIT = 2e6
LEARNED = 0.9
PATIENCE = 5

NAMES = {
    "c_loss": "smallest c at which the loss ever rises above its start",
    "c_sharp": "smallest c at which the sharpness ever rises above its start, of runs that stay bounded",
    "c_barrier": "smallest c at which the loss rises above its start on the segment from start to end",
    "c_max": "largest c before the first that diverges at which the network still learns",
    "c_bounded": "largest c before the first that diverges, networks that died included",
}


@dataclass(frozen=True, eq=False)
class FirstSteps(Experiment):
    """The first steps of a network, at all learning rates."""

    steps: int
    landscape_c: Array | None

    def coordinates(self) -> Mapping[str, Array]:
        fine = {"c": self.c}
        return fine if self.landscape_c is None else fine | {"landscape_c": self.landscape_c}

    def outputs(self) -> Mapping[str, Output]:
        fine = {
            "initial_loss": Output((), float, "loss at the start", "loss"),
            "initial_sharpness": Output((), float, "largest eigenvalue of the Hessian at the start", "curvature"),
            "peak_loss_ratio": Output(("c",), float, "largest loss over its start, that included", "1"),
            "final_loss": Output(("c",), float, "loss after the last step", "loss"),
            "learning": Output((), np.int64, "index of the largest c that learns, -1 if none", "1"),
        }
        if self.landscape_c is None:
            return fine
        along = ("landscape_c",)
        return fine | {
            "peak_sharpness_ratio": Output(along, float, "largest sharpness over its start, that included", "1"),
            "final_sharpness_ratio": Output(along, float, "sharpness after the last step over its start", "1"),
            "peak_segment_ratio": Output(along, float, "largest loss on the segment over that of the start", "1"),
        }

    def run(self, cell: Cell) -> dict[str, Array]:
        begun = self.begin(cell)
        top = top_eigenpair(begun, None, START_TOLERANCE)
        limit = LIMIT * self.loss_of_zero_outputs
        runs = np.array([losses(begun, c / top.value, self.steps, limit) for c in self.c])
        found = {
            "initial_loss": runs[0, 0],
            "initial_sharpness": np.float64(top.value),
            "peak_loss_ratio": runs.max(axis=1) / runs[0, 0],
            "final_loss": runs[:, -1],
            "learning": np.int64(self._largest_that_learns(begun, top.value, np.isinf(runs[:, -1]), limit)),
        }
        if self.landscape_c is not None:
            seen = np.array([self._landscape(begun, c, top, limit) for c in self.landscape_c])
            names = ("peak_sharpness_ratio", "final_sharpness_ratio", "peak_segment_ratio")
            found |= dict(zip(names, seen.T / [[top.value], [top.value], [runs[0, 0]]], strict=True))
        return found

    def _largest_that_learns(self, begun: Objective, scale: float, diverged: Array, limit: float) -> int:
        """Search from the first divergence downwards."""
        first = int(diverged.argmax()) if diverged.any() else self.c.size
        enough = LEARNED * limit / LIMIT
        for index in range(first - 1, -1, -1):
            if losses(begun, self.c[index] / scale, PATIENCE * self.steps, limit)[-1] < enough:
                return index
        return -1

    def _landscape(self, begun: Objective, c: float, top: Eigenpair, limit: float) -> tuple[float, float, float]:
        """Largest sharpness, start included, the last, and the largest loss on the segment from start to end."""
        peak, final, end = sharpness(begun, c / top.value, self.steps, limit, top)
        return peak, final, math.inf if end is None else peak_on_segment(begun, end)


def _read(c: xr.DataArray, hit: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    value, censored = xr.apply_ufunc(
        first_hit,
        hit,
        kwargs={"c": c.values},
        input_core_dims=[c.dims],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.int8],
    )
    return value, censored


def _read_bounded(data: xr.Dataset, hit: xr.DataArray, bounded: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """The same below the first divergence; what is not met there is censored at its last bounded point."""
    alive = (data.final_sharpness_ratio == math.inf).cumsum("landscape_c") == 0
    value, censored = _read(data.landscape_c, hit & alive)
    return value.where(censored != ABOVE, np.minimum(value, bounded)), censored


def _read_last(data: xr.Dataset, good: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    value, censored = xr.apply_ufunc(
        last_before,
        data.final_loss == math.inf,
        good,
        kwargs={"c": data.c.values},
        input_core_dims=[["c"], ["c"]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.int8],
    )
    return value, censored


@checked(
    x=arguments.matrix,
    y=arguments.columns,
    depth=depths,
    width=widths,
    c=learning_rates,
    seeds=replica_indices,
    activation=choice(*ACTIVATIONS),
    loss=named_loss,
    start=choice("standard", "zero_output"),
    steps=integer(1),
    landscape_c=optional(learning_rates),
    margin=one(nonnegative),
    sharpness_margin=one(nonnegative),
    processes=integer(1),
    directory=optional(existing_directory),
    progress=flag,
)
def network_thresholds(
    x: ArrayLike,
    y: ArrayLike,
    *,
    depth: Any,
    width: Any,
    c: ArrayLike,
    seeds: Any,
    activation: Literal["linear", "tanh", "relu", "gelu", "silu"],
    loss: Literal["mse", "cross_entropy"],
    start: Literal["standard", "zero_output"] = "standard",
    steps: int = 10,
    landscape_c: ArrayLike | None = None,
    margin: float = 1e-9,
    sharpness_margin: float = 1e-3,
    processes: int = 1,
    directory: Any = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""The learning rates at which the first steps of networks change their character, by depth, width and seed.

    Full-batch gradient descent for ``steps`` steps at the rate :math:`c/\lambda_0`, with :math:`\lambda_0` the largest
    eigenvalue of the Hessian at the start of the same network on the same examples. Networks have ``depth`` weight
    matrices, no biases, standard parametrisation. Grids are read from below, as a learning rate would be raised.

    A run has diverged when its loss exceeds 2e6 times that of zero outputs. A relu network of little depth does not
    diverge but dies, and then stays at the loss of zero outputs; so ``c_max`` asks for more: that after five times as
    many steps the loss is below 0.9 of that.

    Parameters
    ----------
    x : array, shape (examples, inputs)
        Inputs.
    y : array, shape (examples,) or (examples, outputs)
        Targets, or labels for the cross-entropy.
    depth, width : int, array or DataArray
        Number of weight matrices, >= 2, and width of the hidden layers, >= 1. 1-D arrays span a grid, DataArrays
        broadcast by name; with a dask-backed one the result is lazy, every network a task of the scheduler.
    c : array, shape (rates,)
        Increasing learning rates times initial sharpness, > 0, for the loss; best spaced geometrically.
    seeds : int or array of int
        How many networks, or the seeds of their weights.
    activation, loss : str
        As for :func:`network` and :func:`loss_value`, by name: what callables do cannot be told from run to run.
    start : {"standard", "zero_output"}
        ``"zero_output"``: the last weight matrix is zero.
    steps : int
        Number of steps T, >= 1.
    landscape_c : array, shape (some rates,), optional
        The same for the sharpness, searched by Lanczos' method from the last eigenvector at every step, and for the
        loss at 100 points of the segment from start to end. None: neither.
    margin, sharpness_margin : float
        How far above its start, relative to it, the loss and the sharpness must be to have risen, >= 0.
    processes : int
        Number of local processes, >= 1. Lazy results do not use it.
    directory : path, optional
        An existing directory, of all workers where the result is lazy, in which finished networks are kept, each in a
        file of its own. A call with the same arguments and the same library goes on from there.
    progress : bool
        Whether to show how much is done and how much time is left.

    Returns
    -------
    xarray.Dataset
        By network: ``initial_loss``, ``initial_sharpness``; ``peak_loss_ratio`` and ``final_loss`` (c);
        ``peak_sharpness_ratio``, ``final_sharpness_ratio`` and ``peak_segment_ratio`` (landscape_c). Peaks of loss and
        sharpness count the start: they are 1 where nothing rises. What diverged is +inf. For each of ``c_loss``,
        ``c_max``, ``c_bounded`` (``c_max`` without the condition that the network learns), and with ``landscape_c`` of
        ``c_sharp`` and ``c_barrier``:

        ``c_loss`` (..., seed)
            A point of the grid. A first point is at most one spacing above the threshold, a last one at most one below.
        ``c_loss_censored`` (..., seed)
            ``above``: not met on the grid, and the value is its last point; ``below``: met at the first point already,
            or, of ``c_max``, at none. Divergence is a rise of the loss; ``c_sharp`` and ``c_barrier`` are asked of runs
            below the first divergence, and are ``above`` at ``c_bounded`` if none of these shows them.
        ``c_loss_mean``, ``c_loss_standard_error``, ``c_loss_censored_count`` (...)
            Over seeds, censored ones included at the end of the grid. The standard error of one seed is +inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    A network that starts from zero outputs catapults not far above 2; others, when they are narrow, later:

    >>> import numpy as np
    >>> from sgdynamics.simulate.trainer import digits, network_thresholds, one_hot
    >>> x, labels = digits("per_image")
    >>> data = {"x": x[:64], "y": one_hot(labels[:64], 10), "loss": "mse", "activation": "relu"}
    >>> c = 2.0 ** np.arange(0.5, 4, 0.1)
    >>> found = network_thresholds(**data, depth=3, width=[64], c=c, seeds=2, start="zero_output")
    >>> found.c_loss.values.round(2)
    array([[2.3, 2.3]])
    >>> bool((network_thresholds(**data, depth=3, width=[16], c=c, seeds=2).c_loss > 4).all())
    True
    """
    owner = "network_thresholds"
    inputs, targets = FirstSteps.data(owner, x, y, loss)  # type: ignore[arg-type]
    experiment = FirstSteps(inputs, targets, activation, loss, start, c, steps, landscape_c)  # type: ignore[arg-type]
    data = sweep(
        experiment,
        place(owner, "depth", depth),
        place(owner, "width", width),
        seeds,
        processes=processes,
        directory=directory,
        progress=progress,
    )
    indices = xr.DataArray(np.arange(data.sizes["c"]), dims="c")
    bounded = np.isfinite(data.final_loss)
    found = {"c_loss": _read(data.c, data.peak_loss_ratio > 1 + margin)}
    found["c_max"] = _read_last(data, bounded & (indices <= data.learning))
    found["c_bounded"] = _read_last(data, bounded)
    if landscape_c is not None:
        last = found["c_bounded"][0]
        found["c_sharp"] = _read_bounded(data, data.peak_sharpness_ratio > 1 + sharpness_margin, last)
        found["c_barrier"] = _read_bounded(data, data.peak_segment_ratio > 1 + margin, last)
    data = data.drop_vars("learning")
    for name, (value, censored) in found.items():
        data = data.assign(with_statistics(name, NAMES[name], value, censored))
    for name in experiment.coordinates():
        data[name].attrs = {"long_name": "learning rate times initial sharpness", "units": "1"}
    return data.assign_attrs(source="sgdynamics.simulate.trainer.network_thresholds", steps=float(steps))
