"""What an instrument hands back: a Dataset whose variables carry their names, units and standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.simulate.trainer.losses import AnyLoss

Array = NDArray[Any]
# dims, values, long name, units
Entry = tuple[Sequence[str], Any, str, str]

# Dims that are counted from 1. Several instruments may speak along one run, so one dim has one meaning and one size.
NUMBERED = {
    "eigenvalue": "number of the eigenvalue of the Hessian, largest first",
    "covariance_eigenvalue": "number of the eigenvalue of the gradient covariance, largest first",
    "batch_covariance_eigenvalue": "number of the eigenvalue of the sample covariance, largest first",
    "direction": "number of the direction",
}


def dataset(
    function: str, entries: Mapping[str, Entry], *, loss: AnyLoss, hessian_products: int = 0, draws: int = 0
) -> xr.Dataset:
    """Labelled results; what overflowed is +inf. Sampled variables say from how many draws."""
    variables, coordinates = {}, {}
    for name, (dims, values, long_name, units) in entries.items():
        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.inf, array)
        attributes: dict[str, Any] = {"long_name": long_name, "units": units}
        if f"{name}_standard_error" in entries:
            attributes["draws"] = float(draws)
        variables[name] = (tuple(dims), array, attributes)
        for dim, size in zip(dims, array.shape, strict=True):
            if dim in NUMBERED:
                coordinates[dim] = (dim, np.arange(1, size + 1), {"long_name": NUMBERED[dim], "units": "1"})
    facts = {
        "source": f"sgdynamics.simulate.trainer.{function}",
        "version": sgdynamics.__version__,
        "loss": str(loss),
        "hessian_products": float(hessian_products),
    }
    return xr.Dataset(variables, coordinates, facts)


def with_error(
    name: str, dims: Sequence[str], estimate: tuple[Any, Any], long_name: str, units: str
) -> dict[str, Entry]:
    """A sampled number and its standard error, as two entries."""
    value, error = estimate
    return {
        name: (dims, value, long_name, units),
        f"{name}_standard_error": (dims, error, f"standard error of the {long_name}", units),
    }


def ratio(numerator: Any, denominator: Any) -> Array:
    """``numerator / denominator``, where 0/0 is 0 and x/0 is infinite."""
    return np.where(np.asarray(numerator) == 0, 0.0, np.divide(numerator, denominator))
