r"""Decoupled weight decay is an average: what of every update is left in the weights at the end.

AdamW, and any optimiser with decoupled decay, :math:`w_t = (1 - \eta_t\lambda)\, w_{t-1} - \eta_t u_t`, is an
exponential moving average of the points :math:`-u_t/\lambda` with the gains :math:`\eta_t\lambda`:

.. math:: w_T = P_0 w_0 - \sum_j p_j \frac{u_j}{\lambda}, \qquad p_j = \eta_j\lambda \prod_{s>j} (1-\eta_s\lambda),
    \qquad P_0 + \sum_j p_j = 1.

It is the equation of SGD on a quadratic of curvature :math:`\lambda` (:func:`center_weights`), whatever the updates
are. Hence: at a constant rate the weights remember :math:`1/(\eta\lambda)` steps, and what came earlier, a warm-up for
instance, is forgotten; a linear decay to zero over T steps stretches that memory to a mean age of :math:`\sqrt{\pi T /
(2\eta\lambda)}`, and gives the very last updates no weight: an average of a tail without storing one.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked, complain, one, positive
from sgdynamics.formula import formula, law, log1p, stable_below
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.schedules.parameters import PARAMETERS
from sgdynamics.theory.schedules.weights import center_weights

__all__ = ["update_weights", "weight_decay_steps"]


@formula(
    PARAMETERS,
    edge=stable_below(learning_rate=lambda weight_decay: 1 / weight_decay),
    quantity="steps",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("decoupled weight decay", "constant learning rate"),
)
def weight_decay_steps(learning_rate: Numeric, weight_decay: Numeric) -> Numeric:
    r"""Steps in which weights forget an update by a factor e: :math:`-1/\ln(1-\eta\lambda) \approx 1/(\eta\lambda)`.

    Returns
    -------
    Numeric
        Steps.

    Examples
    --------
    >>> weight_decay_steps(1e-3, 0.1)
    9999.49999...
    """
    return -1 / log1p(-learning_rate * weight_decay)


@law(quantity="center weights")
@checked(schedule=schedule_of_rates, weight_decay=one(positive))
def update_weights(schedule: Numeric, weight_decay: float) -> xr.Dataset:
    r"""What is left of the start and of every update under decoupled weight decay, for any schedule.

    .. math:: w_T = P_0 w_0 - \frac1\lambda \sum_j p_j u_j

    Status: exact, for every optimiser whose weight decay is decoupled; the updates are those that were made.

    Parameters
    ----------
    schedule : array, shape (T,), or a DataArray with the dim ``step``
        Learning rates :math:`\eta_1..\eta_T`.
    weight_decay : float
        :math:`\lambda > 0`, one number.

    Returns
    -------
    xarray.Dataset
        ``weight`` :math:`p_j` (step 1..T), ``start_weight`` :math:`P_0`; ``age``, the mean of :math:`T - j` under the
        weights, and ``effective_updates`` :math:`(\sum p)^2/\sum p^2`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or a step would turn the weights around, :math:`\eta_t\lambda \ge 1`.

    Examples
    --------
    A linear decay to zero averages over a longer tail: :math:`\sqrt{\pi \cdot 1000/0.2} = 125`.

    >>> from sgdynamics.models.schedules import constant, linear
    >>> decayed = update_weights(linear(0.1, 1000), 1.0)
    >>> steady = update_weights(constant(0.1, 1000), 1.0)
    >>> round(decayed.age.item(), 1), round(steady.age.item(), 1)
    (125.0, 9.0)
    """
    gains = schedule * weight_decay
    if np.max(gains) >= 1:
        largest = float(np.max(schedule))
        raise complain("update_weights", "schedule", "rates below 1/weight_decay", largest)
    start, weight = center_weights(gains)
    if not isinstance(weight, xr.DataArray):
        start, weight = xr.DataArray(start), xr.DataArray(weight, dims="step")
    steps = np.arange(1, weight.sizes["step"] + 1)
    total = weight.sum("step")
    late = xr.DataArray(steps[-1] - steps, dims="step")
    weight = weight.drop_vars("step", errors="ignore")
    made = xr.Dataset(
        {
            "weight": weight.assign_attrs(long_name="share of an update in the weights", units="1"),
            "start_weight": start.assign_attrs(long_name="share of the start in the weights", units="1"),
            "age": ((weight * late).sum("step") / total).assign_attrs(long_name="mean age of updates", units="step"),
            "effective_updates": (total**2 / (weight**2).sum("step")).assign_attrs(
                long_name="effective number of updates", units="1"
            ),
        },
        coords={"step": ("step", steps, {"long_name": "step", "units": "1"})},
    )
    return made.assign_attrs(source="theory.schedules.update_weights")
