"""Random starts of uv networks, as output and kernel."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.models.uv import UVNetwork


def random_starts(model: UVNetwork, networks: int, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Output and kernel of independent networks, along ``network``, from the exact law of the start."""
    alignment, size = np.random.default_rng(seed).random((2, networks))
    output, ntk = model.start(alignment, size)
    return xr.DataArray(output, dims="network"), xr.DataArray(ntk, dims="network")
