"""What an argument spans, and which steps a result keeps: one rule for every row.

====================  ============================================================================================
argument              result
====================  ============================================================================================
a number              no axis
a plain 1-D array     an axis of the argument's own name, labelled by the values, where it is one that diagrams are
                      drawn over (``c``, ``width``, ``q``, ``learning_rate``); along ``step`` or ``mode`` where the
                      argument is a sequence (a schedule, a spectrum); refused elsewhere
a DataArray           its dims, whatever they are called, but for those that the result has of its own
one backed by dask    the same, lazy
====================  ============================================================================================

Formulas of numbers broadcast plain arrays as NumPy does. Of a run the last step is kept where nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, complain

__all__ = ["spanned", "steps_to_record"]

# Axes that diagrams are drawn over.
AXES = {
    "c": {"long_name": "learning rate times the sharpness, or kernel, of the start", "units": "1"},
    "learning_rate": {"long_name": "learning rate", "units": "1/curvature"},
    "q": {"long_name": "target times learning rate and root of kappa", "units": "1"},
    "width": {"long_name": "hidden units", "units": "1"},
    "depth": {"long_name": "layers", "units": "1"},
}
SEQUENCES = ("step", "mode")


def spanned(
    owner: str,
    name: str,
    value: Numeric,
    *,
    axis: str | None = None,
    reserved: Sequence[str] = (),
) -> xr.DataArray:
    """An argument as a DataArray over what it spans.

    Parameters
    ----------
    owner, name : str
        The function and its parameter, for errors.
    value : Numeric
        Checked already, but for its shape.
    axis : str, optional
        What a plain 1-D array lies along; without one it is refused. Its values are the labels of an axis of
        diagrams; along ``step`` and ``mode`` the argument is a sequence, and no number.
    reserved : sequence of str
        Dims that the result has of its own: a DataArray may not have them.

    Raises
    ------
    ValueError
        If the value has another shape, or a reserved dim.

    Examples
    --------
    >>> spanned("phase_diagram", "c", [1.0, 2.0], axis="c").c.values
    array([1., 2.])
    >>> spanned("moments", "momentum", [0.5, 0.9])
    Traceback (most recent call last):
    ...
    ValueError: moments: momentum must be a number or a DataArray, got shape (2,)
    """
    if isinstance(value, xr.DataArray):
        taken = [dim for dim in value.dims if dim in reserved]
        if taken:
            raise complain(owner, name, f"swept over dims other than {', '.join(map(repr, reserved))}", value.dims)
        return value
    shapes = {0: "a number", 1: "1-D"}
    if axis is None:
        del shapes[1]
    elif axis in SEQUENCES:
        del shapes[0]
    if np.ndim(value) not in shapes:
        allowed = ", ".join(shapes.values())
        raise ValueError(f"{owner}: {name} must be {allowed} or a DataArray, got shape {np.shape(value)}")
    if axis is None or np.ndim(value) == 0:
        return xr.DataArray(value)
    return xr.DataArray(value, dims=axis, coords={axis: (axis, value, AXES[axis])} if axis in AXES else None)


def steps_to_record(owner: str, record: Any, steps: int) -> Any:
    """The steps in 0..T that a result keeps, the last one where nothing is said.

    Examples
    --------
    >>> steps_to_record("ensemble", None, 100)
    array([100])
    """
    kept = np.array([steps]) if record is None else np.asarray(record)
    if kept[-1] > steps:
        raise complain(owner, "record", f"increasing steps in 0..T = {steps}", int(kept[-1]))
    return kept
