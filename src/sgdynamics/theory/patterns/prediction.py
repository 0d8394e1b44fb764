r"""Will the order of learning reverse? What the time scales say before anything is run.

The order reverses where a small learning rate learns Q before P and a large one P before Q. Each condition is a number
that must be below 1; how far below is its margin.
What must be fast is counted with the pull that is left when it is learnt, what must be slow with that of the start.
They are cautious: of random settings in which they all hold at most three in a hundred do not reverse, while in most
that reverse one of them fails, by a factor of four at most.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import expit, roots_legendre

from sgdynamics.domains import checked, instance_of
from sgdynamics.formula import law
from sgdynamics.models.patterns import TwoPatternSetting
from sgdynamics.theory.patterns.errors import mean_classifier_cosine, p_only_error
from sgdynamics.theory.patterns.memory import curvature_ceiling
from sgdynamics.theory.patterns.noise import refreshing_angle
from sgdynamics.theory.patterns.times import p_time, q_time

__all__ = ["P_LEVEL", "Q_LEVEL", "predicted_learning", "reversal_conditions"]

# Mean losses at which a pattern counts as learnt: of the P-only and of the Q-only examples.
P_LEVEL, Q_LEVEL = 0.5, 0.35

_SOURCE = "derived"


def _margin_at(loss: float) -> float:
    """The margin y f at which the logistic loss has a value."""
    return -math.log(math.expm1(loss))


def _slowing(loss: float) -> float:
    r"""How much weaker examples pull at a loss than at the start: 1/2 over :math:`\sigma(-m)` at its margin m."""
    return (1 + math.exp(_margin_at(loss))) / 2


def _learnt_q(alpha_low: float) -> tuple[float, float]:
    r"""The curvature at which Q is just learnt, and how much weaker its examples pull there than at the start.

    Output :math:`\pm c/2` on the rays makes the margin :math:`\alpha c/2`. Examples near the origin, where
    :math:`\alpha` is small, come last.
    """
    from scipy.optimize import brentq

    if alpha_low == 1:
        return 2 * _margin_at(Q_LEVEL), _slowing(Q_LEVEL)
    node, weight = roots_legendre(32)
    alpha, weight = alpha_low + (1 - alpha_low) * (node + 1) / 2, weight / 2

    def excess(curvature: float) -> float:
        return float(weight @ np.logaddexp(0, -alpha * curvature / 2)) - Q_LEVEL

    curvature = float(brentq(excess, 0.0, 100.0, xtol=1e-12))
    return curvature, float(weight @ alpha / (2 * weight @ (alpha * expit(-alpha * curvature / 2))))


def _p_training_time(setting: TwoPatternSetting, fresh: float) -> float:
    r"""Time in which the mean margin of P on the training examples would reach 1 at the rate of the start.

    To what examples learn from each other, 1 in ``fresh``, comes what each says of itself, by the linear rule and by
    heart: :math:`E|x|^2/(4N)`.
    """
    data = setting.data
    square = 1 + data.margin * (data.margin + math.sqrt(8 / math.pi)) / data.dimension
    return 1 / (1 / fresh + square / (4 * setting.examples))


def _scales(setting: TwoPatternSetting) -> dict[str, float]:
    data, training = setting.data, setting.training
    carries_q = 1 - data.p_only
    # a pattern that no example carries is never learnt
    time_q = q_time(data.separation, data.amplitude, carries_q, data.mean_alpha) if carries_q else math.inf
    time_p = p_time(data.dimension, data.margin, 1 - data.q_only) if data.q_only < 1 else math.inf
    ceiling = (
        curvature_ceiling(data.separation, training.weight_decay, data.amplitude, carries_q, data.mean_alpha)
        if carries_q
        else 0.0
    )
    ratio = training.large_rate / training.small_rate
    decay = training.weight_decay
    return {
        "q_time": time_q,
        "p_time": time_p,
        "p_training_time": _p_training_time(setting, time_p),
        "curvature_ceiling": ceiling,
        "refreshing_angle": refreshing_angle(training.first_time + training.second_time, ratio, decay),
        # times after which weight decay takes what is learnt
        "p_growth_time": -math.expm1(-decay * training.first_time) / decay,
        "q_growth_time": -math.expm1(-decay * (training.first_time + training.second_time)) / decay,
    }


def _conditions(setting: TwoPatternSetting) -> list[tuple[str, float, str]]:
    data, training, scales = setting.data, setting.training, _scales(setting)
    needed = _margin_at(P_LEVEL) * scales["p_time"]
    curvature, slowing = _learnt_q(data.alpha_low)
    visible = curvature * slowing
    learns_q = scales["q_time"] * visible
    few = data.p_only * setting.examples / data.dimension
    carriers = (1 - data.q_only) * setting.examples
    return [
        (
            "few_p_only_examples",
            few,
            "fewer P-only examples than dimensions, p0 N/d: they alone do not teach P",
        ),
        (
            "many_examples_with_p",
            data.dimension / carriers if carriers else math.inf,
            "more examples that carry P than dimensions, d/((1-q0) N): together they teach P",
        ),
        (
            "small_rate_learns_q_first",
            learns_q / (_margin_at(P_LEVEL) * scales["p_training_time"]) if math.isfinite(learns_q) else math.inf,
            "time Q needs to be learnt with a frozen pattern, over that P needs or its examples are known by heart",
        ),
        (
            "small_rate_learns_q",
            learns_q / scales["q_growth_time"],
            "time Q needs to be learnt with a frozen pattern, over the time it has, weight decay counted",
        ),
        (
            "small_rate_freezes",
            scales["refreshing_angle"] / data.separation,
            "angle by which the small rate's noise turns the pattern in the whole run, over the separation, delta/r",
        ),
        (
            "large_rate_is_stable",
            training.large_rate / setting.largest_step,
            "large rate over the stability limit along the rays",
        ),
        (
            "large_rate_hides_q",
            scales["curvature_ceiling"] / visible,
            "curvature that the large rate can hold, over that at which Q counts as learnt",
        ),
        (
            "large_rate_learns_p",
            needed * _slowing(P_LEVEL) / scales["p_growth_time"],
            "time P needs to be learnt, over the time it has before annealing, weight decay counted",
        ),
    ]


@law(quantity="report")
@checked(setting=instance_of(TwoPatternSetting))
def reversal_conditions(setting: TwoPatternSetting) -> xr.Dataset:
    r"""Which conditions for a reversed order of learning hold at given sizes, and by what margin.

    Parameters
    ----------
    setting : TwoPatternSetting
        Such as ``TwoPatternSetting.unit_constants(d)`` for pure powers of the dimension.

    Returns
    -------
    xarray.Dataset
        Dim ``condition``, of ``quantity``, which must be below 1, ``holds``, ``margin`` (1/quantity: how many times
        below) and ``text``, what the quantity is. The first two conditions make P hard to generalise from P-only
        examples alone, the next three are about the small rate, the others about the large one.

    Notes
    -----
    Status: heuristic. The time scales are those of the start of a run, and "much smaller" is taken as "smaller".

    Examples
    --------
    >>> bool(reversal_conditions(TwoPatternSetting.desk()).holds.all())
    True
    >>> made = reversal_conditions(TwoPatternSetting.unit_constants(100))
    >>> [str(name) for name in made.condition.values[~made.holds.values]]
    ['small_rate_learns_q_first', 'small_rate_learns_q', 'small_rate_freezes']
    """
    rows = _conditions(setting)
    quantity = np.array([value for _, value, _ in rows])
    with np.errstate(divide="ignore"):
        margin = 1 / quantity
    columns: dict[str, tuple[Any, str, str]] = {
        "quantity": (quantity, "what must be below 1", "1"),
        "holds": (quantity < 1, "whether the condition holds", "1"),
        "margin": (margin, "how many times below 1", "1"),
        "text": (np.array([text for _, _, text in rows]), "what the quantity is", "1"),
    }
    return xr.Dataset(
        {name: ("condition", value, {"long_name": text, "units": u}) for name, (value, text, u) in columns.items()},
        coords={"condition": [name for name, _, _ in rows]},
        attrs={"source": _SOURCE, "status": "heuristic"},
    )


@law(quantity="report")
@checked(setting=instance_of(TwoPatternSetting))
def predicted_learning(setting: TwoPatternSetting) -> xr.Dataset:
    r"""Time scales, what limits each phase, whether the order of learning reverses, and the errors to expect.

    Parameters
    ----------
    setting : TwoPatternSetting

    Returns
    -------
    xarray.Dataset
        Numbers ``q_time``, ``p_time``, ``curvature_ceiling``, ``refreshing_angle``; ``p_only_error_all``, the error of
        the mean of all examples that carry P, near which the large rate ends, and ``p_only_error_few``, that of the
        P-only examples alone, below which the small one stays; ``reverses``, whether every condition of
        :func:`reversal_conditions` about the two rates holds. By the dim ``phase`` ("small", "large"), ``limit``: the
        condition with the least margin, and ``limit_margin``.

    Notes
    -----
    Status: heuristic. The logistic loss weighs examples and so does somewhat better than their mean; for the errors of
    a given sample run :func:`reduced_dynamics`.

    Examples
    --------
    >>> made = predicted_learning(TwoPatternSetting.desk())
    >>> bool(made.reverses), str(made.limit.sel(phase="large").item())
    (True, 'large_rate_is_stable')
    """
    data, scales, conditions = setting.data, _scales(setting), reversal_conditions(setting)
    counts = {"all": (1 - data.q_only) * setting.examples, "few": data.p_only * setting.examples}
    made = xr.Dataset(attrs={"source": _SOURCE, "status": "heuristic"})
    units = {"q_time": "learning rate x steps", "p_time": "learning rate x steps", "curvature_ceiling": "output"}
    for name in ("q_time", "p_time", "curvature_ceiling", "refreshing_angle"):
        made[name] = ((), scales[name], {"long_name": name.replace("_", " "), "units": units.get(name, "rad")})
    for name, examples in counts.items():
        cosine = mean_classifier_cosine(data.dimension, examples, data.margin) if examples else 0.0
        text = "all examples that carry P" if name == "all" else "P-only examples"
        made[f"p_only_error_{name}"] = (
            (),
            p_only_error(cosine, data.margin),
            {"long_name": f"error on P-only examples of the mean of {text}", "units": "1"},
        )
    phases = ("small", "large")
    names = conditions.condition.values
    of_phase = {phase: np.array([name.startswith(phase) for name in names]) for phase in phases}
    tightest = [names[mask][np.argmax(conditions.quantity.values[mask])] for mask in of_phase.values()]
    either = of_phase["small"] | of_phase["large"]
    made["reverses"] = ((), bool(conditions.holds.values[either].all()), {"long_name": "order reverses", "units": "1"})
    made["limit"] = ("phase", tightest, {"long_name": "condition with the least margin", "units": "1"})
    made["limit_margin"] = (
        "phase",
        conditions.margin.sel(condition=tightest).values,
        {"long_name": "its margin", "units": "1"},
    )
    return made.assign_coords(phase=list(phases))
