"""How much longer a step could be before it raises the loss, found with the loss alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Interval, checked, nonnegative, one, positive
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.labelled import Entry, dataset
from sgdynamics.simulate.trainer.objective import Objective, real_objective

__all__ = ["critical_rate"]

_accuracy = one(Interval("a number in (0, 1)", low=0, high=1))


def _search(change: Callable[[float], Any], rate: float, largest: float, accuracy: float) -> float:
    """Where the change of the loss turns from not positive to positive; 0 or +inf if it is of one sign."""

    def rises(rate: float) -> bool:
        return not change(rate) <= 0  # NaN: both losses overflow

    if rises(rate):
        while rises(rate / 2):
            rate /= 2
        if not change(rate / 2) < 0:  # too short a step to tell
            return 0.0
        low, high = rate / 2, rate
    else:
        while not rises(2 * rate):
            rate *= 2
            if rate > largest:
                return math.inf
        low, high = rate, 2 * rate
    middle = low + (high - low) / 2
    while high - low > 2 * accuracy * middle and low < middle < high:
        low, high = (low, middle) if rises(middle) else (middle, high)
        middle = low + (high - low) / 2
    return middle


@checked(
    objective=real_objective,
    direction=arguments.direction,
    learning_rate=one(positive),
    rise=one(nonnegative),
    accuracy=_accuracy,
)
def critical_rate(
    objective: Objective,
    *,
    direction: ArrayLike | Callable[[Objective], ArrayLike],
    learning_rate: float,
    rise: float = 0.0,
    accuracy: float = 0.01,
) -> xr.Dataset:
    r"""Critical rate :math:`\eta_c` of a step: where :math:`L(\theta - \eta u)` comes back to :math:`L(\theta)`.

    The rate is doubled, or halved, until the loss begins to rise, and the bracket is bisected. It needs the loss alone:
    a few forward passes, no gradient and no Hessian. Where the loss along the step is convex there is one such rate;
    elsewhere a rise and fall within one doubling is not seen.

    Two over it is the critical sharpness. Along the full gradient of a quadratic loss it is an average of curvatures,
    :math:`g^THg/g^Tg`, and :math:`2/\eta` says that the run is at its edge. Along the gradient of a batch it is
    :math:`2/\eta`, on average, on every plateau of noise; see :func:`sgdynamics.theory.quadratic.critical_rate`.

    Parameters
    ----------
    objective : Objective
        Its examples are those that the loss is looked at on, best held out from those that made the step. Components
        of the direction at parameters that are not trainable count as zero.
    direction : array, shape (parameters,), or callable
        :math:`u`, as an update rule subtracts it: the gradient for gradient descent. Or a callable ``objective
        -> array``, such as ``Objective.gradient``.
    learning_rate : float
        Where the search begins, > 0: best the rate of the run.
    rise : float
        Share of the loss by which it must have risen, >= 0. With 0.2 the critical rate over that of the run is what
        :func:`sgdynamics.theory.break_even.rise_multiple` foretells.
    accuracy : float
        Of the critical rate, relative, in (0, 1).

    Returns
    -------
    xarray.Dataset
        ``critical_rate``, ``critical_sharpness`` and ``evaluations``, the number of losses computed. The rate is 0
        where every step raises the loss that is not lost in rounding, and +inf where none does. A loss that overflows
        has risen.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not fit the network.

    Examples
    --------
    >>> from sgdynamics.simulate.trainer import Objective, critical_rate, network
    >>> net = network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    >>> found = critical_rate(Objective(net, [[2.0]], [0.0], "mse"), direction=[8.0], learning_rate=0.1)  # curvature 4
    >>> round(found.critical_rate.item(), 2), found.evaluations.item()
    (0.5, 11.0)
    """
    owner = "critical_rate"
    given: NDArray[Any] = arguments.vector.check(
        owner, "direction", direction(objective) if callable(direction) else direction
    )
    arguments.length(owner, "direction", given, objective.size, "parameters")
    start, step = objective.flat(), objective.masked(given)
    losses: dict[float, Any] = {}
    with one_blas_thread(), np.errstate(all="ignore"):

        def change(rate: float) -> Any:
            for distance in (0.0, rate):
                if distance not in losses:
                    losses[distance] = objective.at(start - distance * step).loss_value()
            return losses[rate] - (1 + rise) * losses[0.0]

        length = float(np.abs(step).max())
        largest = np.finfo(float).max / max(4 * length, 4.0)
        rate = _search(change, learning_rate, largest, accuracy) if length else math.inf
        entries: dict[str, Entry] = {
            "critical_rate": ([], rate, "rate at which the step raises the loss", "learning rate"),
            "critical_sharpness": ([], np.divide(2.0, rate), "two over the critical rate", "curvature"),
            "evaluations": ([], float(len(losses)), "number of losses computed", "1"),
        }
        return dataset(owner, entries, loss=objective.loss)
