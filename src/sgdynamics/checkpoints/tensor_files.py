"""Files of named tensors, read and written as streams of bytes: ``.safetensors`` and ``.npz``.

A reader lists what the file holds and opens one tensor at a time; nothing is held in memory. Whatever is wrong with a
file is a :class:`~sgdynamics.checkpoints.DamagedFile` that names it.

Notes
-----
``.safetensors`` (https://huggingface.co/docs/safetensors): a little-endian 64-bit length, a JSON header of that length
with type, shape and byte range of every tensor, and the bytes, without holes. ``.npz``: a zip archive of ``.npy``
files. The bytes of a 16-bit brain float (``BF16``) are the upper half of a float32; NumPy has no such type, so that its
bytes are handed out as ``uint16`` under that name.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.order import Recorded

__all__ = ["SUFFIXES", "Reader", "Tensor", "open_tensors", "read_into", "write_tensors"]


@dataclass(frozen=True)
class Tensor:
    """What a file says about one tensor; two tensors may be averaged when these agree."""

    kind: str  # "BF16", or a NumPy type string with its byte order
    shape: tuple[int, ...]
    column_major: bool = False

    @property
    def stored(self) -> np.dtype[Any]:
        """The NumPy type of the stored bytes."""
        return np.dtype("<u2" if self.kind == "BF16" else self.kind)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * self.stored.itemsize

    @property
    def is_floating(self) -> bool:
        """Whether it can be averaged: real or complex floating point."""
        return self.kind == "BF16" or self.stored.kind in "fc"

    def __str__(self) -> str:
        return f"{self.kind} of shape {self.shape}"


class Reader(Protocol):
    """An open file."""

    path: Path
    tensors: dict[str, Tensor]

    def stream(self, name: str) -> IO[bytes]:
        """The bytes of a tensor; the stream of the tensor before may no longer be used."""
        ...

    def finish(self, name: str, stream: IO[bytes]) -> None:
        """Check, after its last byte, that a tensor was what was written."""
        ...

    def step(self) -> Recorded | None:
        """The step that the file says it is of, if it does."""
        ...


# What files call their step.
STEP_NAMES = ("global_step", "step")


def read_into(reader: Reader, name: str, stream: IO[bytes], buffer: NDArray[np.uint8]) -> None:
    """Fill the buffer from the stream of a tensor."""
    view = buffer.data
    got = 0
    try:
        while got < len(view):
            count = stream.readinto(view[got:])  # type: ignore[attr-defined]
            if not count:
                raise DamagedFile(reader.path, f"ends in the middle of tensor {name!r}")
            got += count
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DamagedFile(reader.path, f"tensor {name!r} cannot be read, {error}") from None


# ---------------------------------------------------------------------------------------------------------------------
# safetensors

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
}
_LONGEST_HEADER = 100_000_000  # the format's own limit


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the header names something twice")
    return found


class _Safetensors:
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise DamagedFile(path, f"is no safetensors file: it has {size} bytes")
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LONGEST_HEADER, size - 8):
            raise DamagedFile(path, f"says that its header has {length} bytes, which is more than it holds")
        self.header = file.read(length)
        try:
            entries = json.loads(self.header.decode("utf-8"), object_pairs_hook=_unique)
            if not isinstance(entries, dict) or not self.header.startswith(b"{"):
                raise ValueError("the header is no JSON object")
            metadata = entries.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
                raise ValueError("the metadata are no texts by name")
            self._metadata = metadata
            ranges = {name: self._entry(name, entry) for name, entry in entries.items()}
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
        self.tensors = {name: tensor for name, (tensor, _, _) in ordered}

    @staticmethod
    def _entry(name: str, entry: Any) -> tuple[Tensor, int, int]:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name!r} needs dtype, shape and data_offsets")
        shape, offsets = entry["shape"], entry["data_offsets"]
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
                raise ValueError(f"tensor {name!r} has a shape or offsets that are no whole numbers")
        if entry["dtype"] not in _KINDS:
            raise ValueError(f"tensor {name!r} is of type {entry['dtype']!r}, not one of {', '.join(_KINDS)}")
        tensor = Tensor(_KINDS[entry["dtype"]], tuple(shape))
        if len(offsets) != 2 or offsets[1] - offsets[0] != tensor.size:
            raise ValueError(f"tensor {name!r}, {tensor}, does not fit its offsets {offsets}")
        return tensor, offsets[0], offsets[1]

    def stream(self, name: str) -> IO[bytes]:
        self._file.seek(self._begin[name])
        return self._file

    def finish(self, name: str, stream: IO[bytes]) -> None:
        """The format has no checksums."""

    def step(self) -> Recorded | None:
        texts = [self._metadata[name] for name in STEP_NAMES if name in self._metadata]
        return Recorded(int(texts[0])) if texts and re.fullmatch(r"\d{1,18}", texts[0]) else None


class _SafetensorsWriter:
    """Repeats the header of another file: the same names, types, shapes and metadata."""

    def __init__(self, file: IO[bytes], like: _Safetensors) -> None:
        self._file = file
        file.write(struct.pack("<Q", len(like.header)))
        file.write(like.header)

    @contextmanager
    def tensor(self, name: str) -> Iterator[IO[bytes]]:
        """Where the bytes of the next tensor go, in the order of the file whose header this is."""
        yield self._file

    def close(self) -> None:
        """Nothing follows the last tensor."""


# ---------------------------------------------------------------------------------------------------------------------
# npz


class _Stored(io.RawIOBase):
    """An uncompressed member of an archive, straight from the file: ``zipfile`` would copy every byte three times."""

    def __init__(self, file: IO[bytes], member: zipfile.ZipInfo) -> None:
        super().__init__()
        self._file, self._member, self._position, self._checksum = file, member, 0, 0
        file.seek(member.header_offset)
        name, extra = struct.unpack("<HH", file.read(30)[26:])
        self._begin = member.header_offset + 30 + name + extra

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._member.file_size - self._position]
        if not view:
            if self._checksum != self._member.CRC:
                raise zipfile.BadZipFile("its checksum is wrong")
            return 0
        self._file.seek(self._begin + self._position)  # members share the file
        count: int = self._file.readinto(view)  # type: ignore[attr-defined]
        self._checksum = zlib.crc32(view[:count], self._checksum)
        self._position += count
        return count


class _Npz:
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        self.versions: dict[str, tuple[int, int]] = {}
        self.compression: dict[str, int] = {}
        self.tensors: dict[str, Tensor] = {}
        try:
            self._archive = zipfile.ZipFile(file)
            members = self._archive.infolist()
            if len({member.filename for member in members}) != len(members):
                raise ValueError("the archive names something twice")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    raise ValueError(f"member {member.filename!r} is no .npy file")
                with self._archive.open(member) as stream:
                    version, tensor = self._header(stream)
                    if member.file_size - stream.tell() != tensor.size:
                        raise ValueError(f"tensor {name!r}, {tensor}, does not fill its {member.file_size} bytes")
                self.tensors[name], self.versions[name] = tensor, version
                self.compression[name] = member.compress_type
        except _UNREADABLE as error:
            raise DamagedFile(path, f"is no npz archive that can be read, {error}") from None

    @staticmethod
    def _header(stream: IO[bytes]) -> tuple[tuple[int, int], Tensor]:
        """Read to the first byte of the array."""
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"an array has format version {version}, not 1.0 or 2.0")
        shape, column_major, dtype = readers[version](stream)
        if dtype.kind not in "biufc":
            raise ValueError(f"an array has type {dtype}, which is not a number")
        return version, Tensor(dtype.str, shape, column_major)

    def stream(self, name: str) -> IO[bytes]:
        member = self._archive.getinfo(f"{name}.npy")
        try:
            stored = member.compress_type == zipfile.ZIP_STORED
            stream: Any = _Stored(self._file, member) if stored else self._archive.open(member)
            self._header(stream)
        except _UNREADABLE as error:
            raise DamagedFile(self.path, f"tensor {name!r} cannot be read, {error}") from None
        return stream  # type: ignore[no-any-return]

    def finish(self, name: str, stream: IO[bytes]) -> None:
        try:
            stream.read(1)  # the archive compares its checksum at the end
        except _UNREADABLE as error:
            raise DamagedFile(self.path, f"tensor {name!r} cannot be read, {error}") from None

    def step(self) -> Recorded | None:
        for name in STEP_NAMES:
            tensor = self.tensors.get(name)
            if tensor is not None and math.prod(tensor.shape) == 1 and tensor.stored.kind in "iu":
                buffer = np.empty(tensor.size, np.uint8)
                read_into(self, name, self.stream(name), buffer)
                return Recorded(int(buffer.view(tensor.stored)[0]), certain=False)
        return None


# a damaged archive fails in the zip layer, in the decompressor, or in the header of an array
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class _NpzWriter:
    """Writes members of the same names, types and compression as another file."""

    def __init__(self, file: IO[bytes], like: _Npz) -> None:
        self._archive, self._like = zipfile.ZipFile(file, "w"), like

    @contextmanager
    def tensor(self, name: str) -> Iterator[IO[bytes]]:
        """Where the bytes of a tensor go."""
        tensor = self._like.tensors[name]
        member = zipfile.ZipInfo(f"{name}.npy")
        member.compress_type = self._like.compression[name]
        header = {"descr": tensor.kind, "fortran_order": tensor.column_major, "shape": tensor.shape}
        with self._archive.open(member, "w", force_zip64=tensor.size > 2**31) as stream:
            if self._like.versions[name] == (1, 0):
                np.lib.format.write_array_header_1_0(stream, header)
            else:
                np.lib.format.write_array_header_2_0(stream, header)
            yield stream

    def close(self) -> None:
        """Write the archive's list of members."""
        self._archive.close()


# ---------------------------------------------------------------------------------------------------------------------
# Either

_FORMATS: Mapping[str, tuple[Any, Any]] = {
    ".safetensors": (_Safetensors, _SafetensorsWriter),
    ".npz": (_Npz, _NpzWriter),
}
SUFFIXES = tuple(_FORMATS)


@contextmanager
def open_tensors(path: Path) -> Iterator[Reader]:
    """Open a file of tensors for reading.

    Parameters
    ----------
    path : Path
        With one of the suffixes in ``SUFFIXES``.

    Yields
    ------
    Reader

    Raises
    ------
    DamagedFile
        If it is not there or is not what its suffix says.
    """
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise DamagedFile(path, f"cannot be opened, {error.strerror}") from None
    with file:
        yield _FORMATS[path.suffix][0](path, file)


@contextmanager
def write_tensors(path: Path, like: Reader) -> Iterator[Any]:
    """A file of the same tensors as another one; it appears under its name, whole, when the block ends well.

    Parameters
    ----------
    path : Path
    like : Reader
        An open file of the same suffix. Its tensors are to be written in the order in which it lists them.

    Yields
    ------
    writer
        ``writer.tensor(name)`` is a context in which the bytes of the tensor are written.
    """
    with _appearing(path) as file:
        writer = _FORMATS[path.suffix][1](file, like)
        try:
            yield writer
        finally:
            writer.close()


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes its name when the block ends well; killed before that, it was never there."""
    whole = path.with_name(f".{path.name}.unfinished")
    try:
        nameless = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):  # not on this system: an unfinished file has a hidden name
        nameless = None
    try:
        with open(whole if nameless is None else nameless, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if nameless is not None:
                whole.unlink(missing_ok=True)
                descriptors = os.open("/proc/self/fd", os.O_RDONLY)
                try:
                    os.link(str(nameless), whole, src_dir_fd=descriptors, follow_symlinks=True)
                finally:
                    os.close(descriptors)
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)
