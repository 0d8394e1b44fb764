"""What is studied: parameters, validation and pointwise facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdynamics._lazy import lazy

if TYPE_CHECKING:
    from sgdynamics.models import (
        break_even,
        deep_linear,
        edge_of_stability,
        patterns,
        quadratic,
        schedules,
        spectra,
        uv,
    )

__all__ = ["break_even", "deep_linear", "edge_of_stability", "patterns", "quadratic", "schedules", "spectra", "uv"]

if not TYPE_CHECKING:  # a name that is not there is found by checkers
    __getattr__, __dir__ = lazy(__name__, {name: name for name in __all__})
