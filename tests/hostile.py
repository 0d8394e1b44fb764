"""Files that wish harm: mutants of sound ones, and what is known to have hurt other readers.

``python tests/hostile.py --count 100000 --seed 1`` goes on for longer than the tests do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pickle
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sgdynamics import cli, logs
from sgdynamics.checkpoints import merge

Bytes = bytes
SECONDS, MEMORY = 1.0, 200e6


class Trap:
    """What leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


# ---------------------------------------------------------------------------------------------------------------------
# Any bytes


def scratched(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, put in, or doubled; numbers of four or eight bytes replaced by extreme ones."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        place = chance.randrange(len(made) + 1)
        length = chance.choice([1, 1, 2, 4, 8, 64])
        kind = chance.randrange(6)
        if kind == 0:
            made[place : place + length] = chance.randbytes(length)
        elif kind == 1:
            del made[place : place + length]
        elif kind == 2:
            made[place:place] = chance.randbytes(length)
        elif kind == 3:
            made[place:place] = made[place : place + length]
        elif kind == 4:
            extreme = chance.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1])
            width = chance.choice([4, 8])
            made[place : place + width] = (extreme % 2 ** (8 * width)).to_bytes(width, "little")
        else:
            del made[place:]
    return bytes(made)


# ---------------------------------------------------------------------------------------------------------------------
# JSON

NUMBERS = [-1, 0, 2**31, 2**63, 2**64, 10**400, -(10**19), 1e308, -0.0, float("nan"), float("inf"), True]
NAMES = ["..", "../x", "/etc/passwd", "a\0b", "x" * 70_000, "", ".", "a/../../b", "\ud800", "‮", "con", "-rf"]


def odd(chance: random.Random) -> Any:
    """A value where another was expected."""
    return chance.choice([*NUMBERS, *NAMES, None, [], {}, [[]], "1e5", [2**62, 2**62], [0, 2**63], {"a": []}])


def altered(value: Any, chance: random.Random) -> Any:
    """One place of a JSON value changed."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(list(value))
        rest = {other: entry for other, entry in value.items() if other != name}
        kind = chance.randrange(4)
        if kind == 0:
            return rest
        if kind == 1:
            return {**rest, chance.choice(NAMES): value[name]}
        return {**rest, name: altered(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        made, place = list(value), chance.randrange(len(value))
        kind = chance.randrange(5)
        if kind == 0:
            del made[place]
        elif kind == 1:
            made *= chance.choice([2, 100 if len(made) < 100 else 2])
        else:
            made[place] = altered(made[place], chance)
        return made
    return odd(chance)


def hostile_json(value: Any, chance: random.Random) -> bytes:
    """A JSON text that is not what it seems."""
    kind = chance.randrange(12)
    text = json.dumps(value)
    if kind == 0:
        depth = chance.choice([100, 10_000, 200_000])
        return b"[" * depth + b"]" * depth
    if kind == 1:
        depth = chance.choice([100, 10_000, 200_000])
        return b'{"a":' * depth + b"1" + b"}" * depth
    if kind == 2 and isinstance(value, dict) and value:  # a name twice
        name = chance.choice(list(value))
        return (text[:-1] + f", {json.dumps(name)}: {json.dumps(altered(value[name], chance))}}}").encode()
    if kind == 3:
        return text.replace("1", "1" + "0" * chance.choice([400, 5000, 100_000]), 1).encode()
    if kind == 4:
        return text.encode(chance.choice(["utf-16", "utf-32", "utf-8-sig"]))
    if kind == 5:
        return b"__import__('os').system('true')"
    if kind < 8:
        return scratched(text.encode(), chance)
    for _ in range(chance.choice([1, 1, 2, 3])):
        value = altered(value, chance)
    return json.dumps(value).encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------------------------------------------------------------
# Tensors

PATHS = ["..", "../x", "/etc/passwd", "a\0b", "", ".", "a/../../b", "C:\\x", "b", "con"]
TENSORS = {"a.weight": np.arange(12.0).reshape(3, 4), "b": np.arange(5, dtype=np.float32), "step": np.array([7])}
KINDS = {"float64": "F64", "float32": "F32", "int64": "I64"}


def safetensors_header() -> dict[str, Any]:
    """The header of a sound file."""
    header, position = {}, 0
    for name, array in TENSORS.items():
        ends = [position, position + array.nbytes]
        header[name] = {"dtype": KINDS[array.dtype.name], "shape": list(array.shape), "data_offsets": ends}
        position = ends[1]
    return {"__metadata__": {"format": "np"}, **header}


def safetensors(header: bytes, length: int | None = None) -> bytes:
    """A file with this header."""
    data = b"".join(array.tobytes() for array in TENSORS.values())
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def sound_safetensors() -> bytes:
    """As it should be."""
    return safetensors(json.dumps(safetensors_header()).encode())


def hostile_safetensors(chance: random.Random, trap: Path) -> bytes:
    """A file that is not what it seems."""
    kind = chance.randrange(6)
    header = json.dumps(safetensors_header()).encode()
    if kind == 0:
        return scratched(sound_safetensors(), chance)
    if kind == 1:
        return safetensors(
            header, chance.choice([0, 1, len(header) - 1, len(header) + 1, 10**8, 2**40, 2**63, 2**64 - 1])
        )
    if kind == 2:
        return safetensors(pickle.dumps(Trap(trap)))
    return safetensors(hostile_json(safetensors_header(), chance))


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """An array as a file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def with_header(text: str, data: bytes = b"\0" * 96, version: tuple[int, int] = (1, 0)) -> bytes:
    """An array file with this header."""
    content = text.encode("latin1", "replace")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(content) % (2**16 if version == (1, 0) else 2**32))
    return b"\x93NUMPY" + bytes(version) + length + content + data


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def sound_npz() -> bytes:
    """As it should be."""
    return archive({f"{name}.npy": npy(array) for name, array in TENSORS.items()})


def bomb(chance: random.Random) -> bytes:
    """A small file of many zeros, as much as it says or not."""
    count = chance.choice([10**8, 3 * 10**8])
    declared = chance.choice([count // 8, 1, 2**40, 2**62])
    header = with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({declared},), }}\n", b"")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name in ("loss", "a.weight")[: chance.choice([1, 2])]:
            with made.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header)
                for _ in range(count // 10**7):
                    member.write(ZEROS)
    return file.getvalue()


ZEROS = bytes(10**7)
BOMBS: list[bytes] = []


def hostile_npz(chance: random.Random, trap: Path) -> bytes:
    """An archive that is not what it seems."""
    kind = chance.randrange(10)
    members = {f"{name}.npy": npy(array) for name, array in TENSORS.items()}
    if kind == 0:
        return archive({**members, f"{chance.choice(PATHS)}.npy": members["b.npy"]})
    if kind == 1:
        return archive({**members, "b.npy": npy(np.array([Trap(trap)], dtype=object))})
    if kind == 2:
        shape = chance.choice(
            ["(2**62,)", "(4611686018427387904,)", "(-1,)", "(3, 4, 0, -7)", "(1e3,)", "(True,)", "()"]
        )
        return archive(
            {**members, "b.npy": with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n")}
        )
    if kind == 3:
        depth = chance.choice([50, 5000, 60_000])
        text = chance.choice(
            ["(" * depth, "[" * depth + "]" * depth, "-" * depth + "1", "__import__('os').system('true')"]
        )
        return archive({**members, "b.npy": with_header(text, version=chance.choice([(1, 0), (2, 0), (3, 0), (9, 9)]))})
    if kind == 4:
        return chance.choice(BOMBS)
    if kind == 5:
        return archive({**members, "inner.npz": sound_npz(), "b.npy": pickle.dumps(Trap(trap))})
    if kind == 6:
        data = bytearray(archive(members, chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])))
        at = data.find(b"PK\x01\x02")
        field = chance.choice([8, 10, 16, 20, 24, 28, 42])  # flags, method, checksum, sizes, length of the name, offset
        data[at + field : at + field + 4] = chance.randbytes(4)
        return bytes(data)
    if kind == 7:
        kinds = ["|O", "<U9", "|V8", "<M8[s]", "<f16", [("a", "<f4")], "|S0"]
        return archive(
            {
                **members,
                "b.npy": with_header(repr({"descr": chance.choice(kinds), "fortran_order": False, "shape": (3,)})),
            }
        )
    return scratched(sound_npz(), chance)


# ---------------------------------------------------------------------------------------------------------------------
# Logs

ROWS = [{"step": 10 * k, "loss": 2.0 / k, "learning_rate": 0.1} for k in range(1, 30)]
CSV = "step,loss,lr\n" + "".join(f"{row['step']},{row['loss']},0.1\n" for row in ROWS)
STATE = {"global_step": 290, "log_history": ROWS}


def hostile_text(chance: random.Random) -> bytes:
    """A table that is not what it seems."""
    kind = chance.randrange(8)
    if kind == 0:
        return (CSV + '"' + "x" * chance.choice([10, 100_000])).encode()
    if kind == 1:
        return ("," * chance.choice([10, 100_000]) + "\n" + CSV).encode()
    if kind == 2:
        return CSV.replace(
            "0.1", chance.choice(["=cmd|' /C calc'!A0", "1" * 5000, "0x10", "1_000", "nan", "١٢", "1e999"])
        ).encode()
    if kind == 3:
        return CSV.replace("step", chance.choice(NAMES), 1).encode("utf-8", "replace")
    if kind == 4:
        return CSV.encode(chance.choice(["utf-16", "utf-32", "cp037"]))
    return scratched(CSV.encode(), chance)


# ---------------------------------------------------------------------------------------------------------------------
# Readers: a file in, an error or a result out


class Bench:
    """A folder with sound files beside which the hostile ones are read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.trap = folder, folder / "out", folder / "trap"
        self.out.mkdir()
        self.good: dict[str, Path] = {}
        for suffix, data in {".safetensors": sound_safetensors(), ".npz": sound_npz()}.items():
            self.good[suffix] = folder / f"good{suffix}"
            self.good[suffix].write_bytes(data)
        self.shards, self.bad_shards = folder / "shards-1", folder / "shards-2"
        weight_map = dict.fromkeys(TENSORS, "model-00001-of-00001.safetensors")
        self.index = {"metadata": {"total_size": 124}, "weight_map": weight_map}
        for shards in (self.shards, self.bad_shards):
            shards.mkdir()
            (shards / "model-00001-of-00001.safetensors").write_bytes(sound_safetensors())
            (shards / "model.safetensors.index.json").write_text(json.dumps(self.index))
        self.plan = {"checkpoint": [10, 20], "weight": [0.5, 0.5]}

    def read(self, name: str, data: bytes) -> Path:
        """A hostile file."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def tensors(self, suffix: str, data: bytes) -> None:
        """Merge it with a sound one."""
        merge(
            [self.good[suffix], self.read(f"bad{suffix}", data)],
            [0.5, 0.5],
            self.out / f"out{suffix}",
            in_this_order=True,
        )

    def folders(self, name: str, data: bytes) -> None:
        """Merge a folder with it."""
        kept = self.bad_shards / name
        before = kept.read_bytes() if kept.exists() else None
        kept.write_bytes(data)
        try:
            merge([self.shards, self.bad_shards], [0.5, 0.5], self.out / "folder", in_this_order=True)
        finally:
            kept.unlink() if before is None else kept.write_bytes(before)

    def plans(self, data: bytes) -> None:
        """Follow it."""
        plan, suffix = self.read("plan.json", data), ".safetensors"
        files = [self.folder / f"checkpoint-{step}{suffix}" for step in (10, 20)]
        for file in files:
            file.write_bytes(sound_safetensors())
        line = ["merge", *map(str, files), "--plan", str(plan), "--output", str(self.out / f"out{suffix}")]
        if cli.main(line) == 2:
            raise ValueError("refused")

    def logs(self, name: str, data: bytes) -> None:
        """Read it as a log."""
        logs.read(self.read(name, data))


def cases(bench: Bench, chance: random.Random) -> Iterator[tuple[str, Callable[[], None], bytes]]:
    """Hostile files without end, of every kind in turn."""
    index, state = "model.safetensors.index.json", "trainer_state.json"
    while True:
        made = {
            ".safetensors": hostile_safetensors(chance, bench.trap),
            ".npz": hostile_npz(chance, bench.trap),
            "plan.json": hostile_json(bench.plan, chance),
            index: hostile_json(bench.index, chance),
            state: hostile_json(STATE, chance),
            "log.json": hostile_json(chance.choice([ROWS, STATE]), chance),
            "log.jsonl": b"\n".join(
                hostile_json(row, chance) if chance.random() < 0.1 else json.dumps(row).encode() for row in ROWS
            ),
            "log.csv": hostile_text(chance),
            "log.npz": hostile_npz(chance, bench.trap),
        }
        for name, data in made.items():
            if name in (".safetensors", ".npz"):
                yield name, lambda name=name, data=data: bench.tensors(name, data), data  # type: ignore[misc]
            elif name == "plan.json":
                yield name, lambda data=data: bench.plans(data), data  # type: ignore[misc]
            elif name in (index, state):
                yield name, lambda name=name, data=data: bench.folders(name, data), data  # type: ignore[misc]
            else:
                yield name, lambda name=name, data=data: bench.logs(name, data), data  # type: ignore[misc]


def fault(bench: Bench, read: Callable[[], None]) -> str | None:
    """What is wrong with how a file was taken: None, or what happened that must not."""
    started, refused = time.process_time(), False
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            read()
    except (ValueError, TypeError, OSError) as error:
        refused, cause = True, error.__context__
        while cause is not None:
            if isinstance(cause, MemoryError):
                return f"asked for too much memory: {error}"[:200]
            cause = cause.__context__
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    if time.process_time() - started > SECONDS:
        return f"took {time.process_time() - started:.1f} s"
    if bench.trap.exists():
        return "ran what it holds"
    written = list(bench.out.iterdir())
    if refused and written:
        return f"left {written}"
    for path in written:
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink()
    return None


def faults(count: int, seed: int) -> list[str]:
    """So many files of a seed, with no more memory than is allowed; the faults, with where the file is kept."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        hostile = cases(bench, random.Random(seed))
        index = json.dumps(bench.index).encode()
        sound: list[Callable[[], None]] = [  # what readers import does not count as memory
            lambda: bench.tensors(".safetensors", sound_safetensors()),
            lambda: bench.tensors(".npz", sound_npz()),
            lambda: bench.folders("model.safetensors.index.json", index),
            lambda: bench.plans(json.dumps(bench.plan).encode()),
            lambda: bench.logs("log.csv", CSV.encode()),
            lambda: bench.logs("log.json", json.dumps(ROWS).encode()),
        ]
        for read in sound:
            if (said := fault(bench, read)) is not None:
                raise AssertionError(f"a sound file: {said}")
        for number in range(3):
            BOMBS.append(bomb(random.Random(number)))
        allowed = _in_use() + int(MEMORY)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.RLIM_INFINITY))
        found = []
        for number in range(count):
            name, read, data = next(hostile)
            said = fault(bench, read)
            if said is not None:
                kept = Path(tempfile.gettempdir()) / f"hostile-{seed}-{number}-{name.lstrip('.')}"
                kept.write_bytes(data)
                found.append(f"{name}, number {number} of seed {seed}: {said}; kept as {kept}")
        return found


def _in_use() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main() -> int:
    """Say what is found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = faults(given.count, given.seed)
    print("\n".join(found), file=sys.stderr)
    print(f"{given.count} hostile files of seed {given.seed}: {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
