"""Arguments that the public functions and formulas take, one module per stem.

A module may define

``SOUND``
    By name (floor, stem, function): arguments that work. Every public function that is not a formula needs an entry.
``INSTANCES``
    By class: what its methods are called on.
``ALSO_SOUND``
    What of the garbage that every parameter is given is sound: (parameter, garbage) in all functions of the stem,
    (name, parameter, garbage) in one.
``NOT_SOUND``
    Exceptions to that, (name, parameter, garbage).
``WRONG_LENGTH``
    By name: a parameter and a value of a length that does not fit the others.
``possible``
    Takes the arguments of a formula and says whether they can occur together; what cannot may be refused or not.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

STEMS: dict[str, ModuleType] = {
    info.name: importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)
}


def merged(table: str) -> dict[str, Any]:
    """One table of all stems."""
    return {key: value for cases in STEMS.values() for key, value in getattr(cases, table, {}).items()}


def also_sound(name: str, parameter: str, garbage: str) -> bool:
    """Whether a function takes this garbage."""
    cases = STEMS[name.split(".")[1]]
    allowed = getattr(cases, "ALSO_SOUND", set())
    if (name, parameter, garbage) in getattr(cases, "NOT_SOUND", set()):
        return False
    return (parameter, garbage) in allowed or (name, parameter, garbage) in allowed
