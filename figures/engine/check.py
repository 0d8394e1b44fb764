"""Checks: one claim, the number that is predicted, the number that is measured, and the verdict that follows.

A figure's author picks the constructor that says what is compared; the verdict is computed, never given:

=====================  ===============================================================================================
``Check.close``        deterministic: measured equals predicted within a tolerance
``Check.statistical``  Monte Carlo: within four standard errors, small enough to see 2% of a variance or 1% of a mean
``Check.below``        an upper bound: measured <= predicted
``Check.above``        a lower bound: measured >= predicted
``Check.sign``         measured has the predicted sign
=====================  ===============================================================================================

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
from numpy.typing import ArrayLike, NDArray

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
    """One comparison of a prediction with a measurement. Use the constructors below.

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

    @classmethod
    def close(
        cls,
        *,
        claim: str,
        source: str,
        status: Status,
        predicted: ArrayLike,
        measured: ArrayLike,
        tolerance: ArrayLike = 0.0,
        absolute: ArrayLike = 0.0,
        scale: ArrayLike | None = None,
        note: str = "",
    ) -> Self:
        """Measured equals predicted, within ``tolerance * scale + absolute``; without either, exactly.

        Parameters
        ----------
        claim, source, status, note : str
            See the class.
        predicted, measured : array_like
            What is compared; +inf equals +inf.
        tolerance : array_like
            Relative tolerance.
        absolute : array_like
            Absolute tolerance.
        scale : array_like, optional
            What the tolerance is relative to; ``abs(predicted)`` by default.
        """
        return cls._compared(
            "close",
            predicted,
            measured,
            claim=claim,
            source=source,
            status=status,
            tolerance=tolerance,
            absolute=absolute,
            scale=scale,
            note=note,
        )

    @classmethod
    def statistical(
        cls,
        *,
        claim: str,
        source: str,
        status: Status,
        predicted: ArrayLike,
        measured: ArrayLike,
        standard_error: ArrayLike,
        kind: Literal["variance", "mean"],
        scale: ArrayLike | None = None,
        weakest: float | None = None,
        reason: str = "",
        note: str = "",
    ) -> Self:
        """Measured equals predicted within four standard errors, and they are small enough for that to mean something.

        Parameters
        ----------
        claim, source, status, note : str
            See the class.
        predicted, measured : array_like
            What is compared.
        standard_error : array_like
            Of the measurement; positive.
        kind : {"variance", "mean"}
            Which limit holds for the detectable error, ``4 * standard_error / scale`` at its largest: 2% or 1%.
        scale : array_like, optional
            What an error is relative to; ``abs(predicted)`` by default. Needed where the prediction is 0.
        weakest : float, optional
            Another limit for the detectable error, for experiments with networks; with a reason.
        reason : str
            Why no better limit can be had.
        """
        if (weakest is None) != (not reason.strip()):
            raise ValueError("a limit of its own for the detectable error (weakest) goes with a reason, and only then")
        return cls._compared(
            "close",
            predicted,
            measured,
            claim=claim,
            source=source,
            status=status,
            standard_error=standard_error,
            scale=scale,
            weakest=WEAKEST[kind] if weakest is None else weakest,
            note=_joined(note, reason),
        )

    @classmethod
    def below(
        cls,
        *,
        claim: str,
        source: str,
        status: Status,
        predicted: ArrayLike,
        measured: ArrayLike,
        tolerance: ArrayLike = 0.0,
        standard_error: ArrayLike | None = None,
        note: str = "",
    ) -> Self:
        """Measured is at most predicted.

        ``detectable`` is the fraction by which the bound could be lowered before the measurement breaks it.

        Parameters
        ----------
        claim, source, status, note : str
            See the class.
        predicted, measured : array_like
            The bound and what it bounds.
        tolerance : array_like
            Relative allowance for rounding.
        standard_error : array_like, optional
            Of the measurement; four are allowed then, in place of the tolerance.
        """
        return cls._compared(
            "below",
            predicted,
            measured,
            claim=claim,
            source=source,
            status=status,
            tolerance=tolerance,
            standard_error=standard_error,
            note=note,
        )

    @classmethod
    def above(
        cls,
        *,
        claim: str,
        source: str,
        status: Status,
        predicted: ArrayLike,
        measured: ArrayLike,
        tolerance: ArrayLike = 0.0,
        standard_error: ArrayLike | None = None,
        note: str = "",
    ) -> Self:
        """Measured is at least predicted; otherwise as ``below``."""
        return cls._compared(
            "above",
            predicted,
            measured,
            claim=claim,
            source=source,
            status=status,
            tolerance=tolerance,
            standard_error=standard_error,
            note=note,
        )

    @classmethod
    def sign(
        cls,
        *,
        claim: str,
        source: str,
        status: Status,
        predicted: int,
        measured: ArrayLike,
        standard_error: ArrayLike | None = None,
        note: str = "",
    ) -> Self:
        """Measured has the predicted sign, by four standard errors if there are any.

        Parameters
        ----------
        claim, source, status, note : str
            See the class.
        predicted : {1, -1}
            The sign.
        measured : array_like
            What has it.
        standard_error : array_like, optional
            Of the measurement.
        """
        if predicted not in (1, -1):
            raise ValueError(f"a sign is 1 or -1, not {predicted}")
        return cls._compared(
            "sign",
            predicted,
            measured,
            claim=claim,
            source=source,
            status=status,
            standard_error=standard_error,
            note=note,
        )

    @classmethod
    def _compared(
        cls,
        comparison: Comparison,
        predicted: ArrayLike,
        measured: ArrayLike,
        *,
        claim: str,
        source: str,
        status: Status,
        tolerance: ArrayLike = 0.0,
        absolute: ArrayLike = 0.0,
        standard_error: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        weakest: float = math.inf,
        note: str,
    ) -> Self:
        """Compare entry by entry and keep the numbers of the worst, but the detectable error of the weakest."""
        statistical = standard_error is not None
        entries = _matched(
            predicted=predicted,
            measured=measured,
            tolerance=tolerance,
            absolute=absolute,
            standard_error=standard_error if statistical else 0.0,
            scale=scale,
        )
        predictions, measurements, tolerances, absolutes, errors, scales = (entry.values for entry in entries.values())
        if np.isnan(predictions).any():
            raise ValueError(f"a prediction is NaN: {claim}")
        if statistical and not np.all(errors > 0):
            raise ValueError("a standard error is positive and finite")
        # An infinite prediction is met exactly or not at all.
        finite_scales = np.where(np.isinf(scales), 0.0, scales)
        allowances = STANDARD_ERRORS * errors if statistical else tolerances * finite_scales + absolutes

        detectable: float | None
        if comparison == "close":
            worst = _worst(_shares(predictions, measurements, allowances))
            detectable = float(_relative(allowances, scales).max())
        else:
            margins = _relative(_margins(comparison, predictions, measurements, allowances), scales)
            worst = _worst(-margins)
            detectable = None if comparison == "sign" else max(0.0, float(margins[worst]))
        weak = detectable is not None and detectable > weakest
        weakness = f"too weak: it flags errors from {detectable:.2g} on, not from {weakest:.2g}" if weak else ""
        return cls(
            claim=claim,
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
            note=_joined(weakness, note, _place(entries["predicted"], worst)),
        )


def perturbed(check: Check, factor: float = 2.0) -> Check:
    """The check with its prediction wrong by ``factor`` times the detectable error; from 2 on it must fail.

    A bound is moved against the measurement (for a negative factor, away from it).
    """
    if check.detectable is None:
        raise ValueError(f"only a sign is compared, no error of a size is detectable: {check.claim}")
    direction = -1 if check.comparison == "below" else 1
    return dataclasses.replace(check, predicted=check.predicted + direction * factor * check.detectable * check.scale)


def _matched(**values: ArrayLike | None) -> dict[str, xr.DataArray]:
    """Broadcast everything to one shape, labelled arrays by name. No scale means the size of the prediction."""
    if any(isinstance(value, xr.DataArray) for value in values.values()):
        for name, value in values.items():
            if not isinstance(value, xr.DataArray) and np.ndim(0.0 if value is None else value):
                raise ValueError(f"{name} has no dimension names while other arguments of the check have them")
        given = {name: xr.DataArray(value).astype(float) for name, value in values.items() if value is not None}
        labelled = xr.broadcast(*xr.align(*given.values(), join="exact"))
        entries = dict(zip(given, labelled, strict=True))
    else:
        given_arrays = {name: np.asarray(value, dtype=float) for name, value in values.items() if value is not None}
        arrays = np.broadcast_arrays(*given_arrays.values())
        entries = {name: xr.DataArray(array) for name, array in zip(given_arrays, arrays, strict=True)}
    if not entries["predicted"].size:
        raise ValueError("a check needs at least one number to compare")
    if entries.get("scale") is None:
        entries["scale"] = abs(entries["predicted"])
    return entries


def _shares(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], allowed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Deviations as shares of what is allowed; infinite if nothing is allowed, or if the deviation is NaN."""
    with np.errstate(invalid="ignore"):
        deviations = np.where(predicted == measured, 0.0, abs(predicted - measured))
    shares = np.where(deviations == 0, 0.0, np.inf)
    return np.divide(deviations, allowed, out=shares, where=(allowed > 0) & ~np.isnan(deviations))


def _margins(
    comparison: Comparison,
    predicted: NDArray[np.float64],
    measured: NDArray[np.float64],
    allowed: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How far the measurement is on the right side of a bound, or of zero; negative if it is not."""
    if comparison == "sign":
        return predicted * measured - allowed
    side = -1.0 if comparison == "below" else 1.0
    with np.errstate(invalid="ignore"):
        return np.where(measured == predicted, 0.0, side * (measured - predicted)) + allowed


def _relative(sizes: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """``sizes / scales``, where 0/0 is 0, x/0 is infinite and anything finite is nothing against an infinite scale."""
    relative = np.where(sizes == 0, 0.0, np.copysign(np.inf, sizes))
    with np.errstate(invalid="ignore"):
        np.divide(sizes, scales, out=relative, where=scales > 0)
    both_infinite = np.isinf(sizes) & np.isinf(scales)
    return np.where(both_infinite, np.sign(sizes), relative)


def _worst(badness: NDArray[np.float64]) -> tuple[int, ...]:
    # argmax takes NaN for the largest: what cannot be compared is the worst.
    return tuple(int(index) for index in np.unravel_index(np.argmax(badness), badness.shape))


def _place(compared: xr.DataArray, worst: tuple[int, ...]) -> str:
    """Which entry the worst of many is: by coordinates where it has any, otherwise by index."""
    if compared.size == 1:
        return ""
    where = ", ".join(
        f"{name}={compared[name].values[index]:.4g}"
        if name in compared.coords and np.issubdtype(compared[name].dtype, np.number)
        else f"{name}={compared[name].values[index]}"
        for name, index in zip(map(str, compared.dims), worst, strict=True)
    )
    return f"worst of {compared.size}, at {where}"


def _joined(*notes: str) -> str:
    return "; ".join(note.strip() for note in notes if note.strip())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
