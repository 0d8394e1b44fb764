r"""What a larger batch is worth: the noise scale of the gradient, and the trade of steps against examples.

One step from a point with the full gradient :math:`g`, Hessian :math:`H` and gradient noise :math:`\Sigma/B` of a batch
of :math:`B` examples; the expected loss is lowered most, by

.. math:: \Delta(B) = \frac{\Delta_\infty}{1 + B_\text{noise}/B} \quad\text{at}\quad
    \eta(B) = \frac{\eta_\infty}{1 + B_\text{noise}/B}, \qquad
    B_\text{noise} = \frac{\operatorname{tr} H\Sigma}{g^\top H g}, \quad
    \eta_\infty = \frac{g^\top g}{g^\top H g}.

Twice :math:`\eta(B)` is the critical rate of the step (:func:`critical_rate`).
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from sgdynamics.domains import Numeric, checked, increasing_steps, optional
from sgdynamics.formula import formula, law, stable_below
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.quadratic._gradient_noise import ANY_MODEL, MatrixModel
from sgdynamics.theory.quadratic._kernel import edge_gain
from sgdynamics.theory.quadratic.critical_rate import critical_rate
from sgdynamics.theory.quadratic.stationary import stationary_variance

__all__ = ["batch_efficiency", "examples_for_steps", "noise_scale", "plateau_noise_scale", "steps_for_batch"]

_ONE_STEP = ("one step of plain SGD", "additive noise", "rate chosen for the batch")
_WHOLE_RUN = (*_ONE_STEP, "noise scale constant over the run")


@formula(PARAMETERS, quantity="share", status="exact", symbolic=True, source="mccandlish2018", assumptions=_ONE_STEP)
def batch_efficiency(batch_size: Numeric, noise_scale: Numeric) -> Numeric:
    r"""Share of the full gradient's best learning rate, and of what its step gains, that a batch reaches.

    .. math:: \frac{\eta(B)}{\eta_\infty} = \frac{\Delta(B)}{\Delta_\infty} = \frac{1}{1 + B_\text{noise}/B}

    Linear in the batch size while that is small, where doubling the batch halves the steps; no more than 1 beyond the
    noise scale.

    Returns
    -------
    Numeric
        In (0, 1).

    Examples
    --------
    >>> batch_efficiency(64, 64), batch_efficiency(192, 64)
    (0.5, 0.75)
    """
    return 1 / (1 + noise_scale / batch_size)


@formula(PARAMETERS, quantity="ratio", status="exact", symbolic=True, source="mccandlish2018", assumptions=_WHOLE_RUN)
def steps_for_batch(batch_size: Numeric, noise_scale: Numeric) -> Numeric:
    r"""Steps to a given loss over those of full gradients, :math:`1 + B_\text{noise}/B`.

    Where the noise scale changes along the run this is the law of each of its parts.

    Returns
    -------
    Numeric
        At least 1.

    Examples
    --------
    >>> steps_for_batch(64, 64)
    2.0
    """
    return 1 + noise_scale / batch_size


@formula(PARAMETERS, quantity="ratio", status="exact", symbolic=True, source="mccandlish2018", assumptions=_WHOLE_RUN)
def examples_for_steps(relative_steps: Numeric) -> Numeric:
    r"""Examples seen over the fewest possible, for steps over the fewest possible.

    .. math:: \left(\frac{T}{T_{\min}} - 1\right) \left(\frac{E}{E_{\min}} - 1\right) = 1

    The batch size in between is :math:`B = B_\text{noise}/(T/T_{\min} - 1)`: at the noise scale a run takes twice the
    steps and twice the examples.

    Returns
    -------
    Numeric
        :math:`E/E_{\min} > 1`.

    Examples
    --------
    >>> examples_for_steps(2.0), examples_for_steps(11.0)
    (2.0, 1.1)
    """
    return relative_steps / (relative_steps - 1)


@law(quantity="batch size")
@checked(model=ANY_MODEL, schedule=schedule_of_rates, record=optional(increasing_steps))
def noise_scale(model: MiniBatchQuadratic | MatrixModel, schedule: Numeric, *, record: Any = None) -> xr.DataArray:
    r"""Noise scale of the gradient along a run of plain SGD: the batch at which a step gains half of what it could.

    .. math:: B_\text{noise} = B\, \frac{\operatorname{tr} HG}{\operatorname{tr} H\, HSH}
        = B \Bigl( \frac{\eta_c(\text{full gradient})}{\eta_c(\text{batch})} - 1 \Bigr)

    with the second moment :math:`S` of the error, the covariance :math:`G` of the gradient of a batch, and the two
    critical rates of a step (:func:`critical_rate`). It grows as a run learns, until the plateau, where it says no more
    than the gain (:func:`plateau_noise_scale`).

    Status: exact, of expected squares: the noise scale at one point is a random number.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Batches without replacement have less noise than their size says; so does then the noise scale.
    schedule : array, shape (T,), or a DataArray with the dim ``step``
        Learning rates of the run until then.
    record : array of int, optional
        Steps 0..T at whose point it is asked for. Default: the last one.

    Returns
    -------
    xarray.DataArray
        (step), in examples, after the dims of any sweep. NaN at the minimiser.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> model = MiniBatchQuadratic([1.0, 0.5], 4.0, displacement=20.0, batch_size=2)
    >>> noise_scale(model, [0.5] * 100, record=[0, 100]).values.round(9)
    array([0.01      , 6.40677966])
    """
    along = critical_rate(model, schedule, full_gradient=True, record=record)
    scale = model.batch_size * (along / critical_rate(model, schedule, record=record) - 1)
    described = {"long_name": "noise scale", "units": "examples", "source": "theory.quadratic.noise_scale"}
    return scale.rename("noise_scale").assign_attrs(described)


@formula(
    PARAMETERS,
    edge=stable_below(gain=edge_gain),
    quantity="batch size",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("additive noise", "stationary", "one direction"),
)
def plateau_noise_scale(
    gain: Numeric, batch_size: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> Numeric:
    r"""Noise scale of the gradient on a plateau of noise: a matter of the run, not of the problem.

    .. math:: B_\text{noise} = \frac{B}{V(x)} = B\, \frac{2-x}{x} \text{ for plain SGD}

    with :func:`stationary_variance` :math:`V`. The squared gradient is then the noise that the run itself has made: a
    smaller rate or a larger batch raises the noise scale in proportion, whatever the problem. It asks for larger
    batches wherever the gain is below 1.

    Returns
    -------
    Numeric
        Examples.

    Examples
    --------
    >>> plateau_noise_scale(0.1, 64)
    1216.0
    """
    variance = stationary_variance.function(gain, momentum=momentum, nesterov=nesterov)
    return batch_size / variance
