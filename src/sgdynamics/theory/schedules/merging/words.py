"""What a plan says to a person: a sentence of summary, and one for every reason to be careful."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.merging.rules import LARGEST_DROP

# What every rule but the tail sums assumes of the base run, by optimiser.
_OPTIMISERS = {
    "adam": "The base run was made by Adam: only 'wsm' is exact, as a re-weighing of the recorded updates; what the "
    "other rules and every predicted risk say of it is a model.",
    "other": "The base run was not made by SGD: only 'wsm' is exact, as a re-weighing of the recorded updates; what "
    "the other rules and every predicted risk say of it is a model.",
}
_TINY = 1e-9  # weights this far below 0 are rounding


def summary(plan: xr.Dataset) -> str:
    """Whether to decay or to average, as far as the plan knows."""
    points = int(np.count_nonzero(plan.weight))
    made = f"Rule {plan.attrs['rule']!r} merges {points} of {plan.sizes['checkpoint']} checkpoints"
    if "merged_risk" not in plan:
        return f"{made}. Without a model its risk is not known."
    merged, target, base = (float(plan[name]) for name in ("merged_risk", "target_risk", "base_risk"))
    made += f": expected excess risk {merged:.4g}, the decay's {target:.4g}, the last checkpoint's {base:.4g}."
    if base <= min(merged, target) * (1 + _TINY):
        return f"{made} Keep the last checkpoint: neither merging nor decaying gains."
    return f"{made} {'Average' if merged <= target else 'Decay'}: under the model it is the better of the two."


def warnings(
    plan: xr.Dataset, target: Array, base: Array, *, gain: float, momentum: float, optimiser: str
) -> Iterator[str]:
    """Reasons to be careful, from the schedules, the weights and the risks."""
    rule = plan.attrs["rule"]
    yield from _about_schedules(rule, target, base)
    yield from _about_weights(plan)
    if gain > 1 and momentum == 0:
        yield (
            f"The base run has gains up to {gain:.3g}, above 1: steep directions alternate in sign, and weights of "
            "both signs are legitimate there."
        )
    if momentum and rule == "binomial":
        yield "'binomial' matches the bias of SGD without momentum only."
    if optimiser in _OPTIMISERS:
        yield _OPTIMISERS[optimiser]
    if "merged_risk" in plan:
        yield from _about_risks(plan)


def _about_schedules(rule: str, target: Array, base: Array) -> Iterator[str]:
    still = base == 0
    if still.any():
        yield (
            f"The base learning rate is 0 in {int(still.sum())} steps, the first of them {int(np.argmax(still)) + 1}: "
            "they are dropped."
        )
    if (target > base).any():
        above = int((target > base).sum())
        yield f"The target exceeds the base learning rate in {above} steps: merging has to extrapolate."
    moving = ~still
    fractions = np.append(1.0, target[moving] / base[moving])
    if (np.diff(fractions) > 0).any():
        yield "The target increases within the window: negative weights are to be expected."
    if rule == "wsm" and (np.diff(fractions) < -LARGEST_DROP).any():
        yield (
            "The target drops in a jump: tail sums put all of it on one checkpoint, whose noise stays. Prefer "
            "'lsq_nonneg' with a model."
        )


def _about_weights(plan: xr.Dataset) -> Iterator[str]:
    weights = plan.weight.values
    negative = int((weights < -_TINY).sum())
    if negative:
        yield (
            f"{negative} weights are negative, the smallest {float(weights.min()):.4g} at step "
            f"{int(plan.checkpoint[int(weights.argmin())])}: the merge extrapolates; squared weights sum to "
            f"{float(plan.noise_amplification):.4g}."
        )
    if float(plan.noise_amplification) > 1:
        yield "Squared weights sum to more than 1: independent noise of the checkpoints is amplified."


def _about_risks(plan: xr.Dataset) -> Iterator[str]:
    if float(plan.merged_risk) > float(plan.base_risk):
        yield "Under the model the merged point is worse than the last checkpoint."
    if float(plan.noise_floor) > float(plan.target_risk):
        yield (
            f"No weights on these checkpoints reach the decay's risk: the lowest is {float(plan.noise_floor):.4g}. "
            "Save more often, or decay."
        )
    if float(plan.residual) > 1:
        yield (
            f"The merged point is not the decayed one: their distance is {float(plan.residual):.3g} of the decay's "
            "risk, most of it in gains "
            f"{_band(plan)}."
        )


def _band(plan: xr.Dataset) -> str:
    worst = plan.isel(band=int(plan.band_residual.values.argmax()))
    return f"{float(worst.lowest_gain):.3g} to {float(worst.highest_gain):.3g}"
