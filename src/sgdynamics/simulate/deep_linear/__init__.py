"""Running deep linear networks: gradient descent and gradient flow of chains and matrices, and random starts.

Chains and networks have weights of different shapes, and so a verb each.

======================================  ============================================
question                                where to look
======================================  ============================================
gradient descent                        ``chain_trajectory``, ``network_trajectory``
gradient flow                           ``chain_flow``, ``network_flow``
random starts and their tangent kernel  ``initial_weights``, ``initial_ntk``
======================================  ============================================
"""

from sgdynamics.simulate.deep_linear.chains import chain_trajectory
from sgdynamics.simulate.deep_linear.flow import chain_flow, network_flow
from sgdynamics.simulate.deep_linear.networks import network_trajectory
from sgdynamics.simulate.deep_linear.start import initial_ntk, initial_weights

__all__ = [
    "SOURCES",
    "chain_flow",
    "chain_trajectory",
    "initial_ntk",
    "initial_weights",
    "network_flow",
    "network_trajectory",
]

SOURCES = ("saxe2013", "kreisler2023")
