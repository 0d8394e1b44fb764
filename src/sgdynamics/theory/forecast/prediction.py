"""The loss under a schedule that was not run, or of an average of its iterates, with an interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, average, checked, increasing_steps, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.sweeps import steps_to_record
from sgdynamics.theory.forecast._arguments import fitted_law, one_schedule
from sgdynamics.theory.forecast._averages import averaged_columns
from sgdynamics.theory.forecast._law import Runs, curvatures
from sgdynamics.theory.forecast._pieces import pieces_of
from sgdynamics.theory.forecast._regression import SPREAD, shape_at
from sgdynamics.theory.forecast.fitting import _STEP, ONE_RATE, gradient

Array = NDArray[np.float64]

# A schedule whose rate leaves the only one that was fitted by this part asks for what is not known.
_SAME_RATE = 0.05


@law(quantity="loss")
@checked(
    fitted=fitted_law,
    schedule=one_schedule,
    record=optional(increasing_steps),
    average=optional(average),
    batch_size=optional(one(positive)),
)
def predict(
    fitted: xr.Dataset,
    schedule: Numeric,
    *,
    record: Any = None,
    average: Numeric = None,
    batch_size: float | None = None,
) -> xr.Dataset:
    """Loss under any schedule, by the law that was fitted.

    Status: heuristic on a network; exact where the law is.

    Parameters
    ----------
    fitted : xarray.Dataset
        From :func:`fit`.
    schedule : array, shape (T,)
        Learning rates of every step from the first one on, warm-up and all.
    record : array of int, optional
        Steps 0..T to report. Default: the last one.
    average : array, shape (T + 1,), optional
        Weights over the iterates: EMA, tail, two points, or a merge of checkpoints. The loss is then that of the one
        averaged point, at step T.
    batch_size : float, optional
        Default: that of the fitted runs. Of another one noise goes as its inverse, and the scatter of single losses is
        taken to stay.

    Returns
    -------
    xarray.Dataset
        ``loss`` with ``loss_low`` and ``loss_high`` (step), at the confidence of the fit: where a measured loss is
        expected, its scatter included. The attribute ``assumed`` says, a line each, in what the schedule goes beyond
        the fitted runs; intervals know nothing of what is wrong there.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, if the fitted runs hold one rate and the schedule does not, or if a batch
        size is given and :func:`fit` was given none.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdynamics.models.schedules import constant, cosine, linear
    >>> from sgdynamics.theory.forecast import fit, predict
    >>> step = np.arange(100, 2001, 100)
    >>> made = [(rates, step, 2 + 40 * (1 + np.cumsum(rates)[step - 1] / 0.01) ** -0.5 + 0.1 * rates[step - 1])
    ...         for rates in (constant(1.0, 2000), cosine(1.0, 2000))]
    >>> found = predict(fit(made), linear(1.0, 4000))
    >>> bool(abs(found.loss - (2 + 40 * 200_000**-0.5)) < 0.02)
    True
    """
    rates = np.asarray(schedule)
    unit = fitted.attrs["unit"]
    if not fitted.attrs["tells_noise"] and _leaves(rates, fitted.attrs["held_rate"]):
        raise ValueError(
            f"predict: schedule must hold the rate {fitted.attrs['held_rate']:g} of the fitted runs. {ONE_RATE}"
        )
    recorded = steps_to_record("predict", record, rates.size)
    strength = 1.0 if batch_size is None else _batch_size(fitted) / batch_size
    if average is None:
        value, slope = along(fitted, rates / unit, recorded, strength)
    else:
        given = np.asarray(average)
        if given.shape != (rates.size + 1,) or recorded.tolist() != [rates.size]:
            raise ValueError(
                f"predict: average must have T + 1 = {rates.size + 1} weights and is recorded at step {rates.size} "
                f"alone, got shape {given.shape} and record {recorded.tolist()}"
            )
        value, slope = _of_average(fitted, rates / unit, given, strength)
    return _described(fitted, recorded, value, slope, _assumed(fitted, rates[: recorded[-1]], strength))


def _batch_size(fitted: xr.Dataset) -> float:
    known = float(fitted.attrs["batch_size"])
    if np.isnan(known):
        raise ValueError("predict: batch_size must be left out where fit was given none, for there is no ratio to it")
    return known


def _assumed(fitted: xr.Dataset, rates: Array, strength: float) -> str:
    """In what a schedule goes beyond what was fitted."""
    said = []
    peak = float(rates.max(initial=0.0)) / fitted.attrs["unit"]
    if peak > 1 + _SAME_RATE:
        said.append(
            f"The peak is {peak:.3g} times that of the fitted runs: noise is assumed to grow by the same power."
        )
    longer = float(rates.sum()) / fitted.attrs["unit"] / fitted.attrs["reference"]
    if longer > 1 + _SAME_RATE:
        said.append(f"Summed rates are {longer:.3g} times those of the longest run: its power law is assumed to go on.")
    if strength != 1:
        said.append(
            f"The batch size is {1 / strength:.3g} times that of the runs: noise is assumed to go as its inverse."
        )
    return "\n".join(said)


def _leaves(rates: Array, held: float) -> bool:
    """Whether a schedule leaves the one rate that is known, after it has reached it."""
    low, high = held * (1 - _SAME_RATE), held * (1 + _SAME_RATE)
    reached = np.flatnonzero(rates >= low)
    return reached.size == 0 or bool((rates[reached[0] :] < low).any() or (rates > high).any())


def along(fitted: xr.Dataset, rates: Array, recorded: Any, strength: float = 1.0) -> tuple[Array, Array]:
    """Loss at the recorded steps, for noise of another strength, and its derivatives by all numbers of the law.

    Rates are in units of the largest one of the fitted runs.
    """
    place, columns = fitted.place.values, np.array([1.0, 1.0, strength])
    amplitudes = columns * fitted.amplitude.values
    if recorded[-1] == 0:
        return np.array([amplitudes[0] + amplitudes[1]]), np.array([[0.0] * place.size + [1.0, 1.0, 0.0]])
    pieces = pieces_of(rates, recorded)
    runs = Runs([pieces], curvatures(float(pieces.end[-1]), max(1.0, float(rates.max()))))
    values, slopes = gradient(runs, place, amplitudes, fitted.attrs["reference"])
    return values[0], slopes[0] * np.concatenate((np.ones(place.size), columns))


def _of_average(fitted: xr.Dataset, rates: Array, given: Array, strength: float) -> tuple[Array, Array]:
    place, columns = fitted.place.values, np.array([1.0, 1.0, strength])
    amplitudes = columns * fitted.amplitude.values
    change = _STEP * np.diag(SPREAD)
    places = [place, *(place + change), *(place - change)]
    laws = averaged_columns(rates, given, [shape_at(one, fitted.attrs["reference"]) for one in places])
    value = laws[0] @ amplitudes
    ahead, behind = np.split(laws[1:] @ amplitudes, 2)
    slope = (ahead - behind) / (2 * _STEP * SPREAD)
    return np.array([value]), np.concatenate((slope, columns * laws[0]))[None]


def half_width(fitted: xr.Dataset, covariance: Array, value: Array, slope: Array) -> Array:
    """Half the interval of a measured loss: what the numbers of the law leave open, and the scatter about it."""
    from scipy.stats import norm

    known = np.einsum("rn,nm,rm->r", slope, covariance, slope)
    scatter = fitted.attrs["deviation"] * value
    return np.asarray(norm.ppf((1 + fitted.attrs["confidence"]) / 2) * np.sqrt(known + scatter**2))


def _described(fitted: xr.Dataset, recorded: Any, value: Array, slope: Array, assumed: str) -> xr.Dataset:
    width = half_width(fitted, fitted.covariance.values, value, slope)
    describe = {"units": "loss"}
    return xr.Dataset(
        {
            "loss": ("step", value, {"long_name": "loss foretold", **describe}),
            "loss_low": ("step", value - width, {"long_name": "lower end of the interval", **describe}),
            "loss_high": ("step", value + width, {"long_name": "upper end of the interval", **describe}),
        },
        coords={"step": ("step", recorded, {"long_name": "step", "units": "1"})},
        attrs={"confidence": fitted.attrs["confidence"], "assumed": assumed, "source": "theory.forecast.predict"},
    )
