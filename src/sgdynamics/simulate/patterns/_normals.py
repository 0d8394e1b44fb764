r"""Standard normals for many streams at once.

The numbers are those of :func:`sgdynamics.simulate._streams.normal_pair` up to rounding: the same words and the same
Box-Muller, but with a logarithm, a sine and a cosine that are polynomials, so that one loop over streams runs on whole
vectors. A call to the library for each of them is what a step of a wide network would otherwise spend its time on.

Notes
-----
Reductions and coefficients: Sun's fdlibm (``e_log.c``, ``k_sin.c``, ``k_cos.c``), each within one unit in the last
place.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._streams import next_word, open_stream

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.uint64]

_11, _52, _1 = map(np.uint64, (11, 52, 1))
_UNIT = 2.0**-53
_MANTISSA = np.uint64(2**52 - 1)
_ONE = np.uint64(1023 << 52)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@inlined
def _log(x: float) -> float:
    """Natural logarithm of a number in (0, 1] that is not subnormal."""
    bits = np.float64(x).view(np.uint64)
    mantissa = np.uint64((bits & _MANTISSA) | _ONE).view(np.float64)
    exponent = np.int64(bits >> _52) - 1023
    large = mantissa > 1.4142135623730951
    power = exponent + 1.0 if large else exponent + 0.0
    f = (0.5 * mantissa if large else mantissa) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return power * _LN2_HIGH - ((half - (s * (half + odd + even) + power * _LN2_LOW)) - f)


@inlined
def _cos_sin(turns: float) -> tuple[float, float]:
    """Cosine and sine of an angle given in turns, in [0, 1)."""
    quarter = math.floor(4.0 * turns + 0.5)
    x = 2.0 * math.pi * (turns - 0.25 * quarter)
    z = x * x
    sine = x + x * z * (
        -1.66666666666666324348e-01
        + z
        * (
            8.33333333332248946124e-03
            + z
            * (
                -1.98412698298579493134e-04
                + z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
            )
        )
    )
    cosine = (1.0 - 0.5 * z) + z * z * (
        4.16666666666666019037e-02
        + z
        * (
            -1.38888888888741095749e-03
            + z
            * (
                2.48015872894767294178e-05
                + z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))
            )
        )
    )
    odd = quarter == 1.0 or quarter == 3.0
    along, across = (sine, cosine) if odd else (cosine, sine)
    return (
        -along if quarter == 1.0 or quarter == 2.0 else along,
        -across if quarter == 2.0 or quarter == 3.0 else across,
    )


@inlined
def normal_pair_of(states: Words, stream: int) -> tuple[float, float]:
    """The next two normals of one stream, whose state moves on."""
    state = (states[0, stream], states[1, stream], states[2, stream], states[3, stream])
    first, state = next_word(state)
    second, state = next_word(state)
    states[0, stream], states[1, stream], states[2, stream], states[3, stream] = state
    radius = math.sqrt(-2.0 * _log(((first >> _11) + _1) * _UNIT))
    cosine, sine = _cos_sin((second >> _11) * _UNIT)
    return radius * cosine, radius * sine


@kernel
def open_streams(key: Words, replica: np.uint64, first: int, states: Words) -> None:
    """Consecutive streams at their beginning, numbered from ``first``; states have shape (4, streams)."""
    for i in range(states.shape[1]):
        states[0, i], states[1, i], states[2, i], states[3, i] = open_stream(key, replica, np.uint64(first + i))


@kernel
def fill_normals(states: Words, left: Floats, right: Floats) -> None:
    """The next pair of normals of every stream."""
    for i in range(states.shape[1]):
        left[i], right[i] = normal_pair_of(states, i)
