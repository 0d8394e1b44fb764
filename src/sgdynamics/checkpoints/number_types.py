"""Types of the numbers in a tensor, as they are stored and as they are summed.

A type is called as NumPy calls it, byte order included (``<f4``); for those that NumPy does not have, by the name that
``.safetensors`` gives them: brain floats (``BF16``, the upper half of a float32) and floats of one byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class NumberType:
    """A type of NumPy's own."""

    name: str

    @property
    def stored(self) -> np.dtype[Any]:
        """The NumPy type of the stored bytes."""
        return np.dtype(self.name)

    @property
    def is_floating(self) -> bool:
        """Whether it can be averaged: real or complex floating point."""
        return self.stored.kind in "fc"

    @property
    def is_whole(self) -> bool:
        """Whether it counts: integers, but no flags."""
        return self.stored.kind in "iu"

    @property
    def sums(self) -> type:
        """The type in which it is summed."""
        return np.complex128 if self.stored.kind == "c" else np.float64

    def widen(self, values: Array, out: Array) -> None:
        """Stored values as sums."""
        out[:] = values

    def narrow(self, sums: Array) -> Array:
        """Sums rounded to the nearest stored values; what overflows is not finite."""
        return sums.astype(self.stored)

    def are_finite(self, values: Array) -> bool:
        """Whether all stored values are finite."""
        return bool(np.isfinite(values).all())


@dataclass(frozen=True)
class BrainFloat(NumberType):
    """The upper half of a float32."""

    name: str = "BF16"
    stored = np.dtype("<u2")
    is_floating = True
    is_whole = False
    sums = np.float64

    def widen(self, values: Array, out: Array) -> None:
        """By their bits."""
        wide = values.astype(np.uint32)
        np.left_shift(wide, np.uint32(16), out=wide)
        out[:] = wide.view(np.float32)

    def narrow(self, sums: Array) -> Array:
        """By way of float32, ties to even."""
        bits = sums.astype(np.float32).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)

    def are_finite(self, values: Array) -> bool:
        """By their exponents."""
        return bool(((values & np.uint16(0x7F80)) != np.uint16(0x7F80)).all())


@dataclass(frozen=True)
class ByteFloat(NumberType):
    r"""A float of one byte: a sign, ``exponent`` bits and the rest; there are few enough to list.

    Without ``infinite`` the highest exponent is a number like others but for the last code, NaN. With
    ``one_zero`` (and no infinities) all of it is numbers, and the code of -0 is NaN.
    """

    exponent: int
    bias: int
    infinite: bool = False
    one_zero: bool = False
    stored = np.dtype("|u1")
    is_floating = True
    is_whole = False
    sums = np.float64

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """The number that every code stands for."""
        codes = np.arange(128)
        mantissa = 7 - self.exponent
        power, fraction = codes >> mantissa, (codes & (2**mantissa - 1)) / 2**mantissa
        positive = np.where(power == 0, np.ldexp(fraction, 1 - self.bias), np.ldexp(1 + fraction, power - self.bias))
        if self.infinite:
            top = power == 2**self.exponent - 1
            positive[top] = np.where(fraction[top] == 0, np.inf, np.nan)
        elif not self.one_zero:
            positive[-1] = np.nan
        both = np.concatenate([positive, -positive])
        if self.one_zero:
            both[128] = np.nan
        return both

    @cached_property
    def _rising(self) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Midpoints of the finite numbers >= 0, and their codes."""
        half = self.values[:128]
        finite = half[np.isfinite(half)]
        step = finite[-1] - finite[-2]
        return np.append((finite[:-1] + finite[1:]) / 2, finite[-1] + step / 2), np.arange(finite.size, dtype=np.uint8)

    def widen(self, values: Array, out: Array) -> None:
        """From the list."""
        np.take(self.values, values, out=out, mode="clip")

    def narrow(self, sums: Array) -> Array:
        """To the nearest of the list, ties to even."""
        midpoints, codes = self._rising
        size = np.abs(sums)
        place = np.searchsorted(midpoints, size, side="left")
        tie = (midpoints[np.minimum(place, midpoints.size - 1)] == size) & (place % 2 == 1)
        place += tie  # of two neighbours the even code
        beyond = (place >= codes.size) | ~np.isfinite(sums)
        found = codes[np.minimum(place, codes.size - 1)]
        found = np.where(np.signbit(sums) & ((found > 0) | (not self.one_zero)), found | np.uint8(128), found)
        nan = np.flatnonzero(np.isnan(self.values))[0]
        return np.where(beyond, nan, found).astype(np.uint8)

    def are_finite(self, values: Array) -> bool:
        """From the list."""
        return bool(np.isfinite(self.values)[values].all())


_OWN = {
    kind.name: kind
    for kind in (
        BrainFloat(),
        ByteFloat("F8_E4M3", exponent=4, bias=7),
        ByteFloat("F8_E5M2", exponent=5, bias=15, infinite=True),
        ByteFloat("F8_E4M3FNUZ", exponent=4, bias=8, one_zero=True),
        ByteFloat("F8_E5M2FNUZ", exponent=5, bias=16, one_zero=True),
    )
}


@cache
def number_type(name: str) -> NumberType:
    """The type of a name."""
    return _OWN.get(name) or NumberType(name)
