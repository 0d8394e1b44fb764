"""What the figures on networks' first steps share: the images and how many processes they may use."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.simulate import trainer

EXAMPLES = 256
CLASSES = 10


def images() -> dict[str, Any]:
    """A fixed choice of the digits, every image standardised by itself, with one-hot targets."""
    x, labels = trainer.digits("per_image")
    chosen: NDArray[np.int64] = np.random.default_rng(0).permutation(len(x))[:EXAMPLES]
    return {"x": x[chosen], "y": trainer.one_hot(labels[chosen], CLASSES), "loss": "mse"}


def networks(*shapes: tuple[int, int]) -> dict[str, xr.DataArray]:
    """Depths and widths of the given networks, along one dim."""
    names = [f"{depth} x {width}" for depth, width in shapes]
    depth, width = np.array(shapes).T
    return {
        "depth": xr.DataArray(depth, {"network": names}, ["network"]),
        "width": xr.DataArray(width, {"network": names}, ["network"]),
    }


def processes() -> int:
    """As many as the run of the figures allows threads."""
    return int(os.environ.get("SGDYNAMICS_THREADS", "1"))
