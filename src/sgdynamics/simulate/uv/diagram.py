r"""What becomes of networks of many widths at many learning rates."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import (
    Numeric,
    checked,
    choice,
    closed_unit_interval,
    count,
    describe_seed,
    integer,
    nonnegative,
    one,
    positive,
    real,
    replica_indices,
    seeds,
)
from sgdynamics.models.uv import UVNetwork, hessian_eigenvalues
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._streams import Purpose, Seed, stream_key
from sgdynamics.simulate.uv._core import Floats, Integers
from sgdynamics.simulate.uv._cycles import WINDOW, find_periods
from sgdynamics.simulate.uv._lanes import CONE, RESIDUAL, Records, Starts, run_lanes
from sgdynamics.simulate.uv._scaling import BY_CONE, BY_GAP, BY_KERNEL, BY_RESIDUAL, Scaled, scaled, scaled_by_kernel
from sgdynamics.simulate.uv._starts import Words, draw_starts
from sgdynamics.simulate.uv._verdicts import Found, judge, judge_by_kernel
from sgdynamics.simulate.uv._zero_target import (
    FEW,
    GAP,
    KERNEL,
    STRIDE,
    Form,
    FreeRecords,
    FreeStarts,
    run_few,
    run_free,
)
from sgdynamics.sweeps import spanned

__all__ = ["phase_diagram"]

# Lanes in one task. Between its kernels a task holds up the others, for as long as Python takes whatever the size; more
# lanes than these would leave the nearer caches.
BLOCK = 16384

OUTCOMES = (
    Outcome.DIVERGED,
    Outcome.MONOTONE,
    Outcome.LOSS_CATAPULT,
    Outcome.LOSS_AND_SHARPNESS_CATAPULT,
    Outcome.PERIODIC,
    Outcome.CHAOTIC,
)

# Name, long name, units and type of everything that is found about every cell and seed.
FOUND: dict[str, tuple[str, str, type[Any]]] = {
    "outcome": ("outcome", "1", np.int8),
    "initial_sharpness": ("top eigenvalue of the Hessian at step 0", "1/learning rate", np.float64),
    "initial_ntk": ("neural tangent kernel at step 0", "1/learning rate", np.float64),
    "final_sharpness": ("top eigenvalue of the Hessian at the last step", "1/learning rate", np.float64),
    "peak_sharpness_ratio": ("largest sharpness over the initial one", "1", np.float64),
    "peak_loss_ratio": ("largest loss over the initial one", "1", np.float64),
    "divergence_step": ("first step at or beyond the level of no return, -1 for never", "1", np.int32),
    "period": ("period of the final cycle in steps, 0 where there is none", "1", np.int16),
}


def _run_block(start: Scaled, lanes: Sequence[int], steps: int, alone: bool = False) -> tuple[Records, Integers]:
    """Run the lanes of one block, so many in each form, and find the periods of those that cannot settle.

    A block that is ``alone`` may take what compiles fast.
    """
    size = start.q.size
    records = Records(
        final_sharpness=np.empty(size),
        peak_height=np.empty(size),
        peak_sharpness=np.empty(size),
        divergence_step=np.empty(size, np.int64),
        marked=np.full((3, size if lanes[BY_CONE] else 0), np.nan),
    )
    period = np.zeros(size, np.int64)
    for form, by in ((GAP, BY_GAP), (KERNEL, BY_KERNEL)):
        if lanes[by]:
            _run_free(form, None if lanes[by] == size else start.form == by, start, steps, alone, records)
    others = (start.q, start.height, start.sharpness)
    if lanes[BY_RESIDUAL]:
        some = np.flatnonzero(start.form == BY_RESIDUAL)
        run_lanes(RESIDUAL, some, Starts(*start.residual_form, *others), steps, -1, records)
    if lanes[BY_CONE]:
        some = np.flatnonzero(start.form == BY_CONE)
        mark = steps - WINDOW if steps >= 2 * WINDOW else -1
        run_lanes(CONE, some, Starts(*start.cone_form, *others), steps, mark, records)
        bounded = np.flatnonzero(~np.isnan(records.marked[0]) & (records.divergence_step < 0))
        if bounded.size:
            find_periods(bounded, records.marked, start.q, period)
    return records, period


def _run_free(
    form: Form, some: NDArray[np.bool_] | None, start: Scaled, steps: int, alone: bool, records: Records
) -> None:
    """Run some lanes without target, or all, in a form of their own."""
    starts = FreeStarts(start.height, start.ntk, start.sharpness)
    made = FreeRecords(records.peak_height, records.final_sharpness, records.peak_sharpness, records.divergence_step)
    if some is not None:
        size = int(some.sum())
        starts = FreeStarts(*(array[some] for array in starts))
        made = FreeRecords(np.empty(size), np.empty(size), np.empty(size), np.empty(size, np.int64))
    if alone and starts.height.size * steps <= FEW:
        run_few(form, starts, steps, made)
    else:
        run_free(form, starts, steps, STRIDE, True, made)
    if some is not None:
        whole = (records.peak_height, records.final_sharpness, records.peak_sharpness, records.divergence_step)
        for array, values in zip(whole, made, strict=True):
            array[some] = values


def _run(
    c: Floats,
    width: Floats,
    target: Floats,
    input_norm: Floats,
    init_scale: Floats,
    parametrization: Floats,
    *,
    key: Words,
    seeds: Integers,
    steps: int,
    by_hessian: bool,
    zero_output: bool,
    margin: float,
) -> tuple[Any, ...]:
    """Everything in ``FOUND``, shapes (..., seed), over broadcast cells."""
    c, width, target, input_norm, init_scale, parametrization = (
        np.asarray(value)[..., np.newaxis] for value in (c, width, target, input_norm, init_scale, parametrization)
    )
    # every start belongs to a width and meets all learning rates and targets
    fields = np.broadcast_arrays(width, input_norm, init_scale, parametrization)
    model = UVNetwork(fields[0], input_norm=fields[1], init_scale=fields[2], parametrization=fields[3])
    output, ntk = draw_starts(key, seeds, model, zero_output)
    kappa = model.kappa
    sharpness, _ = hessian_eigenvalues(output, ntk, target=target, kappa=kappa)
    shape = np.broadcast_shapes(c.shape, sharpness.shape)
    cells, size = shape[:-1], shape[-1]
    # one axis of cells, along which what does not vary is not repeated
    inputs = [np.asarray(value) for value in (c, output, ntk, kappa, target, sharpness)]
    inputs = [value.reshape((1,) * (len(shape) - value.ndim) + value.shape) for value in inputs]

    total = int(np.prod(cells, dtype=np.int64))
    arrays: list[Any] = [np.empty((total, size), FOUND[name][2]) for name in Found._fields]
    made = Found(*arrays)
    # for a single block, to compile takes longer than to run
    alone = total * size <= BLOCK
    scale, verdict = (scaled, judge) if alone else (scaled_by_kernel, judge_by_kernel)

    def part(value: Floats, where: tuple[Integers, ...], columns: slice) -> Floats:
        if value.size == value.shape[-1]:
            rows = value.reshape(1, -1)
        else:
            rows = value[tuple(i if n > 1 else 0 for i, n in zip(where, value.shape, strict=False))]
        return rows[:, columns] if rows.shape[1] > 1 else rows

    def run(rows: slice, columns: slice) -> None:
        where = np.unravel_index(np.arange(total)[rows], cells) if cells else ()
        c, output, ntk, kappa, target, sharpness = (part(value, where, columns) for value in inputs)
        per = sharpness if by_hessian else ntk
        start, lanes = scale(c, kappa, target, output, ntk, sharpness, per)
        records, period = _run_block(start, lanes, steps, alone)
        # several rows only where these are whole, so that the block is one piece of every array
        pieces: list[Any] = [values[rows, columns].reshape(-1) for values in made]
        verdict(start.rate, start.height, start.sharpness, *records[:4], period, margin, Found(*pieces))

    run_all(
        functools.partial(run, rows, columns)
        for rows in slices(total, max(1, BLOCK // size))
        for columns in slices(size, BLOCK)
    )
    whole = {name: values.reshape(shape) for name, values in made._asdict().items()}
    whole["initial_sharpness"] = np.broadcast_to(sharpness, shape)
    whole["initial_ntk"] = np.broadcast_to(ntk, shape)
    return tuple(whole[name] for name in FOUND)


def _axis(name: str, value: Numeric) -> xr.DataArray:
    """Over what an argument spans, with labels."""
    array = spanned("phase_diagram", name, value, axis=name if name in ("c", "width") else None, reserved=["seed"])
    if array.dims == (name,) and name not in array.coords:
        array = array.assign_coords({name: array.values})  # a label is needed at once, even of a lazy axis
    return array


@checked(
    c=positive,
    width=count,
    steps=integer(1),
    seeds=replica_indices,
    units=choice("hessian", "ntk"),
    target=real,
    seed=seeds,
    input_norm=positive,
    init_scale=positive,
    parametrization=closed_unit_interval,
    start=choice("random", "zero_output"),
    margin=one(nonnegative),
)
def phase_diagram(
    c: Numeric,
    width: Numeric,
    *,
    steps: int,
    seeds: Numeric,
    units: Literal["hessian", "ntk"] = "hessian",
    target: Numeric = 0.0,
    seed: Seed = 0,
    input_norm: Numeric = 1.0,
    init_scale: Numeric = 1.0,
    parametrization: Numeric = 0.0,
    start: Literal["random", "zero_output"] = "random",
    margin: float = 1e-9,
) -> xr.Dataset:
    r"""Run random uv networks of every width at every learning rate, and say what became of each.

    Every run takes ``steps`` steps of gradient descent, through the exact map of :func:`trajectory`, from a start drawn
    from the exact law of normal weights (:class:`sgdynamics.models.uv.UVNetwork`): any width costs the same.

    Parameters
    ----------
    c : Numeric
        Learning rate times the initial sharpness of the very network, > 0: the top Hessian eigenvalue or the kernel,
        as ``units`` says.
    width : Numeric
        :math:`n \ge 1`.
    steps : int
        :math:`T \ge 1`. Everything below is said of steps 0..T.
    seeds : int or 1-D array of int
        How many networks of each width, or their indices. The start depends on ``seed``, width and index alone, so that
        one start meets all learning rates and targets.
    units : {"hessian", "ntk"}
        What sharpness ``c`` is measured with.
    target : Numeric
        :math:`y`.
    seed : int or SeedSequence
    input_norm, init_scale, parametrization : Numeric
        :math:`|x|`, :math:`\sigma` and :math:`p` of the network.
    start : {"random", "zero_output"}
        All weights random, or the last layer 0.
    margin : float
        By how much, relative to the start, loss or sharpness must rise to be called risen. The default lets rounding
        pass.

    Plain 1-D arrays of ``c`` and ``width`` span a grid; DataArrays sweep over whatever dims they have. Where one is
    backed by dask the result is lazy, chunk by chunk, with the same bits.

    Returns
    -------
    Dataset
        Over (c, width, seed):

        ``outcome``
            ``diverged``: at some step, 0 included, the residual is at or beyond the level of no return,
            :math:`\eta\sqrt\kappa\,|f-y| \ge 4 + 3\eta\sqrt\kappa\,|y|`. It may fall once more from there, but the
            kernel no longer falls over two steps, and almost every such orbit diverges. Otherwise, if
            :math:`\eta\sqrt\kappa\,|y| > 1`, so that no minimum is stable, and T >= 256: ``periodic`` if over the last
            64 steps the residual oscillates and repeats itself to 1e-6 with a period of 2 to 32 steps, ``chaotic`` if
            it oscillates and does not, which includes cycles that are longer or not yet reached. Otherwise
            ``loss_and_sharpness_catapult``, ``loss_catapult`` or ``monotone``, by whether sharpness and loss ever rose
            above their start; sharpness rising alone is ``monotone``. These three speak of the first T steps only: a
            run may not have settled yet, and in a short one a catapult may not have begun.
        ``initial_sharpness``, ``initial_ntk``, ``final_sharpness``
            Top Hessian eigenvalue and kernel at step 0, top Hessian eigenvalue at step T. ``+inf`` after divergence.
        ``peak_loss_ratio``, ``peak_sharpness_ratio``
            Largest value over steps 0..T divided by that at step 0, so 1 where there is no rise. ``+inf`` after
            divergence.
        ``divergence_step``
            First step at or beyond the level of no return, 0 for a start there, -1 for never.
        ``period``
            Of a ``periodic`` run, counted in the output; 0 of others.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    A run stops as soon as nothing that is recorded can change any more; all bits are those of the full run. Runs on
    ``SGDYNAMICS_THREADS`` threads, or one per core, with the same bits for any number of them and for any chunking.

    Examples
    --------
    >>> from sgdynamics.simulate.uv import over_seeds
    >>> diagram = phase_diagram([1.0, 2.2, 3.0, 4.5], [64], steps=500, seeds=100)
    >>> labels = over_seeds(diagram).majority.squeeze("width").values.tolist()
    >>> [Outcome(label).name.lower() for label in labels]
    ['monotone', 'loss_catapult', 'loss_and_sharpness_catapult', 'diverged']
    """
    given = {
        "c": c,
        "width": width,
        "target": target,
        "input_norm": input_norm,
        "init_scale": init_scale,
        "parametrization": parametrization,
    }
    arguments = [_axis(name, value) for name, value in given.items()]
    results = xr.apply_ufunc(
        functools.partial(
            _run,
            key=stream_key(seed, Purpose.UV_START),
            seeds=seeds,
            steps=steps,
            by_hessian=units == "hessian",
            zero_output=start == "zero_output",
            margin=float(margin),
        ),
        *arguments,
        output_core_dims=[["seed"]] * len(FOUND),
        dask="parallelized",
        output_dtypes=[kind for _, _, kind in FOUND.values()],
        dask_gufunc_kwargs={"output_sizes": {"seed": seeds.size}},
    )
    # without the coordinates of each, which are the same and need not be compared
    data = xr.Dataset(
        {
            name: (result.dims, result.data, {"long_name": text, "units": unit})
            for (name, (text, unit, _)), result in zip(FOUND.items(), results, strict=True)
        },
        results[0].coords,
    )
    data["outcome"].attrs |= outcome_attributes(*OUTCOMES)
    data = data.assign_coords(seed=("seed", seeds, {"long_name": "index of the network", "units": "1"}))
    texts = {"c": f"learning rate times initial {'sharpness' if units == 'hessian' else 'kernel'}", "width": "width"}
    for name, text in texts.items():
        if name in data.coords:
            data[name].attrs = {"long_name": text, "units": "1"}
    return data.assign_attrs(
        source="kalra2023",
        units_of_c=units,
        steps=float(steps),
        start=start,
        seed=describe_seed(seed),
        version=sgdynamics.__version__,
    )
