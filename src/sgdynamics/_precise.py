"""Values and derivatives of SymPy expressions to the last digit of a float, whatever cancels on the way."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PreciseExpression"]

_GUARD = 256  # bits beside those that the arguments ask for
_LIMIT = 1 << 15
_SQUARED = 1 << 128  # whole exponents up to which squaring again and again is quicker than a logarithm


class PreciseExpression:
    """A SymPy expression evaluated in as many bits as it takes.

    Parameters
    ----------
    symbols : dict of str to sympy.Symbol
    expression : sympy.Expr
    """

    def __init__(self, symbols: Mapping[str, Any], expression: Any) -> None:
        import mpmath
        import sympy

        self._context = mpmath.MPContext()  # its precision is our own: that of mpmath.mp belongs to the user
        self._lock = threading.Lock()
        names = {name: getattr(self._context, name) for name in dir(self._context) if not name.startswith("_")}
        names["power_of"] = self._power
        power = sympy.Function("power_of")
        expression = sympy.sympify(expression).replace(
            lambda part: part.is_Pow and part.exp.free_symbols, lambda part: power(part.base, part.exp)
        )
        self._evaluate = sympy.lambdify(list(symbols.values()), expression, modules=[names, "mpmath"], cse=True)

    def _power(self, base: Any, exponent: Any) -> Any:
        """A power, by a logarithm where mpmath would square once for each bit of a number of steps."""
        context = self._context
        real = isinstance(base, context.mpf) and isinstance(exponent, context.mpf)
        if not (real and base and context.isint(exponent) and abs(exponent) > _SQUARED):
            return base**exponent
        with context.workprec(context.prec + context.mag(exponent) + 16):
            size = context.exp(exponent * context.log(abs(base)))
        return -size if base < 0 and exponent % 2 else +size

    def value(self, *point: float) -> float:
        """The value at a point; NaN where there is no real one."""
        return self._settled(lambda bits: self._evaluate(*map(self._context.mpf, point)), point)

    def derivative(self, position: int, direction: int, *point: float) -> float:
        """The one-sided derivative in the argument at ``position``, upwards (1) or downwards (-1).

        Where the quotient of differences grows without bound it is infinite.
        """

        def quotient(bits: int) -> Any:
            exact = list(map(self._context.mpf, point))
            step = direction * self._context.ldexp(abs(exact[position]) or 1, -bits // 2)
            moved = [*exact[:position], exact[position] + step, *exact[position + 1 :]]
            return (self._evaluate(*moved) - self._evaluate(*exact)) / step

        return self._settled(quotient, point)

    def _settled(self, compute: Callable[[int], Any], point: tuple[float, ...]) -> float:
        """Double the precision until the last bit of a float no longer moves."""
        bits = _GUARD + 4 * sum(abs(math.frexp(number)[1]) for number in point)
        last = None
        with self._lock:
            while True:
                self._context.prec = bits
                try:
                    found = compute(bits)
                except (
                    ZeroDivisionError,
                    ValueError,
                    TypeError,
                ):  # a pole; TypeError: an order between complex numbers
                    return math.nan
                if isinstance(found, self._context.mpc) or self._context.isnan(found):
                    return math.nan
                found = self._context.mpf(found)
                if last is not None and (abs(found - last) <= self._context.ldexp(abs(found), -56) or bits > _LIMIT):
                    return float(found)
                last = found
                bits *= 2
