"""Running a network along a schedule, and keeping what was asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked, complain, flag, function, increasing_steps, integer, optional, seeds
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.batches import Batches, some_batches
from sgdynamics.simulate.trainer.derivatives import data_domains
from sgdynamics.simulate.trainer.elementwise import add_decay
from sgdynamics.simulate.trainer.losses import AnyLoss
from sgdynamics.simulate.trainer.network import AnyNetwork, check_real
from sgdynamics.simulate.trainer.objective import Objective, real_objective
from sgdynamics.simulate.trainer.recording import RESERVED, Measure, Measurements, Record, StreamedAverages
from sgdynamics.simulate.trainer.updates import InPlace, Update, sgd
from sgdynamics.sweeps import steps_to_record

__all__ = ["train", "trajectory"]

Array = NDArray[Any]


@checked(
    objective=real_objective,
    schedule=schedule_of_rates,
    batches=optional(some_batches),
    update=optional(function),
    averages=optional(arguments.averages),
    record=optional(increasing_steps),
    measure=optional(arguments.measurement),
    measure_at=optional(increasing_steps),
    evaluate_loss=flag,
    keep_weights=flag,
    progress=flag,
)
def trajectory(
    objective: Objective,
    schedule: ArrayLike,
    *,
    batches: Batches | None = None,
    update: Update | None = None,
    averages: Mapping[str, ArrayLike] | None = None,
    record: ArrayLike | None = None,
    measure: Measure | None = None,
    measure_at: ArrayLike | None = None,
    evaluate_loss: bool = True,
    keep_weights: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    r"""Minimise an objective with one update per entry of the schedule, and return raw statistics.

    Step :math:`t = 1..T` takes the batch :math:`B_t`, the gradient :math:`g_t = \nabla L_{B_t}(w_{t-1})` and the rate
    :math:`\eta_t` to :math:`w_t`, by default :math:`w_t = w_{t-1} - \eta_t g_t`. The iterates are :math:`w_0` (the
    start) to :math:`w_T`. What is recorded has no influence on the path, and batches and noise depend on their seed
    alone, not on the schedule: they can be replayed by :meth:`Batches.drawn`.

    Parameters
    ----------
    objective : Objective
        What is minimised, from its weights on; it is not changed.
    schedule : array, shape (steps,)
        Learning rates >= 0, for instance from :mod:`sgdynamics.models.schedules`.
    batches : Batches, optional
        The batches of the steps and their label noise. None: all examples at every step, without noise.
    update : callable, optional
        ``update(weights, gradient, rate, state) -> weights, state``, such as :func:`sgd` (the default) or
        :func:`momentum`. Its arrays are its own: it may edit, return or keep them.
    averages : mapping of str to array, shape (steps + 1,), optional
        Weighted averages of the iterates, such as ``models.schedules.ema(beta, steps)``: weights over
        :math:`w_0..w_T` that sum to 1. Streamed: the iterates are not stored.
    record : array of int, optional
        Increasing steps in 0..T at which statistics are kept. None keeps the last step only.
    measure : callable or mapping of str to callable, optional
        Instruments, called with the objective at the weights of the step, without label noise, in the order given. An
        instrument returns a mapping of names to numbers or DataArrays, such as a Dataset: each name becomes a variable,
        along the step and the instrument's own dims. In a mapping it may also return one number or DataArray, stored
        under its name there. The functions of this package that take an objective and return a Dataset are instruments;
        :func:`functools.partial` gives them options.
    measure_at : array of int, optional
        Increasing steps in 0..T at which the instruments are called, for instance every m-th: the measured variables
        are then along ``measured_step``. None: at the recorded steps, along ``step``.
    evaluate_loss : bool
        False: the loss over all examples at recorded steps is not computed, and ``loss`` is missing.
    keep_weights : bool
        Whether the weights at recorded steps are kept. Those of the last step always are.
    progress : bool
        Show, on the error stream or in the notebook, how many steps are done, and print at the end what every
        instrument cost in seconds. Seconds are no part of the result.

    Returns
    -------
    xarray.Dataset
        ``loss`` (step): training loss at the recorded weights, without label noise, weight decay included.
        ``batch_loss`` (step): loss of the batch of the step just before it was taken, noise included; NaN at step 0.
        ``weights`` (step, parameter) if kept. ``final_weights`` (parameter). ``averaged_weights`` (average, parameter)
        and ``averaged_loss`` (average) if asked for. ``divergence_step``: the first step whose squared norm of the
        weights overflows, or -1. One variable (step or measured_step, ...) per measured name. Coordinates ``step`` and
        ``time``, the sum of the learning rates so far, and ``measured_step`` and ``measured_time``. From
        ``divergence_step`` on everything is +inf; the run stops there without an exception. The attribute
        ``hessian_products`` is the number that the instruments say they spent.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the objective.

    Examples
    --------
    >>> from sgdynamics.models import schedules
    >>> from sgdynamics.simulate.trainer import Objective, gradient_covariance, network, trajectory, tracked_eigenpairs
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    >>> halving = schedules.constant(0.5, 3)
    >>> run = trajectory(Objective(net, [[1]], [0], "mse"), halving, record=[0, 1, 3], keep_weights=True)
    >>> run.weights.values.ravel()
    array([1.   , 0.5  , 0.125])
    >>> instruments = {"sharpest": tracked_eigenpairs(k=1), "noise": gradient_covariance}
    >>> objective = Objective(net, [[1.0], [2.0]], [0.0, 0.0], "mse")
    >>> run = trajectory(objective, halving, measure=instruments, measure_at=[0, 2])
    >>> run.sharpness.values, run.gradient_variance.values.round(3)
    (array([2.5, 2.5]), array([2.25 , 0.009]))
    """
    owner = "trajectory"
    drawn = Batches(seed=0) if batches is None else batches
    drawn.check_fit(owner, objective)
    rates = arguments.one_dimensional(owner, "schedule", schedule)
    steps = rates.size
    kept = steps_to_record(owner, record, steps)
    measured_at = kept if measure_at is None else np.asarray(measure_at)
    if measured_at[-1] > steps:
        raise complain(owner, "measure_at", f"steps in 0..{steps}", int(measured_at[-1]))
    for name, weights_of_average in (averages or {}).items():
        arguments.length(owner, f"averages[{name!r}]", np.asarray(weights_of_average), steps + 1, "steps + 1")
    whole = objective.passes(objective.examples)
    passes, room = whole, None
    if drawn.size is not None:
        passes = objective.passes(drawn.size)
        room = _room(objective.x, drawn.size), _room(objective.targets, drawn.size)
    source = drawn.stream(objective, objective.targets, room)
    recorded = Record(kept, objective, whole, evaluate_loss, keep_weights)
    along = "step" if measure_at is None else "measured_step"
    measured = None if measure is None else Measurements(measure, measured_at, along)
    streamed = StreamedAverages(averages, objective.size) if averages else None  # type: ignore[arg-type]
    began = time.perf_counter()
    with one_blas_thread(), np.errstate(all="ignore"):
        rule = sgd() if update is None else update
        taken = _shown(rates.tolist()) if progress else rates.tolist()
        final, divergence_step = _run(objective, passes, source, taken, rule, recorded, measured, streamed)
        data = {} if recorded.loss is None else {"loss": ("step", recorded.loss)}
        data["batch_loss"] = ("step", recorded.batch_loss)
        if recorded.weights is not None:
            data["weights"] = (("step", "parameter"), recorded.weights)  # type: ignore[assignment]
        data["final_weights"] = ("parameter", final)
        if streamed is not None:
            if divergence_step >= 0:
                streamed.sums[:] = math.inf
            losses = [objective.at(mean).loss_value() for mean in streamed.sums]
            data["averaged_weights"] = (("average", "parameter"), streamed.sums)  # type: ignore[assignment]
            data["averaged_loss"] = ("average", np.array(losses))
        named = {} if measured is None else measured.results(objective)
    times = np.concatenate([[0.0], np.cumsum(rates)])
    coordinates: dict[str, Any] = {"step": kept, "time": ("step", times[kept])}
    if measure_at is not None:
        coordinates |= {"measured_step": measured_at, "measured_time": ("measured_step", times[measured_at])}
    if averages:
        coordinates["average"] = list(averages)
    data["divergence_step"] = ((), np.int32(divergence_step))  # type: ignore[assignment]
    result = xr.Dataset(data, coordinates)
    for name, (long_name, units) in RESERVED.items():
        if name in result:
            result[name].attrs.update(long_name=long_name, units=units)
    if named:
        result = result.assign(named)
    for prefix in ("", "measured_") if measure_at is not None else ("",):
        result[f"{prefix}step"].attrs.update(long_name=f"{prefix}step".replace("_", " "), units="1")
        result[f"{prefix}time"].attrs.update(long_name="sum of the learning rates so far", units="learning rate")
    result.attrs.update(
        source=f"sgdynamics.simulate.trainer.{owner}",
        version=sgdynamics.__version__,
        network=repr(objective.net),
        loss=str(objective.loss),
        weight_decay=objective.weight_decay,
        **drawn.attributes(objective),
    )
    if measured is not None:
        result.attrs["hessian_products"] = measured.hessian_products
        if progress:
            measured.print_cost(time.perf_counter() - began)
    return result


def _shown(rates: list[float]) -> Iterable[float]:
    """The rates, with a bar of how many of them were taken."""
    from tqdm.auto import tqdm

    bar: Iterable[float] = tqdm(rates, desc="training", unit="step")
    return bar


@checked(
    **data_domains,
    schedule=schedule_of_rates,
    batch_size=optional(integer(1)),
    update=optional(function),
    record=optional(increasing_steps),
    seed=seeds,
)
def train(
    net: AnyNetwork,
    x: ArrayLike,
    y: ArrayLike,
    schedule: ArrayLike,
    *,
    loss: AnyLoss,
    batch_size: int | None = None,
    update: Update | None = None,
    record: ArrayLike | None = None,
    seed: int | np.random.SeedSequence,
) -> xr.Dataset:
    r"""Train a network along a schedule; :func:`trajectory`, which has more to offer, for the usual case.

    Parameters
    ----------
    net, x, y, loss
        As for :class:`Objective`, which takes weight decay and a mask of trainable parameters, too.
    schedule : array, shape (steps,)
        Learning rates >= 0, for instance from :mod:`sgdynamics.models.schedules`.
    batch_size : int, optional
        Examples per step, >= 1. None is full batch. Examples are shuffled anew every epoch; :class:`Batches` draws in
        other ways, and with label noise.
    update, record
        As for :func:`trajectory`, which measures along the run, averages iterates and keeps weights, too.
    seed : int or numpy.random.SeedSequence
        Seed of the batches, >= 0.

    Returns
    -------
    xarray.Dataset
        ``loss`` and ``batch_loss`` (step), ``final_weights`` (parameter), ``divergence_step``, as of
        :func:`trajectory`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.models import schedules
    >>> from sgdynamics.simulate.trainer import network, train
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    >>> train(net, [[1.0]], [0.0], schedules.constant(0.5, 3), loss="mse", seed=0).final_weights.values
    array([0.125])
    >>> train(net, [[1.0]], [0.0], schedules.constant(1e200, 3), loss="mse", seed=0).divergence_step.item()
    1
    """
    check_real("train", net)
    objective = Objective.of("train", net, x, y, loss)
    batches = Batches(batch_size, seed=seed)
    batches.check_fit("train", objective, size="batch_size")
    return trajectory(objective, schedule, batches=batches, update=update, record=record)


def _room(examples: Array, count: int) -> Array:
    """An array for so many of the examples."""
    return np.empty((count, *examples.shape[1:]), examples.dtype)


def _moved(answer: Any, start: Array) -> tuple[Array, Any]:
    """What an update rule returned, if it is that."""
    if isinstance(answer, tuple) and len(answer) == 2:
        weights = answer[0]
        if isinstance(weights, np.ndarray) and weights.shape == start.shape and weights.dtype == start.dtype:
            return answer
    text = f"a callable that returns float64 weights of shape {start.shape} and a state"
    raise complain("trajectory", "update", text, answer, TypeError)


def _run(
    what: Objective,
    passes: Any,
    source: Any,
    rates: Iterable[float],
    update: Update,
    recorded: Record,
    measured: Measurements | None,
    streamed: StreamedAverages | None,
) -> tuple[Array, int]:
    """The loop: the last weights and the step of divergence."""
    net, start = what.net, what.flat()
    weights, state = start.copy(), None
    layers = net.views(weights)
    gradient, spare = np.empty_like(start), np.empty_like(start)
    into = net.views(gradient)
    overwrite = update.overwrite if isinstance(update, InPlace) else None
    frozen = None if what.trainable is None else ~what.trainable
    if 0 in recorded.wanted:
        recorded.keep(0, weights, math.nan)
    if measured is not None and 0 in measured.wanted:
        measured.keep(0, weights, what)
    if streamed is not None:
        streamed.add(0, weights)
    for step, (rate, (x, targets)) in enumerate(zip(rates, source, strict=False), 1):
        if overwrite is None:  # the rule may have kept the last one
            gradient = np.empty_like(start)
            into = net.views(gradient)
        batch_loss = passes.write_gradient(layers, x, targets, into, want_loss=step in recorded.wanted)
        if what.weight_decay:
            if batch_loss is not None:
                batch_loss += float(what.decay(weights))
            add_decay(gradient, weights, what.weight_decay, spare)
        if frozen is not None:
            gradient[frozen] = 0.0
        if overwrite is not None:
            state = overwrite(weights, gradient, rate, state)
        else:
            weights, state = _moved(update(weights, gradient, rate, state), start)
            if frozen is not None:
                weights = np.where(frozen, start, weights)
            layers = net.views(weights)
        if not math.isfinite(weights.dot(weights)):
            return np.full_like(start, math.inf), step
        if batch_loss is not None:
            recorded.keep(step, weights, batch_loss if math.isfinite(batch_loss) else math.inf)
        if measured is not None and step in measured.wanted:
            measured.keep(step, weights, what)
        if streamed is not None:
            streamed.add(step, weights)
    return weights.copy(), -1
