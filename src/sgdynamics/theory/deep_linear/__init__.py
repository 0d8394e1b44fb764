r"""Deep linear networks: sharpness at their minima and at the start, and how fast modes are learned.

Depth :math:`D` counts weight matrices. The loss is half the squared error on whitened inputs unless a covariance is
given, so that sharpness is in units of :math:`1/\eta` and the stability edge of a minimum is :math:`2/\eta`.
"""

from sgdynamics.theory.deep_linear.cycles import cycle_low, cycle_multiplier, cycle_rate
from sgdynamics.theory.deep_linear.learning import (
    infinite_depth_learning_time,
    mode_strength,
    two_layer_learning_time,
    two_layer_strength,
)
from sgdynamics.theory.deep_linear.minima import (
    balanced_eigenvalue,
    balanced_sharpness,
    balanced_spectrum,
    equal_chain_sharpness,
    persistent_edge,
    predicted_final_sharpness,
    two_layer_flow_sharpness,
    two_layer_imbalance_factor,
)
from sgdynamics.theory.deep_linear.start import (
    initial_ntk_moments,
    initial_ntk_relative_variance,
    initial_ntk_variance,
    standard_initial_ntk,
)

__all__ = [
    "SOURCES",
    "balanced_eigenvalue",
    "balanced_sharpness",
    "balanced_spectrum",
    "cycle_low",
    "cycle_multiplier",
    "cycle_rate",
    "equal_chain_sharpness",
    "infinite_depth_learning_time",
    "initial_ntk_moments",
    "initial_ntk_relative_variance",
    "initial_ntk_variance",
    "mode_strength",
    "persistent_edge",
    "predicted_final_sharpness",
    "standard_initial_ntk",
    "two_layer_flow_sharpness",
    "two_layer_imbalance_factor",
    "two_layer_learning_time",
    "two_layer_strength",
]

SOURCES = ("saxe2013", "kreisler2023", "ghosh2025")
