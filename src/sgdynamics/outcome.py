"""Outcomes: small integers with sentences, stored in Datasets the CF way (``flag_values``, ``flag_meanings``)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

__all__ = ["Outcome", "outcome_attributes"]


class Outcome(IntEnum):
    """What became of a run, a search or an equivalence."""

    STABLE = 0
    MARGINAL = 1
    DIVERGED = 2
    REACHED = 10
    NEVER_REACHED = 11
    EQUIVALENT = 20
    EQUIVALENT_OUTSIDE_UNIT_INTERVAL = 21
    NOT_EQUIVALENT = 22
    MONOTONE = 30
    LOSS_CATAPULT = 31
    LOSS_AND_SHARPNESS_CATAPULT = 32
    PERIODIC = 33
    CHAOTIC = 34
    CONVERGED = 40
    UNSETTLED = 41
    NOISE_LIMITED = 60
    STILL_DESCENDING = 61
    LOSS_RISING = 62
    UNDECIDED = 63
    EDGE_REACHED = 80
    EDGE_NOT_REACHED = 81
    STALLED_BELOW_EDGE = 82

    @property
    def sentence(self) -> str:
        """The outcome, said to a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.STABLE: "The iterates settle into a stationary law.",
    Outcome.MARGINAL: "The run sits exactly on the stability edge: it neither settles nor blows up exponentially.",
    Outcome.DIVERGED: "The iterates grow without bound.",
    Outcome.REACHED: "The target is reached.",
    Outcome.NEVER_REACHED: "The target is not reached at any step, however long the run.",
    Outcome.EQUIVALENT: "One schedule with gains in [0, 1] reproduces the average.",
    Outcome.EQUIVALENT_OUTSIDE_UNIT_INTERVAL: "One schedule reproduces the average, with some gains outside [0, 1].",
    Outcome.NOT_EQUIVALENT: "No schedule reproduces the average.",
    Outcome.MONOTONE: "The loss is never above where it began.",
    Outcome.LOSS_CATAPULT: "The loss rises above where it began, the sharpness never does, and the run survives.",
    Outcome.LOSS_AND_SHARPNESS_CATAPULT: "Loss and sharpness rise above where they began, and the run survives.",
    Outcome.PERIODIC: "The iterates end in a cycle and never settle.",
    Outcome.CHAOTIC: "The iterates stay bounded, and neither settle nor repeat.",
    Outcome.CONVERGED: "The run ends at a minimum.",
    Outcome.UNSETTLED: "The run stays bounded and has not come to rest at a minimum by its last step.",
    Outcome.NOISE_LIMITED: "Noise-limited: descent and noise are in balance; averaging or a lower learning rate helps.",
    Outcome.STILL_DESCENDING: "Still descending: the learning rate is not yet what limits the loss.",
    Outcome.LOSS_RISING: "The loss rises: the noise of this learning rate has not built up to its balance.",
    Outcome.UNDECIDED: "Undecided: what was recorded allows more than one answer.",
    Outcome.EDGE_REACHED: "The run breaks even: along its sharpest direction SGD reaches the edge in mean square.",
    Outcome.EDGE_NOT_REACHED: "No edge is reached: the sharpness stays below what this rate and batch size can hold.",
    Outcome.STALLED_BELOW_EDGE: "The sharpness stalls below the edge of one direction: something else holds it there.",
}


def outcome_attributes(*members: Outcome) -> dict[str, Any]:
    """CF attributes of an ``outcome`` variable that takes the given members.

    Examples
    --------
    >>> outcome_attributes(Outcome.STABLE, Outcome.DIVERGED)["flag_meanings"]
    'stable diverged'
    """
    return {
        "long_name": "outcome",
        "flag_values": np.array(members, dtype=np.int8),
        "flag_meanings": " ".join(member.name.lower() for member in members),
    }
