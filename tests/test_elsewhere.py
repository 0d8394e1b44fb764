"""Numbers from elsewhere: every one has an origin, and is looked at."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from figures.engine.elsewhere import elsewhere

ROOT = Path(__file__).parent.parent
TABLE = tomllib.loads((ROOT / "figures" / "engine" / "elsewhere.toml").read_text(encoding="utf-8"))
NAMES = [name for name in TABLE if name != "made_by"]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_say_what_they_are_and_where_they_come_from(name):
    numbers = elsewhere(name)
    assert len(numbers.what) > 30
    assert len(numbers.origin) > 15
    assert "apart from this package" in numbers.made_by
    assert numbers.unit
    assert len(numbers.values) == len(TABLE[name]["numbers"]), "two numbers at one place"
    assert set(numbers.errors) <= set(numbers.values)


def test_all_of_them_are_looked_at():
    sources = [path for folder in ("figures", "tests") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.name != Path(__file__).name)
    asked = set(re.findall(r'elsewhere\("(\w+)"\)', text)) | {"merge_risk", "merge_residual"}  # these two in a loop
    assert asked == set(NAMES)
    with pytest.raises(KeyError):
        elsewhere("nothing")


def test_a_part_of_them_is_found_by_how_its_keys_begin():
    edges = elsewhere("least_squares_edges")
    assert edges.under("almost sure").values == {1: 2.42, 4: 2.663, 16: 2.299}
    assert edges.under("almost sure").along(16, 1) == [2.299, 2.42]
    assert elsewhere("rank_one_edge").under(64, 10).values[1.0, 16] == 1.7308
