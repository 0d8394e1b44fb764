r"""Fixed points of gradient descent in function space, and the learning rate beyond which no minimum is stable.

Scaled, :math:`s = \eta\sqrt\kappa(f-y)`, :math:`l = \eta\lambda`, :math:`q = \eta\sqrt\kappa y \ge 0` (:math:`y < 0` is
its mirror image):

.. math:: s' = s\,(1 - l + s(s+q)), \qquad l' = l + s\,(ls - 4(s+q)).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, Value, checked, nonnegative, real, swept
from sgdynamics.formula import formula, law, sqrt
from sgdynamics.models.uv.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory.uv._choose import choose

_ONE_EXAMPLE = ("two linear layers", "one example")
LINE, SADDLE, REPELLER, NEUTRAL = range(4)
_KINDS = {"flag_values": np.arange(4, dtype=np.int8), "flag_meanings": "line_of_minima saddle repeller neutral"}


@formula(
    PARAMETERS, quantity="learning rate", status="exact", symbolic=True, source="derived", assumptions=_ONE_EXAMPLE
)
def critical_learning_rate(kappa: Numeric, target: Numeric, *, momentum: Numeric = 0.0) -> Numeric:
    r"""Learning rate beyond which every minimum is unstable: :math:`\eta_c = (1+\beta)/(\sqrt\kappa|y|)`.

    The flattest minimum has the kernel :math:`2\sqrt\kappa|y|`, and a minimum with a kernel above
    :math:`2(1+\beta)/\eta` is unstable under the heavy ball. Beyond this rate oscillations never end. Without momentum
    it is where :math:`q = 1`.

    Returns
    -------
    Numeric
        +inf at target 0.

    Examples
    --------
    >>> critical_learning_rate(0.25, -4.0)
    0.5
    """
    return (1 + momentum) / (sqrt(kappa) * abs(target))


@formula(
    PARAMETERS,
    q=Parameter("q", "scaled target", nonnegative, 1.125),
    quantity="scaled kernel",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_ONE_EXAMPLE,
)
def ntk_nullcline(residual: Numeric, q: Numeric) -> Numeric:
    r"""Scaled kernel at which a step leaves the kernel unchanged: :math:`l = 4(s+q)/s`.

    For outputs beyond the target, :math:`s > 0`, the kernel falls below this line and rises above it.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> ntk_nullcline(2.0, 0.5)  # a fixed point: beyond the target the nullclines meet here
    5.0
    """
    return 4 * (residual + q) / residual


@law(quantity="factor")
@checked(residual=real, ntk=nonnegative, q=real)
def jacobian(
    residual: float | Value, ntk: float | Value, q: float | Value
) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
    r"""Jacobian of the scaled map in the coordinates :math:`(s, l)`.

    .. math:: \begin{pmatrix} 1 - l + 3s^2 + 2qs & -s \\ 2ls - 8s - 4q & 1 + s^2 \end{pmatrix}

    Status: exact.

    Parameters
    ----------
    residual, ntk : Numeric
        :math:`s` and :math:`l`; numbers, arrays, DataArrays or SymPy symbols.
    q : Numeric
        Scaled target.

    Returns
    -------
    tuple of two rows
        The rows belong to :math:`s'` and :math:`l'`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> jacobian(0.0, 3.0, 0.5) == ((-2.0, 0.0), (-2.0, 1.0))
    True
    """
    return (  # type: ignore[return-value]
        (1 - ntk + 3 * residual**2 + 2 * q * residual, -residual),
        (2 * ntk * residual - 8 * residual - 4 * q, 1 + residual**2),
    )


@law(quantity="report")
@checked(q=swept(nonnegative))
def fixed_points(q: Numeric) -> xr.Dataset:
    r"""The four fixed points, with location, eigenvalues and kind.

    ======  ==================  ================  ==================================================
    name    location            eigenvalues       kind
    ======  ==================  ================  ==================================================
    minima  s = 0, l >= 2q      1 - l, 1          a line, stable for l < 2; its flattest point here
    origin  s = -q, l = 0       (1-q)^2, (1+q)^2  saddle for 0 < q < 2, then repeller
    beyond  s = 2, l = 4 + 2q   9, 5 + 2q         repeller
    before  s = -2, l = 4 - 2q  9, 5 - 2q         repeller up to q = 2, where it meets the origin
    ======  ==================  ================  ==================================================

    Status: exact.

    Parameters
    ----------
    q : Numeric
        Scaled target :math:`\eta\sqrt\kappa y \ge 0`; a number or a DataArray.

    Returns
    -------
    xarray.Dataset
        ``residual`` :math:`s`, ``ntk`` :math:`l`, ``physical`` (whether weights can be there) and ``kind`` along
        ``fixed_point``; ``eigenvalue`` along ``fixed_point`` and ``mode``.

    Raises
    ------
    ValueError, TypeError
        If q is outside its range or an array without labels.

    Examples
    --------
    >>> fixed_points(0.5).sel(fixed_point="before").ntk.item()
    3.0
    """
    scaled = xr.DataArray(q)
    zero = 0 * scaled

    def points(*values: Numeric) -> xr.DataArray:
        made: xr.DataArray = xr.concat([value + zero for value in values], "fixed_point")
        return made.transpose(..., "fixed_point")

    first = points(1 - 2 * scaled, (1 - scaled) ** 2, 9.0, 9.0)
    second = points(1.0, (1 + scaled) ** 2, 5 + 2 * scaled, 5 - 2 * scaled)
    low, high = np.minimum(abs(first), abs(second)), np.maximum(abs(first), abs(second))
    kind = choose((low == 1) | (high == 1), NEUTRAL, choose(low > 1, REPELLER, SADDLE))
    data = xr.Dataset(
        {
            "residual": points(0.0, -scaled, 2.0, -2.0),
            "ntk": points(2 * scaled, 0.0, 4 + 2 * scaled, 4 - 2 * scaled),
            "eigenvalue": xr.concat([first, second], "mode").transpose(..., "fixed_point", "mode"),
            "physical": points(1.0, 1.0, 1.0, choose(scaled <= 2, 1.0, 0.0)).astype(np.int8),
            "kind": choose(points(1.0, 0.0, 0.0, 0.0) == 1, LINE, kind).astype(np.int8),
        }
    ).assign_coords(fixed_point=["minima", "origin", "beyond", "before"])
    data.residual.attrs = {"long_name": "scaled residual s", "units": "1"}
    data.ntk.attrs = {"long_name": "scaled kernel l", "units": "1"}
    data.eigenvalue.attrs = {"long_name": "eigenvalue of the Jacobian", "units": "1"}
    data.physical.attrs = {"long_name": "whether weights can be there", "units": "1"}
    data.kind.attrs = {"long_name": "kind of fixed point", **_KINDS}
    return data.assign_attrs(source="derived")
