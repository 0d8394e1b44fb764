"""All claims once more with other randomness.

Figures hand fixed seeds to NumPy and to sgdynamics in many places, and both make a ``SeedSequence`` of every one. A
number that is mixed into all of these changes every draw of the process, and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def mix_into_all_seeds(number: int) -> None:
    """Make every seed of this process another one, for as long as it lives; 0 leaves them as they are.

    Parameters
    ----------
    number : int
        >= 0.
    """
    if number == 0:
        return
    given, generator = np.random.SeedSequence, np.random.default_rng

    class Mixed(given):  # type: ignore[misc,valid-type]
        """A seed sequence with the number among its words."""

        def __init__(self, entropy: Any = None, **others: Any) -> None:
            words = [] if entropy is None else np.atleast_1d(np.asarray(entropy, dtype=object)).tolist()
            super().__init__([*words, number] if words else None, **others)

    def default_rng(seed: Any = None) -> np.random.Generator:
        whole = isinstance(seed, int | np.integer | list | tuple | np.ndarray)
        return generator(Mixed(seed) if whole else seed)

    np.random.SeedSequence, np.random.default_rng = Mixed, default_rng  # type: ignore[misc]
