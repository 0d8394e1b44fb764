"""What a file of tensors can tell and give: names, types, shapes, and bytes as streams.

Nothing is held in memory. Whatever is wrong with a file is a :class:`~sgdynamics.checkpoints.DamagedFile` that names
it.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.number_types import NumberType, number_type
from sgdynamics.checkpoints.order import Recorded

# What files call their step.
STEP_NAMES = ("global_step", "step")


@dataclass(frozen=True)
class Tensor:
    """What a file says about one tensor; two tensors may be averaged when kind and shape agree."""

    kind: str
    shape: tuple[int, ...]
    column_major: bool = False

    @property
    def type(self) -> NumberType:
        """Of its numbers."""
        return number_type(self.kind)

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.count * self.type.stored.itemsize

    def agrees(self, other: Tensor) -> bool:
        """Whether it has the same numbers of the same type."""
        return (self.kind, self.shape) == (other.kind, other.shape)

    def __str__(self) -> str:
        return f"{self.kind} of shape {self.shape}"


class Reader(Protocol):
    """A file that was opened; its tensors in the order in which they are written."""

    path: Path
    tensors: Mapping[str, Tensor]
    tied: Mapping[str, str]  # a tensor that is the same memory as one before it
    with_state: bool  # whether the state of an optimiser is taken along
    left_out: tuple[str, ...]  # what it holds beside weights, that is not merged

    def stream(self, name: str) -> Any:
        """The bytes of a tensor, by ``readinto``; the stream of the tensor before may no longer be used."""
        ...

    def finish(self, name: str, stream: Any) -> None:
        """Check, after its last byte, that a tensor was what was written."""
        ...

    def step(self) -> Recorded | None:
        """The step that the file says it is of, if it does."""
        ...

    def write(self, file: IO[bytes]) -> AbstractContextManager[Writer]:
        """A file of the same tensors, which are to be written in their order; whole when the block ends well."""
        ...


class Writer(Protocol):
    """A file that is written."""

    def tensor(self, name: str) -> AbstractContextManager[Any]:
        """Where the bytes of the next tensor go, by ``write``."""
        ...


class ArrayStream(io.RawIOBase):
    """The bytes of an array that is in memory, or mapped into it."""

    def __init__(self, values: NDArray[np.uint8]) -> None:
        super().__init__()
        self._values, self._position = values, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something."""
        part = self._values[self._position : self._position + len(buffer)]
        np.frombuffer(buffer, np.uint8)[: part.size] = part
        self._position += part.size
        return part.size


def read_into(reader: Reader, name: str, stream: Any, buffer: NDArray[np.uint8]) -> None:
    """Fill the buffer from the stream of a tensor."""
    view = buffer.data
    got = 0
    try:
        while got < len(view):
            count = stream.readinto(view[got:])
            if not count:
                raise DamagedFile(reader.path, f"ends in the middle of tensor {name!r}")
            got += count
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DamagedFile(reader.path, f"tensor {name!r} cannot be read, {error}") from None


def turned(reader: Reader, name: str) -> ArrayStream:
    """The bytes of a tensor by rows where it is stored by columns, or the other way round; all of it is in memory."""
    tensor = reader.tensors[name]
    values = np.empty(tensor.size, np.uint8)
    stream = reader.stream(name)
    read_into(reader, name, stream, values)
    reader.finish(name, stream)
    array: NDArray[Any] = values.view(tensor.type.stored).reshape(
        tensor.shape, order="F" if tensor.column_major else "C"
    )
    return ArrayStream(array.ravel(order="C" if tensor.column_major else "F").view(np.uint8))
