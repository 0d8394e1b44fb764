"""Ensembles of quadratics with labels, sweeps and laziness, whichever the model is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import (
    Numeric,
    checked,
    choice,
    describe_seed,
    flag,
    increasing_steps,
    instance_of,
    optional,
    replica_indices,
    seeds,
    unit_interval,
)
from sgdynamics.domains import average as average_weights
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.simulate._streams import Purpose, Seed, stream_key
from sgdynamics.simulate.quadratic import _coupled, _diagonal
from sgdynamics.simulate.quadratic._cells import Floats, swept
from sgdynamics.simulate.quadratic._problems import problem_of
from sgdynamics.sweeps import steps_to_record

__all__ = ["ensemble"]

Model: TypeAlias = MiniBatchQuadratic | FullQuadratic | FiniteSumQuadratic | GaussianLeastSquares


def _route(model: Model, method: str, seed: Seed) -> tuple[Callable[..., tuple[Floats, Floats]], dict[str, int]]:
    """What runs an ensemble of this model, and the dims that only it brings."""
    if isinstance(model, MiniBatchQuadratic):
        by_jumps = method == "jumps"
        key = stream_key(seed, Purpose.QUADRATIC_JUMPS if by_jumps else Purpose.QUADRATIC_STEPS)
        return functools.partial(_diagonal.run, key=key, by_jumps=by_jumps), {}
    if method != "steps":
        raise ValueError(f"ensemble: method must be 'steps' for a {type(model).__name__}, got {method!r}")
    problem = problem_of(model)
    key = stream_key(seed, problem.purpose)
    return functools.partial(_coupled.run, problem=problem, key=key), {"mode": model.modes}


@checked(
    model=instance_of(MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic, GaussianLeastSquares),
    schedule=schedule_of_rates,
    replicas=replica_indices,
    seed=seeds,
    average=optional(average_weights),
    momentum=unit_interval,
    nesterov=flag,
    record=optional(increasing_steps),
    method=choice("steps", "jumps"),
)
def ensemble(
    model: Model,
    schedule: Numeric,
    *,
    replicas: Numeric,
    seed: Seed,
    average: Numeric = None,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
    record: Numeric = None,
    method: Literal["steps", "jumps"] = "steps",
) -> xr.Dataset:
    r"""Independent runs of a quadratic, mini-batch by mini-batch.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
    schedule : Numeric, shape (steps,) or a DataArray with the dim ``step``
        Learning rates :math:`\eta_1, \dots, \eta_T`.
    replicas : int or 1-D array of int
        How many runs, or the indices of the runs. A replica has the same bits whichever others are asked for.
    seed : int or SeedSequence
        The batches depend on the seed, the replica, the step and, for a ``MiniBatchQuadratic``, the mode (with
        ``jumps``, the place of the step in ``record``) and on nothing else: all cells of a sweep meet the same batches.
    average : Numeric, shape (steps + 1,), optional
        Weights over the iterates :math:`x_0, \dots, x_T`. The result is then the one averaged point, at step T.
    momentum : Numeric
        :math:`\beta` in [0, 1): :math:`u_t = \beta u_{t-1} + \nabla L_t(x_{t-1})`, :math:`x_t = x_{t-1} - \eta_t u_t`,
        :math:`u_0 = 0`.
    nesterov : bool
        Take the gradient at :math:`y_t = x_{t-1} + \beta (x_{t-1} - x_{t-2})` and step from there,
        :math:`x_t = y_t - \eta_t \nabla L_t(y_t)`, with :math:`x_{-1} = x_0`.
    record : array of int, optional
        Increasing steps in 0..T to keep; the last one where nothing is said. Steps that are not recorded need no
        memory.
    method : {"steps", "jumps"}
        Draw every mini-batch, or draw the recorded points from their exact joint law. Same distribution, different
        random numbers. Jumps are for a ``MiniBatchQuadratic`` only.

    Any dim of the schedule, the average, the momentum or a ``MiniBatchQuadratic`` beside ``step`` and ``mode`` is swept
    over. Where one of them is backed by dask, the result is lazy.

    Returns
    -------
    Dataset
        ``error`` (..., replica, step, mode), distance from the minimiser; ``excess_risk`` (..., replica, step). Runs
        that leave the range of floats are infinite: mode by mode for a ``MiniBatchQuadratic``, in all of their
        coordinates, and for good, where the curvature couples them.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Runs on ``SGDYNAMICS_THREADS`` threads, or one per core, with the same bits for any number of them.

    Where the curvature of the batches is random, variances may be infinite although almost every run settles: between
    the mean-square edge and the almost-sure one a sample variance says nothing.

    Examples
    --------
    A gain of 1/2 has the stationary variance x/(2-x) = 1/3:

    >>> from sgdynamics.models.quadratic import FiniteSumQuadratic, MiniBatchQuadratic
    >>> from sgdynamics.models.schedules import constant
    >>> model = MiniBatchQuadratic(curvature=5.0, center_variance=1.0)
    >>> runs = ensemble(model, constant(0.1, 50), replicas=100_000, seed=1)
    >>> dict(runs.error.sizes), round(float(runs.error.var()), 2)
    ({'replica': 100000, 'step': 1, 'mode': 1}, 0.33)

    Batches from a finite set, where the order of an epoch leaves less noise at its end than independent draws:

    >>> for sampling in ("replacement", "reshuffled"):
    ...     model = FiniteSumQuadratic(np.ones(8), np.arange(8.0), sampling=sampling)
    ...     runs = ensemble(model, constant(0.3, 80), replicas=20_000, seed=1)
    ...     print(sampling, round(float(runs.error.var()), 1))
    replacement 0.9
    reshuffled 0.4
    """
    rates = swept("ensemble", "schedule", schedule, "step")
    steps = rates.sizes["step"]
    record = steps_to_record("ensemble", record, steps)
    arguments = [
        (rates.rename(step="_rate"), ["_rate"]),
        (swept("ensemble", "momentum", momentum, None), []),
    ]
    if isinstance(model, MiniBatchQuadratic):
        arguments += [(swept("ensemble", "model", field, "mode"), ["mode"]) for field in model.labelled()]
    if average is not None:
        weights = swept("ensemble", "average", average, "step")
        if weights.sizes["step"] != steps + 1:
            raise ValueError(
                f"ensemble: average must be {steps + 1} weights over x_0..x_T, T = {steps}, got {weights.sizes['step']}"
            )
        if record.tolist() != [steps]:
            raise ValueError(
                f"ensemble: record must be None or [{steps}] with an average, which is one point, got {record.tolist()}"
            )
        arguments.append((weights.rename(step="_weight"), ["_weight"]))
    run, own_dims = _route(model, method, seed)
    error, risk = xr.apply_ufunc(
        run,
        *(value for value, _ in arguments),
        input_core_dims=[dims for _, dims in arguments],
        output_core_dims=[["replica", "step", "mode"], ["replica", "step"]],
        kwargs={"replicas": replicas, "record": record, "nesterov": nesterov},
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"replica": replicas.size, "step": record.size, **own_dims}},
    )
    error.attrs = {"long_name": "error", "units": "weight"}
    risk.attrs = {"long_name": "excess risk", "units": "loss"}
    return xr.Dataset(
        {"error": error, "excess_risk": risk},
        coords={
            "replica": ("replica", replicas, {"long_name": "replica", "units": "1"}),
            "step": ("step", record, {"long_name": "step", "units": "1"}),
        },
        attrs={
            "source": "sandler2023",
            "method": method,
            "seed": describe_seed(seed),
            "version": sgdynamics.__version__,
        },
    )
