r"""Many runs at once: networks of one shape, stacked along a leading axis.

A step of a small network is mostly calls: a matrix product of a few microseconds waits for dozens of them. With R runs
stacked, every call serves R of them, ``(R, examples, fan_in) @ (R, fan_in, fan_out)``. The runs never meet: each has
its own weights, batches and noise, and the numbers that :func:`train` gives for it alone. As many go abreast as the
cache holds; a network that fills it by itself is mostly matrix products, and gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import (
    Domain,
    checked,
    complain,
    describe_seed,
    flag,
    increasing_steps,
    integer,
    optional,
    seeds,
)
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.simulate._blocks import slices
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.batches import (
    BLOCK_VALUES,
    checked_noise,
    checked_size,
    drawn_classes,
    index_rows,
    noise_kind,
    noise_rows,
    noise_size,
    noisy,
)
from sgdynamics.simulate.trainer.derivatives import Objective, decay_domain, objective
from sgdynamics.simulate.trainer.losses import LOSSES, named_loss
from sgdynamics.simulate.trainer.network import Layers, Network, a_network, check_real
from sgdynamics.simulate.trainer.recording import RESERVED, Record
from sgdynamics.simulate.trainer.streams import generator
from sgdynamics.sweeps import steps_to_record

__all__ = ["train_runs"]

Array = NDArray[Any]

# Bytes that one core's second cache holds on most machines.
CACHE = 1 << 20


@dataclass(frozen=True)
class _OneEach:
    """A sequence, each entry in a domain."""

    entry: Domain
    text: str

    def check(self, owner: str, name: str, value: Any) -> list[Any]:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
            raise complain(owner, name, self.text, value, TypeError)
        if not len(value):
            raise complain(owner, name, self.text, value)
        return [self.entry.check(owner, f"{name}[{run}]", entry) for run, entry in enumerate(value)]


@dataclass(frozen=True)
class _Stack:
    """Examples of all runs, or of every run."""

    text: str

    def check(self, owner: str, name: str, value: Any) -> Array:
        array = arguments.examples.check(owner, name, value)
        if array.ndim > 3 or array.dtype.kind == "b":
            raise complain(owner, name, self.text, f"shape {array.shape}")
        return np.ascontiguousarray(array, dtype=np.float64)


@checked(
    nets=_OneEach(a_network, "a sequence of networks made by network(...), one per run"),
    x=_Stack("an array of finite numbers, shape (examples, inputs) or (runs, examples, inputs)"),
    y=_Stack("an array of finite numbers with the examples, or runs and examples, along its first axes"),
    schedule=schedule_of_rates,
    loss=named_loss,
    batch_size=optional(integer(1)),
    replacement=flag,
    weight_decay=decay_domain,
    label_noise=noise_size,
    label_noise_kind=noise_kind,
    record=optional(increasing_steps),
    evaluate_loss=flag,
    keep_weights=flag,
    seed=_OneEach(seeds, "a sequence of seeds, one per run: integers >= 0 or numpy SeedSequences"),
)
def train_runs(
    nets: Sequence[Network],
    x: ArrayLike,
    y: ArrayLike,
    schedule: ArrayLike,
    *,
    loss: str,
    batch_size: int | None = None,
    replacement: bool = False,
    weight_decay: float = 0.0,
    label_noise: float = 0.0,
    label_noise_kind: str = "fresh",
    record: ArrayLike | None = None,
    evaluate_loss: bool = True,
    keep_weights: bool = False,
    seed: Sequence[int | np.random.SeedSequence],
) -> xr.Dataset:
    r"""Train many networks of one shape by plain SGD, abreast: :func:`train` of each, for small ones twice as fast.

    Seeds, starts, learning rates and data may differ from run to run; the shape of the network and how batches are
    drawn may not. Every run has the batches and the noise of its own seed, and its numbers to rounding, whatever runs
    stand beside it. One that diverges stops none of the others.

    Parameters
    ----------
    nets : sequence of Network, one per run
        The starts, of the same widths and activation, ``"linear"``, ``"tanh"`` or ``"relu"``, without residual
        connections and normalisation; they are not changed.
    x : array, shape (examples, inputs) or (runs, examples, inputs)
        Inputs of all runs, or of every run.
    y : array, shape (examples, ...) or (runs, examples, ...)
        Targets or labels, as for :func:`loss_value`; with runs in front where x has them.
    schedule : array, shape (steps,) or (runs, steps)
        Learning rates >= 0, of all runs or of every run.
    loss, batch_size, replacement, weight_decay, label_noise, label_noise_kind, record, keep_weights
        As for :func:`train`.
    evaluate_loss : bool
        False: no losses are computed, neither over all examples nor of batches: ``loss`` and ``batch_loss`` are
        missing.
    seed : sequence of int or numpy.random.SeedSequence, one per run
        Seeds of batches and label noise, >= 0.

    Returns
    -------
    xarray.Dataset
        What :func:`train` returns, along ``run``: ``loss`` and ``batch_loss`` (run, step), ``weights`` (run, step,
        parameter) if kept, ``final_weights`` (run, parameter) and ``divergence_step`` (run). Coordinates ``step`` and
        ``time``, the sum of the learning rates so far, along ``step`` or (run, step).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the runs do not fit together.

    Examples
    --------
    >>> from sgdynamics.models import schedules
    >>> from sgdynamics.simulate.trainer import network, train_runs
    >>> nets = [network([1, 1], "linear", biases=False, seed=0).with_flat([start]) for start in (1.0, -2.0)]
    >>> rates = [[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]
    >>> runs = train_runs(nets, [[1.0]], [0.0], rates, loss="mse", record=[0, 1, 3], keep_weights=True, seed=[0, 1])
    >>> runs.weights.squeeze("parameter").values
    array([[ 1.   ,  0.5  ,  0.125],
           [-2.   ,  0.   ,  0.   ]])
    """
    owner = "train_runs"
    count = len(nets)
    arguments.length(owner, "seed", np.empty(len(seed)), count, "networks")
    problems = _problems(owner, nets, np.asarray(x), np.asarray(y), loss, weight_decay)
    rates = np.asarray(schedule, dtype=np.float64)
    if rates.ndim > 2 or (rates.ndim == 2 and len(rates) != count):
        raise complain(owner, "schedule", f"of shape (steps,) or ({count}, steps)", f"shape {rates.shape}")
    checked_noise(owner, label_noise, loss)
    checked_size(owner, batch_size, problems[0].examples, replacement)
    steps = rates.shape[-1]
    kept = steps_to_record(owner, record, steps)
    with one_blas_thread(), np.errstate(all="ignore"):
        whole = problems[0].workspace(nets[0], problems[0].examples)
        records = [
            Record(kept, net, what, whole, evaluate_loss, keep_weights)
            for net, what in zip(nets, problems, strict=True)
        ]
        columns = np.broadcast_to(rates, (count, steps)).T[:, :, None].copy()
        parts = []
        for part in slices(count, _abreast(nets[0], batch_size or problems[0].examples)):
            source = _batches(problems[part], loss, batch_size, replacement, label_noise, label_noise_kind, seed[part])
            parts.append(
                _run(nets[part], problems[0], loss, batch_size, source, columns[:, part], records[part], evaluate_loss)
            )
        final, divergence = (np.concatenate(found) for found in zip(*parts, strict=True))
    along = ("run", "step")
    data: dict[str, Any] = {}
    if evaluate_loss:
        data["loss"] = along, np.array([one.loss for one in records])
        data["batch_loss"] = along, np.array([one.batch_loss for one in records])
    if keep_weights:
        data["weights"] = (*along, "parameter"), np.array([one.weights for one in records])
    data |= {"final_weights": (("run", "parameter"), final), "divergence_step": ("run", divergence)}
    times = np.concatenate([np.zeros_like(rates[..., :1]), np.cumsum(rates, axis=-1)], axis=-1)[..., kept]
    result = xr.Dataset(data, {"step": kept, "time": (along[-times.ndim :], times)})
    for name, (long_name, units) in RESERVED.items():
        if name in result:
            result[name].attrs.update(long_name=long_name, units=units)
    result.step.attrs.update(long_name="step", units="1")
    result.time.attrs.update(long_name="sum of the learning rates so far", units="learning rate")
    return result.assign_attrs(
        source="sgdynamics.simulate.trainer.train_runs",
        version=sgdynamics.__version__,
        seed=", ".join(map(describe_seed, seed)),
        network=repr(nets[0]),
        loss=loss,
        batch_size=float(batch_size or problems[0].examples),
        sampling="full batch" if batch_size is None else "with replacement" if replacement else "reshuffled",
        weight_decay=weight_decay,
        label_noise=label_noise,
        label_noise_kind=label_noise_kind,
    )


def _abreast(net: Network, examples: int) -> int:
    """How many runs a step keeps in the cache: with more, each of its operations would wait for memory."""
    entries = 3 * net.size + examples * (2 * sum(net.widths) + net.widths[-1])
    return max(2, CACHE // (8 * entries))


def _problems(
    owner: str, nets: Sequence[Network], x: Array, y: Array, loss: str, weight_decay: float
) -> list[Objective]:
    """What every run minimises: one object where the data are shared."""
    first = nets[0]
    for net in nets:
        check_real(owner, net)
        if not net.hidden.plain or net.hidden.activation.in_place is None:
            text = (
                "networks of activation 'linear', 'tanh' or 'relu', neither residual nor normalised (train takes all)"
            )
            raise complain(owner, "nets", text, net)
        if (net.widths, net.activation, net.biases is None) != (first.widths, first.activation, first.biases is None):
            raise complain(owner, "nets", f"networks of one shape, like {first}", net)
    if x.ndim < 3:
        return [objective(owner, first, x, y, loss, weight_decay)] * len(nets)
    for name, array in (("x", x), ("y", y)):
        arguments.length(owner, name, array, len(nets), "networks")
    if y.ndim < 2:
        raise complain(owner, "y", "of shape (runs, examples, ...), as x has runs", f"shape {y.shape}")
    return [objective(owner, first, *pair, loss, weight_decay) for pair in zip(x, y, strict=True)]


def _batches(
    problems: Sequence[Objective],
    loss: str,
    batch_size: int | None,
    replacement: bool,
    label_noise: float,
    label_noise_kind: str,
    seed: Sequence[Any],
) -> Iterator[tuple[Array, Array]]:
    """Batches of all runs as (runs, examples, columns), endlessly: what ``batches.stream`` gives each, stacked.

    Rows are gathered from one table of the examples of all runs. A label replaced by a random class is a row of the
    identity at the table's end.
    """
    shared = problems[0] is problems[-1]
    examples, classes = problems[0].targets.shape
    noises = [generator(one, "label noise") for one in seed]
    draws = [noise.standard_normal if loss == "mse" else noise.random for noise in noises]
    shape = (classes,) if loss == "mse" else ()
    targets = [what.targets for what in problems]
    fixed = bool(label_noise) and label_noise_kind == "fixed"
    if fixed:
        targets = [
            noisy(y, draw((examples, *shape)), label_noise, classes, loss)
            for y, draw in zip(targets, draws, strict=True)
        ]
    runs = len(problems)
    x_table = problems[0].x if shared else np.concatenate([what.x for what in problems])
    # noise that is drawn once makes targets differ between runs whose inputs are the same
    y_table = targets[0] if shared and not fixed else np.concatenate(targets)
    x_first, y_first = (
        np.arange(runs)[:, None] * (examples if len(table) > examples else 0) for table in (x_table, y_table)
    )
    size = batch_size or examples
    x_batch, y_batch = np.empty((runs, size, x_table.shape[1])), np.empty((runs, size, classes))
    fresh = [noise_rows(draw, (size, *shape)) for draw in draws] if label_noise and not fixed else None
    if batch_size is None:
        rows = None
        x_batch[:], y_batch[:] = ([what.x for what in problems], targets)
    else:
        rows = [index_rows(examples, size, replacement, generator(one, "batches")) for one in seed]
    identity_first = len(y_table)
    if fresh is not None and loss == "cross_entropy":
        y_table = np.concatenate([y_table, np.eye(classes)])
    everything = np.broadcast_to(np.arange(examples), (runs, examples))
    block = max(1, BLOCK_VALUES // (runs * size))
    while True:
        chosen = _block(rows, block) if rows is not None else [everything] * block
        noise = _block(fresh, block) if fresh is not None else [None] * block
        for picked, drawn in zip(chosen, noise, strict=True):
            if rows is not None:
                # the indices are in range; other modes would gather into a copy first
                x_table.take(picked + x_first, 0, x_batch, "clip")
            if rows is not None or drawn is not None:
                places = picked + y_first
                if drawn is not None and loss == "cross_entropy":
                    hit = drawn < label_noise
                    places[hit] = identity_first + drawn_classes(drawn[hit], label_noise, classes)
                y_table.take(places, 0, y_batch, "clip")
                if drawn is not None and loss == "mse":
                    np.add(y_batch, label_noise * drawn, y_batch)
            yield x_batch, y_batch


def _block(rows: Sequence[Iterator[Array]], steps: int) -> Array:
    """The next rows of all runs, as (steps, runs, ...)."""
    return np.stack([np.array(list(islice(one, steps))) for one in rows], axis=1)


class _StackedPasses:
    """The passes of :class:`Workspace` with runs in front of every array."""

    def __init__(self, runs: int, net: Network, loss: str, examples: int) -> None:
        in_place = net.hidden.activation.in_place
        assert in_place is not None
        self.activation, self.loss, self.examples = in_place, LOSSES[loss], examples
        self.values = [np.empty((runs, examples, width)) for width in net.widths[1:]]
        self.deltas = [np.empty_like(value) for value in self.values]
        self.column = np.empty((runs * examples, 1))

    def write_gradient(self, layers: Layers, x: Array, targets: Array, into: Layers) -> None:
        """The gradient of every run's mean loss."""
        value, last = x, len(self.values) - 1
        for layer, (weight, z) in enumerate(zip(layers.weights, self.values, strict=True)):
            np.matmul(value, weight, z)
            if layers.biases is not None:
                np.add(z, layers.biases[layer][:, None], z)
            if layer < last:
                self.activation.apply(z)
            value = z
        # what acts on one example after the other needs no runs
        slope = self.deltas[-1]
        self.loss.write_slope(_rows(value), _rows(targets), _rows(slope), self.column)
        np.divide(slope, self.examples, slope)
        entering = [x, *self.values]
        for layer in range(last, -1, -1):
            delta = self.deltas[layer]
            np.matmul(entering[layer].swapaxes(1, 2), delta, into.weights[layer])
            if into.biases is not None:
                np.add.reduce(delta, axis=1, out=into.biases[layer])
            if layer > 0:
                np.matmul(delta, layers.weights[layer].swapaxes(1, 2), self.deltas[layer - 1])
                self.activation.multiply_slope(self.deltas[layer - 1], entering[layer])

    def mean_loss(self, run: int, targets: Array) -> float:
        """The mean loss of one run's batch, of what the last pass left."""
        rows = slice(run * self.examples, (run + 1) * self.examples)
        return float(self.loss.value(self.values[-1][run], targets[run], self.column[rows]) / self.examples)


def _rows(stack: Array) -> Array:
    return stack.reshape(-1, stack.shape[-1])


def _views(vectors: Array, net: Network) -> Layers:
    """Rows of parameters as layers, (runs, fan_in, fan_out) and (runs, fan_out)."""
    ends = net.views(np.arange(net.size))
    runs = len(vectors)

    def part(places: Array) -> Array:
        first = int(places.flat[0])
        return vectors[:, first : first + places.size].reshape(runs, *places.shape)

    biases = None if ends.biases is None else [part(places) for places in ends.biases]
    return Layers([part(places) for places in ends.weights], biases)


def _run(
    nets: Sequence[Network],
    what: Objective,
    loss: str,
    batch_size: int | None,
    source: Iterator[tuple[Array, Array]],
    rates: Array,
    records: Sequence[Record],
    want_loss: bool,
) -> tuple[Array, Array]:
    """The loop: the last weights and the step of divergence of every run."""
    runs, net = len(nets), nets[0]
    weights = np.array([one.flat() for one in nets])
    gradient, decayed = np.empty_like(weights), np.empty_like(weights)
    entries, layers, into = weights.ravel(), _views(weights, net), _views(gradient, net)
    passes = _StackedPasses(runs, net, loss, batch_size or what.examples)
    divergence = np.full(runs, -1, np.int32)
    wanted = records[0].wanted
    if 0 in wanted:
        for run, record in enumerate(records):
            record.keep(0, weights[run], math.nan)
    for step, (rate, (x, targets)) in enumerate(zip(rates, source, strict=False), 1):
        passes.write_gradient(layers, x, targets, into)
        losses = None
        if want_loss and step in wanted:
            losses = [passes.mean_loss(run, targets) + float(what.decay(weights[run])) for run in range(runs)]
        if what.weight_decay:
            np.multiply(weights, what.weight_decay, decayed)
            np.add(gradient, decayed, gradient)
        np.multiply(gradient, rate, gradient)
        np.subtract(weights, gradient, weights)
        if not math.isfinite(entries.dot(entries)):  # of all runs together, which is cheap
            lost = ~np.isfinite(np.square(weights).sum(axis=1))
            divergence[lost] = step
            weights[lost] = 0.0  # rests there beside the others, and nobody looks at it any more
            rates[:, lost] = 0.0
        if step in wanted:
            for run, record in enumerate(records):
                if divergence[run] < 0:
                    value = math.nan if losses is None else losses[run]
                    record.keep(step, weights[run], value if math.isfinite(value) else math.inf)
    weights[divergence >= 0] = math.inf
    return weights, divergence
