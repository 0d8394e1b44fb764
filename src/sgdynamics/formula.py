r"""Formulas as plain functions that carry their facts.

A formula is written once, with operators, the dispatching functions of this module (:func:`sqrt`, :func:`log`,
:func:`exp`, :func:`where` and the cancellation-free sums below) and ``scipy.special`` ufuncs. It then takes

======================  ==============================================================
input                   result
======================  ==============================================================
floats, ints            a float
arrays                  an array, broadcast
DataArrays              a DataArray, labels kept (other arguments: scalars or DataArrays)
dask-backed DataArrays  still lazy; arguments are checked block by block when computed
SymPy expressions       a SymPy expression, if the formula is ``symbolic``
======================  ==============================================================

Its facts (quantity, status, source, assumptions, domains) are attributes of the :class:`Formula`, and a labelled result
carries them. Beyond a declared stability edge the value is ``+inf``: divergence is a result.

**Accuracy.** A value is right to 1e-12, or to what a last-digit change of its arguments would do to it where that is
more. Symbolic formulas keep this at any size of their arguments: where one lies outside :data:`ORDINARY`, products of a
few could leave the range of a float on the way, and the expression is evaluated in as many digits as it takes.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, get_args, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics._precise import PreciseExpression
from sgdynamics.domains import Domain, Interval, Numbers, Numeric, Scalar, Symbolic, bind, check_arguments, is_symbolic
from sgdynamics.parameters import Parameter, documented, found, known_entries
from sgdynamics.vocabulary import QUANTITIES

__all__ = [
    "Edge",
    "Formula",
    "Status",
    "decay",
    "decayed",
    "exp",
    "expm1",
    "formula",
    "geometric_sum",
    "law",
    "log",
    "log1p",
    "sqrt",
    "stable_below",
    "triangular_sum",
    "where",
]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
Status: TypeAlias = Literal["exact", "bound", "asymptotic", "heuristic"]

MYPY = False  # True to mypy

REGISTRY: dict[str, Formula[..., Any]] = {}

ORDINARY = (2.0**-100, 2.0**100)  # sizes whose products of ten are floats


# ---------------------------------------------------------------------------------------------------------------------
# Elementary functions of numbers, arrays and SymPy expressions; labels and laziness are dealt with by Formula


def _elementary(name: str) -> Callable[[Numeric], Numeric]:
    numeric: Callable[[Numeric], Numeric] = getattr(np, name)

    def call(value: Numeric) -> Numeric:
        if is_symbolic(value):
            import sympy

            return getattr(sympy, name)(value)
        return numeric(value)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``{name}`` of numbers, arrays and SymPy expressions."
    return call


sqrt: Callable[[Numeric], Numeric] = _elementary("sqrt")
log: Callable[[Numeric], Numeric] = _elementary("log")
exp: Callable[[Numeric], Numeric] = _elementary("exp")


def expm1(value: Numeric) -> Numeric:
    """``exp(value) - 1`` of numbers, arrays and SymPy expressions, without cancellation."""
    return exp(value) - 1 if is_symbolic(value) else np.expm1(value)


def log1p(value: Numeric) -> Numeric:
    """``log(1 + value)`` of numbers, arrays and SymPy expressions, without cancellation."""
    return log(1 + value) if is_symbolic(value) else np.log1p(value)


def where(condition: Numeric, yes: Numeric, no: Numeric) -> Numeric:
    """Elementwise choice for numbers, arrays and SymPy expressions."""
    if isinstance(condition, bool | np.bool_):  # one number: thirty times faster than an array of one
        return yes if condition else no
    if any(map(is_symbolic, (condition, yes, no))):
        import sympy

        return sympy.Piecewise((yes, condition), (no, True))
    return np.where(condition, yes, no)


def _log_power(gain: Numeric, count: Numeric) -> Numeric:
    """Return n log|1 - x| without rounding 1 - x first; 0 for n = 0, even at x = 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return where(count == 0, 0.0, count * np.log1p(-where(gain < 1, gain, 2 - gain)))


def decay(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`(1-x)^n`, accurate for tiny :math:`x` and huge :math:`n`."""
    if is_symbolic(gain) or is_symbolic(count):
        return (1 - gain) ** count
    sign = where((gain > 1) & (count % 2 == 1), -1.0, 1.0)
    return sign * np.exp(_log_power(gain, count))


def decayed(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`1 - (1-x)^n` without cancellation for tiny :math:`x`."""
    if is_symbolic(gain) or is_symbolic(count):
        return 1 - (1 - gain) ** count
    return where((gain > 1) & (count % 2 == 1), 1 - decay(gain, count), -np.expm1(_log_power(gain, count)))


def raised(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`1 + (1-x)^n` without cancellation for odd :math:`n` and :math:`x` close to 2."""
    if is_symbolic(gain) or is_symbolic(count):
        return 1 + (1 - gain) ** count
    odd = (gain > 1) & (count % 2 == 1)
    return where(odd, decayed(where(odd, 2 - gain, gain), count), 1 + decay(gain, count))


def geometric_sum(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`\sum_{i<n} (1-x)^i = (1 - (1-x)^n)/x`, with its limit :math:`n` at :math:`x = 0`."""
    if is_symbolic(gain) or is_symbolic(count):
        return (1 - (1 - gain) ** count) / gain
    return where(gain == 0, count, decayed(gain, count) / where(gain == 0, 1.0, gain))


def triangular_sum(gain: Numeric, count: Numeric) -> Numeric:
    r""":math:`\sum_{i<n} (n-i)(1-x)^i = \bigl(n - (1-x)\sum_{i<n}(1-x)^i\bigr)/x`.

    The closed form loses all digits as :math:`n x \to 0`; there the binomial series
    :math:`\sum_i \binom{n+1}{i+2}(-x)^i` takes over.
    """
    if is_symbolic(gain) or is_symbolic(count):
        return (count - (1 - gain) * geometric_sum(gain, count)) / gain
    closed = (count - (1 - gain) * geometric_sum(gain, count)) / where(gain == 0, 1.0, gain)
    series: Numeric = 1.0
    for i in range(14, 0, -1):  # the i-th factor is below 1/(2(i+2)) where the series is used: 14 reach 1e-19
        series = 1 - (count - i) * gain / (i + 2) * series
    return where(abs(count * gain) < 0.5, count * (count + 1) / 2 * series, closed)


# ---------------------------------------------------------------------------------------------------------------------
# Formulas


class Edge:
    """The stability edge of one parameter, a number or a function of other parameters by name."""

    def __init__(self, parameter: str, limit: float | Callable[..., Numeric]) -> None:
        self.parameter = parameter
        self._limit = limit
        self._uses = tuple(inspect.signature(limit).parameters) if callable(limit) else ()

    def __str__(self) -> str:
        where = "the stability edge" if callable(self._limit) else f"{self._limit:g}"
        return f"At or beyond {where} the result is +inf."

    def limit(self, arguments: Mapping[str, Any]) -> Numeric:
        """The edge at the given arguments."""
        return self._limit(*(arguments[name] for name in self._uses)) if callable(self._limit) else self._limit

    def beyond(self, arguments: Mapping[str, Any]) -> Numeric:
        """Whether the parameter is at or beyond its edge."""
        return arguments[self.parameter] >= self.limit(arguments)


def stable_below(**limit: float | Callable[..., Numeric]) -> Edge:
    """Declare that a formula is ``+inf`` once the named parameter reaches the given limit."""
    ((parameter, value),) = limit.items()
    return Edge(parameter, value)


class Formula(Generic[P, R]):
    """A function with its facts.

    Attributes
    ----------
    name : str
        Floor, stem and name, for instance ``theory.quadratic.ema_variance``.
    stem : str
        The row of the library it belongs to.
    quantity : str
        What the value is, a word of :mod:`sgdynamics.vocabulary`.
    status : {"exact", "bound", "asymptotic", "heuristic"}
    symbolic : bool
        Whether it takes SymPy expressions.
    source : str
        A key of the bibliography and a section, or "derived".
    assumptions : tuple of str
    parameters : dict of str to Parameter
        What its arguments mean; see :mod:`sgdynamics.parameters`.
    domains : dict of str to Domain
        What they may be.
    typical : mapping of str to object
        Arguments that it takes.
    numeric : tuple of str
        The parameters that may be arrays or symbols.
    edge : Edge or None
        Beyond it the value is ``+inf``.
    function : callable
        The bare mathematics.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, R],
        parameters: dict[str, Parameter],
        edge: Edge | None,
        quantity: str,
        status: Status,
        symbolic: bool,
        source: str,
        assumptions: tuple[str, ...],
    ) -> None:
        if status not in get_args(Status):
            raise ValueError(f"formula: status must be one of {get_args(Status)}, got {status!r}")
        functools.update_wrapper(self, function)
        self.quantity: str = known_quantity(quantity)
        self.function = function
        self.signature: inspect.Signature = inspect.signature(function)
        self.parameters = parameters
        self.domains: dict[str, Domain] = {name: parameter.domain for name, parameter in parameters.items()}
        self.typical: Mapping[str, Any] = MappingProxyType(
            {name: parameter.typical for name, parameter in parameters.items()}
        )
        self.numeric: tuple[str, ...] = tuple(
            name for name, domain in self.domains.items() if isinstance(domain, Interval)
        )
        self.edge = edge
        self.status = status
        self.symbolic = symbolic
        self.source = source
        self.assumptions = assumptions
        parts = function.__module__.removeprefix("sgdynamics.").split(".")
        self.stem: str = parts[1] if len(parts) > 1 else parts[0]
        self.name: str = ".".join([*parts[:2], function.__name__])
        said = documented(function.__doc__, self.signature, self._entries())
        self.__doc__ = said and f"{said.rstrip()}\n\n{self._facts()}\n"

    def _facts(self) -> str:
        """How it is called and what it rests on, at the end of its documentation."""
        said = {
            "Call": f"``{self.__name__}{self._call()}``",
            "Status": self.status,
            "Assumptions": ", ".join(self.assumptions) or "none",
            "Source": self.source,
        }
        return "\n".join(f":{name}: {fact}" for name, fact in said.items())

    def _call(self) -> inspect.Signature:
        bare = [one.replace(annotation=inspect.Parameter.empty) for one in self.signature.parameters.values()]
        return inspect.Signature(bare)

    def _entries(self) -> dict[str, Parameter | str]:
        """What the documentation says of every parameter."""
        if self.edge is None:
            return dict(self.parameters)
        name = self.edge.parameter
        return {**self.parameters, name: f"{self.parameters[name]} {self.edge}"}

    def __repr__(self) -> str:
        assumed = f"; assumes {', '.join(self.assumptions)}" if self.assumptions else ""
        return f"<formula {self.name}{self._call()}: {self.status}, source {self.source}{assumed}>"

    def __reduce__(self) -> str:
        return self.__qualname__  # pickled by reference, so that worker processes meet the same object

    # What comes back follows what goes in, whatever the parameters are called: no type says both of every formula at
    # once.
    @overload
    def __call__(self, *args: Scalar, **kwargs: Scalar) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, *args: Scalar | Numbers, **kwargs: Scalar | Numbers
    ) -> NDArray[np.float64]: ...
    @overload
    def __call__(self, *args: Scalar | xr.DataArray, **kwargs: Scalar | xr.DataArray) -> xr.DataArray: ...
    @overload
    def __call__(self, *args: Scalar | Symbolic, **kwargs: Scalar | Symbolic) -> Any: ...

    if not MYPY:  # the names, for editors; to mypy an array would be as good an Any

        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value, after the arguments have been checked."""
        bound = bind(self.__name__, self.signature, args, kwargs)
        bound.apply_defaults()
        if any(map(is_symbolic, bound.arguments.values())):
            if not self.symbolic:
                raise TypeError(f"{self.__name__} is not symbolic: every argument must be a number")
            arguments = check_arguments(self.__name__, self.domains, bound.arguments)
            return self.function(**{name: _exact(value) for name, value in arguments.items()})  # type: ignore[call-arg]
        return self._numeric(self._value, bound.arguments)

    def _numeric(self, evaluate: Callable[[Mapping[str, Any]], Any], arguments: Mapping[str, Any]) -> Any:
        """Evaluate on numbers: labels and laziness are dealt with here, the rest block by block."""
        labelled = {name: value for name, value in arguments.items() if isinstance(value, xr.DataArray)}
        if not labelled:
            return self._plain(evaluate, arguments)
        others = {name: value for name, value in arguments.items() if name not in labelled}
        others = check_arguments(self.__name__, self.domains, others)
        for name, value in others.items():
            if np.ndim(value):
                raise ValueError(
                    f"{self.__name__}: {name} must be a scalar or a DataArray where another argument is one, "
                    f"got an array of shape {np.shape(value)}"
                )

        def block(*values: Any) -> Any:
            return self._plain(evaluate, {**others, **dict(zip(labelled, values, strict=True))})

        found = xr.apply_ufunc(block, *labelled.values(), dask="parallelized", output_dtypes=[np.float64])
        return self._stamped(found)

    def _stamped(self, found: xr.DataArray) -> xr.DataArray:
        said = {
            "long_name": self.__name__.replace("_", " "),
            "units": QUANTITIES[self.quantity].units,
            "status": self.status,
            "source": self.name,
        }
        return found.rename(self.__name__).assign_attrs(said)

    def _plain(self, evaluate: Callable[[Mapping[str, Any]], Any], arguments: Mapping[str, Any]) -> Any:
        """Evaluate on floats and arrays."""
        arguments = check_arguments(self.__name__, self.domains, arguments)
        self._check_shapes(arguments)
        result = evaluate(arguments)
        scalar = all(isinstance(value, np.float64 | bool | str) for value in arguments.values())
        return float(result) if scalar else result

    def _value(self, arguments: Mapping[str, Any]) -> Any:
        with np.errstate(all="ignore"):
            result = self.function(**arguments)  # type: ignore[call-arg]
            if self.edge is not None:
                result = where(self.edge.beyond(arguments), math.inf, result)
            if self.symbolic:
                result = self._unordinary(arguments, result)
        return result

    def _unordinary(self, arguments: Mapping[str, Any], result: Any) -> Any:
        """Replace what floats cannot hold on the way: where an argument is far from 1, or the result NaN."""
        doubtful = result != result  # NaN
        for name in self.numeric:
            size = abs(arguments[name])
            doubtful = doubtful | (size > ORDINARY[1]) | ((size < ORDINARY[0]) & (size > 0))
        if isinstance(doubtful, bool | np.bool_):
            return self._precisely(arguments, result) if doubtful else result
        if not doubtful.any():
            return result
        values = np.broadcast_arrays(*(arguments[name] for name in self.numeric))
        result = np.array(result)
        for cell in zip(*np.nonzero(doubtful), strict=True):
            point = dict(zip(self.numeric, (value[cell] for value in values), strict=True))
            result[cell] = self._precisely({**arguments, **point}, result[cell])
        return result

    def _precisely(self, arguments: Mapping[str, Any], otherwise: float) -> float:
        """The value at one point in as many digits as it takes; ``otherwise`` where the expression has none."""
        point = [arguments[name] for name in self.numeric]
        expression, margin = _expressions(self, self._static(arguments))
        if margin is not None and margin.value(*point) <= 0:
            return math.inf
        value = expression.value(*point)
        return otherwise if math.isnan(value) else value

    def _static(self, arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((name, value) for name, value in arguments.items() if name not in self.numeric)

    def _check_shapes(self, arguments: Mapping[str, Any]) -> None:
        shapes = {name: value.shape for name, value in arguments.items() if isinstance(value, np.ndarray)}
        if len(shapes) > 1:
            try:
                np.broadcast_shapes(*shapes.values())
            except ValueError:
                listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
                raise ValueError(f"{self.__name__}: shapes must broadcast, got {listed}") from None

    def latex(self) -> str:
        r"""The expression of a symbolic formula as LaTeX, with its defaults where words and flags are.

        Raises
        ------
        ValueError
            If the formula is not symbolic.

        Examples
        --------
        >>> from sgdynamics.theory.schedules import ema_heavy_ball_gain
        >>> "beta" in ema_heavy_ball_gain.latex()
        True
        """
        if not self.symbolic:
            raise ValueError(f"{self.__name__}.latex: must be asked of a symbolic formula")
        import sympy

        parameters = self.signature.parameters
        static = {name: parameters[name].default for name in self.domains if name not in self.numeric}
        symbols = {name: sympy.Symbol(name, real=True) for name in self.numeric}
        spoken = {symbol: rf"\text{{{name.replace('_', ' ')}}}" for name, symbol in symbols.items()}
        expression = self.function(**symbols, **static)  # type: ignore[call-arg]
        return str(sympy.latex(expression, symbol_names=spoken, mul_symbol=r" \, "))

    def derivative(self, parameter: str) -> Callable[..., Any]:
        """The derivative in one parameter, as a function of the same arguments, right to the last digits.

        Parameters
        ----------
        parameter : str
            Name of a numeric parameter of a symbolic formula.

        Returns
        -------
        callable
            Takes floats, arrays and DataArrays like the formula. Each point is evaluated alone, in as many digits as
            it takes (about a millisecond). At a kink it is the derivative upwards (downwards where the range ends),
            infinite where the formula is vertical, NaN where there is none: at and beyond the stability edge, where
            the value is infinite, and in a whole number where no real continuation exists.

        Raises
        ------
        ValueError
            If the formula is not symbolic or has no such numeric parameter.

        Examples
        --------
        >>> from sgdynamics.theory.quadratic import stationary_variance
        >>> stationary_variance.derivative("gain")(0.5)  # 2/(2-x)^2
        0.888888888...
        """
        if not self.symbolic or parameter not in self.numeric:
            allowed = f"one of {list(self.numeric)}" if self.symbolic else "asked of a symbolic formula"
            raise ValueError(f"{self.__name__}.derivative: parameter must be {allowed}, got {parameter!r}")
        position = self.numeric.index(parameter)
        upper_end = self.domains[parameter].high  # type: ignore[attr-defined]

        def slopes(arguments: Mapping[str, Any]) -> Any:
            expression, margin = _expressions(self, self._static(arguments))

            def slope(*point: float) -> float:
                if margin is not None and margin.value(*point) <= 0:
                    return math.nan
                return expression.derivative(position, -1 if point[position] == upper_end else 1, *point)

            with np.errstate(all="ignore"):
                return np.vectorize(slope, otypes=[np.float64])(*(arguments[name] for name in self.numeric))

        def evaluate(*args: Any, **kwargs: Any) -> Any:
            bound = bind(f"{self.__name__}.derivative", self.signature, args, kwargs)
            bound.apply_defaults()
            return self._numeric(slopes, bound.arguments)

        return evaluate


@functools.cache
def _expressions(
    of: Formula[..., Any], static: tuple[tuple[str, Any], ...]
) -> tuple[PreciseExpression, PreciseExpression | None]:
    """The formula, and how far below its edge it is, as expressions of its numeric parameters."""
    import sympy

    symbols = {name: sympy.Symbol(name, real=True) for name in of.numeric}
    everything = {**symbols, **dict(static)}
    expression = PreciseExpression(symbols, of.function(**everything))
    if of.edge is None:
        return expression, None
    return expression, PreciseExpression(symbols, of.edge.limit(everything) - symbols[of.edge.parameter])


def _exact(value: Any) -> Any:
    """Whole numbers next to symbols stay whole, so that SymPy can prove things."""
    if isinstance(value, np.float64):
        return int(value) if value.is_integer() else float(value)
    return value


def known_quantity(quantity: str) -> str:
    """The quantity, if the vocabulary has it."""
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {sorted(QUANTITIES)}, got {quantity!r}")
    return quantity


def law(parameters: Mapping[str, Parameter] = MappingProxyType({}), /, *, quantity: str) -> Callable[[F], F]:
    """Declare what a law is about that takes models, runs or curves, and so is no formula of numbers.

    Its status is in its documentation, where the reader looks for it; see :class:`sgdynamics.registry.Law`.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        Those of its row: what the documentation leaves out of them is filled in, with the ranges that are checked.
    quantity : str
        A word of :mod:`sgdynamics.vocabulary`.
    """

    def decorate(function: F) -> F:
        function.quantity = known_quantity(quantity)  # type: ignore[attr-defined]
        if parameters:
            domains = function.domains  # type: ignore[attr-defined]
            entries = known_entries(parameters, domains)
            function.__doc__ = documented(function.__doc__, inspect.signature(function), entries)
        return function

    return decorate


def formula(
    parameters: Mapping[str, Parameter] = MappingProxyType({}),
    /,
    *,
    quantity: str,
    status: Status,
    source: str,
    symbolic: bool = False,
    assumptions: tuple[str, ...] = (),
    edge: Edge | None = None,
    **own: Domain | Parameter,
) -> Callable[[Callable[P, R]], Formula[P, R]]:
    """Give a function its facts and the manners of a formula; see the module's page.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        Those of its row, where its arguments are looked up by name; see :mod:`sgdynamics.parameters`.
    quantity : str
        What the value is, a word of :mod:`sgdynamics.vocabulary`.
    status : {"exact", "bound", "asymptotic", "heuristic"}
    source : str
        A key of the bibliography and a section, or "derived".
    symbolic : bool
        Whether the function works on SymPy expressions.
    assumptions : tuple of str
        What must hold for the formula to be true, beside the domains.
    edge : Edge, optional
        Where the value turns ``+inf``; see :func:`stable_below`.
    **own : Domain or Parameter
        By name, parameters that have another range here, or another meaning, than in the table.
    """

    def decorate(function: Callable[P, R]) -> Formula[P, R]:
        made = Formula(
            function, found(function, parameters, own), edge, quantity, status, symbolic, source, assumptions
        )
        REGISTRY[made.name] = made
        return made

    return decorate
