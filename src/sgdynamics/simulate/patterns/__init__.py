"""Training the two-pattern network of Li, Wei and Ma itself, at any width and without decoupling.

:func:`finite_network` is the only function.
"""

from sgdynamics.simulate.patterns.networks import finite_network

__all__ = ["SOURCES", "finite_network"]

SOURCES = ("li2019",)
