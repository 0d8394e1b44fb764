"""What was recorded of a run, from a file or from arrays, in the order of its steps and without gaps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics import logs
from sgdynamics.domains import complain
from sgdynamics.logs.axis import StepAxis
from sgdynamics.logs.reading import arrays_of, with_divergence

# What may be recorded, by name, with its dims.
RECORDS: dict[str, tuple[str, ...]] = {
    "loss": ("step",),
    "trial_loss": ("step", "trial"),
    "slope_before": ("step",),
    "slope_after": ("step",),
    "gradient": ("step", "parameter"),
    "independent_gradient": ("step", "parameter"),
    "weights": ("step", "parameter"),
}
NO_STEPS = "There are no steps: records are taken as one update apart, the first at step 0."


class Run:
    """The domain of recorded runs; a checked one is a Dataset with the coordinate ``step`` and the attribute ``notes``.

    A loss is NaN where there is none, and +inf where the run had diverged.
    """

    takes_masked = True  # what is masked is missing
    text: str = "a Dataset, a mapping of arrays, or the path of a log, with some of " + ", ".join(RECORDS)

    def check(self, owner: str, name: str, value: Any) -> xr.Dataset:
        """The records that there are."""
        if isinstance(value, str | os.PathLike) and not isinstance(value, bytes):
            value = self._read(owner, name, Path(value))
        masked = None
        if isinstance(value, Mapping) and not isinstance(value, xr.Dataset):
            masked = np.ma.getmaskarray(value["loss"]) if np.ma.is_masked(value.get("loss")) else None
            value = self._labelled(owner, name, value)
        if not isinstance(value, xr.Dataset):
            raise complain(owner, name, self.text, value, TypeError)
        known = [record for record in RECORDS if record in value]
        if not known:
            raise complain(owner, name, self.text, sorted(map(str, value)))
        for record in known:
            if value[record].dims != RECORDS[record]:
                text = f"a run whose {record!r} has the dims {RECORDS[record]}"
                raise complain(owner, name, text, value[record].dims)
            if value[record].dtype.kind not in "iuf":
                raise complain(
                    owner, name, f"a run whose {record!r} is made of numbers", value[record].dtype, TypeError
                )
        return self._along_steps(owner, name, value, known, masked)

    def _read(self, owner: str, name: str, path: Path) -> Any:
        try:
            if path.suffix.lower() in (".nc", ".npz"):
                arrays = arrays_of(path)
                if set(RECORDS) & set(arrays):
                    return arrays
            return logs.read(path)
        except (ValueError, TypeError) as error:
            raise type(error)(str(error).replace("read: path must", f"{owner}: {name} must", 1)) from None

    def _labelled(self, owner: str, name: str, value: Mapping[str, Any]) -> xr.Dataset:
        known = {record: dims for record, dims in RECORDS.items() if record in value}
        for record, dims in known.items():
            if np.ndim(value[record]) != len(dims):
                raise complain(owner, name, f"a run whose {record!r} has {len(dims)} axes", np.shape(value[record]))
            if len(dims) > 1 and np.ma.is_masked(value[record]):
                raise complain(owner, name, f"a run whose {record!r} has no masked entries", value[record])
        if np.ma.is_masked(value.get("trial")):
            raise complain(owner, name, "a run whose 'trial' has no masked entries", value["trial"])
        try:
            data = xr.Dataset({record: (dims, _blanked(value[record])) for record, dims in known.items()})
            axes = {dim: value[dim] for dim in ("step", "trial") if dim in value and dim in data.dims}
            if "step" in axes:
                axes["step"] = StepAxis().check(owner, "step", axes["step"])
            return data.assign_coords({dim: np.asarray(axis) for dim, axis in axes.items()})
        except ValueError as error:
            if str(error).startswith(owner):
                raise
            raise complain(owner, name, f"a run of records of one length ({error})", sorted(known)) from None

    def _along_steps(
        self, owner: str, name: str, run: xr.Dataset, known: list[str], masked: NDArray[np.bool_] | None
    ) -> xr.Dataset:
        notes = [line for line in str(run.attrs.get("notes", "")).splitlines() if line]
        if "loss" in known:
            loss = run.loss.values.astype(float)
            loss = with_divergence(loss, np.zeros(loss.size, dtype=bool) if masked is None else masked, notes)
            gaps = int(np.isnan(loss).sum())
            if gaps:
                notes.append(f"{gaps} record{'s have' if gaps > 1 else ' has'} no loss: skipped.")
            run = run.assign(loss=("step", loss))
        if "step" in run.coords:
            step = StepAxis().check(owner, "step", run.step.values)
            ordered = logs.in_order(step, loss=run.loss.values if "loss" in known else None)
            notes += ordered.notes
            run = run.isel(step=ordered.record).assign_coords(step=ordered.step)
        elif "step" in run.dims:
            notes.append(NO_STEPS)
            run = run.assign_coords(step=np.arange(float(run.sizes["step"])))
        for record in known:
            self._refuse_gaps(owner, name, run, record)
        return run.assign_attrs(notes="\n".join(notes))

    def _refuse_gaps(self, owner: str, name: str, run: xr.Dataset, record: str) -> None:
        """A gap in a series is left out; in rows, only an end that is all NaN can be told, as divergence."""
        if len(RECORDS[record]) == 1:
            return
        gaps = np.isnan(run[record].values).any(axis=1)
        if gaps.any() and not gaps[int(np.argmax(gaps)) :].all():
            raise complain(owner, name, f"a run whose {record!r} has no gaps", np.nan)


def _blanked(series: Any) -> Any:
    """NaN where it was masked."""
    return np.ma.filled(np.ma.asarray(series, dtype=float), np.nan) if np.ma.is_masked(series) else np.asarray(series)


def diverged(run: xr.Dataset) -> bool:
    """Whether a checked run grew without bound."""
    if "divergence_step" in run and int(run.divergence_step.max()) >= 0:
        return True
    for record, dims in RECORDS.items():
        if record in run and (np.isinf(run[record]).any() or (len(dims) > 1 and np.isnan(run[record]).any())):
            return True
    return False
