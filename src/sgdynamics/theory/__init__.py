"""What can be said about many steps without running them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdynamics._lazy import lazy

if TYPE_CHECKING:
    from sgdynamics.theory import (
        break_even,
        deep_linear,
        diagnosis,
        edge_of_stability,
        forecast,
        patterns,
        quadratic,
        regimes,
        schedules,
        sharpest_directions,
        uv,
    )

__all__ = [
    "break_even",
    "deep_linear",
    "diagnosis",
    "edge_of_stability",
    "forecast",
    "patterns",
    "quadratic",
    "regimes",
    "schedules",
    "sharpest_directions",
    "uv",
]

if not TYPE_CHECKING:  # a name that is not there is found by checkers
    __getattr__, __dir__ = lazy(__name__, {name: name for name in __all__})
