"""A sweep as its cells: one network each, run in any process, and kept in a file when it is finished.

A cell is a function of its arguments alone, so it has the same bits whoever runs it and whenever. Its file carries a
fingerprint of all arguments, of the versions of the libraries and of the trainer's source, and appears whole or not at
all: a sweep that was interrupted, or a task that a cluster runs again after it lost a worker, goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import platform
import threading
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from importlib.metadata import version
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics._files import appearing_file, remove_leftovers
from sgdynamics.domains import is_lazy
from sgdynamics.simulate.trainer.losses import LOSSES, as_targets, check_examples
from sgdynamics.simulate.trainer.objective import Objective
from sgdynamics.simulate.trainer.phases.descent import start_network
from sgdynamics.sweeps import spanned

__all__ = ["Cell", "Experiment", "Output", "place", "sweep"]

Array = NDArray[Any]

LIBRARIES = ("numpy", "scipy")


class Cell(NamedTuple):
    """One network: number of weight matrices, width of the hidden layers, seed of the weights."""

    depth: int
    width: int
    seed: int


class Output(NamedTuple):
    """A variable of a sweep: its dims beside those of the cells, its type, its name and its units."""

    dims: tuple[str, ...]
    dtype: type
    long_name: str
    units: str


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What is done to every network of a sweep; fields are all that a cell depends on beside itself."""

    x: Array
    targets: Array
    activation: str
    loss: str
    start: str
    c: Array

    @classmethod
    def data(cls, owner: str, x: Array, y: Array, loss: str) -> tuple[Array, Array]:
        """Checked inputs and targets; as many outputs as there are columns, or classes."""
        if loss == "cross_entropy" and y.ndim == 1:
            outputs = max(int(y.max(initial=0)) + 1, 1)
        else:
            outputs = y.shape[1] if y.ndim == 2 else 1
        check_examples(owner, x, x.shape[1], y, outputs, loss)
        return x, as_targets(y, outputs, loss)

    def begin(self, cell: Cell) -> Objective:
        """The loss on the examples at the start of a cell's network."""
        widths = [self.x.shape[1], *[cell.width] * (cell.depth - 1), self.targets.shape[1]]
        net = start_network(widths, self.activation, self.start, cell.seed)
        return Objective(net, self.x, self.targets, self.loss)

    @property
    def loss_of_zero_outputs(self) -> float:
        """The loss of a network that says nothing."""
        total, _ = LOSSES[self.loss].value_and_slope(np.zeros_like(self.targets), self.targets)
        return float(total / len(self.x))

    def outputs(self) -> Mapping[str, Output]:
        """What :meth:`run` returns."""
        raise NotImplementedError

    def coordinates(self) -> Mapping[str, Array]:
        """Values along the dims of the outputs."""
        raise NotImplementedError

    def run(self, cell: Cell) -> dict[str, Array]:
        """Everything about one network."""
        raise NotImplementedError

    def cost(self, cell: Cell) -> float:
        """Multiplications of one forward pass, in millions: what cells are weighed by."""
        widths = [self.x.shape[1], *[cell.width] * (cell.depth - 1), self.targets.shape[1]]
        return 1e-6 * len(self.x) * sum(int(a) * int(b) for a, b in itertools.pairwise(widths))

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all arguments, versions and sources that a cell depends on."""
        facts: dict[str, Any] = {"python": platform.python_version(), "sgdynamics": sgdynamics.__version__}
        facts |= {library: version(library) for library in LIBRARIES}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
            facts[field.name] = value
        facts["sources"] = _sources()
        return hashlib.sha256(json.dumps([type(self).__name__, facts], sort_keys=True).encode()).hexdigest()


@functools.cache
def _sources() -> str:
    """A hash of the trainer's source."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _start(experiment: Experiment) -> str:
    """What the names of all cells of an experiment begin with."""
    return f"{experiment.fingerprint[:32]}-"


def _file(directory: Path, experiment: Experiment, cell: Cell) -> Path:
    return directory / f"{_start(experiment)}{cell.depth}-{cell.width}-{cell.seed}.npz"


def _kept(path: Path, names: Sequence[str]) -> dict[str, Array] | None:
    """What is known of a cell; nothing if there is no file, or none that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in names}
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _keep(path: Path, result: Mapping[str, Array]) -> None:
    """Write a cell's file, whole or not at all, also when two processes write it at once."""
    with appearing_file(path, tidy=False) as file:  # the sweep has done that once for all its cells
        np.savez(file, allow_pickle=False, **result)


def _run(experiment: Experiment, cell: Cell, directory: Path | None) -> dict[str, Array]:
    """A cell, from its file or by running it."""
    path = None if directory is None else _file(directory, experiment, cell)
    found = None if path is None else _kept(path, list(experiment.outputs()))
    if found is not None:
        return found
    with one_blas_thread(), np.errstate(all="ignore"):
        result = {name: np.asarray(value) for name, value in experiment.run(cell).items()}
    if path is not None:
        _keep(path, result)
    return result


def _end_with_the_parent() -> None:
    """A worker process does not outlive the process that started it, however that one ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()


def _run_all(
    experiment: Experiment, cells: Sequence[Cell], processes: int, directory: Path | None, progress: bool
) -> dict[Cell, dict[str, Array]]:
    """All cells, the longest first; the order has no part in the result."""
    from tqdm.auto import tqdm

    queue = sorted(set(cells), key=lambda cell: (-experiment.cost(cell), cell))
    costs = {cell: experiment.cost(cell) for cell in queue}
    total = sum(costs.values())
    if directory is not None:
        remove_leftovers(directory, _start(experiment))
    found: dict[Cell, dict[str, Array]] = {}
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left{postfix}"
    with tqdm(total=total, desc="networks", bar_format=form, disable=not progress) as bar:

        def done(cell: Cell, result: dict[str, Array]) -> None:
            found[cell] = result
            bar.set_postfix_str(f"{len(found)} of {len(queue)}", refresh=False)
            bar.update(costs[cell])

        if processes == 1 or len(queue) < 2:
            for cell in queue:
                done(cell, _run(experiment, cell, directory))
            return found
        # Fresh interpreters, not forks: forking a process whose libraries have threads is not safe.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(processes, len(queue)), mp_context=context, initializer=_end_with_the_parent)
        try:
            running = {pool.submit(_run, experiment, cell, directory): cell for cell in queue}
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done(running.pop(future), future.result())
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def place(owner: str, name: str, value: Any) -> xr.DataArray:
    """A depth or a width over what it spans; labels of a plain array are whole numbers."""
    array = spanned(owner, name, value, axis=name, reserved=["seed"])
    if isinstance(value, xr.DataArray) or not array.ndim:
        return array
    return array.assign_coords({name: array.values.astype(np.int64)})


def sweep(
    experiment: Experiment,
    depth: xr.DataArray,
    width: xr.DataArray,
    seeds: Array,
    *,
    processes: int,
    directory: str | None,
    progress: bool,
) -> xr.Dataset:
    """All cells as one Dataset, lazy where depth or width is; then every seed is a task of its own."""
    folder = None if directory is None else Path(directory)
    outputs, coordinates = experiment.outputs(), experiment.coordinates()
    seed = xr.DataArray(seeds, {"seed": seeds}, ["seed"])
    lazy = is_lazy(depth) or is_lazy(width)
    if lazy:
        seed = seed.chunk(seed=1)

    def block(depths: Array, widths: Array, numbers: Array) -> tuple[Array, ...]:
        grid = np.broadcast_arrays(depths, widths, numbers)
        cells = [Cell(int(a), int(b), int(s)) for a, b, s in zip(*(part.flat for part in grid), strict=True)]
        # Where a scheduler hands out the blocks it also spreads them over processes.
        found = _run_all(experiment, cells, 1 if lazy else processes, folder, progress and not lazy)
        parts = []
        for name, output in outputs.items():
            sizes = tuple(len(coordinates[dim]) for dim in output.dims)
            rows: Array = np.empty((len(cells), *sizes), output.dtype)
            for row, cell in enumerate(cells):
                rows[row] = found[cell][name]
            parts.append(rows.reshape(*grid[0].shape, *sizes))
        return tuple(parts)

    parts = xr.apply_ufunc(
        block,
        depth,
        width,
        seed,
        output_core_dims=[list(output.dims) for output in outputs.values()],
        dask="parallelized",
        output_dtypes=[output.dtype for output in outputs.values()],
        dask_gufunc_kwargs={"output_sizes": {dim: len(values) for dim, values in coordinates.items()}},
    )
    data = xr.Dataset(dict(zip(outputs, parts, strict=True)), coordinates)
    for name, output in outputs.items():
        data[name].attrs.update(long_name=output.long_name, units=output.units)
    return data.assign_attrs(
        version=sgdynamics.__version__,
        activation=experiment.activation,
        loss=experiment.loss,
        start=experiment.start,
        examples=float(len(experiment.x)),
    )
