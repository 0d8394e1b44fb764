"""Deep linear networks: scalar chains, and products of matrices fitted to a target map."""

from sgdynamics.models.deep_linear.chains import ScalarChain, balanced_chain
from sgdynamics.models.deep_linear.networks import DeepLinearNetwork, balanced_network

__all__ = ["SOURCES", "DeepLinearNetwork", "ScalarChain", "balanced_chain", "balanced_network"]

SOURCES = ("saxe2013", "kreisler2023")
