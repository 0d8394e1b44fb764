"""What the Datasets of this row share: names, units, outcomes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.outcome import Outcome, outcome_attributes

Floats: TypeAlias = NDArray[np.float64]

# A run has diverged once its loss is this many times the larger of its start and the loss of the output 0.
BLOW_UP = 1e12

DESCRIBED = {
    "output": {"long_name": "output", "units": "1"},
    "loss": {"long_name": "loss", "units": "loss"},
    "sharpness": {"long_name": "top Hessian eigenvalue", "units": "1/learning rate"},
    "flow_sharpness": {"long_name": "sharpness of the gradient-flow solution", "units": "1/learning rate"},
    "weight": {"long_name": "weight", "units": "1"},
    "outcome": outcome_attributes(Outcome.DIVERGED, Outcome.CONVERGED, Outcome.UNSETTLED),
    "divergence_step": {"long_name": "step at which the run has diverged, -1 for never", "units": "1"},
    "step": {"long_name": "step", "units": "1"},
    "time": {"long_name": "learning rate times step", "units": "1"},
}


def described(data: xr.Dataset) -> xr.Dataset:
    """The Dataset with names, units and the integer types of outcomes."""
    if "outcome" in data:
        data = data.assign(outcome=data.outcome.astype(np.int8), divergence_step=data.divergence_step.astype(np.int32))
    for name in data.variables:
        if name in DESCRIBED:
            data[name].attrs = dict(DESCRIBED[str(name)])
    return data


def outcomes(final_loss: Floats, divergence_step: Any, tolerance: float) -> Floats:
    """What became of every run."""
    settled = np.where(final_loss <= tolerance, Outcome.CONVERGED, Outcome.UNSETTLED)
    return np.where(np.asarray(divergence_step) >= 0, Outcome.DIVERGED, settled).astype(np.float64)
