r"""Running the directions that sharpen until SGD becomes unstable along them.

:func:`ensemble` takes one mode or several, every batch drawn example by example; Nudged-SGD, which takes steps of
another length along the sharpest modes, is a matter of two arguments.
"""

from sgdynamics.simulate.break_even.runs import ensemble

__all__ = ["SOURCES", "ensemble"]

SOURCES = ("jastrzebski2018", "jastrzebski2020", "damian2022")
