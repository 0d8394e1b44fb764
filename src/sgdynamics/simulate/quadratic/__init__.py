r"""Running mini-batch quadratics: ensembles of independent runs, and how fast products of random curvatures grow.

================================================  =========================
question                                          where to look
================================================  =========================
many runs of one model, any schedule and average  ``ensemble``
how fast almost every path grows                  ``top_lyapunov_exponent``
================================================  =========================
"""

from sgdynamics.simulate.quadratic.ensembles import ensemble
from sgdynamics.simulate.quadratic.lyapunov import top_lyapunov_exponent

__all__ = ["SOURCES", "ensemble", "top_lyapunov_exponent"]

SOURCES = ("sandler2023",)
