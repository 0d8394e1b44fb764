"""Which step every checkpoint is of, and whether that is the order of the plan.

The step is looked for in what is recorded with the weights (a ``step`` among a file's metadata, ``global_step`` in a
``trainer_state.json`` beside it) and in the numbers of the whole path: a shell sorts ``checkpoint-10000`` before
``checkpoint-2000``, and the name of the file itself often says nothing. What disagrees, or cannot be told, is refused
with a list; a merge in the wrong order would be wrong without a word.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sgdynamics.checkpoints.damage import DamagedFile

# What stands before a number of steps, best first; further down a number without any such word may be one.
_WORDS = (
    {"step", "steps", "iter", "iters", "iteration", "iterations", "update", "updates", "batch", "batches"},
    {"checkpoint", "checkpoints", "ckpt", "chkpt", "cp"},
    {"epoch", "epochs", "ep"},
)
_STEP, _CHECKPOINT, _EPOCH, _UNKNOWN = range(4)
# What stands before a number that is none.
_OTHERS = {"seed", "run", "rank", "version", "trial", "fold", "part", "shard", "worker", "node", "gpu", "loss", "acc"}
# The shards of one checkpoint.
_SHARD = re.compile(r"\d+-of-\d+")
_NUMBER = re.compile(r"(?P<word>[A-Za-z]*)(?P<between>[^A-Za-z0-9]*)(?P<number>\d+)")

# A state of a trainer is short; a file of this size is something else.
_LONGEST_STATE = 2**28
_LISTED = 8


class Recorded(NamedTuple):
    """A step that a checkpoint says it is of; what an array of that name counts is less certain."""

    step: int
    certain: bool = True


class Order(NamedTuple):
    """Where every checkpoint belongs.

    Attributes
    ----------
    places : list of int
        Which of the given checkpoints is the first of the plan, the second, ...
    steps : list of int, optional
        Their steps in that order; None where they were not looked for or could not be told.
    note : str
        What was assumed, if anything.
    """

    places: list[int]
    steps: list[int] | None
    note: str


def order_of(
    paths: Sequence[Path], recorded: Sequence[Recorded | None], planned: Sequence[int] | None, in_this_order: bool
) -> Order:
    """The order in which checkpoints stand for those of a plan.

    Parameters
    ----------
    paths : sequence of Path
        As they were given.
    recorded : sequence
        The step that each says it is of, if it does.
    planned : sequence of int, optional
        Steps of the plan's checkpoints: from 0 they are counted from the start of the window, otherwise from that of
        the run. None for weights without steps, which are taken in the given order unless the steps contradict it.
    in_this_order : bool
        Take the given order, whatever the steps.

    Returns
    -------
    Order

    Raises
    ------
    ValueError
        If the steps disagree with each other or with the plan, or cannot be told.
    """
    given = list(range(len(paths)))
    if in_this_order or len(paths) == 1:
        return Order(given, None, "")
    steps, kind = _steps(paths, recorded)
    if steps is None:
        if planned is None:
            return Order(given, None, "the steps of the checkpoints cannot be told: the order is as given")
        unknown = [None] * len(paths)
        raise _refusal("checkpoints whose steps can be told, by their paths or by what they record", paths, unknown)
    places = sorted(given, key=steps.__getitem__)
    in_order = [steps[place] for place in places]
    if planned is not None:
        return Order(places, in_order, _compared(in_order, list(planned), kind, [paths[place] for place in places]))
    if places != given:
        raise _refusal("in the order of their steps, for weights that have none", paths, steps)
    return Order(given, steps, "")


def recorded_step(folder: Path) -> Recorded | None:
    """``global_step`` of a ``trainer_state.json``, if the folder holds one."""
    path = folder / "trainer_state.json"
    try:
        if path.stat().st_size > _LONGEST_STATE:
            raise ValueError("it is longer than any state of a trainer")
        state = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFile(path, f"cannot be read, {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"is no state of a trainer, {error}") from None
    step = state.get("global_step") if isinstance(state, dict) else None
    return Recorded(step) if type(step) is int else None


def _steps(paths: Sequence[Path], recorded: Sequence[Recorded | None]) -> tuple[list[int] | None, int]:
    """A step for every path and what kind of number it is; None where they cannot be told."""
    named, kind = _named_steps(paths)
    known = [record.step for record in recorded if record is not None]
    if len(known) < len(paths) or len(set(known)) == 1:  # one number for all is no step
        return named, kind
    if len(set(known)) < len(known):
        raise _refusal("of different steps", paths, known)
    if named is not None and (
        _ranks(named) != _ranks(known) or (kind == _STEP and not _in_proportion(sorted(named), sorted(known)))
    ):
        text = "paths whose steps agree with those that their files record"
        raise _refusal(text, paths, [f"{one}, recorded {other}" for one, other in zip(named, known, strict=True)])
    return known, _STEP if all(record is not None and record.certain for record in recorded) else _UNKNOWN


def _named_steps(paths: Sequence[Path]) -> tuple[list[int] | None, int]:
    """The numbers in the paths that can be steps, best kind first."""
    texts = [_SHARD.sub("-of-", Path(os.path.abspath(path)).as_posix()) for path in paths]
    one_pattern = len({re.sub(r"\d+", "0", text) for text in texts}) == 1
    found = [dict(_numbers(text)) for text in texts]
    for kind in range(_UNKNOWN + 1 if one_pattern else _UNKNOWN):
        keys = [key for key in found[0] if key[0] == kind and all(key in numbers for numbers in found)]
        columns = [[numbers[key] for numbers in found] for key in keys]
        distinct = [column for column in columns if len(set(column)) == len(column)]
        varying = [column for column in columns if len(set(column)) > 1]
        if distinct and all(column == distinct[0] for column in (varying if kind == _UNKNOWN else distinct)):
            return distinct[0], kind
        if distinct:  # two different ones, and nothing says which
            return None, kind
    return None, _UNKNOWN


def _numbers(text: str) -> Iterator[tuple[tuple[int, str, int], int]]:
    """Numbers of a path by kind, the word before it, and the how manieth of these it is."""
    seen: dict[str, int] = {}
    for match in _NUMBER.finditer(text):
        word = match["word"].lower()
        if word in _OTHERS:
            continue
        kind = next((kind for kind, words in enumerate(_WORDS) if word in words), _UNKNOWN)
        count = seen[word] = seen.get(word, -1) + 1
        yield (kind, word, count), int(match["number"])


def _ranks(steps: Sequence[int]) -> list[int]:
    return sorted(range(len(steps)), key=steps.__getitem__)


def _in_proportion(steps: Sequence[int], others: Sequence[int]) -> bool:
    """Whether the distances between sorted steps are those of the others, in some unit."""
    whole, other_whole = steps[-1] - steps[0], others[-1] - others[0]
    return all(
        (step - steps[0]) * other_whole == (other - others[0]) * whole
        for step, other in zip(steps, others, strict=True)
    )


def _compared(steps: list[int], planned: list[int], kind: int, paths: Sequence[Path]) -> str:
    """What has to be assumed for sorted steps to be those of the plan; an error where they are not."""
    shift = steps[0] - planned[0]
    if all(step - plan == shift for step, plan in zip(steps, planned, strict=True)) and (shift == 0 or planned[0] == 0):
        return ""
    counted = steps[-1] - steps[0] == len(steps) - 1 and kind != _STEP  # 0, 1, 2, ...
    if _in_proportion(steps, planned) and (kind == _EPOCH or counted):
        what = "epochs" if kind == _EPOCH else "a count of the checkpoints"
        return f"{steps[0]} to {steps[-1]} in the paths are taken as {what}, of steps {planned[0]} to {planned[-1]}"
    origin = "counted from the first" if planned[0] == 0 else "of the run"
    shown = ", ".join(map(str, planned[:_LISTED])) + (", ..." if len(planned) > _LISTED else "")
    raise _refusal(f"of the plan's steps, {origin}: {shown}", paths, steps)


def _refusal(text: str, paths: Sequence[Path], steps: Sequence[int | str | None]) -> ValueError:
    """The list, and the way out."""
    folder = Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))
    shown = [
        f"{Path(os.path.abspath(path)).relative_to(folder)} ({'step unknown' if step is None else f'step {step}'})"
        for path, step in zip(paths[:_LISTED], steps, strict=False)
    ]
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    way_out = "unless in_this_order (--in-this-order) takes them as they stand"
    return ValueError(f"merge: paths must be {text}, {way_out}; got {', '.join(shown)}{more}")
