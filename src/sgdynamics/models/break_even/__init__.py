r"""What breaks even: examples of different curvature, and directions that sharpen until SGD becomes unstable.

==============================  =======================================================================================
:class:`SelfStabilizingMode`    one sharp direction whose curvature grows until the oscillation pushes it back
:class:`SelfStabilizingModes`   several such directions, sharpening at rates of their own
:func:`draw_ensemble`           per-example curvatures and forces of a given spread, from a seed
:class:`ExampleEnsemble`        both, by name: what a mode is made of
:func:`gaussian_features`       per-example Hessians of rank one with a power-law spectrum, from a seed
==============================  =======================================================================================

Only pointwise facts live here: loss, gradient, sharpness, the covariance of per-example gradients, one exact step.
"""

from sgdynamics.models.break_even.ensembles import ExampleEnsemble, draw_ensemble, gaussian_features
from sgdynamics.models.break_even.modes import SelfStabilizingModes
from sgdynamics.models.break_even.single import SelfStabilizingMode

__all__ = [
    "SOURCES",
    "ExampleEnsemble",
    "SelfStabilizingMode",
    "SelfStabilizingModes",
    "draw_ensemble",
    "gaussian_features",
]

SOURCES = ("jastrzebski2018", "jastrzebski2020", "damian2022")
