r"""Where no minimum is stable: cycles and chaos on the line :math:`l = 2\phi`, and their exponents.

There the two layers are parallel and equally long, :math:`M = D = 0`, and the map is one of the output alone,

.. math:: \phi' = \phi\,(1 + q - \phi)^2, \qquad 0 \le \phi \le 2 + q, \qquad q = \eta\sqrt\kappa\,y.

Up to :math:`q = 2` it keeps that interval; beyond, almost every orbit leaves. Periods are those of the output: in the
weights, which change sign together, they may be twice as long.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import Numeric, checked, complain, flag, integer, nonnegative, one, positive
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv._core import Floats
from sgdynamics.simulate.uv._edge_orbits import cone_step, end_on_line, follow_cone, follow_line, line_step
from sgdynamics.sweeps import spanned

__all__ = ["bifurcation", "lyapunov"]

# Values of q in one task.
BLOCK = 256


# ---------------------------------------------------------------------------------------------------------------------
# Exponents


@kernel
def _exponents(q: Floats, start: float, transient: int, steps: int, along: Floats, across: Floats) -> None:
    """Mean logarithms of the slopes of every orbit."""
    x = np.full(q.size, start)
    end_on_line(q, transient, x)
    follow_line(q, steps, x, along, across)
    along /= steps
    across /= steps


def _lyapunov(q: Floats, *, start: float, transient: int, steps: int) -> tuple[Any, Any]:
    flat = np.ascontiguousarray(q).reshape(-1)
    along, across = np.full(flat.size, math.inf), np.full(flat.size, math.inf)
    bounded = np.flatnonzero((flat <= 2) & (start <= 2 + flat))
    parts = [np.empty(bounded.size) for _ in range(2)]
    run_all(
        functools.partial(_exponents, flat[bounded[block]], start, transient, steps, *(part[block] for part in parts))
        for block in slices(bounded.size, BLOCK)
    )
    along[bounded], across[bounded] = parts
    return along.reshape(np.shape(q)), across.reshape(np.shape(q))


@checked(q=nonnegative, steps=integer(1), transient=integer(0), start=one(positive))
def lyapunov(q: Numeric, *, steps: int, transient: int = 1000, start: float = 0.3) -> xr.Dataset:
    r"""Lyapunov exponents on the line where the two layers are parallel and equally long.

    .. math:: \overline{\ln|(r-\phi)(r-3\phi)|} \quad\text{along the line}, \qquad
        \overline{2\ln|1+\phi-q|} \quad\text{away from it}, \qquad r = 1 + q,

    means over an orbit. The second is the rate at which the imbalance :math:`M` grows: where it is negative, networks
    of any width collapse on the line.

    Parameters
    ----------
    q : Numeric
        :math:`\eta\sqrt\kappa\,y \ge 0`, the learning rate over its largest value with a stable minimum.
    steps : int
        Steps that are averaged over, >= 1.
    transient : int
        Steps before them.
    start : float
        :math:`\phi_0 > 0`. Beyond :math:`2 + q`, the end of the interval that the map keeps, orbits leave.

    Returns
    -------
    Dataset
        ``exponent`` and ``transverse_exponent`` per step, with the dims of ``q``; a plain 1-D array is along ``q``.
        ``exponent`` is ``-inf`` on a cycle through the top of the map. Both are ``+inf`` where the orbit leaves: for
        q > 2, and from starts beyond 2 + q.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    An orbit whose state repeats to the last bit is on a cycle and is not followed further: whole turns that remain are
    counted, and the means are those of the run to its end to 1e-12. A billion steps cost no more than the way to the
    cycle; chaos does not repeat. The bits do not depend on the number of threads or on the other q.

    Examples
    --------
    Full chaos at q = 2, where the exponent is ln 3:

    >>> lyapunov([0.9, 2.0], steps=100_000).exponent.values.round(2)
    array([-0.22,  1.1 ])
    """
    array = spanned("lyapunov", "q", q, axis="q")
    along, across = xr.apply_ufunc(
        functools.partial(_lyapunov, start=float(start), transient=transient, steps=steps),
        array,
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
    )
    along.attrs = {"long_name": "Lyapunov exponent along the line", "units": "1/step"}
    across.attrs = {"long_name": "Lyapunov exponent away from the line", "units": "1/step"}
    return xr.Dataset(
        {"exponent": along, "transverse_exponent": across},
        attrs={"source": "kalra2025", "steps": float(steps), "version": sgdynamics.__version__},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Attractors


@kernel
def _samples(q: Floats, transient: int, p: Floats, m: Floats, output: Floats, ntk: Floats, sharpness: Floats) -> None:
    """The last points of orbits that begin at the given sides of the cone, and where these end."""
    on_line = (m == 0.0) & (q <= 2.0) & (0.25 * p <= 2.0 + q)  # elsewhere nothing keeps an orbit in bounds
    line, rest = np.flatnonzero(on_line), np.flatnonzero(~on_line)
    x = 0.25 * p[line]
    end_on_line(q[line], transient, x)
    side, other = p[rest], m[rest]
    follow_cone(q[rest], transient, side, other)
    # one by one: arrays assigned to slices make Numba compile a library of strings, for the error of other shapes
    for i in range(line.size):
        p[line[i]] = 4.0 * x[i]
    for i in range(rest.size):
        p[rest[i]], m[rest[i]] = side[i], other[i]
    for i in range(q.size):
        a, b = p[i], m[i]
        for t in range(output.shape[1]):
            s = 0.25 * (a - b) - q[i]
            slope = 2.0 * s + q[i]
            inside = a < math.inf
            output[i, t] = s + q[i] if inside else math.inf
            ntk[i, t] = 0.5 * (a + b) if inside else math.inf
            sharpness[i, t] = 0.5 * (0.5 * (a + b) + math.sqrt(a * b + 4.0 * slope * slope)) if inside else math.inf
            if on_line[i]:
                a = 4.0 * line_step(0.25 * a, q[i])
            else:
                a, b = cone_step(a, b, q[i])
        p[i], m[i] = a, b


@kernel
def _chain(q: Floats, transient: int, p: Floats, m: Floats, output: Floats, ntk: Floats, sharpness: Floats) -> None:
    """The same one after the other, each orbit from where the one before ended, if it did not diverge."""
    first_p, first_m = p[0], m[0]
    for i in range(q.size):
        if i > 0:
            alive = p[i - 1] < math.inf
            p[i], m[i] = p[i - 1] if alive else first_p, m[i - 1] if alive else first_m
        one = slice(i, i + 1)
        _samples(q[one], transient, p[one], m[one], output[one], ntk[one], sharpness[one])


def _bifurcation(
    q: Floats, *, start: float, imbalance: float, transient: int, keep: int, chained: bool
) -> tuple[Any, ...]:
    flat = np.ascontiguousarray(q).reshape(-1)
    parts = [np.empty((flat.size, keep)) for _ in range(3)]
    top = math.hypot(start, 0.5 * imbalance) + start
    sides = [np.full(flat.size, side) for side in (2.0 * top, imbalance * (0.5 * imbalance / top))]
    run_all(
        functools.partial(
            _chain if chained else _samples, flat[block], transient, *(a[block] for a in (*sides, *parts))
        )
        for block in slices(flat.size, flat.size if chained else BLOCK)
    )
    return tuple(part.reshape((*np.shape(q), keep)) for part in parts)


@checked(
    q=nonnegative,
    transient=integer(0),
    keep=integer(1),
    start=one(positive),
    imbalance=one(nonnegative),
    continuation=flag,
)
def bifurcation(
    q: Numeric,
    *,
    transient: int,
    keep: int,
    start: float = 0.3,
    imbalance: float = 0.0,
    continuation: bool = False,
) -> xr.Dataset:
    r"""What orbits end in, as the learning rate grows: the samples of a bifurcation diagram.

    Parameters
    ----------
    q : Numeric
        :math:`\eta\sqrt\kappa\,y \ge 0`.
    transient : int
        Steps to leave out.
    keep : int
        Steps to keep, >= 1.
    start : float
        Scaled output :math:`\phi_0 = \eta\sqrt\kappa f_0 > 0`. On the line, orbits from beyond :math:`2 + q` diverge.
    imbalance : float
        :math:`\sqrt{l_0^2 - 4\phi_0^2}` at the start. 0 is the line, on which the map has one dimension; otherwise the
        full map runs.
    continuation : bool
        Begin at every q of a 1-D array where the orbit of the q before ended, so that an attractor is followed for as
        long as it exists; after a divergence anew.

    Returns
    -------
    Dataset
        ``output``, ``ntk`` and ``sharpness``, scaled by the learning rate (:math:`\phi`, :math:`l`,
        :math:`\eta\lambda^H`), over (q, sample); ``+inf`` once the orbit is beyond return.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    The cycle of two points at q = 1.1, from anywhere:

    >>> import numpy as np
    >>> for imbalance in (0.0, 0.2):
    ...     found = bifurcation([1.1], transient=1000, keep=4, imbalance=imbalance)
    ...     print(np.unique(found.output.values.round(6)))
    [0.729844 1.370156]
    [0.729844 1.370156]
    """
    array = spanned("bifurcation", "q", q, axis="q", reserved=["sample"])
    if continuation and array.ndim != 1:
        raise complain("bifurcation", "q", "1-D where the orbit is continued", q)
    # a chain of orbits is one piece; otherwise every q stands alone
    core = [list(array.dims)] if continuation else [[]]
    if continuation and array.chunks is not None:
        array = array.chunk(-1)
    output, ntk, sharpness = xr.apply_ufunc(
        functools.partial(
            _bifurcation,
            start=float(start),
            imbalance=float(imbalance),
            transient=transient,
            keep=keep,
            chained=continuation,
        ),
        array,
        input_core_dims=core,
        output_core_dims=[[*core[0], "sample"]] * 3,
        dask="parallelized",
        output_dtypes=[np.float64] * 3,
        dask_gufunc_kwargs={"output_sizes": {"sample": keep}},
    )
    output.attrs = {"long_name": "scaled output", "units": "1"}
    ntk.attrs = {"long_name": "learning rate times neural tangent kernel", "units": "1"}
    sharpness.attrs = {"long_name": "learning rate times top eigenvalue of the Hessian", "units": "1"}
    return xr.Dataset(
        {"output": output, "ntk": ntk, "sharpness": sharpness},
        coords={"sample": ("sample", np.arange(transient, transient + keep), {"long_name": "step", "units": "1"})},
        attrs={"source": "kalra2025", "version": sgdynamics.__version__},
    )
