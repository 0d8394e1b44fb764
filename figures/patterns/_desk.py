"""The network on the first examples of the desk, by each algorithm: runs that figures share."""

from __future__ import annotations

from functools import cache

import xarray as xr

from figures.patterns._runs import grid, network_run
from sgdynamics.models.patterns import TwoPatternSetting

POINTS = 24


@cache
def desk_run(algorithm: str) -> xr.Dataset:
    """Its course at some points, to the end; kept for as long as the process lives."""
    setting = TwoPatternSetting.desk()
    return network_run(setting, algorithm, 0, record=grid(setting, algorithm, POINTS))
