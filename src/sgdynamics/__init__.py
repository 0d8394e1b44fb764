"""What a learning rate does: closed forms, exact simulations and a reference trainer, under the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdynamics._lazy import lazy

if TYPE_CHECKING:
    from sgdynamics import models, plot, simulate, theory
    from sgdynamics.registry import citation, formulas

__version__ = "0.1.0"
__all__ = ["__version__", "citation", "formulas", "models", "plot", "simulate", "theory"]

if not TYPE_CHECKING:  # a name that is not there is found by checkers
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "citation": "registry",
            "formulas": "registry",
            "models": "models",
            "plot": "plot",
            "simulate": "simulate",
            "theory": "theory",
        },
    )
