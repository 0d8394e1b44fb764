"""What a learning rate does: closed forms, exact simulations and a reference trainer, under the same names."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "citation", "formulas", "models", "simulate", "theory"]

_HOMES = {"citation": "sgdynamics.registry", "formulas": "sgdynamics.registry"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("models", "theory", "simulate"):
        return importlib.import_module(f"sgdynamics.{name}")
    raise AttributeError(f"module 'sgdynamics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
