r"""The edge of stability without running anything: where runs end, how they cycle, and the flows that stand for them.

===========================================================  ========================================================
question                                                     where to look
===========================================================  ========================================================
how far below :math:`2/\eta` a run ends                      ``end_gap``, ``end_excess``, ``critical_end_excess``,
                                                             ``gap_drift``, ``reduced_invariant``,
                                                             ``tracking_amplitude``
where the minima are, and how sharp                          ``minimum_sharpness``, ``four_factor_edge_point``,
                                                             ``imbalance_factor``
the cycle of self-stabilisation                              ``cycle_amplitude``, ``cycle_period``, ``cycle_growth``,
                                                             ``cycle_invariant``, ``cycle_drift``
the oscillation that holds a run at the edge                 ``oscillation_variance``, ``oscillation_covariance``,
                                                             ``flip_coefficient``
gradient flow that may not cross the edge                    ``central_flow``
two-cycles, and the edge with momentum                       ``two_cycle_rate``, ``two_cycle_threshold``
flows in place of the discrete map, and what they get wrong  ``gradient_flow``, ``modified_flow``,
                                                             ``ornstein_uhlenbeck_variance``, ``error_budget``,
                                                             ``fitted_order``
===========================================================  ========================================================
"""

from sgdynamics.theory.edge_of_stability.approximations import (
    gradient_flow,
    modified_flow,
    ornstein_uhlenbeck_variance,
)
from sgdynamics.theory.edge_of_stability.budget import error_budget, fitted_order
from sgdynamics.theory.edge_of_stability.central_flow import central_flow, oscillation_covariance
from sgdynamics.theory.edge_of_stability.cycle import (
    cycle_amplitude,
    cycle_drift,
    cycle_growth,
    cycle_invariant,
    cycle_period,
    oscillation_variance,
)
from sgdynamics.theory.edge_of_stability.end_gap import (
    end_gap,
    flip_coefficient,
    four_factor_edge_point,
    gap_drift,
    imbalance_factor,
    minimum_sharpness,
)
from sgdynamics.theory.edge_of_stability.momentum import two_cycle_rate, two_cycle_threshold
from sgdynamics.theory.edge_of_stability.reduced import (
    critical_end_excess,
    end_excess,
    reduced_invariant,
    tracking_amplitude,
)

__all__ = [
    "SOURCES",
    "central_flow",
    "critical_end_excess",
    "cycle_amplitude",
    "cycle_drift",
    "cycle_growth",
    "cycle_invariant",
    "cycle_period",
    "end_excess",
    "end_gap",
    "error_budget",
    "fitted_order",
    "flip_coefficient",
    "four_factor_edge_point",
    "gap_drift",
    "gradient_flow",
    "imbalance_factor",
    "minimum_sharpness",
    "modified_flow",
    "ornstein_uhlenbeck_variance",
    "oscillation_covariance",
    "oscillation_variance",
    "reduced_invariant",
    "tracking_amplitude",
    "two_cycle_rate",
    "two_cycle_threshold",
]

SOURCES = ("zhu2022", "ahn2022", "damian2022", "cohen2024")
