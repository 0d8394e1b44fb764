"""Which of several self-stabilising directions the edge has clipped, and how well conditioned that leaves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import sgdynamics
from sgdynamics.domains import Numeric, checked, complain, instance_of, nonnegative, positive, swept
from sgdynamics.formula import law
from sgdynamics.models.break_even import SelfStabilizingModes
from sgdynamics.theory.break_even.plateau import plateau_curvature

__all__ = ["clipped_modes"]


@law(quantity="spectrum")
@checked(modes=instance_of(SelfStabilizingModes), learning_rate=swept(positive), time=swept(nonnegative))
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
