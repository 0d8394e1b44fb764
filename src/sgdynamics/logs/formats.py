"""Files of logs as tables of cells, whatever wrote them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sgdynamics.domains import complain
from sgdynamics.logs.headings import Ambiguous, step_column

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".npz", ".nc")

# Bytes of the arrays of one log: a million steps of a dozen columns.
_LARGEST = 100_000_000

# Numbers by their signs: a comma or a point is that of decimals, or stands between groups of three digits.
_GROUPS = r"[1-9]\d{{0,2}}(?:{0}\d{{3}})+"
_EXPONENT = r"(?:[eE][+-]?\d+)?"
_COMMAS_GROUP = re.compile(rf"[+-]?{_GROUPS.format(',')}")
_POINTS_GROUP = re.compile(rf"[+-]?{_GROUPS.format('[.]')}")
_DECIMAL_COMMA = re.compile(rf"[+-]?(?:\d*|{_GROUPS.format('[.]')}),\d+{_EXPONENT}")
_DECIMAL_POINT = re.compile(rf"[+-]?(?:\d*|{_GROUPS.format(',')})[.]\d*{_EXPONENT}")
_QUOTED = re.compile(r'"[^"]*"')
_BY_COMMAS = (_COMMAS_GROUP, _DECIMAL_POINT)
# How text says that there is nothing, apart from a blank.
_NOTHING = frozenset({"", "-", "--", "none", "null", "na", "n/a", "<na>"})
# How files begin that are no text.
_OTHER_FILES = {
    b"\x1f\x8b": "a gzip archive, to be unpacked first",
    b"PK": "a zip archive (an .npz needs that ending)",
    b"\x89HDF": "an HDF5 or NetCDF file (which needs the ending .nc)",
    b"CDF": "a NetCDF file (which needs the ending .nc)",
    b"PAR1": "a Parquet file",
    b"SQLite": "a database of SQLite",
}


class Unreadable(ValueError):
    """What a file should hold instead of what it does, and the row where that is known."""

    def complaint(self, owner: str, parameter: str, kind: str, path: Path) -> Exception:
        """The same, of a parameter of a function."""
        text, value, *row = self.args
        place = f" in row {row[0]}" if row else ""
        return complain(owner, parameter, f"{kind} that holds {text}{place}: {path.name}", value)


@dataclass(frozen=True)
class Table:
    """Columns of cells (numbers, texts, None where there is nothing), what wrote them, and what was guessed."""

    columns: dict[str, list[Any]]
    format: str
    notes: tuple[str, ...] = ()

    def numbers(
        self, heading: str
    ) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
        """A column as numbers, NaN where it holds none; and where there is nothing."""
        cells = self.columns[heading]
        nothing = np.array([cell is None for cell in cells], dtype=bool)
        values = np.full(len(cells), np.nan)
        for place, cell in enumerate(cells):
            if cell is not None:
                try:
                    values[place] = float(cell)
                except (TypeError, ValueError, OverflowError):
                    raise Unreadable(f"numbers in the column {heading!r}", cell, place + 1) from None
        return values, nothing


def table_of(path: Path, *, alone: str = "loss") -> Table:
    """Whatever is in a file; ``alone`` names the one column of a text that has no heading."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _of_arrays(open_arrays(path), "named arrays")
    if suffix == ".nc":
        return _of_netcdf(path)
    text = _text_of(path)
    start = text.lstrip()[:1]
    if start in ("[", "{"):
        return _of_json(text)
    return _of_text(text, alone)


def open_arrays(path: Path) -> dict[str, Any]:
    """The named arrays of a file, after a look at how large they say that they are: few bytes may hold many zeros."""
    with open(path, "rb") as content:
        with zipfile.ZipFile(content) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > _LARGEST:
                raise Unreadable(f"arrays of at most {_LARGEST // 10**6} MB in all", f"{size / 1e6:.0f} MB")
            for member in archive.infolist():
                _check_array(archive, member)
        content.seek(0)
        with np.load(content, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Whether an array has as many numbers as it says: room is made for them before they are read."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        of = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = of(stream)
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell() and not dtype.hasobject:
            raise Unreadable("arrays of the size that they say", f"{dtype} of shape {shape} in {member.filename!r}")


def open_netcdf(path: Path) -> Any:
    """A NetCDF file of either kind, in memory."""
    import xarray as xr

    with open(path, "rb") as file:
        classic = file.read(3) == b"CDF"
    with xr.open_dataset(path, engine="scipy" if classic else "h5netcdf") as data:
        return data.load()


def _of_netcdf(path: Path) -> Table:
    data = open_netcdf(path)
    return _of_arrays({str(name): variable.values for name, variable in data.variables.items()}, "NetCDF")


def _of_arrays(arrays: Mapping[str, Any], said: str) -> Table:
    flat = {name: value for name, value in arrays.items() if np.ndim(value) == 1 and value.dtype.kind in "iufU"}
    lengths = {value.size for value in flat.values()}
    if len(lengths) > 1:
        raise Unreadable("arrays of one length", {name: value.size for name, value in flat.items()})
    return Table({name: value.tolist() for name, value in flat.items()}, said)


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    for begin, what in _OTHER_FILES.items():
        if content.startswith(begin):
            raise Unreadable("text", what)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"text in UTF-8 ({error.reason})", path.name) from None


# ---------------------------------------------------------------------------------------------------------------------
# JSON


def _of_json(text: str) -> Table:
    notes: tuple[str, ...] = ()
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content, notes = _lines(text)
    if isinstance(content, Mapping) and isinstance(content.get("log_history"), list):
        return _of_rows(content["log_history"], "Hugging Face", _HUGGING_FACE)
    if isinstance(content, Mapping):
        content = [content]
    if not content or not isinstance(content, list):
        raise Unreadable("JSON with at least one record", text[:40])
    if all(isinstance(row, list) and len(row) == 3 for row in content):
        columns = zip(*content, strict=True)
        return Table(dict(zip(("Wall time", "Step", "Value"), map(list, columns), strict=True)), "TensorBoard JSON")
    return _of_rows(content, "JSON", notes)


_HUGGING_FACE = (
    "Hugging Face logs the mean loss since the record before, which lies half an interval back on average.",
)


def _lines(text: str) -> tuple[list[Any], tuple[str, ...]]:
    """One JSON object a line; of a run that is going on, or was killed, the last line may be cut off."""
    lines = [(place, line) for place, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows = []
    for place, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if rows and place == lines[-1][0] and not text.endswith("\n"):
                return rows, ("The last line is cut off: left out.",)
            said = f"JSON, or one JSON object a line ({error.msg} at character {error.colno})"
            raise Unreadable(said, line[:40], place) from None
    return rows, ()


def _of_rows(rows: list[Any], said: str, notes: tuple[str, ...] = ()) -> Table:
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise Unreadable("records by name, at least one", rows)
    names = dict.fromkeys(str(name) for row in rows for name in row)
    cells = {name: [_cell(row.get(name)) for row in rows] for name in names}
    return Table(cells, said, notes)


def _cell(value: Any) -> Any:
    """A cell of JSON: text may hold a number."""
    if isinstance(value, str) and value.strip().lower() in _NOTHING:
        return None
    return value if isinstance(value, int | float | str | None) and not isinstance(value, bool) else str(value)


# ---------------------------------------------------------------------------------------------------------------------
# Text


def _of_text(text: str, alone: str) -> Table:
    rows = [line for line in text.splitlines() if line.strip().strip(",;")]
    comments = [line for line in rows if line.lstrip().startswith("#")]
    body = [line for line in rows if not line.lstrip().startswith("#")]
    if not body:
        raise Unreadable("a table with headings and at least one row", text[:40])
    divider = _divider(body[0])
    if comments and _is_numbers(body[0], divider):  # numpy.savetxt puts the headings into a comment
        last = comments[-1].lstrip().lstrip("#").strip()
        if len(_cells([last], divider)[0]) == len(_cells(body[:1], divider)[0]):
            body = [last, *body]
    notes = [] if not comments else [f"{len(comments)} lines that begin with # are passed over."]
    cells = _cells(body, divider)
    headings, cells = cells[0], cells[1:]
    if _is_numbers(body[0], divider):
        if len(headings) > 1:
            raise Unreadable("a table with headings, which say what its columns are", body[0])
        notes.append(f"The file has no heading: its one column is taken as the {alone}.")
        headings, cells = [alone], [headings, *cells]
    repeated = [row for row in cells if row == headings]
    if repeated:
        cells = [row for row in cells if row != headings]
        notes.append(f"The headings are repeated {len(repeated)} times, as after a resume.")
    if not cells:
        raise Unreadable("a table with headings and at least one row", body[0])
    if len(set(headings)) < len(headings):
        raise Unreadable("a table whose headings differ", headings)
    cells, said = _with_decimal_points(headings, cells)
    notes += said
    columns = {
        name: [None if cell.strip().lower() in _NOTHING else cell.strip() for cell in column]
        for name, column in zip(headings, zip(*cells, strict=True), strict=True)
        if name or any(map(str.strip, column))
    }
    return Table(columns, _writer(headings, divider), tuple(notes))


def _divider(line: str) -> str:
    """What stands between the cells of a line."""
    bare = _QUOTED.sub("", line)
    return next((sign for sign in (";", "\t", ",") if sign in bare), " ")


def _is_numbers(line: str, divider: str) -> bool:
    return all(
        _is_number(cell.strip().strip('"').replace(",", "."))
        for cell in line.split(divider if divider != " " else None)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cells(lines: list[str], divider: str) -> list[list[str]]:
    """Cells by row; a row that was cut off is filled with blanks."""
    blanks = divider == " "
    try:
        frame = pd.read_csv(
            io.StringIO("\n".join(line.strip() if blanks else line for line in lines)),
            sep=r"\s+" if blanks else divider,
            header=None,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            quoting=csv.QUOTE_MINIMAL,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise Unreadable(f"a table with one cell for every heading in every row ({error})", lines[0]) from None
    frame = frame.fillna("")
    return [[str(cell).strip() for cell in row] for row in frame.to_numpy(dtype=object).tolist()]


def _with_decimal_points(headings: list[str], cells: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """Numbers in one spelling, and what commas and points were taken for.

    ``1,000`` is a thousand beside ``2.5``, and one beside ``0,25`` or ``2,5``. Where no other cell tells, it is one, as
    losses have decimals; but a count of steps has none, and is not guessed.
    """
    with_commas = [cell for row in cells for cell in row if "," in cell]
    decimal = any(_DECIMAL_COMMA.fullmatch(cell) and not _COMMAS_GROUP.fullmatch(cell) for cell in with_commas)
    if not decimal and not any(kind.fullmatch(cell) for kind in _BY_COMMAS for cell in with_commas):
        return cells, []
    with_points = (cell for row in cells for cell in row if "." in cell)
    points = any(
        _DECIMAL_POINT.fullmatch(cell) and not (decimal and _POINTS_GROUP.fullmatch(cell)) for cell in with_points
    )
    if points and not decimal:
        return _without(",", _BY_COMMAS, cells), ["Commas in numbers group thousands."]
    notes = ["Commas in numbers are decimal commas."]
    if points or not decimal:
        _refuse_grouped_steps(headings, cells)
    elif any(_POINTS_GROUP.fullmatch(cell) for row in cells for cell in row):
        cells = _without(".", (_POINTS_GROUP,), cells)
        notes.append("Points in numbers group thousands.")
    return [
        [cell.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in row]
        for row in cells
    ], notes


def _without(sign: str, kinds: tuple[re.Pattern[str], ...], cells: list[list[str]]) -> list[list[str]]:
    return [
        [cell.replace(sign, "") if any(kind.fullmatch(cell) for kind in kinds) else cell for cell in row]
        for row in cells
    ]


def _refuse_grouped_steps(headings: list[str], cells: list[list[str]]) -> None:
    try:
        step = step_column(headings)
    except Ambiguous:
        return
    if step is None:
        return
    for place, row in enumerate(cells, 1):
        if _COMMAS_GROUP.fullmatch(row[headings.index(step)]):
            text = f"numbers whose commas can be told, of decimals or of thousands, in the column {step!r}"
            raise Unreadable(text, row[headings.index(step)], place)


def _writer(headings: list[str], divider: str) -> str:
    if headings == ["Wall time", "Step", "Value"]:
        return "TensorBoard CSV"
    if any(" - " in heading for heading in headings):
        return "Weights & Biases"
    names = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks"}
    return f"table divided by {names[divider]}"
