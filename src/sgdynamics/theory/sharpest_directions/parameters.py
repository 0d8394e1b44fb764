r"""The parameters of formulas of the sharpest directions, each said once."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import Interval, nonnegative, positive
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS", "stable_gain"]

stable_gain: Interval = Interval("a number in (0, 2]: beyond it nothing is stationary", low=0, high=2, high_open=False)
_slope_size = Interval("a finite number > 0, the size of the slope", low=0)

PARAMETERS = {
    "batch_variance": Parameter(
        "v", "variance of the slope over batches; 0 is the full batch", nonnegative, 0.5, "gradient^2"
    ),
    "curvature": replace(SHARED["curvature"], symbol=r"\lambda"),
    "factor": Parameter(r"\sigma", "1 ends at the least loss, 2 leaves the loss where it was", positive, 2.0),
    "gain": replace(SHARED["gain"], symbol=r"x = \eta\lambda", meaning="", typical=0.75),
    "interaction": Parameter(
        "", "the gradient-noise interaction; a negative one has no minimiser", positive, 8.0, "1/learning rate"
    ),
    "minimiser": Parameter(r"\hat\alpha", "where along a step of this rate the loss is least", positive, 0.5),
    "signal": Parameter(
        r"r = |\bar g|/\sqrt v", "the slope over the standard deviation of batch slopes", nonnegative, 1.5
    ),
    "slope": Parameter(r"|\bar g|", "of the full loss along the direction", _slope_size, 0.5, "gradient"),
}
