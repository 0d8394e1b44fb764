r"""Two patterns and two learning rates: kernels, time scales and the reduced model of a wide network of Li, Wei and Ma.

A large learning rate keeps turning the activation pattern, so that the kernel loses the kink that pattern Q needs; a
small one leaves the pattern frozen and learns Q first. See :mod:`sgdynamics.models.patterns` for the model. The ideas
are those of li2019; the closed forms here are derived, and none of them is a statement of that paper.

=============================================================  =====================================================
question                                                       where to look
=============================================================  =====================================================
what two examples share after the pattern has moved            ``refreshed_kernel``, ``noisy_correlation``
how fast Q is learnt                                           ``curvature_form``, ``refreshed_curvature_form``,
                                                               ``small_angle_curvature_form``
what curvature the large rate can hold                         ``curvature_ceiling``, ``memory_integral``,
                                                               ``small_separation_memory``
variance of the weights, and how fast the pattern turns        ``stationary_noise_variance``, ``annealed_variance``,
                                                               ``annealed_variance_ratio``, ``noise_correlation``,
                                                               ``refreshing_angle``
how long each pattern takes, and how wide the network must be  ``p_time``, ``q_time``, ``time_separation``,
                                                               ``p_learning_time``, ``q_learning_time``,
                                                               ``lazy_width``
errors on P-only examples                                      ``p_only_error``, ``mean_classifier_cosine``
the limit of wide networks, step by step                       ``reduced_dynamics``, ``population_dynamics``,
                                                               ``first_time_below``
will the order of learning reverse, and where                  ``predicted_learning``, ``reversal_conditions``,
                                                               ``gap_map``, ``P_LEVEL``, ``Q_LEVEL``
=============================================================  =====================================================
"""

from sgdynamics.theory.patterns.curvature import curvature_form, refreshed_curvature_form, small_angle_curvature_form
from sgdynamics.theory.patterns.errors import mean_classifier_cosine, p_only_error
from sgdynamics.theory.patterns.kernels import noisy_correlation, refreshed_kernel
from sgdynamics.theory.patterns.maps import gap_map
from sgdynamics.theory.patterns.memory import curvature_ceiling, memory_integral, small_separation_memory
from sgdynamics.theory.patterns.noise import (
    annealed_variance,
    annealed_variance_ratio,
    noise_correlation,
    refreshing_angle,
    stationary_noise_variance,
)
from sgdynamics.theory.patterns.prediction import P_LEVEL, Q_LEVEL, predicted_learning, reversal_conditions
from sgdynamics.theory.patterns.reduced import first_time_below, population_dynamics, reduced_dynamics
from sgdynamics.theory.patterns.times import (
    lazy_width,
    p_learning_time,
    p_time,
    q_learning_time,
    q_time,
    time_separation,
)

__all__ = [
    "P_LEVEL",
    "Q_LEVEL",
    "SOURCES",
    "annealed_variance",
    "annealed_variance_ratio",
    "curvature_ceiling",
    "curvature_form",
    "first_time_below",
    "gap_map",
    "lazy_width",
    "mean_classifier_cosine",
    "memory_integral",
    "noise_correlation",
    "noisy_correlation",
    "p_learning_time",
    "p_only_error",
    "p_time",
    "population_dynamics",
    "predicted_learning",
    "q_learning_time",
    "q_time",
    "reduced_dynamics",
    "refreshed_curvature_form",
    "refreshed_kernel",
    "refreshing_angle",
    "reversal_conditions",
    "small_angle_curvature_form",
    "small_separation_memory",
    "stationary_noise_variance",
    "time_separation",
]

SOURCES = ("li2019",)
