"""Ranges of arguments, declared once as data and checked at the door.

A :class:`Domain` says in words what it accepts, and its ``check`` returns the cleaned value or raises an error that
names the parameter, the value and the range. Ranges are declared on a decorator (:func:`checked` here,
:func:`sgdynamics.formula.formula` for formulas), so that the same declaration serves the check, the documentation
and the tests.

Lazy (dask-backed) values are checked block by block when they are computed; symbols are left to SymPy's assumptions.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = [
    "ArrayOf",
    "Domain",
    "Interval",
    "Numbers",
    "Numeric",
    "Scalar",
    "Spanned",
    "Symbolic",
    "Value",
    "Values",
    "average",
    "bind",
    "check_arguments",
    "checked",
    "choice",
    "closed_unit_interval",
    "complain",
    "count",
    "declared",
    "describe_seed",
    "flag",
    "function",
    "increasing_steps",
    "instance_of",
    "integer",
    "is_lazy",
    "is_symbolic",
    "nonnegative",
    "one",
    "optional",
    "positive",
    "real",
    "replica_indices",
    "seeds",
    "sequence",
    "summing_to_one",
    "swept",
    "unit_interval",
    "whole",
    "without_mask",
]

# Floats, arrays, DataArrays (lazy ones too) and SymPy expressions share arithmetic but no static type.
Numeric: TypeAlias = Any
# What a formula makes a float of, words and flags among it, and what it makes an array of.
Scalar: TypeAlias = float | np.floating[Any] | np.integer[Any] | str | None
Numbers: TypeAlias = NDArray[Any] | Sequence[float] | Sequence[Sequence[float]]


class Symbolic(Protocol):
    """A SymPy expression, said without importing SymPy."""

    @property
    def free_symbols(self) -> Any:
        """The symbols in it."""
        ...


# What a swept model gives: a number, or whatever its parameters span.
Spanned: TypeAlias = float | NDArray[np.float64] | xr.DataArray

# What comes back follows what goes in. A parameter of the type ``float | Value`` and a result ``Value``: of floats a
# float, of arrays an array, of DataArrays a DataArray. Of sequences, ``Values | Numbers``: a DataArray of DataArrays,
# else an array.
if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    Value = TypeVarWithDefault("Value", float, NDArray[np.float64], xr.DataArray, default=float)
    Values = TypeVarWithDefault("Values", NDArray[np.float64], xr.DataArray, default=NDArray[np.float64])
else:
    Value = TypeVar("Value", float, NDArray[np.float64], xr.DataArray)
    Values = TypeVar("Values", NDArray[np.float64], xr.DataArray)

P = ParamSpec("P")
R = TypeVar("R")


class Domain(Protocol):
    """What an argument may be."""

    @property
    def text(self) -> str:
        """The range, in words that complete "must be ..."."""
        ...

    def check(self, owner: str, name: str, value: Any) -> Any:
        """Return the cleaned value; raise ValueError or TypeError that names parameter, value and range."""
        ...


def is_symbolic(value: object) -> bool:
    """Whether a value is a SymPy expression, asked without importing SymPy."""
    return hasattr(value, "free_symbols")


def is_lazy(value: object) -> bool:
    """Whether a value is a dask array or a DataArray backed by one, asked without importing dask."""
    return hasattr(getattr(value, "data", value), "dask")


def complain(owner: str, name: str, text: str, value: object, kind: type[Exception] = ValueError) -> Exception:
    """The one sentence in which every bad argument is reported."""
    shown = repr(value)
    if len(shown) > 80:
        shown = f"{shown[:77]}..."
    return kind(f"{owner}: {name} must be {text}, got {shown}")


def as_floats(owner: str, name: str, text: str, value: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A non-empty float64 array of real numbers, or the error that says why not."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged nested lists
        raise complain(owner, name, text, value) from None
    if array.dtype.kind not in "iuf":
        raise complain(owner, name, text, value, TypeError if array.size else ValueError)
    if array.size == 0:
        raise complain(owner, name, text, value)
    return array.astype(np.float64, copy=False)


@dataclass(frozen=True)
class Interval:
    """Real numbers (or integers) between two bounds; elementwise, so that it serves every kind of numeric input."""

    text: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = True
    high_open: bool = True
    integer: bool = False

    def inside(self, value: Numeric) -> Numeric:
        """Elementwise membership; NaN is never inside."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        member = above & below
        return member & (value == np.floor(value)) if self.integer else member

    def checked_values(self, owner: str, name: str, array: Any) -> Any:
        """The entries of an array of NumPy, as float64."""
        array = without_mask(owner, name, self.text, array)  # blocks of a lazy array may be masked
        if array.dtype.kind not in "iuf":
            raise complain(owner, name, self.text, array.dtype, TypeError)
        member = np.asarray(self.inside(array))
        if not member.all():
            where = np.unravel_index(int(np.argmin(member)), member.shape)
            place = f" at index {tuple(int(i) for i in where)}" if array.ndim else ""
            raise ValueError(f"{owner}: {name} must be {self.text}, got {np.asarray(array)[where].item()!r}{place}")
        return array.astype(np.float64, copy=False)

    def check(self, owner: str, name: str, value: Any) -> Any:
        """Floats come back as numpy floats, everything else in its own kind with float64 values."""
        if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
            number = np.float64(value)
            if not self.inside(number):
                raise complain(owner, name, self.text, value)
            return number
        if is_symbolic(value):
            return self._check_symbol(owner, name, value)
        if isinstance(value, xr.DataArray) or is_lazy(value):
            data = value.data if isinstance(value, xr.DataArray) else value
            check = functools.partial(self.checked_values, owner, name)
            if is_lazy(value):
                data = data.map_blocks(check, dtype=np.float64, meta=np.empty((0,) * data.ndim))
            elif data.size == 0:
                raise complain(owner, name, self.text, value)
            else:
                data = check(data)
            return value.copy(data=data) if isinstance(value, xr.DataArray) else data
        return self.checked_values(owner, name, as_floats(owner, name, self.text, value))

    def _check_symbol(self, owner: str, name: str, value: Any) -> Any:
        if value.is_number:
            if value.is_real is False or not self.inside(np.float64(value)):
                raise complain(owner, name, self.text, value)
        elif (
            (self.low == 0 and (value.is_negative or (self.low_open and value.is_zero)))
            or value.is_real is False
            or (self.integer and value.is_integer is False)
        ):
            raise complain(owner, name, self.text, value)
        return value


real: Interval = Interval("a finite real number")
positive: Interval = Interval("a finite number > 0", low=0)
nonnegative: Interval = Interval("a finite number >= 0", low=0, low_open=False)
unit_interval: Interval = Interval("a number in [0, 1)", low=0, high=1, low_open=False)
closed_unit_interval: Interval = Interval("a number in [0, 1]", low=0, high=1, low_open=False, high_open=False)
count: Interval = Interval("a whole number >= 1", low=1, low_open=False, integer=True)
whole: Interval = Interval("a whole number >= 0", low=0, low_open=False, integer=True)


@dataclass(frozen=True)
class _Number:
    """One number of an interval, returned as float, or where it may be swept a DataArray of them."""

    interval: Interval
    sweeps: bool = False

    @property
    def text(self) -> str:
        return f"{self.interval.text}, or a DataArray of them" if self.sweeps else self.interval.text

    def check(self, owner: str, name: str, value: Any) -> Any:
        if self.sweeps:
            if np.ndim(value) and not isinstance(value, xr.DataArray):  # a plain array has no axis to lie along
                raise complain(owner, name, self.text, value)
            return self.interval.check(owner, name, value)
        if np.ndim(value):
            raise complain(owner, name, f"one number, {self.text}", value)
        if isinstance(value, bool | np.bool_ | str) or is_symbolic(value):
            raise complain(owner, name, self.text, value, TypeError)
        return float(self.interval.check(owner, name, value))


def one(interval: Interval) -> Domain:
    """One number of an interval: neither an array nor a sweep."""
    return _Number(interval)


def swept(interval: Interval) -> Domain:
    """A number of an interval, or a DataArray of them to sweep over."""
    return _Number(interval, sweeps=True)


@dataclass(frozen=True)
class _Integer:
    """One integer, returned as int: sizes and counts that shape a result and so cannot be swept."""

    low: int
    high: float = math.inf

    @property
    def text(self) -> str:
        return f"an integer >= {self.low}" if self.high == math.inf else f"an integer in {self.low}..{self.high}"

    def check(self, owner: str, name: str, value: Any) -> int:
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
            raise complain(owner, name, self.text, value, TypeError)
        # infinities and NaN are no integers; a Python int of any size stays exact
        if isinstance(value, numbers.Integral) or float(value).is_integer():
            found = int(value)  # type: ignore[call-overload]
            if self.low <= found <= self.high:
                return found  # type: ignore[no-any-return]
        raise complain(owner, name, self.text, value)


def integer(low: int, high: float = math.inf) -> Domain:
    """One integer of at least ``low``, and at most ``high``."""
    return _Integer(low, high)


@dataclass(frozen=True)
class ArrayOf:
    """Numbers of an interval in an array of so many axes; whole numbers as int64, others as contiguous float64.

    Attributes
    ----------
    axes : tuple of int
        The numbers of axes it may have.
    text : str
    entries : Interval
    increasing : bool
        Whether each entry, along the last axis, must be larger than the one before.
    """

    axes: tuple[int, ...]
    text: str
    entries: Interval = real
    increasing: bool = False

    def check(self, owner: str, name: str, value: Any) -> Any:
        """The numbers as an array of NumPy, lazy ones computed."""
        array = as_floats(owner, name, self.text, without_mask(owner, name, self.text, value))
        if array.ndim not in self.axes:
            raise complain(owner, name, self.text, f"shape {array.shape}" if array.ndim else value)
        array = np.ascontiguousarray(replace(self.entries, text=self.text).checked_values(owner, name, array))
        if self.increasing and (np.diff(array) <= 0).any():
            raise complain(owner, name, self.text, value)
        return array.astype(np.int64) if self.entries.integer else array


@dataclass(frozen=True)
class _Flag:
    text: str = "True or False"

    def check(self, owner: str, name: str, value: Any) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise complain(owner, name, self.text, value, TypeError)
        return bool(value)


flag: Domain = _Flag()


@dataclass(frozen=True)
class _Choice:
    options: tuple[str, ...]

    @property
    def text(self) -> str:
        return "one of " + ", ".join(map(repr, self.options))

    def check(self, owner: str, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise complain(owner, name, self.text, value, TypeError)
        if value not in self.options:
            raise complain(owner, name, self.text, value)
        return value


def choice(*options: str) -> Domain:
    """One of a few words."""
    return _Choice(options)


@dataclass(frozen=True)
class _Instance:
    kinds: tuple[type, ...]
    text: str

    def check(self, owner: str, name: str, value: Any) -> Any:
        if not isinstance(value, self.kinds):
            raise complain(owner, name, self.text, value, TypeError)
        return value


def instance_of(*kinds: type, text: str = "") -> Domain:
    """An object of one of the given classes."""
    return _Instance(kinds, text or "a " + " or ".join(kind.__name__ for kind in kinds))


function: Domain = _Instance((Callable,), "a callable")  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Optional:
    domain: Domain

    @property
    def text(self) -> str:
        return f"None or {self.domain.text}"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.domain.check(owner, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace(self.domain.text, self.text, 1)) from None


def optional(domain: Domain) -> Domain:
    """None, or a value of the given domain."""
    return _Optional(domain)


# How far from 1 the sum of weights may be, relative to the sum of their sizes, from rounding in float64 or float32.
_DOUBLE_PRECISION, _SINGLE_PRECISION = 1e-9, 5e-7


def summing_to_one(owner: str, name: str, text: str, array: Any) -> Any:
    """Weights along the last axis, made to sum to 1 where they do but for the rounding to float32."""
    total = np.asarray(array.sum(axis=-1))
    # the scale of the rounding error of a signed sum
    scale = np.maximum(1.0, np.abs(array).sum(axis=-1))
    off = np.abs(total - 1) / scale
    wrong = off > _SINGLE_PRECISION
    if wrong.any():
        raise ValueError(f"{owner}: {name} must be {text}, got weights that sum to {float(total[wrong].flat[0])!r}")
    return np.where((off > _DOUBLE_PRECISION)[..., None], array / total[..., None], array)


@dataclass(frozen=True)
class _Sequence:
    """An array along ``step`` (its last axis, or the DataArray's dim of that name), each entry in ``entry``."""

    entry: Interval
    text: str
    sums_to_one: bool = False

    def check(self, owner: str, name: str, value: Any) -> Any:
        if isinstance(value, numbers.Real | str) or value is None:
            raise complain(owner, name, self.text, value, TypeError)
        value = replace(self.entry, text=self.text).check(owner, name, value)
        if isinstance(value, xr.DataArray):
            if "step" not in value.dims:
                raise complain(owner, name, f"{self.text}, a DataArray with a dim 'step'", value.dims)
            value = value.transpose(..., "step")
        if value.ndim == 0:
            raise complain(owner, name, self.text, value, TypeError)
        if not self.sums_to_one:
            return value
        data = value.data if isinstance(value, xr.DataArray) else value
        check = functools.partial(summing_to_one, owner, name, self.text)
        if is_lazy(value):
            data = data.rechunk({data.ndim - 1: -1})
            data = data.map_blocks(check, dtype=np.float64, meta=np.empty((0,) * data.ndim))
        else:
            data = check(data)
        return value.copy(data=data) if isinstance(value, xr.DataArray) else data


def sequence(entry: Interval, text: str) -> Domain:
    """Numbers along ``step``, each in ``entry``."""
    return _Sequence(entry, text)


average: Domain = _Sequence(real, "weights over the iterates x_0..x_T that sum to 1", sums_to_one=True)


@dataclass(frozen=True)
class _Seed:
    text: str = "an integer >= 0 or a numpy SeedSequence"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if isinstance(value, np.random.SeedSequence):
            return value
        try:
            return _Integer(0).check(owner, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace(_Integer(0).text, self.text, 1)) from None


seeds: Domain = _Seed()


def describe_seed(seed: int | np.random.SeedSequence) -> str:
    """The seed as text, for the attributes of a result.

    Examples
    --------
    >>> import numpy as np
    >>> describe_seed(7), describe_seed(np.random.SeedSequence(7).spawn(2)[1])
    ('7', 'SeedSequence(7, spawn_key=(1,))')
    """
    if isinstance(seed, np.random.SeedSequence):
        return f"SeedSequence({seed.entropy!r}, spawn_key={tuple(map(int, seed.spawn_key))!r})"
    return str(seed)


@dataclass(frozen=True)
class _Replicas:
    """Distinct integers >= 0 as an int64 array; an integer n stands for 0..n-1."""

    text: str = "a count >= 1 or a 1-D array of distinct replica indices >= 0"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            try:
                return np.arange(_Integer(1).check(owner, name, value))
            except ValueError:
                raise complain(owner, name, self.text, value) from None
        array = ArrayOf((1,), self.text, whole).check(owner, name, value)
        if np.unique(array).size != array.size:
            raise complain(owner, name, self.text, value)
        return array


replica_indices: Domain = _Replicas()
increasing_steps: Domain = ArrayOf((1,), "an increasing 1-D array of steps >= 0", whole, increasing=True)


def without_mask(owner: str, name: str, text: str, value: Any) -> Any:
    """Refuse masked entries: a formula has no place for what is missing, and without its mask it is invented.

    Arrays are looked for in lists, tuples and mappings of whatever depth.
    """
    if isinstance(value, list | tuple | Mapping):
        entries = list(value.values() if isinstance(value, Mapping) else value)
        cleaned = [
            without_mask(owner, name, text, entry) if isinstance(entry, _MAY_BE_MASKED) else entry for entry in entries
        ]
        if all(after is before for after, before in zip(cleaned, entries, strict=True)):
            return value
        return dict(zip(value, cleaned, strict=True)) if isinstance(value, Mapping) else cleaned
    if not isinstance(value, np.ma.MaskedArray):
        return value
    masked = int(np.sum(np.ma.getmaskarray(value)))
    if masked:
        raise ValueError(f"{owner}: {name} must be {text}, none of them masked, got {masked} masked of {value.size}")
    return value.data


_MAY_BE_MASKED = (np.ma.MaskedArray, list, tuple, Mapping)


def _cleaned(owner: str, name: str, domain: Domain, value: Any) -> Any:
    if isinstance(value, _MAY_BE_MASKED) and not getattr(domain, "takes_masked", False):
        value = without_mask(owner, name, domain.text, value)
    return domain.check(owner, name, value)


def check_arguments(owner: str, domains: Mapping[str, Domain], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument, cleaned by its domain; masked entries are refused but where a domain ``takes_masked``."""
    return {
        name: _cleaned(owner, name, domains[name], value) if name in domains else value
        for name, value in arguments.items()
    }


def declared(function: Callable[..., Any], domains: Mapping[str, Domain]) -> inspect.Signature:
    """The signature of a function, after making sure that every parameter has a domain and the other way round."""
    signature = inspect.signature(function)
    names = [name for name in signature.parameters if name not in ("self", "cls")]
    if set(names) != set(domains):
        raise TypeError(f"{function.__qualname__}: domains {sorted(domains)} do not match parameters {sorted(names)}")
    return signature


def bind(
    owner: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """Arguments by name; a missing or unknown one is an error that names the function."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{owner}: {str(error).replace('missing a required argument: ', 'missing ')}") from None


def checked(**domains: Domain) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the arguments of a function against declared domains before it runs.

    The domains stay readable as the attribute ``domains`` of the function.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = declared(function, domains)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = bind(function.__name__, signature, args, kwargs)
            bound.arguments.update(check_arguments(function.__name__, domains, bound.arguments))
            return function(*bound.args, **bound.kwargs)

        call.domains = domains  # type: ignore[attr-defined]
        return call

    return decorate
