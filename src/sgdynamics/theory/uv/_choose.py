"""Elementwise choice that keeps labels and laziness."""

from __future__ import annotations

from typing import Any

import xarray as xr


def choose(condition: Any, yes: Any, no: Any) -> xr.DataArray:
    """``yes`` where the condition holds, else ``no``."""
    chosen: xr.DataArray = xr.where(condition, yes, no)  # type: ignore[no-untyped-call]
    return chosen
