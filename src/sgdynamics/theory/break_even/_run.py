r"""What a measured run says about its sharpest direction: the arrays, the learning rate, the batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._sampling import batch_factor
from sgdynamics.domains import complain
from sgdynamics.theory.quadratic import mean_square_edge_gain, mean_square_factor

__all__ = ["SAMPLINGS", "Measured", "growth", "measured"]

Array = NDArray[np.float64]

SAMPLINGS = ("full_batch", "replacement", "without_replacement", "reshuffled")


@dataclass(frozen=True)
class Measured:
    """The measurements of a run that are finite, and what it was run with."""

    step: Array
    learning_rate: float
    batch_factor: float
    independent: bool
    diverged: bool
    sharpness: Array
    curvature_variance: Array
    noises: dict[str, Array]  # gradient_variance, projection_variance: those that were measured

    @property
    def relative_variance(self) -> Array:
        """Variance of the curvature of a batch over its squared mean."""
        relative: Array = self.batch_factor * self.curvature_variance / self.sharpness**2
        return relative

    @property
    def edge(self) -> Array:
        """Curvature at the edge, were the relative spread of the curvatures what it is at each step."""
        edge: Array = mean_square_edge_gain.function(self.relative_variance) / self.learning_rate
        return edge

    @property
    def factor(self) -> Array:
        """Factor per step of the second moment along the sharpest direction."""
        factor: Array = mean_square_factor.function(self.learning_rate * self.sharpness, self.relative_variance)
        return factor


def _along(owner: str, run: xr.Dataset) -> str:
    if "sharpness" not in run:
        raise complain(owner, "run", "a Dataset with sharpness and curvature_variance", sorted(map(str, run)))
    dims = [dim for dim in run.sharpness.dims if dim in ("step", "measured_step")]
    if len(dims) != 1 or run.sharpness.ndim != 1:
        raise complain(owner, "run", "one run, with sharpness along step or measured_step", run.sharpness.dims)
    return str(dims[0])


def _values(owner: str, run: xr.Dataset, name: str, along: str) -> Array:
    """One variable along the steps, that of the first direction."""
    if name not in run:
        raise complain(owner, "run", f"a Dataset with {name}", sorted(map(str, run)))
    value = run[name]
    if "direction" in value.dims:
        value = value.isel(direction=0)
    if value.dims != (along,):
        raise complain(owner, "run", f"a Dataset with {name} along {along}, and direction", value.dims)
    made: Array = np.asarray(value.values, dtype=np.float64)
    return made


def _rate(owner: str, run: xr.Dataset, along: str, learning_rate: Any) -> float:
    if learning_rate is not None:
        return float(learning_rate)
    if "learning_rate" in run.attrs:
        return float(run.attrs["learning_rate"])
    time = along.replace("step", "time")
    if time not in run or run.sizes[along] < 2:
        raise complain(owner, "learning_rate", "given where the run does not say it", learning_rate)
    rates = np.diff(run[time].values) / np.diff(run[along].values)
    if np.ptp(rates) > 1e-6 * np.max(rates):
        raise complain(owner, "run", "of a constant learning rate", f"rates from {rates.min()} to {rates.max()}")
    return float(rates.mean())


def _factor(owner: str, run: xr.Dataset, batch_size: Any, examples: Any, sampling: Any) -> tuple[float, bool]:
    how = sampling or run.attrs.get("sampling", "without_replacement")
    if how not in SAMPLINGS:
        raise complain(owner, "sampling", f"one of {SAMPLINGS}", how)
    if how == "full_batch":
        return 0.0, True
    size = batch_size if batch_size is not None else run.attrs.get("batch_size")
    if size is None:
        raise complain(owner, "batch_size", "given where the run does not say it", batch_size)
    if how == "replacement":
        return 1 / float(size), True
    number = examples if examples is not None else run.attrs.get("examples")
    if number is None:
        raise complain(owner, "examples", "given where the run does not say it", examples)
    return float(batch_factor(owner, float(number), float(size), False)), how != "reshuffled"


def measured(
    owner: str, run: xr.Dataset, learning_rate: Any, batch_size: Any, examples: Any, sampling: Any
) -> tuple[Measured, str]:
    """The measurements of a run up to its divergence, and the dim that they are along."""
    along = _along(owner, run)
    rate = _rate(owner, run, along, learning_rate)
    factor, independent = _factor(owner, run, batch_size, examples, sampling)
    found = {name: _values(owner, run, name, along) for name in ("sharpness", "curvature_variance")}
    noises = {
        name: _values(owner, run, name, along) for name in ("gradient_variance", "projection_variance") if name in run
    }
    finite = np.all([np.isfinite(values) for values in (*found.values(), *noises.values())], axis=0)
    diverged = not finite.all() or int(run.get("divergence_step", -1)) >= 0
    kept = slice(0, len(finite) if finite.all() else int(np.argmin(finite)))
    for name, values in (found | noises).items():
        if name != "sharpness" and (values[kept] < 0).any():
            raise complain(owner, "run", f"a Dataset with {name} >= 0", values[kept].min())
    if not (found["sharpness"][kept] > 0).all() or len(finite[kept]) < 2:
        raise complain(owner, "run", "of at least two measurements of a sharpness > 0", found["sharpness"].tolist())
    steps = np.asarray(run[along].values[kept], dtype=np.float64)
    return (
        Measured(
            steps,
            rate,
            factor,
            independent,
            diverged,
            found["sharpness"][kept],
            found["curvature_variance"][kept],
            {name: values[kept] for name, values in noises.items()},
        ),
        along,
    )


def growth(owner: str, run: xr.Dataset) -> tuple[Array, Array]:
    """Time and sharpness of a reference run."""
    along = _along(owner, run)
    name = along.replace("step", "time")
    if name in run:
        time = np.asarray(run[name].values, dtype=np.float64)
    elif "learning_rate" in run.attrs:
        time = np.asarray(run[along].values, dtype=np.float64) * float(run.attrs["learning_rate"])
    else:
        raise complain(owner, "reference", f"a run with {name} or the attribute learning_rate", sorted(map(str, run)))
    sharpness = np.asarray(run.sharpness.values, dtype=np.float64)
    kept = np.isfinite(sharpness)
    return time[kept], sharpness[kept]
