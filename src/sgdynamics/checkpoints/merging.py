"""The weighted average of checkpoint files, tensor by tensor."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.order import order_of, recorded_step
from sgdynamics.checkpoints.tensor_files import SUFFIXES, Reader, Tensor, open_tensors, read_into, write_tensors
from sgdynamics.domains import checked, complain, flag, increasing_steps

# Bytes of one tensor of one checkpoint in memory at a time.
BLOCK = 2**24
# Entries that are summed at a time: their float64 stays in the cache.
CHUNK = 2**14

# Statistics of batch normalisation belong to the weights they were measured with.
_STATISTICS = re.compile(r"(^|[./])(running_mean|running_var|moving_mean|moving_variance|num_batches_tracked)$")

Bytes: TypeAlias = NDArray[np.uint8]


class Merged(NamedTuple):
    """What :func:`merge` made.

    Attributes
    ----------
    output : Path
        The file that was written.
    averaged : tuple of str
        Tensors that were averaged: floating point, real or complex.
    copied : tuple of str
        Tensors taken from the last checkpoint: whole numbers and flags.
    warnings : tuple of str
        What to look after before the merged model is used.
    paths : tuple of Path
        The checkpoints in the order in which they were weighed.
    steps : tuple of int
        Their steps; empty where they were not looked for or could not be told.
    notes : tuple of str
        What was assumed.
    """

    output: Path
    averaged: tuple[str, ...]
    copied: tuple[str, ...]
    warnings: tuple[str, ...]
    paths: tuple[Path, ...]
    steps: tuple[int, ...]
    notes: tuple[str, ...]


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


class _Path:
    text = f"a path that ends in {' or '.join(SUFFIXES)}"

    def check(self, owner: str, name: str, value: Any) -> Path:
        if not isinstance(value, str | os.PathLike) or isinstance(value, bytes):
            raise complain(owner, name, self.text, value, TypeError)
        path = Path(value)
        if path.suffix not in SUFFIXES:
            raise complain(owner, name, self.text, value)
        return path


class _Paths:
    text = f"a list of different paths, all ending in {' or all in '.join(SUFFIXES)}"

    def check(self, owner: str, name: str, value: Any) -> list[Path]:
        if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Sequence):
            raise complain(owner, name, self.text, value, TypeError)
        paths = [_Path().check(owner, name, item) for item in value]
        if not paths or len({path.suffix for path in paths}) > 1 or len(set(paths)) < len(paths):
            raise complain(owner, name, self.text, value)
        return paths


class Plan(NamedTuple):
    """What of a plan a merge needs: the weights, and the steps that they belong to if it says so."""

    weights: NDArray[np.float64]
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
        except (TypeError, ValueError):
            raise complain(owner, name, self.text, value, TypeError) from None
        if weights.ndim != 1 or not weights.size or not np.isfinite(weights).all():
            raise complain(owner, name, self.text, value)
        if abs(weights.sum() - 1) > 1e-9 * max(1.0, np.abs(weights).sum()):
            raise ValueError(
                f"{owner}: {name} must be {self.text}, got weights that sum to {float(weights.sum())!r}: {value!r}"
            )
        return Plan(weights, steps)

    @staticmethod
    def _steps(owner: str, name: str, value: Any) -> list[int] | None:
        if not isinstance(value, xr.DataArray) or "checkpoint" not in value.coords:
            return None
        steps: list[int] = increasing_steps.check(owner, f"{name}.checkpoint", value["checkpoint"].values).tolist()
        return steps


@checked(paths=_Paths(), plan=_PlanOrWeights(), output=_Path(), in_this_order=flag, progress=flag)
def merge(
    paths: Sequence[str | os.PathLike[str]],
    plan: xr.Dataset | xr.DataArray | ArrayLike,
    output: str | os.PathLike[str],
    *,
    in_this_order: bool = False,
    progress: bool = False,
) -> Merged:
    r"""Write the weighted average of checkpoint files.

    Every floating-point tensor is averaged in float64, in blocks, and rounded to its own type; tensors of whole
    numbers and flags are copied from the last checkpoint. Names, types, shapes and metadata are those of the last
    checkpoint. A ``BF16`` result is rounded to float32 first. Do not merge optimiser states.

    Parameters
    ----------
    paths : sequence of paths
        Checkpoint files, all ``.safetensors`` or all ``.npz``, in any order that their steps tell: by ``step`` or
        ``global_step`` among the metadata of a file (an integer of that name in an ``.npz``), in a
        ``trainer_state.json`` beside it, or by the numbers of the whole path.
    plan : Dataset, DataArray or array, shape (checkpoints,)
        The ``weight`` of every checkpoint, for instance from :func:`sgdynamics.theory.schedules.merge_plan`. Weights
        may be negative; they sum to 1. With a coordinate ``checkpoint`` every weight goes to the checkpoint of that
        step, counted from the first if the plan begins with 0; bare weights go to the paths as they stand, and are
        refused if the steps are not in order.
    output : path
        Where the result goes, of the same suffix, and none of ``paths``. It takes its name when it is whole: a run
        that fails or is killed leaves nothing under that name, and an older file stays as it was.
    in_this_order : bool
        Take the paths as they stand, whatever their steps.
    progress : bool
        Show how far it is.

    Returns
    -------
    Merged
        NamedTuple of ``output``, the names that were ``averaged`` and ``copied``, ``warnings``, the ``paths`` as they
        were weighed with their ``steps``, and ``notes``.

    Warns
    -----
    UserWarning
        For statistics of batch normalisation: they have to be measured anew with the merged weights.

    Raises
    ------
    DamagedFile
        A ValueError that names the file: one that cannot be read, is cut, holds other tensors than the first, or holds
        NaN or infinity.
    ValueError, TypeError
        If an argument is outside its range, or the steps of the checkpoints are not those of the plan or cannot be
        told.

    Notes
    -----
    Peak memory is a few blocks of 16 MB, whatever the number and size of the checkpoints.
    """
    files: list[Path] = paths  # type: ignore[assignment]
    wanted: Plan = plan  # type: ignore[assignment]
    weights, planned = wanted
    target: Path = output  # type: ignore[assignment]
    if weights.size != len(files):
        raise complain("merge", "plan", f"one weight per path, {len(files)}", f"{weights.size} weights")
    if target.suffix != files[0].suffix:
        raise complain("merge", "output", f"a path that ends in {files[0].suffix}, like the checkpoints", str(target))
    if target.resolve() in {file.resolve() for file in files}:
        raise complain("merge", "output", "none of the checkpoints", str(target))
    if not target.parent.is_dir():
        raise complain("merge", "output", "in a directory that exists", str(target))
    with ExitStack() as stack:
        readers = [stack.enter_context(open_tensors(file)) for file in files]
        recorded = [reader.step() for reader in readers]
        recorded = [
            recorded_step(file.parent) if step is None else step for file, step in zip(files, recorded, strict=True)
        ]
        order = order_of(files, recorded, planned, in_this_order)
        readers = [readers[place] for place in order.places]
        for reader in readers[1:]:
            _same_tensors(readers[0], reader)
        last = readers[-1]
        messages = _warnings(list(last.tensors))
        size = sum(tensor.size * (len(files) if tensor.is_floating else 1) for tensor in last.tensors.values())
        advance = stack.enter_context(_Progress(progress, size))
        writer = stack.enter_context(write_tensors(target, last))
        for name, tensor in last.tensors.items():
            chosen = readers if tensor.is_floating else [last]
            streams = [reader.stream(name) for reader in chosen]
            with writer.tensor(name) as sink:
                if tensor.is_floating:
                    _average(name, tensor, chosen, streams, weights, sink, advance)
                else:
                    _copy(name, tensor, last, streams[0], sink, advance)
    for message in messages:
        warnings.warn(message, stacklevel=3)
    averaged = tuple(name for name, tensor in last.tensors.items() if tensor.is_floating)
    copied = tuple(name for name, tensor in last.tensors.items() if not tensor.is_floating)
    return Merged(
        target,
        averaged,
        copied,
        messages,
        tuple(reader.path for reader in readers),
        tuple(order.steps or ()),
        (order.note,) if order.note else (),
    )


def _same_tensors(first: Reader, other: Reader) -> None:
    missing = sorted(first.tensors.keys() - other.tensors.keys())
    extra = sorted(other.tensors.keys() - first.tensors.keys())
    if missing or extra:
        what = f"lacks tensor {missing[0]!r}" if missing else f"has one tensor more, {extra[0]!r}"
        raise DamagedFile(other.path, f"{what}, compared with {first.path}")
    for name, tensor in first.tensors.items():
        if other.tensors[name] != tensor:
            raise DamagedFile(other.path, f"tensor {name!r} is {other.tensors[name]} where {first.path} has {tensor}")


def _warnings(names: list[str]) -> tuple[str, ...]:
    statistics = [name for name in names if _STATISTICS.search(name)]
    if not statistics:
        return ()
    return (
        f"{statistics[0]!r} and {len(statistics) - 1} more look like statistics of batch normalisation: measure them "
        "anew with the merged weights, by a pass over training data, before the model is used",
    )


class _Progress:
    """Counts bytes; shows nothing unless asked to."""

    def __init__(self, show: bool, total: int) -> None:
        self._bar: Any = None
        if show:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="B", unit_scale=True, desc="merging")

    def __enter__(self) -> Any:
        return self._bar.update if self._bar is not None else (lambda count: None)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


# ---------------------------------------------------------------------------------------------------------------------
# Bytes


def _copy(name: str, tensor: Tensor, reader: Reader, stream: IO[bytes], sink: IO[bytes], advance: Any) -> None:
    buffer = np.empty(min(BLOCK, tensor.size), np.uint8)
    for begin in range(0, tensor.size, BLOCK):
        part = buffer[: min(BLOCK, tensor.size - begin)]
        read_into(reader, name, stream, part)
        sink.write(part.data)
        advance(part.size)
    reader.finish(name, stream)


def _average(
    name: str,
    tensor: Tensor,
    readers: Sequence[Reader],
    streams: Sequence[IO[bytes]],
    weights: NDArray[np.float64],
    sink: IO[bytes],
    advance: Any,
) -> None:
    buffer = np.empty(min(BLOCK, tensor.size), np.uint8)
    wide = np.complex128 if tensor.kind != "BF16" and tensor.stored.kind == "c" else np.float64
    sums = np.empty(buffer.size // tensor.stored.itemsize, wide)
    for begin in range(0, tensor.size, BLOCK):
        part = buffer[: min(BLOCK, tensor.size - begin)]
        total = sums[: part.size // tensor.stored.itemsize]
        total[:] = 0.0
        with np.errstate(all="ignore"):  # what is not finite is found below
            for reader, stream, weight in zip(readers, streams, weights.tolist(), strict=True):
                read_into(reader, name, stream, part)
                if not _add(total, weight, part, tensor):
                    raise DamagedFile(reader.path, f"tensor {name!r} holds NaN or infinity")
                advance(part.size)
            merged = _narrowed(total, tensor)
        if not np.isfinite(_widened(merged) if tensor.kind == "BF16" else merged).all():
            raise ValueError(f"merge: the average of tensor {name!r} overflows its type, {tensor}")
        sink.write(merged.view(np.uint8).data)
    for reader, stream in zip(readers, streams, strict=True):
        reader.finish(name, stream)


def _add(total: NDArray[Any], weight: float, part: Bytes, tensor: Tensor) -> bool:
    """Add the weighted part to the total; whether all of it was finite."""
    values = part.view(tensor.stored)
    scratch = np.empty(CHUNK, total.dtype)
    finite = True
    for begin in range(0, values.size, CHUNK):
        chunk, into = values[begin : begin + CHUNK], total[begin : begin + CHUNK]
        wide = scratch[: chunk.size]
        wide[:] = _widened(chunk) if tensor.kind == "BF16" else chunk
        finite = finite and bool(np.isfinite(wide).all())
        wide *= weight
        into += wide
    return finite


def _widened(brain: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Brain floats as float32: they are its upper half."""
    return (brain.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _narrowed(total: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The sums in the stored type, rounded to nearest."""
    if tensor.kind != "BF16":
        return total.astype(tensor.stored)
    bits = total.astype(np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
