"""What becomes of a network in its first steps, by learning rate, depth and width.

Learning rates are given as :math:`c`, their product with the sharpness of the very network at its start. Every network
is a cell of its own, and what is known of it is kept in a file where one asks for that.

===============================================================  ======================
question                                                         where to look
===============================================================  ======================
rates at which loss or sharpness first rise, and training fails  ``network_thresholds``
how far the sharpness falls in the first steps                   ``network_saturation``
the rate at which it begins to                                   ``critical_c``
===============================================================  ======================
"""

from __future__ import annotations

from sgdynamics.simulate.trainer.phases.saturation import critical_c, network_saturation
from sgdynamics.simulate.trainer.phases.thresholds import network_thresholds

__all__ = ["critical_c", "network_saturation", "network_thresholds"]
