"""Random numbers of a model, keyed by a seed and by what they are for."""

from __future__ import annotations

import numpy as np


def generator_of(seed: int | np.random.SeedSequence, purpose: int) -> np.random.Generator:
    """The generator of one purpose: no two purposes of one seed share a stream."""
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, purpose)))
