"""Orbits of every model, from the user's starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import (
    Numeric,
    checked,
    complain,
    increasing_steps,
    instance_of,
    integer,
    nonnegative,
    one,
    optional,
    positive,
    real,
)
from sgdynamics.models.edge_of_stability import FourFactors, ProductLoss, SelfStabilization, second_order_sharpness
from sgdynamics.simulate.edge_of_stability import _kernels
from sgdynamics.simulate.edge_of_stability._sweep import described, over, sweep
from sgdynamics.sweeps import spanned


@checked(
    model=instance_of(ProductLoss),
    x=real,
    y=real,
    learning_rate=positive,
    steps=integer(0),
    record=optional(increasing_steps),
)
def product_orbits(
    model: ProductLoss, x: Numeric, y: Numeric, learning_rate: Numeric, *, steps: int, record: Numeric = None
) -> xr.Dataset:
    r"""Gradient descent on :math:`\ell(xy)`.

    Parameters
    ----------
    model : ProductLoss
    x, y : Numeric
        Starts: numbers, 1-D arrays along ``start``, or DataArrays over any dims but ``step``; lazy ones stay lazy.
    learning_rate : Numeric
        :math:`\eta > 0`: a number, a 1-D array along ``learning_rate``, or a DataArray.
    steps : int
        >= 0.
    record : array of int, optional
        Increasing steps in 0..steps to keep; the last one where nothing is said.

    Returns
    -------
    Dataset
        ``x``, ``y``, ``loss``, ``sharpness`` (top eigenvalue of the Hessian) and ``gap`` :math:`2/\eta - S`, each
        (..., step); ``outcome`` and ``divergence_step`` (...). A diverged orbit is infinite from that step on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or numbers of starts disagree.

    Notes
    -----
    A run has converged when what is left of the loss is 1e-20 of its unit, in which the model has no scale: 1 where the
    outer function sets it, :math:`t^4` for the quartic, :math:`\eta^{-2}` for the square. It has diverged beyond 1e30,
    the range in which powers of the weights are numbers.

    Runs on ``SGDYNAMICS_THREADS`` threads, or one per core, with the same bits for any number of them.

    Examples
    --------
    A threshold neuron released 5% above the edge ends 3/2 eta below it, from any start:

    >>> import numpy as np
    >>> runs = product_orbits(ProductLoss("log_cosh"), [1e-3, 1e-2], np.sqrt(21.0), 0.1, steps=2000)
    >>> (runs.gap / 0.1).values.round(2).ravel()
    array([1.5, 1.5])
    """
    kernel = _kernels.PRODUCT[model.outer]
    data = sweep("product_orbits", kernel, (model.target, 0.0), {"x": x, "y": y}, learning_rate, steps, record)
    finite = [data[name].where(np.isfinite(data[name]), 0.0) for name in ("x", "y")]
    source = "zhu2022" if model.outer == "quartic" else "ahn2022"
    rate = spanned("", "learning_rate", learning_rate, axis="learning_rate")
    unit = {"square": rate**-2.0, "quartic": model.target**4}.get(model.outer, 1.0)
    return described(data, learning_rate, over(model.loss, *finite), over(model.sharpness, *finite), source, unit)


@checked(
    model=instance_of(FourFactors),
    x=real,
    y=real,
    z=real,
    w=real,
    learning_rate=positive,
    steps=integer(0),
    record=optional(increasing_steps),
)
def four_factor_orbits(
    model: FourFactors,
    x: Numeric,
    y: Numeric,
    z: Numeric,
    w: Numeric,
    learning_rate: Numeric,
    *,
    steps: int,
    record: Numeric = None,
) -> xr.Dataset:
    r"""Gradient descent on :math:`\tfrac12(t - xyzw)^2`, all four weights free.

    Parameters
    ----------
    model : FourFactors
    x, y, z, w : Numeric
        Starts: numbers, 1-D arrays along ``start``, or DataArrays over any dims but ``step``; lazy ones stay lazy.
    learning_rate : Numeric
        :math:`\eta > 0`: a number, a 1-D array along ``learning_rate``, or a DataArray.
    steps : int
        >= 0.
    record : array of int, optional
        Increasing steps in 0..steps to keep; the last one where nothing is said.

    Returns
    -------
    Dataset
        ``x``, ``y``, ``z``, ``w``, ``loss``, ``sharpness`` (top eigenvalue of the 4 x 4 Hessian) and ``gap``, each
        (..., step); ``outcome`` and ``divergence_step`` (...). A diverged orbit is infinite from that step on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or numbers of starts disagree.

    Examples
    --------
    >>> run = four_factor_orbits(FourFactors(), 3.2, 0.33, 3.2, 0.33, 0.1, steps=5000)
    >>> float((run.gap / 0.1).round(2).item())
    0.46
    """
    starts = {"x": x, "y": y, "z": z, "w": w}
    data = sweep("four_factor_orbits", _kernels.four_factors, (model.target, 0.0), starts, learning_rate, steps, record)
    finite = [data[name].where(np.isfinite(data[name]), 0.0) for name in starts]

    def stacked(fact: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda *weights: fact(np.stack(weights, axis=-1))

    loss, sharpness = (over(stacked(fact), *finite) for fact in (model.loss, model.sharpness))
    return described(data, learning_rate, loss, sharpness, "zhu2022", model.target**2)


@checked(
    model=instance_of(SelfStabilization),
    x=real,
    curvature=real,
    learning_rate=positive,
    steps=integer(0),
    record=optional(increasing_steps),
)
def self_stabilization_orbits(
    model: SelfStabilization,
    x: Numeric,
    curvature: Numeric,
    learning_rate: Numeric,
    *,
    steps: int,
    record: Numeric = None,
) -> xr.Dataset:
    r"""The self-stabilisation map :math:`x' = (1-\eta S)x`, :math:`S' = S + \eta(\alpha - \tfrac12\beta x^2)`.

    With an asymmetry :math:`x' = (1-\eta S)x - \tfrac32\eta\zeta x^2`.

    Parameters
    ----------
    model : SelfStabilization
    x, curvature : Numeric
        Starts, :math:`x` and :math:`S`: numbers, 1-D arrays along ``start``, or DataArrays over any dims but ``step``;
        lazy ones stay lazy.
    learning_rate : Numeric
        :math:`\eta > 0`: a number, a 1-D array along ``learning_rate``, or a DataArray.
    steps : int
        >= 0.
    record : array of int, optional
        Increasing steps in 0..steps to keep; the last one where nothing is said.

    Returns
    -------
    Dataset
        ``x``, ``curvature``, ``loss``, ``sharpness`` (top eigenvalue of the Hessian, at least the curvature) and
        ``gap``, each (..., step); ``outcome`` and ``divergence_step`` (...). A diverged orbit is infinite from that
        step on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or numbers of starts disagree.

    Examples
    --------
    >>> run = self_stabilization_orbits(SelfStabilization(), 2**0.5, 200.0, 0.01, steps=3, record=[0, 1, 2, 3])
    >>> run.x.values.round(3)
    array([ 1.414, -1.414,  1.414, -1.414])
    """
    starts = {"x": x, "curvature": curvature}
    fixed = {"asymmetry": model.asymmetry} if model.asymmetry else {}  # a state that stays as it is
    parameters = (model.sharpening, model.restoring)
    data = sweep(
        "self_stabilization_orbits",
        _kernels.self_stabilization,
        parameters,
        starts | fixed,
        learning_rate,
        steps,
        record,
    ).drop_vars(list(fixed))
    finite = [data[name].where(np.isfinite(data[name]), 0.0) for name in starts]
    loss, sharpness = over(model.loss, *finite), over(model.sharpness, *finite)
    return described(data, learning_rate, loss, sharpness, "damian2022", None)


@checked(
    residual=real,
    ntk=nonnegative,
    moment=real,
    learning_rate=positive,
    first=one(real),
    second=one(real),
    steps=integer(0),
    record=optional(increasing_steps),
)
def second_order_orbits(
    residual: Numeric,
    ntk: Numeric,
    moment: Numeric,
    learning_rate: Numeric,
    *,
    first: float,
    second: float,
    steps: int,
    record: Numeric = None,
) -> xr.Dataset:
    r"""Second-order regression with two distinct eigenvalues, in function space.

    Parameters
    ----------
    residual, ntk, moment : Numeric
        Starts, :math:`z`, :math:`T_0` and :math:`T_1`: numbers, 1-D arrays along ``start``, or DataArrays over any dims
        but ``step``; lazy ones stay lazy.
    learning_rate : Numeric
        :math:`\eta > 0`: a number, a 1-D array along ``learning_rate``, or a DataArray.
    first, second : float
        The two eigenvalues of the quadratic form, different from each other.
    steps : int
        >= 0.
    record : array of int, optional
        Increasing steps in 0..steps to keep; the last one where nothing is said.

    Returns
    -------
    Dataset
        ``residual``, ``ntk``, ``moment``, ``loss``, ``sharpness`` (top eigenvalue of the Hessian) and ``gap``, each
        (..., step); ``outcome`` and ``divergence_step`` (...). A diverged orbit is infinite from that step on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, numbers of starts disagree or the eigenvalues are equal.

    Examples
    --------
    >>> run = second_order_orbits(0.1, 2.1, 0.0, 1.0, first=0.1, second=-0.1, steps=400)
    >>> bool(run.ntk.item() < 2), float(run.loss.item()) < 1e-20
    (True, True)
    """
    if first == second:
        raise complain("second_order_orbits", "second", f"different from first = {first}", second)
    starts = {"residual": residual, "ntk": ntk, "moment": moment}
    parameters = (first, second)
    data = sweep("second_order_orbits", _kernels.second_order, parameters, starts, learning_rate, steps, record)
    finite = [data[name].where(np.isfinite(data[name]), 0.0) for name in starts]
    finite[1] = finite[1].clip(min=0.0)  # rounding may leave a kernel of 0 just below it
    sharpness = over(functools.partial(second_order_sharpness, first=first, second=second), *finite)
    unit = (spanned("", "learning_rate", learning_rate, axis="learning_rate") * max(abs(first), abs(second))) ** -2.0
    return described(data, learning_rate, finite[0] ** 2 / 2, sharpness, "agarwala2022", unit)
