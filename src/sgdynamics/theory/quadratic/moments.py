r"""Exact mean and variance of every mode at any step, for any schedule, momentum and average."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import (
    Domain,
    Numeric,
    average,
    checked,
    count,
    flag,
    increasing_steps,
    optional,
    sequence,
    swept,
    unit_interval,
)
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.sweeps import steps_to_record
from sgdynamics.theory._backward import center_weights_backward
from sgdynamics.theory.quadratic._gradient_noise import ANY_MODEL, MatrixModel, gradient_noise
from sgdynamics.theory.quadratic._matrix_moments import matrix_moments
from sgdynamics.theory.quadratic._plain_steps import plain_steps
from sgdynamics.theory.quadratic._sweep import over_modes, over_points

Array = NDArray[np.float64]

sizes_of_batches: Domain = sequence(count, "whole numbers >= 1, one batch size per step")

# Runs of one learning rate that are longer than this are jumped by repeated squaring.
_LONGEST_WALK = 64


class _Momentum:
    """Mean and covariance of the two-component state under heavy ball or Nesterov, all modes side by side.

    Heavy ball keeps (x_t, u_t) with u in units of the curvature, Nesterov (x_t, x_t - x_{t-1}): powers of the map of
    two points next to each other would cancel, to 1e-5 after some hundred steps at a momentum of 0.999.
    """

    def __init__(self, curvature: Array, variance: Array, displacement: Array, momentum: float, nesterov: bool) -> None:
        self.curvature = curvature
        self.center_variance = variance
        self.momentum = momentum
        self.nesterov = nesterov
        zero = np.zeros_like(curvature)
        self.mean = [displacement.copy(), zero.copy()]
        self.covariance = [zero.copy(), zero.copy(), zero.copy()]  # entries 11, 12, 22

    def _transfer(self, rate: float) -> tuple[Any, ...]:
        """The four entries of the transfer matrix and the two of the noise vector."""
        gain, beta = rate * self.curvature, self.momentum
        if self.nesterov:
            return 1 - gain, beta * (1 - gain), -gain, beta * (1 - gain), gain, gain
        return 1 - gain, -beta * gain, 1.0, beta, gain, -1.0

    def walk(self, rates: Array, shares: Array) -> None:
        for rate, share in zip(rates.tolist(), shares.tolist(), strict=True):
            a, b, c, d, noise, other_noise = self._transfer(rate)
            variance = share * self.center_variance
            first, second = self.mean
            self.mean = [a * first + b * second, c * first + d * second]
            p, q, r = self.covariance
            top, mixed = a * p + b * q, a * q + b * r
            self.covariance = [
                top * a + mixed * b + noise**2 * variance,
                top * c + mixed * d + noise * other_noise * variance,
                c * c * p + 2 * c * d * q + d * d * r + other_noise**2 * variance,
            ]

    def jump(self, rate: float, share: float, steps: int) -> None:
        variance = share * self.center_variance
        # Powers of the augmented affine map: diagonalising it would fail at critical damping.
        a, b, c, d, noise, other_noise = self._transfer(rate)
        # Near the edge of heavy ball x alternates, u tags along and powers would cancel: there the second component is
        # x_t + x_{t-1} = 2 x + g u, in general tilt * x + scale * u.
        tilted = (noise > 1 + self.momentum) & (not self.nesterov)
        tilt, scale = np.where(tilted, 2.0, 0.0), np.where(tilted, noise, 1.0)
        margin = 2 * (1 + self.momentum) - noise
        a, b = np.where(tilted, margin - 1, a), np.where(tilted, -self.momentum, b)
        c, d = np.where(tilted, margin, c), np.where(tilted, -self.momentum, d)
        other_noise = np.where(tilted, noise, other_noise)
        transfer = np.zeros((self.curvature.size, 2, 2))
        transfer[:, 0, 0], transfer[:, 0, 1], transfer[:, 1, 0], transfer[:, 1, 1] = a, b, c, d
        affine = np.zeros((self.curvature.size, 4, 4))
        affine[:, 0, 0], affine[:, 0, 1], affine[:, 0, 2] = a * a, 2 * a * b, b * b
        affine[:, 1, 0], affine[:, 1, 1], affine[:, 1, 2] = a * c, a * d + b * c, b * d
        affine[:, 2, 0], affine[:, 2, 1], affine[:, 2, 2] = c * c, 2 * c * d, d * d
        affine[:, 0, 3] = noise**2 * variance
        affine[:, 1, 3] = noise * other_noise * variance
        affine[:, 2, 3] = other_noise**2 * variance
        affine[:, 3, 3] = 1.0
        first, second = self.mean
        p, q, r = self.covariance
        mean = np.stack([first, tilt * first + scale * second], axis=-1)[..., None]
        mixed, last = tilt * p + scale * q, tilt * tilt * p + 2 * tilt * scale * q + scale * scale * r
        state = np.stack([p, mixed, last, np.ones_like(p)], axis=-1)[..., None]
        first, second = np.moveaxis(np.linalg.matrix_power(transfer, steps) @ mean, 1, 0)[..., 0]
        p, mixed, last, _ = np.moveaxis(np.linalg.matrix_power(affine, steps) @ state, 1, 0)[..., 0]
        self.mean = [first, (second - tilt * first) / scale]
        self.covariance = [
            p,
            (mixed - tilt * p) / scale,
            (last - 2 * tilt * mixed + tilt * tilt * p) / (scale * scale),
        ]

    def read(self) -> tuple[Array, Array]:
        return self.mean[0].copy(), self.covariance[0].copy()


def _at_steps(
    curvature: Array,
    variance: Array,
    displacement: Array,
    schedule: Array,
    record: Array,
    momentum: float,
    nesterov: bool,
    shares: Array | None,
) -> tuple[Array, Array]:
    if momentum == 0:
        mean, spread = plain_steps(curvature, schedule, record.astype(np.intp), displacement, shares)
        # a noiseless mode has no variance even where its scaled one overflows
        scale = curvature**2 * variance
        return mean, np.where(scale > 0, spread * scale, 0.0)
    state = _Momentum(curvature, variance, displacement, momentum, nesterov)
    mean, spread = np.empty((record.size, curvature.size)), np.empty((record.size, curvature.size))
    shares = np.ones(schedule.size) if shares is None else shares
    changes = np.flatnonzero((np.diff(schedule) != 0) | (np.diff(shares) != 0)) + 1
    stops = np.union1d(np.union1d(changes, record), [0, record[-1]]).astype(int)
    rows = {int(step): row for row, step in enumerate(record)}
    if 0 in rows:
        mean[rows[0]], spread[rows[0]] = state.read()
    walked = 0  # steps of varying rate are collected, so that one call walks them all
    for start, stop in pairwise(stops[stops <= record[-1]].tolist()):
        long = stop - start > _LONGEST_WALK
        if long:
            state.walk(schedule[walked:start], shares[walked:start])
            state.jump(float(schedule[start]), float(shares[start]), stop - start)
            walked = stop
        if stop in rows:
            state.walk(schedule[walked:stop], shares[walked:stop])
            walked = stop
            mean[rows[stop]], spread[rows[stop]] = state.read()
    return mean, spread


def _of_average(
    curvature: Array,
    variance: Array,
    displacement: Array,
    schedule: Array,
    weights: Array,
    momentum: float,
    nesterov: bool,
    shares: Array | None,
) -> tuple[Array, Array]:
    squares = np.zeros_like(curvature)
    start_weight = squares
    per_mode = np.broadcast_to(weights, (curvature.size, weights.size))
    pass_back = center_weights_backward(lambda j: schedule[j - 1] * curvature, per_mode, momentum, nesterov)
    for j, weight in pass_back:
        if j:
            squares += weight * weight * (1.0 if shares is None else shares[j - 1])
        else:
            start_weight = weight
    return (start_weight * displacement)[None], (squares * variance)[None]


@law(PARAMETERS, quantity="report")
@checked(
    model=ANY_MODEL,
    schedule=schedule_of_rates,
    average=optional(average),
    momentum=swept(unit_interval),
    nesterov=flag,
    batch_sizes=optional(sizes_of_batches),
    record=optional(increasing_steps),
)
def moments(
    model: MiniBatchQuadratic | MatrixModel,
    schedule: Numeric,
    *,
    average: Numeric = None,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
    batch_sizes: Numeric = None,
    record: Any = None,
) -> xr.Dataset:
    r"""Exact mean error, variance and expected excess risk of mini-batch SGD at recorded steps.

    Per mode :math:`m_t = (1-g_t) m_{t-1}`, :math:`v_t = (1-g_t)^2 v_{t-1} + g_t^2 C/B`, with momentum the same for the
    two-component state; :math:`R = \tfrac12 \sum_i n_i h_i (v_i + m_i^2)`. Stretches of a constant learning rate are
    jumped by powers of the augmented affine map, so that their length costs nothing; without momentum the rest is cut
    into pieces whose maps are made abreast. Averages are read off the weights
    of the centers, found by one backward pass.

    For the other models mean and covariance are matrices: with the mean Hessian :math:`H`, curvature noise
    :math:`\Delta` and force :math:`f` of a mini-batch

    .. math:: m_t = (I - \eta H) m_{t-1}, \qquad S_t = (I - \eta H) S_{t-1} (I - \eta H) + \eta^2 G_t, \qquad
        G_t = E[\Delta (S_{t-1} + m_{t-1} m_{t-1}^\top) \Delta] - 2 \operatorname{sym} E[\Delta m_{t-1} f^\top]
        + E f f^\top.

    Random curvature turns mean into variance: the variance alone does not obey a recursion, mean and second moment
    do. Every step costs matrix products, and a running average is one more component of the state. Batches of a
    reshuffled epoch are not independent; their moments are exact at every step, within epochs too, if all examples
    have the same Hessian.

    Status: exact, for any law of the centers with these two moments; for GaussianLeastSquares of the features, too.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Examples of different curvature that are reshuffled have no closed moments and are refused.
    schedule : array, shape (T,), or a DataArray with the dim ``step``
        Learning rates :math:`\eta_1..\eta_T`.
    average : array, shape (T + 1,), or a DataArray with the dim ``step``, optional
        Weights over the iterates. The result is then the one averaged point, at step T.
    momentum : Numeric
        :math:`\beta` in [0, 1), with :math:`u \leftarrow \beta u + \nabla`, :math:`x \leftarrow x - \eta u`, started at
        rest.
    batch_sizes : array, shape (T,), or a DataArray with the dim ``step``, optional
        :math:`B_t \ge 1` of every step, in the place of that of the model: a ramp. For MiniBatchQuadratic alone.
    record : array of int, optional
        Steps 0..T to report. Default: the last one.

    Returns
    -------
    xarray.Dataset
        ``mean_error`` and ``variance`` (step, mode), ``excess_risk`` (step), after the dims of any sweep; except for
        MiniBatchQuadratic also ``covariance`` and ``second_moment`` (step, mode, other_mode), in the coordinates of
        the model. Lazy if anything given is lazy. Where the run has overflowed, variance and risk are +inf.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or lengths disagree.

    Examples
    --------
    >>> from sgdynamics.models.schedules import constant
    >>> model = MiniBatchQuadratic([1.0, 0.1], 1.0, displacement=1.0)
    >>> moments(model, constant(0.5, 1000), record=[0, 1, 1000]).excess_risk.values
    array([0.55      , 0.29525   , 0.167...])
    """
    if not isinstance(schedule, xr.DataArray) and schedule.ndim != 1:
        raise ValueError(
            f"moments: schedule must be 1-D or, to sweep, a DataArray with the dim 'step', got shape {schedule.shape}"
        )
    steps = schedule.sizes["step"] if isinstance(schedule, xr.DataArray) else schedule.size
    recorded = steps_to_record("moments", record, steps)
    arguments: list[tuple[Any, list[str]]] = [(schedule, ["step"]), (momentum, [])]
    if average is not None:
        if not isinstance(average, xr.DataArray):
            average = xr.DataArray(average, dims="step")
        if average.sizes["step"] != steps + 1 or recorded.tolist() != [steps]:
            raise ValueError(
                f"moments: average must have T + 1 = {steps + 1} weights and is recorded at step {steps} alone, "
                f"got {average.sizes['step']} weights and record {recorded.tolist()}"
            )
        arguments.append((average.rename(step="iterate"), ["iterate"]))

    if batch_sizes is not None:
        arguments.append((_noise_shares(model, batch_sizes, steps), ["step"]))
    if isinstance(model, MiniBatchQuadratic):
        results = _by_mode(model, arguments, nesterov, recorded, batch_sizes is not None)
    else:
        results = _by_matrix(model, arguments, nesterov, recorded)
    described = {
        "mean_error": ("mean error", "parameter"),
        "variance": ("variance", "weight^2"),
        "excess_risk": ("expected excess risk", "loss"),
        "covariance": ("covariance", "weight^2"),
        "second_moment": ("second moment of the error", "weight^2"),
    }
    data = xr.Dataset(
        {
            name: values.assign_attrs(long_name=described[name][0], units=described[name][1])
            for name, values in zip(described, results, strict=False)
        }
    )
    coordinate = ("step", recorded, {"long_name": "step", "units": "1"})
    return data.rename(recorded="step").assign_coords(step=coordinate).assign_attrs(source="theory.quadratic.moments")


def _noise_shares(model: MiniBatchQuadratic | MatrixModel, batch_sizes: Numeric, steps: int) -> xr.DataArray:
    """Center variance of every step over that of the model."""
    if not isinstance(model, MiniBatchQuadratic):
        raise ValueError(f"moments: batch_sizes must be None for a {type(model).__name__}, got {batch_sizes!r}")
    sizes = batch_sizes if isinstance(batch_sizes, xr.DataArray) else xr.DataArray(batch_sizes, dims="step")
    if sizes.sizes["step"] != steps:
        raise ValueError(f"moments: batch_sizes must have one value per step, {steps}, got {sizes.sizes['step']}")
    shares: xr.DataArray = model.batch_size / sizes
    return shares


def _by_mode(
    model: MiniBatchQuadratic, arguments: list[tuple[Any, list[str]]], nesterov: bool, recorded: Array, ramped: bool
) -> tuple[xr.DataArray, ...]:
    """Mean, variance and risk of directions that separate."""

    def core(
        curvature: Array,
        variance: Array,
        displacement: Array,
        multiplicity: Array,
        schedule: Array,
        momentum: Array,
        *others: Array,
    ) -> tuple[Array, Array, Array]:
        beta = float(momentum)
        shares = others[-1] if ramped else None
        weights = others[0] if len(others) > ramped else None
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            if weights is None:
                mean, spread = _at_steps(curvature, variance, displacement, schedule, recorded, beta, nesterov, shares)
            else:
                mean, spread = _of_average(curvature, variance, displacement, schedule, weights, beta, nesterov, shares)
            # what has overflowed turns to inf - inf a step later; what never moved met a factor of inf
            mean, spread = (np.where(np.isnan(values), np.inf, values) for values in (mean, spread))
            mean, spread = np.where(displacement == 0, 0.0, mean), np.where(variance == 0, 0.0, spread)
            risk = 0.5 * ((spread + mean**2) * (multiplicity * curvature)).sum(axis=-1)
        return mean, spread, risk

    return over_modes(
        core,
        model,
        arguments,
        outputs=[["recorded", "mode"], ["recorded", "mode"], ["recorded"]],
        sizes={"recorded": recorded.size},
    )


def _by_matrix(
    model: MatrixModel, arguments: list[tuple[Any, list[str]]], nesterov: bool, recorded: Array
) -> tuple[xr.DataArray, ...]:
    """Mean, variance, risk, covariance and second moment of directions that do not."""
    hessian = gradient_noise(model).hessian

    def core(schedule: Array, momentum: Array, weights: Array | None = None) -> tuple[Array, ...]:
        mean, covariance = matrix_moments(model, schedule, weights, float(momentum), nesterov, recorded)
        variance = np.diagonal(covariance, axis1=-2, axis2=-1).copy()
        with np.errstate(over="ignore", invalid="ignore"):
            second = covariance + mean[:, :, None] * mean[:, None, :]
            risk = 0.5 * (hessian * second).sum(axis=(-1, -2))
        overflowed = ~np.isfinite(second).all(axis=(-1, -2))
        return mean, variance, np.where(overflowed, np.inf, risk), covariance, second

    matrix = ["recorded", "mode", "other_mode"]
    return over_points(
        core,
        arguments,
        outputs=[["recorded", "mode"], ["recorded", "mode"], ["recorded"], matrix, matrix],
        sizes={"recorded": recorded.size, "mode": model.modes, "other_mode": model.modes},
    )
