r"""How much sharpness is left once the first transient is over, and the learning rate from which on it is less.

Runs at different learning rates are compared at equal times :math:`\eta\tau`, in units of the initial sharpness:
:math:`c\,\tau` is the same number for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import (
    checked,
    choice,
    complain,
    flag,
    instance_of,
    integer,
    one,
    optional,
    positive,
    replica_indices,
)
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.activations import ACTIVATIONS
from sgdynamics.simulate.trainer.losses import named_loss
from sgdynamics.simulate.trainer.phases.arguments import depths, existing_directory, learning_rates, widths
from sgdynamics.simulate.trainer.phases.cells import Cell, Experiment, Output, place, sweep
from sgdynamics.simulate.trainer.phases.descent import (
    START_TOLERANCE,
    TOLERANCE,
    last,
    top_eigenpair,
)
from sgdynamics.simulate.trainer.phases.thresholds import LIMIT

__all__ = ["critical_c", "network_saturation"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Saturation(Experiment):
    """The sharpness of a network at one time, at all learning rates."""

    time: float

    def coordinates(self) -> Mapping[str, Array]:
        return {"c": self.c}

    def outputs(self) -> Mapping[str, Output]:
        return {
            "initial_sharpness": Output((), float, "largest eigenvalue of the Hessian at the start", "curvature"),
            "sharpness_ratio": Output(("c",), float, "sharpness at the time over its start", "1"),
        }

    def cost(self, cell: Cell) -> float:
        return super().cost(cell) * float((self.time / self.c).sum())

    def run(self, cell: Cell) -> dict[str, Array]:
        begun = self.begin(cell)
        top = top_eigenpair(begun, None, START_TOLERANCE)
        limit = LIMIT * self.loss_of_zero_outputs
        ratios = np.full(self.c.size, math.inf)
        guess = top.vector
        for place_of_c, c in enumerate(self.c):
            steps = max(round(self.time / c), 1)
            end = last(begun, c / top.value, steps, limit)
            if end is not None:
                found = top_eigenpair(end, guess, TOLERANCE)
                ratios[place_of_c] = found.value / top.value
                guess = found.vector if math.isfinite(found.value) else guess
        return {"initial_sharpness": np.array(top.value), "sharpness_ratio": ratios}


@checked(
    x=arguments.matrix,
    y=arguments.columns,
    depth=depths,
    width=widths,
    c=learning_rates,
    seeds=replica_indices,
    activation=choice(*ACTIVATIONS),
    loss=named_loss,
    time=one(positive),
    start=choice("standard", "zero_output"),
    processes=integer(1),
    directory=optional(existing_directory),
    progress=flag,
)
def network_saturation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    depth: Any,
    width: Any,
    c: ArrayLike,
    seeds: Any,
    activation: Literal["linear", "tanh", "relu", "gelu", "silu"],
    loss: Literal["mse", "cross_entropy"],
    time: float,
    start: Literal["standard", "zero_output"] = "standard",
    processes: int = 1,
    directory: Any = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""The sharpness of networks at one time after the start, over that of the start, by learning rate.

    Full-batch gradient descent at the rate :math:`c/\lambda_0`, as in :func:`network_thresholds`, for :math:`\tau`
    steps, the whole number next to :math:`\text{time}/c`.

    Parameters
    ----------
    x, y, depth, width, seeds, activation, loss, start, processes, directory, progress
        As for :func:`network_thresholds`.
    c : array, shape (rates,)
        Increasing learning rates times initial sharpness, > 0; spaced evenly for :func:`critical_c`.
    time : float
        :math:`c\tau`, the learning rates of all steps times the initial sharpness, > 0.

    Returns
    -------
    xarray.Dataset
        ``initial_sharpness`` (..., seed); ``sharpness_ratio`` (..., seed, c), +inf where the run diverged.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import digits, network_saturation, one_hot
    >>> x, labels = digits("per_image")
    >>> data = {"x": x[:64], "y": one_hot(labels[:64], 10), "loss": "mse", "activation": "tanh"}
    >>> found = network_saturation(**data, depth=3, width=[8, 64], c=[0.5, 1.0], seeds=2, time=10.0)
    >>> found.sharpness_ratio.dims
    ('width', 'seed', 'c')
    """
    owner = "network_saturation"
    inputs, targets = Saturation.data(owner, x, y, loss)  # type: ignore[arg-type]
    experiment = Saturation(inputs, targets, activation, loss, start, c, time)  # type: ignore[arg-type]
    data = sweep(
        experiment,
        place(owner, "depth", depth),
        place(owner, "width", width),
        seeds,
        processes=processes,
        directory=directory,
        progress=progress,
    )
    data.c.attrs = {"long_name": "learning rate times initial sharpness", "units": "1"}
    return data.assign_attrs(source="sgdynamics.simulate.trainer.network_saturation", time=float(time))


def _sharpest_fall(ratio: Array, spacing: float, window: int) -> Array:
    from scipy.signal import savgol_filter

    curve = savgol_filter(ratio, window, 3, deriv=2, delta=spacing, axis=-1)
    inside = curve[..., window // 2 : ratio.shape[-1] - window // 2]
    return np.asarray(inside.argmin(axis=-1) + window // 2)


@checked(ratio=instance_of(xr.DataArray), window=integer(5))
def critical_c(ratio: xr.DataArray, *, window: int = 9) -> xr.DataArray:
    r"""The learning rate at which the saturated sharpness begins to fall: where its curve bends down most.

    .. math:: c_{\text{crit}} = \arg\min_c \frac{d^2}{dc^2}\Big\langle\frac{\lambda_\tau}{\lambda_0}\Big\rangle ,

    of the curve smoothed by cubics over ``window`` points (Savitzky and Golay). The ends of the grid, half a window
    each, do not count. A choice of this kind is a convention: a curve that falls gradually everywhere has a sharpest
    bend too.

    Parameters
    ----------
    ratio : DataArray
        Final over initial sharpness along evenly spaced ``c``; averages over networks, as single ones are rough.
    window : int
        Points of the smoothing window, odd, >= 5.

    Returns
    -------
    DataArray
        Without the dim ``c``.

    Raises
    ------
    ValueError, TypeError
        If there is no evenly spaced axis ``c`` of at least ``window`` points, or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> c = np.arange(0.5, 3.5, 0.1)
    >>> falling = xr.DataArray(np.where(c < 2, 1, 3 - c), {"c": c}, ["c"])
    >>> round(float(critical_c(falling)), 2)
    2.0
    """
    owner = "critical_c"
    if "c" not in ratio.coords or "c" not in ratio.dims or ratio.sizes["c"] < window:
        raise complain(owner, "ratio", f"along c, at least {window} points", dict(ratio.sizes))
    if window % 2 == 0:
        raise complain(owner, "window", "an odd integer >= 5", window)
    c = ratio.c.values
    spacings = np.diff(c)
    if (spacings <= 0).any() or np.ptp(spacings) > 1e-6 * spacings.mean():
        raise complain(owner, "ratio", "along evenly spaced, increasing c", c)
    if not np.isfinite(ratio.values).all():
        raise complain(owner, "ratio", "finite", ratio.values)
    index = xr.apply_ufunc(
        _sharpest_fall, ratio, kwargs={"spacing": spacings.mean(), "window": window}, input_core_dims=[["c"]]
    )  # fmt: skip
    found: xr.DataArray = ratio.c.isel(c=index).drop_vars("c")
    return found.assign_attrs(long_name="learning rate from which on the saturated sharpness falls", units="1")
