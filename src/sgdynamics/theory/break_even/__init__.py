r"""The break-even point: where a run that sharpens reaches the edge of stability of SGD, and what the edge is.

=========================================  ===========================================================================
question                                   where to look
=========================================  ===========================================================================
what one direction can bear                ``direction_edges``, ``gradient_noise_interaction``,
                                           ``critical_interaction_aware_sharpness``, ``rise_multiple``,
                                           ``batch_variance_factor``
curvature at the edge, by closure          ``edge_curvature_at_distance``, ``edge_curvature_poisson``,
                                           ``sharpness_bound``, ``non_uniformity_bound``, ``frobenius_bound``,
                                           ``noise_alignment``
where a path of sharpening meets its edge  ``break_even_crossing``, ``break_even_curvature``, ``break_even_distance``,
                                           ``break_even_slope``, ``proof_conditions``
the edge of a set of per-example Hessians  ``mean_square_edge``, ``strict_edge``, ``sharpest_direction_edge``
rules in place of it                       ``trace_rule_edge``, ``kernel_norm_edge``, ``kernel_norm_share``
the self-stabilising mode                  ``plateau_curvature``, ``collapse_curvature``, ``plateau_second_moment``,
                                           ``plateau_projection_variance``, ``frozen_second_moment``,
                                           ``stochastic_sharpness_gap``, ``break_even_steps``
several directions that sharpen            ``clipped_modes``
the break-even point of a measured run     ``predicted_break_even``
=========================================  ===========================================================================

Batches are fresh in every step, without replacement unless it says otherwise. The edges of almost every path, of
reshuffled batches and of momentum are in :mod:`sgdynamics.theory.quadratic`, for the same ensembles as a
:class:`~sgdynamics.models.quadratic.FiniteSumQuadratic`.
"""

from sgdynamics.theory.break_even.clipping import clipped_modes
from sgdynamics.theory.break_even.crossing import (
    break_even_crossing,
    break_even_curvature,
    break_even_distance,
    break_even_slope,
    proof_conditions,
)
from sgdynamics.theory.break_even.one_direction import (
    batch_variance_factor,
    edge_curvature_at_distance,
    edge_curvature_poisson,
    gradient_noise_interaction,
    non_uniformity_bound,
    sharpness_bound,
)
from sgdynamics.theory.break_even.plateau import (
    break_even_steps,
    collapse_curvature,
    frozen_second_moment,
    plateau_curvature,
    plateau_projection_variance,
    plateau_second_moment,
    stochastic_sharpness_gap,
)
from sgdynamics.theory.break_even.prediction import predicted_break_even
from sgdynamics.theory.break_even.rules import (
    critical_interaction_aware_sharpness,
    frobenius_bound,
    kernel_norm_edge,
    kernel_norm_share,
    noise_alignment,
    rise_multiple,
    trace_rule_edge,
)
from sgdynamics.theory.break_even.several_directions import (
    direction_edges,
    mean_square_edge,
    sharpest_direction_edge,
    strict_edge,
)

__all__ = [
    "SOURCES",
    "batch_variance_factor",
    "break_even_crossing",
    "break_even_curvature",
    "break_even_distance",
    "break_even_slope",
    "break_even_steps",
    "clipped_modes",
    "collapse_curvature",
    "critical_interaction_aware_sharpness",
    "direction_edges",
    "edge_curvature_at_distance",
    "edge_curvature_poisson",
    "frobenius_bound",
    "frozen_second_moment",
    "gradient_noise_interaction",
    "kernel_norm_edge",
    "kernel_norm_share",
    "mean_square_edge",
    "noise_alignment",
    "non_uniformity_bound",
    "plateau_curvature",
    "plateau_projection_variance",
    "plateau_second_moment",
    "predicted_break_even",
    "proof_conditions",
    "rise_multiple",
    "sharpest_direction_edge",
    "sharpness_bound",
    "stochastic_sharpness_gap",
    "strict_edge",
    "trace_rule_edge",
]

SOURCES = ("jastrzebski2020", "wu2018", "mulayoff2024", "agarwala2024", "lee2023", "damian2022")
