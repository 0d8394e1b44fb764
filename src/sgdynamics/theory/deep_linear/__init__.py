r"""Deep linear networks: sharpness at their minima and at the start, and how fast modes are learned.

Depth :math:`D` counts weight matrices. The loss is half the squared error on whitened inputs unless a covariance is
given, so that sharpness is in units of :math:`1/\eta` and the stability edge of a minimum is :math:`2/\eta`.

===================================  ================================================================================
question                             where to look
===================================  ================================================================================
sharpness at a minimum               ``balanced_sharpness``, ``balanced_eigenvalue``, ``balanced_spectrum``,
                                     ``equal_chain_sharpness``
where gradient descent ends          ``predicted_final_sharpness``, ``two_layer_flow_sharpness``, ``persistent_edge``
two-cycles beyond the edge           ``cycle_rate``, ``cycle_low``, ``cycle_multiplier``
the tangent kernel at the start      ``initial_ntk_moments``, ``initial_ntk_variance``,
                                     ``initial_ntk_relative_variance``, ``standard_initial_ntk``
how fast modes are learned           ``mode_strength``, ``two_layer_strength``, ``two_layer_learning_time``,
                                     ``infinite_depth_learning_time``
what one step does to the imbalance  ``two_layer_imbalance_factor``
===================================  ================================================================================
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
