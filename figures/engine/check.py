"""Checks: one claim, the number that is predicted, the number that is measured, and the verdict that follows.

A figure says ``exact("the claim").close(predicted, measured)``: first what is claimed and what kind of statement the
prediction is (``exact``, ``bound``, ``asymptotic``, ``heuristic``, or ``law`` where the prediction itself carries it),
then how it is compared. The verdict is computed, never given:

================  ====================================================================================================
``close``         deterministic: measured equals predicted within a tolerance
``statistical``   Monte Carlo: within four standard errors, small enough to see 2% of a variance or 1% of a mean
``agreement``     the same of ``x_predicted``, ``x_measured`` and ``x_standard_error`` of a Dataset
``below``         an upper bound: measured <= predicted
``above``         a lower bound: measured >= predicted
``positive``      measured is greater than 0
``negative``      measured is less than 0
================  ====================================================================================================

All take numbers, arrays or DataArrays (which are matched by dimension name and must share their coordinates). An array
stands for as many comparisons: the numbers reported are those of the worst entry, and the note says where it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from figures.engine.comparison import margins, matched, place, relative, shares, worst_of
from figures.engine.findings import FINDINGS, LEAST_POWER, Finding

Status = Literal["exact", "bound", "asymptotic", "heuristic"]
Comparison = Literal["close", "below", "above", "sign"]
Verdict = Literal["holds", "fails", "not reproduced", "not comparable"]

# A measurement further than this many standard errors from its prediction is flagged.
STANDARD_ERRORS = 4.0

# The largest relative error of a prediction that a Monte-Carlo check may leave unseen.
WEAKEST = {"variance": 0.02, "mean": 0.01}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of a prediction with a measurement, as a ``Claim`` makes it.

    Attributes
    ----------
    claim, source : str
        What is claimed, and where: a key of ``references.bib`` with the equation or section, or "derived".
    status : str
        What kind of statement the prediction is: "exact", "bound", "asymptotic" or "heuristic".
    comparison : str
        "close", "below", "above" or "sign".
    predicted, measured : float
        The two numbers.
    tolerance, standard_error : float or None
        How far apart they may be: an absolute tolerance, or four standard errors. One of the two is given.
    scale : float
        The size that makes an error of the prediction relative; ``abs(predicted)`` unless the author says otherwise.
    detectable : float or None
        The relative error of the prediction that would be flagged; None where only a sign is compared.
    weakest : float
        The largest ``detectable`` with which the check counts.
    note : str
        Anything a reader should know.
    figure : str
        Name of the figure; the runner fills it in.
    """

    claim: str
    source: str
    status: Status
    comparison: Comparison
    predicted: float
    measured: float
    tolerance: float | None
    standard_error: float | None
    scale: float
    detectable: float | None
    weakest: float = math.inf
    note: str = ""
    figure: str = ""

    def __post_init__(self) -> None:
        if not self.claim.strip() or not self.source.strip():
            raise ValueError("a check needs a claim and a source")
        if self.status not in get_args(Status):
            raise ValueError(f"status is one of {', '.join(get_args(Status))}, not {self.status!r}")
        if self.comparison not in get_args(Comparison):
            raise ValueError(f"comparison is one of {', '.join(get_args(Comparison))}, not {self.comparison!r}")
        if (self.tolerance is None) == (self.standard_error is None):
            raise ValueError("a check has a tolerance or a standard error, not both")
        if self.standard_error is not None and not 0 < self.standard_error < math.inf:
            raise ValueError(f"a standard error is positive and finite, not {self.standard_error}")
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise ValueError(f"a tolerance is finite and not negative, not {self.tolerance}")
        if self.finding and self.status != "heuristic":
            raise ValueError(f"a check of an {self.status} formula holds or fails and nothing else: {self.claim}")

    @property
    def allowance(self) -> float:
        """How far the measurement may be from the prediction."""
        return STANDARD_ERRORS * self.standard_error if self.standard_error is not None else self.tolerance or 0.0

    @property
    def z(self) -> float | None:
        """The deviation in standard errors; of a sign check, the distance from zero."""
        if self.standard_error is None:
            return None
        expected = 0.0 if self.comparison == "sign" else self.predicted
        return (self.measured - expected) / self.standard_error

    @property
    def agrees(self) -> bool:
        """Whether the two numbers agree, however weak the comparison. NaN agrees with nothing."""
        match self.comparison:
            case "close":  # Equality first: +inf predicted and +inf measured agree.
                return self.measured == self.predicted or abs(self.measured - self.predicted) < self.allowance
            case "below":
                return self.measured <= self.predicted + self.allowance
            case "above":
                return self.measured >= self.predicted - self.allowance
            case "sign":
                return self.measured * self.predicted > self.allowance

    @property
    def finding(self) -> Finding | None:
        """What is known of the claim, if it is one that networks here do not bear out."""
        return FINDINGS.get(self.claim)

    @property
    def power(self) -> float | None:
        """The probability of seeing the effect of a claim that is not reproduced, were it there; else None."""
        if self.finding is None or self.finding.verdict != "not reproduced":
            return None
        return self.finding.power_at(self.standard_error, STANDARD_ERRORS)

    @property
    def verdict(self) -> Verdict:
        """What follows from the numbers, and of a claim about networks that does not hold, from its finding.

        "Not reproduced" needs an experiment that would have seen the effect, see ``findings``.
        """
        if self.agrees:
            return "fails" if self.too_weak else "holds"
        if self.finding is None or math.isnan(self.measured):
            return "fails"
        if self.finding.verdict == "not reproduced" and not (self.power or 0.0) >= LEAST_POWER:
            return "fails"
        return self.finding.verdict

    @property
    def found(self) -> str:
        """What was found of a claim that is not reproduced or not comparable, by what experiment; nothing of others."""
        if self.finding is None or self.verdict in ("holds", "fails"):
            return ""
        seen = ""
        if self.power is not None:
            size = "" if self.finding.effect is None else f" of {self.finding.effect:g}"
            seen = f" An effect{size} would have been seen with probability {min(self.power, 0.999):.2g}."
        return f"{self.finding.sentence} Experiment: {self.finding.experiment}, {self.finding.starts} starts.{seen}"

    @property
    def too_weak(self) -> bool:
        """Whether a wrong prediction could have passed unseen."""
        return self.detectable is not None and not self.detectable <= self.weakest

    def to_dict(self) -> dict[str, Any]:
        """The check with its verdict, ready for JSON, which has no infinities: they become "inf", "-inf" and "nan"."""
        values = dataclasses.asdict(self) | {"z": self.z, "verdict": self.verdict, "found": self.found}
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` wrote; a verdict that does not follow from the numbers is refused."""
        read = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        for name in ("predicted", "measured", "tolerance", "standard_error", "scale", "detectable", "weakest"):
            read[name] = None if read[name] is None else float(read[name])
        check = cls(**read)
        if check.verdict != values["verdict"]:
            raise ValueError(f"the verdict is {check.verdict!r}, not {values['verdict']!r}: {check.claim}")
        return check


@dataclass(frozen=True)
class Claim:
    """What is said of a figure; its methods compare it with the numbers and give the check.

    All methods take numbers, arrays or DataArrays, the prediction first, and a ``note`` for the reader. Where ``scale``
    is given, it is what an error is relative to, by default ``abs(predicted)``.

    Attributes
    ----------
    claim : str
        In words.
    status : {"exact", "bound", "asymptotic", "heuristic"}, optional
        What kind of statement the prediction is; by default what its law says of it, in attributes of ``predicted``.
    source : str, optional
        A key of ``references.bib`` with the equation or section, or "derived"; by default that of the law, too.
    """

    claim: str
    status: Status | None = None
    source: str | None = None

    def close(
        self,
        predicted: ArrayLike,
        measured: ArrayLike,
        *,
        tolerance: ArrayLike = 0.0,
        absolute: ArrayLike = 0.0,
        scale: ArrayLike | None = None,
        note: str = "",
    ) -> Check:
        """Measured equals predicted, within ``tolerance * scale + absolute``; without either, exactly.

        Infinity equals infinity.
        """
        return self._compared(
            "close", predicted, measured, tolerance=tolerance, absolute=absolute, scale=scale, note=note
        )

    def statistical(
        self,
        predicted: ArrayLike,
        measured: ArrayLike,
        standard_error: ArrayLike,
        kind: Literal["variance", "mean"],
        *,
        scale: ArrayLike | None = None,
        weakest: float | None = None,
        reason: str = "",
        note: str = "",
    ) -> Check:
        """Measured equals predicted within four standard errors, and they are small enough for that to mean something.

        Parameters
        ----------
        predicted, measured, standard_error, scale, note
            See the class; the standard error is of the measurement, and positive. A prediction of 0 needs a scale.
        kind : {"variance", "mean"}
            Which limit holds for the detectable error, ``4 * standard_error / scale`` at its largest: 2% or 1%.
        weakest : float, optional
            Another limit for the detectable error, for experiments with networks; with a reason.
        reason : str
            Why no better limit can be had.
        """
        if (weakest is None) != (not reason.strip()):
            raise ValueError("a limit of its own for the detectable error (weakest) goes with a reason, and only then")
        return self._compared(
            "close",
            predicted,
            measured,
            standard_error=standard_error,
            scale=scale,
            weakest=WEAKEST[kind] if weakest is None else weakest,
            note=_joined(note, reason),
        )

    def agreement(self, data: xr.Dataset, name: str, kind: Literal["variance", "mean"], **options: Any) -> Check:
        """``statistical`` of one quantity of a figure: ``x_predicted``, ``x_measured`` and ``x_standard_error``."""
        predicted, measured, error = (data[f"{name}_{part}"] for part in ("predicted", "measured", "standard_error"))
        return self.statistical(predicted, measured, error, kind, **options)

    def below(
        self,
        limit: ArrayLike,
        measured: ArrayLike,
        standard_error: ArrayLike | None = None,
        *,
        tolerance: ArrayLike = 0.0,
        note: str = "",
    ) -> Check:
        """Measured is at most the limit, but for a relative ``tolerance`` or four standard errors of the measurement.

        ``detectable`` is the fraction by which the limit could be lowered before the measurement breaks it.
        """
        return self._compared("below", limit, measured, tolerance=tolerance, standard_error=standard_error, note=note)

    def above(
        self,
        limit: ArrayLike,
        measured: ArrayLike,
        standard_error: ArrayLike | None = None,
        *,
        tolerance: ArrayLike = 0.0,
        note: str = "",
    ) -> Check:
        """Measured is at least the limit; otherwise as ``below``."""
        return self._compared("above", limit, measured, tolerance=tolerance, standard_error=standard_error, note=note)

    def positive(self, measured: ArrayLike, standard_error: ArrayLike | None = None, *, note: str = "") -> Check:
        """Measured is positive, by four standard errors if there are any."""
        return self._compared("sign", 1, measured, standard_error=standard_error, note=note)

    def negative(self, measured: ArrayLike, standard_error: ArrayLike | None = None, *, note: str = "") -> Check:
        """Measured is negative, by four standard errors if there are any."""
        return self._compared("sign", -1, measured, standard_error=standard_error, note=note)

    def _compared(
        self,
        comparison: Comparison,
        predicted: ArrayLike,
        measured: ArrayLike,
        *,
        tolerance: ArrayLike = 0.0,
        absolute: ArrayLike = 0.0,
        standard_error: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        weakest: float = math.inf,
        note: str,
    ) -> Check:
        """Compare entry by entry and keep the numbers of the worst, but the detectable error of the weakest."""
        status, source = self._grounds(predicted)
        statistical = standard_error is not None
        entries = matched(
            predicted=predicted,
            measured=measured,
            tolerance=tolerance,
            absolute=absolute,
            standard_error=standard_error if statistical else 0.0,
            scale=scale,
        )
        predictions, measurements, tolerances, absolutes, errors, scales = (entry.values for entry in entries.values())
        if np.isnan(predictions).any():
            raise ValueError(f"a prediction is NaN: {self.claim}")
        if statistical and not np.all(errors > 0):
            raise ValueError("a standard error is positive and finite")
        # An infinite prediction is met exactly or not at all.
        finite_scales = np.where(np.isinf(scales), 0.0, scales)
        allowances = STANDARD_ERRORS * errors if statistical else tolerances * finite_scales + absolutes

        detectable: float | None
        if comparison == "close":
            worst = worst_of(shares(predictions, measurements, allowances))
            detectable = float(relative(allowances, scales).max())
        else:
            room = relative(margins(comparison, predictions, measurements, allowances), scales)
            worst = worst_of(-room)
            detectable = None if comparison == "sign" else max(0.0, float(room[worst]))
        weak = detectable is not None and detectable > weakest
        weakness = f"too weak: it flags errors from {detectable:.2g} on, not from {weakest:.2g}" if weak else ""
        return Check(
            claim=self.claim,
            source=source,
            status=status,
            comparison=comparison,
            predicted=float(predictions[worst]),
            measured=float(measurements[worst]),
            tolerance=None if statistical else float(allowances[worst]),
            standard_error=float(errors[worst]) if statistical else None,
            scale=float(scales[worst]),
            detectable=detectable,
            weakest=weakest,
            note=_joined(weakness, note, place(entries["predicted"], worst)),
        )

    def _grounds(self, predicted: ArrayLike) -> tuple[Status, str]:
        """Status and source: as said, or as stamped on the prediction by its law."""
        stamped = predicted.attrs if isinstance(predicted, xr.DataArray) else {}
        status = stamped.get("status") if self.status is None else self.status
        source = stamped.get("source") if self.source is None else self.source
        if status is None or source is None:
            raise ValueError(f"neither the claim nor its prediction says status and source: {self.claim}")
        return status, source


def exact(claim: str, source: str = "derived") -> Claim:
    """A claim whose prediction is exact."""
    return Claim(claim, "exact", source)


def bound(claim: str, source: str = "derived") -> Claim:
    """A claim whose prediction is a bound."""
    return Claim(claim, "bound", source)


def asymptotic(claim: str, source: str = "derived") -> Claim:
    """A claim whose prediction is approached in a limit."""
    return Claim(claim, "asymptotic", source)


def heuristic(claim: str, source: str = "derived") -> Claim:
    """A claim whose prediction is an approximation without a proof, or of networks."""
    return Claim(claim, "heuristic", source)


def law(claim: str) -> Claim:
    """A claim whose prediction is the value of a law, which says of it what kind it is and where it comes from."""
    return Claim(claim)


def perturbed(check: Check, factor: float = 2.0) -> Check:
    """The check with its prediction wrong by ``factor`` times the detectable error; from 2 on it must fail.

    A bound is moved against the measurement (for a negative factor, away from it).
    """
    if check.detectable is None:
        raise ValueError(f"only a sign is compared, no error of a size is detectable: {check.claim}")
    direction = -1 if check.comparison == "below" else 1
    return dataclasses.replace(check, predicted=check.predicted + direction * factor * check.detectable * check.scale)


def _joined(*notes: str) -> str:
    return "; ".join(note.strip() for note in notes if note.strip())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
