"""The largest eigenvalue of Hessians, some of which may have overflowed."""

from __future__ import annotations

import numpy as np

from sgdynamics.models.deep_linear._domains import Floats


def top_eigenvalue(matrices: Floats) -> Floats:
    """Of symmetric matrices along the last two axes; +inf where an entry is not finite."""
    finite = np.asarray(np.isfinite(matrices).all(axis=(-2, -1)))
    top = np.linalg.eigvalsh(np.where(finite[..., None, None], matrices, 0.0))[..., -1]
    return np.where(finite, top, np.inf)
