"""Running the models, fast; the subpackage ``trainer`` runs real networks, and without Numba too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdynamics._lazy import lazy

if TYPE_CHECKING:
    from sgdynamics.simulate import break_even, deep_linear, edge_of_stability, patterns, quadratic, trainer, uv

__all__ = ["break_even", "deep_linear", "edge_of_stability", "patterns", "quadratic", "trainer", "uv"]

if not TYPE_CHECKING:  # a name that is not there is found by checkers
    __getattr__, __dir__ = lazy(__name__, {name: name for name in __all__})
