"""Deep linear networks: scalar chains, and products of matrices fitted to a target map.

=====================================  ========================================
a model                                where to look
=====================================  ========================================
one weight a layer                     ``ScalarChain``
a product of matrices fitted to a map  ``DeepLinearNetwork``
the flattest minimum, as weights       ``balanced_chain``, ``balanced_network``
=====================================  ========================================
"""

from sgdynamics.models.deep_linear.chains import ScalarChain, balanced_chain
from sgdynamics.models.deep_linear.networks import DeepLinearNetwork, balanced_network

__all__ = ["SOURCES", "DeepLinearNetwork", "ScalarChain", "balanced_chain", "balanced_network"]

SOURCES = ("saxe2013", "kreisler2023")
