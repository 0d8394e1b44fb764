r"""Reading a run: is it limited by noise, how far does it swing, what does its loss curve tell.

Every estimate comes with an interval, and with an honest "not identifiable" (an interval that is open on one side)
where the records do not bound it. The verdicts rest on the balance of a stationary run of SGD on a quadratic: along a
step the loss is lowest half way.

=====================================================  ============================================
question                                               where to look
=====================================================  ============================================
is a run limited by noise, from whatever was recorded  ``diagnose``
the same from trial losses, or from gradients alone    ``half_rate_vertex``, ``gradient_cosines``
how far iterates swing                                 ``distance_plateau``
noise level, exponent and rate of a loss curve         ``fit_loss_curve``, ``power_law_relaxation``
=====================================================  ============================================
"""

from sgdynamics.theory.diagnosis.half_rate import gradient_cosines, half_rate_vertex
from sgdynamics.theory.diagnosis.loss_curve import fit_loss_curve, power_law_relaxation
from sgdynamics.theory.diagnosis.plateau import distance_plateau
from sgdynamics.theory.diagnosis.run import diagnose

__all__ = [
    "SOURCES",
    "diagnose",
    "distance_plateau",
    "fit_loss_curve",
    "gradient_cosines",
    "half_rate_vertex",
    "power_law_relaxation",
]

SOURCES = ("sandler2023",)
