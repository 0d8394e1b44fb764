r"""What share of the gain of a decay a merge keeps, where the curvature is not known."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, average, checked, complain, flag, increasing_steps, one, positive, unit_interval
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.quadratic import stability_edge
from sgdynamics.theory.schedules.merging.window import Window

# Spectra that a network may have: the largest curvature in units of the stability edge, decades down to the smallest.
FRACTIONS = (0.1, 0.25, 0.5, 0.75)
DECADES = (2, 3, 4)
# Modes of one spectrum, even in the logarithm.
MODES = 20


@law(quantity="share")
@checked(
    weights=average,
    target_schedule=schedule_of_rates,
    base_learning_rate=one(positive),
    checkpoints=increasing_steps,
    momentum=one(unit_interval),
    at_rest=flag,
)
def gain_kept(
    weights: Numeric,
    target_schedule: Numeric,
    base_learning_rate: Numeric,
    checkpoints: Numeric,
    *,
    momentum: float = 0.0,
    at_rest: bool = False,
) -> xr.Dataset:
    r"""The share of what a decay gains that a merge keeps, over a range of spectra.

    .. math:: \frac{\operatorname{E}L(x_\text{last}) - \operatorname{E}L(x_\text{merged})}
        {\operatorname{E}L(x_\text{last}) - \operatorname{E}L(x_\text{decayed})}

    for modes that are even in the logarithm of the curvature, from ``fraction`` of the stability edge of the base
    learning rate down by so many ``decades``, with noise of the gradient in proportion to the curvature. Above 1 the
    merge gains more than the decay. It hardly depends on the smallest curvature.

    Status: exact under each of the models; that a network is like one of them is a guess.

    Parameters
    ----------
    weights : array, shape (checkpoints,)
        Of the merge; they sum to 1.
    target_schedule : array, shape (T,)
        Learning rates of the decay.
    base_learning_rate : float
        Of the run that was saved, which has settled.
    checkpoints : array of int
        Steps at which it was saved, from the start of the window to its end, T steps later.
    momentum, at_rest
        As in :func:`merge_plan`.

    Returns
    -------
    xarray.Dataset
        ``gain_kept`` (fraction, decades); NaN where the decay gains nothing.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or lengths disagree.

    Examples
    --------
    >>> from sgdynamics.models.schedules import linear
    >>> found = gain_kept([0.1, 0.2, 0.2, 0.2, 0.2, 0.1], linear(0.1, 1000), 0.1, range(0, 1001, 200))
    >>> 0.8 < float(found.gain_kept.min()) < float(found.gain_kept.max()) < 0.95
    True
    """
    target, steps = np.asarray(target_schedule), np.asarray(checkpoints)
    if target.ndim != 1 or steps[-1] - steps[0] != target.size:
        text = f"as far apart as the {target.size} steps of the decay, first and last"
        raise complain("gain_kept", "checkpoints", text, steps.tolist())
    made = np.asarray(weights)
    if made.shape != steps.shape:
        raise complain("gain_kept", "weights", f"one for each of the {steps.size} checkpoints", made.shape)
    rate, beta = float(base_learning_rate), float(momentum)
    top = np.array(FRACTIONS) * float(stability_edge(1.0, momentum=beta)) / rate
    decades = np.linspace(0, -1, MODES) * np.array(DECADES)[:, None]
    curvature = (top[:, None, None] * 10.0**decades).ravel()
    window = Window.of(MiniBatchQuadratic(curvature, 1 / curvature), rate, beta, at_rest or not beta)
    averages = np.zeros((3, target.size + 1))
    averages[0, steps - steps[0]] = made
    averages[1:, -1] = 1.0
    base = np.full(target.size, rate)
    with np.errstate(under="ignore", over="ignore", invalid="ignore", divide="ignore"):
        points, _ = window.moments(np.array([base, base, target]), averages)
        merged, last, decayed = points.risk.reshape(3, len(FRACTIONS), len(DECADES), MODES).sum(axis=-1)
        share = np.where(last > decayed, (last - merged) / (last - decayed), np.nan)
    return xr.Dataset(
        {"gain_kept": (("fraction", "decades"), share, {"long_name": "share of the decay's gain", "units": "1"})},
        coords={
            "fraction": (
                "fraction",
                list(FRACTIONS),
                {"long_name": "largest curvature over the stability edge", "units": "1"},
            ),
            "decades": ("decades", list(DECADES), {"long_name": "decades of curvature", "units": "1"}),
        },
    )
