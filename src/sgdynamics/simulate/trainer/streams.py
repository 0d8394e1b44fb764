"""Random streams, keyed by a seed and a purpose."""

from __future__ import annotations

import numpy as np


def generator(seed: int | np.random.SeedSequence, purpose: str) -> np.random.Generator:
    """The generator of one purpose: no two purposes of one seed share a stream."""
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    key = (*root.spawn_key, int.from_bytes(purpose.encode(), "big"))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(root.entropy, spawn_key=key)))
