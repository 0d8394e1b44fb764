"""``.pt``, ``.pth``, ``.bin`` and ``.ckpt`` of PyTorch: a state dict, or one among other things.

PyTorch reads and writes them, with ``weights_only=True``: never is anything else unpickled. Files of its present
format are mapped into memory; those of before 1.6 are read whole. The tensors of the result are held in memory until
they are saved.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.open_files import File
from sgdynamics.checkpoints.order import Recorded
from sgdynamics.checkpoints.tensors import STEP_NAMES, ArrayStream, Tensor

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

# Under what a state dict is found among other things, in this order.
_NESTED = ("model", "state_dict", "module", "model_state_dict", "net")
# What programs call the state of an optimiser.
_STATE = re.compile(r"optim|sched|scaler|rng|callback|loop|hook|ema", re.IGNORECASE)
_STEPS = (*STEP_NAMES, "iteration", "iter")
_KINDS = {
    "bool": "|b1",
    "uint8": "|u1",
    "int8": "|i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "float16": "<f2",
    "bfloat16": "BF16",
    "float32": "<f4",
    "float64": "<f8",
    "complex64": "<c8",
    "complex128": "<c16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}


class TorchFile:
    """A file for reading, and its like for writing."""

    def __init__(self, file: File, with_state: bool) -> None:
        self.path: Path = file.path
        content = _loaded(file)
        self._content, self._torch = content, _torch(file)
        self._key, self._weights, others, state = _divided(file, content)
        self._beside = {name: entry for name, entry in others.items() if with_state or name not in state}
        self.with_state: bool = with_state and bool(state)
        self.left_out: tuple[str, ...] = tuple(str(name) for name in others if name not in self._beside)
        self._found: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        tied: dict[str, str] = {}
        seen: dict[Any, str] = {}
        for keys, tensor in _leaves(self._weights):
            name = ".".join(map(str, keys))
            if name in self._found:
                raise DamagedFile(file.path, f"names tensor {name!r} twice")
            kind = _KINDS.get(str(tensor.dtype).removeprefix("torch."))
            if kind is None or str(tensor.layout) != "torch.strided" or tensor.is_quantized:
                raise DamagedFile(file.path, f"tensor {name!r} of type {tensor.dtype} cannot be averaged")
            place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
            if tensor.numel() and place in seen:
                tied[name] = seen[place]
            seen.setdefault(place, name)
            self._found[name], tensors[name] = tensor, Tensor(kind, tuple(tensor.shape))
        self.tensors: Mapping[str, Tensor] = tensors
        self.tied: Mapping[str, str] = tied

    def _bytes(self, name: str) -> NDArray[np.uint8]:
        flat = self._found[name].detach().contiguous().reshape(-1)
        values: NDArray[np.uint8] = flat.view(self._torch.uint8).numpy()
        return values

    def stream(self, name: str) -> ArrayStream:
        """The bytes of a tensor."""
        return ArrayStream(self._bytes(name))

    def finish(self, name: str, stream: ArrayStream) -> None:
        """PyTorch does not look at the checksums of what it maps; neither do we."""

    def step(self) -> Recorded | None:
        """Beside the state dict."""
        return next((Recorded(self._content[n]) for n in _STEPS if type(self._content.get(n)) is int), None)

    @contextmanager
    def write(self, file: IO[bytes]) -> Iterator[_Writer]:
        """The same names and nesting."""
        writer = _Writer(self._torch, self._found)
        yield writer
        for name, first in self.tied.items():
            writer.made.setdefault(name, writer.made[first])
        weights = _replaced(self._weights, (), writer.made)
        made = {**weights, **self._beside} if self._key is None else {self._key: weights, **self._beside}
        self._torch.save(made, file)


def _torch(file: File) -> Any:
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"merge: {file.path.suffix} files are read with PyTorch, which is not there: pip install "
            f"'sgdynamics[torch]', or save .safetensors; got {file.path}"
        ) from None
    return torch


def _loaded(file: File) -> Any:
    import pickle

    torch = _torch(file)
    try:
        mapped = zipfile.is_zipfile(file)
        return torch.load(file.path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except DamagedFile:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        what = f"holds {found[1]}, which is no tensor" if found else "holds more than tensors, or is damaged"
        raise DamagedFile(file.path, f"{what}: only weights are read; save the state dict alone") from None
    except Exception as error:  # whatever PyTorch makes of a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedFile(file.path, f"cannot be read by PyTorch, {reason}") from None


def _leaves(entry: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Tensors of nested mappings and lists, with the keys that lead there."""
    if hasattr(entry, "untyped_storage"):
        yield keys, entry
    elif isinstance(entry, Mapping):
        for key, value in entry.items():
            yield from _leaves(value, (*keys, key))
    elif isinstance(entry, list | tuple):
        for place, value in enumerate(entry):
            yield from _leaves(value, (*keys, place))


def _divided(file: File, content: Any) -> tuple[str | None, Any, dict[Any, Any], set[Any]]:
    """The state dict with its name, None if it is all there is; what stands beside it; what of that is state.

    Numbers and texts are no state, but optimisers, schedulers and weights of other kinds are.
    """
    if not isinstance(content, Mapping):
        raise DamagedFile(file.path, f"holds no state dict but a {type(content).__name__}")
    for key in _NESTED:
        if isinstance(content.get(key), Mapping) and any(_leaves(content[key])):
            others = {name: entry for name, entry in content.items() if name != key}
            state = {name for name, entry in others.items() if _STATE.search(str(name)) or any(_leaves(entry))}
            return key, content[key], others, state
    if not any(hasattr(value, "untyped_storage") for value in content.values()):
        names = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise DamagedFile(file.path, f"holds no state dict, nor one under {', '.join(_NESTED)}: it has {names}")
    others = {name: entry for name, entry in content.items() if isinstance(entry, Mapping) and _STATE.search(str(name))}
    return None, {name: entry for name, entry in content.items() if name not in others}, others, set(others)


def _replaced(entry: Any, keys: tuple[Any, ...], made: Mapping[str, Any]) -> Any:
    """The same nesting with other tensors."""
    if hasattr(entry, "untyped_storage"):
        return made[".".join(map(str, keys))]
    if isinstance(entry, dict):
        return type(entry)((key, _replaced(value, (*keys, key), made)) for key, value in entry.items())
    if isinstance(entry, list | tuple):
        return type(entry)(_replaced(value, (*keys, place), made) for place, value in enumerate(entry))
    return entry


class _Sink:
    def __init__(self, values: NDArray[np.uint8]) -> None:
        self._values, self._position = values, 0

    def write(self, part: Any) -> int:
        piece = np.frombuffer(part, np.uint8)
        self._values[self._position : self._position + piece.size] = piece
        self._position += piece.size
        return piece.size


class _Writer:
    def __init__(self, torch: Any, like: Mapping[str, Any]) -> None:
        self._torch, self._like = torch, like
        self.made: dict[str, Any] = {}

    @contextmanager
    def tensor(self, name: str) -> Iterator[_Sink]:
        """Where the bytes of a tensor go."""
        like = self._like[name]
        made = self._torch.empty(like.shape, dtype=like.dtype)
        yield _Sink(made.reshape(-1).view(self._torch.uint8).numpy())
        self.made[name] = made.requires_grad_(like.requires_grad) if like.requires_grad else made
