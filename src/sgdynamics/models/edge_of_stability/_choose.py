"""Elementwise choice that keeps labels and laziness, which ``np.where`` drops."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric


def chosen(condition: Numeric, yes: Numeric, no: Numeric) -> Numeric:
    """``np.where`` of numbers, arrays and DataArrays."""
    return xr.apply_ufunc(np.where, condition, yes, no, dask="allowed")
