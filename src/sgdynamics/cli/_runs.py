"""Logs of runs, with the learning rates that the command needs of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgdynamics.cli._options import LONGEST, whole_from
from sgdynamics.cli._words import FORM, schedule_of

COLUMN_OPTIONS = {
    "path": "RUN",
    "column": "--column",
    "step_column": "--step-column",
    "rate_column": "--rate-column",
}

COLUMN_NAMES = ("warmup", "rates", "column", "step-column", "rate-column")

_AT_ONCE = 0.8


def add_columns(parser: argparse._ActionsContainer) -> None:
    """What a log may not say by itself."""
    parser.add_argument(
        "--warmup", type=whole_from(0), metavar="STEPS", help="linear warm-up of every schedule in words"
    )
    parser.add_argument(
        "--rates",
        metavar="WORDS",
        action="append",
        help=f"schedule of a run whose log has none, one a run: {FORM}",
    )
    parser.add_argument(
        "--column",
        action="append",
        help="heading of the loss, or its run, where a log holds several; once, or once for every RUN",
    )
    parser.add_argument("--step-column", help="heading of the step")
    parser.add_argument("--rate-column", help="heading of the learning rate")


def read_runs(paths: Sequence[str], given: argparse.Namespace) -> tuple[list[tuple[Any, Any, Any]], list[str]]:
    """The runs as (schedule, step, loss), and what was guessed of them."""
    from sgdynamics.logs import read

    words, warmup = list(given.rates or []), given.warmup or 0
    runs, notes = [], []
    if given.rate_column is not None and len(words) >= len(paths):
        raise ValueError("--rate-column does nothing where --rates says the schedule of every run")
    columns = given.column or [None]
    if len(columns) == 1:
        columns = columns * len(paths)
    if len(columns) != len(paths):
        raise ValueError(f"--column must be given once, or once a run, got {len(columns)} for {len(paths)} runs")
    for path, column in zip(paths, columns, strict=True):
        try:
            log = read(path, column=column, step_column=given.step_column, rate_column=given.rate_column)
        except (ValueError, TypeError) as error:  # of which of them
            named = Path(path).name in str(error)
            raise error if named else type(error)(f"{error}, in {Path(path).name}") from None
        step, loss = log.step.values, log.loss.values
        _check(Path(path).name, step, loss)
        if words:
            schedule = schedule_of(words.pop(0), warmup, option="--rates")
        elif "learning_rate" in log:
            schedule = _between(step, log.learning_rate.values, warmup)
        else:
            raise ValueError(
                f"--rates or --rate-column must be given for a log without learning rates, got {Path(path).name}: its "
                f"schedule as {FORM}, or the heading of its column"
            )
        runs.append((schedule, step, loss))
        notes += [f"{Path(path).name}: {note}" for note in log.notes.splitlines()]
    if words:
        raise ValueError(f"--rates must be given once a run at most, got {len(given.rates)} for {len(paths)} runs")
    return runs, notes


def fit_runs(runs: Sequence[tuple[Any, Any, Any]], paths: Sequence[str], **options: Any) -> Any:
    """The law of the runs; what is wrong with one of them is said of its file."""
    from sgdynamics.theory.forecast import fit

    try:
        return fit(runs, **options)
    except ValueError as error:
        said = re.sub(r"^fit: runs\[(\d+)\]", lambda found: f"fit: {Path(paths[int(found[1])]).name}:", str(error))
        raise ValueError(said) from None


def _check(name: str, step: Any, loss: Any) -> None:
    import numpy as np

    if step[-1] > LONGEST:
        raise ValueError(f"fit: {name}: its steps must be updates, at most {LONGEST} of them, got {step[-1]}")
    gone = np.flatnonzero(~np.isfinite(loss))
    if gone.size:
        raise ValueError(
            f"fit: {name}: the loss must be finite, to be fitted, got {loss[gone[0]]} at step {step[gone[0]]}: a run "
            "that diverged tells nothing from there on; leave these records out"
        )


def _between(step: Any, rate: Any, warmup: int) -> Any:
    """Rates of all steps from those at the logged ones; before the first one the warm-up, if there was one.

    A rate that falls by more than a fifth from one record to the next is taken to fall there at once.
    """
    import numpy as np

    steps = np.arange(1, int(step[-1]) + 1)
    rates = np.interp(steps, step, rate)
    last = np.clip(np.searchsorted(step, steps, side="right") - 1, 0, step.size - 2)
    sudden = (rate[last + 1] < _AT_ONCE * rate[last]) & (steps < step[last + 1]) & (steps >= step[0])
    rates = np.where(sudden, rate[last], rates)
    early = steps < step[0]
    rates[early] = rates[early] * np.minimum(1.0, steps[early] / max(warmup, 1))
    return rates
