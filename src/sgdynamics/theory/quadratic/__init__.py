r"""Moments, stationary laws, stability and planning for the mini-batch quadratic.

Formulas are per direction, in gains :math:`x = \eta h` and in units of the center variance of one mini-batch unless
they say otherwise.
"""

from sgdynamics.theory.quadratic.geometry import (
    batch_full_gradient_cosine,
    chord_excess,
    gradient_cosine,
    half_rate_excess,
    held_out_loss,
    iterate_cosine,
    lagged_gradient_cosine,
    line_search_gain,
    shell_fluctuation,
    squared_distance,
    stepped_loss,
    used_batch_loss,
)
from sgdynamics.theory.quadratic.moments import moments
from sgdynamics.theory.quadratic.planning import greedy_schedule, optimal_schedule
from sgdynamics.theory.quadratic.power_law import power_law_bias, power_law_crossover_steps, power_law_optimal_rate
from sgdynamics.theory.quadratic.stationary import (
    contraction_factor,
    ema_start_weight,
    ema_variance,
    equivalent_gain,
    far_points_variance,
    stability,
    stability_edge,
    stationary,
    stationary_risk,
    stationary_variance,
    swa_start_weight,
    swa_variance,
    tail_variance,
    two_point_variance,
)
from sgdynamics.theory.quadratic.targets import steps_to_target

__all__ = [
    "SOURCES",
    "batch_full_gradient_cosine",
    "chord_excess",
    "contraction_factor",
    "ema_start_weight",
    "ema_variance",
    "equivalent_gain",
    "far_points_variance",
    "gradient_cosine",
    "greedy_schedule",
    "half_rate_excess",
    "held_out_loss",
    "iterate_cosine",
    "lagged_gradient_cosine",
    "line_search_gain",
    "moments",
    "optimal_schedule",
    "power_law_bias",
    "power_law_crossover_steps",
    "power_law_optimal_rate",
    "shell_fluctuation",
    "squared_distance",
    "stability",
    "stability_edge",
    "stationary",
    "stationary_risk",
    "stationary_variance",
    "stepped_loss",
    "steps_to_target",
    "swa_start_weight",
    "swa_variance",
    "tail_variance",
    "two_point_variance",
    "used_batch_loss",
]

SOURCES = ("sandler2023", "zhang2019")
