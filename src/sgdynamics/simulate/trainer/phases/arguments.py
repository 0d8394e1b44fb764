"""What a sweep over networks accepts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sgdynamics.domains import ArrayOf, Domain, Interval, complain, count, positive

__all__ = ["depths", "existing_directory", "learning_rates", "widths"]

depths: Interval = Interval("a whole number >= 2", low=2, low_open=False, integer=True)
widths: Interval = count


learning_rates: Domain = ArrayOf((1,), "an increasing 1-D array of finite numbers > 0", positive, increasing=True)


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
