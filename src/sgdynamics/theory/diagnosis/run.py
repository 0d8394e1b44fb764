r"""All that the records of one run say, and what they lack."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import checked, complain, integer, optional, positive
from sgdynamics.outcome import Outcome
from sgdynamics.theory.diagnosis._arguments import confidence_level, margin_width
from sgdynamics.theory.diagnosis.estimates import BLOCKS, Array, Estimate, block_means, table
from sgdynamics.theory.diagnosis.half_rate import cosines, slopes, verdict, vertex_of_slopes, vertex_of_trials
from sgdynamics.theory.diagnosis.plateau import plateau_of_weights

# What may be recorded, by name: dims, and what it has to be.
_RECORDS = {
    "loss": ("step",),
    "trial_loss": ("step", "trial"),
    "slope_before": ("step",),
    "slope_after": ("step",),
    "gradient": ("step", "parameter"),
    "independent_gradient": ("step", "parameter"),
    "weights": ("step", "parameter"),
}
_NEEDS = {
    "vertex_of_trials": "the vertex from trial losses needs 'trial_loss' (step, trial) with the coordinate 'trial' of "
    "at least three rates, and learning_rate: losses on other data after trial steps along the batch gradient",
    "vertex_of_slopes": "the vertex from slopes needs 'slope_before' and 'slope_after' (step), or 'gradient' and "
    "'independent_gradient' (step, parameter) at consecutive steps: gradients of fresh batches at both ends of a step",
    "cosines": "gradient cosines need 'gradient' (step, parameter) at consecutive steps, and 'independent_gradient' "
    "for two batches at one point",
    "plateau": "the plateau of distances needs 'weights' (step, parameter) at 40 or more equally spaced steps",
    "loss_change": "the change of the loss needs 'loss' (step) at 12 or more steps",
}


class _Run:
    text = "a Dataset, a mapping of arrays, or the path of a CSV file, with some of " + ", ".join(_RECORDS)

    def check(self, owner: str, name: str, value: Any) -> xr.Dataset:
        if isinstance(value, str | os.PathLike):
            value = self._read(owner, name, Path(value))
        if isinstance(value, Mapping) and not isinstance(value, xr.Dataset):
            value = self._labelled(owner, name, value)
        if not isinstance(value, xr.Dataset):
            raise complain(owner, name, self.text, value, TypeError)
        if not set(_RECORDS) & set(value):
            raise complain(owner, name, self.text, sorted(map(str, value)))
        for record in set(_RECORDS) & set(value):
            if value[record].dims != _RECORDS[str(record)]:
                text = f"a run whose {record!r} has the dims {_RECORDS[str(record)]}"
                raise complain(owner, name, text, value[record].dims)
            if value[record].dtype.kind not in "iuf":
                raise complain(
                    owner, name, f"a run whose {record!r} is made of numbers", value[record].dtype, TypeError
                )
            if np.isnan(value[record]).any():
                raise complain(owner, name, f"a run whose {record!r} has no gaps", np.nan)
        return value

    def _read(self, owner: str, name: str, path: Path) -> Mapping[str, Any]:
        if path.suffix != ".csv":
            raise complain(owner, name, self.text, str(path))
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
        if len(rows) < 2:
            raise complain(owner, name, "a CSV file with a header and at least one row", path.name)
        try:
            columns = np.array(rows[1:], dtype=float).T
        except ValueError as error:
            raise complain(owner, name, f"a CSV file of numbers below one header ({error})", path.name) from None
        return dict(zip((cell.strip() for cell in rows[0]), columns, strict=True))

    def _labelled(self, owner: str, name: str, value: Mapping[str, Any]) -> xr.Dataset:
        known = {record: dims for record, dims in _RECORDS.items() if record in value}
        for record, dims in known.items():
            if np.ndim(value[record]) != len(dims):
                raise complain(owner, name, f"a run whose {record!r} has {len(dims)} axes", np.shape(value[record]))
        try:
            made = xr.Dataset({record: (dims, np.asarray(value[record])) for record, dims in known.items()})
            coordinates = {
                dim: np.asarray(value[dim]) for dim in ("step", "trial") if dim in value and dim in made.dims
            }
            return made.assign_coords(coordinates)
        except ValueError as error:
            raise complain(owner, name, f"a run of records of one length ({error})", sorted(known)) from None


@checked(
    run=_Run(),
    learning_rate=optional(positive),
    margin=margin_width,
    confidence=confidence_level,
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
    ==================  ====================================  =======================================================

    ``gradient`` at step t is that of the batch of step t at the weights before it, ``weights`` are those after it;
    ``slope_before`` and ``slope_after`` are the slopes of fresh batch losses along the step, at its start and end. With
    ``weights`` at every step the slopes are taken along what the optimiser did, and hold for any optimiser; without,
    along the gradient, which is plain SGD.

    The verdict is the vertex's. From the loss alone a run can be seen to descend or to rise, but a flat loss is not
    taken for a balance: slow descent looks the same, and the verdict is then undecided. A run with a
    ``divergence_step`` or an infinite loss has diverged.

    Status: exact in expectation for quadratic losses and batches drawn independently; the verdict is a test.

    Parameters
    ----------
    run : Dataset, mapping of arrays, or path of a CSV file
        For instance from ``simulate.trainer.train``.
    learning_rate : float, optional
        Of the run; needed for trial losses.
    margin : float
        A vertex within this distance of one half counts as balance, in (0, 0.5).
    confidence : float
        Of every interval, in (0, 1).
    blocks : int
        Number of contiguous blocks that the bootstrap draws from, >= 2; each must be longer than the run remembers.
    seed : int
        Of the bootstrap.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower``, ``upper`` and ``identifiable`` by ``quantity``; ``outcome``. Attributes ``verdict``,
        ``reason`` and ``missing`` (sentences, one a line: what else could have been recorded).

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
    if _diverged(run):
        data = table({}, confidence=confidence, outcome=Outcome.DIVERGED)
        return data.assign_attrs(reason="The loss or the weights overflow.", missing="")
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
    return data.assign_attrs(reason=reason, missing="\n".join(text[0].upper() + text[1:] + "." for text in missing))


def _diverged(run: xr.Dataset) -> bool:
    if "divergence_step" in run and int(run.divergence_step.max()) >= 0:
        return True
    return any(np.isinf(run[name]).any() for name in _RECORDS if name in run)


def _consecutive(run: xr.Dataset, record: str) -> bool:
    return run[record].sizes["step"] >= 4 and ("step" not in run.coords or bool((np.diff(run.step) == 1).all()))


def _estimates(
    run: xr.Dataset, learning_rate: float | None, how: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Estimate] | None]]:
    """Every estimator with what it finds, or None where it lacks something; the most direct ones first."""
    values = {name: run[name].values.astype(float) for name in _RECORDS if name in run}
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


def _from_slopes(run: xr.Dataset, values: Mapping[str, Array], how: dict[str, Any]) -> dict[str, Estimate] | None:
    if {"slope_before", "slope_after"} <= set(values) and len(values["slope_before"]) >= 2:
        return {"vertex": vertex_of_slopes(values["slope_before"], values["slope_after"], **how)}
    if not {"gradient", "independent_gradient"} <= set(values) or not _consecutive(run, "gradient"):
        return None
    gradient, independent = values["gradient"], values["independent_gradient"]
    if "weights" not in values:
        return {"vertex": vertex_of_slopes(*slopes(-gradient, gradient, independent), **how)}
    moved = np.diff(values["weights"], axis=0)
    return {"vertex": vertex_of_slopes(*slopes(moved, gradient[1:], independent[1:]), **how)}


def _plateau(run: xr.Dataset, values: Mapping[str, Array], how: dict[str, Any]) -> dict[str, Estimate] | None:
    if "weights" not in values or len(values["weights"]) < 40 or not np.ptp(values["weights"], axis=0).any():
        return None
    gaps = np.unique(np.diff(run.step)) if "step" in run.coords else np.array([1])
    if gaps.size != 1:
        return None
    return plateau_of_weights(values["weights"], stride=int(gaps[0]), confidence=how["confidence"])


def _loss_change(run: xr.Dataset, values: Mapping[str, Array], how: dict[str, Any]) -> dict[str, Estimate] | None:
    """Least squares of a straight line through block means, which correlations hardly reach across."""
    from scipy.stats import t as student

    if "loss" not in values or len(values["loss"]) < 12:
        return None
    steps = run.step.values.astype(float) if "step" in run.coords else np.arange(float(len(values["loss"])))
    blocks = max(min(how["blocks"], len(steps) // 2), 4)
    place, loss = block_means(steps, blocks), block_means(values["loss"], blocks)
    centered = place - place.mean()
    slope = float(centered @ loss / (centered @ centered))
    rest = loss - loss.mean() - slope * centered
    error = float(np.sqrt(rest @ rest / (blocks - 2) / (centered @ centered)))
    half = float(student.ppf((1 + how["confidence"]) / 2, blocks - 2)) * error
    length = float(steps[-1] - steps[0])
    text = "change of the loss over the record, by a straight line"
    return {"loss_change": Estimate(slope * length, (slope - half) * length, (slope + half) * length, text)}


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
        change = found["loss_change"]
        if change.upper < 0:
            return Outcome.STILL_DESCENDING, "The loss falls over the record."
        if change.lower > 0:
            return Outcome.LOSS_RISING, "The loss rises over the record."
        return Outcome.UNDECIDED, "The loss shows no trend, which slow descent and balance have in common."
    return Outcome.UNDECIDED, "Nothing that was recorded tells descent from balance."
