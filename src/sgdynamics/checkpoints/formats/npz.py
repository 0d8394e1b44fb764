"""``.npz``: a zip archive of ``.npy`` files."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.open_files import File
from sgdynamics.checkpoints.order import Recorded
from sgdynamics.checkpoints.tensors import STEP_NAMES, Tensor, read_into

# a damaged archive fails in the zip layer, in the decompressor, or in the header of an array
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    ValueError,
)


class _Stored(io.RawIOBase):
    """An uncompressed member of an archive, straight from the file: ``zipfile`` would copy every byte three times."""

    def __init__(self, file: File, member: zipfile.ZipInfo) -> None:
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
        count = self._file.readinto(view)
        self._checksum = zlib.crc32(view[:count], self._checksum)
        self._position += count
        return count


class NpzFile:
    """A file for reading, and its like for writing."""

    tied: Mapping[str, str] = MappingProxyType({})
    with_state: bool = False
    left_out: tuple[str, ...] = ()

    def __init__(self, file: File) -> None:
        self.path: Path = file.path
        self._file = file
        self._versions: dict[str, tuple[int, int]] = {}
        self._compression: dict[str, int] = {}
        tensors: dict[str, Tensor] = {}
        self.tensors: Mapping[str, Tensor] = tensors
        try:
            self._archive = zipfile.ZipFile(file)
            members = self._archive.infolist()
            if len({member.filename for member in members}) != len(members):
                raise ValueError("the archive names something twice")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    raise ValueError(f"member {member.filename!r} is no .npy file")
                if name.startswith("/") or ".." in name.split("/"):  # nor would it be in what is written
                    raise ValueError(f"member {member.filename!r} leads out of the archive")
                with self._archive.open(member) as stream:
                    version, tensor = _header(stream)
                    if member.file_size - stream.tell() != tensor.size:
                        raise ValueError(f"tensor {name!r}, {tensor}, does not fill its {member.file_size} bytes")
                tensors[name], self._versions[name] = tensor, version
                self._compression[name] = member.compress_type
        except DamagedFile:
            raise
        except _UNREADABLE as error:
            raise DamagedFile(file.path, f"is no npz archive that can be read, {error}") from None

    def stream(self, name: str) -> Any:
        """The bytes of a tensor."""
        member = self._archive.getinfo(f"{name}.npy")
        try:
            stored = member.compress_type == zipfile.ZIP_STORED
            stream: Any = _Stored(self._file, member) if stored else self._archive.open(member)
            _header(stream)
        except DamagedFile:
            raise
        except _UNREADABLE as error:
            raise DamagedFile(self.path, f"tensor {name!r} cannot be read, {error}") from None
        return stream

    def finish(self, name: str, stream: Any) -> None:
        """The archive compares its checksum at the end."""
        try:
            stream.read(1)
        except DamagedFile:
            raise
        except _UNREADABLE as error:
            raise DamagedFile(self.path, f"tensor {name!r} cannot be read, {error}") from None

    def step(self) -> Recorded | None:
        """A whole number of that name."""
        for name in STEP_NAMES:
            tensor = self.tensors.get(name)
            if tensor is not None and tensor.count == 1 and tensor.type.is_whole:
                buffer = np.empty(tensor.size, np.uint8)
                read_into(self, name, self.stream(name), buffer)
                return Recorded(int(buffer.view(tensor.type.stored)[0]), certain=False)
        return None

    @contextmanager
    def write(self, file: IO[bytes]) -> Iterator[_Writer]:
        """Members of the same names, types and compression."""
        with zipfile.ZipFile(file, "w") as archive:
            yield _Writer(archive, self.tensors, self._versions, self._compression)


def _header(stream: Any) -> tuple[tuple[int, int], Tensor]:
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


class _Writer:
    def __init__(
        self,
        archive: zipfile.ZipFile,
        tensors: Mapping[str, Tensor],
        versions: dict[str, tuple[int, int]],
        compression: dict[str, int],
    ) -> None:
        self._archive, self._tensors = archive, tensors
        self._versions, self._compression = versions, compression

    @contextmanager
    def tensor(self, name: str) -> Iterator[IO[bytes]]:
        """Where the bytes of a tensor go."""
        tensor = self._tensors[name]
        member = zipfile.ZipInfo(f"{name}.npy")
        member.compress_type = self._compression[name]
        header = {"descr": tensor.kind, "fortran_order": tensor.column_major, "shape": tensor.shape}
        with self._archive.open(member, "w", force_zip64=tensor.size > 2**31) as stream:
            if self._versions[name] == (1, 0):
                np.lib.format.write_array_header_1_0(stream, header)
            else:
                np.lib.format.write_array_header_2_0(stream, header)
            yield stream
