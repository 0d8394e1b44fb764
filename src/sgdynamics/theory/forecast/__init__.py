"""From one or a few loss curves to the loss under any schedule, and to the best schedule."""

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

SOURCES = ("luo2025", "defazio2023")
