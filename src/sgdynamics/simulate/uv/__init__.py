"""Two-layer linear networks on one example, run through their exact map in function space.

:func:`trajectory` follows single orbits, :func:`phase_diagram` says what became of many, :func:`thresholds` and
:func:`over_seeds` read it. :func:`bifurcation` and :func:`lyapunov` look at what runs end in where no minimum is
stable. :func:`scheduled_trajectory` and :func:`persistent_catapults` raise the learning rate on the way.
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
