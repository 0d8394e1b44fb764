"""Forecasts of published loss curves of language models, beside the multi-power law with its published numbers.

The folder holds nine curves of one model as CSV (step, lr, loss), by the names that they were published under. Three
are fitted, six foretold; the table has the mean absolute error of the loss of each. Of the multi-power law six numbers
are the published ones and the floor is fitted to the same three curves, by the median of what they leave: with the
floor that is quoted for this model it is off by 0.13 everywhere. The curves are not part of this project.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgdynamics.theory.forecast import fit, predict

Array = NDArray[np.float64]

PEAK, LOW, RISE, DECAY_FROM, DROP_AT = 3e-4, 3e-5, 2160, 20_000, 8000
FITTED = ("cosine_24000", "constant_24000", "wsdcon_9")
FORETOLD = ("constant_72000", "cosine_72000", "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_3", "wsdcon_18")
# Luo et al. 2025, the model of 100M parameters: start, alpha, drop, speed, beta, gamma.
PUBLISHED = (0.601, 0.453, 437.9, 2.132, 0.598, 0.655)


def rates_of(name: str) -> Array:
    """The schedule of a run by its name; the logged rates are rounded to the logged steps."""
    kind, *numbers = name.split("_")
    steps = 2 * DROP_AT if kind == "wsdcon" else int(numbers[-1])
    at = np.arange(1, steps + 1)
    late = np.clip((at - DECAY_FROM) / 4000, 0, None)
    if kind == "constant":
        rates = np.full(steps, PEAK)
    elif kind == "cosine":
        rates = LOW + (PEAK - LOW) * (1 + np.cos(np.pi * (at - RISE) / (steps - RISE))) / 2
    elif kind == "wsd":
        rates = PEAK * (LOW / PEAK) ** late
    elif kind == "wsdld":
        rates = PEAK + (LOW - PEAK) * late
    else:
        rates = np.where(at <= DROP_AT, PEAK, 1e-5 * int(numbers[0]))
    return np.where(at <= RISE, PEAK * at / RISE, rates)


def curve(folder: Path, name: str) -> tuple[Array, NDArray[np.int64], Array]:
    """Schedule, steps and losses of one run."""
    rates = rates_of(name)
    step, _, loss = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1).T
    return rates, np.minimum(step, rates.size).astype(np.int64), loss


def multi_power(rates: Array, record: NDArray[np.int64]) -> Array:
    """The multi-power law with its published numbers, above its floor."""
    start, alpha, drop, speed, beta, gamma = PUBLISHED
    time_at = np.cumsum(rates)
    fallen = np.flatnonzero(np.diff(rates) < 0) + 1
    height, rate, begun = rates[fallen - 1] - rates[fallen], rates[fallen], time_at[fallen - 1]
    found = []
    for step in record:
        since = time_at[step - 1] - begun[fallen < step]
        part = height[fallen < step] * (1 - (1 + speed * rate[fallen < step] ** -gamma * since) ** -beta)
        found.append(start * time_at[step - 1] ** -alpha - drop * part.sum())
    return np.array(found)


def table(folder: Path) -> tuple[list[tuple[str, float, float]], float]:
    """Name, our error and that of the multi-power law of every foretold curve; CPU seconds of the fit and forecasts."""
    runs = [curve(folder, name) for name in FITTED]
    others = [curve(folder, name) for name in FORETOLD]
    before = time.process_time()
    fitted = fit(runs)
    made = [predict(fitted, rates, record=record).loss.values for rates, record, _ in others]
    seconds = time.process_time() - before
    left = [loss - multi_power(rates, record) for rates, record, loss in runs]
    floor = float(np.median(np.concatenate(left)))
    rows = []
    for name, ours, (rates, record, loss) in zip(FORETOLD, made, others, strict=True):
        theirs = floor + multi_power(rates, record)
        rows.append((name, float(np.abs(ours - loss).mean()), float(np.abs(theirs - loss).mean())))
    return rows, seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss_curves", description=__doc__)
    parser.add_argument("folder", type=Path, help="with cosine_24000.csv and the others")
    rows, seconds = table(parser.parse_args().folder)
    print(f"{'mean absolute error':22s}{'this law':>12s}{'multi-power':>14s}")
    for name, ours, theirs in [*rows, ("mean", *np.mean([row[1:] for row in rows], axis=0))]:
        print(f"{name:22s}{ours:12.5f}{theirs:14.5f}")
    print(f"fit and six forecasts: {seconds:.2f} s of CPU")


if __name__ == "__main__":
    main()
