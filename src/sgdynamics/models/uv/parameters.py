r"""The parameters of formulas of the uv network, each said once."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import Domain, Interval, choice, count, nonnegative, positive, real, unit_interval
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS", "START_NTK", "START_OUTPUT", "alignment_range", "at_least_one", "catapulting", "units_of_c"]

alignment_range: Interval = Interval("a number in [-1, 1]", low=-1, high=1, low_open=False, high_open=False)
at_least_one: Interval = Interval("a number >= 1", low=1, low_open=False)
below_critical: Interval = Interval("a number in (0, 1)", low=0, high=1)
catapulting: Interval = Interval("a number in (2, 4), where the catapult is", low=2, high=4)
start_ratio_range: Interval = Interval("a number in [0, 1/4]", low=0, high=0.25, low_open=False, high_open=False)
units_of_c: Domain = choice("ntk", "hessian")
_below_edge = Interval("a number in [0, 2)", low=0, high=2, low_open=False)

PARAMETERS = {
    "alignment": Parameter(r"\delta_0 = 2\sqrt\kappa f_0/\lambda_0", "of the start", alignment_range, 0.5),
    "c": Parameter("c", "learning rate times kernel of the start", catapulting, 2.625),
    "fraction": Parameter("q", "learning rate over the critical one", below_critical, 0.75),
    "kappa": Parameter(
        r"\kappa", "in the neural tangent parametrization :math:`|x|^2/n`", positive, 0.5, "kernel^2/output^2"
    ),
    "ntk": Parameter(r"\lambda", r"at least :math:`2\sqrt\kappa|f|`", positive, 4.0, "1/learning rate"),
    "output": Parameter("f", "", real, 0.5, "output"),
    "output_over_residual": Parameter("f_0/(f_0-y)", "", real, 0.5),
    "probability": Parameter("", "where the quantile is taken", unit_interval, 0.75),
    "q": Parameter("q", "learning rate over the critical one", nonnegative, 1.125),
    "rate_ratio": Parameter(r"\eta/\eta_0", r"over the first rate, :math:`\eta_0 = c/\lambda_0`", at_least_one, 8.0),
    "ratio": Parameter(
        "t",
        "``sqrt(kappa) * abs(target) / mean_ntk`` of a :class:`~sgdynamics.models.uv.UVNetwork`",
        nonnegative,
        0.5,
    ),
    "residual": Parameter("s", "scaled, output minus target", positive, 0.5),
    "rho": Parameter(r"\rho = \kappa f_0^2/\lambda_0^2", "of the start", start_ratio_range, 0.0625),
    "start": Parameter("x_0", "the first learning rate times the curvature", _below_edge, 0.5),
    "steps": replace(SHARED["steps"], symbol="t", typical=3.0),
    "target": Parameter("y", "", real, 1.5, "output"),
    "units": Parameter("", "the sharpness of the start that normalises the rate", units_of_c, "ntk"),
    "width": Parameter("n", "number of hidden units", count, 8.0),
    "x": Parameter("x", r"scaled output :math:`\eta\sqrt\kappa f`", nonnegative, 0.5),
}
START_OUTPUT = replace(PARAMETERS["output"], symbol="f_0")
START_NTK = replace(PARAMETERS["ntk"], symbol=r"\lambda_0", meaning=r"at least :math:`2\sqrt\kappa|f_0|`")
