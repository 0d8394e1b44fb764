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
