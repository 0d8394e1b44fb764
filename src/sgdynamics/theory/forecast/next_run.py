"""What one more run would tell: how much narrower it makes the interval of a forecast, before it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, checked, integer
from sgdynamics.formula import law
from sgdynamics.theory.forecast._arguments import FEWEST, fitted_law, named_schedules, one_schedule
from sgdynamics.theory.forecast.prediction import along, half_width

Array = NDArray[np.float64]


@law(quantity="report")
@checked(fitted=fitted_law, schedule=one_schedule, candidates=named_schedules, records=integer(FEWEST))
def next_run(
    fitted: xr.Dataset, schedule: Numeric, candidates: Mapping[str, Numeric], *, records: int = 100
) -> xr.Dataset:
    r"""What the forecast of a schedule would gain by one more run, for every candidate for it.

    The losses of a run that is yet to come are not known, but what they would tell is: with :math:`J` the derivatives
    of its log losses by the numbers of the law, :math:`\sigma` their scatter and :math:`w` how much more they wander,

    .. math:: \Sigma' = \bigl(\Sigma^{-1} + J^\top J / (w \sigma^2)\bigr)^{-1}

    is the covariance after it. The interval of the schedule is that of :func:`predict`, with :math:`\Sigma'`.

    Status: heuristic: the law is taken to be as good of the candidates as it is of the fitted runs, and linear.

    Parameters
    ----------
    fitted : xarray.Dataset
        From :func:`fit`; of one plateau alone, too, of which :func:`predict` refuses to foretell a decay.
    schedule : array, shape (T,)
        Whose final loss is wanted.
    candidates : mapping of str to array
        Schedules, from the first step on, by name.
    records : int
        Losses that would be measured of a candidate, evenly over its steps: at least 12, and no more than it has steps.

    Returns
    -------
    xarray.Dataset
        ``half_width`` of the interval after each ``candidate`` and ``steps`` that it costs, the narrowest first;
        attribute ``half_width_now``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdynamics.models.schedules import constant, linear, warmup_stable_decay
    >>> from sgdynamics.theory.forecast import fit, next_run
    >>> step, plateau = np.arange(100, 2001, 100), constant(1.0, 2000)
    >>> fitted = fit([(plateau, step, 2.1 + 40 * (1 + step / 0.01) ** -0.5)])
    >>> decay = warmup_stable_decay(1.0, 2000, 1, 400)
    >>> told = next_run(fitted, linear(1.0, 4000), {"the same again": plateau, "a decay": decay})
    >>> told.candidate.values.tolist()
    ['a decay', 'the same again']
    """
    unit = fitted.attrs["unit"]
    rates = np.asarray(schedule) / unit
    value, slope = along(fitted, rates, np.array([rates.size]))
    known = fitted.covariance.values
    found = {name: known_after(fitted, np.asarray(one) / unit, records) for name, one in candidates.items()}
    widths = np.array([half_width(fitted, covariance, value, slope)[0] for covariance in found.values()])
    order = np.argsort(widths, kind="stable")
    steps = np.array([np.size(one) for one in candidates.values()])
    return xr.Dataset(
        {
            "half_width": (
                "candidate",
                widths[order],
                {"long_name": "half width of the interval with this run, too", "units": "loss"},
            ),
            "steps": ("candidate", steps[order], {"long_name": "length of the candidate", "units": "1"}),
        },
        coords={"candidate": np.array(list(candidates))[order]},
        attrs={
            "half_width_now": float(half_width(fitted, known, value, slope)[0]),
            "confidence": fitted.attrs["confidence"],
            "source": "theory.forecast.next_run",
        },
    )


def known_after(fitted: xr.Dataset, rates: Array, records: int) -> Any:
    """Covariance of the numbers of the law after a run of these rates, in units of the largest of the fitted runs."""
    record = np.unique(np.rint(np.linspace(0, rates.size, min(records, rates.size) + 1)).astype(int))[1:]
    value, slope = along(fitted, rates, record)
    relative = slope / value[:, None] / fitted.attrs["deviation"]
    covariance = fitted.covariance.values
    # by the identity of Woodbury: no inverse of what may be known of a number not at all
    seen = relative @ covariance
    noise = fitted.attrs["wandering"] * np.eye(record.size)
    return covariance - seen.T @ np.linalg.solve(noise + seen @ relative.T, seen)
