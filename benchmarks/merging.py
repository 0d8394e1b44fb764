"""Time the merge of large checkpoint files against copying them and against the loop one would write, interleaved.

Wall time, with files in the page cache as far as they fit; peak memory in processes of their own, above that of one
that imports the same and merges nothing. Equality is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sgdynamics.checkpoints import merge

ROUNDS = 3
CHECKPOINTS = 20
TENSORS = 10
# Folders of brain floats in shards, as language models are saved.
SHARDED = "folders of 4 shards, BF16"
FOLDERS, SHARDS = 6, 4

# Peak resident memory in kilobytes of a process that does one thing; what getrusage says includes the parent's.
PEAK = """
import re, sys
from benchmarks import merging
contender, suffix, folder = sys.argv[1:]
merging.CONTENDERS[contender](merging.files(merging.Path(folder), suffix))
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def weights(count: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(count))


def files(folder: Path, suffix: str) -> list[Path]:
    if suffix == SHARDED:
        return [folder / f"checkpoint-{step}" for step in range(FOLDERS)]
    return [folder / f"{step:02d}{suffix}" for step in range(CHECKPOINTS)]


def write(folder: Path, suffix: str, elements: int) -> None:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(1)
    for path in files(folder, suffix):
        tensors = {f"layer{k}": rng.standard_normal(elements // TENSORS, np.float32) for k in range(TENSORS)}
        if suffix == ".npz":
            np.savez(path, **tensors)
        else:
            save_file(tensors, path)


def write_shards(folder: Path, elements: int) -> None:
    rng = np.random.default_rng(1)
    count = elements // (SHARDS * TENSORS)
    for path in files(folder, SHARDED):
        path.mkdir()
        weight_map = {}
        for k in range(SHARDS):
            shard = f"model-{k + 1:05d}-of-{SHARDS:05d}.safetensors"
            names = [f"layer{k}.{place}" for place in range(TENSORS)]
            entries = {
                name: {"dtype": "BF16", "shape": [count], "data_offsets": [2 * count * place, 2 * count * (place + 1)]}
                for place, name in enumerate(names)
            }
            header = json.dumps(entries).encode()
            with open(path / shard, "wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
                for name in names:
                    upper = rng.standard_normal(count, np.float32).view(np.uint32) >> np.uint32(16)
                    file.write(upper.astype(np.uint16).data)
                    weight_map[name] = shard
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def load(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(np.load(path)) if path.suffix == ".npz" else load_file(path)


def merged(paths: list[Path]) -> None:
    target = paths[0].with_name(f"merged{paths[0].suffix}")
    if target.is_dir():
        shutil.rmtree(target)
    merge(paths, weights(len(paths)), target)


def copied(paths: list[Path]) -> None:
    folder = paths[0].with_name("copies")
    folder.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", *map(str, paths), str(folder)], check=True)
    shutil.rmtree(folder)


def numpy_loop(paths: list[Path]) -> None:
    """What one would write: one checkpoint in memory at a time, and sums in float64."""
    from safetensors.numpy import save_file

    sums: dict[str, np.ndarray] = {}
    for path, weight in zip(paths, weights(len(paths)).tolist(), strict=True):
        for name, values in load(path).items():
            sums[name] = sums.get(name, 0.0) + weight * values.astype(np.float64)
    result = {name: values.astype(np.float32) for name, values in sums.items()}
    target = paths[0].with_name(f"looped{paths[0].suffix}")
    if target.suffix == ".npz":
        np.savez(target, **result)
    else:
        save_file(result, target)


def nothing(paths: list[Path]) -> None:
    """The interpreter and its imports."""


CONTENDERS: dict[str, Callable[[list[Path]], None]] = {
    "merge": merged,
    "cp of the same files": copied,
    "NumPy loop": numpy_loop,
    "nothing": nothing,
}


def wall_seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_megabytes(contender: str, suffix: str, folder: Path) -> float:
    command = [sys.executable, "-c", PEAK, contender, suffix, str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e3


def compare(folder: Path, suffix: str, elements: int) -> None:
    write(folder, suffix, elements)
    paths = files(folder, suffix)
    for name in ("merge", "NumPy loop"):
        CONTENDERS[name](paths)
    ours, loop = (load(folder / f"{name}{suffix}") for name in ("merged", "looped"))
    assert all(np.array_equal(ours[name], loop[name]) for name in loop)
    del ours, loop
    take_turns(folder, suffix, [name for name in CONTENDERS if name != "nothing"])


def take_turns(folder: Path, suffix: str, timed: list[str]) -> None:
    paths = files(folder, suffix)
    rounds = [{name: wall_seconds(lambda name=name: CONTENDERS[name](paths)) for name in timed} for _ in range(ROUNDS)]
    idle = peak_megabytes("nothing", suffix, folder)
    for name in timed:
        seconds = statistics.median(times[name] for times in rounds)
        ratio = statistics.median(times["merge"] / times[name] for times in rounds)
        memory = "" if name.startswith("cp") else f"{peak_megabytes(name, suffix, folder) - idle:.0f}"
        print(f"| {suffix} | {name} | {seconds:.2f} | {ratio:.3g} | {memory} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merging", description=__doc__)
    parser.add_argument("--elements", type=float, default=5e7, help="float32 in a checkpoint (default: 5e7)")
    elements = int(parser.parse_args().elements)
    size = 4 * elements / 1e6
    print(f"{CHECKPOINTS} checkpoints of {elements:.0e} float32 ({size:.0f} MB each), median of {ROUNDS} rounds\n")
    print("| files | contender | s | merge takes, times as long | MB above the interpreter |\n|---|---|---|---|---|")
    for suffix in (".safetensors", ".npz"):
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), suffix, elements)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), 2 * elements)
        take_turns(Path(folder), SHARDED, ["merge", "cp of the same files"])
    print(f"\nThe folders: {FOLDERS} checkpoints of {2 * elements:.0e} brain floats.")


if __name__ == "__main__":
    main()
