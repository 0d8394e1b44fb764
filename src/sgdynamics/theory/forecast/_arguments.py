"""Ranges of the arguments of a forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import complain, without_mask
from sgdynamics.models.schedules import schedule_of_rates

Array = NDArray[np.float64]

# A run of fewer losses says less than there are numbers in the law.
FEWEST = 12


@dataclass(frozen=True)
class _Runs:
    text: str = f"a sequence of (schedule, step, loss), at least {FEWEST} losses a run"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if isinstance(value, str | bytes | int | float) or value is None or isinstance(value, xr.DataArray):
            raise complain(owner, name, self.text, value, TypeError)
        try:
            runs = without_mask(owner, name, self.text, list(value))
        except TypeError:  # no sequence
            raise complain(owner, name, self.text, value, TypeError) from None
        if not runs:
            raise complain(owner, name, self.text, value)
        return [self._run(owner, f"{name}[{place}]", run) for place, run in enumerate(runs)]

    def _run(self, owner: str, name: str, run: Any) -> tuple[Array, NDArray[np.intp], Array]:
        try:
            schedule, step, loss = run
        except (TypeError, ValueError):
            raise complain(owner, name, "(schedule, step, loss)", run) from None
        rates = np.asarray(schedule_of_rates.check(owner, f"{name} schedule", schedule), dtype=float)
        steps, losses = (_numbers(owner, f"{name} {what}", part) for what, part in (("step", step), ("loss", loss)))
        if rates.ndim != 1 or rates.max(initial=0.0) <= 0:
            raise complain(owner, f"{name} schedule", "one learning rate per step, not all 0", rates)
        if steps.shape != losses.shape:
            raise complain(owner, f"{name} loss", f"one for each of {steps.size} steps", f"{losses.size} numbers")
        if steps.size < FEWEST:
            raise complain(owner, f"{name} loss", f"at least {FEWEST} numbers", f"{losses.size} of them")
        whole = (steps == np.floor(steps)).all() and (np.diff(steps) > 0).all()
        if not whole or steps[0] < 0 or steps[-1] > rates.size:
            text = f"increasing whole numbers in 0..{rates.size}, the steps of the schedule"
            raise complain(owner, f"{name} step", text, steps)
        if losses.min() <= 0:
            raise complain(owner, f"{name} loss", "> 0", float(losses.min()))
        return rates, steps.astype(np.intp), losses


def _numbers(owner: str, name: str, value: Any) -> Array:
    text = "a 1-D array of finite numbers"
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        raise complain(owner, name, text, value) from None
    if array.dtype.kind not in "iuf":
        raise complain(owner, name, text, value, TypeError)
    array = array.astype(float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise complain(owner, name, text, value)
    return array


@dataclass(frozen=True)
class _Fitted:
    text: str = "what theory.forecast.fit returned"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if not isinstance(value, xr.Dataset):
            raise complain(owner, name, self.text, value, TypeError)
        if not {"place", "amplitude", "covariance"} <= set(value.variables):
            raise complain(owner, name, self.text, f"a Dataset of {sorted(map(str, value.variables))}")
        return value


@dataclass(frozen=True)
class _OneSchedule:
    text: str = "a 1-D schedule: finite learning rates >= 0, one per step"

    def check(self, owner: str, name: str, value: Any) -> Any:
        rates = np.asarray(schedule_of_rates.check(owner, name, value), dtype=float)
        if rates.ndim != 1:
            raise complain(owner, name, self.text, f"shape {rates.shape}")
        return rates


@dataclass(frozen=True)
class _NamedSchedules:
    text: str = f"schedules of at least {FEWEST} steps by name, in a mapping"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise complain(owner, name, self.text, value, TypeError)
        if not value:
            raise complain(owner, name, self.text, value)
        found = {str(key): one_schedule.check(owner, f"{name}[{key!r}]", one) for key, one in value.items()}
        for key, rates in found.items():
            if rates.size < FEWEST:
                raise complain(owner, f"{name}[{key!r}]", f"of at least {FEWEST} steps", f"{rates.size} of them")
        return found


logged_runs = _Runs()
fitted_law = _Fitted()
one_schedule = _OneSchedule()
named_schedules = _NamedSchedules()
