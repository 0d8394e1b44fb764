"""Schedules in words: ``cosine:72000:3e-4`` is a cosine of 72,000 steps from 3e-4 to 0."""

from __future__ import annotations

from typing import Any

from sgdynamics.cli._options import LONGEST

FORM = (
    "SHAPE:STEPS:PEAK[:FINAL], SHAPE one of constant, cosine, linear; or wsd:STEPS:PEAK:DECAY[:FINAL], a plateau and a "
    "linear decay over the last part DECAY of the steps"
)
_SHAPES = ("constant", "cosine", "linear", "wsd")


def schedule_of(words: str, warmup: int = 0, *, option: str = "--predict") -> Any:
    """Learning rates of every step, after a linear warm-up."""
    import numpy as np

    from sgdynamics.models import schedules

    shape, *given = words.split(":")
    try:
        steps, (peak, *others) = int(given[0]), [float(number) for number in given[1:]]
    except (IndexError, ValueError):
        raise _complaint(option, words) from None
    decay = others.pop(0) if shape == "wsd" and others else None
    final = others.pop(0) if others else 0.0
    if (
        shape not in _SHAPES
        or steps < 1
        or others
        or not 0 <= final <= peak < float("inf")
        or not peak > 0
        or (shape == "wsd") != (decay is not None)
        or (decay is not None and not 0 < decay <= 1)
        or (shape == "constant" and final)
    ):
        raise _complaint(option, words)
    if steps > LONGEST:
        raise ValueError(f"{option} must be of at most {LONGEST} steps, got {words!r}")
    if not 0 <= warmup < steps:
        raise ValueError(f"--warmup must be below the {steps} steps of {words!r}, got {warmup}")
    ramp, rest = peak * np.arange(1, warmup + 1) / max(warmup, 1), steps - warmup
    if shape == "wsd":
        last = min(max(1, round((decay or 1.0) * steps)), rest)
        parts = [ramp, np.full(rest - last, peak), schedules.linear(peak, last, final=final)]
    elif shape == "constant":
        parts = [ramp, schedules.constant(peak, rest)]
    else:
        parts = [ramp, getattr(schedules, shape)(peak, rest, final=final)]
    return np.concatenate(parts)


def _complaint(option: str, words: str) -> ValueError:
    return ValueError(f"{option} must be {FORM}, got {words!r}")


def read_rates(path: str, option: str) -> Any:
    """Learning rates from a file, one a line; what follows a # is passed over."""
    import numpy as np

    needed = f"{option} must hold learning rates, one a line"
    rows = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for place, line in enumerate(file, 1):
                numbers = line.partition("#")[0].split()
                try:
                    rows += [[float(number) for number in numbers]] if numbers else []
                except ValueError:
                    raise ValueError(f"{needed}, unlike {line.strip()!r} in line {place}: {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{needed}, in text: {path}") from None
    if not rows or (len(rows) > 1 and max(map(len, rows)) > 1):
        there = "nothing" if not rows else f"{max(map(len, rows))} of them"
        raise ValueError(f"{needed}, and holds {there}: {path}")
    return np.concatenate([np.array(row) for row in rows])
