r"""The parameters of formulas of schedules, each said once."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import count, unit_interval, whole
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS"]

PARAMETERS = {
    "beta": Parameter("", "decay of the average", unit_interval, 0.75),
    "gain": replace(SHARED["gain"], meaning="learning rate times curvature of the run that is averaged"),
    "remaining": Parameter("T - j", "steps after step j", whole, 3.0),
    "separation": Parameter("k", "steps from one of the two points to the other", count, 5.0),
    "step": Parameter("j", "in 1..T", count, 2.0),
}
