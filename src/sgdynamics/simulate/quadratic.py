r"""Ensembles of mini-batch quadratics by Monte Carlo.

Every method carries, in each mode, the pair :math:`s = (e, w)` of the error and what the next step remembers of the
past. A step is one affine map with one standard normal :math:`z` for the batch center
:math:`\xi = \sigma z`, :math:`\sigma^2 = C/B`; with gain :math:`g = \eta h` and :math:`q = 1 - g`

.. math:: s_t = A_t s_{t-1} + b_t z_t.

==========  ==================  ======================================  ===========================
method      :math:`w`           rows of :math:`A`                       :math:`b`
==========  ==================  ======================================  ===========================
heavy ball  velocity :math:`u`  :math:`(q, -\eta\beta), (h, \beta)`     :math:`(g\sigma, -h\sigma)`
Nesterov    :math:`e_{t-1}`     :math:`((1+\beta)q, -\beta q), (1, 0)`  :math:`(g\sigma, 0)`
==========  ==================  ======================================  ===========================

Plain SGD is heavy ball with :math:`\beta = 0`.

``steps`` draws every :math:`z_t`. ``jumps`` composes the maps between two recorded steps, mean and covariance, and
draws the result: the same law with as many normals as there are recorded steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

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
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import Purpose, Seed, next_word, normal_pair, open_stream, stream_key

__all__ = ["SOURCES", "ensemble"]

SOURCES = ("sandler2023",)

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

# Replicas in one task: long enough to hide the cost of handing it out, short enough to keep all threads busy.
BLOCK = 64


# ---------------------------------------------------------------------------------------------------------------------
# One step


class Modes(NamedTuple):
    """One value per mode."""

    curvature: Floats
    deviation: Floats  # standard deviation of the batch center
    start: Floats
    risk_weight: Floats


class Method(NamedTuple):
    """How a step uses the past."""

    momentum: float
    nesterov: bool


@inlined
def _transition(
    rate: float, curvature: float, deviation: float, method: Method
) -> tuple[float, float, float, float, float, float]:
    """A, row by row, and b of one step."""
    gain = rate * curvature
    keep = 1.0 - gain
    beta = method.momentum
    if method.nesterov:
        return (1.0 + beta) * keep, -beta * keep, 1.0, 0.0, gain * deviation, 0.0
    return keep, -rate * beta, curvature, beta, gain * deviation, -curvature * deviation


@inlined
def _advance(
    error: float, memory: float, normal: float, rate: float, curvature: float, deviation: float, method: Method
) -> tuple[float, float]:
    """The state after one step."""
    a11, a12, a21, a22, b1, b2 = _transition(rate, curvature, deviation, method)
    return a11 * error + a12 * memory + b1 * normal, a21 * error + a22 * memory + b2 * normal


@inlined
def _diverged_to_infinity(value: float) -> float:
    # every input is finite, so that a NaN can only be the difference of two infinities
    return math.inf if math.isnan(value) else value


@inlined
def _record(modes: Modes, replica: int, at: int, mode: int, value: float, error: Floats, risk: Floats) -> None:
    value = _diverged_to_infinity(value)
    error[replica, at, mode] = value
    risk[replica, at] += _diverged_to_infinity(modes.risk_weight[mode] * value * value)


# ---------------------------------------------------------------------------------------------------------------------
# Every step drawn


@kernel
def _steps(
    key: Words,
    replicas: Words,
    record: Integers,
    rates: Floats,
    weights: Floats,
    modes: Modes,
    method: Method,
    error: Floats,
    risk: Floats,
) -> None:
    """Run every step; ``weights`` is empty or makes the averaged point, the one record at the last step."""
    count = modes.curvature.size
    averaged = weights.size > 0
    for r in range(replicas.size):
        for left in range(0, count, 2):
            right = min(left + 1, count - 1)  # the last of an odd number of modes is its own neighbour
            h_left, h_right = modes.curvature[left], modes.curvature[right]
            sigma_left, sigma_right = modes.deviation[left], modes.deviation[right]
            e_left, e_right = modes.start[left], modes.start[right]
            w_left = e_left if method.nesterov else 0.0
            w_right = e_right if method.nesterov else 0.0
            y_left = weights[0] * e_left if averaged else 0.0
            y_right = weights[0] * e_right if averaged else 0.0
            state = open_stream(key, replicas[r], np.uint64(left // 2))
            t = 0
            for at in range(record.size):
                while t < record[at]:
                    z_left, z_right, state = normal_pair(state)
                    e_left, w_left = _advance(e_left, w_left, z_left, rates[t], h_left, sigma_left, method)
                    e_right, w_right = _advance(e_right, w_right, z_right, rates[t], h_right, sigma_right, method)
                    t += 1
                    if averaged and weights[t] != 0.0:  # what the average leaves out may be infinite
                        y_left += weights[t] * e_left
                        y_right += weights[t] * e_right
                _record(modes, r, at, left, y_left if averaged else e_left, error, risk)
                if right != left:
                    _record(modes, r, at, right, y_right if averaged else e_right, error, risk)


# ---------------------------------------------------------------------------------------------------------------------
# Exact jumps


@kernel
def _compose(record: Integers, rates: Floats, modes: Modes, method: Method, maps: Floats, roots: Floats) -> None:
    """Every jump from one recorded step to the next, s -> M s + L z with L lower triangular.

    The covariance is carried as its root: [A L, b] is made triangular again by two rotations. A covariance of rank
    zero or one, which the first steps of a jump always have, then needs no special case and loses no digits.
    """
    for mode in range(modes.curvature.size):
        t = 0
        for at in range(record.size):
            m11, m12, m21, m22 = 1.0, 0.0, 0.0, 1.0
            l11, l21, l22 = 0.0, 0.0, 0.0
            while t < record[at]:
                a11, a12, a21, a22, b1, b2 = _transition(rates[t], modes.curvature[mode], modes.deviation[mode], method)
                m11, m21 = a11 * m11 + a12 * m21, a21 * m11 + a22 * m21
                m12, m22 = a11 * m12 + a12 * m22, a21 * m12 + a22 * m22
                p1, p2, p3 = a11 * l11 + a12 * l21, a12 * l22, b1
                r1, r2, r3 = a21 * l11 + a22 * l21, a22 * l22, b2
                # rotate columns 1 and 2, then 1 and 3: the first row becomes (l11, 0, 0)
                length = math.hypot(p1, p2)
                if length != 0.0:
                    r1, r2 = (p1 * r1 + p2 * r2) / length, (p1 * r2 - p2 * r1) / length
                l11 = math.hypot(length, p3)
                if l11 != 0.0:
                    r1, r3 = (length * r1 + p3 * r3) / l11, (length * r3 - p3 * r1) / l11
                l21 = r1
                l22 = math.hypot(r2, r3)
                t += 1
            maps[at, mode, 0], maps[at, mode, 1], maps[at, mode, 2], maps[at, mode, 3] = m11, m12, m21, m22
            roots[at, mode, 0], roots[at, mode, 1], roots[at, mode, 2] = l11, l21, l22


@kernel
def _compose_average(weights: Floats, rates: Floats, modes: Modes, method: Method, maps: Floats, roots: Floats) -> None:
    """The averaged point as one jump: its sensitivity (p, q) to the state, followed backwards."""
    for mode in range(modes.curvature.size):
        p, q = weights[rates.size], 0.0
        variance = 0.0
        for t in range(rates.size - 1, -1, -1):
            a11, a12, a21, a22, b1, b2 = _transition(rates[t], modes.curvature[mode], modes.deviation[mode], method)
            variance += (p * b1 + q * b2) ** 2
            p, q = a11 * p + a21 * q + weights[t], a12 * p + a22 * q
        maps[0, mode, 0], maps[0, mode, 1], maps[0, mode, 2], maps[0, mode, 3] = p, q, 0.0, 0.0
        roots[0, mode, 0], roots[0, mode, 1], roots[0, mode, 2] = math.sqrt(variance), 0.0, 0.0


@inlined
def _jump(error: float, memory: float, normal: float, other: float, jump: Floats, root: Floats) -> tuple[float, float]:
    return (
        jump[0] * error + jump[1] * memory + root[0] * normal,
        jump[2] * error + jump[3] * memory + root[1] * normal + root[2] * other,
    )


@kernel
def _jumps(
    key: Words,
    replicas: Words,
    maps: Floats,
    roots: Floats,
    modes: Modes,
    method: Method,
    error: Floats,
    risk: Floats,
) -> None:
    """Run every jump; each takes two normals per mode, of which plain SGD uses the first."""
    count = modes.curvature.size
    plain = method.momentum == 0.0
    for r in range(replicas.size):
        for left in range(0, count, 2):
            right = min(left + 1, count - 1)
            e_left, e_right = modes.start[left], modes.start[right]
            w_left = e_left if method.nesterov else 0.0
            w_right = e_right if method.nesterov else 0.0
            y_left, y_right = 0.0, 0.0
            state = open_stream(key, replicas[r], np.uint64(left // 2))
            for at in range(maps.shape[0]):
                z_left, z_right, state = normal_pair(state)
                if plain:  # the same places in the stream as with momentum, without the work
                    _, state = next_word(state)
                    _, state = next_word(state)
                else:
                    y_left, y_right, state = normal_pair(state)
                e_left, w_left = _jump(e_left, w_left, z_left, y_left, maps[at, left], roots[at, left])
                e_right, w_right = _jump(e_right, w_right, z_right, y_right, maps[at, right], roots[at, right])
                _record(modes, r, at, left, e_left, error, risk)
                if right != left:
                    _record(modes, r, at, right, e_right, error, risk)


# ---------------------------------------------------------------------------------------------------------------------
# Many cells, many replicas


def _row(array: Floats, cell: tuple[int, ...]) -> Floats:
    """The values of one cell of a sweep, in the one layout that kernels are compiled for."""
    leading = array.shape[:-1]
    own = tuple(0 if size == 1 else i for size, i in zip(leading, cell[len(cell) - len(leading) :], strict=True))
    return np.require(array[own], np.float64, ["C", "W"])


def _run(
    schedule: Floats,
    momentum: Floats,
    curvature: Floats,
    variance: Floats,
    start: Floats,
    multiplicity: Floats,
    average: Floats | None = None,
    *,
    key: Words,
    replicas: Integers,
    record: Integers,
    nesterov: bool,
    by_jumps: bool,
) -> tuple[Floats, Floats]:
    """Error and excess risk, shapes (..., replica, step, mode) and (..., replica, step), over broadcast cells."""
    momentum = np.asarray(momentum)[..., None]
    average = np.empty(0) if average is None else average
    with np.errstate(all="ignore"):
        per_mode = (curvature, np.sqrt(variance), start, 0.5 * multiplicity * curvature)
    shape = np.broadcast_shapes(*(array.shape[:-1] for array in (schedule, average, momentum, *per_mode)))
    count = curvature.shape[-1]
    error = np.empty((*shape, replicas.size, record.size, count))
    risk = np.zeros((*shape, replicas.size, record.size))
    indices = replicas.astype(np.uint64)

    composing: list[Callable[[], None]] = []
    drawing: list[Callable[[], None]] = []
    for cell in np.ndindex(shape):
        modes = Modes(*(_row(array, cell) for array in per_mode))
        method = Method(float(_row(momentum, cell)[0]), nesterov)
        rates, weights = _row(schedule, cell), _row(average, cell)
        draw = functools.partial(_steps, key, record=record, rates=rates, weights=weights, modes=modes, method=method)
        if by_jumps:
            maps, roots = np.empty((record.size, count, 4)), np.empty((record.size, count, 3))
            if weights.size:
                composing.append(functools.partial(_compose_average, weights, rates, modes, method, maps, roots))
            else:
                composing.append(functools.partial(_compose, record, rates, modes, method, maps, roots))
            draw = functools.partial(_jumps, key, maps=maps, roots=roots, modes=modes, method=method)
        drawing += [
            functools.partial(draw, indices[block], error=error[cell][block], risk=risk[cell][block])
            for block in slices(replicas.size, BLOCK)
        ]
    run_all(composing)
    run_all(drawing)
    return error, risk


RESERVED = ("replica", "step", "mode")


def _swept(name: str, value: Numeric, axis: str | None) -> xr.DataArray:
    """An argument as a DataArray whose dims, but for its own axis, are swept; labels along that axis are dropped."""
    if not isinstance(value, xr.DataArray):
        if np.ndim(value) != (axis is not None):
            shape = "1-D" if axis is not None else "a number"
            raise ValueError(f"ensemble: {name} must be {shape} or a DataArray, got shape {np.shape(value)}")
        return xr.DataArray(value, dims=[] if axis is None else [axis])
    wrong = [dim for dim in value.dims if dim in RESERVED and dim != axis]
    if wrong:
        raise ValueError(f"ensemble: {name} must be swept over dims other than {RESERVED}, got {value.dims}")
    array: xr.DataArray = value
    if axis == "step":
        array = array.drop_vars([label for label, coord in array.coords.items() if "step" in coord.dims])
    if axis in array.dims and array.chunks is not None:
        array = array.chunk({axis: -1})  # every cell needs the whole of it
    return array


@checked(
    model=instance_of(MiniBatchQuadratic),
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
    model: MiniBatchQuadratic,
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
    r"""Independent runs of a mini-batch quadratic with Gaussian batch centers.

    Parameters
    ----------
    model : MiniBatchQuadratic
    schedule : Numeric, shape (steps,) or a DataArray with the dim ``step``
        Learning rates :math:`\eta_1, \dots, \eta_T`.
    replicas : int or 1-D array of int
        How many runs, or the indices of the runs. A replica has the same bits whichever others are asked for.
    seed : int or SeedSequence
        The noise depends on the seed, the replica, the mode and the step (with ``jumps``, the place of the step in
        ``record``) and on nothing else: all cells of a sweep meet the same batches.
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
        random numbers.

    Any dim of the schedule, the average, the momentum or the model beside ``step`` and ``mode`` is swept over. Where
    one of them is backed by dask, the result is lazy.

    Returns
    -------
    Dataset
        ``error`` (..., replica, step, mode), distance from the minimiser; ``excess_risk`` (..., replica, step). Runs
        that leave the range of floats are infinite.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Runs on ``SGDYNAMICS_THREADS`` threads, or one per core, with the same bits for any number of them.

    Examples
    --------
    A gain of 1/2 has the stationary variance x/(2-x) = 1/3:

    >>> from sgdynamics.models.schedules import constant
    >>> model = MiniBatchQuadratic(curvature=5.0, center_variance=1.0)
    >>> runs = ensemble(model, constant(0.1, 50), replicas=100_000, seed=1)
    >>> dict(runs.error.sizes), round(float(runs.error.var()), 2)
    ({'replica': 100000, 'step': 1, 'mode': 1}, 0.33)
    """
    rates = _swept("schedule", schedule, "step")
    steps = rates.sizes["step"]
    if record is None:
        record = np.array([steps])
    if record[-1] > steps:
        raise ValueError(f"ensemble: record must be increasing steps in 0..T = {steps}, got {int(record[-1])}")
    arguments = [
        (rates.rename(step="_rate"), ["_rate"]),
        (_swept("momentum", momentum, None), []),
        *((_swept("model", field, "mode"), ["mode"]) for field in model.labelled()),
    ]
    if average is not None:
        weights = _swept("average", average, "step")
        if weights.sizes["step"] != steps + 1:
            raise ValueError(
                f"ensemble: average must be {steps + 1} weights over x_0..x_T, T = {steps}, got {weights.sizes['step']}"
            )
        if record.tolist() != [steps]:
            raise ValueError(
                f"ensemble: record must be None or [{steps}] with an average, which is one point, got {record.tolist()}"
            )
        arguments.append((weights.rename(step="_weight"), ["_weight"]))
    by_jumps = method == "jumps"
    error, risk = xr.apply_ufunc(
        _run,
        *(value for value, _ in arguments),
        input_core_dims=[dims for _, dims in arguments],
        output_core_dims=[["replica", "step", "mode"], ["replica", "step"]],
        kwargs={
            "key": stream_key(seed, Purpose.QUADRATIC_JUMPS if by_jumps else Purpose.QUADRATIC_STEPS),
            "replicas": replicas,
            "record": record,
            "nesterov": nesterov,
            "by_jumps": by_jumps,
        },
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"replica": replicas.size, "step": record.size}},
    )
    error.attrs = {"long_name": "error", "units": "units of the weights"}
    risk.attrs = {"long_name": "excess risk", "units": "units of the loss"}
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
