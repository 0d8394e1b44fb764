"""The learning-rate schedule that an average stands for: exact at one curvature, the closest across a spectrum."""

from __future__ import annotations

import argparse
from typing import Any

from sgdynamics.cli._options import (
    CURVATURES,
    LONGEST,
    SPECTRUM_OPTIONS,
    add_spectrum,
    model_of,
    refuse_idle,
    whole_from,
)
from sgdynamics.cli._output import as_json, check_output, contents, paragraphs, table, write_text

HELP = "the learning-rate schedule that an average stands for"

OPTIONS = SPECTRUM_OPTIONS | {"base_gains": "--gain", "gain": "--gain", "rate": "--base-learning-rate"}

# What each average is made of, with the defaults.
_PARAMETERS: dict[str, dict[str, Any]] = {
    "ema": {"beta": 0.99},
    "swa": {"start": 0},
    "tail": {"points": 2, "stride": 1},
    "two-point": {"separation": 1},
}
# Modes times squared steps, which memory and time of the search across a spectrum grow with.
_LARGEST = 5_000_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--average", choices=("ema", "swa", "tail", "two-point"), required=True)
    parser.add_argument("--steps", type=whole_from(1, LONGEST), required=True, help="length of the run")
    parser.add_argument("--beta", type=float, help="decay of the EMA (default: 0.99)")
    parser.add_argument("--start", type=whole_from(0), help="SWA averages the iterates after it (default: 0)")
    parser.add_argument("--points", type=whole_from(1), help="number of points of the tail (default: 2)")
    parser.add_argument("--stride", type=whole_from(1), help="steps between points of the tail (default: 1)")
    parser.add_argument("--separation", type=whole_from(1), help="steps between two points (default: 1)")
    parser.add_argument("--gain", type=float, help="learning rate x curvature of the run, for one curvature")
    parser.add_argument("--base-learning-rate", type=float, help="of the run, with a spectrum")
    parser.add_argument("--output", metavar="FILE", help="write the schedule, one number a line")
    add_spectrum(parser)


def run(given: argparse.Namespace) -> str:
    """Find the schedule, and say how far it holds."""
    model = model_of(given)
    if (model is None) == (given.gain is None):
        raise ValueError(f"--gain must be given for one curvature, or {CURVATURES} for many, and not both")
    for average, options in _PARAMETERS.items():
        if average != given.average:
            refuse_idle(given, options, f"--average {average}")
    if model is None:
        refuse_idle(given, ("base-learning-rate",), CURVATURES)
    check_output("--output", given.output, given.spectrum)
    column, found, said = _at_one_curvature(given) if model is None else _across(given, model)
    if given.output is not None:
        write_text(given.output, "".join(f"{value!r}\n" for value in found[column]))
    if given.json:
        return as_json(found | {"said": said})
    return paragraphs(said, table(["step", column.replace("_", " ")], enumerate(found[column], 1)))


def _average(given: argparse.Namespace) -> Any:
    from sgdynamics.models import schedules

    chosen = {
        name: default if getattr(given, name) is None else getattr(given, name)
        for name, default in _PARAMETERS[given.average].items()
    }
    if given.average == "ema":
        return schedules.ema(chosen["beta"], given.steps)
    if given.average == "swa":
        return schedules.swa(given.steps, chosen["start"])
    if given.average == "tail":
        span = (chosen["points"] - 1) * chosen["stride"]
        if span > given.steps:
            raise ValueError(f"--points and --stride must span at most --steps {given.steps}, got {span}")
        return schedules.tail(given.steps, chosen["points"], chosen["stride"])
    return schedules.two_point(given.steps, chosen["separation"])


def _at_one_curvature(given: argparse.Namespace) -> tuple[str, dict[str, Any], str]:
    from sgdynamics.outcome import Outcome
    from sgdynamics.theory.schedules import equivalence

    found = equivalence(_average(given), given.gain)
    said = (
        f"{Outcome(int(found.outcome)).sentence} At this one curvature; across a spectrum there is only a compromise."
    )
    return "gain", contents(found), said


def _across(given: argparse.Namespace, model: Any) -> tuple[str, dict[str, Any], str]:
    from sgdynamics.models.schedules import constant
    from sgdynamics.theory.schedules import schedule_of_merge

    if given.base_learning_rate is None:
        raise ValueError(f"--base-learning-rate must be given with {CURVATURES}")
    longest = int((_LARGEST / model.modes) ** 0.5)
    if given.steps > longest:
        raise ValueError(
            f"--steps must be at most {longest} across {model.modes} curvatures, got {given.steps}: take a shorter "
            "run at a larger learning rate, or a spectrum of fewer modes"
        )
    found = schedule_of_merge(_average(given), constant(given.base_learning_rate, given.steps), model)
    said = (
        "The one schedule that comes closest to the average across the spectrum: its distance is "
        f"{float(found.residual):.3g} of the average's risk {float(found.average_risk):.4g}; its own risk is "
        f"{float(found.schedule_risk):.4g}."
    )
    return "learning_rate", contents(found), said
