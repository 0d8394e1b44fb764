r"""The edge of stability without running anything: where runs end, how they cycle, and the flows that stand for them.

``end_gap``, ``reduced``
    How far below :math:`2/\eta` a run ends that started above it.
``cycle``
    The self-stabilisation cycle, and the variance of the oscillation that holds the sharpness at the edge.
``central_flow``
    Gradient flow that may not cross the edge, with the oscillation it must carry.
``momentum``
    The rate of gradient descent that has the two-cycles and the edge of a run with momentum.
``approximations``, ``budget``
    Flows and diffusions in place of the discrete map, and the order in :math:`\eta` of what they get wrong.
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
    cycle_growth,
    cycle_invariant,
    cycle_period,
    oscillation_variance,
)
from sgdynamics.theory.edge_of_stability.end_gap import (
    end_gap,
    flip_coefficient,
    four_factor_edge,
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
    "cycle_growth",
    "cycle_invariant",
    "cycle_period",
    "end_excess",
    "end_gap",
    "error_budget",
    "fitted_order",
    "flip_coefficient",
    "four_factor_edge",
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
