"""The parameters of formulas of forecasts, each said once."""

from __future__ import annotations

from sgdynamics.domains import nonnegative, positive
from sgdynamics.parameters import Parameter

__all__ = ["PARAMETERS"]

PARAMETERS = {
    "cutoff": Parameter("h_c", "curvature where the spectrum ends", positive, 0.5, "1/learning rate"),
    "exponent": Parameter(r"\alpha", "for the start, q for noise", positive, 0.7),
    "time": Parameter("S", "summed learning rate", nonnegative, 2.0, "1/curvature"),
}
