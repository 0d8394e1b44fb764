r"""Logs of training, as tracking tools export them: one reader, and one rule for steps.

========================  ==============================================================================
format                    what it looks like
========================  ==============================================================================
Weights & Biases          ``"Step","run - train/loss","run - train/loss__MIN","run - train/loss__MAX"``
TensorBoard, CSV          ``Wall time,Step,Value``
TensorBoard, JSON         ``[[wall time, step, value], ...]``
Hugging Face              ``trainer_state.json``, its ``log_history``
tables of text            cells divided by commas, tabs, blanks, or semicolons with decimal commas
JSON lines                one object a line
named arrays              ``.npz`` and ``.nc``
========================  ==============================================================================

**A step is the number of updates made when the loss was measured.** Where a log has no steps its records are taken as
measured one update apart, the first before any update, at step 0; this, like everything else that is guessed, is
among the ``notes`` of what is returned.
"""

from sgdynamics.logs.axis import InOrder, in_order
from sgdynamics.logs.reading import read

__all__ = ["SOURCES", "InOrder", "in_order", "read"]

SOURCES = ("sandler2023",)
