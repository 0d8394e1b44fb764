"""The weighted average of checkpoints, tensor by tensor, written whole or not at all.

Checkpoints are files, .safetensors, .npz or PyTorch's (.pt, .pth, .bin, .ckpt), or folders with such a file or its
shards. Their steps are found in their metadata, in trainer_state.json or in the paths, and each gets the weight that
the plan has for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdynamics.cli._output import as_json, bullets, paragraphs, table

if TYPE_CHECKING:
    from sgdynamics.checkpoints import Merged

HELP = "write the weighted average of checkpoint files"

OPTIONS = {"plan": "--plan", "paths": "FILE..."}

_LISTED = 8
# What happens to the tensors of a role.
_DONE = {
    "parameter": "averaged",
    "statistic": "averaged, to be measured anew",
    "equal": "the same in all checkpoints, kept",
    "counter": "a count, from the last checkpoint",
    "flag": "flags, from the last checkpoint",
    "state": "an optimiser's, from the last checkpoint",
    "copied": "from the last checkpoint, as asked for",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a checkpoint: a file, or a folder")
    parser.add_argument("--plan", required=True, metavar="FILE.json", help="from 'sgdynamics plan --output'")
    parser.add_argument("--output", required=True, metavar="PATH", help="where the result goes, a file or a new folder")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument(
        "--in-this-order", action="store_true", help="take the files as they stand, whatever their steps"
    )
    parser.add_argument(
        "--strip-prefix",
        action="append",
        default=[],
        metavar="PREFIX",
        help="compare names without it, as 'module.' or '_orig_mod.'; may be given several times",
    )
    parser.add_argument(
        "--copy", action="append", default=[], metavar="NAME", help="take a tensor from the last checkpoint as it is"
    )
    parser.add_argument(
        "--optimiser-state", action="store_true", help="take the state of the last checkpoint's optimiser along"
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
            strip_prefix=given.strip_prefix,
            copy=given.copy,
            optimiser_state=given.optimiser_state,
            dry_run=given.dry_run,
            progress=sys.stderr.isatty() and not given.json,
        )
    if given.json:
        return as_json(merged._asdict() | {"paths": list(map(str, merged.paths)), "dry_run": given.dry_run})
    copied = f"; copied from the last checkpoint: {_names(merged.copied)}" if merged.copied else ""
    what = f"{len(merged.averaged)} tensors averaged{copied}."
    return paragraphs(
        f"{merged.output}, not written: {what}" if given.dry_run else f"{merged.output}: {what}",
        table(["role", "tensors", "what is done", "which"], _rows(merged.roles)),
        _order(merged),
        bullets("Left out", [f"{_names(merged.left_out)}."] if merged.left_out else []),
        bullets("Note", (f"{text}." for text in merged.notes)),
        bullets("Careful", (f"{text}." for text in merged.warnings)),
    )


def _rows(roles: Mapping[str, str]) -> Iterator[list[Any]]:
    for role, done in _DONE.items():
        names = [name for name, found in roles.items() if found == role]
        if names:
            yield [role, len(names), done, _names(names, 3)]


def _order(merged: Merged) -> str:
    steps = f"Checkpoints of steps {', '.join(map(str, merged.steps))}, in this order." if merged.steps else ""
    return f"{steps} {merged.size / 1e6:.3g} MB.".strip()


def _names(names: Sequence[str], most: int = _LISTED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
