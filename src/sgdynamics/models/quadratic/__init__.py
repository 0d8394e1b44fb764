r"""Mini-batch quadratics: every mini-batch loss is a quadratic, and its mini-batches differ.

=============================  ==========================================================================
:class:`MiniBatchQuadratic`    one curvature for all batches, random centers, diagonal
:class:`FullQuadratic`         the same where curvature and center noise need not commute
:class:`FiniteSumQuadratic`    a finite set of examples, each with its own curvature and center
:class:`GaussianLeastSquares`  linear regression on fresh Gaussian features: random rank-one curvatures
=============================  ==========================================================================
"""

from sgdynamics.models.quadratic.diagonal import MiniBatchQuadratic
from sgdynamics.models.quadratic.finite_sum import FiniteSumQuadratic
from sgdynamics.models.quadratic.full import FullQuadratic
from sgdynamics.models.quadratic.least_squares import GaussianLeastSquares

__all__ = ["SOURCES", "FiniteSumQuadratic", "FullQuadratic", "GaussianLeastSquares", "MiniBatchQuadratic"]

SOURCES = ("sandler2023", "zhang2019")
