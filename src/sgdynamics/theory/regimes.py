r"""The four regimes of a long run of gradient descent, read off its sharpness.

After an early transient the sharpness rests near its lowest value (saturation), then rises (progressive sharpening)
until it meets :math:`2/\eta`, and stays about there (edge of stability). What is read is the sharpness times the
learning rate; nothing is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import checked, complain, instance_of, one, positive
from sgdynamics.formula import law

__all__ = ["SOURCES", "time_regimes"]

SOURCES = ("kalra2023",)

Array = NDArray[Any]

EARLY, SATURATION, SHARPENING, EDGE = range(4)
NAMES = ("early", "saturation", "progressive_sharpening", "edge")
STARTS = {
    "saturation_start": "first step of saturation",
    "sharpening_start": "first step of progressive sharpening",
    "edge_start": "first step at the edge of stability",
}


def _edge(gain: Array, band: float) -> tuple[int, bool]:
    """Where the gain comes to the edge and stays, else the end; and whether it came from above, or started there."""
    below, above = gain < 2 * (1 - band), gain > 2 * (1 + band)
    ups = 1 + np.flatnonzero(below[:-1] & ~below[1:])
    staying: list[int] = [up for up in ups.tolist() if np.median(gain[up:]) >= 2 * (1 - band)]
    downs = np.flatnonzero(np.concatenate([[True], above[:-1]]) & ~above & ~below)
    # a run that falls through the band has soon been below it for longer than not
    balance = np.where(below, -1, 1)
    landings: list[int] = [down for down in downs.tolist() if (np.cumsum(balance[down:]) >= 0).all()]
    edge = min([*staying[:1], *landings[:1], gain.size])
    return edge, edge in landings


def _plateau(gain: Array, rise: float) -> tuple[int, int]:
    """The points about the lowest one that lie within a factor of it, as first and one past the last."""
    low = int(gain.argmin())
    above = gain > gain[low] * (1 + rise)
    before, after = np.flatnonzero(above[:low]), np.flatnonzero(above[low:])
    return int(before[-1]) + 1 if before.size else 0, low + int(after[0]) if after.size else gain.size


@law(quantity="report")
@checked(run=instance_of(xr.Dataset), rise=one(positive), band=one(positive))
def time_regimes(run: xr.Dataset, *, rise: float = 0.1, band: float = 0.1) -> xr.Dataset:
    r"""Label the recorded steps of a run: early, saturation, progressive sharpening, edge.

    With the gain :math:`\eta\lambda`, the **edge** begins where the gain comes up to :math:`2(1-\text{band})` from
    below and from where on its median is no less; or where it comes down to :math:`2(1+\text{band})` from above, or
    starts within the band, and at no later time has been below the band for longer than not. A run that lands from
    above has no saturation: all before is the **early** transient. Otherwise, before the edge, **saturation** is the
    stretch about the lowest gain that stays within a factor :math:`1+\text{rise}` of it; what comes earlier is the
    **early** transient, what comes later is **progressive sharpening**. A regime that a run does not show is empty.

    Status: heuristic: the labels are conventions.

    Parameters
    ----------
    run : Dataset
        One run at a constant learning rate, as :func:`sgdynamics.simulate.trainer.trajectory` gives it with the
        instrument ``tracked_eigenpairs``: ``sharpness`` along ``step`` or ``measured_step``, and ``time`` or
        ``measured_time``, the sum of the learning rates so far. At least three records.
    rise : float
        How far above its lowest value the sharpness may be and still count as saturated, > 0.
    band : float
        How far from :math:`2/\eta` the edge begins, relative to it, > 0.

    Returns
    -------
    Dataset
        ``regime`` (step), int8 with CF flags; ``gain`` (step); ``saturation_start``, ``sharpening_start`` and
        ``edge_start``, the first recorded steps of a regime, -1 for one that is empty; ``learning_rate``.

    Raises
    ------
    ValueError, TypeError
        If there is no sharpness along steps, it is not finite and positive, or the learning rate is not constant.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> step = np.arange(0, 100, 10)
    >>> sharpness = [9.0, 5.0, 5.1, 5.2, 7.0, 10.0, 15.0, 19.0, 20.5, 19.8]
    >>> run = xr.Dataset({"sharpness": ("step", sharpness)}, {"step": step, "time": ("step", 0.1 * step)})
    >>> found = time_regimes(run)
    >>> found.regime.values
    array([0, 1, 1, 1, 2, 2, 2, 3, 3, 3], dtype=int8)
    >>> found.saturation_start.item(), found.sharpening_start.item(), found.edge_start.item()
    (10, 40, 70)

    Notes
    -----
    The regimes are those of networks at learning rates of the order of 2 over the initial sharpness; their boundaries
    are a convention, to be named with ``rise`` and ``band``.
    """
    owner = "time_regimes"
    if "sharpness" not in run or run.sharpness.ndim != 1 or run.sharpness.dims[0] not in ("step", "measured_step"):
        raise complain(owner, "run", "a Dataset with sharpness along step or measured_step", list(run.variables))
    dim = str(run.sharpness.dims[0])
    clock = dim.replace("step", "time")
    if run.sizes[dim] < 3 or clock not in run.coords:
        raise complain(owner, "run", f"of at least three records with the coordinate {clock}", dict(run.sizes))
    sharpness = np.asarray(run.sharpness.values, dtype=np.float64)
    if not (np.isfinite(sharpness) & (sharpness > 0)).all():
        raise complain(owner, "run", "a run of finite, positive sharpness", sharpness)
    rates = np.diff(run[clock].values) / np.diff(run[dim].values)
    if not (rates > 0).all() or np.ptp(rates) > 1e-6 * rates.mean():
        raise complain(owner, "run", "a run at one learning rate > 0", rates)
    gain = sharpness * rates.mean()
    edge, from_above = _edge(gain, band)
    first, last = (edge, edge) if from_above else _plateau(gain[:edge], rise)
    label = np.full(gain.size, EDGE, dtype=np.int8)
    label[:edge], label[:last], label[:first] = SHARPENING, SATURATION, EARLY
    steps = run[dim].values
    found = xr.Dataset(
        {"regime": (dim, label), "gain": (dim, gain, {"long_name": "learning rate times sharpness", "units": "1"})},
        {dim: run[dim], clock: run[clock]},
    )
    found.regime.attrs = {
        "long_name": "regime",
        "flag_values": np.arange(len(NAMES), dtype=np.int8),
        "flag_meanings": " ".join(NAMES),
    }
    for number, (name, text) in enumerate(STARTS.items(), 1):
        where = np.flatnonzero(label == number)
        start = steps[where[0]] if where.size else -1
        found[name] = xr.DataArray(np.int32(start), attrs={"long_name": f"{text}, -1 if there is none", "units": "1"})
    found["learning_rate"] = xr.DataArray(rates.mean(), attrs={"long_name": "learning rate", "units": "1/curvature"})
    return found.assign_attrs(source="sgdynamics.theory.regimes.time_regimes", rise=float(rise), band=float(band))
