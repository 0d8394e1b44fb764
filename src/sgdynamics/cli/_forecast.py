"""The loss under a schedule that was not run, from the loss curves of one or a few runs; and the best schedule.

All runs are of one model on one kind of data. Two that differ in their decays say much more than one. Where a log has
no learning rate, --rates says its schedule in words.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdynamics.cli._options import LONGEST, refuse_idle, whole_from
from sgdynamics.cli._output import as_json, bullets, check_output, contents, paragraphs, table, write_text
from sgdynamics.cli._runs import COLUMN_OPTIONS, add_columns, fit_runs, read_runs
from sgdynamics.cli._words import FORM, read_rates, schedule_of

if TYPE_CHECKING:
    import xarray as xr

HELP = "the loss under a schedule that was not run, and the best schedule"

OPTIONS = COLUMN_OPTIONS | {
    "schedule": "--predict or --schedule",
    "peak": "--peak",
    "steps": "--best",
    "batch_size": "--batch-size or --at-batch-size",
}

_LINES = 12
_PICTURES = (".png", ".pdf", ".svg")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="logs with step, loss and learning rate")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--predict", metavar="WORDS", action="append", help=f"a schedule: {FORM}; may be repeated")
    asked.add_argument("--schedule", metavar="FILE", help="its learning rates instead, one a line")
    asked.add_argument(
        "--best", metavar="STEPS", type=whole_from(1, LONGEST), help="find the best schedule of this length"
    )
    parser.add_argument("--peak", type=float, help="of the best schedule (default: the largest rate of the runs)")
    add_columns(parser)
    parser.add_argument("--batch-size", type=float, help="of the runs, for --at-batch-size")
    parser.add_argument("--at-batch-size", type=float, help="of the schedules that are foretold (default: the same)")
    parser.add_argument("--next", action="store_true", help="say instead what one more run would tell of the schedule")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the intervals (default: 0.9)")
    parser.add_argument("--output", metavar="FILE", help="write the best schedule, one rate a line")
    parser.add_argument("--plot", metavar="FILE.png", help="draw runs and forecast")


def run(given: argparse.Namespace) -> str:
    """Read, fit, foretell, and say how sure it is."""
    from sgdynamics.theory.forecast import best_schedule

    if given.at_batch_size is not None and given.batch_size is None:
        raise ValueError("--at-batch-size needs --batch-size, that of the runs, to compare with")
    if given.best is not None and (given.next or given.at_batch_size is not None):
        raise ValueError(f"{'--next' if given.next else '--at-batch-size'} does nothing with --best")
    if given.best is None:
        refuse_idle(given, ["peak", "output"], "--best")
    if given.next:
        refuse_idle(given, ["at-batch-size", "plot"], "a forecast in place of --next")
    if given.at_batch_size is None:
        refuse_idle(given, ["batch-size"], "--at-batch-size")
    for option in ("output", "plot"):
        check_output(f"--{option}", getattr(given, option), given.schedule, *given.runs)
    if given.plot is not None and Path(given.plot).suffix.lower() not in _PICTURES:
        raise ValueError(f"--plot must end in one of {', '.join(_PICTURES)}, got {given.plot!r}")
    logs, notes = read_runs(given.runs, given)
    fitted = fit_runs(logs, given.runs, confidence=given.confidence, batch_size=given.batch_size)
    if given.next:
        return _what_next(fitted, _asked(given), given, notes)
    best = None
    if given.best is not None:
        peak = fitted.attrs["unit"] if given.peak is None else given.peak
        best = best_schedule(fitted, given.best, peak=peak, warmup=given.warmup or 0)
        asked = {"best": best.learning_rate.values}
    else:
        asked = _asked(given)
    foretold = {name: _along(fitted, rates, given.at_batch_size) for name, rates in asked.items()}
    if given.plot is not None:
        _draw(logs, foretold, Path(given.plot))
    if best is not None and given.output is not None:
        write_text(given.output, "".join(f"{rate!r}\n" for rate in best.learning_rate.values.tolist()))
    if given.json:
        found = {"fitted": contents(fitted), "forecast": {name: contents(one) for name, one in foretold.items()}}
        return as_json(found | ({} if best is None else {"best": contents(best)}) | {"notes": notes})
    interval = f"{100 * given.confidence:g}% from"
    if best is None:
        ends = [[name, *_ends(one.isel(step=-1))] for name, one in foretold.items()]
    else:
        ends = [[str(rule).replace("_", " "), *_ends(best.sel(rule=rule))] for rule in best.rule.values]
    return paragraphs(
        fitted.verdict,
        "" if best is None else best.verdict,
        table(["schedule", "final loss", interval, "to"], ends),
        _course(next(iter(foretold.values()))) if best is None else _rates_of(best),
        bullets("Assumed", [f"{name}: {said}" for name, one in foretold.items() for said in one.assumed.splitlines()]),
        bullets("Read", notes),
    )


def _asked(given: argparse.Namespace) -> dict[str, Any]:
    """The schedules to foretell, by their words or file."""
    if given.schedule is not None:
        return {Path(given.schedule).name: read_rates(given.schedule, "--schedule")}
    return {words: schedule_of(words, given.warmup or 0) for words in given.predict}


def _what_next(fitted: xr.Dataset, asked: dict[str, Any], given: argparse.Namespace, notes: list[str]) -> str:
    """How much narrower the interval of each schedule would be, by one more run of the usual kinds."""
    from sgdynamics.theory.forecast import next_run

    candidates = _candidates(fitted, given.warmup or 0)
    told = {name: next_run(fitted, rates, candidates) for name, rates in asked.items()}
    if given.json:
        found = {name: contents(one) | {"half_width_now": one.half_width_now} for name, one in told.items()}
        return as_json({"fitted": contents(fitted), "next": found, "notes": notes})
    parts = [fitted.verdict]
    for name, one in told.items():
        rows = [
            [str(run), int(steps), float(width)]
            for run, steps, width in zip(one.candidate.values, one.steps.values, one.half_width.values, strict=True)
        ]
        parts.append(f"Final loss of {name}: {one.half_width_now:.2g} either way now, and with one more run")
        parts.append(table(["that run", "steps", "either way"], rows))
    return paragraphs(*parts, bullets("Read", notes))


def _candidates(fitted: xr.Dataset, warmup: int) -> dict[str, Any]:
    """Runs that one might make next, at the rate and of the length of those that are there."""
    rate, steps = fitted.attrs["unit"], int(fitted.attrs["longest"])
    words = {
        "the plateau": f"constant:{steps}:{rate!r}",
        "the plateau, twice as long": f"constant:{2 * steps}:{rate!r}",
        "the plateau at half its rate": f"constant:{steps}:{0.5 * rate!r}",
        "to a tenth over the last fifth": f"wsd:{steps}:{rate!r}:0.2:{0.1 * rate!r}",
        "to a tenth over the last half": f"wsd:{steps}:{rate!r}:0.5:{0.1 * rate!r}",
        "cosine to a tenth": f"cosine:{steps}:{rate!r}:{0.1 * rate!r}",
    }
    return {name: schedule_of(one, min(warmup, steps // 4)) for name, one in words.items()}


def _along(fitted: xr.Dataset, rates: Any, batch_size: float | None) -> xr.Dataset:
    import numpy as np

    from sgdynamics.theory.forecast import predict

    record = np.unique(np.rint(np.linspace(rates.size / 200, rates.size, 200)).astype(int))
    return predict(fitted, rates, record=record[record > 0], batch_size=batch_size)


def _ends(point: xr.Dataset) -> list[float]:
    return [float(point[name]) for name in ("loss", "loss_low", "loss_high")]


def _course(one: xr.Dataset) -> str:
    import numpy as np

    places = np.unique(np.linspace(0, one.sizes["step"] - 1, _LINES).astype(int))[1:]
    return table(["step", "loss", "from", "to"], [[int(one.step[k]), *_ends(one.isel(step=k))] for k in places])


def _rates_of(best: xr.Dataset) -> str:
    import numpy as np

    places = np.unique(np.linspace(0, best.sizes["step"] - 1, _LINES).astype(int))
    return table(["step", "learning rate"], [[int(best.step[k]), float(best.learning_rate[k])] for k in places])


def _draw(logs: list[tuple[Any, Any, Any]], foretold: dict[str, xr.Dataset], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("--plot needs Matplotlib: pip install 'sgdynamics[plot]'") from None
    from sgdynamics._files import appearing_file
    from sgdynamics.plot import forecast

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    forecast({f"forecast: {name}": one for name, one in foretold.items()}, logs, ax=figure.subplots())
    with appearing_file(path) as file:
        figure.savefig(file, dpi=150, format=path.suffix[1:].lower())
