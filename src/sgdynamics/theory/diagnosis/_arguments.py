"""Ranges of arguments that several diagnoses share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sgdynamics.domains import Interval, complain, real

confidence_level = Interval("a number in (0, 1)", low=0, high=1)
margin_width = Interval("a number in (0, 0.5)", low=0, high=0.5)


@dataclass(frozen=True)
class _Array:
    text: str
    dims: int

    def check(self, owner: str, name: str, value: Any) -> Any:
        if isinstance(value, int | float | str) or value is None:
            raise complain(owner, name, self.text, value, TypeError)
        if np.ma.is_masked(value):
            raise complain(owner, name, f"{self.text}, none of them masked", value)
        array = np.asarray(replace(real, text=self.text).check(owner, name, value))
        if array.ndim != self.dims:
            raise complain(owner, name, self.text, f"shape {array.shape}")
        return array


class _Gappy(_Array):
    """A series whose masked entries are missing: they come back as NaN."""

    takes_masked = True

    def check(self, owner: str, name: str, value: Any) -> Any:
        if not np.ma.is_masked(value) or np.ndim(value) != self.dims:
            return super().check(owner, name, value)
        missing = np.ma.getmaskarray(value)
        if missing.all():
            raise complain(owner, name, f"{self.text}, not all of them masked", value)
        there = super().check(owner, name, np.ma.getdata(value)[~missing])
        whole = np.full(missing.shape, np.nan)
        whole[~missing] = there
        return whole


series = _Array("a 1-D array of finite numbers", 1)
matrix = _Array("a 2-D array of finite numbers, one row a step", 2)
gappy = _Gappy("a 1-D array of finite numbers", 1)
