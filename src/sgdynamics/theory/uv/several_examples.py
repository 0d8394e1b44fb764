"""Critical rates of the uv network on several examples."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from sgdynamics.domains import checked, instance_of, nonnegative, one, real
from sgdynamics.formula import law
from sgdynamics.models.uv import MultiExampleUV


@law(quantity="learning rate")
@checked(model=instance_of(MultiExampleUV), outputs=real, readout_norm=one(nonnegative), hidden_gram=real)
def first_rise_rate(model: MultiExampleUV, outputs: Any, readout_norm: float, hidden_gram: Any) -> float:
    r"""Learning rate beyond which one step from a point raises the loss, on any number of examples.

    A step makes the residual :math:`r + \eta a + \eta^2 b` with :math:`a = -\Theta r/m` and :math:`b = (f\cdot r)
    Xr/(m^2n)`. It is the smallest positive root, at which the loss begins to rise, of

    .. math:: |b|^2\eta^3 + 2\,a\cdot b\,\eta^2 + (|a|^2 + 2\,r\cdot b)\,\eta + 2\,r\cdot a = 0.

    For a wide network :math:`b` vanishes and it is :math:`2m\, r^T\Theta r/|\Theta r|^2`, at least :math:`2m` over the
    largest eigenvalue of the kernel.

    Status: exact, at every width; with one example :func:`c_loss_at` over the kernel.

    Parameters
    ----------
    model : MultiExampleUV
    outputs, readout_norm, hidden_gram
        The point, as for :meth:`~sgdynamics.models.uv.MultiExampleUV.step`.

    Returns
    -------
    float
        0 where the step moves no output and so lowers no loss; it may lie beyond the rate at which runs diverge.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or does not have the shape that the model wants.

    Examples
    --------
    >>> model = MultiExampleUV([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0], width=10**6)
    >>> round(first_rise_rate(model, [1.0, 0.0], 2.0, [[1.0, 0.0], [0.0, 3.0]]), 4)
    0.4308
    """
    residual = model.residual(outputs)
    kernel = model.ntk(readout_norm, hidden_gram)
    examples = len(residual)
    first = -kernel @ residual / examples
    second = (outputs @ residual) * (model.gram @ residual) / (examples**2 * model.width)
    change = np.polynomial.Polynomial(
        [2 * residual @ first, first @ first + 2 * residual @ second, 2 * first @ second, second @ second]
    ).trim()
    roots = change.roots()
    places = np.sort(roots.real[(abs(roots.imag) <= 1e-9 * abs(roots)) & (roots.real > 0)])
    for place, end in itertools.pairwise([*places, math.inf]):
        if change((place + min(end, 2 * place)) / 2) > 0:
            return float(place)
    return 0.0
