"""Steps in order: sorted, each of them once, counted on where the counter began anew."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, complain, real

Array = NDArray[np.float64]

# Losses at either end of a stretch that tell a counter that began anew from a run that did.
_COMPARED = 10
# Standard errors by which they must differ.
_APART = 4.0
# Records of a stretch that is told from a shuffle by its start alone, wherever exactly it starts.
_LONG = 10


class InOrder(NamedTuple):
    """Steps in order, and the records they belong to.

    Attributes
    ----------
    step : array
        Increasing.
    record : array of int
        Which of the records that were given lies at each step.
    notes : tuple of str
        What was done to them, in sentences; empty where they were in order.
    """

    step: Array
    record: NDArray[np.intp]
    notes: tuple[str, ...]


class StepAxis:
    """The domain of steps: numbers, in any order."""

    text = "a 1-D array of finite numbers, the updates made when each record was taken"

    def check(self, owner: str, name: str, value: Any) -> Array:
        """The steps as floats."""
        if isinstance(value, int | float | str | os.PathLike) or value is None:
            raise complain(owner, name, self.text, value, TypeError)
        if np.ma.is_masked(value):
            raise complain(owner, name, f"{self.text}, none of them masked", value)
        try:
            array = np.asarray(value)
        except ValueError:  # ragged
            raise complain(owner, name, self.text, value) from None
        if array.dtype.kind in "mM":
            raise complain(owner, name, f"{self.text}, not times of the day", array.dtype, TypeError)
        array = np.asarray(replace(real, text=self.text).check(owner, name, array))
        if array.ndim != 1:
            raise complain(owner, name, self.text, f"shape {array.shape}")
        if array.size > 1 and np.ptp(array) == 0:
            raise complain(owner, name, f"{self.text}, and so not all the same", float(array[0]))
        return array


class _Loss:
    text = "None, or a 1-D array of numbers, one for each step"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            array = np.asarray(value)
        except ValueError:  # ragged
            raise complain(owner, name, self.text, value) from None
        if array.ndim != 1 or array.dtype.kind not in "iuf" or not array.size:
            raise complain(owner, name, self.text, value, ValueError if array.ndim == 1 else TypeError)
        return array.astype(float)


@checked(step=StepAxis(), loss=_Loss())
def in_order(step: Numeric, *, loss: Numeric = None) -> InOrder:
    r"""Order steps, keep one record of each, and count on where the counter began anew.

    Every function of the library that takes records along a run puts their steps through this.

    - Records that lie newest first are turned round, others that are out of order are sorted.
    - Where the counter falls back to its start, as in every epoch or after a resume, it is counted on, unless the loss
      went back to its start as well: then the run was begun anew.
    - Of several records of one step, as after a resume from an older checkpoint, the later one is kept.

    Status: heuristic where steps fall back; every other case is exact.

    Parameters
    ----------
    step : array, shape (n,)
        The updates made when each record was taken, finite, in the order of the records.
    loss : array, shape (n,), optional
        To tell a counter that began anew from a run that did.

    Returns
    -------
    InOrder
        ``step``, ``record``, places in what was given, and ``notes``.

    Raises
    ------
    ValueError, TypeError
        If steps are not finite, masked, no numbers or all the same, or lengths differ.

    Examples
    --------
    >>> in_order([0, 10, 20, 10, 20, 30])
    InOrder(step=array([ 0., 10., 20., 30.]), record=array([0, 3, 4, 5]), notes=('2 steps are recorded ...',))
    >>> in_order([0, 1, 2, 0, 1]).step
    array([0., 1., 2., 3., 4.])
    """
    steps = np.asarray(step)
    if loss is not None and loss.shape != steps.shape:
        raise complain("in_order", "loss", f"of the {steps.size} steps", f"shape {loss.shape}")
    index, notes = np.arange(steps.size), []
    if steps.size > 1 and (np.diff(steps) <= 0).all():
        index = index[::-1]
        notes.append("The records lie newest first: they are read from the end.")
    offset, said = _counted_on(steps[index], None if loss is None else loss[index])
    counted = steps[index] + offset
    notes += said
    order = np.argsort(counted, kind="stable")
    last = np.append(np.diff(counted[order]) > 0, True)
    kept = order[last]
    if (np.diff(kept) < 0).any():
        notes.append("The steps are out of order: they are sorted.")
    if not last.all():
        many = np.unique(counted[order][~last]).size
        notes.append(
            f"{many} step{'s are' if many > 1 else ' is'} recorded more than once, as after a resume: the later record "
            f"is kept, {int(np.sum(~last))} left out."
        )
    return InOrder(counted[kept], index[kept], tuple(notes))


def _counted_on(steps: Array, loss: Array | None) -> tuple[Array, list[str]]:
    """What to add to every step, so that a counter that began anew goes on."""
    offset = np.zeros(steps.size)
    starts = np.append(0, np.flatnonzero(np.diff(steps) < 0) + 1)
    rises = np.diff(steps)[np.diff(steps) > 0]
    if starts.size == 1 or not rises.size:
        return offset, []
    gap = float(np.median(rises))
    ends = np.append(starts[1:], steps.size)
    same = (steps[starts] == steps[0]).all()
    near = (steps[starts] < steps[starts].min() + gap).all() and (ends - starts >= _LONG).all()
    if not (same or near):
        return offset, []
    anew = 0
    stretches = list(zip(starts.tolist(), ends.tolist(), strict=True))
    for (first, last), (start, end) in pairwise(stretches):
        if loss is not None and _went_back(loss[first:last], loss[start:end]):
            anew += 1
            offset[start:end] = offset[first]
        else:
            offset[start:end] = offset[first] + steps[last - 1] + gap - steps[0]
    notes, back = [], starts.size - 1 - anew
    if back:
        notes.append(
            f"The steps fall back to their start {_times(back)} (first at record {starts[1] + 1}): they are counted on."
        )
    if anew:
        notes.append(f"Steps and loss fall back to their start {_times(anew)}: the run was begun anew.")
    return offset, notes


def _went_back(before: Array, after: Array) -> bool:
    """Whether a stretch begins at the loss where the one before began, and not where that one ended."""
    count = min(_COMPARED, before.size // 2, after.size)
    if count < 3:
        return False
    begun, ended, now = before[:count], before[-count:], after[:count]
    error = np.sqrt((ended.var(ddof=1) + now.var(ddof=1)) / count)
    away = abs(now.mean() - ended.mean())
    return bool(away > _APART * error and abs(now.mean() - begun.mean()) < away)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
