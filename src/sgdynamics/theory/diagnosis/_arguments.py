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
        array = np.asarray(replace(real, text=self.text).check(owner, name, value))
        if array.ndim != self.dims:
            raise complain(owner, name, self.text, f"shape {array.shape}")
        return array


series = _Array("a 1-D array of finite numbers", 1)
matrix = _Array("a 2-D array of finite numbers, one row a step", 2)
