"""Merging checkpoints: what a merge is worth beside a decay.

================================================  =====================
question                                          where to look
================================================  =====================
weights that emulate a decay, and what they risk  ``merge_plan``
what share of the decay's gain they keep          ``gain_kept``
the schedule that emulates a given merge          ``schedule_of_merge``
================================================  =====================
"""

from sgdynamics.theory.schedules.merging.converse import schedule_of_merge
from sgdynamics.theory.schedules.merging.gains import gain_kept
from sgdynamics.theory.schedules.merging.plan import merge_plan

__all__ = ["gain_kept", "merge_plan", "schedule_of_merge"]
