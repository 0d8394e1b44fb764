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

from sgdynamics.domains import Interval, Numeric, positive
from sgdynamics.formula import formula

__all__ = ["batch_efficiency", "examples_for_steps", "steps_for_batch"]

_ONE_STEP = ("one step of plain SGD", "additive noise", "rate chosen for the batch")
_WHOLE_RUN = (*_ONE_STEP, "noise scale constant over the run")
more_than_one = Interval("a finite number > 1", low=1)


@formula(
    batch_size=positive,
    noise_scale=positive,
    status="exact",
    symbolic=True,
    source="mccandlish2018",
    assumptions=_ONE_STEP,
)
def batch_efficiency(batch_size: Numeric, noise_scale: Numeric) -> Numeric:
    r"""Share of the full gradient's best learning rate, and of what its step gains, that a batch reaches.

    .. math:: \frac{\eta(B)}{\eta_\infty} = \frac{\Delta(B)}{\Delta_\infty} = \frac{1}{1 + B_\text{noise}/B}

    Linear in the batch size while that is small, where doubling the batch halves the steps; no more than 1 beyond the
    noise scale.

    Parameters
    ----------
    batch_size : Numeric
        :math:`B > 0`.
    noise_scale : Numeric
        :math:`B_\text{noise} > 0`, examples.

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


@formula(
    batch_size=positive,
    noise_scale=positive,
    status="exact",
    symbolic=True,
    source="mccandlish2018",
    assumptions=_WHOLE_RUN,
)
def steps_for_batch(batch_size: Numeric, noise_scale: Numeric) -> Numeric:
    r"""Steps to a given loss over those of full gradients, :math:`1 + B_\text{noise}/B`.

    Where the noise scale changes along the run this is the law of each of its parts.

    Parameters
    ----------
    batch_size : Numeric
        :math:`B > 0`.
    noise_scale : Numeric
        :math:`B_\text{noise} > 0`, examples.

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


@formula(
    relative_steps=more_than_one,
    status="exact",
    symbolic=True,
    source="mccandlish2018",
    assumptions=_WHOLE_RUN,
)
def examples_for_steps(relative_steps: Numeric) -> Numeric:
    r"""Examples seen over the fewest possible, for steps over the fewest possible.

    .. math:: \left(\frac{T}{T_{\min}} - 1\right) \left(\frac{E}{E_{\min}} - 1\right) = 1

    The batch size in between is :math:`B = B_\text{noise}/(T/T_{\min} - 1)`: at the noise scale a run takes twice the
    steps and twice the examples.

    Parameters
    ----------
    relative_steps : Numeric
        :math:`T/T_{\min} > 1`.

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
