r"""Running the directions that sharpen until SGD becomes unstable along them.

:func:`self_stabilizing_runs` takes one mode or several, every batch drawn example by example; Nudged-SGD, which takes
steps of another length along the sharpest modes, is a matter of two arguments.
"""

from sgdynamics.simulate.break_even.runs import self_stabilizing_runs

__all__ = ["SOURCES", "self_stabilizing_runs"]

SOURCES = ("jastrzebski2018", "jastrzebski2020", "damian2022")
