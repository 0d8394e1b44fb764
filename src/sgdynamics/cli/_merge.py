"""The weighted average of checkpoint files, tensor by tensor, written whole or not at all."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sgdynamics.cli._output import as_json, bullets, paragraphs

HELP = "write the weighted average of checkpoint files"

OPTIONS = {"plan": "--plan", "paths": "FILE...", "output": "--output", "in_this_order": "--in-this-order"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help=".safetensors or .npz")
    parser.add_argument("--plan", required=True, metavar="FILE.json", help="from 'sgdynamics plan --output'")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the result goes, of the same kind")
    parser.add_argument(
        "--in-this-order", action="store_true", help="take the files as they stand, whatever their steps"
    )


def run(given: argparse.Namespace) -> str:
    """Merge, and say what was done with which tensors."""
    import warnings

    from sgdynamics.checkpoints import merge

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in the answer
        merged = merge(
            given.files,
            _read_plan(given.plan),
            given.output,
            in_this_order=given.in_this_order,
            progress=sys.stderr.isatty() and not given.json,
        )
    if given.json:
        return as_json(merged._asdict() | {"paths": list(map(str, merged.paths))})
    copied = f"; copied from the last checkpoint: {', '.join(merged.copied)}" if merged.copied else ""
    return paragraphs(
        f"{merged.output}: {len(merged.averaged)} tensors averaged{copied}.",
        f"Checkpoints of steps {', '.join(map(str, merged.steps))}, in this order." if merged.steps else "",
        bullets("Note", (f"{text}." for text in merged.notes)),
        bullets("Careful", (f"{text}." for text in merged.warnings)),
    )


def _read_plan(path: str) -> Any:
    """The weights of a plan with their steps, or a bare list of numbers."""
    import xarray as xr

    needed = "--plan must be a file that 'sgdynamics plan --output' wrote, or a JSON list of weights"
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{needed} ({error}): {path}") from None
    except OSError as error:
        raise ValueError(f"{needed} ({error.strerror}): {path}") from None
    weights, steps = (plan.get("weight"), plan.get("checkpoint")) if isinstance(plan, dict) else (plan, None)
    if not isinstance(weights, list) or not _is_list_of(weights, int, float):
        raise ValueError(f"{needed} (it has no numbers 'weight'): {path}")
    if steps is None:
        return weights
    if not _is_list_of(steps, int) or len(steps) != len(weights):
        raise ValueError(f"{needed} (its 'checkpoint' are no steps, one a weight): {path}")
    return xr.DataArray(weights, {"checkpoint": steps}, ("checkpoint",))


def _is_list_of(numbers: Any, *kinds: type) -> bool:
    return isinstance(numbers, list) and bool(numbers) and all(type(number) in kinds for number in numbers)
