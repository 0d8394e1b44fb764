"""Runs of self-stabilising modes, with labels and sweeps."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import (
    Interval,
    Numeric,
    checked,
    complain,
    describe_seed,
    increasing_steps,
    instance_of,
    integer,
    nonnegative,
    one,
    optional,
    positive,
    replica_indices,
    seeds,
)
from sgdynamics.models.break_even import SelfStabilizingMode, SelfStabilizingModes
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._streams import Purpose, Seed, stream_key
from sgdynamics.simulate.break_even import _steps
from sgdynamics.simulate.break_even._steps import Floats, Problem, Rule
from sgdynamics.sweeps import spanned, steps_to_record

__all__ = ["ensemble"]

# Steps in one task: long enough to hide the cost of handing it out, short enough to keep all threads busy.
STEPS_OF_A_TASK = 50_000

RESERVED = ("replica", "mode", "step")

NAMES = {
    "mean_curvature": ("mean curvature over the window", "1 over learning rate"),
    "largest_curvature": ("largest curvature in the window", "1 over learning rate"),
    "second_moment": ("mean square of the oscillating weight over the window", "1"),
    "squared_slope": ("mean square of the slope of the loss over the window", "loss^2"),
    "curved_square": ("mean over the window of gain times mean square of batch slopes", "loss^2"),
    "projection_variance": ("mean variance of per-example slopes over the window", "loss^2"),
    "mean_minimiser": ("mean minimiser, ratio of sums over the window", "1"),
    "increase_probability": ("share of steps that raise the loss along the mode", "1"),
    "overshoot_probability": ("share of steps past the least loss along the mode", "1"),
    "dead_share": ("share of steps at which the mode lies dead", "1"),
    "break_even_step": ("first step at which the curvature reaches its edge, -1 for never", "1"),
    "divergence_step": ("step at which the run has diverged, -1 for never", "1"),
    "oscillation": ("oscillating weight", "1"),
    "curvature": ("curvature along the mode", "1 over learning rate"),
    "sharpness": ("top Hessian eigenvalue", "1 over learning rate"),
}

_share = Interval("a number in (0, 1]", low=0, high=1, high_open=False)


def _problem(model: SelfStabilizingMode | SelfStabilizingModes) -> Problem:
    """The model as arrays with an axis of modes."""
    n = model.examples
    curvatures, forces = (
        np.array(np.reshape(values, (n, -1)).T, dtype=np.float64, order="C")
        for values in (model.relative_curvatures, model.forces)
    )
    modes = len(curvatures)
    moments = (model.relative_variance, model.force_variance, model.curvature_force_covariance)
    x, y, sharpening = (np.full(modes, value) for value in (model.start, model.start_curvature, model.sharpening))
    return Problem(
        curvatures,
        forces,
        x,
        y,
        sharpening,
        np.stack([np.full(modes, value) for value in moments]),
        model.restoring,
        model.oscillation_floor,
        model.curvature_floor,
        model.batch_factor,
        model.batch_size,
        model.sampling == "replacement",
    )


def _run(
    rates: Floats, nudges: Floats, edges: Floats, *, problem: Problem, rule: Rule, key: Any, replicas: Any, record: Any
) -> tuple[Floats, ...]:
    """Window sums, states on the way and first steps of every cell of a sweep and every replica."""
    rates, nudges, edges = np.broadcast_arrays(rates, nudges, edges)
    shape, cells = rates.shape, rates.size
    modes, runs, kept = len(problem.x), replicas.size, record.size
    sums = np.zeros((cells, runs, modes, len(_steps.FIELDS)))
    largest, path = np.full((cells, runs, modes), -np.inf), np.full((cells, runs, modes, kept, 2), np.inf)
    crossed, diverged = np.full((cells, runs, modes), -1), np.full((cells, runs), -1)
    spread = 1 + problem.factor * problem.moments[0]
    tasks = []
    for cell, (rate, nudge, edge) in enumerate(zip(rates.flat, nudges.flat, edges.flat, strict=True)):
        own = rule._replace(rate=float(rate), nudge=float(nudge))
        limits = 2 / (rate * spread) if np.isnan(edge) else np.full(modes, edge)
        for block in slices(runs, max(1, STEPS_OF_A_TASK // rule.steps)):
            results = (array[cell, block] for array in (sums, largest, path, crossed, diverged))
            tasks.append(functools.partial(_steps.runs, problem, own, limits, key, replicas[block], record, *results))
    run_all(tasks)
    sums /= rule.steps - rule.first
    return (
        sums.reshape(*shape, *sums.shape[1:]),
        largest.reshape(*shape, runs, modes),
        path.reshape(*shape, *path.shape[1:]),
        crossed.astype(np.float64).reshape(*shape, runs, modes),
        diverged.astype(np.float64).reshape(*shape, runs),
    )


@checked(
    model=instance_of(SelfStabilizingMode, SelfStabilizingModes),
    learning_rate=positive,
    steps=integer(1),
    replicas=replica_indices,
    seed=seeds,
    window=one(_share),
    record=optional(increasing_steps),
    edge=optional(positive),
    nudge=nonnegative,
    nudged=integer(0),
    refresh=integer(1),
)
def ensemble(
    model: SelfStabilizingMode | SelfStabilizingModes,
    learning_rate: Numeric,
    *,
    steps: int,
    replicas: Numeric,
    seed: Seed,
    window: float = 0.75,
    record: Numeric = None,
    edge: Numeric = None,
    nudge: Numeric = 1.0,
    nudged: int = 0,
    refresh: int = 1,
) -> xr.Dataset:
    r"""SGD, or Nudged-SGD, on directions whose curvature grows until the edge of stability holds it.

    .. math:: x' = x - \eta (h_B y x - b_B), \qquad y' = y + \eta \bigl(a - \tfrac12 \beta h_B x^2\bigr),

    with a fresh batch of examples in every step, the same for all modes, and with the floors of the model.

    Parameters
    ----------
    model : SelfStabilizingMode or SelfStabilizingModes
    learning_rate : Numeric
        :math:`\eta > 0`: a number, a 1-D array along ``learning_rate``, or a DataArray; a lazy one stays lazy.
    steps : int
        >= 1.
    replicas : int or array of int
        How many runs, or their indices.
    seed : int or SeedSequence
        Every learning rate and every nudge of a sweep sees the same batches.
    window : float
        Share of the steps, in (0, 1], at the end of the run, over which means are taken. They are of the states before
        each step; at least one.
    record : array of int, optional
        Increasing steps in 0..steps at which states are kept; the last one where nothing is said.
    edge : Numeric, optional
        The curvature > 0 that counts as breaking even. None: :math:`2/(\eta(1+c_S\kappa^2))` of every mode, at which
        SGD on the frozen quadratic becomes unstable in mean square.
    nudge : Numeric
        :math:`\gamma \ge 0`: along nudged modes x moves at :math:`\gamma\eta`. All curvatures keep :math:`\eta`.
    nudged : int
        K, how many modes of the largest curvatures are nudged; 0 is SGD.
    refresh : int
        Steps after which the nudged modes are chosen anew.

    Returns
    -------
    Dataset
        Along ``replica`` (and ``mode`` of several), over the window: ``mean_curvature``, ``largest_curvature``;
        ``second_moment`` of x; ``squared_slope`` :math:`\overline{\bar g^2}` and ``curved_square``
        :math:`\overline{\eta y\,(\bar g^2 + c_S K_{11})}`, whose ratio is ``mean_minimiser``;
        ``projection_variance`` :math:`\overline{K_{11}}`; ``increase_probability``, ``overshoot_probability``;
        ``dead_share``, the share of steps at which a mode lies dead. In nudged modes :math:`\eta` is the rate of x.
        Then ``break_even_step``; at the recorded steps ``oscillation`` x, ``curvature`` y and, without ``mode``,
        ``sharpness`` of all; ``divergence_step`` and ``outcome``. A diverged run is infinite.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or more modes are nudged than there are.

    Notes
    -----
    Runs on ``SGDYNAMICS_THREADS`` threads, or one per core, with the same bits for any number of them.

    Examples
    --------
    >>> from sgdynamics.models.break_even import SelfStabilizingMode, draw_ensemble
    >>> drawn = draw_ensemble(1024, relative_variance=0.25, force_deviation=1.0, seed=0)
    >>> mode = SelfStabilizingMode(*drawn, sharpening=0.01, batch_size=16)
    >>> found = ensemble(mode, 0.1, steps=60_000, replicas=1, seed=0, window=0.5)
    >>> round(found.mean_curvature.item(), 1), found.dead_share.item()
    (19.5, 0.0)
    """
    owner = "ensemble"
    kept = steps_to_record(owner, record, steps)
    problem = _problem(model)
    if nudged > len(problem.x):
        raise complain(owner, "nudged", f"at most the number of modes, {len(problem.x)}", nudged)
    several = isinstance(model, SelfStabilizingModes)
    first = steps - max(1, round(float(window) * steps))
    rule = Rule(0.0, 1.0, nudged, refresh, steps, first)
    key = stream_key(seed, Purpose.BREAK_EVEN_M2 if several else Purpose.BREAK_EVEN_M1)
    sums, largest, path, crossed, diverged = xr.apply_ufunc(
        _run,
        spanned(owner, "learning_rate", learning_rate, axis="learning_rate", reserved=RESERVED),
        spanned(owner, "nudge", nudge, reserved=RESERVED),
        xr.DataArray(np.nan) if edge is None else spanned(owner, "edge", edge, reserved=RESERVED),
        output_core_dims=[
            ["replica", "mode", "field"],
            ["replica", "mode"],
            ["replica", "mode", "step", "which"],
            ["replica", "mode"],
            ["replica"],
        ],
        kwargs={"problem": problem, "rule": rule, "key": key, "replicas": replicas, "record": kept},
        dask="parallelized",
        output_dtypes=[np.float64] * 5,
        dask_gufunc_kwargs={
            "output_sizes": {
                "replica": replicas.size,
                "mode": len(problem.x),
                "field": len(_steps.FIELDS),
                "step": kept.size,
                "which": 2,
            }
        },
    )
    data = xr.Dataset({name: sums.isel(field=i) for i, name in enumerate(_steps.FIELDS)})
    data["largest_curvature"] = largest
    data["mean_minimiser"] = _minimiser(data)
    data["oscillation"], data["curvature"] = path.isel(which=0), path.isel(which=1)
    data["sharpness"] = _sharpness(data, model.restoring)
    data["break_even_step"] = crossed.astype(np.int32)
    data["divergence_step"] = diverged.astype(np.int32)
    return _described(data if several else data.isel(mode=0), replicas, kept, seed)


def _minimiser(data: xr.Dataset) -> xr.DataArray:
    """The ratio of sums: infinite after a divergence, and where nothing is curved, as without any gradient."""
    moved = np.isfinite(data.curved_square) & (data.curved_square > 0)
    made: xr.DataArray = data.squared_slope.where(moved, np.inf) / data.curved_square.where(moved, 1.0)
    return made


def _sharpness(data: xr.Dataset, restoring: float) -> xr.DataArray:
    """The top eigenvalue over all modes and their curvature weights."""
    beside = 2 * restoring**0.5 * data.oscillation
    own: xr.DataArray = 0.5 * (data.curvature + np.hypot(data.curvature, beside))
    return own.max("mode")


def _described(data: xr.Dataset, replicas: Any, kept: Any, seed: Seed) -> xr.Dataset:
    outcome = xr.full_like(data.divergence_step, Outcome.UNSETTLED, dtype=np.int8)
    data["outcome"] = outcome.where(data.divergence_step < 0, Outcome.DIVERGED).astype(np.int8)
    data["outcome"].attrs = outcome_attributes(Outcome.DIVERGED, Outcome.UNSETTLED)
    for name, (text, units) in NAMES.items():
        data[name].attrs = {"long_name": text, "units": units}
    data = data.assign_coords(
        replica=("replica", replicas, {"long_name": "replica"}),
        step=("step", kept, {"long_name": "step", "units": "1"}),
    )
    if "learning_rate" in data.coords:
        data["learning_rate"].attrs = {"long_name": "learning rate", "units": "1/curvature"}
    return data.assign_attrs(source="jastrzebski2018", seed=describe_seed(seed), version=sgdynamics.__version__)
