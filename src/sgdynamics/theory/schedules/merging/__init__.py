r"""Merging checkpoints: the weights that emulate a decay, what they risk, and the schedule that emulates a merge."""

from sgdynamics.theory.schedules.merging.converse import schedule_of_merge
from sgdynamics.theory.schedules.merging.plan import merge_plan

__all__ = ["merge_plan", "schedule_of_merge"]
