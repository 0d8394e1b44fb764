r"""Single orbits of the uv network, every step kept."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import Numeric, checked, integer, nonnegative, one, positive, real, unit_interval
from sgdynamics.models.uv import hessian_eigenvalues, to_cone
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv._core import Floats, wide_advance
from sgdynamics.simulate.uv._lanes import CONE, RESIDUAL, Form, advance
from sgdynamics.simulate.uv._momentum import scaled_momentum_paths
from sgdynamics.simulate.uv._scaling import Scaled, scaled
from sgdynamics.sweeps import spanned

__all__ = ["trajectory"]

# Orbits in one task.
BLOCK = 64


@kernel
def _orbits(form: Form, start: Floats, q: Floats, path: Floats) -> None:
    """Steps 1, 2, ... of every orbit: residual, kernel and sharpness, all scaled.

    A diverging orbit leaves the range of the squares in its form some steps before its own; these it takes in the two
    sides of the cone, without squares.
    """
    for i in range(q.size):
        a, b, c = start[0, i], start[1, i], start[2, i]
        p, m, s, wide = math.nan, math.nan, math.nan, False
        for t in range(1, path.shape[2]):
            if not wide:
                before_a, before_b, before_c = a, b, c
                a, b, c, s, sharpness = advance(form, a, b, c, q[i])
                path[0, i, t], path[2, i, t] = s, sharpness
                path[1, i, t] = c if form is None else 0.5 * (a + b)
                if not sharpness < math.inf:
                    p, m, s, wide = before_a, before_b, before_c, True
                    if form is None:  # from residual, squared imbalance and kernel
                        s, reach = before_a, 2.0 * (before_a + q[i])
                        far, product = before_c + abs(reach), before_b
                        near = product / far if product < math.inf else before_c - abs(reach)
                        p, m = (far, near) if reach > 0.0 else (near, far)
            if wide:
                p, m, s, sharpness = wide_advance(p, m, s, q[i])
                path[0, i, t], path[1, i, t], path[2, i, t] = s, 0.5 * p + 0.5 * m, sharpness


def _scaled_paths(start: Scaled, steps: int) -> Floats:
    """Residual, kernel and sharpness of every orbit, shape (3, orbits, steps + 1), from step 1 on."""
    made = np.empty((3, start.q.size, steps + 1))
    for form, states, orbits in (
        (RESIDUAL, start.residual_form, np.flatnonzero(start.settles)),
        (CONE, start.cone_form, np.flatnonzero(~start.settles)),
    ):
        path = np.zeros((3, orbits.size, steps + 1))
        first, q = np.array(states)[:, orbits], start.q[orbits]
        run_all(
            functools.partial(_orbits, form, first[:, block].copy(), q[block], path[:, block])
            for block in slices(orbits.size, BLOCK)
        )
        made[:, orbits] = path
    return made


def _follow(
    output: Floats,
    ntk: Floats,
    learning_rate: Floats,
    kappa: Floats,
    target: Floats,
    steps: int,
    momentum: float,
) -> tuple[Any, ...]:
    """Paths of shape (..., step) and the step of divergence, over broadcast cells."""
    top, _ = hessian_eigenvalues(output, ntk, target=target, kappa=kappa)  # refuses what no weights have
    shape = np.broadcast_shapes(*map(np.shape, (output, ntk, learning_rate, kappa, target)))
    given = [np.broadcast_to(value, shape).ravel() for value in (output, ntk, learning_rate, kappa, target, top)]
    output, ntk, learning_rate, kappa, target, top = given
    rows = [value[:, np.newaxis] for value in (learning_rate, kappa, target, output, ntk, top, np.ones_like(top))]
    start, _ = scaled(*rows)
    rate = start.rate[:, np.newaxis]
    with np.errstate(all="ignore"):
        if momentum:
            sides = to_cone(output, ntk, learning_rate, kappa=kappa)
            residual, kernels, sharpness = scaled_momentum_paths(*sides, start.q, momentum, steps)
        else:
            residual, kernels, sharpness = _scaled_paths(start, steps)
        error = residual / (rate * np.sqrt(kappa)[:, np.newaxis])
        error[:, 0] = output - target
        paths = [error + target[:, np.newaxis], kernels / rate, sharpness / rate]
        for path, value in zip(paths, (output, ntk, top), strict=True):
            path[:, 0] = value
        paths.append(0.5 * error**2)
    finite = np.logical_and.reduce([np.isfinite(path) for path in paths])
    gone = np.logical_or.accumulate(~finite, axis=1)
    for path in paths:
        path[gone] = np.inf
    divergence = np.where(gone.any(axis=1), gone.argmax(axis=1), -1).astype(np.int32)
    return (*(path.reshape((*shape, steps + 1)) for path in paths), divergence.reshape(shape))


@checked(
    output=real,
    ntk=nonnegative,
    learning_rate=positive,
    kappa=positive,
    target=real,
    steps=integer(0),
    momentum=one(unit_interval),
)
def trajectory(
    output: Numeric,
    ntk: Numeric,
    learning_rate: Numeric,
    *,
    kappa: Numeric,
    target: Numeric = 0.0,
    steps: int,
    momentum: float = 0.0,
) -> xr.Dataset:
    r"""Gradient descent on the uv network, step by step.

    The exact map of output and kernel that all widths share, in coordinates that lose no digits: see
    :func:`sgdynamics.models.uv.function_step` for the map.

    Parameters
    ----------
    output, ntk : Numeric
        :math:`f_0` and :math:`\lambda_0 \ge 2\sqrt\kappa|f_0|`.
    learning_rate : Numeric
        :math:`\eta > 0`.
    kappa : Numeric
        :math:`\kappa = |x|^2 n^{p-1} > 0`.
    target : Numeric
        :math:`y`.
    steps : int
        Number of steps, >= 0.
    momentum : float
        :math:`\beta` of the heavy ball, from rest, in [0, 1); one number. The network still closes, in the two sides of
        the cone and their last values. Its edge is :math:`2(1+\beta)/\eta`
        (:func:`sgdynamics.theory.edge_of_stability.two_cycle_rate`); where its runs diverge is not known in closed
        form, and is not :math:`1+\beta` times the rate without it.

    Numbers or DataArrays; whatever dims these have are swept over, and lazy ones stay lazy.

    Returns
    -------
    Dataset
        ``output``, ``ntk``, ``sharpness`` (top eigenvalue of the Hessian) and ``loss`` (..., step) at steps 0..steps;
        ``divergence_step`` (...), the first step at which one of them exceeds the range of a float, -1 where none does.
        From that step on all four are ``+inf``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or no weights have such an output and kernel.

    Examples
    --------
    A catapult: the loss rises first, and the kernel ends below 2 over the learning rate.

    >>> path = trajectory(0.1, 1.0, 2.5, kappa=0.01, steps=100)
    >>> round(float(path.loss.max() / path.loss[0]), 1), round(2.5 * float(path.ntk[-1]), 2)
    (269.2, 1.28)
    """
    given = {"output": output, "ntk": ntk, "learning_rate": learning_rate, "kappa": kappa, "target": target}
    *paths, divergence = xr.apply_ufunc(
        functools.partial(_follow, steps=steps, momentum=momentum),
        *(spanned("trajectory", name, value, reserved=["step"]) for name, value in given.items()),
        output_core_dims=[["step"]] * 4 + [[]],
        dask="parallelized",
        output_dtypes=[np.float64] * 4 + [np.int32],
        dask_gufunc_kwargs={"output_sizes": {"step": steps + 1}},
    )
    names = {
        "output": ("output", "units of the target"),
        "ntk": ("neural tangent kernel", "1/learning rate"),
        "sharpness": ("top eigenvalue of the Hessian", "1/learning rate"),
        "loss": ("loss", "units of the target squared"),
    }
    data = xr.Dataset(dict(zip(names, paths, strict=True)))
    for name, (text, units) in names.items():
        data[name].attrs = {"long_name": text, "units": units}
    data["divergence_step"] = divergence.assign_attrs(
        long_name="first step outside the range of a float, -1 for never", units="1"
    )
    data = data.assign_coords(step=("step", np.arange(steps + 1), {"long_name": "step", "units": "1"}))
    return data.assign_attrs(source="kalra2023", version=sgdynamics.__version__)
