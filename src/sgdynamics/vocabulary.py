r"""The quantities that formulas and laws are about: one name, one unit and one letter each.

Every formula and law declares its quantity; :func:`sgdynamics.formulas` finds them by it, and what a formula returns on
labelled input is stamped with its unit. A learning rate has the unit of an inverse curvature and a curvature that of an
inverse learning rate, whatever the loss and the weights are measured in; what is said in units of something else, like
a variance in units of the center variance, has the unit 1.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUANTITIES", "Quantity"]


@dataclass(frozen=True)
class Quantity:
    """What a number means.

    Attributes
    ----------
    meaning : str
        In a few words.
    units : str
        "1" where it has none; empty for a result of several numbers, which say their own.
    letter : str
        As the documentation writes it, in LaTeX.
    """

    meaning: str
    units: str = "1"
    letter: str = ""


QUANTITIES = {
    # what is chosen
    "learning rate": Quantity("learning rate, or an edge in it", "1/curvature", r"\eta"),
    "gain": Quantity("learning rate times curvature, or an edge in it", letter="x"),
    "normalised rate": Quantity("learning rate times the sharpness, or kernel, of the start", letter="c"),
    "momentum": Quantity("momentum", letter=r"\beta"),
    "schedule": Quantity("learning rate of every step", "1/curvature", r"\eta_t"),
    "average": Quantity("weights of the iterates in an average"),
    "center weights": Quantity("weights of the start and of every batch center, or update, in an iterate or average"),
    "batch size": Quantity("examples of one step", letter="B"),
    "width": Quantity("number of hidden units", letter="n"),
    # what a loss looks like
    "curvature": Quantity("second derivative of the loss along a direction", "1/learning rate", "h"),
    "sharpness": Quantity("top eigenvalue of the Hessian", "1/learning rate", r"\lambda"),
    "kernel": Quantity("neural tangent kernel", "1/learning rate", r"\lambda"),
    "squared kernel": Quantity("square, or variance, of a tangent kernel", "1/learning rate^2"),
    "spectrum": Quantity("several curvatures", "1/learning rate", "h_i"),
    "scaled sharpness": Quantity("learning rate times sharpness, or its distance from 2", letter=r"\eta\lambda"),
    "scaled kernel": Quantity("learning rate times tangent kernel, or its distance from 2", letter=r"\eta\lambda"),
    "coefficient": Quantity("coefficient of a normal form"),
    "strength": Quantity("singular value of a linear network's map, or a factor of it", "output/input", "a"),
    # what a run does
    "loss": Quantity("loss, or risk, above a floor or not", "loss", "L"),
    "relative loss": Quantity("loss, or risk, in units of its reference"),
    "variance": Quantity("variance, or second moment, in units of that of batch centers", letter="V"),
    "second moment": Quantity("mean square, or covariance, of a displacement", "weight^2"),
    "gradient variance": Quantity("variance of a batch gradient along a direction", "gradient^2"),
    "correlation": Quantity("cosine or correlation", letter=r"\cos"),
    "factor": Quantity("factor per step, or per round, of a distance or a second moment"),
    "weight of the start": Quantity("what is left of the displacement of the start"),
    "weight": Quantity("weights of a model", "weight", "w"),
    "distance": Quantity("distance from the minimiser along a direction", "weight", r"\psi"),
    "oscillation": Quantity("size of the oscillation at the edge, in the units of its normal form"),
    "invariant": Quantity("what a run conserves, in the units of its normal form"),
    "steps": Quantity("number of steps", letter="T"),
    "time": Quantity("learning rate times steps", "1/curvature", "t"),
    "probability": Quantity("probability", letter="P"),
    "density": Quantity("probability density"),
    "share": Quantity("part of a whole"),
    "ratio": Quantity("ratio of two like numbers"),
    "angle": Quantity("angle", "rad"),
    "exponent": Quantity("exponent of a power law"),
    # what is no number
    "outcome": Quantity("whether something happens", ""),
    "model": Quantity("a model of another floor", ""),
    "report": Quantity("several labelled numbers, with their own units", ""),
}
