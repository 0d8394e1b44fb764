"""From one or a few loss curves to the loss under any schedule, and to the best schedule."""

from sgdynamics.theory.forecast.fitting import fit
from sgdynamics.theory.forecast.optimum import best_schedule
from sgdynamics.theory.forecast.prediction import predict

__all__ = ["SOURCES", "best_schedule", "fit", "predict"]

SOURCES = ("luo2025",)
