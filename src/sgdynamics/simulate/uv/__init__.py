"""Two-layer linear networks on one example, run through their exact map in function space.

===================================================  ==================================================
question                                             where to look
===================================================  ==================================================
one orbit, step by step                              ``trajectory``
an orbit whose rate changes, warm-up                 ``scheduled_trajectory``, ``persistent_catapults``
what becomes of runs by rate, width and start        ``phase_diagram``
where loss and sharpness begin to rise, over starts  ``thresholds``
shares of outcomes and means over starts             ``over_seeds``
what runs end in on the edge line                    ``bifurcation``
whether that is chaotic                              ``lyapunov``
===================================================  ==================================================
"""

from sgdynamics.simulate.uv.diagram import phase_diagram
from sgdynamics.simulate.uv.edge_line import bifurcation, lyapunov
from sgdynamics.simulate.uv.paths import trajectory
from sgdynamics.simulate.uv.reading import over_seeds, thresholds
from sgdynamics.simulate.uv.warm_up import persistent_catapults, scheduled_trajectory

__all__ = [
    "SOURCES",
    "bifurcation",
    "lyapunov",
    "over_seeds",
    "persistent_catapults",
    "phase_diagram",
    "scheduled_trajectory",
    "thresholds",
    "trajectory",
]

SOURCES = ("kalra2023", "kalra2025", "lewkowycz2020", "kalra2024")
