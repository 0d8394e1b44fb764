r"""Moments, stationary laws, stability and planning for mini-batch quadratics.

Formulas are per direction, in gains :math:`x = \eta h` and in units of the center variance of one mini-batch unless
they say otherwise.

=========================================================================  ===========================================
question                                                                   where to look
=========================================================================  ===========================================
mean, variance and risk along a run                                        ``moments``, ``autocovariance``,
                                                                           ``contraction_factor``
the law of a run at rest                                                   ``stationary``, ``stationary_variance``,
                                                                           ``stationary_risk``, ``covariance_ratio``,
                                                                           ``squared_distance``,
                                                                           ``shell_fluctuation``
averages of the iterates                                                   ``ema_variance``, ``tail_variance``,
                                                                           ``swa_variance_from_start``,
                                                                           ``two_point_variance``,
                                                                           ``far_points_variance``,
                                                                           ``average_variance``, ``ema_start_weight``,
                                                                           ``swa_start_weight``, ``chord_excess``
gains that do the same                                                     ``equivalent_gain``,
                                                                           ``heavy_ball_equivalent_gain``,
                                                                           ``adam_gain``, ``adam_momentum_gain``
momentum, weight decay, preconditioners, signs                             ``decayed_variance``,
                                                                           ``decayed_minimiser``, ``preconditioned``,
                                                                           ``sign_descent_variance``
cosines of gradients and iterates                                          ``gradient_cosine``,
                                                                           ``batch_full_gradient_cosine``,
                                                                           ``lagged_gradient_cosine``,
                                                                           ``iterate_cosine``
what one step more does to the loss                                        ``held_out_loss``, ``used_batch_loss``,
                                                                           ``stepped_loss``, ``half_rate_excess``,
                                                                           ``line_search_gain``, ``critical_rate``
is it stable                                                               ``stability``, ``stability_edge``,
                                                                           ``mean_edge``, ``second_moment_edge``,
                                                                           ``mean_square_growth``, ``one_step_edge``,
                                                                           ``almost_sure_edge``, ``almost_sure_growth``,
                                                                           ``tail_index``
bounds and rules for that edge                                             ``trace_edge``, ``top_direction_edge``,
                                                                           ``trace_rule_term``
random curvature, one direction                                            ``random_curvature_variance``,
                                                                           ``random_curvature_second_moment``,
                                                                           ``mean_square_factor``,
                                                                           ``mean_square_edge_gain``,
                                                                           ``almost_sure_edge_gain``
reshuffled epochs                                                          ``reshuffled_variance``,
                                                                           ``reshuffled_growth``, ``reshuffled_edge``
how many steps, which rate                                                 ``steps_to_target``, ``power_law_bias``,
                                                                           ``power_law_optimal_rate``,
                                                                           ``power_law_crossover_steps``
which schedule                                                             ``optimal_schedule``, ``greedy_schedule``,
                                                                           ``best_power_decay``,
                                                                           ``best_decay_exponent``,
                                                                           ``best_schedule_peak``,
                                                                           ``best_schedule_risk``,
                                                                           ``decay_noise_left``,
                                                                           ``late_decay_noise_left``
a run as forcing and memory                                                ``forcing_and_memory``, ``memory_kernel``
which batch size                                                           ``noise_scale``, ``plateau_noise_scale``,
                                                                           ``batch_efficiency``, ``steps_for_batch``,
                                                                           ``examples_for_steps``
the order in which directions are learned, and what test risk that leaves  ``learning_order_rate``,
                                                                           ``risk_odds_factor``, ``risk_transfer``
=========================================================================  ===========================================
"""

from sgdynamics.theory.quadratic.annealing import learning_order_rate, risk_odds_factor, risk_transfer
from sgdynamics.theory.quadratic.averages import (
    ema_start_weight,
    ema_variance,
    equivalent_gain,
    far_points_variance,
    heavy_ball_equivalent_gain,
    swa_start_weight,
    swa_variance_from_start,
    tail_variance,
    two_point_variance,
)
from sgdynamics.theory.quadratic.batch_size import (
    batch_efficiency,
    examples_for_steps,
    noise_scale,
    plateau_noise_scale,
    steps_for_batch,
)
from sgdynamics.theory.quadratic.covariance import autocovariance, covariance_ratio
from sgdynamics.theory.quadratic.critical_rate import critical_rate
from sgdynamics.theory.quadratic.decay_shapes import decay_noise_left, late_decay_noise_left
from sgdynamics.theory.quadratic.edge_bounds import top_direction_edge, trace_edge
from sgdynamics.theory.quadratic.edges import mean_edge, mean_square_growth, one_step_edge, second_moment_edge
from sgdynamics.theory.quadratic.finite_data import (
    reshuffled_edge,
    reshuffled_growth,
    reshuffled_variance,
)
from sgdynamics.theory.quadratic.forcing import (
    best_decay_exponent,
    best_schedule_peak,
    best_schedule_risk,
    forcing_and_memory,
    memory_kernel,
)
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
from sgdynamics.theory.quadratic.least_squares import trace_rule_term
from sgdynamics.theory.quadratic.model_laws import stability, stationary
from sgdynamics.theory.quadratic.moments import moments
from sgdynamics.theory.quadratic.path_edges import almost_sure_edge, almost_sure_growth, tail_index
from sgdynamics.theory.quadratic.planning import greedy_schedule, optimal_schedule
from sgdynamics.theory.quadratic.power_decays import best_power_decay
from sgdynamics.theory.quadratic.power_law import power_law_bias, power_law_crossover_steps, power_law_optimal_rate
from sgdynamics.theory.quadratic.preconditioning import (
    adam_gain,
    adam_momentum_gain,
    preconditioned,
    sign_descent_variance,
)
from sgdynamics.theory.quadratic.random_curvature import (
    almost_sure_edge_gain,
    mean_square_edge_gain,
    mean_square_factor,
    random_curvature_second_moment,
    random_curvature_variance,
)
from sgdynamics.theory.quadratic.resting_averages import average_variance
from sgdynamics.theory.quadratic.stationary import (
    contraction_factor,
    stability_edge,
    stationary_risk,
    stationary_variance,
)
from sgdynamics.theory.quadratic.targets import steps_to_target
from sgdynamics.theory.quadratic.weight_decay import decayed_minimiser, decayed_variance

__all__ = [
    "SOURCES",
    "adam_gain",
    "adam_momentum_gain",
    "almost_sure_edge",
    "almost_sure_edge_gain",
    "almost_sure_growth",
    "autocovariance",
    "average_variance",
    "batch_efficiency",
    "batch_full_gradient_cosine",
    "best_decay_exponent",
    "best_power_decay",
    "best_schedule_peak",
    "best_schedule_risk",
    "chord_excess",
    "contraction_factor",
    "covariance_ratio",
    "critical_rate",
    "decay_noise_left",
    "decayed_minimiser",
    "decayed_variance",
    "ema_start_weight",
    "ema_variance",
    "equivalent_gain",
    "examples_for_steps",
    "far_points_variance",
    "forcing_and_memory",
    "gradient_cosine",
    "greedy_schedule",
    "half_rate_excess",
    "heavy_ball_equivalent_gain",
    "held_out_loss",
    "iterate_cosine",
    "lagged_gradient_cosine",
    "late_decay_noise_left",
    "learning_order_rate",
    "line_search_gain",
    "mean_edge",
    "mean_square_edge_gain",
    "mean_square_factor",
    "mean_square_growth",
    "memory_kernel",
    "moments",
    "noise_scale",
    "one_step_edge",
    "optimal_schedule",
    "plateau_noise_scale",
    "power_law_bias",
    "power_law_crossover_steps",
    "power_law_optimal_rate",
    "preconditioned",
    "random_curvature_second_moment",
    "random_curvature_variance",
    "reshuffled_edge",
    "reshuffled_growth",
    "reshuffled_variance",
    "risk_odds_factor",
    "risk_transfer",
    "second_moment_edge",
    "shell_fluctuation",
    "sign_descent_variance",
    "squared_distance",
    "stability",
    "stability_edge",
    "stationary",
    "stationary_risk",
    "stationary_variance",
    "stepped_loss",
    "steps_for_batch",
    "steps_to_target",
    "swa_start_weight",
    "swa_variance_from_start",
    "tail_index",
    "tail_variance",
    "top_direction_edge",
    "trace_edge",
    "trace_rule_term",
    "two_point_variance",
    "used_batch_loss",
]

SOURCES = (
    "sandler2023",
    "zhang2019",
    "mulayoff2024",
    "mccandlish2018",
    "andreyev2026",
    "li2025",
    "li2026",
    "qiu2025",
    "viswanath2000",
)
