"""Angles of numbers, arrays and SymPy expressions."""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, is_symbolic
from sgdynamics.formula import sqrt

__all__ = ["arctan", "hypotenuse", "joint_activity", "pi"]


def arctan(value: Numeric) -> Numeric:
    """The inverse tangent."""
    if is_symbolic(value):
        import sympy

        return sympy.atan(value)
    return np.arctan(value)


def hypotenuse(one: Numeric, other: Numeric) -> Numeric:
    """The root of the sum of two squares, without overflow on the way."""
    if is_symbolic(one) or is_symbolic(other):
        return sqrt(one**2 + other**2)
    return np.hypot(one, other)


def pi(value: Numeric) -> Numeric:
    r""":math:`\pi`, exact next to symbols."""
    if is_symbolic(value):
        import sympy

        return sympy.pi
    return np.pi


def joint_activity(above: Numeric, below: Numeric) -> Numeric:
    r"""Probability :math:`(\pi - \arccos c)/(2\pi)` that two standard normals of correlation c are both positive.

    Of :math:`1 + c` and :math:`1 - c`, since c is rounded near -1 and 1, where one of them decides alone.
    """
    if is_symbolic(above):
        import sympy

        return (sympy.pi - sympy.acos(above - 1)) / (2 * sympy.pi)
    return np.arctan2(sqrt(above), sqrt(below)) / np.pi
