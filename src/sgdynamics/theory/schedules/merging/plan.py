r"""Merging the checkpoints of a run into the model that a decay would have ended on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import (
    Numeric,
    checked,
    choice,
    complain,
    flag,
    increasing_steps,
    instance_of,
    nonnegative,
    one,
    optional,
    positive,
    unit_interval,
)
from sgdynamics.formula import law
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import schedule_of_rates
from sgdynamics.theory.quadratic import stability_edge
from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.merging.quadratic_form import QuadraticForm, Steps
from sgdynamics.theory.schedules.merging.risks import Variables, risks
from sgdynamics.theory.schedules.merging.rules import NEEDS_MODEL, RULES, average_of_rule, chosen_rule
from sgdynamics.theory.schedules.merging.window import Window
from sgdynamics.theory.schedules.merging.words import summary, warnings

_SHARED = {
    "target_schedule": schedule_of_rates,
    "base_learning_rate": nonnegative,
    "checkpoints": increasing_steps,
    "model": optional(instance_of(MiniBatchQuadratic)),
    "curvature": optional(one(positive)),
    "momentum": one(unit_interval),
    "at_rest": flag,
    "optimiser": choice("sgd", "adam", "other"),
}


@law(quantity="report")
@checked(rule=choice("auto", *RULES), **_SHARED)
def merge_plan(
    target_schedule: Numeric,
    base_learning_rate: Numeric,
    checkpoints: Numeric,
    *,
    rule: Literal["auto", "wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk", "uniform"] = "auto",
    model: MiniBatchQuadratic | None = None,
    curvature: float | None = None,
    momentum: float = 0.0,
    at_rest: bool = False,
    optimiser: Literal["sgd", "adam", "other"] = "sgd",
) -> xr.Dataset:
    r"""Weights for the checkpoints of a run of SGD that emulate a decaying schedule, and what they risk.

    With :math:`\eta_j` the target and :math:`b_j` the base learning rate, and :math:`W_m = \sum \eta_j / \sum b_j` over
    the steps between checkpoints m-1 and m (the mean of the fractions, for a constant base),

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
    ``auto``        ``lsq_nonneg`` if a model is given; otherwise ``wsm``, if the target falls to about 0 (at most 5%
                    of the base learning rate is left) without a jump (of more than 25%), and else an error
    ==============  ==================================================================================

    Status: exact under the model (for given weights the risks are exact); on a network a heuristic. Emulating a decay
    and lowering the risk are different goals.

    Parameters
    ----------
    target_schedule : array, shape (T,)
        Learning rates of the decay, from the start of the window.
    base_learning_rate : float or array, shape (T,)
        Learning rates :math:`b_j` of the run that was saved, >= 0. Where it is 0 the run does not move, and the target
        must not move either, unless the rule is made from a model.
    checkpoints : array of int
        Steps at which it was saved, increasing, from the start of the window to its end, T steps later; counted from
        there (0 to T) or from the start of the run.
    rule : str
        See above.
    model : MiniBatchQuadratic, optional
        Needed for ``lsq``, ``lsq_nonneg`` and ``risk``; with it every rule reports its risks. The window starts from
        the stationary law of the first base learning rate, or from the displacement if the model has one.
    curvature : float, optional
        Needed for ``exact``.
    momentum : float
        :math:`\beta` in [0, 1) of the base run and of the decay, with :math:`u \leftarrow \beta u + \nabla`,
        :math:`x \leftarrow x - \eta u`. ``exact`` then needs every step saved.
    at_rest : bool
        With momentum: whether the window starts with zero velocity, as it must from a displacement. Otherwise base run
        and decay both inherit the velocity of the stationary law. It weighs :math:`-\beta/h` times what the first
        center weighs, in every point: ``exact`` matches both, the other rules leave ``residual_velocity``.
    optimiser : {"sgd", "adam", "other"}
        What made the base run; for the warnings alone.

    Returns
    -------
    xarray.Dataset
        ``weight`` (checkpoint); ``smallest_weight`` and ``noise_amplification`` :math:`\sum \alpha^2`. With a model
        also ``target_risk``, ``merged_risk`` and ``base_risk`` (the last checkpoint), each the sum of ``*_bias`` (what
        is left of the start) and ``*_noise`` (of the batches); ``gain_kept``, where the decay gains anything over the
        last checkpoint, the share of it that the merge keeps (without a model see :func:`gain_kept`); ``residual``, the
        distance to the target over its risk, with its parts ``residual_bias``, ``residual_velocity`` and
        ``residual_noise``; ``noise_floor``, the lowest risk, and ``residual_floor``, the lowest residual that any
        weights on these checkpoints have; and by ``band``, a decade of the largest gain ``lowest_gain`` to
        ``highest_gain``, ``band_residual`` (parts of the residual), ``band_target_risk``, ``band_merged_risk`` and
        ``band_base_risk``. Attributes ``rule``, ``summary`` (a sentence) and ``warnings`` (sentences, one a line).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the checkpoints do not span the window, a rule lacks what it needs, or the
        base run is unstable under the model.

    Examples
    --------
    >>> plan = merge_plan([0.075, 0.05, 0.025], 0.1, [0, 1, 2, 3], rule="exact", curvature=1.0)
    >>> plan.weight.values
    array([0.2315625, 0.2559375, 0.2625   , 0.25     ])
    >>> broad = MiniBatchQuadratic.log_uniform(1e-3, 1.0, 20)
    >>> plan = merge_plan([0.075, 0.05, 0.025], 0.1, [0, 3], model=broad)
    >>> print(plan.summary)
    Rule 'lsq_nonneg' merges 2 of 2 checkpoints: ... Average: under the model it is the better of the two.
    """
    target, base = _schedules(target_schedule, base_learning_rate, checkpoints)
    return _Merge(target, base, checkpoints, model, curvature, float(momentum), at_rest, optimiser).plan(rule)


@checked(rules=instance_of(tuple, text="a tuple of rules"), **_SHARED)
def merge_plans(
    target_schedule: Numeric,
    base_learning_rate: Numeric,
    checkpoints: Numeric,
    *,
    rules: tuple[str, ...],
    model: MiniBatchQuadratic | None = None,
    curvature: float | None = None,
    momentum: float = 0.0,
    at_rest: bool = False,
    optimiser: str = "sgd",
) -> Iterator[xr.Dataset | ValueError]:
    """The plans of several rules, or the error that says why a rule has none; what they share is computed once."""
    target, base = _schedules(target_schedule, base_learning_rate, checkpoints)
    merge = _Merge(target, base, checkpoints, model, curvature, float(momentum), at_rest, optimiser)
    for rule in rules:
        try:
            yield merge.plan(rule)
        except ValueError as error:
            yield error


@dataclass(frozen=True)
class _Merge:
    """A window of a run and the decay that its checkpoints are to stand for."""

    target: Array
    base: Array
    steps: Steps  # of the checkpoints, as given
    model: MiniBatchQuadratic | None
    curvature: float | None
    momentum: float
    at_rest: bool
    optimiser: str

    @property
    def checkpoints(self) -> Steps:
        """Their steps from the start of the window."""
        counted: Steps = self.steps - self.steps[0]
        return counted

    @cached_property
    def gain(self) -> float:
        """Largest gain of the base run."""
        return check_stability("merge_plan", self.base, self.model, self.curvature, self.momentum)

    @cached_property
    def under_model(self) -> tuple[Window, QuadraticForm] | None:
        """The window and its quadratic form, if there is a model."""
        if self.model is None:
            return None
        window = window_of("merge_plan", self.model, self.base, self.momentum, self.at_rest)
        form = QuadraticForm(window, self.base, self.target, self.checkpoints)
        if not 0 < form.target_risk < np.inf:
            text = "one under which the target has a finite expected risk > 0"
            raise complain("merge_plan", "model", text, f"risk {form.target_risk}")
        return window, form

    def plan(self, rule: str) -> xr.Dataset:
        """The plan of one rule."""
        target, base, checkpoints = self.target, self.base, self.checkpoints
        rule = chosen_rule(target, base, self.model is not None) if rule == "auto" else rule
        _check_rule(rule, self.model, self.curvature, self.momentum, base, checkpoints)
        gain = self.gain
        with one_blas_thread(), np.errstate(under="ignore", over="ignore", invalid="ignore"):
            window, form = self.under_model or (None, None)
            weights = average_of_rule(
                rule, target, base, checkpoints, form=form, curvature=self.curvature, momentum=self.momentum
            )
            described: dict[str, tuple[Any, str, str]] = {
                "smallest_weight": (weights.min(), "smallest weight", "1"),
                "noise_amplification": (np.sum(weights**2), "sum of squared weights", "1"),
            }
            bands: tuple[Variables, Variables] = ({}, {})
            if window is not None and form is not None:
                candidates = np.array([weights, form.lowest(), form.closest()])
                expected, bands = risks(window, base, target, checkpoints, candidates)
                described |= expected
        data = {
            name: ((), value, {"long_name": text, "units": units}) for name, (value, text, units) in described.items()
        }
        weight = ("checkpoint", weights, {"long_name": "weight of the checkpoint", "units": "1"})
        coordinate = ("checkpoint", self.steps, {"long_name": "step of the checkpoint", "units": "1"})
        in_bands, edges = bands
        plan = xr.Dataset(
            {"weight": weight, **data, **in_bands}, coords={"checkpoint": coordinate, **edges}, attrs={"rule": rule}
        )
        plan.attrs["summary"] = summary(plan)
        plan.attrs["warnings"] = "\n".join(
            warnings(plan, target, base, gain=gain, momentum=self.momentum, optimiser=self.optimiser)
        )
        return plan


def _schedules(target_schedule: Numeric, base_learning_rate: Numeric, checkpoints: Steps) -> tuple[Array, Array]:
    """Target and base learning rate of every step of a window that the checkpoints span."""
    target, base = np.asarray(target_schedule), np.asarray(base_learning_rate)
    if target.ndim != 1:
        raise ValueError(f"merge_plan: target_schedule must be one schedule, 1-D, got shape {target.shape}")
    if base.shape not in ((), target.shape):
        raise ValueError(
            f"merge_plan: base_learning_rate must be one number, or one for each of the {target.size} steps of the "
            f"target, got shape {base.shape}"
        )
    if not base.any():
        raise complain("merge_plan", "base_learning_rate", "a number > 0, or > 0 in some step", base_learning_rate)
    if checkpoints.size < 2 or checkpoints[-1] - checkpoints[0] != target.size:
        raise ValueError(
            f"merge_plan: checkpoints must run from 0, the start of the window, to its end {target.size} (or as far, "
            f"in steps of the run), got {checkpoints.tolist()}"
        )
    return target, np.broadcast_to(base, target.shape)


def _check_rule(
    rule: str,
    model: MiniBatchQuadratic | None,
    curvature: float | None,
    momentum: float,
    base: Array,
    checkpoints: Steps,
) -> None:
    if rule in NEEDS_MODEL and model is None:
        raise ValueError(f"merge_plan: model must be given for rule {rule!r}, got None")
    if rule != "exact":
        return
    if curvature is None:
        raise ValueError("merge_plan: curvature must be given for rule 'exact', got None")
    if momentum and checkpoints.size != base.size + 1:
        raise ValueError(
            "merge_plan: checkpoints must be all steps for rule 'exact' of a run with momentum, got "
            f"{checkpoints.size} of {base.size + 1}: take 'lsq' with a model of that one curvature instead"
        )
    if momentum and (base == 0).any():
        raise complain("merge_plan", "base_learning_rate", "> 0 in all steps for rule 'exact' with momentum", 0.0)


def check_stability(
    owner: str, base: Array, model: MiniBatchQuadratic | None, curvature: float | None, momentum: float
) -> float:
    """Largest gain of the base run, which must be stable."""
    known = [] if curvature is None else [("curvature", float(curvature))]
    if model is not None:
        known.append(("model", float(np.max(model.curvature))))
    for name, steepest in known:
        edge = stability_edge(steepest, momentum=momentum)
        if base.max() >= edge:
            raise ValueError(
                f"{owner}: base_learning_rate must be below the stability edge {edge:.6g} of the {name} (curvature "
                f"{steepest:.6g}), got {float(base.max())!r}"
            )
    return float(base.max()) * max((steepest for _, steepest in known), default=0.0)


def window_of(owner: str, model: MiniBatchQuadratic, base: Array, momentum: float, at_rest: bool) -> Window:
    """The window of a run, if the model has one law for its start."""
    if any(field.ndim > 1 for field in model.labelled()):
        raise complain(owner, "model", "one model, with the dim 'mode' alone", model.labelled()[0].dims)
    displaced = bool(np.any(model.displacement))
    if displaced and momentum and not at_rest:
        raise complain(owner, "at_rest", "True where the model has a displacement, which has no velocity", at_rest)
    if not displaced and base[0] == 0:
        raise complain(
            owner,
            "base_learning_rate",
            "> 0 in the first step where the model has no displacement: the window starts from its stationary law",
            0.0,
        )
    return Window.of(model, float(base[0]), float(momentum), at_rest or not momentum)
