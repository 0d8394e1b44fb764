"""Weights for the checkpoints of a run at a constant learning rate that stand for a decay, and what they risk.

The run is taken to have settled before the first checkpoint. What the merge keeps of the decay's gain is said first:
without a spectrum, over a range of those that networks have; with one, together with the risks; with loss curves
(--fit), together with the losses that they foretell.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sgdynamics.cli._options import (
    CURVATURES,
    LONGEST,
    SPECTRUM_NAMES,
    SPECTRUM_OPTIONS,
    add_spectrum,
    model_of,
    refuse_idle,
    whole_from,
)
from sgdynamics.cli._output import as_json, bullets, check_output, contents, paragraphs, table, write_text
from sgdynamics.cli._runs import COLUMN_NAMES, COLUMN_OPTIONS, add_columns, fit_runs, read_runs
from sgdynamics.cli._words import read_rates

if TYPE_CHECKING:
    import xarray as xr

    from sgdynamics.models.quadratic import MiniBatchQuadratic

HELP = "weights for checkpoints of a constant-rate run that stand for a decay"

OPTIONS = (
    SPECTRUM_OPTIONS
    | COLUMN_OPTIONS
    | {
        "rate": "--base-learning-rate",
        "target_schedule": "--target-file",
        "checkpoints": "--every or --checkpoints",
    }
)

_RULES = ("auto", "wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk", "uniform")
_POINTS = {"merged": "merged point", "target": "decayed run", "base": "last checkpoint"}


# What a quadratic around one minimum knows nothing of.
_UNSEEN = (
    "a run that still descends: the gain is that of one that has settled before the first checkpoint.",
    "held-out loss: a merge often does better there, and may beat a decay that the plan prefers; score both.",
    "statistics of batch normalisation: measure them anew with the merged weights.",
    "optimisers other than SGD: say --optimiser; weights of 'wsm' hold for any, the gain is a guess.",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--base-learning-rate", type=float, required=True, help="of the run that was saved")
    parser.add_argument(
        "--steps", type=whole_from(1), help="from the first checkpoint to the last (default: what --checkpoints span)"
    )
    parser.add_argument(
        "--target",
        choices=("linear", "cosine", "constant"),
        help="shape of the decay (default: linear); constant cuts the rate to --final at once",
    )
    parser.add_argument("--final", type=float, help="learning rate at its end (default: 0)")
    parser.add_argument("--target-file", metavar="FILE", help="its learning rates instead, one a line")
    saved = parser.add_mutually_exclusive_group()
    saved.add_argument("--every", type=whole_from(1), default=1, help="steps between checkpoints (default: 1)")
    saved.add_argument(
        "--checkpoints",
        type=whole_from(0),
        nargs="+",
        metavar="STEP",
        help="the steps that were saved, of the run, or from 0 at the first",
    )
    parser.add_argument("--rule", choices=_RULES, default="auto", help="how the weights are made (default: auto)")
    parser.add_argument("--compare", action="store_true", help="also compare all rules, best first")
    parser.add_argument("--curvature", type=float, help="where rule 'exact' is exact")
    parser.add_argument("--momentum", type=float, default=0.0, help="of the run (default: 0)")
    parser.add_argument("--at-rest", action="store_true", help="with momentum: the window starts with velocity 0")
    parser.add_argument(
        "--optimiser", choices=("sgd", "adam", "other"), default="sgd", help="what made the run (default: sgd)"
    )
    parser.add_argument("--output", metavar="FILE.json", help="write the plan for 'sgdynamics merge'")
    add_spectrum(parser)
    fitted = parser.add_argument_group("what loss curves say of it, instead of a spectrum")
    fitted.add_argument(
        "--fit",
        metavar="RUN",
        nargs="+",
        help="logs of the run that was saved, first, and of others: losses in place of risks; with --checkpoints in "
        "steps of the run",
    )
    add_columns(fitted)


def run(given: argparse.Namespace) -> str:
    """Make the plan, write it, and say what is in it."""
    saved = given.checkpoints
    if saved is not None and any(after <= before for before, after in pairwise(saved)):
        raise ValueError(f"--checkpoints must be steps that increase, got {' '.join(map(str, saved))}")
    if saved is not None and given.steps is None and given.target_file is None and saved[-1] > saved[0]:
        given.steps = saved[-1] - saved[0]
    if given.steps is not None and given.steps > LONGEST:
        raise ValueError(f"--steps, or what --checkpoints span, must be at most {LONGEST} updates, got {given.steps}")
    check_output("--output", given.output, given.target_file, given.spectrum, *(given.fit or []))
    if given.at_rest and not given.momentum:
        raise ValueError("--at-rest goes with --momentum, which is not given: without it there is no velocity")
    if given.fit is None:
        refuse_idle(given, COLUMN_NAMES, "--fit RUN")
    elif given.spectrum is not None or given.log_uniform is not None:
        raise ValueError(f"--fit cannot be given with {CURVATURES}: it says itself what the curvature is")
    else:
        refuse_idle(given, SPECTRUM_NAMES, CURVATURES)
    if given.rule != "exact" and not given.compare:
        refuse_idle(given, ["curvature"], "--rule exact or --compare")
    target = _target(given)
    steps = len(target)
    if saved is None:
        if steps % given.every:
            raise ValueError(
                f"--every must divide the {steps} steps of the window, got {given.every}: or name the steps that were "
                "saved by --checkpoints"
            )
        saved = range(0, steps + 1, given.every)
    elif len(saved) < 2 or saved[-1] - saved[0] != steps:
        raise ValueError(
            f"--checkpoints must run from 0, the start of the window, to its end {steps} (or as far, in steps of the "
            f"run), got {saved[0]} to {saved[-1]}"
        )
    fitted = None if given.fit is None else _fitted(given, list(saved))
    plan, *others = _plans(target, given, list(saved), fitted)
    if isinstance(plan, ValueError):
        raise plan
    found = contents(plan)
    if fitted is not None:
        found |= {"loss": _losses(plan, target, fitted), "notes": fitted.notes}
    if "merged_risk" not in plan:
        found |= _over_guesses(plan, target, given)
    if given.compare:
        found["rules"] = sorted(map(_row, _RULES[1:], others), key=_place)
    if given.output is not None:
        write_text(given.output, as_json(found) + "\n")
    if given.json:
        return as_json(found)
    return paragraphs(
        f"{_gain(found)}\n{plan.summary}",
        table(["checkpoint", "weight"], zip(found["checkpoint"], found["weight"], strict=True)),
        _lines_of(found["loss"], fitted) if fitted is not None else _risks(plan) if "merged_risk" in plan else "",
        _comparison(found["rules"]) if given.compare else "",
        bullets("Careful", found["warnings"]),
        bullets("Not in the model", _UNSEEN if fitted is None else _UNSEEN[1:]),
        bullets("Read", [] if fitted is None else fitted.notes),
        _next(given, len(found["weight"])),
    )


def _over_guesses(plan: xr.Dataset, target: Any, given: argparse.Namespace) -> dict[str, list[float]]:
    """What the merge keeps of the decay's gain, the least and the most of many spectra, where the decay gains."""
    import numpy as np

    from sgdynamics.theory.schedules import gain_kept

    shares = gain_kept(
        plan.weight.values,
        target,
        given.base_learning_rate,
        plan.checkpoint.values,
        momentum=given.momentum,
        at_rest=given.at_rest,
    ).gain_kept.values
    known = shares[np.isfinite(shares)]
    return {"gain_kept": [float(known.min()), float(known.max())]} if known.size else {}


def _gain(found: dict[str, Any]) -> str:
    """The first thing that is said."""
    kept = found.get("gain_kept")
    if kept is None:
        return "The decay gains nothing over the last checkpoint."
    if isinstance(kept, list):
        low, high = (round(100 * share) for share in kept)
        return (
            f"This merge keeps {low} to {high}% of what the decay would gain over the last checkpoint, whichever of a "
            "range of spectra the network has."
        )
    return f"This merge keeps {100 * kept:.0f}% of what the decay would gain over the last checkpoint."


def _target(given: argparse.Namespace) -> Any:
    """Learning rates of the decay."""
    import numpy as np

    from sgdynamics.models import schedules

    rate, final = given.base_learning_rate, given.final
    if given.target_file is not None:
        for option in ("target", "final"):
            if getattr(given, option) is not None:
                raise ValueError(f"--{option} cannot be given with --target-file, which has all learning rates")
        target = read_rates(given.target_file, "--target-file")
        if given.steps not in (None, target.size):
            raise ValueError(f"--steps must be {target.size}, the number of rates in --target-file, got {given.steps}")
        return target
    if given.steps is None:
        raise ValueError("--steps must be given, the length of the window (or --checkpoints STEP..., or --target-file)")
    if final is not None and not 0 <= final <= rate:
        raise ValueError(f"--final must be between 0 and --base-learning-rate, got {final!r}")
    if given.target == "constant":
        if not final:
            raise ValueError("--final must be > 0 with --target constant: the learning rate that it is cut to")
        return np.asarray(schedules.constant(final, given.steps))
    shape = schedules.cosine if given.target == "cosine" else schedules.linear
    return np.asarray(shape(rate, given.steps, final=final or 0.0))


@dataclass(frozen=True)
class _Fitted:
    """The law of some loss curves, and the rates of the run that was saved, up to its first checkpoint."""

    law: xr.Dataset
    history: Any
    model: MiniBatchQuadratic
    rate: float
    notes: list[str]  # what was guessed of the logs


def _fitted(given: argparse.Namespace, saved: list[int]) -> _Fitted:
    from sgdynamics.theory.forecast import quadratic_at

    if given.momentum or given.optimiser != "sgd":
        raise ValueError("--fit cannot be given with --momentum or --optimiser: the curves hold what these change")
    if not saved[0]:
        raise ValueError("--fit goes with --checkpoints in steps of the run, the first of them > 0: it starts at 0")
    runs, notes = read_runs(given.fit, given)
    first, rate = saved[0], given.base_learning_rate
    history = next(
        (rates[:first] for rates, _, _ in runs if rates.size >= first and abs(rates[first - 1] - rate) < 0.01 * rate),
        None,
    )
    if history is None:
        raise ValueError(f"--fit must name a run that holds --base-learning-rate {rate!r} at step {first}, got none")
    law = fit_runs(runs, given.fit)
    return _Fitted(law, history, quadratic_at(law, history), rate, notes)


def _losses(plan: xr.Dataset, target: Any, fitted: _Fitted) -> dict[str, list[float]]:
    """Loss with its interval at the merged point, at the end of the decay and at the last checkpoint."""
    import numpy as np

    from sgdynamics.theory.forecast import predict

    on = np.append(fitted.history, np.full(len(target), fitted.rate))
    average = np.zeros(on.size + 1)
    average[plan.checkpoint.values] = plan.weight.values
    points = {
        "merged": predict(fitted.law, on, average=average),
        "target": predict(fitted.law, np.append(fitted.history, target)),
        "base": predict(fitted.law, on),
    }
    return {
        name: [float(point[part][0]) for part in ("loss", "loss_low", "loss_high")] for name, point in points.items()
    }


def _lines_of(losses: dict[str, list[float]], fitted: _Fitted) -> str:
    interval = f"{100 * fitted.law.attrs['confidence']:g}% from"
    rows = [[text, *losses[name]] for name, text in _POINTS.items()]
    return paragraphs(table(["loss foretold", "loss", interval, "to"], rows), str(fitted.law.attrs["verdict"]))


def _plans(
    target: Any, given: argparse.Namespace, saved: list[int], fitted: _Fitted | None
) -> Iterator[xr.Dataset | ValueError]:
    """The plan, and those of all rules where they are compared."""
    from sgdynamics.theory.schedules.merging.plan import merge_plans

    return merge_plans(
        target,
        given.base_learning_rate,
        saved,
        rules=(given.rule, *(_RULES[1:] if given.compare else ())),
        model=model_of(given) if fitted is None else fitted.model,
        curvature=given.curvature,
        momentum=given.momentum,
        at_rest=given.at_rest,
        optimiser=given.optimiser,
    )


def _row(rule: str, plan: xr.Dataset | ValueError) -> dict[str, Any]:
    """What a rule makes, or the reason that it makes nothing."""
    if isinstance(plan, ValueError):
        return {"rule": rule, "left_out": str(plan).removeprefix("merge_plan: ")}
    names = ("merged_risk", "residual", "smallest_weight", "noise_amplification")
    return {"rule": rule} | {name: float(plan[name]) for name in names if name in plan}


def _place(row: dict[str, Any]) -> tuple[bool, float]:
    return "left_out" in row, row.get("merged_risk", 0.0)


def _comparison(rules: list[dict[str, Any]]) -> str:
    heads = {
        "rule": "rule",
        "merged_risk": "risk",
        "residual": "distance",
        "smallest_weight": "smallest weight",
        "noise_amplification": "sum of squares",
    }
    made = [row for row in rules if "left_out" not in row]
    columns = [name for name in heads if name in made[0]]
    without = [f"{row['rule']!r}, {row['left_out'].split(',')[0]}" for row in rules if "left_out" in row]
    return paragraphs(
        table([heads[name] for name in columns], ([row[name] for name in columns] for row in made)),
        bullets("Left out", without),
    )


def _risks(plan: xr.Dataset) -> str:
    parts = [
        [text, *(float(plan[f"{name}_{part}"]) for part in ("risk", "bias", "noise"))] for name, text in _POINTS.items()
    ]
    bands = ("lowest_gain", "highest_gain", "band_residual", "band_merged_risk", "band_target_risk")
    return paragraphs(
        table(["expected excess risk", "total", "from the start", "from the batches"], parts),
        f"Distance of the merged point to the decayed one: {float(plan.residual):.3g} of the decayed run's risk; by "
        "gain (learning rate x curvature):\n"
        + table(
            ["gain from", "to", "distance", "risk merged", "risk decayed"],
            zip(*(plan[name].values.tolist() for name in bands), strict=True),
        ),
    )


def _next(given: argparse.Namespace, files: int) -> str:
    following = given.output or "plan.json"
    merge = f"sgdynamics merge --plan {following} --output MERGED FILE...   ({files} files)"
    hint = f"Next: {merge}" if given.output else f"Next: the same with --output {following}, then\n      {merge}"
    if given.spectrum is None and given.log_uniform is None and given.fit is None:
        hint += f"\nFor risks, and rules that lower them: {CURVATURES}, or --fit RUN."
    return hint
