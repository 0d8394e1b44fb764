r"""Where in the space of rates, separations and weight decays the order of learning reverses and the gap opens."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import checked, complain, instance_of, optional, positive, replica_indices
from sgdynamics.formula import law
from sgdynamics.models.patterns import TwoPatternSetting
from sgdynamics.theory.patterns.prediction import P_LEVEL, Q_LEVEL, predicted_learning
from sgdynamics.theory.patterns.reduced import first_time_below, reduced_dynamics

__all__ = ["gap_map"]

_AXES = {
    "rate_ratio": ("large over small learning rate", "1"),
    "separation": ("separation of the rays", "1"),
    "weight_decay": ("weight decay", "1/(learning rate x steps)"),
}
_RESULTS = {
    "p_only_error_large": ("error on P-only examples, large then small rate", "1"),
    "p_only_error_small": ("error on P-only examples, small rate", "1"),
    "paired_gap": ("error of the small rate minus that of the large one", "1"),
    "order_reversed": ("large rate learns P first, small rate Q first", "1"),
}


@law(quantity="report")
@checked(
    setting=instance_of(TwoPatternSetting),
    seeds=replica_indices,
    rate_ratio=optional(positive),
    separation=optional(positive),
    weight_decay=optional(positive),
)
def gap_map(
    setting: TwoPatternSetting,
    *,
    seeds: Any,
    rate_ratio: Any = None,
    separation: Any = None,
    weight_decay: Any = None,
) -> xr.Dataset:
    r"""Gap and order of learning over a grid, from the reduced dynamics, beside what the time scales predict.

    Both algorithms see the same examples, for the same training time.

    Status: exact for the reduced dynamics of the given draws; the walls beside it are heuristic.

    Parameters
    ----------
    setting : TwoPatternSetting
        Everything that is not swept.
    seeds : int or 1-D array of int
        A count, or the seeds themselves.
    rate_ratio, separation, weight_decay : float or 1-D array, optional
        Axes of the grid: :math:`\eta_1/\eta_2 \ge 1` (the large rate is kept), r and :math:`\lambda`. None keeps what
        the setting has.

    Returns
    -------
    xarray.Dataset
        Dims: the axes that were given, and ``seed``: ``p_only_error_large``, ``p_only_error_small``, ``paired_gap``
        (their difference), ``order_reversed`` (the large rate brings the loss on P-only examples to 0.5 before that on
        Q-only ones to 0.35, and the small rate the other way round). Without ``seed``: ``predicted``, whether the time
        scales say that the order reverses (:func:`predicted_learning`).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or a cell is unstable or has too strong a weight decay, which is named.

    Examples
    --------
    >>> setting = TwoPatternSetting.desk().with_training(first_time=300.0, second_time=100.0)
    >>> made = gap_map(setting, seeds=1, rate_ratio=[10.0, 1000.0])
    >>> made.paired_gap.dims
    ('rate_ratio', 'seed')
    """
    given = {"rate_ratio": rate_ratio, "separation": separation, "weight_decay": weight_decay}
    axes = {name: np.atleast_1d(values) for name, values in given.items() if values is not None}
    for name, values in axes.items():
        if values.ndim != 1 or getattr(given[name], "dims", (name,)) not in ((), (name,)):
            raise complain("gap_map", name, f"None, a number or 1-D along {name!r}", given[name])
    if (axes.get("rate_ratio", np.ones(1)) < 1).any():
        raise complain("gap_map", "rate_ratio", ">= 1 everywhere", axes["rate_ratio"])
    shape = tuple(values.size for values in axes.values())
    results = {name: np.zeros((*shape, seeds.size)) for name in _RESULTS}
    predicted = np.zeros(shape)
    for place in itertools.product(*map(range, shape)):
        cell = _cell(setting, {name: float(values[i]) for (name, values), i in zip(axes.items(), place, strict=True)})
        predicted[place] = bool(predicted_learning(cell).reverses)
        for i, seed in enumerate(seeds):
            for name, value in _measure(cell, int(seed)).items():
                results[name][(*place, i)] = value
    dims = (*axes, "seed")
    made = xr.Dataset(
        {name: (dims, results[name], {"long_name": text, "units": u}) for name, (text, u) in _RESULTS.items()},
        coords={
            name: (name, values, dict(zip(("long_name", "units"), _AXES[name], strict=True)))
            for name, values in axes.items()
        }
        | {"seed": seeds},
        attrs={"source": "derived"},
    )
    made["predicted"] = (tuple(axes), predicted, {"long_name": "order predicted to reverse", "units": "1"})
    return made


def _cell(setting: TwoPatternSetting, point: Mapping[str, float]) -> TwoPatternSetting:
    """The setting at one point of the grid."""
    data, training = setting.data, setting.training
    if "separation" in point:
        data = replace(data, separation=point["separation"])
    if "weight_decay" in point:
        training = replace(training, weight_decay=point["weight_decay"])
    if "rate_ratio" in point:
        small = training.large_rate / point["rate_ratio"]
        coarse = None if training.coarse_step is None else max(training.coarse_step, small)
        training = replace(training, small_rate=small, coarse_step=coarse)
    return replace(setting, data=data, training=training)


def _measure(setting: TwoPatternSetting, seed: int) -> dict[str, float]:
    sample = setting.draw(seed)
    runs = {name: reduced_dynamics(setting, sample, name) for name in ("large_then_small", "small")}
    q_first = {
        name: first_time_below(run, "loss_q_only", Q_LEVEL) - first_time_below(run, "loss_p_only", P_LEVEL)
        for name, run in runs.items()
    }
    error = {name: float(run.p_only_error[-1]) for name, run in runs.items()}
    return {
        "p_only_error_large": error["large_then_small"],
        "p_only_error_small": error["small"],
        "paired_gap": error["small"] - error["large_then_small"],
        # neither pattern learnt: inf - inf compares false either way
        "order_reversed": float(q_first["small"] < 0 < q_first["large_then_small"]),
    }
