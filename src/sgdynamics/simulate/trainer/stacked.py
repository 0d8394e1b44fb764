r"""Many runs at once: networks of one shape, stacked along a leading axis.

A step of a small network is mostly calls: a matrix product of a few microseconds waits for dozens of them. With R runs
stacked, every call serves R of them, ``(R, examples, fan_in) @ (R, fan_in, fan_out)``. The runs never meet: each has
its own weights, batches and noise, and the numbers that :func:`trajectory` gives for it alone. As many go abreast as
the cache holds; a network that fills it by itself is mostly matrix products, and gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Domain, checked, complain, describe_seed, flag, increasing_steps, optional
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.simulate._blocks import slices
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.batches import (
    BLOCK_VALUES,
    Batches,
    drawn_classes,
    index_rows,
    noise_rows,
    noisy,
    some_batches,
)
from sgdynamics.simulate.trainer.elementwise import average, descend
from sgdynamics.simulate.trainer.losses import LOSSES
from sgdynamics.simulate.trainer.network import Layers, Network
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.recording import RESERVED, Record
from sgdynamics.simulate.trainer.streams import generator
from sgdynamics.sweeps import steps_to_record

__all__ = ["ensemble"]

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


@checked(
    objectives=_OneEach(real_objective, "a sequence of Objectives, one per run"),
    schedule=schedule_of_rates,
    batches=optional(_OneEach(some_batches, "a sequence of Batches, one per run")),
    record=optional(increasing_steps),
    evaluate_loss=flag,
    keep_weights=flag,
)
def ensemble(
    objectives: Sequence[Objective],
    schedule: ArrayLike,
    *,
    batches: Sequence[Batches] | None = None,
    record: ArrayLike | None = None,
    evaluate_loss: bool = True,
    keep_weights: bool = False,
) -> xr.Dataset:
    r"""Many runs of networks of one shape by plain SGD, abreast: :func:`trajectory` of each, small ones twice as fast.

    Starts, data, learning rates and seeds may differ from run to run; the shape of the network, the loss and how
    batches are drawn may not. Every run has the batches and the noise of its own seed, and its numbers to rounding,
    whatever runs stand beside it. One that diverges stops none of the others.

    Parameters
    ----------
    objectives : sequence of Objective, one per run
        Of networks of the same widths and activation, ``"linear"``, ``"tanh"`` or ``"relu"``, without residual
        connections and normalisation, with a named loss, one weight decay and one number of examples, all parameters
        trainable. They are not changed. Runs share memory where they share data: ``[first.with_flat(start) for start
        in starts]``.
    schedule : array, shape (steps,) or (runs, steps)
        Learning rates >= 0, of all runs or of every run.
    batches : sequence of Batches, one per run, optional
        Alike but for their seeds. None: all examples at every step, without noise.
    record, keep_weights
        As for :func:`trajectory`.
    evaluate_loss : bool
        False: no losses are computed, neither over all examples nor of batches: ``loss`` and ``batch_loss`` are
        missing.

    Returns
    -------
    xarray.Dataset
        What :func:`trajectory` returns, along ``run``: ``loss`` and ``batch_loss`` (run, step), ``weights`` (run, step,
        parameter) if kept, ``final_weights`` (run, parameter) and ``divergence_step`` (run). Coordinates ``step`` and
        ``time``, the sum of the learning rates so far, along ``step`` or (run, step).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the runs do not fit together.

    Examples
    --------
    >>> from sgdynamics.models import schedules
    >>> from sgdynamics.simulate.trainer import Objective, ensemble, network
    >>> first = Objective(network([1, 1], "linear", biases=False, seed=0), [[1.0]], [0.0], "mse")
    >>> rates = [[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]
    >>> starts = [first.with_flat([1.0]), first.with_flat([-2.0])]
    >>> runs = ensemble(starts, rates, record=[0, 1, 3], keep_weights=True)
    >>> runs.weights.squeeze("parameter").values
    array([[ 1.   ,  0.5  ,  0.125],
           [-2.   ,  0.   ,  0.   ]])
    """
    owner = "ensemble"
    first, count = objectives[0], len(objectives)
    _check_alike(owner, objectives)
    every = [Batches(seed=0)] * count if batches is None else list(batches)
    _check_batches(owner, first, every, count)
    net: Network = first.net
    drawn = every[0]
    rates = np.asarray(schedule, dtype=np.float64)
    if rates.ndim > 2 or (rates.ndim == 2 and len(rates) != count):
        raise complain(owner, "schedule", f"of shape (steps,) or ({count}, steps)", f"shape {rates.shape}")
    steps = rates.shape[-1]
    kept = steps_to_record(owner, record, steps)
    with one_blas_thread(), np.errstate(all="ignore"):
        whole = first.passes(first.examples)
        records = [Record(kept, what, whole, evaluate_loss, keep_weights) for what in objectives]
        columns = np.broadcast_to(rates, (count, steps)).T[:, :, None].copy()
        parts = []
        for part in slices(count, _abreast(net, drawn.size or first.examples)):
            source = _batches(objectives[part], every[part])
            parts.append(_run(objectives[part], drawn.size, source, columns[:, part], records[part], evaluate_loss))
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
        drawn.attributes(first),
        source=f"sgdynamics.simulate.trainer.{owner}",
        version=sgdynamics.__version__,
        seed=", ".join(describe_seed(one.seed) for one in every),
        network=repr(net),
        loss=str(first.loss),
        weight_decay=first.weight_decay,
    )


def _shape(net: Network) -> tuple[Any, ...]:
    return net.widths, net.activation, net.biases is None


def _check_alike(owner: str, objectives: Sequence[Objective]) -> None:
    """Refuse runs that cannot stand beside each other, or that only one at a time can do."""
    first = objectives[0]
    for run, what in enumerate(objectives):
        name, net = f"objectives[{run}]", what.net
        if not isinstance(net, Network) or not net.hidden.plain or net.hidden.activation.in_place is None:
            text = (
                "of a network of activation 'linear', 'tanh' or 'relu', neither residual nor normalised "
                "(trajectory takes all)"
            )
            raise complain(owner, name, text, net)
        if what.loss not in LOSSES:
            raise complain(owner, name, f"of a loss that is one of {', '.join(map(repr, LOSSES))}", what.loss)
        if what.trainable is not None:
            raise complain(owner, name, "one whose parameters are all trainable", what.trainable)
        if _shape(net) != _shape(first.net):
            raise complain(owner, name, f"of a network of one shape with the first, {first.net}", net)
        if what.loss != first.loss or what.weight_decay != first.weight_decay or what.x.shape != first.x.shape:
            raise complain(owner, name, "of the loss, weight decay and number of examples of the first", what)


def _check_batches(owner: str, first: Objective, batches: Sequence[Batches], count: int) -> None:
    arguments.length(owner, "batches", np.empty(len(batches)), count, "objectives")
    for run, one in enumerate(batches):
        if replace(one, seed=0) != replace(batches[0], seed=0):
            raise complain(owner, f"batches[{run}]", "like the first but for the seed", one)
    batches[0].check_fit(owner, first, size="batches[0].size")


def _abreast(net: Network, examples: int) -> int:
    """How many runs a step keeps in the cache: with more, each of its operations would wait for memory."""
    entries = 3 * net.size + examples * (2 * sum(net.widths) + net.widths[-1])
    return max(2, CACHE // (8 * entries))


def _batches(objectives: Sequence[Objective], batches: Sequence[Batches]) -> Iterator[tuple[Array, Array]]:
    """Batches of all runs as (runs, examples, columns), endlessly: what ``Batches.stream`` gives each, stacked.

    Rows are gathered from one table of the examples of all runs. A label replaced by a random class is a row of the
    identity at the table's end.
    """
    first, drawing = objectives[0], batches[0]
    loss, label_noise = first.loss, drawing.label_noise
    shared = all(what.x is first.x and what.targets is first.targets for what in objectives)
    examples, classes = first.targets.shape
    draws = [one.draw(loss) for one in batches]
    shape = (classes,) if loss == "mse" else ()
    targets = [what.targets for what in objectives]
    fixed = bool(label_noise) and drawing.label_noise_kind == "fixed"
    if fixed:
        targets = [
            noisy(y, draw((examples, *shape)), label_noise, classes, loss)
            for y, draw in zip(targets, draws, strict=True)
        ]
    runs = len(objectives)
    x_table = first.x if shared else np.concatenate([what.x for what in objectives])
    # noise that is drawn once makes targets differ between runs whose inputs are the same
    y_table = targets[0] if shared and not fixed else np.concatenate(targets)
    x_first, y_first = (
        np.arange(runs)[:, None] * (examples if len(table) > examples else 0) for table in (x_table, y_table)
    )
    size = drawing.size or examples
    x_batch, y_batch = np.empty((runs, size, x_table.shape[1])), np.empty((runs, size, classes))
    fresh = [noise_rows(draw, (size, *shape)) for draw in draws] if label_noise and not fixed else None
    if drawing.size is None:
        rows = None
        x_batch[:], y_batch[:] = ([what.x for what in objectives], targets)
    else:
        rows = [index_rows(examples, size, one.replacement, generator(one.seed, "batches")) for one in batches]
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
        self.column = np.empty((runs, examples, 1))

    def write_gradient(self, layers: Layers, x: Array, targets: Array, into: Layers) -> None:
        """The gradient of every run's mean loss."""
        value = x
        biases = layers.bias_or_none
        for weight, z, bias in zip(layers.weights[:-1], self.values, biases, strict=False):
            np.matmul(value, weight, z)
            self.activation.enter(z, bias)
            value = z
        z = self.values[-1]
        np.matmul(value, layers.weights[-1], z)
        self.loss.write_slope(z, biases[-1], targets, self.deltas[-1], self.column)
        entering, sums = [x, *self.values], into.bias_or_none
        average(self.deltas[-1], self.examples, sums[-1])
        for layer in range(len(self.deltas) - 1, -1, -1):
            delta = self.deltas[layer]
            np.matmul(entering[layer].swapaxes(1, 2), delta, into.weights[layer])
            if layer > 0:
                np.matmul(delta, layers.weights[layer].swapaxes(1, 2), self.deltas[layer - 1])
                self.activation.leave(self.deltas[layer - 1], entering[layer], sums[layer - 1])

    def mean_loss(self, run: int, targets: Array) -> float:
        """The mean loss of one run's batch, of what the last pass left."""
        return float(self.loss.value(self.values[-1][run], targets[run], self.column[run]) / self.examples)


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
    objectives: Sequence[Objective],
    batch_size: int | None,
    source: Iterator[tuple[Array, Array]],
    rates: Array,
    records: Sequence[Record],
    want_loss: bool,
) -> tuple[Array, Array]:
    """The loop: the last weights and the step of divergence of every run."""
    runs, what = len(objectives), objectives[0]
    net: Network = what.net
    weights = np.array([one.flat() for one in objectives])
    gradient, decayed = np.empty_like(weights), np.empty_like(weights)
    entries, layers, into = weights.ravel(), _views(weights, net), _views(gradient, net)
    passes = _StackedPasses(runs, net, str(what.loss), batch_size or what.examples)
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
        descend(weights, gradient, rate)
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
