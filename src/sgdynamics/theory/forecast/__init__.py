"""From one or a few loss curves to the loss under any schedule, and to the best schedule.

=================================================  ==================================
question                                           where to look
=================================================  ==================================
the law of one or a few loss curves                ``fit``
the loss under another schedule, or of an average  ``predict``
the best schedule                                  ``best_schedule``
which run to make next                             ``next_run``
the fitted law as a mini-batch quadratic           ``quadratic_at``
its parts in closed form                           ``spectrum_left``, ``drop_gained``
a worst case for convex losses                     ``last_iterate_bound``
=================================================  ==================================
"""

from sgdynamics.theory.forecast.fitting import fit
from sgdynamics.theory.forecast.laws import drop_gained, last_iterate_bound, spectrum_left
from sgdynamics.theory.forecast.next_run import next_run
from sgdynamics.theory.forecast.optimum import best_schedule
from sgdynamics.theory.forecast.prediction import predict
from sgdynamics.theory.forecast.quadratic import quadratic_at

__all__ = [
    "SOURCES",
    "best_schedule",
    "drop_gained",
    "fit",
    "last_iterate_bound",
    "next_run",
    "predict",
    "quadratic_at",
    "spectrum_left",
]

SOURCES = ("luo2025", "defazio2023", "schaipp2025")
