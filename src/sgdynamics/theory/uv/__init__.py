r"""Critical rates, fixed points, the edge of stability and its period doublings for the uv network.

A two-layer linear network on one example, see :mod:`sgdynamics.models.uv`. Rates are normalised by the kernel
(``units="ntk"``) or by the top Hessian eigenvalue (``units="hessian"``) of the start; :math:`q = \eta\sqrt\kappa y` is
the rate over the critical one.

==============================================  ======================================================================
question                                        where to look
==============================================  ======================================================================
critical rates of one start                     ``c_loss``, ``c_loss_at``, ``c_sharp``, ``c_max``,
                                                ``largest_learning_rate``, ``critical_learning_rate``,
                                                ``sharpness_over_ntk``
their means over starts, and for wide networks  ``mean_c_loss``, ``mean_c_sharp``, ``mean_c_max``, ``mean_largest_c``,
                                                ``mean_start_ratio``, ``wide_c_loss``, ``wide_c_sharp``,
                                                ``wide_c_max``, ``first_rise_probability``,
                                                ``no_catapult_probability``
the same on several examples                    ``first_rise_rate``
what the first steps do                         ``first_loss_ratio``, ``sharpness_change``,
                                                ``linear_sharpness_growth``, ``gradient_flow_ntk``
which regime a rate is in                       ``regime``, ``Regime``
catapults                                       ``catapult_final_ntk``, ``mirror_ntk``, ``reflected_ntk``,
                                                ``peak_square_output``, ``reflected_peak``, ``peak_time``,
                                                ``loss_bound``, ``escape_margin``, ``final_excess``
warm-up by catapults                            ``warm_up_reach``, ``catapult_count``, ``delayed_escape``
fixed points and their stability                ``fixed_points``, ``jacobian``, ``ntk_nullcline``
the edge line                                   ``edge_map``, ``edge_sharpness``
two-cycles beyond the critical rate             ``two_cycle``, ``two_cycle_mean_ntk``, ``two_cycle_mean_sharpness``,
                                                ``two_cycle_mean_square_residual``, ``two_cycle_multiplier``,
                                                ``two_cycle_transverse_multiplier``
the route to chaos                              ``period_doublings``, ``period_doubling_limit``, ``chaotic_density``
==============================================  ======================================================================
"""

from sgdynamics.theory.uv.atlas import Regime, regime
from sgdynamics.theory.uv.catapult import (
    catapult_final_ntk,
    mirror_ntk,
    peak_square_output,
    peak_time,
    reflected_ntk,
    reflected_peak,
)
from sgdynamics.theory.uv.critical import c_loss, c_loss_at, c_sharp, first_loss_ratio, sharpness_over_ntk
from sgdynamics.theory.uv.doubling import period_doubling_limit, period_doublings
from sgdynamics.theory.uv.edge_line import (
    chaotic_density,
    edge_map,
    edge_sharpness,
    two_cycle,
    two_cycle_mean_ntk,
    two_cycle_mean_sharpness,
    two_cycle_mean_square_residual,
    two_cycle_multiplier,
    two_cycle_transverse_multiplier,
)
from sgdynamics.theory.uv.escape import c_max, escape_margin, largest_learning_rate, loss_bound
from sgdynamics.theory.uv.final_excess import final_excess
from sgdynamics.theory.uv.fixed_points import critical_learning_rate, fixed_points, jacobian, ntk_nullcline
from sgdynamics.theory.uv.several_examples import first_rise_rate
from sgdynamics.theory.uv.sharpening import (
    gradient_flow_ntk,
    linear_sharpness_growth,
    sharpness_change,
    wide_c_sharp,
)
from sgdynamics.theory.uv.start_means import (
    first_rise_probability,
    mean_c_loss,
    mean_c_max,
    mean_c_sharp,
    mean_largest_c,
    mean_start_ratio,
    no_catapult_probability,
    wide_c_loss,
    wide_c_max,
)
from sgdynamics.theory.uv.warm_up import catapult_count, delayed_escape, warm_up_reach

__all__ = [
    "SOURCES",
    "Regime",
    "c_loss",
    "c_loss_at",
    "c_max",
    "c_sharp",
    "catapult_count",
    "catapult_final_ntk",
    "chaotic_density",
    "critical_learning_rate",
    "delayed_escape",
    "edge_map",
    "edge_sharpness",
    "escape_margin",
    "final_excess",
    "first_loss_ratio",
    "first_rise_probability",
    "first_rise_rate",
    "fixed_points",
    "gradient_flow_ntk",
    "jacobian",
    "largest_learning_rate",
    "linear_sharpness_growth",
    "loss_bound",
    "mean_c_loss",
    "mean_c_max",
    "mean_c_sharp",
    "mean_largest_c",
    "mean_start_ratio",
    "mirror_ntk",
    "no_catapult_probability",
    "ntk_nullcline",
    "peak_square_output",
    "peak_time",
    "period_doubling_limit",
    "period_doublings",
    "reflected_ntk",
    "reflected_peak",
    "regime",
    "sharpness_change",
    "sharpness_over_ntk",
    "two_cycle",
    "two_cycle_mean_ntk",
    "two_cycle_mean_sharpness",
    "two_cycle_mean_square_residual",
    "two_cycle_multiplier",
    "two_cycle_transverse_multiplier",
    "warm_up_reach",
    "wide_c_loss",
    "wide_c_max",
    "wide_c_sharp",
]

SOURCES = ("kalra2023", "lewkowycz2020", "kalra2025", "kalra2024")
