r"""The parameters of formulas of the edge of stability, each said once."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import nonnegative, positive, real
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS"]

PARAMETERS = {
    "amplitude": Parameter("X", "flip coefficient times squared distance from the minimum", nonnegative, 0.25),
    "asymmetry": Parameter(r"\zeta", "a third of the third derivative along the sharpest direction", real, 0.5),
    "diffusion": Parameter("D", "variance that is added per time", nonnegative, 0.5, "weight^2 curvature"),
    "drift": Parameter(r"\rho", "see :func:`gap_drift`", positive, 0.125),
    "excess": Parameter(r"e = \eta S - 2", "learning rate times sharpness beyond the edge", real, 0.25),
    "fourth_derivative": Parameter(r"\ell''''(t)", "see ``ProductLoss.derivatives``", real, -2.0),
    "imbalance": Parameter("y^2 - x^2", "of the two factors", real, 3.0),
    "minimum": Parameter("t = xy", "the product at the minimum", real, 1.0),
    "nesterov": replace(SHARED["nesterov"], typical=True),
    "pull": Parameter("k", "back to the minimiser, per time", positive, 0.75),
    "restoring": Parameter(r"\beta = |\nabla S|^2", "", positive, 2.0),
    "second_derivative": Parameter(r"\ell''(t)", "of the outer loss at the minimum", positive, 1.5),
    "sharpening": Parameter(r"\alpha = \langle -\nabla L, \nabla S\rangle", "", positive, 1.5),
    "size": Parameter("|x|", "of the oscillation", positive, 1.25, "weight"),
    "slope": Parameter(r"\ell'(xy)", "at the point", real, 0.5),
    "start_excess": Parameter(r"e_0 = \eta S_0 - 2", "of the minimum that the run leaves", nonnegative, 0.5),
    "third_derivative": Parameter(r"\ell'''(t)", "of the outer loss at the minimum", real, 0.25),
}
