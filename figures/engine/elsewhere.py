"""Numbers from elsewhere, with their origin: the one table that figures and tests compare with.

None of them was made by this package, and none is used to compute anything: they are what a value is held against, as
a second opinion, to the digits that are given. The table is ``elsewhere.toml``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Numbers:
    """Numbers of one kind.

    Attributes
    ----------
    what, unit : str
        What they are, by what the keys are.
    origin, made_by : str
        Where they come from, and what made them.
    values, errors : dict
        By a number, a word, or a tuple of these; errors (standard ones, unless the origin says otherwise) where known.
    """

    what: str
    unit: str
    origin: str
    made_by: str
    values: dict[Any, float]
    errors: dict[Any, float]

    def along(self, *keys: Any) -> list[float]:
        """The values at some keys, in their order."""
        return [self.values[key] for key in keys]

    def under(self, *first: Any) -> Numbers:
        """Those whose keys begin so, by the rest of the key."""
        count = len(first)

        def rest(numbers: dict[Any, float]) -> dict[Any, float]:
            chosen = {key[count:]: value for key, value in numbers.items() if key[:count] == first}
            return {key[0] if len(key) == 1 else key: value for key, value in chosen.items()}

        return Numbers(self.what, self.unit, self.origin, self.made_by, rest(self.values), rest(self.errors))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def elsewhere(name: str) -> Numbers:
    """The numbers of a name.

    Raises
    ------
    KeyError
        If the table has none of that name.
    """
    entry = _table()[name]
    rows = [(tuple(at) if isinstance(at, list) else at, *numbers) for at, *numbers in entry["numbers"]]
    return Numbers(
        entry["what"],
        entry["unit"],
        entry["origin"],
        _table()["made_by"][entry["made_by"]],
        {at: numbers[0] for at, *numbers in rows},
        {at: numbers[1] for at, *numbers in rows if len(numbers) > 1},
    )
