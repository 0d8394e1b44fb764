"""The weighted average of checkpoints, tensor by tensor."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics._files import appearing_file, appearing_folder, check_space
from sgdynamics.checkpoints import averaging
from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.layouts import SUFFIXES, Checkpoint, bridged, open_checkpoint, suggested_prefix
from sgdynamics.checkpoints.open_files import open_files
from sgdynamics.checkpoints.order import Order, order_of
from sgdynamics.checkpoints.roles import Role, roles_of, statistics_of
from sgdynamics.checkpoints.tensors import Reader, Tensor, Writer
from sgdynamics.domains import checked, complain, flag, increasing_steps

_LISTED = 6


class Merged(NamedTuple):
    """What :func:`merge` made.

    Attributes
    ----------
    output : Path
        The file or folder that was written, or would be.
    averaged : tuple of str
        Tensors that were averaged.
    copied : tuple of str
        Tensors taken as they are, from the last checkpoint.
    warnings : tuple of str
        What to look after before the merged model is used.
    paths : tuple of Path
        The checkpoints in the order in which they were weighed.
    steps : tuple of int
        Their steps; empty where they were not looked for or could not be told.
    notes : tuple of str
        What was assumed.
    roles : dict
        By tensor: ``parameter`` and ``statistic`` (averaged), ``equal``, ``counter``, ``flag``, ``state``, ``copied``.
    left_out : tuple of str
        What stands beside the weights of the last checkpoint and is not in the result: states of optimisers, weights
        of other kinds.
    size : int
        Bytes of the tensors of the result.
    """

    output: Path
    averaged: tuple[str, ...]
    copied: tuple[str, ...]
    warnings: tuple[str, ...]
    paths: tuple[Path, ...]
    steps: tuple[int, ...]
    notes: tuple[str, ...]
    roles: dict[str, Role]
    left_out: tuple[str, ...]
    size: int


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


class _Paths:
    text = f"a list of different paths, of folders, or all ending in {' or all in '.join(SUFFIXES)}"

    def check(self, owner: str, name: str, value: Any) -> list[Path]:
        if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Sequence):
            raise complain(owner, name, self.text, value, TypeError)
        if not all(isinstance(item, str | os.PathLike) and not isinstance(item, bytes) for item in value):
            raise complain(owner, name, self.text, value, TypeError)
        paths = [Path(item) for item in value]
        missing = [path for path in paths if path.suffix not in SUFFIXES and not path.exists()]
        if missing:
            raise DamagedFile(missing[0], "is not there")
        kinds = {None if path.is_dir() else path.suffix for path in paths}
        if len(kinds) != 1 or not kinds <= {None, *SUFFIXES} or len(set(paths)) < len(paths):
            raise complain(owner, name, self.text, list(map(str, paths)))
        seen: dict[Path, Path] = {}
        for path in paths:
            other = seen.setdefault(path.resolve(), path)
            if other is not path:
                raise ValueError(
                    f"{owner}: {name} must be different checkpoints, got {other} and {path}, which are one"
                )
        return paths


class _Output:
    text = "a path"

    def check(self, owner: str, name: str, value: Any) -> Path:
        if not isinstance(value, str | os.PathLike) or isinstance(value, bytes):
            raise complain(owner, name, self.text, value, TypeError)
        if not Path(value).name:
            raise complain(owner, name, self.text, value)
        return Path(value)


class _Names:
    text = "a list of names"

    def check(self, owner: str, name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise complain(owner, name, self.text, value, TypeError)
        if not all(isinstance(item, str) and item for item in value):
            raise complain(owner, name, self.text, value)
        return tuple(value)


class Plan(NamedTuple):
    """What of a plan a merge needs: the weights, and the steps that they belong to if it says so."""

    weights: list[float]
    steps: list[int] | None


class _PlanOrWeights:
    text = "a plan of theory.schedules.merge_plan, or weights that sum to 1, one per path"

    def check(self, owner: str, name: str, value: Any) -> Plan:
        if isinstance(value, xr.Dataset):
            if "weight" not in value:
                raise complain(owner, name, self.text, list(value))
            value = value["weight"]
        steps = self._steps(owner, name, value)
        try:
            weights = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise complain(owner, name, self.text, value, TypeError) from None
        if weights.ndim != 1 or not weights.size or not np.isfinite(weights).all():
            raise complain(owner, name, self.text, value)
        return Plan(self._summing_to_one(owner, name, weights).tolist(), steps)

    def _summing_to_one(self, owner: str, name: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights as they are to a rounding of float64; those that are to one of float32, scaled."""
        off, scale = abs(weights.sum() - 1), weights.size * np.abs(weights).sum()
        if off <= scale * np.finfo(np.float64).eps:
            return weights
        if off <= scale * np.finfo(np.float32).eps:
            scaled: NDArray[np.float64] = weights / weights.sum()
            return scaled
        raise ValueError(
            f"{owner}: {name} must be {self.text}, got weights that sum to {float(weights.sum())!r}: {weights.tolist()}"
        )

    @staticmethod
    def _steps(owner: str, name: str, value: Any) -> list[int] | None:
        if not isinstance(value, xr.DataArray) or "checkpoint" not in value.coords:
            return None
        steps: list[int] = increasing_steps.check(owner, f"{name}.checkpoint", value["checkpoint"].values).tolist()
        return steps


@checked(
    paths=_Paths(),
    plan=_PlanOrWeights(),
    output=_Output(),
    in_this_order=flag,
    strip_prefix=_Names(),
    copy=_Names(),
    optimiser_state=flag,
    dry_run=flag,
    progress=flag,
)
def merge(
    paths: Sequence[str | os.PathLike[str]],
    plan: xr.Dataset | xr.DataArray | ArrayLike,
    output: str | os.PathLike[str],
    *,
    in_this_order: bool = False,
    strip_prefix: Sequence[str] = (),
    copy: Sequence[str] = (),
    optimiser_state: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> Merged:
    r"""Write the weighted average of checkpoints.

    What is a parameter is averaged in float64, in blocks, and rounded once to its own type; what is not is copied from
    the last checkpoint, by the rule of :mod:`sgdynamics.checkpoints.roles`. The result has the layout of the last
    checkpoint: names, types, shapes, order, metadata, shards and their index, tied tensors, and of a folder the files
    that describe the model. A ``BF16`` result is rounded to float32 first.

    Parameters
    ----------
    paths : sequence of paths
        Checkpoints: files, all ``.safetensors``, all ``.npz`` or all of one kind of PyTorch (``.pt``, ``.pth``,
        ``.bin``, ``.ckpt``; they need PyTorch), or folders with such a file, or with shards and their index. In any
        order that their steps tell: by ``step`` or ``global_step`` among the metadata of a file (an integer of that
        name in an ``.npz``), in a ``trainer_state.json`` beside it, or by the numbers of the whole path.
    plan : Dataset, DataArray or array, shape (checkpoints,)
        The ``weight`` of every checkpoint, for instance from :func:`sgdynamics.theory.schedules.merge_plan`. Weights
        may be negative; they sum to 1. With a coordinate ``checkpoint`` every weight goes to the checkpoint of that
        step, counted from the first if the plan begins with 0; bare weights go to the paths as they stand, and are
        refused if the steps are not in order.
    output : path
        Where the result goes: a file of the same suffix, or a folder that is not there yet or is empty. It takes its
        name when it is whole: a run that fails or is killed leaves nothing under that name, and an older file stays as
        it was.
    in_this_order : bool
        Take the paths as they stand, whatever their steps.
    strip_prefix : sequence of str
        What wrappers put before names, as ``module.`` and ``_orig_mod.``; names are compared without it.
    copy : sequence of str
        Tensors to take from the last checkpoint as they are.
    optimiser_state : bool
        Take the state of the last checkpoint's optimiser along, which is left out otherwise.
    dry_run : bool
        Look at everything, and write nothing.
    progress : bool
        Show how far it is.

    Returns
    -------
    Merged
        NamedTuple of ``output``, the names that were ``averaged`` and ``copied``, ``warnings``, the ``paths`` as they
        were weighed with their ``steps``, ``notes``, the ``roles`` of all tensors, what was ``left_out``, ``size``.

    Warns
    -----
    UserWarning
        For statistics of batch normalisation: they have to be measured anew with the merged weights.

    Raises
    ------
    DamagedFile
        A ValueError that names the file: one that cannot be read, is cut, holds other tensors than the first, or holds
        NaN or infinity that others do not hold.
    ValueError, TypeError
        If an argument is outside its range, the steps of the checkpoints are not those of the plan or cannot be told,
        or tensors are no numbers that can be averaged.
    OSError
        If there is no room for the result.

    Notes
    -----
    Peak memory is a few megabytes, whatever the number and size of the checkpoints; files of PyTorch are mapped
    into memory, and their result is held in it. At most 64 files are open at a time.
    """
    wanted: Plan = plan  # type: ignore[assignment]
    given: list[Path] = paths  # type: ignore[assignment]
    target: Path = output  # type: ignore[assignment]
    if len(wanted.weights) != len(given):
        raise complain("merge", "plan", f"one weight per path, {len(given)}", f"{len(wanted.weights)} weights")
    _check_output(target, given)
    with open_files() as files:
        opened = [open_checkpoint(path, files, with_state=optimiser_state) for path in given]
        recorded = [checkpoint.step() for checkpoint in opened]
        order = order_of(given, recorded, wanted.steps, in_this_order)
        merger = _Merger([opened[place] for place in order.places], wanted.weights, tuple(strip_prefix), tuple(copy))
        merger.refuse_idle(optimiser_state)
        made = _told(merger, target, order)
        if not dry_run:
            check_space(target, merger.room)
            with _progress(progress, merger.work) as advance:
                merger.write(target, advance)
    for message in made.warnings:
        warnings.warn(message, stacklevel=3)
    return made


def _check_output(target: Path, paths: Sequence[Path]) -> None:
    folders = paths[0].is_dir()
    if not folders and target.suffix != paths[0].suffix:
        text = f"a path that ends in {paths[0].suffix}, like the checkpoints"
        raise complain("merge", "output", text, str(target))
    if target.resolve() in {path.resolve() for path in paths}:
        raise complain("merge", "output", "none of the checkpoints", str(target))
    if not target.parent.is_dir():
        raise complain("merge", "output", "in a directory that exists", str(target))
    if folders and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise complain("merge", "output", "a folder that is not there yet, or is empty", str(target))
    if not folders and target.is_dir():
        raise complain("merge", "output", "a file, like the checkpoints, and no folder", str(target))


# ---------------------------------------------------------------------------------------------------------------------
# The merge


@dataclass(frozen=True)
class _Merger:
    """Checkpoints in the order of their weights; the last one says what the result is like."""

    checkpoints: list[Checkpoint]
    weights: list[float]
    strip_prefix: tuple[str, ...]
    copy: tuple[str, ...]

    @property
    def last(self) -> Checkpoint:
        return self.checkpoints[-1]

    @cached_property
    def names(self) -> list[Mapping[str, str]]:
        """What the tensors are called in every checkpoint, by what they are called without prefixes."""
        return [bridged(list(checkpoint.where), self.strip_prefix) for checkpoint in self.checkpoints]

    @cached_property
    def holders(self) -> dict[str, list[tuple[Reader, str]]]:
        """By name in the last checkpoint: where every checkpoint has a tensor, and under which name."""
        first, others = self.checkpoints[0], self.checkpoints[1:]
        for names, checkpoint in zip(self.names[1:], others, strict=True):
            _check_same(first, self.names[0], checkpoint, names)
        places = list(zip(self.checkpoints, self.names, strict=True))
        return {
            name: [(checkpoint.where[names[short]], names[short]) for checkpoint, names in places]
            for short, name in self.names[-1].items()
        }

    def refuse_idle(self, optimiser_state: bool) -> None:
        """Refuse what would change nothing."""
        for prefix in self.strip_prefix:
            others = tuple(other for other in self.strip_prefix if other != prefix)
            if all(
                list(bridged(list(checkpoint.where), others)) == list(names)
                for checkpoint, names in zip(self.checkpoints, self.names, strict=True)
            ):
                name = next(iter(self.last.where), "")
                raise complain("merge", "strip_prefix", f"what names begin with, unlike {name!r}", prefix)
        if optimiser_state and not self.last.with_state:
            raise complain("merge", "optimiser_state", f"left out, for {self.last.path} has none to take", True)

    @cached_property
    def tied(self) -> dict[str, str]:
        """Names of the last checkpoint for memory that has another name, in all checkpoints."""
        shorts = {name: short for short, name in self.names[-1].items()}
        return {
            name: first
            for name, first in self.last.tied.items()
            if all(
                checkpoint.tied.get(names[shorts[name]]) == names[shorts[first]]
                for checkpoint, names in zip(self.checkpoints, self.names, strict=True)
            )
        }

    @cached_property
    def roles(self) -> dict[str, Role]:
        """What is done with every tensor of the last checkpoint."""
        holders, tensors = self.holders, self.last.tensors
        return roles_of(
            tensors,
            lambda name: averaging.are_equal(holders[name], tensors[name]),
            lambda name: averaging.numbers(holders[name], tensors[name]),
            self.copy,
        )

    @property
    def size(self) -> int:
        """Bytes of the tensors of the result."""
        return sum(tensor.size for name, tensor in self.last.tensors.items() if name not in self.tied)

    @property
    def room(self) -> int:
        """Bytes that the result takes."""
        return self.size + sum((self.last.path / name).stat().st_size for name in self.last.beside)

    @property
    def work(self) -> int:
        """Bytes that are read."""
        return sum(
            tensor.size * (len(self.checkpoints) if self.roles[name].is_averaged else 1)
            for name, tensor in self.last.tensors.items()
            if name not in self.tied
        )

    def write(self, target: Path, advance: Callable[[int], Any]) -> None:
        """The result, whole or not at all."""
        parts = self.last.parts
        if not self.last.path.is_dir():
            (reader,) = parts.values()
            with appearing_file(target) as file, reader.write(file) as writer:
                self._write_tensors(reader, writer, advance)
            return
        with appearing_folder(target, len(parts)) as folder:
            for name, reader in parts.items():
                with folder.file(name) as file, reader.write(file) as writer:
                    self._write_tensors(reader, writer, advance)
            folder.appear({name: self.last.path / name for name in self.last.beside})

    def _write_tensors(self, reader: Reader, writer: Writer, advance: Callable[[int], Any]) -> None:
        for name, tensor in reader.tensors.items():
            if name in self.tied:
                continue
            with writer.tensor(name) as sink:
                for block in self._blocks(name, tensor, advance):
                    sink.write(block.data)

    def _blocks(self, name: str, tensor: Tensor, advance: Callable[[int], Any]) -> Iterator[NDArray[np.uint8]]:
        holders = self.holders[name]
        if self.roles[name].is_averaged:
            streams = averaging.sources(holders, tensor)
            variance = statistics_of(self.last.tensors).get(name, False)
            yield from averaging.averaged(streams, tensor, self.weights, advance, nonnegative=variance)
        else:
            for block in averaging.copied(averaging.Source(*holders[-1], tensor), tensor):
                advance(block.size)
                yield block


def _check_same(first: Checkpoint, names: Mapping[str, str], other: Checkpoint, others: Mapping[str, str]) -> None:
    """Whether a checkpoint has the tensors of the first."""
    missing, extra = sorted(names.keys() - others.keys()), sorted(others.keys() - names.keys())
    if missing or extra:
        what = f"lacks tensor {missing[0]!r}" if missing else f"has one tensor more, {extra[0]!r}"
        prefix = suggested_prefix(list(names), list(others))
        way_out = f"; the names agree with strip_prefix {prefix!r} (--strip-prefix)" if prefix else ""
        raise DamagedFile(other.path, f"{what}, compared with {first.path}{way_out}")
    for short, name in names.items():
        tensor, compared = first.tensors[name], other.tensors[others[short]]
        if not tensor.agrees(compared):
            raise DamagedFile(other.path, f"tensor {name!r} is {compared} where {first.path} has {tensor}")


# ---------------------------------------------------------------------------------------------------------------------
# What is said


def _told(merger: _Merger, target: Path, order: Order) -> Merged:
    roles = merger.roles
    averaged = tuple(name for name, role in roles.items() if role.is_averaged)
    return Merged(
        target,
        averaged,
        tuple(name for name in roles if name not in set(averaged)),
        tuple(_careful(merger)),
        tuple(checkpoint.path for checkpoint in merger.checkpoints),
        tuple(order.steps or ()),
        (order.note,) if order.note else (),
        roles,
        tuple(merger.last.left_out),
        merger.size,
    )


def _careful(merger: _Merger) -> Iterator[str]:
    for name, tensor in merger.last.tensors.items():
        equal = merger.roles[name] is Role.EQUAL and tensor.type.is_floating
        if equal and averaging.has_nan(merger.holders[name][-1], tensor):
            yield f"{name!r} holds NaN in all checkpoints"
    statistics = list(statistics_of(merger.last.tensors))
    if statistics:
        more = f" and {len(statistics) - _LISTED} more" if len(statistics) > _LISTED else ""
        yield (
            f"{', '.join(map(repr, statistics[:_LISTED]))}{more} look like statistics of batch normalisation: measure "
            "them anew with the merged weights, by a pass over training data, before the model is used"
        )


@contextmanager
def _progress(show: bool, total: int) -> Iterator[Callable[[int], Any]]:
    """Counts bytes; shows nothing unless asked to."""
    if not show:
        yield lambda count: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, desc="merging") as bar:
        yield partial(bar.update)
