"""The parameters of formulas of quadratics, each said once."""

from __future__ import annotations

from sgdynamics.domains import Interval, count, nonnegative, positive, real, unit_interval, whole
from sgdynamics.parameters import Parameter

__all__ = ["PARAMETERS", "above_half", "above_one", "at_least_one"]

above_half: Interval = Interval("a number > 1/2", low=0.5)
above_one: Interval = Interval("a number > 1", low=1)
at_least_one: Interval = Interval("a finite number >= 1", low=1, low_open=False)

_OVER_TRAINING = "test curvature over training curvature of the {} direction"

PARAMETERS = {
    "amplitude": Parameter("c", "of the last part of the decay", positive, 0.5),
    "batches": Parameter("m", "batches per epoch", count, 8.0),
    "beta": Parameter("", "decay of the average; 0 is the last iterate", unit_interval, 0.75),
    "center_variance": Parameter("C", "at batch size 1", nonnegative, 2.0, "weight^2"),
    "curvature_exponent": Parameter("a", "of the curvatures :math:`h_i = i^{-a}`", above_half, 1.5),
    "dampening": Parameter(r"\tau", "of the gradients in the heavy ball", unit_interval, 0.25),
    "decay": Parameter(r"\delta = \eta\lambda", "what a step takes off the weights", unit_interval, 0.25),
    "dimension": Parameter(
        r"(\operatorname{tr} S)^2/\operatorname{tr} S^2",
        "effective dimension of the stationary covariance",
        positive,
        50.0,
    ),
    "exponent": Parameter("p", "of the decay at its end", nonnegative, 1.5),
    "flat": Parameter("h_f", "curvature of the training risk in the flat direction", positive, 0.25, "1/learning rate"),
    "flat_ratio": Parameter("k_f/h_f", _OVER_TRAINING.format("flat"), nonnegative, 4.0),
    "kurtosis": Parameter(
        r"\kappa = E\phi^4/(E\phi^2)^2", "of the features: 3 if Gaussian, 1 for signs", at_least_one, 4.0
    ),
    "lag": Parameter("k", "steps in between", whole, 3.0),
    "noise": Parameter("N", "stationary excess risk per learning rate", positive, 0.1),
    "noise_scale": Parameter(r"B_\text{noise}", "", positive, 16.0, "examples"),
    "odds": Parameter(r"\rho", "training risk of the flat direction over that of the sharp one", nonnegative, 3.0),
    "other_gain": Parameter(
        "y", "the same of another direction; beyond its edge the result is +inf too", positive, 0.25
    ),
    "points": Parameter("n", "iterates in the average", count, 4.0),
    "position": Parameter("s", "0 and 1 at the ends; outside [0, 1] the chord is extended", real, 0.25),
    "relative_rate": Parameter(
        "r",
        r"learning rate over the standard deviation :math:`\sigma` of a batch center; Adam's rate has the unit of the "
        "weights",
        positive,
        0.5,
    ),
    "relative_steps": Parameter(r"T/T_{\min}", "", above_one, 2.5),
    "relative_variance": Parameter(
        "q", "variance of the curvature of one batch over its squared mean", nonnegative, 0.5
    ),
    "relative_width": Parameter(
        "q", "half-width at half maximum of the curvature of a batch over its location", nonnegative, 0.5
    ),
    "scale": Parameter("s", "of the batch centers", positive, 0.5, "weight"),
    "separation": Parameter("k", "steps between the two points", count, 5.0),
    "sharp": Parameter(
        "h_s", "curvature of the training risk in the sharp direction", positive, 1.0, "1/learning rate"
    ),
    "sharp_ratio": Parameter("k_s/h_s", _OVER_TRAINING.format("sharp"), nonnegative, 0.5),
    "source_exponent": Parameter("b", "of the start, :math:`h_i e_{0,i}^2 = i^{-b}`", above_one, 2.0),
    "start": Parameter(r"E e_0^2/\sigma^2", "", nonnegative, 1.5),
    "stride": Parameter("s", "steps between two of the points", count, 2.0),
    "trial_gain": Parameter(r"\lambda h", "of the trial step", real, 0.5),
    "variance": Parameter("V", "in units of the center variance", nonnegative, 0.75),
}
