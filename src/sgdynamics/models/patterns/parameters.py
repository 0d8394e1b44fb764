r"""The parameters of formulas of two patterns, each said once."""

from __future__ import annotations

import math
from dataclasses import replace

from sgdynamics.domains import Interval, closed_unit_interval, nonnegative, positive
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS"]

_angle = Interval("a number in [0, pi]", low=0, high=math.pi, low_open=False, high_open=False)
_cosine = Interval("a number in [-1, 1]", low=-1, high=1, low_open=False, high_open=False)
_share = Interval("a number in (0, 1]", low=0, high=1, high_open=False)

PARAMETERS = {
    "activation_noise": Parameter(
        "a", "standard deviation of the noise in units of that of the pre-activation", nonnegative, 0.5
    ),
    "amplitude": Parameter("s", "of the rays of Q", positive, 2.0),
    "angle": Parameter(r"\theta", "between the examples", _angle, 0.5, "rad"),
    "correlation": Parameter(
        r"\rho", "of the weights: 1 is a frozen pattern, 0 a forgotten one", closed_unit_interval, 0.75
    ),
    "cosine": Parameter("c", "of the rule to the true direction", _cosine, 0.75),
    "curvature": Parameter("c", "to be reached", positive, 2.0),
    "dimension": Parameter("d", "of the inputs", positive, 64.0),
    "examples": Parameter("n", "number of examples", positive, 128.0),
    "large_rate": Parameter(r"\eta_1", "the learning rate before", positive, 0.5, "1/curvature"),
    "learning_rate": replace(SHARED["learning_rate"], typical=0.5),
    "margin": Parameter(r"G = \gamma_0\sqrt d", "margin in units of the noise of one coordinate", nonnegative, 0.5),
    "mean_alpha": Parameter(r"E[\alpha]", "mean position along the ray", _share, 0.75),
    "noise_scale": Parameter(r"\tau_0", "standard deviation of the weights", positive, 2.0),
    "p_bearing": Parameter("1-q_0", "the share of examples that carry P", _share, 0.75),
    "q_bearing": Parameter("1-p_0", "the share of examples that carry Q", _share, 0.5),
    "r": Parameter("r", "separation of the rays", positive, 0.25),
    "rate_ratio": Parameter(r"\eta_1/\eta_2", "large rate over small rate", positive, 8.0),
    "refreshing_angle": Parameter(r"\delta", "see :func:`refreshing_angle`", nonnegative, 0.125),
    "separation": Parameter("r", "of the rays", positive, 0.25),
    "small_rate": Parameter(r"\eta_2", "the learning rate after", positive, 0.125, "1/curvature"),
    "steps": replace(SHARED["steps"], symbol="n", meaning="steps with the small rate"),
    "time": Parameter("T", "training time, the sum of learning rates", nonnegative, 16.0, "1/curvature"),
    "weight_decay": replace(SHARED["weight_decay"], typical=0.0625),
}
