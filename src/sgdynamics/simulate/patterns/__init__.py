"""Training the two-pattern network of Li, Wei and Ma itself, at any width and without decoupling.

:func:`trajectory` is the only function.
"""

from sgdynamics.simulate.patterns.networks import trajectory

__all__ = ["SOURCES", "trajectory"]

SOURCES = ("li2019",)
