r"""Merging checkpoints: the weights that emulate a decay, what they risk, and the schedule that emulates a merge."""

from sgdynamics.theory.schedules.merging.converse import schedule_of_merge
from sgdynamics.theory.schedules.merging.gains import gain_kept
from sgdynamics.theory.schedules.merging.plan import merge_plan

__all__ = ["gain_kept", "merge_plan", "schedule_of_merge"]
