"""The weighted average of checkpoint files, tensor by tensor, written whole or not at all."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sgdynamics.cli._output import as_json, bullets, paragraphs

HELP = "write the weighted average of checkpoint files"

OPTIONS = {"plan": "--plan", "paths": "FILE...", "output": "--output"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help=".safetensors or .npz, in the order of the plan")
    parser.add_argument("--plan", required=True, metavar="FILE.json", help="from 'sgdynamics plan --output'")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the result goes, of the same kind")


def run(given: argparse.Namespace) -> str:
    """Merge, and say what was done with which tensors."""
    import warnings

    from sgdynamics.checkpoints import merge

    weights = _read_weights(given.plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in the answer
        merged = merge(given.files, weights, given.output, progress=sys.stderr.isatty() and not given.json)
    careful = [*_out_of_order(given.files), *(f"{text}." for text in merged.warnings)]
    if given.json:
        return as_json(merged._asdict() | {"warnings": careful})
    copied = f"; copied from the last checkpoint: {', '.join(merged.copied)}" if merged.copied else ""
    return paragraphs(
        f"{merged.output}: {len(merged.averaged)} tensors averaged{copied}.",
        bullets("Careful", careful),
    )


def _out_of_order(files: Sequence[str]) -> Iterator[str]:
    """A shell sorts 'step-100' before 'step-20'."""
    numbers = [re.findall(r"\d+", Path(file).stem) for file in files]
    if not all(numbers):
        return
    steps = [int(found[-1]) for found in numbers]
    for before, after, file in zip(steps, steps[1:], files[1:], strict=False):
        if after <= before:
            yield (
                f"The numbers in the file names do not increase at {file}: the order must be the plan's, as from "
                "'ls -v' or with numbers of one length."
            )
            return


def _read_weights(path: str) -> Any:
    """The weights of a plan, or a bare list of numbers."""
    needed = "--plan must be a file that 'sgdynamics plan --output' wrote, or a JSON list of weights"
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
    except ValueError as error:
        raise ValueError(f"{needed} ({error}): {path}") from None
    except OSError as error:
        raise ValueError(f"{needed} ({error.strerror}): {path}") from None
    weights = plan.get("weight") if isinstance(plan, dict) else plan
    numbers = isinstance(weights, list) and all(type(weight) in (int, float) for weight in weights)
    if not numbers or not weights:
        raise ValueError(f"{needed} (it has no numbers 'weight'): {path}")
    return weights
