"""Running a network along a schedule, and keeping what was asked for."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import (
    checked,
    complain,
    describe_seed,
    flag,
    function,
    increasing_steps,
    integer,
    optional,
    seeds,
)
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.batches import checked_noise, checked_size, noise_kind, noise_size, stream
from sgdynamics.simulate.trainer.derivatives import Objective, decay_domain, objective, trainable_domain
from sgdynamics.simulate.trainer.losses import LOSSES, loss_name
from sgdynamics.simulate.trainer.network import (
    ACTIVATIONS,
    Network,
    a_network,
    check_real,
    from_vector,
    unflatten,
)
from sgdynamics.simulate.trainer.passes import value_and_gradient
from sgdynamics.simulate.trainer.updates import Update, sgd

__all__ = ["train"]

Array = NDArray[Any]

# Iterates held back before they are added to the averages; fixed, because it decides the order of the sums.
AVERAGED_AT_ONCE = 64


class _Averages:
    """Weighted sums of iterates, streamed: no iterate is kept for longer than a block."""

    def __init__(self, averages: Mapping[str, Array], size: int) -> None:
        self.weights = np.array(list(averages.values()))
        self.sums = np.zeros((len(averages), size))
        self.block = np.empty((AVERAGED_AT_ONCE, size))

    def add(self, step: int, iterate: Array) -> None:
        """Take the iterate of a step; steps come in order."""
        row = step % AVERAGED_AT_ONCE
        self.block[row] = iterate
        if row == AVERAGED_AT_ONCE - 1 or step == self.weights.shape[1] - 1:
            self.sums += self.weights[:, step - row : step + 1] @ self.block[: row + 1]


class _Record:
    """The statistics at the recorded steps; +inf unless filled in."""

    def __init__(
        self,
        steps: Array,
        net: Network,
        what: Objective,
        measure: Callable[[Network], Mapping[str, float]] | None,
        keep_weights: bool,
    ) -> None:
        self.steps, self.net, self.what, self.measure = steps, net, what, measure
        self.wanted = {int(step): row for row, step in enumerate(steps)}
        self.loss = np.full(steps.size, math.inf)
        self.batch_loss = np.full(steps.size, math.inf)
        self.weights = np.full((steps.size, net.size), math.inf) if keep_weights else None
        self.measured: dict[str, Array] | None = None

    def keep(self, step: int, weights: Array, batch_loss: float) -> None:
        """Fill in a recorded step."""
        row = self.wanted[step]
        net = from_vector(weights.copy(), self.net)
        self.loss[row] = self.what.value(net)
        self.batch_loss[row] = batch_loss
        if self.weights is not None:
            self.weights[row] = weights
        if self.measure is not None:
            self._keep_measured(row, self.measure(net))

    def _keep_measured(self, row: int, found: Any) -> None:
        text = "a callable that returns a mapping of the same names to numbers at every step"
        if not isinstance(found, Mapping):
            raise complain("train", "measure", text, found, TypeError)
        if self.measured is None:
            taken = set(found) & {"step", "time", "average", "parameter", *RESERVED}
            if taken or not all(isinstance(name, str) for name in found):
                raise complain("train", "measure", "a callable whose names are free words", sorted(map(str, found)))
            self.measured = {name: np.full(self.steps.size, math.inf) for name in found}
        if set(found) != set(self.measured):
            raise complain("train", "measure", text, sorted(found))
        for name, value in found.items():
            if not isinstance(value, numbers.Real) and getattr(value, "shape", None) != ():
                raise complain("train", "measure", text, value, TypeError)
            self.measured[name][row] = float(value)

    def measured_names(self, weights: Array) -> dict[str, Array]:
        """What was measured; a run that diverged before its first record is asked at the start for the names alone."""
        if self.measure is None:
            return {}
        if self.measured is None:
            self._keep_measured(0, self.measure(from_vector(weights.copy(), self.net)))
            assert self.measured is not None
            for values in self.measured.values():
                values[:] = math.inf
        return self.measured


RESERVED = {
    "loss": ("training loss at the step's weights, all examples, without label noise, weight decay included", "loss"),
    "batch_loss": (
        "loss of the batch of the step at the weights before it, weight decay included; NaN at step 0",
        "loss",
    ),
    "weights": ("weights at the step", "parameter"),
    "final_weights": ("weights at the last step", "parameter"),
    "averaged_weights": ("weighted average of all iterates", "parameter"),
    "averaged_loss": ("training loss at the averaged weights, without label noise, weight decay included", "loss"),
    "divergence_step": ("first step whose weights overflow, -1 if there is none", "1"),
}


@checked(
    net=a_network,
    x=arguments.matrix,
    y=arguments.columns,
    schedule=schedule_of_rates,
    loss=loss_name,
    batch_size=optional(integer(1)),
    replacement=flag,
    update=optional(function),
    weight_decay=decay_domain,
    trainable=trainable_domain,
    label_noise=noise_size,
    label_noise_kind=noise_kind,
    averages=optional(arguments.averages),
    record=optional(increasing_steps),
    measure=optional(function),
    keep_weights=flag,
    seed=seeds,
)
def train(
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    schedule: ArrayLike,
    *,
    loss: str,
    batch_size: int | None = None,
    replacement: bool = True,
    update: Update | None = None,
    weight_decay: float = 0.0,
    trainable: ArrayLike | None = None,
    label_noise: float = 0.0,
    label_noise_kind: str = "fresh",
    averages: Mapping[str, ArrayLike] | None = None,
    record: ArrayLike | None = None,
    measure: Callable[[Network], Mapping[str, float]] | None = None,
    keep_weights: bool = False,
    seed: int | np.random.SeedSequence,
) -> xr.Dataset:
    r"""Train a network with one update per entry of the schedule, and return raw statistics.

    Step :math:`t = 1..T` takes the batch :math:`B_t`, the gradient :math:`g_t = \nabla L_{B_t}(w_{t-1})` and the rate
    :math:`\eta_t` to :math:`w_t`, by default :math:`w_t = w_{t-1} - \eta_t g_t`. The iterates are :math:`w_0` (the
    start) to :math:`w_T`. What is recorded has no influence on the path, and batches and noise depend on the seed
    alone, not on the schedule: they can be replayed by :func:`batches`.

    Parameters
    ----------
    net : Network
        The start; it is not changed.
    x : array, shape (examples, inputs)
        Inputs.
    y : array
        Targets or labels, as for :func:`loss_value`.
    schedule : array, shape (steps,)
        Learning rates >= 0, for instance from :mod:`sgdynamics.models.schedules`.
    loss : {"mse", "cross_entropy"}
        The loss.
    batch_size : int, optional
        Examples per step, >= 1. None is full batch.
    replacement : bool
        True: the examples of all batches are drawn independently. False: shuffled anew every epoch; an incomplete last
        batch is dropped.
    update : callable, optional
        ``update(weights, gradient, rate, state) -> weights, state``, such as :func:`sgd` (the default) or
        :func:`momentum`.
    weight_decay : float
        :math:`\lambda` in :math:`\frac\lambda2|\theta|^2` over the trainable parameters, >= 0: a part of the loss.
    trainable : array of bool, shape (parameters,), optional
        The other parameters keep their start values, whatever the update rule does.
    label_noise : float
        For ``"mse"`` the standard deviation of Gaussian noise on every target; for ``"cross_entropy"`` the probability
        that a label is replaced by one drawn uniformly from all classes.
    label_noise_kind : {"fresh", "fixed"}
        Noise drawn at every use of an example, or once per example.
    averages : mapping of str to array, shape (steps + 1,), optional
        Weighted averages of the iterates, such as ``models.schedules.ema(beta, steps)``: weights over
        :math:`w_0..w_T` that sum to 1. Streamed: the iterates are not stored.
    record : array of int, optional
        Increasing steps in 0..T at which statistics are kept. None keeps the last step only.
    measure : callable, optional
        ``measure(net) -> {name: number}``, called with the network at every recorded step; each name becomes a
        variable.
    keep_weights : bool
        Whether the weights at recorded steps are kept. Those of the last step always are.
    seed : int or numpy.random.SeedSequence
        Seed of batches and label noise, >= 0.

    Returns
    -------
    xarray.Dataset
        ``loss`` (step): training loss at the recorded weights, without label noise, weight decay included.
        ``batch_loss`` (step): loss of the batch of the step just before it was taken, noise included; NaN at step 0.
        ``weights`` (step, parameter) if kept. ``final_weights`` (parameter). ``averaged_weights`` (average, parameter)
        and ``averaged_loss`` (average) if asked for. ``divergence_step``: the first step whose squared norm of the
        weights overflows, or -1. One variable (step) per measured name. Coordinates ``step`` and ``time``, the sum of
        the learning rates so far. From ``divergence_step`` on everything is +inf; the run stops there without an
        exception.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.models import schedules
    >>> from sgdynamics.simulate.trainer import network, train
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    >>> halving = schedules.constant(0.5, 3)
    >>> run = train(net, [[1]], [0], halving, loss="mse", record=[0, 1, 3], keep_weights=True, seed=0)
    >>> run.weights.values.ravel()
    array([1.   , 0.5  , 0.125])
    >>> train(net, [[1.0]], [0.0], schedules.constant(1e200, 3), loss="mse", seed=0).divergence_step.item()
    1
    """
    check_real("train", net)
    what = objective("train", net, x, y, loss, weight_decay, trainable)  # type: ignore[arg-type]
    rates = arguments.one_dimensional("train", "schedule", schedule)
    checked_noise("train", label_noise, loss)
    checked_size("train", batch_size, what.x.shape[0], replacement)
    steps = rates.size
    kept = np.array([steps]) if record is None else np.asarray(record)
    if kept[-1] > steps:
        raise complain("train", "record", f"steps in 0..{steps}", int(kept[-1]))
    for name, weights_of_average in (averages or {}).items():
        arguments.length("train", f"averages[{name!r}]", np.asarray(weights_of_average), steps + 1, "steps + 1")
    labels: Array = y  # type: ignore[assignment]
    if loss == "cross_entropy" and labels.ndim == 1:
        labels = labels.astype(np.int64)
    source = stream(
        what.x, labels, batch_size, replacement, label_noise, label_noise_kind, net.widths[-1], loss, seed
    )  # fmt: skip
    recorded = _Record(kept, net, what, measure, keep_weights)
    streamed = _Averages(averages, net.size) if averages else None  # type: ignore[arg-type]
    with one_blas_thread(), np.errstate(all="ignore"):
        final, divergence_step = _run(net, what, source, rates, sgd() if update is None else update, recorded, streamed)
        data = {"loss": ("step", recorded.loss), "batch_loss": ("step", recorded.batch_loss)}
        if recorded.weights is not None:
            data["weights"] = (("step", "parameter"), recorded.weights)  # type: ignore[assignment]
        data["final_weights"] = ("parameter", final)
        if streamed is not None:
            if divergence_step >= 0:
                streamed.sums[:] = math.inf
            losses = [what.value(from_vector(mean, net)) for mean in streamed.sums]
            data["averaged_weights"] = (("average", "parameter"), streamed.sums)  # type: ignore[assignment]
            data["averaged_loss"] = ("average", np.array(losses))
        measured = recorded.measured_names(net.flat())
    time = np.concatenate([[0.0], np.cumsum(rates)])[kept]
    coordinates: dict[str, Any] = {"step": kept, "time": ("step", time)}
    if averages:
        coordinates["average"] = list(averages)
    result = xr.Dataset(data, coordinates)
    result["divergence_step"] = np.int32(divergence_step)
    for name, (long_name, units) in RESERVED.items():
        if name in result:
            result[name].attrs.update(long_name=long_name, units=units)
    for name, values in measured.items():
        result[name] = ("step", values, {"long_name": f"measured {name}", "units": "1"})
    result["step"].attrs.update(long_name="step", units="1")
    result["time"].attrs.update(long_name="sum of the learning rates so far", units="learning rate")
    result.attrs.update(
        source="sgdynamics.simulate.trainer.train",
        version=sgdynamics.__version__,
        seed=describe_seed(seed),
        network=repr(net),
        loss=loss,
        batch_size=float(batch_size or what.x.shape[0]),
        sampling="full batch" if batch_size is None else "with replacement" if replacement else "reshuffled",
        weight_decay=weight_decay,
        label_noise=label_noise,
        label_noise_kind=label_noise_kind,
    )
    return result


def _alike(weights: Any, start: Array) -> bool:
    return isinstance(weights, np.ndarray) and weights.shape == start.shape and weights.dtype == start.dtype


def _run(
    net: Network,
    what: Objective,
    source: Any,
    rates: Array,
    update: Update,
    recorded: _Record,
    streamed: _Averages | None,
) -> tuple[Array, int]:
    """The loop: the last weights and the step of divergence."""
    activation, loss = ACTIVATIONS[net.activation], LOSSES[what.loss]
    biases = net.biases is not None
    identity = np.eye(net.widths[-1])
    start = net.flat()
    weights, state = start.copy(), None
    layers = unflatten(weights, net.widths, biases)
    frozen = None if what.trainable is None else ~what.trainable
    if 0 in recorded.wanted:
        recorded.keep(0, weights, math.nan)
    if streamed is not None:
        streamed.add(0, weights)
    for step, (rate, (x, y)) in enumerate(zip(rates.tolist(), source, strict=False), 1):
        targets = y if y.ndim == 2 else identity.take(y, axis=0) if y.dtype.kind == "i" else y[:, None]
        slopes = np.empty_like(start)
        batch_loss = value_and_gradient(layers, activation, loss, x, targets, unflatten(slopes, net.widths, biases))
        if what.weight_decay:
            slopes += what.weight_decay * weights
        if frozen is not None:
            slopes[frozen] = 0.0
        if step in recorded.wanted:
            # before the update, which may work in place
            total = float(batch_loss + what.decay(weights)) if what.weight_decay else float(batch_loss)
        answer = update(weights, slopes, rate, state)
        if not isinstance(answer, tuple) or len(answer) != 2 or not _alike(answer[0], start):
            text = f"a callable that returns float64 weights of shape {start.shape} and a state"
            raise complain("train", "update", text, answer, TypeError)
        weights, state = answer
        if frozen is not None:
            weights = np.where(frozen, start, weights)
        if not math.isfinite(weights.dot(weights)):
            return np.full_like(start, math.inf), step
        layers = unflatten(weights, net.widths, biases)
        if step in recorded.wanted:
            recorded.keep(step, weights, total if math.isfinite(total) else math.inf)
        if streamed is not None:
            streamed.add(step, weights)
    return weights.copy(), -1
