r"""Averages, schedules and merges: three ways to weigh the same mini-batch centers.

At one curvature :math:`h` the last iterate of SGD and every average of the iterates are affine combinations
:math:`P_0 x_0 + \sum_j w_j c_j` of the start and the batch centers, with weights that do not depend on the draw. Two
procedures with the same weights are the same point, batch by batch. Everything here is in gains :math:`g_j = \eta_j h`.

The equivalence is exact at one curvature and for one horizon :math:`T`; across a spectrum only trivial schedules
have an exact average (:func:`average_for_every_curvature`).

=======================================================  ======================================================
question                                                 where to look
=======================================================  ======================================================
what every batch weighs in an iterate, or in an average  ``center_weights``, ``average_center_weights``,
                                                         ``schedule_free_weights``, ``update_weights``,
                                                         ``weight_decay_steps``
the schedule of an average, the average of a schedule    ``average_to_gains``, ``gains_to_average``,
                                                         ``gains_from_weights``, ``equivalence``,
                                                         ``NoEquivalentSchedule``
the same in closed form                                  ``ema_schedule_gain``, ``swa_schedule_gain``,
                                                         ``two_point_schedule_gain``, ``ema_heavy_ball_gain``,
                                                         ``ema_heavy_ball_momentum``
averages that suit a whole spectrum                      ``average_for_every_curvature``, ``binomial_average``,
                                                         ``wsm_average``
merging checkpoints in place of a decay                  ``merge_plan``, ``gain_kept``, ``schedule_of_merge``
=======================================================  ======================================================
"""

from sgdynamics.theory.schedules.closed_forms import (
    ema_heavy_ball_gain,
    ema_heavy_ball_momentum,
    ema_schedule_gain,
    swa_schedule_gain,
    two_point_schedule_gain,
)
from sgdynamics.theory.schedules.emulation import average_for_every_curvature, binomial_average, wsm_average
from sgdynamics.theory.schedules.merging import gain_kept, merge_plan, schedule_of_merge
from sgdynamics.theory.schedules.schedule_free import schedule_free_weights
from sgdynamics.theory.schedules.weight_decay import update_weights, weight_decay_steps
from sgdynamics.theory.schedules.weights import (
    NoEquivalentSchedule,
    average_center_weights,
    average_to_gains,
    center_weights,
    equivalence,
    gains_from_weights,
    gains_to_average,
)

__all__ = [
    "SOURCES",
    "NoEquivalentSchedule",
    "average_center_weights",
    "average_for_every_curvature",
    "average_to_gains",
    "binomial_average",
    "center_weights",
    "ema_heavy_ball_gain",
    "ema_heavy_ball_momentum",
    "ema_schedule_gain",
    "equivalence",
    "gain_kept",
    "gains_from_weights",
    "gains_to_average",
    "merge_plan",
    "schedule_free_weights",
    "schedule_of_merge",
    "swa_schedule_gain",
    "two_point_schedule_gain",
    "update_weights",
    "weight_decay_steps",
    "wsm_average",
]

SOURCES = ("sandler2023", "tian2025", "defazio2024")
