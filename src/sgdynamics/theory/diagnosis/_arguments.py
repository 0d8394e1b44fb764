"""Ranges of arguments that several diagnoses share."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdynamics.domains import ArrayOf, Interval, complain

confidence_level = Interval("a number in (0, 1)", low=0, high=1)
margin_width = Interval("a number in (0, 0.5)", low=0, high=0.5)


class _Gappy(ArrayOf):
    """A series whose masked entries are missing: they come back as NaN."""

    takes_masked = True

    def check(self, owner: str, name: str, value: Any) -> Any:
        if not np.ma.is_masked(value) or np.ndim(value) not in self.axes:
            return super().check(owner, name, value)
        missing = np.ma.getmaskarray(value)
        if missing.all():
            raise complain(owner, name, f"{self.text}, not all of them masked", value)
        there = super().check(owner, name, np.ma.getdata(value)[~missing])
        whole = np.full(missing.shape, np.nan)
        whole[~missing] = there
        return whole


series = ArrayOf((1,), "a 1-D array of finite numbers")
matrix = ArrayOf((2,), "a 2-D array of finite numbers, one row a step")
gappy = _Gappy((1,), "a 1-D array of finite numbers")
