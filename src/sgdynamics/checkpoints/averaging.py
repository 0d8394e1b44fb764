"""Weighted sums of streams of numbers, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.number_types import NumberType
from sgdynamics.checkpoints.tensors import Reader, Tensor, read_into, turned

# Bytes of one tensor of one checkpoint in memory at a time: their sums in float64 stay in the cache.
BLOCK = 2**18
# Bytes that are compared first: tensors that differ do so at once.
FIRST = 2**12

Bytes = NDArray[np.uint8]


class Source:
    """One tensor of one checkpoint, whose bytes come in the order of the tensor that is written."""

    def __init__(self, reader: Reader, name: str, like: Tensor) -> None:
        self.reader: Reader = reader
        self.name: str = name
        own = reader.tensors[name]
        self._turned = own.column_major != like.column_major and len(like.shape) > 1
        self._stream: Any = turned(reader, name) if self._turned else reader.stream(name)

    def read(self, buffer: Bytes) -> None:
        """The next bytes."""
        read_into(self.reader, self.name, self._stream, buffer)

    def finish(self) -> None:
        """After the last."""
        if not self._turned:
            self.reader.finish(self.name, self._stream)


def sources(readers: Sequence[tuple[Reader, str]], like: Tensor) -> list[Source]:
    """One tensor of all checkpoints."""
    return [Source(reader, name, like) for reader, name in readers]


def are_equal(readers: Sequence[tuple[Reader, str]], like: Tensor) -> bool:
    """Whether a tensor has the same bytes everywhere."""
    streams = sources(readers, like)
    done, block = 0, FIRST
    while done < like.size:
        first, other = (np.empty(min(block, like.size - done), np.uint8) for _ in range(2))
        streams[0].read(first)
        for stream in streams[1:]:
            stream.read(other)
            if not np.array_equal(first, other):
                return False
        done, block = done + first.size, BLOCK
    for stream in streams:
        stream.finish()
    return True


def numbers(readers: Sequence[tuple[Reader, str]], like: Tensor) -> list[NDArray[np.generic]]:
    """A small tensor of all checkpoints."""
    values = []
    for stream in sources(readers, like):
        buffer = np.empty(like.size, np.uint8)
        stream.read(buffer)
        values.append(buffer.view(like.type.stored))
    return values


def has_nan(holder: tuple[Reader, str], tensor: Tensor) -> bool:
    """Whether a tensor of a checkpoint holds what is no number."""
    for part in copied(Source(*holder, tensor), tensor):
        values = part.view(tensor.type.stored)
        wide: NDArray[Any] = np.empty(values.size, tensor.type.sums)
        tensor.type.widen(values, wide)
        if np.isnan(wide).any():
            return True
    return False


def copied(source: Source, tensor: Tensor) -> Iterator[Bytes]:
    """The bytes as they are."""
    for begin in range(0, tensor.size, BLOCK):
        buffer = np.empty(min(BLOCK, tensor.size - begin), np.uint8)
        source.read(buffer)
        yield buffer
    source.finish()


def averaged(
    streams: Sequence[Source],
    tensor: Tensor,
    weights: Sequence[float],
    advance: Callable[[int], Any],
    *,
    nonnegative: bool = False,
) -> Iterator[Bytes]:
    r""":math:`\sum_k \alpha_k x_k` in float64, rounded once.

    Parameters
    ----------
    streams : sequence of Source
        The tensor in all checkpoints.
    tensor : Tensor
    weights : sequence of float
    advance : callable
        Told of every byte that was read.
    nonnegative : bool
        A variance, which must not fall below zero where those of the checkpoints are not below it.

    Raises
    ------
    DamagedFile
        If a checkpoint holds NaN or infinity.
    ValueError
        If the average overflows its type, or a variance falls below zero.
    """
    kind, name = tensor.type, streams[0].name
    buffer = np.empty(min(BLOCK, tensor.size), np.uint8)
    sums: NDArray[Any] = np.empty(buffer.size // kind.stored.itemsize, kind.sums)
    scratch = np.empty_like(sums)
    for begin in range(0, tensor.size, BLOCK):
        part = buffer[: min(BLOCK, tensor.size - begin)]
        values, total = part.view(kind.stored), sums[: part.size // kind.stored.itemsize]
        total[:] = 0.0
        negative = False
        with np.errstate(all="ignore"):  # what is not finite is found below
            for stream, weight in zip(streams, weights, strict=True):
                stream.read(part)
                _add(values, weight, kind, total, scratch[: total.size])
                negative = negative or (nonnegative and _has_negative(values, kind))
                advance(part.size)
            merged = kind.narrow(total)
        if not kind.are_finite(merged):
            for stream in streams:
                _check_finite(stream.reader, stream.name, tensor)
            raise ValueError(f"merge: the average of tensor {name!r} overflows its type, {tensor}")
        if nonnegative and not negative and _has_negative(merged, kind):
            raise ValueError(
                f"merge: the average of the variance {name!r} is below zero, which negative weights make it; "
                "take it from the last checkpoint by copy (--copy), and measure it anew"
            )
        yield merged.view(np.uint8)
    for stream in streams:
        stream.finish()


def _add(values: NDArray[Any], weight: float, kind: NumberType, total: NDArray[Any], scratch: NDArray[Any]) -> None:
    """Add the weighted values to the total."""
    kind.widen(values, scratch)
    scratch *= weight
    total += scratch


def _check_finite(reader: Reader, name: str, tensor: Tensor) -> None:
    for part in copied(Source(reader, name, tensor), tensor):
        if not tensor.type.are_finite(part.view(tensor.type.stored)):
            raise DamagedFile(reader.path, f"tensor {name!r} holds NaN or infinity")


def _has_negative(values: NDArray[Any], kind: NumberType) -> bool:
    wide: NDArray[Any] = np.empty(values.size, kind.sums)
    kind.widen(values, wide)
    return bool((wide.real < 0).any())
