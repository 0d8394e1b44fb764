r"""Minimal models of the edge of stability.

Gradient descent at learning rate :math:`\eta` is stable up to a sharpness (largest eigenvalue of the Hessian) of
:math:`2/\eta`. In the models here a run that starts above the edge, or is driven there, comes back by itself:

==========================================  ===========================================================================
:class:`ProductLoss`                        :math:`\ell(xy)`: threshold neurons of Ahn et al., the coupled map of Zhu
                                            et al., the uv network of width 1
:class:`FourFactors`                        :math:`\tfrac12(t - xyzw)^2`, the example of Zhu et al. in four parameters
:class:`SelfStabilization`                  the two-variable map of Damian et al., as gradient descent on a cubic
:class:`SecondOrderRegression`              a residual that is quadratic in the weights, Agarwala et al.
:func:`second_order_step`                   the same in function space, closed for two distinct eigenvalues
:func:`second_order_sharpness`              its sharpness
==========================================  ===========================================================================

Only pointwise facts live here: loss, gradient, Hessian, sharpness, one exact step.
"""

from sgdynamics.models.edge_of_stability.four_factors import FourFactors
from sgdynamics.models.edge_of_stability.products import ProductLoss
from sgdynamics.models.edge_of_stability.second_order import (
    SecondOrderRegression,
    second_order_sharpness,
    second_order_step,
)
from sgdynamics.models.edge_of_stability.self_stabilization import SelfStabilization

__all__ = [
    "SOURCES",
    "FourFactors",
    "ProductLoss",
    "SecondOrderRegression",
    "SelfStabilization",
    "second_order_sharpness",
    "second_order_step",
]

SOURCES = ("zhu2022", "ahn2022", "damian2022", "agarwala2022")
