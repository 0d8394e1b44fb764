r"""What blocks of hidden units have in common: the size of a step, and their normals.

A step of a block takes the slopes of the loss at the present iterate,

.. math:: U \leftarrow (1 - h\lambda) U - h \nabla L(U) + \sigma \epsilon,

and then looks at the examples again. Blocks share nothing but the slopes that they read.

=========  ===============================================================  ==========================================
units see  forward                                                          streams of unit i
=========  ===============================================================  ==========================================
P          all examples that carry P, by two products of matrices           :math:`i \lceil d/2 \rceil + j`: entries j
                                                                            and :math:`\lceil d/2 \rceil + j`
Q          three rays in a plane, since relu is positively homogeneous:     :math:`i`: both entries
           the output at :math:`\alpha` times a ray is :math:`\alpha`
           times that at the ray
=========  ===============================================================  ==========================================

The first pair of normals of a stream makes the start, every later one the noise of a step. Noise in the
pre-activations has streams of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdynamics.simulate._normals import Floats, Words, fill_normals, open_streams


class Step(NamedTuple):
    """One step, but for the slopes."""

    size: float
    keep: float  # 1 - h lambda
    noise: float  # deviation of what is added to a weight, in units of its deviation at the start; 0 for none
    activation_noise: float  # at the new iterate: deviation over |x|, in units of the same; 0 for none


class Normals:
    """A pair of normals at a time, ``left`` and ``right``, from each of many streams."""

    def __init__(self, key: Words, replica: np.uint64, first: int, streams: int) -> None:
        self.states = np.empty((4, streams), np.uint64)
        self.left, self.right = np.empty((2, streams))
        open_streams(key, replica, first, self.states)

    def draw(self) -> tuple[Floats, Floats]:
        """The next pair of every stream, in the same two arrays every time."""
        fill_normals(self.states, self.left, self.right)
        return self.left, self.right
