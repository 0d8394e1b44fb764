r"""Estimates with intervals, from records along one run, whose neighbours are correlated."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory.diagnosis.memory import FEWEST, line

Array = NDArray[np.float64]

BLOCKS = 30
_RESAMPLES = 1999
# A mean that is nearer to 0 than this many standard errors is no denominator.
_FAR_FROM_ZERO = 4.0


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; infinite where the records do not bound it."""

    value: float
    lower: float
    upper: float
    long_name: str

    @property
    def identifiable(self) -> bool:
        """Whether the records bound it from both sides."""
        return bool(np.isfinite(self.lower) and np.isfinite(self.upper))


def block_means(values: Array, blocks: int) -> Array:
    """Means over contiguous blocks of one length along the first axis; what fills no block is left out at the start."""
    length = values.shape[0] // blocks
    kept = values[values.shape[0] - length * blocks :]
    made: Array = kept.reshape(blocks, length, *values.shape[1:]).mean(axis=1)
    return made


def ratio_of_means(
    numerator: Array,
    denominator: Array,
    *,
    blocks: int,
    confidence: float,
    seed: int,
    long_name: str,
    lasting: bool = False,
) -> Estimate:
    """The ratio of two means along a run, with a bias-corrected block-bootstrap interval.

    ``lasting`` errors may outlast a block: the interval is widened by what blocks remember of each other, and unbounded
    where that is a tenth of the record or more. Slopes along steps have none: fresh batches err independently, and what
    the run itself swings back and forth adds up to the change of its loss. Unbounded, too, where there are fewer than
    four blocks, and where the denominator cannot be told from 0.
    """
    from scipy.stats import bootstrap

    blocks = min(blocks, numerator.size)
    above, below = block_means(numerator, blocks), block_means(denominator, blocks)
    value = float(above.mean() / below.mean()) if below.mean() else np.nan
    spread = float(below.std(ddof=1)) if blocks > 1 else 0.0
    if blocks < FEWEST or abs(below.mean()) <= _FAR_FROM_ZERO * spread / np.sqrt(blocks):
        return Estimate(0.0 if np.isnan(value) else value, -np.inf, np.inf, long_name)
    errors = above - value * below
    if np.ptp(above * below.mean() - below * above.mean()) == 0:  # every block says the same
        return Estimate(value, value, value, long_name)
    remembered = line(errors, np.arange(float(blocks)), numerator.size // blocks, of="middle") if lasting else None
    if remembered is not None and remembered.hidden:
        return Estimate(value, -np.inf, np.inf, long_name)

    def ratio(above: Array, below: Array, axis: int = -1) -> Array:
        made: Array = above.mean(axis=axis) / below.mean(axis=axis)
        return made

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a degenerate resampling is met below
        interval = bootstrap(
            (above, below),
            ratio,
            paired=True,
            n_resamples=_RESAMPLES,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    lower, upper = float(interval.low), float(interval.high)
    if np.isnan(lower) or np.isnan(upper):
        lower, upper = -np.inf, np.inf
    wider = 1.0 if remembered is None else remembered.inflation(confidence)
    return Estimate(value, value - wider * (value - lower), value + wider * (upper - value), long_name)


def table(estimates: Mapping[str, Estimate], *, confidence: float, outcome: Outcome | None = None) -> xr.Dataset:
    """Estimates by ``quantity``, as rows of a table."""
    rows = list(estimates.values())
    columns = {
        "estimate": ([row.value for row in rows], "estimate"),
        "lower": ([row.lower for row in rows], "lower end of the interval"),
        "upper": ([row.upper for row in rows], "upper end of the interval"),
    }
    data = xr.Dataset(
        {
            name: ("quantity", np.array(values, dtype=float), {"long_name": text, "units": "1"})
            for name, (values, text) in columns.items()
        },
        coords={
            "quantity": ("quantity", np.array(list(estimates), dtype=str), {"long_name": "quantity"}),
            "meaning": ("quantity", np.array([row.long_name for row in rows], dtype=str), {"long_name": "meaning"}),
        },
        attrs={"confidence": confidence},
    )
    bounded = np.array([row.identifiable for row in rows], dtype=np.int8)
    data["identifiable"] = ("quantity", bounded, {"long_name": "whether the records bound it from both sides"})
    if outcome is not None:
        data["outcome"] = ((), np.int8(outcome), outcome_attributes(*VERDICTS))
        data.attrs["verdict"] = outcome.sentence
    return data


VERDICTS = (
    Outcome.NOISE_LIMITED,
    Outcome.STILL_DESCENDING,
    Outcome.LOSS_RISING,
    Outcome.UNDECIDED,
    Outcome.DIVERGED,
)
