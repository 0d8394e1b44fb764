r"""What a step of SGD does to the loss along a sharp direction: a parabola, its minimiser, the laws of missing it.

``parabola``
    How far along the step the loss is least, and when a step overshoots or raises the loss.
``stationarity``
    How often it does, at stationarity and at a given signal-to-noise ratio.
``measures``
    The same along a recorded run, as ratios of sums.

At stationarity the mean minimiser is at half the step and half of all steps raise the loss, at every learning rate: a
step that fails to lower the loss along a sharp direction is no sign of the edge of stability. What changes with the
gain is how often a step overshoots.
"""

from sgdynamics.theory.sharpest_directions.measures import step_to_curvature
from sgdynamics.theory.sharpest_directions.parabola import (
    curvature_matched_rate,
    increases,
    mean_minimiser,
    mean_minimiser_of_interaction,
    overshoots,
)
from sgdynamics.theory.sharpest_directions.stationarity import (
    conditional_increase_probability,
    conditional_overshoot_probability,
    increase_probability,
    overshoot_probability,
    stationary_minimiser,
    stationary_slope_variance,
)

__all__ = [
    "SOURCES",
    "conditional_increase_probability",
    "conditional_overshoot_probability",
    "curvature_matched_rate",
    "increase_probability",
    "increases",
    "mean_minimiser",
    "mean_minimiser_of_interaction",
    "overshoot_probability",
    "overshoots",
    "stationary_minimiser",
    "stationary_slope_variance",
    "step_to_curvature",
]

SOURCES = ("jastrzebski2018",)
