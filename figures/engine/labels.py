"""Labels of a figure's data: axes to compute along, and what every variable is called, in which unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike


def axis(name: str, values: ArrayLike) -> xr.DataArray:
    """Values along a dim of that name, which they label: what is computed from them is labelled, too."""
    places = np.asarray(values)
    return xr.DataArray(places, dims=name, coords={name: places})


# What is measured of a quantity x, or said where it is measured, is called after x.
_PARTS = {
    "{}_predicted": "{}, predicted",
    "predicted_{}": "{}, predicted",
    "{}_there": "{}, where it is measured",
    "{}_measured": "{}, measured",
    "{}_standard_error": "standard error of {}",
    "measured_{}": "{}",
}


def described(data: xr.Dataset, texts: Mapping[str, Sequence[str]] | None = None, /, **attributes: Any) -> xr.Dataset:
    """The data with a long name and a unit on every variable, and attributes of their own.

    Parameters
    ----------
    data : Dataset
        What a figure computes.
    texts : mapping, optional
        Long names, with the unit where it is not "1"; what ``x_predicted``, ``predicted_x``, ``x_there``,
        ``x_measured``, ``measured_x`` and ``x_standard_error`` are called follows from ``x``. What is not in it keeps
        what it carries, such as the long name of a law's result, and otherwise is called by its name.
    **attributes : str or float
        Of the whole, ``source`` among them.
    """
    said = {name: (text, "1") if isinstance(text, str) else text for name, text in (texts or {}).items()}
    parts = {
        pattern.format(name): (words.format(text), units)
        for name, (text, units) in said.items()
        for pattern, words in _PARTS.items()
    }
    for name, variable in data.variables.items():
        if found := (parts | said).get(str(name)):
            variable.attrs |= {"long_name": found[0], "units": found[1]}
        else:
            variable.attrs = {"long_name": str(name).replace("_", " "), "units": "1"} | variable.attrs
    return data.assign_attrs(attributes)
