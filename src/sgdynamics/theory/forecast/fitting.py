r"""From loss curves to the numbers of the law, with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from sgdynamics.domains import checked, one, optional, positive
from sgdynamics.formula import law
from sgdynamics.theory.diagnosis._arguments import confidence_level
from sgdynamics.theory.forecast._arguments import logged_runs
from sgdynamics.theory.forecast._law import COLUMNS, Runs, Shape, curvatures
from sgdynamics.theory.forecast._pieces import pieces_of
from sgdynamics.theory.forecast._regression import SPREAD, Regression, regress, shape_at

Array = NDArray[np.float64]

# A rate that has fallen below this part of its peak, or a peak that differs by as much, tells noise from floor.
_FALLEN = 0.8
# Losses of one run that are fitted; of a longer log, means of neighbours.
_MOST = 600
# Step of numerical derivatives, in standard deviations of what is likely.
_STEP = 1e-3
_MEANING = {
    "floor": "loss that no training removes",
    "start": "loss above the floor at step 0",
    "noise": "that one step at the largest rate brings in, at the end of the longest run",
    "exponent": "of the decay of the start in summed learning rate",
    "cutoff": "curvature where the spectrum ends",
    "noise_exponent": "of the forgetting of noise in summed learning rate",
    "following": "noise grows with the falling rate to this power",
    "early": "part of the noise, there, that goes with what is left of the start",
}
ONE_RATE = (
    "All runs hold one learning rate after their warm-up: their losses do not tell noise, which a decay removes, from "
    "the floor, which it does not. A run that would: this rate for half as long as the longest of them, then down to a "
    "tenth over as many steps. Others are weighed by theory.forecast.next_run, or by --next of the command."
)


@law(quantity="report")
@checked(runs=logged_runs, confidence=one(confidence_level), batch_size=optional(one(positive)))
def fit(runs: Any, *, confidence: float = 0.9, batch_size: float | None = None) -> xr.Dataset:
    r"""Fit the law of a mini-batch quadratic with power-law spectra to the loss curves of one training set-up.

    .. math:: L(t) = L_0 + A\, r(S_t) + \sum_h w(h) V_h(t), \qquad r(S) = (1 + 2 h_c S)^{-\alpha}, \qquad
        V_h(t) = (1 - \eta_t h)^2 V_h(t-1) + \eta_t^{2-\zeta} \bigl(1 - \varphi + \varphi\, r(S_t)/r(S)\bigr)

    with :math:`S_t` the sum of the rates up to step t, :math:`S` that of the longest run, and weights
    :math:`w = B\, h^q e^{-h/h_c}` in the logarithm of the curvature: bias and noise of SGD on a quadratic, where a part
    of the noise of a mini-batch goes with the loss that is left (as in least squares) and noise grows as the rate
    falls, :math:`\zeta > 0` (as sharpness does). Gains :math:`\eta h` above 1 count as 1. At a fixed shape
    :math:`(\alpha, h_c, q, \zeta, \varphi)` the law is linear in :math:`L_0, A, B`. The logarithm of the loss is
    fitted by Huber's loss, with weak priors on the shape where the curves say nothing.

    Status: heuristic on a network. On a quadratic of such spectra with small gains, exact.

    Parameters
    ----------
    runs : sequence of (schedule, step, loss)
        Learning rates of every step from the first one on, warm-up and all; increasing numbers of updates made when a
        loss was measured, at least 12; these losses, > 0. With momentum the effective rates, :math:`\eta/(1-\beta)`.
    confidence : float
        Of all intervals, in (0, 1).
    batch_size : float, optional
        Of the runs, for forecasts at another one.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower`` and ``upper`` by ``quantity``, and what :func:`predict` needs: ``place``, ``amplitude``
        and their ``covariance``. Attributes say how far the losses scatter about the law (``deviation``), how much
        more they wander about it than independent ones (``wandering``), and what the runs do not tell (``verdict``).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdynamics.models.schedules import constant, cosine
    >>> step = np.arange(100, 2001, 100)
    >>> made = [(rates, step, 2 + 40 * (1 + np.cumsum(rates)[step - 1] / 0.01) ** -0.5 + 0.1 * rates[step - 1])
    ...         for rates in (constant(1.0, 2000), cosine(1.0, 2000))]
    >>> bool(abs(fit(made).estimate.sel(quantity="exponent") - 0.5) < 0.05)
    True
    """
    unit = max(float(schedule.max()) for schedule, _, _ in runs)
    thinned = [_thinned(step, loss) for _, step, loss in runs]
    pieces = [pieces_of(schedule / unit, step) for (schedule, _, _), (step, _, _) in zip(runs, thinned, strict=True)]
    laid = Runs(pieces, curvatures(max(float(run.end[-1]) for run in pieces), 1.0))
    losses = [loss for _, loss, _ in thinned]
    found = regress(laid, losses)
    covariance, wandering = _covariance(laid, losses, found)
    tells = _tells_noise([schedule for schedule, _, _ in runs])
    data = _table(found, covariance, unit, confidence)
    return data.assign_attrs(
        confidence=confidence,
        unit=unit,
        reference=laid.longest,
        deviation=float(np.hypot(found.deviation, np.mean([within for _, _, within in thinned]))),
        wandering=wandering,
        records=float(sum(loss.size for loss in losses)),
        batch_size=float("nan") if batch_size is None else float(batch_size),
        tells_noise=float(tells),
        longest=float(max(schedule.size for schedule, _, _ in runs)),
        held_rate=float(runs[0][0][-1]),
        verdict=_verdict(tells, data, found.deviation),
        source="theory.forecast.fit",
    )


def _tells_noise(schedules: Sequence[Array]) -> bool:
    peaks = np.array([schedule.max() for schedule in schedules])
    fallen = [schedule[int(schedule.argmax()) :].min() / schedule.max() for schedule in schedules]
    return bool(min(fallen) < _FALLEN or peaks.min() < _FALLEN * peaks.max())


def _verdict(tells: bool, data: xr.Dataset, deviation: float) -> str:
    if not tells:
        return ONE_RATE
    exponent = data.sel(quantity="exponent")
    return (
        f"The law leaves {100 * deviation:.2g}% of the loss; the start decays with the exponent "
        f"{float(exponent.estimate):.2f} ({float(exponent.lower):.2f} to {float(exponent.upper):.2f})."
    )


def _thinned(step: NDArray[np.intp], loss: Array) -> tuple[NDArray[np.intp], Array, float]:
    """Long logs as means of neighbours, with the scatter of the logarithm that this hides."""
    group = -(-step.size // _MOST)
    if group == 1:
        return step, loss, 0.0
    whole = step.size // group * group
    steps, losses = step[-whole:].reshape(-1, group), loss[-whole:].reshape(-1, group)
    rough = np.diff(np.log(losses), axis=1)
    return np.rint(steps.mean(axis=1)).astype(np.intp), losses.mean(axis=1), float(np.sqrt(np.mean(rough**2) / 2))


def gradient(runs: Runs, place: Array, amplitudes: Array, reference: float) -> tuple[list[Array], list[Array]]:
    """The law at the records of every run, and its derivatives by shape and amplitudes, shape (records, 8)."""
    laws = runs.columns(shape_at(place, reference))
    values = [law @ amplitudes for law in laws]
    slopes = [[] for _ in laws]  # type: list[list[Array]]
    for which in range(place.size):
        step = np.zeros_like(place)
        step[which] = _STEP * SPREAD[which]
        ahead, behind = (runs.columns(shape_at(place + sign * step, reference)) for sign in (1, -1))
        for run, (after, before) in enumerate(zip(ahead, behind, strict=True)):
            slopes[run].append((after - before) @ amplitudes / (2 * step[which]))
    return values, [np.column_stack([*slope, law]) for slope, law in zip(slopes, laws, strict=True)]


def _covariance(runs: Runs, losses: Sequence[Array], found: Regression) -> tuple[Array, float]:
    """Of shape and amplitudes, with how much more the losses wander about the law than independent ones would."""
    values, slopes = gradient(runs, found.place, found.amplitudes, runs.longest)
    relative = [slope / value[:, None] for slope, value in zip(slopes, values, strict=True)]
    # amplitudes may make up the whole loss, without more knowledge
    law = np.concatenate(runs.columns(shape_at(found.place, runs.longest)))
    widest = np.concatenate(losses).max() / np.maximum(np.abs(law).max(axis=0), np.finfo(float).tiny)
    likely = np.concatenate((SPREAD**-2, widest**-2))
    stacked = np.concatenate(relative) / found.deviation
    information = stacked.T @ stacked
    covariance = _inverse(information + np.diag(likely))
    wandering = max(1.0, _halves(relative, found, covariance))
    return _inverse(information / wandering + np.diag(likely)), wandering


def _halves(relative: Sequence[Array], found: Regression, covariance: Array) -> float:
    """Squared sums of the residuals of half runs, foretold from the rest, over what independent ones would have.

    A law that is not quite the network's bends to what it is fitted to: whatever it leaves there says little of its
    error elsewhere. Half a run left out says more, and the linearised fit gives it without a second one.
    """
    ratios = []
    for slope, residual in zip(relative, found.residual, strict=True):
        for half in np.array_split(np.arange(residual.size), 2):
            part, seen = residual[half] / found.deviation, slope[half] / found.deviation
            # of the residuals that a fit to the rest would leave, by the inverse of (1 - leverage)
            others = np.eye(len(covariance)) - covariance @ (seen.T @ seen)
            ones = np.ones(half.size)
            back = np.linalg.solve(others, covariance @ np.column_stack((seen.T @ part, seen.T @ ones)))
            foretold = part.sum() + ones @ seen @ back[:, 0]
            ratios.append(foretold**2 / (half.size + ones @ seen @ back[:, 1]))
    return float(np.mean(ratios))


def _inverse(information: Array) -> Array:
    scale = 1 / np.sqrt(np.diag(information))
    return np.asarray(scale[:, None] * np.linalg.inv(information * scale[:, None] * scale) * scale)


def _table(found: Regression, covariance: Array, unit: float, confidence: float) -> xr.Dataset:
    from scipy.stats import norm

    width = float(norm.ppf((1 + confidence) / 2)) * np.sqrt(np.diag(covariance))
    names = (*COLUMNS, *Shape.names())
    order = [5, 6, 7, 0, 1, 2, 3, 4]
    centers = np.concatenate((found.place, found.amplitudes))
    rows = []
    for name, which in zip(names, order, strict=True):
        ends = centers[which] + width[which] * np.array([0.0, -1.0, 1.0])
        if which < 3:
            ends = np.exp(ends) / (unit if name == "cutoff" else 1.0)
        elif which == 4:
            ends = expit(ends)
        elif which > 4:
            ends = np.maximum(ends, 0.0)
        rows.append(ends)
    estimate, lower, upper = np.array(rows).T
    coordinate = {"long_name": "number of the law", "units": "1"}
    return xr.Dataset(
        {
            "estimate": ("quantity", estimate, {"long_name": "estimate", "units": "its own"}),
            "lower": ("quantity", lower, {"long_name": "lower end of the interval", "units": "its own"}),
            "upper": ("quantity", upper, {"long_name": "upper end of the interval", "units": "its own"}),
            "meaning": ("quantity", [_MEANING[name] for name in names]),
            "place": ("shape", found.place, {"long_name": "shape, logarithms of what is positive", "units": "1"}),
            "amplitude": ("column", found.amplitudes, {"long_name": "amplitude", "units": "loss"}),
            "covariance": (("number", "other_number"), covariance, {"long_name": "covariance", "units": "its own"}),
        },
        coords={
            "quantity": ("quantity", list(names), coordinate),
            "shape": list(Shape.names()),
            "column": list(COLUMNS),
        },
    )
