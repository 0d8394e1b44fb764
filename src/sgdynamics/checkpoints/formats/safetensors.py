"""``.safetensors`` (https://huggingface.co/docs/safetensors).

A little-endian 64-bit length, a JSON header of that length with type, shape and byte range of every tensor, and the
bytes, without holes.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.open_files import File
from sgdynamics.checkpoints.order import Recorded
from sgdynamics.checkpoints.tensors import STEP_NAMES, Tensor

_KINDS = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "BF16",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
    "F8_E4M3": "F8_E4M3",
    "F8_E5M2": "F8_E5M2",
    "F8_E4M3FNUZ": "F8_E4M3FNUZ",
    "F8_E5M2FNUZ": "F8_E5M2FNUZ",
    "F8_E8M0": "|u1",  # powers of two, which no average keeps
}
_LONGEST_HEADER = 100_000_000  # the format's own limit


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each name once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the header names something twice")
    return found


class SafetensorsFile:
    """A file for reading, and its like for writing."""

    tied: Mapping[str, str] = MappingProxyType({})
    with_state: bool = False
    left_out: tuple[str, ...] = ()

    def __init__(self, file: File) -> None:
        path, size = file.path, file.size
        self.path: Path = path
        self._file = file
        if size < 8:
            raise DamagedFile(path, f"is no safetensors file: it has {size} bytes")
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LONGEST_HEADER, size - 8):
            raise DamagedFile(path, f"says that its header has {length} bytes, which is more than it holds")
        self._header = file.read(length)
        try:
            entries = json.loads(self._header.decode("utf-8"), object_pairs_hook=unique_names)
            if not isinstance(entries, dict) or not self._header.startswith(b"{"):
                raise ValueError("the header is no JSON object")
            metadata = entries.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
                raise ValueError("the metadata are no texts by name")
            self._metadata = metadata
            ranges = {name: _entry(name, entry) for name, entry in entries.items()}
        except (ValueError, RecursionError) as error:
            raise DamagedFile(path, f"has a header that cannot be read, {error}") from None
        ordered = sorted(ranges.items(), key=lambda item: item[1][1:])
        self._begin: dict[str, int] = {}
        position = 0
        for name, (_, begin, end) in ordered:
            if begin != position:
                raise DamagedFile(path, f"has a hole or an overlap before tensor {name!r}")
            self._begin[name], position = 8 + length + begin, end
        if 8 + length + position != size:
            raise DamagedFile(path, f"has {size} bytes where its header promises {8 + length + position}")
        self.tensors: Mapping[str, Tensor] = {name: tensor for name, (tensor, _, _) in ordered}

    def stream(self, name: str) -> File:
        """The bytes of a tensor."""
        self._file.seek(self._begin[name])
        return self._file

    def finish(self, name: str, stream: File) -> None:
        """The format has no checksums."""

    def step(self) -> Recorded | None:
        """Among the metadata."""
        texts = [self._metadata[name] for name in STEP_NAMES if name in self._metadata]
        return Recorded(int(texts[0])) if texts and re.fullmatch(r"\d{1,18}", texts[0]) else None

    @contextmanager
    def write(self, file: IO[bytes]) -> Iterator[_Writer]:
        """The same header: names, types, shapes, metadata."""
        file.write(struct.pack("<Q", len(self._header)))
        file.write(self._header)
        yield _Writer(file)


def _entry(name: str, entry: Any) -> tuple[Tensor, int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} needs dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"tensor {name!r} has a shape or offsets that are no whole numbers")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _KINDS:
        raise ValueError(f"tensor {name!r} is of type {entry['dtype']!r}, not one of {', '.join(_KINDS)}")
    tensor = Tensor(_KINDS[entry["dtype"]], tuple(shape))
    if len(offsets) != 2 or offsets[1] - offsets[0] != tensor.size:
        raise ValueError(f"tensor {name!r}, {tensor}, does not fit its offsets {offsets}")
    return tensor, offsets[0], offsets[1]


class _Writer:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @contextmanager
    def tensor(self, name: str) -> Iterator[IO[bytes]]:
        """In the order of the header."""
        yield self._file
