r"""What a step of SGD does to the loss along a sharp direction: a parabola, its minimiser, the laws of missing it.

===============================================  ======================================================
question                                         where to look
===============================================  ======================================================
how far along its step the loss is least         ``mean_minimiser``, ``mean_minimiser_of_interaction``,
                                                 ``stationary_minimiser``
how often a step overshoots, or raises the loss  ``overshoot_probability``, ``increase_probability``
the same at a known slope                        ``conditional_overshoot_probability``,
                                                 ``conditional_increase_probability``
the same of a measured run                       ``step_to_curvature``, ``overshoots``, ``increases``
a rate matched to the curvature                  ``curvature_matched_rate``
slopes at stationarity                           ``stationary_slope_variance``
===============================================  ======================================================
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
