r"""Merging real checkpoint files by the weights of a plan.

The merged model is :math:`\sum_k \alpha_k x_k` over the saved weights :math:`x_k`. Tensors pass through memory one
block at a time, are summed in float64 and rounded once at the end. The steps of the checkpoints are found and held
against the plan: a shell's order is not that of the run.

>>> import numpy as np, tempfile
>>> from pathlib import Path
>>> folder = Path(tempfile.mkdtemp())
>>> for step, value in enumerate([1.0, 2.0, 4.0]):
...     np.savez(folder / f"{step}.npz", weight=np.full(3, value), steps=np.array(step))
>>> merged = merge([folder / f"{step}.npz" for step in range(3)], [0.0, 0.5, 0.5], folder / "merged.npz")
>>> np.load(merged.output)["weight"]
array([3., 3., 3.])
>>> merged.copied, merged.steps
(('steps',), (0, 1, 2))
"""

from sgdynamics.checkpoints.damage import DamagedFile
from sgdynamics.checkpoints.merging import Merged, merge

__all__ = ["SOURCES", "DamagedFile", "Merged", "merge"]

SOURCES = ("sandler2023",)
