r"""The mini-batch quadratic that a fitted law is, so that whatever is known of quadratics can be asked of it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.forecast._arguments import fitted_law, one_schedule
from sgdynamics.theory.forecast._law import Runs, curvatures, noise_at, relaxation, spectrum, weights
from sgdynamics.theory.forecast._pieces import pieces_of
from sgdynamics.theory.forecast._regression import shape_at


@law(quantity="model")
@checked(fitted=fitted_law, schedule=one_schedule)
def quadratic_at(fitted: xr.Dataset, schedule: Numeric) -> MiniBatchQuadratic:
    r"""The quadratic of a fitted law at the end of a schedule, for what follows at about the same rate.

    A mode of curvature :math:`h` has the share of the start that the schedule has left it and the noise that it has
    brought in, together its mean squared displacement, and the center variance that makes the noise of the law,

    .. math:: \tfrac12 h \sigma_h^2 (\eta h)^2 = w(h)\, \eta^{2-\zeta} \bigl(1 - \varphi + \varphi\, r(S_t)/r(S)\bigr).

    Modes that a step would carry beyond their minimum are one mode, of gain 1 at the largest rate. The excess risk of
    the model is that above the floor of the law.

    Status: heuristic: noise keeps the strength that it has at the end of the schedule, where in the law it follows the
    rate and what is left of the start.

    Parameters
    ----------
    fitted : xarray.Dataset
        From :func:`fit`.
    schedule : array, shape (T,)
        Learning rates of every step so far, from the first one on.

    Returns
    -------
    MiniBatchQuadratic
        At batch size 1, which stands for that of the runs.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the last rate is 0.

    Examples
    --------
    >>> from sgdynamics.models.schedules import constant, cosine
    >>> from sgdynamics.theory.forecast import fit
    >>> from sgdynamics.theory.quadratic import moments
    >>> step = np.arange(100, 2001, 100)
    >>> made = [(rates, step, 2 + 40 * (1 + np.cumsum(rates)[step - 1] / 0.01) ** -0.5 + 0.1 * rates[step - 1])
    ...         for rates in (constant(1.0, 2000), cosine(1.0, 2000))]
    >>> model = quadratic_at(fit(made), constant(1.0, 1000))
    >>> before, after = moments(model, constant(1.0, 1000), record=[0, 1000]).excess_risk.values
    >>> bool(after < before)
    True
    """
    unit = fitted.attrs["unit"]
    rates = np.asarray(schedule) / unit
    if rates[-1] <= 0:
        raise ValueError("quadratic_at: schedule must end at a rate > 0, got 0.0")
    shape = shape_at(fitted.place.values, fitted.attrs["reference"])
    _, start, noise = fitted.amplitude.values
    run = pieces_of(rates, np.array([rates.size]))
    ends, largest = run.end[-1:], max(1.0, float(rates.max()))
    curvature = curvatures(float(ends[0]), largest)

    left = spectrum(curvature, shape) * np.exp(-2 * curvature * ends[0])
    left[0] += float(relaxation(ends, shape)[0]) - left.sum()  # what lies below the grid, and hardly moves
    share = noise * weights(curvature, shape)
    excess = start * np.maximum(left, 0.0) + share * Runs([run], curvature).states(shape)[-1, 0]
    # what one step at the rate 1 adds to the loss of a mode
    brought = share * float(noise_at(ends, shape)[0] * rates[-1] ** -shape.following)

    stable = curvature * largest < 1
    curvature = np.append(curvature[stable], 1 / largest)
    excess = np.append(excess[stable], excess[~stable].sum())
    brought = np.append(brought[stable], brought[~stable].sum())
    variance = 2 * brought / curvature**3
    return MiniBatchQuadratic(curvature / unit, variance * unit, displacement=np.sqrt(2 * excess * unit / curvature))
