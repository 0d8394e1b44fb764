r"""All that the records of one run say, and what they lack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import checked, integer, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.outcome import Outcome
from sgdynamics.theory.diagnosis._arguments import confidence_level, margin_width
from sgdynamics.theory.diagnosis.estimates import BLOCKS, Array, Estimate, block_means, table
from sgdynamics.theory.diagnosis.half_rate import (
    cosines,
    sampling_note,
    slopes,
    verdict,
    vertex_of_slopes,
    vertex_of_trials,
)
from sgdynamics.theory.diagnosis.memory import FEWEST, line
from sgdynamics.theory.diagnosis.plateau import plateau_of_weights
from sgdynamics.theory.diagnosis.records import RECORDS, Run, diverged

# How many times less likely by chance a change has to be where the loss remembers itself for long.
_FAR = 10
_NEEDS = {
    "vertex_of_trials": "the vertex from trial losses needs 'trial_loss' (step, trial) with the coordinate 'trial' of "
    "at least three rates, and learning_rate: losses on other data after trial steps along the batch gradient",
    "vertex_of_slopes": "the vertex from slopes needs 'slope_before' and 'slope_after' (step), or 'gradient' and "
    "'independent_gradient' (step, parameter) at consecutive steps: slopes of fresh batches at both ends of a step",
    "cosines": "gradient cosines need 'gradient' (step, parameter) at consecutive steps, and 'independent_gradient' "
    "for two batches at one point",
    "plateau": "the plateau of distances needs 'weights' (step, parameter) at 40 or more equally spaced steps",
    "loss_change": "the change of the loss needs 'loss' (step) at 12 or more steps",
}


@law(quantity="report")
@checked(
    run=Run(),
    learning_rate=optional(one(positive)),
    margin=one(margin_width),
    confidence=one(confidence_level),
    blocks=integer(2),
    seed=integer(0),
)
def diagnose(
    run: Any,
    *,
    learning_rate: float | None = None,
    margin: float = 0.1,
    confidence: float = 0.95,
    blocks: int = BLOCKS,
    seed: int = 0,
) -> xr.Dataset:
    r"""Whether a run at a constant learning rate is limited by noise, from whatever was recorded of it.

    ==================  ====================================  =======================================================
    quantity            needs                                 says
    ==================  ====================================  =======================================================
    ``vertex``          ``trial_loss`` (step, trial) with     where along a step the loss is lowest: one half in
                        the coordinate ``trial``, and the     balance, above while the run descends
                        learning rate; or ``slope_before``
                        and ``slope_after``; or ``gradient``
                        and ``independent_gradient``
    ``*_cosine``        ``gradient``; ``independent_          how batch gradients align
                        gradient``
    ``plateau``,        ``weights`` at equally spaced steps   radius and memory of the stationary law
    ``gain``
    ``loss_change``     ``loss``                              change of the loss over the record, by a straight line
                                                              (``late_loss_change``: over its later half, where the
                                                              bend of the whole hides it)
    ==================  ====================================  =======================================================

    ``gradient`` at step t is that of the batch of step t at the weights before it, ``weights`` are those after it;
    ``slope_before`` and ``slope_after`` are the slopes of fresh batch losses along the step, at its start and end. With
    ``weights`` at every step the slopes are taken along what the optimiser did, and hold for any optimiser; without,
    along the gradient, which is plain SGD.

    The critical rate of a step is twice its vertex times the learning rate: that it *is* the learning rate
    (:func:`~sgdynamics.theory.quadratic.critical_rate`, measured by ``simulate.trainer.critical_rate``) says balance,
    the same as a vertex at one half, and not that a curvature is at its edge.

    The verdict is the vertex's. From the loss alone a run can be seen to descend or to rise, but a flat loss is not
    taken for a balance: slow descent looks the same, and the verdict is then undecided. A run with a
    ``divergence_step`` or an infinite loss has diverged.

    Status: exact in expectation for quadratic losses, whatever the sampling of the run, where the batches of slopes and
    independent gradients are drawn afresh; the verdict is a test.

    Parameters
    ----------
    run : Dataset, mapping of arrays, or path of a log
        For instance from ``simulate.trainer.trajectory``, or of any format that ``logs.read`` reads. Steps are put in
        order by ``logs.in_order``; where there are none, records are taken as one update apart. NaN or a mask is a gap
        in a series, which is skipped; NaN to the end is divergence.
    learning_rate : float, optional
        Of the run; needed for trial losses.
    margin : float
        A vertex within this distance of one half counts as balance, in (0, 0.5).
    confidence : float
        Of every interval, in (0, 1).
    blocks : int
        Number of contiguous blocks, >= 2, that the intervals are made of; fewer than four bound nothing. Those of the
        loss and of cosines are widened by what blocks remember of each other; a memory of a tenth of the record leaves
        a cosine, and a trend that chance could make, not identifiable.
    seed : int
        Of the bootstrap.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower``, ``upper`` and ``identifiable`` by ``quantity``; ``outcome``. Attributes ``verdict``,
        ``reason``, ``missing`` and ``notes`` (sentences, one a line: what else could have been recorded, and what was
        done to the records).

    Raises
    ------
    ValueError, TypeError
        If the run holds none of the records, or one that does not have its dims, or an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.arange(100.0)
    >>> found = diagnose({"step": step, "loss": 2.0 - 0.01 * step})
    >>> found.verdict, found.reason
    ('Still descending: ...', 'The loss falls over the record.')
    """
    if diverged(run):
        data = table({}, confidence=confidence, outcome=Outcome.DIVERGED)
        return data.assign_attrs(reason="The loss or the weights overflow.", missing="", notes=run.notes)
    how = {"blocks": blocks, "confidence": confidence, "seed": seed}
    found: dict[str, Estimate] = {}
    missing: list[str] = []
    for name, estimates in _estimates(run, learning_rate, how):
        if estimates is None:
            missing.append(_NEEDS[name])
        else:
            found = estimates | found  # the first vertex is kept
    outcome, reason = _decision(found, margin)
    if "vertex" in found:
        missing = [text for text in missing if not text.startswith("the vertex")]
    data = table(found, confidence=confidence, outcome=outcome)
    taken = _steps_taken(run)
    notes = [run.notes, "" if taken is None else sampling_note(*taken, blocks)]
    return data.assign_attrs(
        reason=reason,
        missing="\n".join(text[0].upper() + text[1:] + "." for text in missing),
        notes="\n".join(filter(None, notes)),
    )


def _consecutive(run: xr.Dataset, record: str) -> bool:
    return run[record].sizes["step"] >= 4 and bool((np.diff(run.step) == 1).all())


def _estimates(
    run: xr.Dataset, learning_rate: float | None, how: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Estimate] | None]]:
    """Every estimator with what it finds, or None where it lacks something; the most direct ones first."""
    values = {name: run[name].values.astype(float) for name in RECORDS if name in run}
    trials = np.unique(run.trial).size if "trial" in run.coords else 0
    if "trial_loss" in values and trials >= 3 and learning_rate is not None and len(values["trial_loss"]) >= 2:
        vertex = vertex_of_trials(values["trial_loss"], run.trial.values.astype(float), float(learning_rate), **how)
        yield "vertex_of_trials", {"vertex": vertex}
    else:
        yield "vertex_of_trials", None
    yield "vertex_of_slopes", _from_slopes(run, values, how)
    consecutive = "gradient" in values and _consecutive(run, "gradient")
    independent = values.get("independent_gradient")
    yield "cosines", cosines(values["gradient"], independent, **how) if consecutive else None
    yield "plateau", _plateau(run, values, how)
    yield "loss_change", _loss_change(run, values, how)


def _steps_taken(run: xr.Dataset) -> tuple[Array, Array, Array] | None:
    """Displacements by consecutive steps, with the gradients of the batch taken and of another one before each."""
    if not {"gradient", "independent_gradient"} <= set(run) or not _consecutive(run, "gradient"):
        return None
    gradient, independent = run.gradient.values.astype(float), run.independent_gradient.values.astype(float)
    if "weights" not in run:
        return -gradient, gradient, independent
    return np.diff(run.weights.values.astype(float), axis=0), gradient[1:], independent[1:]


def _from_slopes(run: xr.Dataset, values: Mapping[str, Array], how: dict[str, Any]) -> dict[str, Estimate] | None:
    if {"slope_before", "slope_after"} <= set(values):
        slope = np.stack([values["slope_before"], values["slope_after"]])
        before, after = slope[:, ~np.isnan(slope).any(axis=0)]
        if before.size >= 2:
            return {"vertex": vertex_of_slopes(before, after, **how)}
    taken = _steps_taken(run)
    if taken is None:
        return None
    moved, _, independent = taken
    return {"vertex": vertex_of_slopes(*slopes(moved, independent), **how)}


def _plateau(run: xr.Dataset, values: Mapping[str, Array], how: dict[str, Any]) -> dict[str, Estimate] | None:
    if "weights" not in values or len(values["weights"]) < 40 or not np.ptp(values["weights"], axis=0).any():
        return None
    gaps = np.diff(run.step.values)
    if np.ptp(gaps) > 1e-6 * gaps.mean():  # steps that were divided by something are equal but for rounding
        return None
    return plateau_of_weights(values["weights"], stride=float(gaps.mean()), confidence=how["confidence"])


def _loss_change(run: xr.Dataset, values: Mapping[str, Array], how: dict[str, Any]) -> dict[str, Estimate] | None:
    """Over the record; where its bend or its memory hides that, over the later half too, where a bend is smaller."""
    loss = values.get("loss", np.zeros(0))
    steps, loss = run.step.values[~np.isnan(loss)], loss[~np.isnan(loss)]
    if len(loss) < 12:
        return None
    text = "change of the loss over the {}, by a straight line"
    found = {"loss_change": _change(steps, loss, text.format("record"), how)}
    if not found["loss_change"].identifiable:
        half = len(loss) // 2
        late = _change(steps[half:], loss[half:], text.format("later half"), how)
        if late.identifiable:
            found["late_loss_change"] = late
    return found


def _change(steps: Array, loss: Array, text: str, how: dict[str, Any]) -> Estimate:
    """A straight line through block means, against what they remember of each other."""
    blocks = max(min(how["blocks"], len(steps) // 2), FEWEST)
    place, means = block_means(steps, blocks), block_means(loss, blocks)
    length = float(steps[-1] - steps[0])
    trend = line(means, place, len(steps) // blocks, of="slope")
    if trend is None:
        slope = float(np.polynomial.Polynomial.fit(place, means, 1).convert().coef[-1]) if np.ptp(means) else 0.0
        return Estimate(slope * length, slope * length, slope * length, text)
    low, high = trend.interval(how["confidence"])
    if trend.hidden:  # a slow wandering looks like a trend, but for one that is far from chance
        low, high = trend.interval(1 - (1 - how["confidence"]) / _FAR)
        if low <= 0 <= high:
            low, high = -np.inf, np.inf
    return Estimate(trend.estimate * length, low * length, high * length, text)


def _decision(found: Mapping[str, Estimate], margin: float) -> tuple[Outcome, str]:
    if "vertex" in found:
        vertex = found["vertex"]
        if not vertex.identifiable:
            return Outcome.UNDECIDED, "The curvature along the steps cannot be told from 0: record more steps."
        outcome = verdict(vertex, margin)
        wide = ", too wide to say more: record more steps" if outcome == Outcome.UNDECIDED else ""
        return outcome, (
            f"The loss is lowest at {vertex.value:.3f} of a step ({vertex.lower:.3f} to {vertex.upper:.3f}), balance "
            f"is at 0.5{wide}."
        )
    if "loss_change" in found:
        where = "later half of the record" if "late_loss_change" in found else "record"
        change = found.get("late_loss_change", found["loss_change"])
        if change.upper < 0:
            return Outcome.STILL_DESCENDING, f"The loss falls over the {where}."
        if change.lower > 0:
            return Outcome.LOSS_RISING, f"The loss rises over the {where}."
        if not change.identifiable:
            return Outcome.UNDECIDED, (
                "The loss wanders too slowly for the record to tell a trend from chance: record more steps, or leave "
                "out the first ones if it only falls there."
            )
        return Outcome.UNDECIDED, "The loss shows no trend, which slow descent and balance have in common."
    return Outcome.UNDECIDED, "Nothing that was recorded tells descent from balance."
