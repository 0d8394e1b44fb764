"""A log in, its loss by step out, with all that was guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import checked, complain, integer, optional
from sgdynamics.logs import headings
from sgdynamics.logs.axis import in_order
from sgdynamics.logs.formats import SUFFIXES, Table, Unreadable, open_arrays, open_netcdf, table_of

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

OWNER = "read"
# Below it every whole number is a float of its own.
_COUNTABLE = 2.0**53
# What else is read along the steps, under its own name: slopes of fresh batch losses along every step.
_BESIDE = ("slope_before", "slope_after")
_TEXTS = {"loss": "loss", "learning_rate": "learning rate", "slope_before": "slope at the start of the step",
          "slope_after": "slope at its end"}  # fmt: skip


class LogFile:
    """The domain of logs."""

    text: str = f"the path of a log that ends in {', '.join(SUFFIXES)}"

    def check(self, owner: str, name: str, value: Any) -> Path:
        """A path of a known kind."""
        if not isinstance(value, str | os.PathLike) or isinstance(value, bytes):
            raise complain(owner, name, self.text, value, TypeError)
        if Path(value).suffix.lower() not in SUFFIXES:
            raise complain(owner, name, self.text, str(value))
        return Path(value)


class _Heading:
    text = "the heading of a column"

    def check(self, owner: str, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise complain(owner, name, self.text, value, TypeError)
        return value


_heading = optional(_Heading())


@checked(path=LogFile(), column=_heading, step_column=_heading, rate_column=_heading, from_step=optional(integer(0)))
def read(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    step_column: str | None = None,
    rate_column: str | None = None,
    from_step: int | None = None,
) -> xr.Dataset:
    r"""The loss of a run by step, and its learning rate where it was logged, from a file of any usual format.

    Columns are found by the usual spellings of their headings; where several fit, one has to be named. Blank cells are
    skipped and counted. NaN to the end of the log, and infinity, are a run that diverged: its loss is +inf there. Steps
    are put in order by :func:`in_order`. A rate that was logged at other steps than the loss is interpolated between.

    Status: a guess at what the columns are, all of it among the notes.

    Parameters
    ----------
    path : path
        A file of one of the formats above; what it holds decides, not its name.
    column : str, optional
        Heading of the loss, or the run or the metric that only one heading has; in a table with one row for every run
        and step, the run.
    step_column, rate_column : str, optional
        Headings of the step and of the learning rate.
    from_step : int, optional
        Leave out what was logged before it.

    Returns
    -------
    xarray.Dataset
        ``loss``, and ``learning_rate``, ``slope_before``, ``slope_after`` where they are there, along ``step``, the
        number of updates made. Attributes ``notes`` (sentences, one a line: what was guessed, skipped and put in
        order), ``format``, and ``loss_column``, ``step_column``, ``rate_column``, empty where there is none.

    Raises
    ------
    ValueError, TypeError
        If the file cannot be read, holds no loss, or holds several; the columns that are there are listed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "export.csv"
    >>> _ = log.write_text('"Step","calm-sea-1 - train/loss"\n"10","2.5"\n"20",""\n"30","2.25"\n')
    >>> run = read(log)
    >>> run.step.values, run.loss.values
    (array([10, 30]), array([2.5 , 2.25]))
    >>> print(run.notes)
    The loss is the column 'calm-sea-1 - train/loss', the step 'Step'.
    1 record has no loss: skipped.
    """
    table = _opened(table_of, Path(path))
    notes = list(table.notes)
    table, column = _one_run(table, column, notes)
    names = list(table.columns)
    try:
        step_name = _chosen("step_column", names, step_column, headings.step_column)
        loss_name = _chosen("column", [n for n in names if n != step_name], column, headings.loss_column)
        names = headings.of_run(names, headings.run_of(loss_name or ""))  # not the rate of one run with another's loss
        if step_name not in names:
            step_name = _chosen("step_column", names, step_column, headings.step_column)
        rate_name = _rate(names, rate_column, notes)
        records, missing = _numbers(table, names, loss_name, rate_name)
        steps, unknown = (None, None) if step_name is None else table.numbers(step_name)
    except Unreadable as error:
        raise error.complaint(OWNER, "path", "a log", Path(path)) from None
    if not records:
        raise complain(OWNER, "column", f"given where no column is a loss; there are {names}", column)
    notes.insert(len(table.notes), _what(loss_name, step_name, rate_name))
    return _along_steps(
        records, missing, steps, unknown, notes, from_step,
        {"format": table.format, "loss_column": loss_name or "", "step_column": step_name or "",
         "rate_column": rate_name or "", "source": str(path)},
    )  # fmt: skip


def arrays_of(path: Path) -> Any:
    """The Dataset of a NetCDF file, or the arrays of an ``.npz`` by name."""
    return _opened(open_netcdf if path.suffix.lower() == ".nc" else open_arrays, path)


def _opened(reader: Callable[[Path], Any], path: Path) -> Any:
    with open(path, "rb"):  # a file that is missing, or not to be read, is told in the words of the system
        pass
    try:
        return reader(path)
    except Unreadable as error:
        raise error.complaint(OWNER, "path", "a log", Path(path)) from None
    except Exception as error:  # of whatever library reads it
        raise complain(OWNER, "path", f"a file that can be read as {path.suffix} ({error})", str(path)) from None


# ---------------------------------------------------------------------------------------------------------------------
# Columns


def _one_run(table: Table, column: str | None, notes: list[str]) -> tuple[Table, str | None]:
    """Of a table with one row for every run and step, the rows of one run; of one with columns for every run, these."""
    of_runs = [name for name in headings.measured(table.columns) if headings.run_of(name) is not None]
    if column is not None and sum(headings.run_of(name) == column for name in of_runs) > 1:
        cells = {name: table.columns[name] for name in headings.of_run(table.columns, column)}
        notes.append(f"Of the runs in the headings, {column!r} is read.")
        return Table(cells, table.format, ()), None
    try:
        divider = headings.run_column(table.columns)
    except headings.Ambiguous:
        return table, column
    if divider is None:
        return table, column
    runs = list(dict.fromkeys(cell for cell in table.columns[divider] if cell is not None))
    if len(runs) < 2:
        return table, column
    if column not in [str(run) for run in runs]:
        raise complain(OWNER, "column", f"one of the runs {runs} of the column {divider!r}", column)
    rows = [place for place, cell in enumerate(table.columns[divider]) if cell is not None and str(cell) == column]
    cells = {name: [values[place] for place in rows] for name, values in table.columns.items()}
    notes.append(f"Of {len(runs)} runs in the column {divider!r}, {column!r} is read.")
    return Table(cells, table.format, ()), None


def _chosen(parameter: str, names: list[str], wanted: str | None, guess: Any) -> str | None:
    try:
        found: str | None = guess(names) if wanted is None else headings.named(names, wanted)
    except headings.Ambiguous as error:
        raise complain(OWNER, parameter, f"given, as one of {error.columns}: they all fit", wanted) from None
    if wanted is not None and found is None:
        raise complain(OWNER, parameter, f"one of the columns {names}", wanted)
    if wanted is None and found is not None and parameter != "column" and headings.factor(found):
        raise complain(OWNER, parameter, f"given where the unit of the heading is a factor, as in {found!r}", wanted)
    return found


def _rate(names: list[str], wanted: str | None, notes: list[str]) -> str | None:
    if wanted is not None:
        return _chosen("rate_column", names, wanted, None)
    try:
        headings.rate_column(names)
    except headings.Ambiguous as error:
        notes.append(f"Several columns may be the learning rate, none is taken: {', '.join(error.columns)}.")
        return None
    return _chosen("rate_column", names, None, headings.rate_column)


def _numbers(
    table: Table, names: list[str], loss: str | None, rate: str | None
) -> tuple[dict[str, Array], dict[str, Mask]]:
    wanted = {"loss": loss, "learning_rate": rate} | {name: name for name in _BESIDE if name in names}
    columns = {name: table.numbers(heading) for name, heading in wanted.items() if heading is not None}
    if not set(columns) - {"learning_rate"}:
        return {}, {}
    return {name: pair[0] for name, pair in columns.items()}, {name: pair[1] for name, pair in columns.items()}


def _what(loss: str | None, step: str | None, rate: str | None) -> str:
    found = {"loss": loss, "step": step, "learning rate": rate}
    said = [f"the {name} {heading!r}" for name, heading in found.items() if heading is not None]
    if not said:
        return "No column is a loss or a step."
    first = said[0].replace(" '", " is the column '", 1)
    return ", ".join([first[0].upper() + first[1:], *said[1:]]) + "."


# ---------------------------------------------------------------------------------------------------------------------
# Records


def _along_steps(
    records: dict[str, Array],
    missing: dict[str, Mask],
    steps: Array | None,
    unknown: Mask | None,
    notes: list[str],
    from_step: int | None,
    attributes: dict[str, Any],
) -> xr.Dataset:
    main = "loss" if "loss" in records else next(iter(set(records) - {"learning_rate"}))
    size = records[main].size
    if steps is None or unknown is None:
        steps, unknown = np.arange(float(size)), np.zeros(size, dtype=bool)
        notes.append("There is no column of steps: records are taken as one update apart, the first at step 0.")
    if unknown.any():
        notes.append(f"{_records(unknown)} no step: skipped.")
    _refuse_fractions(steps[~unknown], attributes["step_column"])
    if main == "loss":
        records["loss"] = with_divergence(records["loss"], missing["loss"], notes)
    there = ~unknown & ~np.isnan(records[main])
    blank = ~unknown & ~there
    if blank.any():
        notes.append(f"{_records(blank)} no {main.replace('_', ' ')}: skipped.")
    if not there.any():
        raise complain(OWNER, "column", "a column with at least one number", attributes["loss_column"])
    ordered = in_order(steps[there], loss=records[main][there])
    notes += ordered.notes
    columns = {name: values[there][ordered.record] for name, values in records.items()}
    if "learning_rate" in records:
        columns["learning_rate"] = _rate_at(steps, unknown, records["learning_rate"], there, ordered, notes)
    kept = np.ones(ordered.step.size, dtype=bool) if from_step is None else ordered.step >= from_step
    if not kept.any():
        raise complain(OWNER, "from_step", f"at most the last step {ordered.step[-1]:.0f}", from_step)
    if not kept.all():
        notes.append(f"{int((~kept).sum())} records before step {from_step} are left out.")
    return xr.Dataset(
        {name: ("step", values[kept], {"long_name": _TEXTS[name]}) for name, values in columns.items()},
        coords={"step": ("step", ordered.step[kept].astype(np.int64), {"long_name": "updates made"})},
        attrs=attributes | {"notes": "\n".join(notes)},
    )


def _records(where: Mask) -> str:
    count = int(where.sum())
    return f"{count} record{'s have' if count > 1 else ' has'}"


def _refuse_fractions(steps: Array, heading: str) -> None:
    bad = ~(np.isfinite(steps) & (steps == np.floor(steps)) & (np.abs(steps) < _COUNTABLE))
    if bad.any():
        place = int(np.argmax(bad))
        raise complain(
            OWNER, "step_column", f"a column of whole numbers of updates, unlike {heading!r}", float(steps[place])
        )


def with_divergence(loss: Array, missing: Mask, notes: list[str]) -> Array:
    """NaN to the end is a run that diverged, if there is no stretch of NaN as long before; other NaN are gaps."""
    written = loss[~missing]
    gaps = np.flatnonzero(np.isnan(written))
    values = written.copy()
    if gaps.size and gaps[-1] == written.size - 1:
        stretches = np.split(gaps, np.flatnonzero(np.diff(gaps) > 1) + 1)
        if all(stretch.size < stretches[-1].size for stretch in stretches[:-1]):
            values[stretches[-1]] = np.inf
            notes.append(f"The loss is not a number in the last {stretches[-1].size} records: the run has diverged.")
    found = loss.copy()
    found[~missing] = np.where(np.isneginf(values), np.inf, values)
    return found


def _rate_at(steps: Array, unknown: Mask, rate: Array, there: Mask, ordered: Any, notes: list[str]) -> Array:
    """The learning rate where the loss was logged, interpolated where it was logged elsewhere."""
    found: Array = rate[there][ordered.record]
    gaps = np.isnan(found)
    if not gaps.any():
        return found
    logged = ~unknown & ~np.isnan(rate)
    if not logged.any():
        notes.append("The learning rate has no numbers.")
        return found
    known = in_order(steps[logged]) if np.ptp(steps[logged]) > 0 else None
    if known is None:
        found[gaps] = rate[logged][0]
    else:
        found[gaps] = np.interp(ordered.step[gaps], known.step, rate[logged][known.record])
    notes.append(
        f"The learning rate was not logged with {int(gaps.sum())} of the losses: interpolated between the steps where "
        "it was."
    )
    return found
