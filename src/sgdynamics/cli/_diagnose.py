"""Is a run at a constant rate limited by noise? From whatever was recorded of it; what is missing is said.

Logs of Weights & Biases, TensorBoard and Hugging Face, and tables, hold a loss; what is guessed of them is said.
Records by name: loss (step); trial_loss (step, trial) with trial; slope_before and slope_after (step); gradient and
independent_gradient (step, parameter); weights (step, parameter).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sgdynamics.cli._options import refuse_idle, whole_from
from sgdynamics.cli._output import as_json, bullets, contents, paragraphs, table

if TYPE_CHECKING:
    import xarray as xr

HELP = "is a run at a constant rate limited by noise?"

OPTIONS = {
    "run": "FILE",
    "path": "FILE",
    "step": "'step' in FILE",
    "loss": "'loss' in FILE",
    "step_column": "--step-column",
    "column": "--column",
}

_MARGIN = 0.1  # as in the library

_NEXT = {
    "NOISE_LIMITED": "sgdynamics plan, to average the checkpoints that there are, or a lower learning rate.",
    "STILL_DESCENDING": "train on at this learning rate; averaging now would only lag behind.",
    "LOSS_RISING": "let the run settle, then diagnose again.",
    "DIVERGED": "a lower learning rate.",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="FILE", help="records of a run: .nc, .npz, or a log of any usual format")
    parser.add_argument("--column", metavar="HEADING", help="of the loss, or its run, where a log holds several")
    parser.add_argument("--step-column", metavar="HEADING", help="of the step")
    parser.add_argument("--from-step", type=whole_from(0), metavar="STEP", help="leave out what was logged before")
    parser.add_argument("--learning-rate", type=float, help="of the run; needed for trial losses")
    parser.add_argument("--margin", type=float, help="half width of what counts as balance of a vertex (default: 0.1)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, help="of the bootstrap of vertex and cosines (default: 0)")
    parser.add_argument(
        "--curve", action="store_true", help="also fit noise level, exponent and rate to the loss from step 0 on"
    )


def run(given: argparse.Namespace) -> str:
    """Diagnose, and say why."""
    from sgdynamics.outcome import Outcome
    from sgdynamics.theory.diagnosis import diagnose

    records = _read(given)
    found = diagnose(
        records,
        learning_rate=given.learning_rate,
        margin=_MARGIN if given.margin is None else given.margin,
        confidence=given.confidence,
        seed=given.seed or 0,
    )
    outcome = Outcome(int(found.outcome))
    if outcome is not Outcome.DIVERGED:
        _refuse_idle(given, records, set(found["quantity"].values.tolist()))
    curve = _curve(records, given.confidence) if given.curve else None
    if given.json:
        return as_json(contents(found) | ({} if curve is None else {"curve": contents(curve)}))
    return paragraphs(
        f"{found.verdict} {found.reason}",
        _estimates(found),
        "" if curve is None else "Of the loss curve:\n" + _estimates(curve),
        bullets("Note", found.notes.splitlines()),
        bullets("Not recorded", found.missing.splitlines()),
        f"Next: {_NEXT[outcome.name]}" if outcome.name in _NEXT else "",
    )


def _refuse_idle(given: argparse.Namespace, records: xr.Dataset, found: set[str]) -> None:
    """Refuse options that changed nothing, because FILE has no records that they are for."""
    if "trial_loss" not in records:
        refuse_idle(given, ["learning-rate"], "a record 'trial_loss' in FILE")
    if "vertex" not in found:
        refuse_idle(given, ["margin"], "a vertex, from trial losses, slopes or gradients in FILE")
        if not any(name.endswith("cosine") for name in found):
            refuse_idle(given, ["seed"], "a vertex or cosines, from trial losses, slopes or gradients in FILE")


def _curve(records: xr.Dataset, confidence: float) -> xr.Dataset:
    import numpy as np

    from sgdynamics.theory.diagnosis import fit_loss_curve

    if "loss" not in records:
        raise ValueError("--curve needs a record 'loss' in FILE, which has none")
    loss = np.ma.masked_invalid(records.loss.values.astype(float))
    if np.isposinf(records.loss).any():
        raise ValueError("--curve needs a run that did not diverge, or the part of FILE before it did")
    return fit_loss_curve(records.step.values, loss, confidence=confidence)


def _read(given: argparse.Namespace) -> xr.Dataset:
    """The records of a run, in order."""
    from sgdynamics import logs
    from sgdynamics.theory.diagnosis.records import Run

    with open(given.run, "rb"):  # a missing file is told by every reader in its own words
        pass
    if given.column is None and given.step_column is None:
        records = Run().check("diagnose", "run", given.run)
    else:
        log = logs.read(given.run, column=given.column, step_column=given.step_column)
        records = Run().check("diagnose", "run", log)
    if given.from_step is None:
        return records
    kept = records.sel(step=records.step >= given.from_step)
    if not kept.sizes["step"]:
        raise ValueError(
            f"--from-step must be at most the last step {float(records.step[-1]):.0f}, got {given.from_step}"
        )
    left_out = f"{records.sizes['step'] - kept.sizes['step']} records before step {given.from_step} are left out."
    return kept.assign_attrs(notes="\n".join(filter(None, [kept.notes, left_out])))


def _estimates(found: xr.Dataset) -> str:
    rows = []
    for place in range(found.sizes["quantity"]):
        row = found.isel(quantity=place)
        interval = [float(row.lower), float(row.upper)] if row.identifiable else ["not", "identifiable"]
        rows.append([str(row.quantity.item()), float(row.estimate), *interval, str(row.meaning.item())])
    confidence = f"{100 * found.attrs['confidence']:g}%"
    return table(["quantity", "estimate", f"{confidence} from", "to", "meaning"], rows) if rows else ""
