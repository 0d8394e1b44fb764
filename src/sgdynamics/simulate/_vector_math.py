r"""Logarithm, exponential, hyperbolic tangent, cosine and sine that a compiler can run on whole vectors.

A call into the mathematics library keeps a loop scalar. These are branch-free polynomials instead, written with
explicit fused multiply-adds: the same bits in a vector, in the scalar remainder of a loop, and alone, on every machine
that follows IEEE 754.

===================  ============================================================  =========================
function             reduction                                                     largest error, in units
                                                                                   in the last place
===================  ============================================================  =========================
``log``              mantissa to [1/sqrt 2, sqrt 2), then a series in              1
                     :math:`s = f/(2+f)`
``exp_of_negative``  :math:`x = k\log 2 + r`, then a polynomial in                 1
                     :math:`|r| \le \tfrac12\log 2`
``tanh``             :math:`t/(t+2)` of :math:`t = e^{2|x|} - 1`, reduced alike    2.5
``direction``        none: two bits of the word turn by quarters, the other 62     3
                     are an angle of at most an eighth of a turn
===================  ============================================================  =========================

Notes
-----
Reductions and coefficients of ``log`` and ``direction``: Sun's fdlibm (``e_log.c``, ``k_sin.c``, ``k_cos.c``). The
polynomial of the exponential is the Chebyshev interpolant of :math:`(e^r - 1 - r)/r^2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sgdynamics.simulate._kernel import inlined

__all__: list[str] = []


def _fused(context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` with one rounding."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.DoubleType()
        function = builder.module.declare_intrinsic("llvm.fma", [double], ir.FunctionType(double, [double] * 3))
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


# Numba gives the first argument itself
fma: Callable[[float, float, float], float] = cast(Any, intrinsic(_fused))


# the bits of 1/sqrt 2, and where sign and exponent are
_ROOT_HALF, _EXPONENT = np.uint64(0x3FE6A09E667F3BCD), np.uint64(0xFFF << 52)
_52 = np.uint64(52)
# the bits of 2^52 + 2^11, to which a signed number of twelve bits is added by turning its sign
_SHORT, _OF_SHORT = np.uint64(0x433 << 52 | 0x800), 2.0**52 + 2.0**11
# the first with 32 trailing zeros, so that its product with an exponent is exact
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@inlined
def log_begun(x: float) -> tuple[float, float, float]:
    """Of a positive number, 2^k (1 + f) with a mantissa around 1: f, k and f / (2 + f)."""
    bits = np.float64(x).view(np.uint64)
    above = bits - _ROOT_HALF
    power = np.uint64((above >> _52) ^ _SHORT).view(np.float64) - _OF_SHORT
    f = np.uint64(bits - (above & _EXPONENT)).view(np.float64) - 1.0
    return f, power, f / (2.0 + f)


@inlined
def log_ended(f: float, power: float, s: float) -> float:
    """The logarithm of the number that was taken apart into these."""
    z = s * s
    w = z * z
    even = w * fma(w, fma(w, 1.531383769920937332e-01, 2.222219843214978396e-01), 3.999999999940941908e-01)
    odd = z * fma(
        w,
        fma(w, fma(w, 1.479819860511658591e-01, 1.818357216161805012e-01), 2.857142874366239149e-01),
        6.666666666666735130e-01,
    )
    half = 0.5 * f * f
    return fma(power, _LN2_HIGH, f - (half - fma(s, half + (odd + even), power * _LN2_LOW)))


@inlined
def log(x: float) -> float:
    """Natural logarithm of a positive number that is neither subnormal nor infinite."""
    f, power, s = log_begun(x)
    return log_ended(f, power, s)


_LOG2_E = 1 / math.log(2)
# log 2 again, in a part with 12 trailing zeros, exact times the integers that come up, and the rest
_LN2_HEAD, _LN2_TAIL = 6.931471805596630e-01, 2.8235290563031577e-13
# what is added to it is rounded to an integer, which then stands in its lowest bits
_ROUNDER = 1.5 * 2.0**52
_ROUNDER_BITS = np.float64(_ROUNDER).view(np.int64)
_BIAS = np.int64(1023)


@inlined
def _power_of_two(rounded: float) -> float:
    """Two to the integer that is on the rounder."""
    return np.int64((np.float64(rounded).view(np.int64) - _ROUNDER_BITS + _BIAS) << _52).view(np.float64)


@inlined
def _reduced(x: float) -> tuple[float, float, float]:
    r"""An integer k, still on the rounder, and a head and a rest whose sum is :math:`e^{x - k\log 2} - 1`."""
    rounded = fma(x, _LOG2_E, _ROUNDER)
    k = rounded - _ROUNDER
    head = fma(-k, _LN2_HEAD, x)
    tail = -k * _LN2_TAIL
    r = head + tail
    q = fma(r, fma(r, 2.0914686968086876e-09, 2.5105217004720745e-08), 2.75572736431103e-07)
    q = fma(r, fma(r, q, 2.7557255400206422e-06), 2.4801587325547743e-05)
    q = fma(r, fma(r, q, 1.9841269874820627e-04), 1.3888888888883748e-03)
    q = fma(r, fma(r, q, 8.333333333326136e-03), 4.166666666666667e-02)
    q = fma(r, fma(r, q, 1.666666666666667e-01), 0.5)
    # the head stays exact: what the tail takes from it is lost in r, but not in the sum
    return rounded, head, fma(r * r, q, tail)


@inlined
def exp_of_negative(x: float) -> float:
    """Exponential of a number that is not positive, subnormal results included."""
    rounded, head, rest = _reduced(-746.0 if x < -746.0 else x)  # below, zero
    low = rounded < _ROUNDER - 1000.0
    power = _power_of_two(rounded + 1000.0 if low else rounded)
    return fma(power, head + rest, power) * (2.0**-1000 if low else 1.0)


_1, _2, _SIGN = np.uint64(1), np.uint64(2), np.uint64(1 << 63)


@inlined
def tanh(x: float) -> float:
    """Hyperbolic tangent of any number."""
    bits = np.float64(x).view(np.uint64)
    twice = 2.0 * np.uint64(bits & ~_SIGN).view(np.float64)
    rounded, head, rest = _reduced(44.0 if twice > 44.0 else twice)  # above, 1
    power = _power_of_two(rounded)
    t = fma(power, rest, fma(power, head, power - 1.0))
    return np.uint64(np.float64(t / (t + 2.0)).view(np.uint64) | (bits & _SIGN)).view(np.float64)


_EIGHTH_TURN = 0.25 * math.pi * 2.0**-63  # over the largest signed number


# the bits of 2^52 and of 2^84 + 2^63, and what these two are together
_LOW_HALF, _HIGH_HALF, _OF_HALVES = 0x433 << 52, 0x453 << 52 | 1 << 31, 2.0**84 + 2.0**63 + 2.0**52


def _as_signed(context: Any, word: Any) -> Any:
    """A word as a signed number, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (word,) = arguments
        long, double = word.type, ir.DoubleType()
        triple, _, features = context.codegen().magic_tuple()
        if not triple.startswith("x86_64") or "+avx512dq" in features:
            return builder.sitofp(word, double)
        # shorter vectors have no such instruction: each half as the last bits of a number, exactly, and one sum
        low = builder.or_(builder.and_(word, long(2**32 - 1)), long(_LOW_HALF))
        high = builder.xor(builder.lshr(word, long(32)), long(_HIGH_HALF))
        rest = builder.fsub(builder.bitcast(high, double), double(_OF_HALVES))
        return builder.fadd(rest, builder.bitcast(low, double))

    return types.float64(types.uint64), generate


as_signed: Callable[[np.uint64], float] = cast(Any, intrinsic(_as_signed))


@inlined
def _negated_if(sign: np.uint64, x: float) -> float:
    return np.uint64(np.float64(x).view(np.uint64) ^ sign).view(np.float64)


@inlined
def direction_begun(word: np.uint64) -> tuple[float, float]:
    """Cosine and sine of the last 62 bits, an angle of at most an eighth of a turn to either side."""
    x = as_signed(word << _2) * _EIGHTH_TURN
    z = x * x
    s = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08)
    s = fma(z, fma(z, s, 2.75573137070700676789e-06), -1.98412698298579493134e-04)
    s = fma(z, fma(z, s, 8.33333333332248946124e-03), -1.66666666666666324348e-01)
    sine = fma(x * z, s, x)
    c = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09)
    c = fma(z, fma(z, c, -2.75573143513906633035e-07), 2.48015872894767294178e-05)
    c = fma(z, fma(z, c, -1.38888888888741095749e-03), 4.16666666666666019037e-02)
    cosine = fma(z * z, c, fma(z, -0.5, 1.0))
    return cosine, sine


@inlined
def direction_ended(word: np.uint64, radius: float, cosine: float, sine: float) -> tuple[float, float]:
    """The point at a distance from 0 in such a direction, turned as the first two bits say."""
    radius = _negated_if((word << _1) & _SIGN, radius)
    quarter = np.int64(word) < 0
    return radius * (-sine if quarter else cosine), radius * (cosine if quarter else sine)


@inlined
def direction(word: np.uint64) -> tuple[float, float]:
    """Cosine and sine of the angle that a word stands for; uniform words make a uniform angle.

    The highest bit is a quarter turn, the next one half a turn, and the others, as a signed number, at most an eighth
    of a turn to either side.
    """
    cosine, sine = direction_begun(word)
    return direction_ended(word, 1.0, cosine, sine)
