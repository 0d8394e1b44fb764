"""What a sweep over networks accepts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import Domain, Interval, complain, count
from sgdynamics.simulate.trainer import arguments

__all__ = ["depths", "existing_directory", "learning_rates", "widths"]

depths: Interval = Interval("a whole number >= 2", low=2, low_open=False, integer=True)
widths: Interval = count


@dataclass(frozen=True)
class _LearningRates:
    text: str = "an increasing 1-D array of finite numbers > 0"

    def check(self, owner: str, name: str, value: Any) -> NDArray[np.float64]:
        try:
            array = arguments.vector.check(owner, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace(arguments.vector.text, self.text, 1)) from None
        if array[0] <= 0 or (np.diff(array) <= 0).any():
            raise complain(owner, name, self.text, value)
        return array  # type: ignore[no-any-return]


learning_rates: Domain = _LearningRates()


@dataclass(frozen=True)
class _Directory:
    text: str = "the path of a directory that exists"

    def check(self, owner: str, name: str, value: Any) -> str:
        if not isinstance(value, str | os.PathLike):
            raise complain(owner, name, self.text, value, TypeError)
        if not os.path.isdir(value):
            raise complain(owner, name, self.text, value)
        return os.path.abspath(value)


existing_directory: Domain = _Directory()
