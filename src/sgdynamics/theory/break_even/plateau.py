r"""Where a self-stabilising direction settles: the fixed point of its averaged recursion, and how long it takes.

For :class:`~sgdynamics.models.break_even.SelfStabilizingMode` with :math:`q = c_S\kappa^2`, :math:`Q = 1 + q` and
:math:`v = E x^2`, treating curvature and oscillation as independent,

.. math:: v' = \bigl[1 - \eta y (2 - \eta y Q)\bigr] v + \eta^2 c_S \sigma^2, \qquad
    y' = y + \eta \bigl(a - \tfrac12\beta v\bigr).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import Numeric, checked, complain, instance_of, nonnegative, positive
from sgdynamics.formula import formula, sqrt, stable_below, where
from sgdynamics.models.break_even import SelfStabilizingModes

__all__ = [
    "break_even_steps",
    "clipped_modes",
    "collapse_curvature",
    "frozen_second_moment",
    "plateau_curvature",
    "plateau_projection_variance",
    "plateau_second_moment",
    "stochastic_sharpness_gap",
]

_MODE = ("self-stabilising mode", "curvature independent of the oscillation", "independent batches")


def _frozen_limit(curvature: Numeric, batch_factor: Numeric, relative_variance: Numeric) -> Numeric:
    return 2 / (curvature * (1 + relative_variance * batch_factor))


def _noise_limit(
    batch_factor: Numeric, relative_variance: Numeric, force_variance: Numeric, sharpening: Numeric, restoring: Numeric
) -> Numeric:
    """Learning rate beyond which noise alone holds the oscillation above its plateau: Q eps = 1."""
    quality = 1 + relative_variance * batch_factor
    return sqrt(2 * sharpening / (quality * batch_factor * force_variance * restoring))


@formula(
    learning_rate=positive,
    curvature=positive,
    batch_factor=nonnegative,
    relative_variance=nonnegative,
    force_variance=nonnegative,
    edge=stable_below(learning_rate=_frozen_limit),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("frozen curvature", "independent batches", "curvature and force uncorrelated", "stationary"),
)
def frozen_second_moment(
    learning_rate: Numeric,
    curvature: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
) -> Numeric:
    r"""Stationary second moment of the oscillation at a frozen curvature.

    .. math:: E x^2 = \frac{\eta c_S \sigma^2}{y (2 - \eta y Q)}

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`. From :func:`edge_curvature` on, :math:`\eta y Q \ge 2`, the result is +inf.
    curvature : Numeric
        :math:`y > 0`.
    batch_factor : Numeric
        :math:`c_S \ge 0`.
    relative_variance : Numeric
        :math:`\kappa^2 \ge 0`, variance of the relative curvatures.
    force_variance : Numeric
        :math:`\sigma^2 \ge 0`, variance of the forces.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> frozen_second_moment(0.1, 10.0, 0.0625, 0.0, 1.0)
    0.000625
    """
    quality = 1 + relative_variance * batch_factor
    return learning_rate * batch_factor * force_variance / (curvature * (2 - learning_rate * curvature * quality))


@formula(
    learning_rate=positive,
    batch_factor=nonnegative,
    relative_variance=nonnegative,
    force_variance=nonnegative,
    sharpening=positive,
    restoring=positive,
    edge=stable_below(learning_rate=_noise_limit),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("averaged recursion of a self-stabilising mode", "independent batches"),
)
def plateau_curvature(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""Curvature at which a self-stabilising direction hovers: the upper fixed point of the averaged recursion.

    .. math:: y^* = \frac{1 + \sqrt{1 - Q\varepsilon}}{\eta Q}, \qquad Q = 1 + \kappa^2 c_S, \qquad
        \varepsilon = \frac{\eta^2 c_S \sigma^2 \beta}{2a}

    Without noise :math:`2/\eta`, without forces :func:`edge_curvature`. There is no fixed point, and noise alone drives
    the curvature down without bound, where :math:`Q\varepsilon \ge 1`: then the result is +inf, no plateau.

    The averaged recursion is exact; that the run stays at its fixed point is not: rare kicks pull the curvature below
    it, more so for heavy-tailed curvatures and small batches.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`.
    batch_factor : Numeric
        :math:`c_S \ge 0`.
    relative_variance : Numeric
        :math:`\kappa^2 \ge 0`, variance of the relative curvatures.
    force_variance : Numeric
        :math:`\sigma^2 \ge 0`, variance of the forces.
    sharpening : Numeric
        :math:`a > 0`.
    restoring : Numeric
        :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> plateau_curvature(0.1, 1008 / (16 * 1023), 0.25, 1.0, sharpening=0.01)
    19.541569...
    """
    quality = 1 + relative_variance * batch_factor
    noise = learning_rate**2 * batch_factor * force_variance * restoring / (2 * sharpening)
    return (1 + sqrt(1 - quality * noise)) / (learning_rate * quality)


@formula(
    learning_rate=positive,
    batch_factor=nonnegative,
    relative_variance=nonnegative,
    force_variance=nonnegative,
    sharpening=positive,
    restoring=positive,
    edge=stable_below(learning_rate=_noise_limit),
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("averaged recursion of a self-stabilising mode", "independent batches"),
)
def collapse_curvature(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""Curvature below which noise drives a self-stabilising direction down: the lower fixed point.

    .. math:: y = \frac{1 - \sqrt{1 - Q\varepsilon}}{\eta Q} = \frac{\varepsilon}{\eta (1 + \sqrt{1 - Q\varepsilon})}

    A flat direction lets the force noise accumulate to more than :math:`E x^2 = 2a/\beta`, which flattens it further.
    0 without forces; +inf where there is no fixed point.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`.
    batch_factor : Numeric
        :math:`c_S \ge 0`.
    relative_variance : Numeric
        :math:`\kappa^2 \ge 0`, variance of the relative curvatures.
    force_variance : Numeric
        :math:`\sigma^2 \ge 0`, variance of the forces.
    sharpening : Numeric
        :math:`a > 0`.
    restoring : Numeric
        :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> collapse_curvature(0.1, 1008 / (16 * 1023), 0.25, 1.0, sharpening=0.01)
    0.155181...
    """
    quality = 1 + relative_variance * batch_factor
    noise = learning_rate**2 * batch_factor * force_variance * restoring / (2 * sharpening)
    return noise / (learning_rate * (1 + sqrt(1 - quality * noise)))


@formula(
    sharpening=nonnegative,
    restoring=positive,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("self-stabilising mode", "curvature stationary", "curvature independent of the oscillation"),
)
def plateau_second_moment(sharpening: Numeric, restoring: Numeric = 1.0) -> Numeric:
    r"""Mean square of the oscillation at a plateau, :math:`E x^2 = 2a/\beta`, for every learning rate and batch size.

    Parameters
    ----------
    sharpening : Numeric
        :math:`a \ge 0`.
    restoring : Numeric
        :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> plateau_second_moment(0.01)
    0.02
    """
    return 2 * sharpening / restoring


@formula(
    curvature=positive,
    relative_variance=nonnegative,
    force_variance=nonnegative,
    sharpening=nonnegative,
    restoring=positive,
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(
        "self-stabilising mode",
        "frozen curvature",
        "curvature stationary",
        "curvature and force uncorrelated",
    ),
)
def plateau_projection_variance(
    curvature: Numeric,
    relative_variance: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""Mean gradient variance along a direction at its plateau.

    .. math:: E K_{11} = \kappa^2 y^2 \frac{2a}{\beta} + \sigma^2

    Without forces it goes with the square of the curvature: twice the learning rate, a quarter of the variance.

    Parameters
    ----------
    curvature : Numeric
        :math:`y > 0`, that of the plateau.
    relative_variance : Numeric
        :math:`\kappa^2 \ge 0`, variance of the relative curvatures.
    force_variance : Numeric
        :math:`\sigma^2 \ge 0`, variance of the forces.
    sharpening : Numeric
        :math:`a \ge 0`.
    restoring : Numeric
        :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> plateau_projection_variance(20.0, 0.25, 0.5, sharpening=0.01)
    2.5
    """
    return relative_variance * curvature**2 * 2 * sharpening / restoring + force_variance


@formula(
    learning_rate=positive,
    batch_factor=nonnegative,
    force_variance=nonnegative,
    sharpening=positive,
    restoring=positive,
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=(*_MODE, "no spread of the curvatures", "weak noise"),
)
def stochastic_sharpness_gap(
    learning_rate: Numeric,
    batch_factor: Numeric,
    force_variance: Numeric,
    *,
    sharpening: Numeric,
    restoring: Numeric = 1.0,
) -> Numeric:
    r"""How far below :math:`2/\eta` weak force noise holds the plateau, :math:`\eta\beta c_S\sigma^2/(4a)`.

    The limit of :math:`2/\eta - y^*` of :func:`plateau_curvature` for :math:`\kappa = 0, \varepsilon \to 0`; the next
    order is :math:`\varepsilon/4` of it.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`.
    batch_factor : Numeric
        :math:`c_S \ge 0`.
    force_variance : Numeric
        :math:`\sigma^2 \ge 0`, variance of the forces.
    sharpening : Numeric
        :math:`a > 0`.
    restoring : Numeric
        :math:`\beta > 0`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> stochastic_sharpness_gap(0.1, 0.0625, 1.0, sharpening=0.01)
    0.15625
    """
    return learning_rate * restoring * batch_factor * force_variance / (4 * sharpening)


@formula(
    learning_rate=positive,
    batch_factor=nonnegative,
    relative_variance=nonnegative,
    sharpening=positive,
    start_curvature=positive,
    status="bound",
    symbolic=True,
    source="derived",
    assumptions=("self-stabilising mode", "no negative curvatures of batches"),
)
def break_even_steps(
    learning_rate: Numeric,
    batch_factor: Numeric,
    relative_variance: Numeric,
    *,
    sharpening: Numeric,
    start_curvature: Numeric,
) -> Numeric:
    r"""Steps that a self-stabilising direction takes at least to its break-even point.

    .. math:: t \ge \frac{1}{\eta a} \Bigl( \frac{2}{\eta (1 + \kappa^2 c_S)} - y_0 \Bigr)

    The curvature grows by at most :math:`\eta a` a step; the oscillation only delays it, at weak noise by little. 0
    for a start beyond the edge.

    Parameters
    ----------
    learning_rate : Numeric
        :math:`\eta > 0`.
    batch_factor : Numeric
        :math:`c_S \ge 0`.
    relative_variance : Numeric
        :math:`\kappa^2 \ge 0`, variance of the relative curvatures.
    sharpening : Numeric
        :math:`a > 0`.
    start_curvature : Numeric
        :math:`y_0 > 0`.

    Returns
    -------
    Numeric
        Not rounded to whole steps.

    Examples
    --------
    >>> break_even_steps(0.1, 0.0, 0.0, sharpening=0.01, start_curvature=1.0)
    19000.0
    """
    room = 2 / (learning_rate * (1 + relative_variance * batch_factor)) - start_curvature
    return where(room > 0, room / (learning_rate * sharpening), 0.0)


@checked(modes=instance_of(SelfStabilizingModes), learning_rate=positive, time=nonnegative)
def clipped_modes(modes: SelfStabilizingModes, learning_rate: Numeric, time: Numeric) -> xr.Dataset:
    r"""Spectrum of several self-stabilising directions at a time, each clipped at its plateau.

    .. math:: y_j = \min\bigl(y_j(0) + a_j \eta t,\; y_j^*\bigr)

    with :func:`plateau_curvature` :math:`y_j^*`. The bulk is the same at every learning rate: what improves the
    conditioning is that the top is clipped, so that :math:`y_d/y_1` doubles with the learning rate.

    Status: heuristic. Around the edge a mode overshoots or is held back, and noise may kill it.

    Parameters
    ----------
    modes : SelfStabilizingModes
        Every rate > 0.
    learning_rate : Numeric
        :math:`\eta > 0`; a DataArray sweeps.
    time : Numeric
        :math:`\eta t \ge 0`, learning rate times steps; a DataArray sweeps.

    Returns
    -------
    xarray.Dataset
        ``curvature`` (mode) and ``plateau`` (mode), ``clipped`` (mode); ``trace``, ``sharpness`` and
        ``condition_ratio``, smallest over largest curvature; all along the dims of the sweep too.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> modes = SelfStabilizingModes(np.ones((4, 2)), sharpening=[0.02, 0.01], batch_size=4)
    >>> found = clipped_modes(modes, 0.1, 1500.0)
    >>> found.curvature.values, found.condition_ratio.item()
    (array([20., 16.]), 0.8)
    """
    owner = "clipped_modes"
    for name, value in (("learning_rate", learning_rate), ("time", time)):
        if np.ndim(value) and not isinstance(value, xr.DataArray):
            raise complain(owner, name, "a number or a DataArray", value)
    if (np.asarray(modes.sharpening) <= 0).any():
        raise complain(owner, "modes", "of rates > 0", modes.sharpening)
    number = range(1, modes.modes + 1)

    def along(value: Any) -> xr.DataArray:
        return xr.DataArray(np.broadcast_to(value, modes.modes), {"mode": list(number)}, ("mode",))

    plateau = plateau_curvature(
        xr.DataArray(learning_rate),
        modes.batch_factor,
        along(modes.relative_variance),
        along(modes.force_variance),
        sharpening=along(modes.sharpening),
        restoring=modes.restoring,
    )
    free = along(modes.start_curvature) + along(modes.sharpening) * xr.DataArray(time)
    curvature = free.where(free <= plateau, plateau).transpose("mode", ...)
    top = curvature.max("mode")
    found = xr.Dataset(
        {
            "curvature": curvature,
            "plateau": plateau,
            "clipped": free > plateau,
            "sharpness": top,
            "trace": curvature.sum("mode"),
            "condition_ratio": curvature.min("mode") / top,
        }
    )
    names = {
        "curvature": ("curvature along the mode", "curvature"),
        "plateau": ("curvature at which the mode is clipped", "curvature"),
        "clipped": ("whether the mode is clipped", "1"),
        "sharpness": ("largest curvature", "curvature"),
        "trace": ("sum of the curvatures", "curvature"),
        "condition_ratio": ("smallest over largest curvature", "1"),
        "mode": ("number of the mode", "1"),
    }
    for name, (text, units) in names.items():
        found[name].attrs = {"long_name": text, "units": units}
    return found.assign_attrs(source=f"sgdynamics.theory.break_even.{owner}", version=sgdynamics.__version__)
