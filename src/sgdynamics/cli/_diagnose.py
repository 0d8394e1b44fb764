"""Is a run at a constant rate limited by noise? From whatever was recorded of it; what is missing is said.

Records: loss (step); trial_loss (step, trial) with trial; slope_before and slope_after (step); gradient and
independent_gradient (step, parameter); weights (step, parameter).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdynamics.cli._output import as_json, bullets, contents, paragraphs, table

if TYPE_CHECKING:
    import xarray as xr

HELP = "is a run at a constant rate limited by noise?"

OPTIONS = {"run": "FILE", "step": "'step' in FILE", "loss": "'loss' in FILE"}

_NEXT = {
    "NOISE_LIMITED": "sgdynamics plan, to average the checkpoints that there are, or a lower learning rate.",
    "STILL_DESCENDING": "train on at this learning rate; averaging now would only lag behind.",
    "LOSS_RISING": "let the run settle, then diagnose again.",
    "DIVERGED": "a lower learning rate.",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="FILE", help="records of a run: .nc, .npz, or .csv with a header")
    parser.add_argument("--learning-rate", type=float, help="of the run; needed for trial losses")
    parser.add_argument("--margin", type=float, default=0.1, help="half width of what counts as balance (default: 0.1)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument(
        "--curve", action="store_true", help="also fit noise level, exponent and rate to the loss from step 0 on"
    )


def run(given: argparse.Namespace) -> str:
    """Diagnose, and say why."""
    from sgdynamics.outcome import Outcome
    from sgdynamics.theory.diagnosis import diagnose

    records = _read(given.run)
    found = diagnose(
        records,
        learning_rate=given.learning_rate,
        margin=given.margin,
        confidence=given.confidence,
        seed=given.seed,
    )
    outcome = Outcome(int(found.outcome))
    curve = _curve(records, given.confidence) if given.curve else None
    if given.json:
        return as_json(contents(found) | ({} if curve is None else {"curve": contents(curve)}))
    return paragraphs(
        f"{found.verdict} {found.reason}",
        _estimates(found),
        "" if curve is None else "Of the loss curve:\n" + _estimates(curve),
        bullets("Not recorded", found.missing.splitlines()),
        f"Next: {_NEXT[outcome.name]}" if outcome.name in _NEXT else "",
    )


def _curve(records: Any, confidence: float) -> xr.Dataset:
    import numpy as np

    from sgdynamics.theory.diagnosis import fit_loss_curve

    if isinstance(records, str):
        columns = np.genfromtxt(records, delimiter=",", names=True)
        records = {name: np.atleast_1d(columns[name]) for name in columns.dtype.names or ()}
    if "loss" not in records:
        raise ValueError("--curve needs a record 'loss' in FILE, which has none")
    loss = np.asarray(records["loss"], dtype=float)
    step = np.asarray(records["step"], dtype=float) if "step" in records else np.arange(1.0, loss.size + 1)
    return fit_loss_curve(step, loss, confidence=confidence)


def _read(path: str) -> Any:
    """A recorded run: a NetCDF file, named arrays, or a CSV file by its path."""
    import numpy as np
    import xarray as xr

    suffix = Path(path).suffix
    with open(path, "rb"):  # a missing file is told by every reader in its own words
        pass
    try:
        if suffix == ".nc":
            with xr.open_dataset(path, engine="h5netcdf") as data:
                return data.load()
        if suffix == ".npz":
            with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except Exception as error:  # of whatever library reads it
        raise ValueError(f"FILE cannot be read as {suffix} ({error}): {path}") from None
    if suffix != ".csv":
        raise ValueError(f"FILE must end in .nc, .npz or .csv, got {path}")
    return path


def _estimates(found: xr.Dataset) -> str:
    rows = []
    for place in range(found.sizes["quantity"]):
        row = found.isel(quantity=place)
        interval = [float(row.lower), float(row.upper)] if row.identifiable else ["not", "identifiable"]
        rows.append([str(row.quantity.item()), float(row.estimate), *interval, str(row.meaning.item())])
    confidence = f"{100 * found.attrs['confidence']:g}%"
    return table(["quantity", "estimate", f"{confidence} from", "to", "meaning"], rows) if rows else ""
