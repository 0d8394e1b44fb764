"""What a run keeps: averages of its iterates, its losses, and whatever instruments measure on the way."""

from __future__ import annotations

import math
import numbers
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import complain
from sgdynamics.simulate.trainer.objective import Objective

Array = NDArray[Any]
Instrument: TypeAlias = Callable[[Objective], Any]
Measure: TypeAlias = Instrument | Mapping[str, Instrument]

# Iterates held back before they are added to the averages; fixed, because it decides the order of the sums.
AVERAGED_AT_ONCE = 64

RESERVED = {
    "loss": ("training loss at the step's weights, all examples, without label noise, weight decay included", "loss"),
    "batch_loss": (
        "loss of the batch of the step at the weights before it, weight decay included; NaN at step 0",
        "loss",
    ),
    "weights": ("weights at the step", "parameter"),
    "final_weights": ("weights at the last step", "parameter"),
    "averaged_weights": ("weighted average of all iterates", "parameter"),
    "averaged_loss": ("training loss at the averaged weights, without label noise, weight decay included", "loss"),
    "divergence_step": ("first step whose weights overflow, -1 if there is none", "1"),
}
COORDINATES = {"step", "time", "average", "parameter", "measured_step", "measured_time"}


class StreamedAverages:
    """Weighted sums of iterates, streamed: no iterate is kept for longer than a block."""

    def __init__(self, averages: Mapping[str, Array], size: int) -> None:
        self.weights = np.array(list(averages.values()))
        self.sums = np.zeros((len(averages), size))
        self.block = np.empty((AVERAGED_AT_ONCE, size))

    def add(self, step: int, iterate: Array) -> None:
        """Take the iterate of a step; steps come in order."""
        row = step % AVERAGED_AT_ONCE
        self.block[row] = iterate
        if row == AVERAGED_AT_ONCE - 1 or step == self.weights.shape[1] - 1:
            self.sums += self.weights[:, step - row : step + 1] @ self.block[: row + 1]


class Record:
    """The losses and weights at the recorded steps; +inf unless filled in."""

    def __init__(self, steps: Array, what: Objective, passes: Any, evaluate_loss: bool, keep_weights: bool) -> None:
        self.what, self.passes = what, passes
        self.wanted = {int(step): row for row, step in enumerate(steps)}
        self.loss = np.full(steps.size, math.inf) if evaluate_loss else None
        self.batch_loss = np.full(steps.size, math.inf)
        self.weights = np.full((steps.size, what.size), math.inf) if keep_weights else None

    def keep(self, step: int, weights: Array, batch_loss: float) -> None:
        """Fill in a recorded step."""
        row = self.wanted[step]
        self.batch_loss[row] = batch_loss
        if self.loss is not None:
            layers = self.what.net.views(weights)
            loss = self.passes.loss_value(layers, self.what.x, self.what.targets)
            if self.what.weight_decay:
                loss += float(self.what.decay(weights))
            self.loss[row] = loss if math.isfinite(loss) else math.inf
        if self.weights is not None:
            self.weights[row] = weights


class Measurements:
    """What instruments say at the measured steps, stacked by name; +inf from divergence on."""

    TEXT = "callables that return the same names, numbers or labelled arrays of the same shape, at every step"

    def __init__(self, measure: Measure, steps: Array, along: str) -> None:
        self.instruments = dict(measure) if isinstance(measure, Mapping) and not callable(measure) else {"": measure}
        self.wanted = {int(step): row for row, step in enumerate(steps)}
        self.count, self.along = steps.size, along
        self.stacked: dict[str, xr.DataArray] = {}
        self.hessian_products = 0.0
        self.seconds = dict.fromkeys(self.instruments, 0.0)

    def _answers(self, here: Objective) -> dict[str, xr.DataArray]:
        found: dict[str, xr.DataArray] = {}
        for label, instrument in self.instruments.items():
            began = time.perf_counter()
            answer = instrument(here)
            self.seconds[label] += time.perf_counter() - began
            if not isinstance(answer, Mapping):
                if not label:
                    raise complain("trajectory", "measure", f"{self.TEXT}, as a mapping", answer, TypeError)
                answer = {label: answer}
            if isinstance(answer, xr.Dataset):
                self.hessian_products += float(answer.attrs.get("hessian_products", 0.0))
            if not all(isinstance(name, str) for name in answer):
                raise complain("trajectory", "measure", "callables whose names are words", list(answer), TypeError)
            twice = sorted(set(answer) & (set(found) | COORDINATES | set(RESERVED)))
            if twice:
                raise complain("trajectory", "measure", "callables whose names are free words, each used once", twice)
            found |= {name: self._labelled(value) for name, value in answer.items()}
        return found

    def _labelled(self, value: Any) -> xr.DataArray:
        if isinstance(value, xr.DataArray):
            if value.dtype.kind not in "biuf" or set(value.dims) & (COORDINATES - {"parameter"}):
                raise complain("trajectory", "measure", self.TEXT, value, TypeError)
            return value.astype(np.float64)
        if not isinstance(value, numbers.Real) and getattr(value, "shape", None) != ():
            raise complain("trajectory", "measure", self.TEXT, value, TypeError)
        return xr.DataArray(float(value))

    def keep(self, step: int, weights: Array, like: Objective) -> None:
        """Measure at a step."""
        answers = self._answers(like.at(weights.copy()))
        if not self.stacked:
            self._prepare(answers)
        if set(answers) != set(self.stacked):
            raise complain("trajectory", "measure", self.TEXT, sorted(answers))
        for name, value in answers.items():
            rows = self.stacked[name]
            if value.dims != rows.dims[1:] or value.shape != rows.shape[1:]:
                raise complain("trajectory", "measure", self.TEXT, value)
            rows.values[self.wanted[step]] = value.values

    def _prepare(self, answers: Mapping[str, xr.DataArray]) -> None:
        try:
            xr.align(*answers.values(), join="exact")
        except ValueError:  # xarray would pad the shorter one with NaN
            sizes = {name: dict(value.sizes) for name, value in answers.items() if value.ndim}
            raise complain("trajectory", "measure", "callables whose dims of one name have one size", sizes) from None
        for name, value in answers.items():
            attributes = {"long_name": f"measured {name}", "units": "1"} | value.attrs
            coordinates = {dim: value.coords[dim] for dim in value.dims if dim in value.coords}
            rows = np.full((self.count, *value.shape), math.inf)
            self.stacked[name] = xr.DataArray(rows, coordinates, (self.along, *value.dims), name, attributes)

    def results(self, start: Objective) -> dict[str, xr.DataArray]:
        """All that was measured; a run that diverged before its first record is asked at the start for the names."""
        if not self.stacked:
            self._prepare(self._answers(start))
        return self.stacked

    def print_cost(self, run_seconds: float) -> None:
        """Say what the instruments cost; on the error stream, because seconds are no part of a result."""
        for label, seconds in self.seconds.items():
            share = 100 * seconds / max(run_seconds, 1e-9)
            print(
                f"{label or 'measure'}: {self.count} times, {seconds:.2f} s, {share:.0f}% of the run", file=sys.stderr
            )
        print(f"{self.hessian_products:.0f} Hessian products in {run_seconds:.2f} s", file=sys.stderr)
