"""Orbits of the minimal models of the edge of stability, for many starts and learning rates at once.

A kernel takes the steps of one model and keeps the state at the steps that are recorded; what is said about the state
there is left to the pointwise facts of the model. There is no randomness: the starts are the user's, and the models'
states are of different numbers, so that each has orbits of its own.

===========================================  =============================
orbits of                                    where to look
===========================================  =============================
a loss of a product of two weights           ``product_orbits``
a product of four weights                    ``four_factor_orbits``
the map of self-stabilisation                ``self_stabilization_orbits``
a residual that is quadratic in the weights  ``second_order_orbits``
===========================================  =============================
"""

from sgdynamics.simulate.edge_of_stability.orbits import (
    four_factor_orbits,
    product_orbits,
    second_order_orbits,
    self_stabilization_orbits,
)

__all__ = ["SOURCES", "four_factor_orbits", "product_orbits", "second_order_orbits", "self_stabilization_orbits"]

SOURCES = ("zhu2022", "ahn2022", "damian2022", "agarwala2022")
