"""Running deep linear networks: gradient descent and gradient flow of chains and matrices, and random starts.

======================================  ======================================
question                                where to look
======================================  ======================================
gradient descent                        ``chain_descent``, ``network_descent``
gradient flow                           ``chain_flow``, ``network_flow``
random starts and their tangent kernel  ``initial_weights``, ``initial_ntk``
======================================  ======================================
"""

from sgdynamics.simulate.deep_linear.chains import chain_descent
from sgdynamics.simulate.deep_linear.flow import chain_flow, network_flow
from sgdynamics.simulate.deep_linear.networks import network_descent
from sgdynamics.simulate.deep_linear.start import initial_ntk, initial_weights

__all__ = [
    "SOURCES",
    "chain_descent",
    "chain_flow",
    "initial_ntk",
    "initial_weights",
    "network_descent",
    "network_flow",
]

SOURCES = ("saxe2013", "kreisler2023")
