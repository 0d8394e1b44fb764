"""Arithmetic of checks: entries matched by their labels, how far each is off, and which is the worst."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray


def matched(**values: ArrayLike | None) -> dict[str, xr.DataArray]:
    """Broadcast everything to one shape, labelled arrays by name. No scale means the size of the prediction."""
    if any(isinstance(value, xr.DataArray) for value in values.values()):
        for name, value in values.items():
            if not isinstance(value, xr.DataArray) and np.ndim(0.0 if value is None else value):
                raise ValueError(f"{name} has no dimension names while other arguments of the check have them")
        given = {name: xr.DataArray(value).astype(float) for name, value in values.items() if value is not None}
        labelled = xr.broadcast(*xr.align(*given.values(), join="exact"))
        entries = dict(zip(given, labelled, strict=True))
    else:
        given_arrays = {name: np.asarray(value, dtype=float) for name, value in values.items() if value is not None}
        arrays = np.broadcast_arrays(*given_arrays.values())
        entries = {name: xr.DataArray(array) for name, array in zip(given_arrays, arrays, strict=True)}
    if not entries["predicted"].size:
        raise ValueError("a check needs at least one number to compare")
    if entries.get("scale") is None:
        entries["scale"] = abs(entries["predicted"])
    return entries


def shares(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], allowed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Deviations as shares of what is allowed; infinite if nothing is allowed, or if the deviation is NaN."""
    with np.errstate(invalid="ignore"):
        deviations = np.where(predicted == measured, 0.0, abs(predicted - measured))
    shares = np.where(deviations == 0, 0.0, np.inf)
    return np.divide(deviations, allowed, out=shares, where=(allowed > 0) & ~np.isnan(deviations))


def margins(
    comparison: str,
    predicted: NDArray[np.float64],
    measured: NDArray[np.float64],
    allowed: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How far the measurement is on the right side of a bound, or of zero; negative if it is not."""
    if comparison == "sign":
        return predicted * measured - allowed
    side = -1.0 if comparison == "below" else 1.0
    with np.errstate(invalid="ignore"):
        return np.where(measured == predicted, 0.0, side * (measured - predicted)) + allowed


def relative(sizes: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """``sizes / scales``, where 0/0 is 0, x/0 is infinite and anything finite is nothing against an infinite scale."""
    relative = np.where(sizes == 0, 0.0, np.copysign(np.inf, sizes))
    with np.errstate(invalid="ignore"):
        np.divide(sizes, scales, out=relative, where=scales > 0)
    both_infinite = np.isinf(sizes) & np.isinf(scales)
    return np.where(both_infinite, np.sign(sizes), relative)


def worst_of(badness: NDArray[np.float64]) -> tuple[int, ...]:
    # argmax takes NaN for the largest: what cannot be compared is the worst.
    return tuple(int(index) for index in np.unravel_index(np.argmax(badness), badness.shape))


def place(compared: xr.DataArray, worst: tuple[int, ...]) -> str:
    """Which entry the worst of many is: by coordinates where it has any, otherwise by index."""
    if compared.size == 1:
        return ""
    where = ", ".join(
        f"{name}={compared[name].values[index]:.4g}"
        if name in compared.coords and np.issubdtype(compared[name].dtype, np.number)
        else f"{name}={compared[name].values[index]}"
        for name, index in zip(map(str, compared.dims), worst, strict=True)
    )
    return f"worst of {compared.size}, at {where}"
