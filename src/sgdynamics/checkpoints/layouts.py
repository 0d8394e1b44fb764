"""Where the weights of a checkpoint are: one file, or a folder with one, or with shards and their index.

Of a folder that programs leave behind (``config.json``, ``model.safetensors`` or its shards, ``optimizer.pt``, ...)
the weights are merged, what describes the model is taken from the last checkpoint, and the state of the optimiser and
whatever else holds weights are left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.formats import torch
from sgdynamics.checkpoints.formats.npz import NpzFile
from sgdynamics.checkpoints.formats.safetensors import SafetensorsFile, unique_names
from sgdynamics.checkpoints.open_files import OpenFiles
from sgdynamics.checkpoints.order import Recorded, recorded_step
from sgdynamics.checkpoints.tensors import Reader, Tensor

# Of several kinds in one folder the first is taken.
SUFFIXES = (".safetensors", *torch.SUFFIXES, ".npz")

# Files that are no description of a model: weights in other formats, and indexes of them.
_WEIGHTS = (*SUFFIXES, ".h5", ".msgpack", ".onnx", ".gguf", ".pkl", ".distcp", ".index.json")
_STATE = re.compile(
    r"(bf16_|fp16_)?zero_|.*optim_states|optimi[sz]er|optim_|scheduler|scaler|rng_state|random_states|train(ing|er)_(args|state)|latest",
    re.IGNORECASE,
)
_SHARD = re.compile(r"\d+-of-\d+")
_LONGEST_INDEX = 2**28
_POINTER = b"version https://git-lfs"


@dataclass
class Checkpoint:
    """The weights of one checkpoint, wherever they are.

    Attributes
    ----------
    path : Path
        As it was given.
    parts : dict
        By file name, the files that hold them.
    where : dict
        By tensor, the file that holds it; in the order in which they are written.
    beside : list of str
        Names of files of a folder that describe the model.
    left_out : list of str
        What is there and not merged.
    """

    path: Path
    parts: dict[str, Reader]
    where: dict[str, Reader] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for reader in self.parts.values():
            for name in reader.tensors:
                if name in self.where:
                    raise DamagedFile(reader.path, f"holds tensor {name!r}, which {self.where[name].path.name} has too")
                self.where[name] = reader
            self.left_out.extend(reader.left_out)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What they are."""
        return {name: reader.tensors[name] for name, reader in self.where.items()}

    @property
    def with_state(self) -> bool:
        """Whether the state of an optimiser is taken along."""
        return any(reader.with_state for reader in self.parts.values()) or any(map(_STATE.match, self.beside))

    @property
    def tied(self) -> dict[str, str]:
        """Tensors that are the same memory as one before them."""
        return {name: first for reader in self.parts.values() for name, first in reader.tied.items()}

    def step(self) -> Recorded | None:
        """What is recorded in its files, or beside them."""
        told = [step for step in (reader.step() for reader in self.parts.values()) if step is not None]
        return told[0] if told else recorded_step(next(iter(self.parts.values())).path.parent)


def open_checkpoint(path: Path, files: OpenFiles, *, with_state: bool = False) -> Checkpoint:
    """Find the weights of a checkpoint, and see what they are.

    Parameters
    ----------
    path : Path
        A file with one of ``SUFFIXES``, or a folder.
    files : OpenFiles
        That keep it open.
    with_state : bool
        Take the state of the optimiser along.

    Returns
    -------
    Checkpoint

    Raises
    ------
    DamagedFile
        If they are not there or are not what they should be.
    """

    def opened(name: Path) -> Reader:
        file = files.file(name)
        begin = file.read(len(_POINTER))
        if begin == _POINTER:
            raise DamagedFile(name, "is a pointer of Git LFS and no weights: fetch them with git lfs pull")
        file.seek(0)
        if name.suffix == ".npz":
            return NpzFile(file)
        return SafetensorsFile(file) if name.suffix == ".safetensors" else torch.TorchFile(file, with_state)

    if not path.is_dir():
        return Checkpoint(path, {path.name: opened(path)})
    try:
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
        folders = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError as error:
        raise DamagedFile(path, f"cannot be read, {error.strerror}") from None
    index, chosen = _weights_in(path, names)
    weight_map = {} if index is None else _weight_map(path / index)
    checkpoint = Checkpoint(path, {name: opened(path / name) for name in chosen or sorted(set(weight_map.values()))})
    if index is not None:
        _check_index(path / index, weight_map, checkpoint)
    taken = {index, *checkpoint.parts}
    for name in names:
        if name in taken:
            continue
        of_state, of_weights = bool(_STATE.match(name)), name.endswith(_WEIGHTS)
        kept = with_state if of_state else not of_weights
        (checkpoint.beside if kept else checkpoint.left_out).append(name)
    checkpoint.beside.extend([] if index is None else [index])
    checkpoint.left_out.extend(f"{name}/" for name in folders)
    return checkpoint


def _weights_in(folder: Path, names: Sequence[str]) -> tuple[str | None, list[str]]:
    """The index of the shards, or the one file that is no shard."""
    for suffix in SUFFIXES:
        indexes = [name for name in names if name.endswith(f"{suffix}.index.json")]
        found = [name for name in names if name.endswith(suffix) and not _STATE.match(name)]
        shards = [name for name in found if _SHARD.search(name)]
        if len(indexes) > 1 or (not indexes and len(found) - len(shards) > 1):
            several = ", ".join((indexes or found)[:6])
            raise DamagedFile(folder, f"holds weights several times, {several}: name the files instead of the folder")
        if indexes:
            return indexes[0], []
        if len(found) > len(shards):
            return None, [name for name in found if name not in shards]
        if shards:
            raise DamagedFile(folder, f"holds shards, {', '.join(shards[:3])}, and no {suffix}.index.json of them")
    shown = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
    kinds = ", ".join(SUFFIXES)
    raise DamagedFile(folder, f"holds no weights that can be read ({kinds}); it has {shown}")


def _weight_map(path: Path) -> Mapping[str, str]:
    """Which shard has which tensor."""
    try:
        if path.stat().st_size > _LONGEST_INDEX:
            raise ValueError("it is longer than any index")
        index = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_names)
        found = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(found, dict) or not found:
            raise ValueError("it has no 'weight_map'")
        for name, shard in found.items():
            if not isinstance(shard, str) or Path(shard).name != shard or "\0" in shard or not shard.endswith(SUFFIXES):
                raise ValueError(f"tensor {name!r} is said to be in {shard!r}, which is no file beside it")
    except OSError as error:
        raise DamagedFile(path, f"cannot be read, {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"is no index of shards, {error}") from None
    return found


def _check_index(path: Path, weight_map: Mapping[str, str], checkpoint: Checkpoint) -> None:
    """The index and the shards say the same."""
    for name, shard in weight_map.items():
        if name not in checkpoint.parts[shard].tensors:
            raise DamagedFile(checkpoint.parts[shard].path, f"lacks tensor {name!r}, which {path.name} says it has")
    missing = [name for name in checkpoint.where if name not in weight_map]
    if missing:
        shard = checkpoint.where[missing[0]].path.name
        raise DamagedFile(path, f"lacks tensor {missing[0]!r} of {shard}")


def bridged(names: Iterator[str] | Sequence[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Names by what is left of them without prefixes, however often these stand there."""
    found: dict[str, str] = {}
    for name in names:
        short, before = name, None
        while short != before:
            before = short
            for prefix in prefixes:
                short = short.removeprefix(prefix)
        if short in found:
            raise ValueError(f"merge: strip_prefix must leave the names different, got {found[short]!r} and {name!r}")
        found[short] = name
    return found


def suggested_prefix(names: Sequence[str], others: Sequence[str]) -> str | None:
    """The wrapper of a model that makes the difference between two lists of names, if one does."""
    for prefix in ("module.", "_orig_mod.", "model.", "_fsdp_wrapped_module."):
        stripped = [{name.removeprefix(prefix) for name in some} for some in (names, others)]
        if stripped[0] == stripped[1]:
            return prefix
    return None
