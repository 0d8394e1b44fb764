r"""The parameters of formulas of deep linear networks, each said once."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import Interval, count, positive, real
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS"]

_fraction_learned = Interval("a number in (0, 1)", low=0, high=1)
_cycle_ratio = Interval("a finite number > 1", low=1)

PARAMETERS = {
    "depth": Parameter("D", "number of weight matrices, or of weights of a chain", count, 3.0),
    "flow_sharpness": Parameter(
        "S",
        "of the solution of the flow from the start, ``ScalarChain.flow_sharpness``",
        positive,
        4.0,
        "1/learning rate",
    ),
    "fraction": Parameter(
        "p = a(t)/s", "what has been learned; below the start the time is negative", _fraction_learned, 0.75
    ),
    "imbalance": Parameter(r"\Delta", "difference of the squared weights, which the flow keeps", real, 0.5, "weight^2"),
    "input_value": Parameter(
        "s_b", "singular value of the target on the side of the inputs", positive, 0.5, "output/input"
    ),
    "inputs": Parameter("d", "number of inputs", count, 4.0),
    "output_value": Parameter(
        "s_a", "singular value of the target on the side of the outputs", positive, 2.0, "output/input"
    ),
    "ratio": Parameter("z", "the larger of the two values of the cycle over the smaller", _cycle_ratio, 1.25),
    "residual": Parameter("f - y", "before the step", real, 0.5, "output"),
    "singular_value": Parameter("s", "of the target", positive, 2.0, "output/input"),
    "start": Parameter(
        "a_0", "strength at the start, which may exceed the singular value", positive, 0.25, "output/input"
    ),
    "start_fraction": Parameter("p_0 = a_0/s", "what is there at the start", _fraction_learned, 0.25),
    "target": Parameter("y", "", real, 1.5, "output/input"),
    "time": replace(SHARED["time"], typical=0.5),
    "weight": Parameter("w", "one of the equal weights", positive, 1.25, "weight"),
    "width": Parameter("n", "of every hidden layer", count, 8.0),
}
