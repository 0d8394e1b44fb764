"""Tables for people, JSON for programs, files whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

# Rows of a long table that are shown.
ROWS = 12


def contents(result: xr.Dataset) -> dict[str, Any]:
    """Variables and attributes by name; attributes of several sentences are lists."""
    texts = {
        str(name): value.splitlines() if name in ("warnings", "missing", "notes") else value
        for name, value in result.attrs.items()
    }
    return {str(name): variable.values.tolist() for name, variable in result.variables.items()} | texts


def as_json(result: Mapping[str, Any]) -> str:
    """One JSON object; what JSON has no number for is written as text."""
    return json.dumps(_finite(result), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns, words aligned at the left and numbers at the right; of many rows the middle is left out."""
    shown = list(rows)
    words = [all(isinstance(value, str) for value in column) for column in zip(*shown, strict=True)]
    if len(shown) > ROWS:
        shown = [*shown[: ROWS // 2], ["..."] * len(header), *shown[-ROWS // 2 :]]
    cells = [list(header), *([_cell(value) for value in row] for row in shown)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, words, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def paragraphs(*texts: str) -> str:
    """What there is to say, an empty line between."""
    return "\n\n".join(text for text in texts if text)


def bullets(prefix: str, sentences: Iterable[str]) -> str:
    """One line each."""
    return "\n".join(f"{prefix}: {sentence}" for sentence in sentences)


def check_output(option: str, path: str | None, *read: str | None) -> None:
    """Refuse to write over what is read."""
    if path is None or not Path(path).is_file():
        return
    for other in read:
        if other is not None and Path(other).exists() and Path(path).samefile(other):
            raise ValueError(f"{option} must be none of the files that are read, got {path}")


def write_text(path: str, text: str) -> None:
    """Write a file, whole or not at all."""
    from sgdynamics._files import appearing_file

    try:
        with appearing_file(Path(path)) as file:
            file.write(text.encode())
    except OSError as error:
        raise ValueError(f"--output cannot be written ({error.strerror}): {path}") from None
