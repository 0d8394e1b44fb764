r"""Merging the checkpoints of a constant-rate run into the model that a decay would have ended on."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Numeric, checked, choice, increasing_steps, instance_of, optional, positive
from sgdynamics.formula import decay
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.emulation import binomial_average, wsm_average
from sgdynamics.theory.schedules.weights import center_weights, gains_to_average

__all__ = ["merge_plan"]

Steps = NDArray[np.int64]

RULES = ("wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk", "uniform")
NEEDS_MODEL = ("lsq", "lsq_nonneg", "risk")


class _Risks:
    r"""Expected excess risks of the merged point and of the target, on shared batches, as a quadratic in the weights.

    :math:`R(\alpha) = \alpha^T G \alpha`, and the distance to the target
    :math:`\operatorname{E} \tfrac12 |x_\alpha - x_\text{target}|_H^2 = \alpha^T G \alpha - 2 b^T \alpha + c`.
    """

    def __init__(self, model: MiniBatchQuadratic, rate: float, target: Array, checkpoints: Steps) -> None:
        curvature, variance, displacement, multiplicity = (field.values for field in model.labelled())
        size = checkpoints.size
        self.matrix, self.overlap, self.target_risk = np.zeros((size, size)), np.zeros(size), 0.0
        apart = np.abs(checkpoints[:, None] - checkpoints)
        stationary = not displacement.any()
        for h, c, e, n in zip(curvature, variance, displacement, multiplicity, strict=True):
            gain = rate * h
            if gain >= 2:
                raise ValueError(
                    f"merge_plan: base_learning_rate must be below the stability edge 2/{h} of the model, got {rate}"
                )
            settled = c * gain / (2 - gain)
            start = settled if stationary else e**2  # second moment of the error at the window's start
            left = decay(gain, checkpoints)
            base = start * np.outer(left, left) + settled * (decay(gain, apart) - np.outer(left, left))
            start_weight, weights = center_weights(target * h)
            shared, accumulated = 0.0, np.empty(target.size + 1)
            accumulated[0] = 0.0
            for j, weight in enumerate(weights.tolist(), 1):  # sum_s gain (1-gain)^(j-s) weight_s
                shared = (1 - gain) * shared + gain * weight
                accumulated[j] = shared
            self.matrix += n * h / 2 * base
            self.overlap += n * h / 2 * (start * left * start_weight + c * accumulated[checkpoints])
            self.target_risk += n * h / 2 * (start * start_weight**2 + c * float(np.sum(weights**2)))

    def merged(self, weights: Array) -> float:
        return float(np.sum(weights * np.sum(self.matrix * weights, axis=-1)))

    def distance(self, weights: Array) -> float:
        return self.merged(weights) - 2 * float(np.sum(self.overlap * weights)) + self.target_risk

    def best(self, wanted: Array, kept: Array) -> Array:
        """Weights on the kept checkpoints that sum to 1 and minimise a^T G a - 2 wanted.a."""
        size = int(kept.sum())
        system = np.zeros((size + 1, size + 1))
        system[:size, :size] = self.matrix[np.ix_(kept, kept)]
        system[size, :size] = system[:size, size] = np.trace(self.matrix) / len(self.matrix)  # as large as the rest
        solution = np.linalg.lstsq(system, np.append(wanted[kept], system[size, 0]), rcond=None)[0]
        weights = np.zeros(kept.size)
        weights[kept] = solution[:size]
        return weights

    def best_nonnegative(self, wanted: Array) -> Array:
        """The same with weights >= 0, by non-negative least squares on a square root of the matrix."""
        from scipy.optimize import nnls

        values, vectors = np.linalg.eigh(self.matrix)
        values = np.maximum(values, values[-1] * np.finfo(float).eps)
        root = np.sqrt(values)[:, None] * vectors.T
        goal = (vectors.T @ wanted) / np.sqrt(values)
        # the sum is asked for with a weight far above everything else; the support then decides, and is solved exactly
        heavy = 1e4 * np.sqrt(values[-1])
        rows = np.vstack([root, np.full(wanted.size, heavy)])
        support = nnls(rows, np.append(goal, heavy))[0] > 0
        weights = self.best(wanted, support)
        while (weights < 0).any():
            support &= weights > 0
            weights = self.best(wanted, support)
        return weights


def _block_means(fractions: Array, checkpoints: Steps) -> Array:
    """Mean fraction of the base rate between neighbouring checkpoints."""
    return np.add.reduceat(fractions, checkpoints[:-1]) / np.diff(checkpoints)


def _exact(target: Array, rate: float, checkpoints: Steps, curvature: float) -> Array:
    """Match bias and noise of every block at one curvature."""
    keep = 1 - target * curvature
    gains = 1 - np.multiply.reduceat(keep, checkpoints[:-1])
    base_gains = 1 - decay(rate * curvature, np.diff(checkpoints))
    made: Array = gains_to_average(gains, base_gains)
    return made


@checked(
    target_schedule=schedule_of_rates,
    base_learning_rate=positive,
    checkpoints=increasing_steps,
    rule=choice(*RULES),
    model=optional(instance_of(MiniBatchQuadratic)),
    curvature=optional(positive),
)
def merge_plan(
    target_schedule: Numeric,
    base_learning_rate: float,
    checkpoints: Numeric,
    *,
    rule: str,
    model: MiniBatchQuadratic | None = None,
    curvature: float | None = None,
) -> xr.Dataset:
    r"""Weights for the checkpoints of a constant-rate run of plain SGD that emulate a decaying schedule.

    With :math:`r_j` the target over the base learning rate and :math:`W_m` its mean between checkpoints m-1 and m,

    ==============  ==================================================================================
    rule            weights
    ==============  ==================================================================================
    ``wsm``         :math:`W_m - W_{m+1}`: flat directions, or recorded updates re-weighed
    ``exact``       bias and noise of every block matched at one ``curvature``
    ``binomial``    coefficients of :math:`\prod_m (1-W_m+W_m t)`: the bias at every curvature
    ``lsq``         closest to the target in :math:`\operatorname{E} \tfrac12 |\cdot|_H^2` under ``model``
    ``lsq_nonneg``  the same with weights >= 0
    ``risk``        lowest expected risk under ``model``, whatever the target
    ``uniform``     equal weights, the start included
    ==============  ==================================================================================

    Status: exact under the model (for given weights the risks are exact); on a network a heuristic. Emulating a decay
    and lowering the risk are different goals.

    Parameters
    ----------
    target_schedule : array, shape (T,)
        Learning rates of the decay, from the start of the window.
    base_learning_rate : float
        :math:`\eta > 0` of the run that was saved.
    checkpoints : array of int
        Steps at which it was saved, increasing, from 0 (the start of the window) to T.
    rule : str
        See above.
    model : MiniBatchQuadratic, optional
        Needed for ``lsq``, ``lsq_nonneg`` and ``risk``; with it every rule reports its risks. The window starts from
        the stationary law, or from the displacement if the model has one.
    curvature : float, optional
        Needed for ``exact``.

    Returns
    -------
    xarray.Dataset
        ``weight`` (checkpoint); ``smallest_weight`` and ``noise_amplification`` :math:`\sum \alpha^2`; with a model
        also ``target_risk``, ``merged_risk``, ``base_risk`` (the last iterate) and ``residual``, the distance to the
        target over its risk.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the checkpoints do not span the window, a rule lacks what it needs, or the
        base run is unstable under the model.

    Examples
    --------
    >>> merge_plan([0.075, 0.05, 0.025], 0.1, [0, 1, 2, 3], rule="exact", curvature=1.0).weight.values
    array([0.2315625, 0.2559375, 0.2625   , 0.25     ])
    """
    target = np.asarray(target_schedule)
    if target.ndim != 1:
        raise ValueError(f"merge_plan: target_schedule must be one schedule, 1-D, got shape {target.shape}")
    rate = float(base_learning_rate)
    if checkpoints.size < 2 or checkpoints[0] != 0 or checkpoints[-1] != target.size:
        raise ValueError(
            f"merge_plan: checkpoints must run from 0, the start of the window, to its end {target.size}, "
            f"got {checkpoints.tolist()}"
        )
    if rule in NEEDS_MODEL and model is None:
        raise ValueError(f"merge_plan: model must be given for rule {rule!r}, got None")
    if rule == "exact" and curvature is None:
        raise ValueError("merge_plan: curvature must be given for rule 'exact', got None")
    if rule in ("wsm", "binomial") and (target > rate).any():
        raise ValueError(
            f"merge_plan: target_schedule must stay at or below base_learning_rate = {rate} for rule {rule!r}, "
            f"got {float(target.max())!r}"
        )
    with one_blas_thread():
        risks = None if model is None else _Risks(model, rate, target, checkpoints)
        weights = _weights(rule, target, rate, checkpoints, risks, curvature)
    described: dict[str, tuple[Any, str, str]] = {
        "smallest_weight": (weights.min(), "smallest weight", "1"),
        "noise_amplification": (np.sum(weights**2), "sum of squared weights", "1"),
    }
    if risks is not None:
        last = np.zeros(weights.size)
        last[-1] = 1.0
        described |= {
            "target_risk": (risks.target_risk, "expected excess risk of the decay", "loss"),
            "merged_risk": (risks.merged(weights), "expected excess risk of the merged point", "loss"),
            "base_risk": (risks.merged(last), "expected excess risk of the last checkpoint", "loss"),
            "residual": (risks.distance(weights) / risks.target_risk, "distance to the target over its risk", "1"),
        }
    data = {name: ((), value, {"long_name": text, "units": units}) for name, (value, text, units) in described.items()}
    weight = ("checkpoint", weights, {"long_name": "weight of the checkpoint", "units": "1"})
    coordinate = ("checkpoint", checkpoints, {"long_name": "step of the checkpoint", "units": "1"})
    return xr.Dataset({"weight": weight, **data}, coords={"checkpoint": coordinate}, attrs={"rule": rule})


def _weights(
    rule: str, target: Array, rate: float, checkpoints: Steps, risks: _Risks | None, curvature: float | None
) -> Array:
    everything = np.ones(checkpoints.size, dtype=bool)
    made: Array
    if rule == "uniform":
        made = np.full(checkpoints.size, 1 / checkpoints.size)
    elif rule == "wsm":
        made = wsm_average(_block_means(target / rate, checkpoints))
    elif rule == "binomial":
        made = binomial_average(_block_means(target / rate, checkpoints))
    elif curvature is not None and rule == "exact":
        made = _exact(target, rate, checkpoints, curvature)
    else:
        assert risks is not None
        if rule == "lsq":
            made = risks.best(risks.overlap, everything)
        elif rule == "risk":
            made = risks.best(np.zeros(checkpoints.size), everything)
        else:
            made = risks.best_nonnegative(risks.overlap)
    return made
