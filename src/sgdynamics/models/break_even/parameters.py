r"""The parameters of formulas of breaking even, each said once."""

from __future__ import annotations

from dataclasses import replace

from sgdynamics.domains import count, nonnegative, positive
from sgdynamics.parameters import SHARED, Parameter

__all__ = ["PARAMETERS"]

PARAMETERS = {
    "alignment": Parameter(
        r"\alpha",
        "gradient variance along the direction over the curvature",
        nonnegative,
        0.25,
        "weight^2/learning rate",
    ),
    "batch_factor": Parameter("c_S", "see :func:`batch_variance_factor`", nonnegative, 0.5),
    "batch_second_moment": Parameter(r"\operatorname{tr} S_b", "of batch gradients", positive, 4.0, "gradient^2"),
    "batch_size": Parameter("S", "examples of one batch, without replacement at most n", count, 2.0),
    "bend": Parameter("B", r":math:`\eta^2 u^THu`, what a step u bends the loss by", positive, 0.75, "loss"),
    "curvature": replace(
        SHARED["curvature"], symbol=r"\lambda", meaning="along the direction, the mean over the examples"
    ),
    "curvature_scale": Parameter(
        "k", "variance of the curvatures over their mean", nonnegative, 0.5, "1/learning rate"
    ),
    "curvature_variance": Parameter(
        "s^2", "variance over the examples, divisor n", nonnegative, 1.5, "1/learning rate^2"
    ),
    "decrease": Parameter("A", r":math:`\eta\,u\cdot\nabla L`, of one step, or expected", nonnegative, 0.5, "loss"),
    "distance": Parameter(r"\psi", "from the minimiser along the direction", positive, 1.5, "weight"),
    "examples": replace(SHARED["examples"], typical=6.0),
    "force_variance": Parameter(r"\sigma^2", "variance of the forces", nonnegative, 0.25, "gradient^2"),
    "gain": replace(SHARED["gain"], symbol="x_j", meaning="learning rate times eigenvalue"),
    "loss": Parameter("L", "above its minimum", nonnegative, 0.5, "loss"),
    "noise_curvature": Parameter(
        r"\operatorname{tr}(KH)",
        "with the covariance K of per-example gradients, divisor n",
        nonnegative,
        0.75,
        "gradient^2/learning rate",
    ),
    "path_constant": Parameter("C", "curvature times distance", positive, 1.25, "weight/learning rate"),
    "relative_variance": Parameter(r"\kappa^2", "variance of the relative curvatures", nonnegative, 0.75),
    "restoring": Parameter(r"\beta", "of the self-stabilising mode", positive, 1.5),
    "rise": Parameter("r", "a fifth in jastrzebski2020", positive, 0.25),
    "sharpening": Parameter("a", "rate at which the curvature grows", positive, 0.5),
    "squared_frobenius": Parameter("|H|_F^2", "", positive, 4.5, "1/learning rate^2"),
    "squared_gradient": Parameter(r"|\bar g|^2", "", nonnegative, 1.5, "gradient^2"),
    "start_curvature": Parameter("y_0", "curvature of the start", positive, 1.25, "1/learning rate"),
}
