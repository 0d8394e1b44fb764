"""What the trainer accepts: arrays of finite numbers, masks, widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import ArrayOf, Domain, average, complain, integer, whole


@dataclass(frozen=True)
class _Complex:
    """Numbers along one axis, complex ones welcome."""

    text: str = "a 1-D array of finite real or complex numbers"

    def check(self, owner: str, name: str, value: Any) -> NDArray[Any]:
        if getattr(getattr(value, "dtype", None), "kind", "") != "c":
            return ArrayOf((1,), self.text).check(owner, name, value)  # type: ignore[no-any-return]
        if np.ndim(value) != 1 or np.ma.is_masked(value) or not np.size(value) or not np.isfinite(value).all():
            raise complain(owner, name, self.text, value)
        return np.ascontiguousarray(value, dtype=np.complex128)


@dataclass(frozen=True)
class _Examples:
    """Examples of any shape and type, numbers finite."""

    text: str = "an array of finite numbers with the examples along its first axis"

    def check(self, owner: str, name: str, value: Any) -> NDArray[Any]:
        if np.ma.is_masked(value):
            raise complain(owner, name, f"{self.text}, none of them masked", value)
        try:
            array = np.asarray(value)
        except ValueError:  # ragged nested lists
            raise complain(owner, name, self.text, value) from None
        if array.dtype.kind not in "biuf":
            raise complain(owner, name, self.text, value, TypeError if array.size else ValueError)
        if array.size == 0 or array.ndim == 0:
            raise complain(owner, name, self.text, value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise complain(owner, name, self.text, float(array[~np.isfinite(array)][0]))
        return array


examples: Domain = _Examples()
matrix: Domain = ArrayOf((2,), "a 2-D array of finite numbers")
vector: Domain = ArrayOf((1,), "a 1-D array of finite numbers")
columns: Domain = ArrayOf((1, 2), "a 1-D or 2-D array of finite numbers")
row: Domain = ArrayOf((0, 1), "a finite number or a 1-D array of them")
parameters: Domain = _Complex()


@dataclass(frozen=True)
class _Mask:
    text: str = "a 1-D boolean array with at least one True"

    def check(self, owner: str, name: str, value: Any) -> NDArray[np.bool_]:
        try:
            array = np.asarray(value)
        except ValueError:
            raise complain(owner, name, self.text, value) from None
        if array.dtype.kind != "b":
            raise complain(owner, name, self.text, value, TypeError if array.size else ValueError)
        if array.ndim != 1 or not array.any():
            raise complain(owner, name, self.text, value)
        return array


mask: Domain = _Mask()


indices: Domain = ArrayOf((1,), "a 1-D array of indices >= 0", whole)


@dataclass(frozen=True)
class _OrCallable:
    """An array, or a callable that returns one for an objective."""

    domain: Domain

    @property
    def text(self) -> str:
        return f"{self.domain.text}, or a callable objective -> array"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if callable(value):
            return value
        try:
            return self.domain.check(owner, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace(self.domain.text, self.text, 1)) from None


direction: Domain = _OrCallable(vector)
directions: Domain = _OrCallable(columns)
index_rows: Domain = _OrCallable(ArrayOf((2,), "a 2-D array of indices >= 0, shape (draws, batch_size)", whole))


@dataclass(frozen=True)
class _Measurement:
    text: str = "a callable objective -> mapping, or a mapping of names to callables"

    def check(self, owner: str, name: str, value: Any) -> Any:
        if isinstance(value, Mapping) and not callable(value):
            if not value or not all(isinstance(key, str) and callable(one) for key, one in value.items()):
                raise complain(owner, name, self.text, value, TypeError)
            return dict(value)
        if not callable(value):
            raise complain(owner, name, self.text, value, TypeError)
        return value


measurement: Domain = _Measurement()


@dataclass(frozen=True)
class _Widths:
    text: str = "a sequence of at least two integers >= 1"

    def check(self, owner: str, name: str, value: Any) -> tuple[int, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
            raise complain(owner, name, self.text, value, TypeError)
        if len(value) < 2:
            raise complain(owner, name, self.text, value)
        try:
            return tuple(integer(1).check(owner, name, width) for width in value)
        except (TypeError, ValueError) as error:
            raise complain(owner, name, self.text, value, type(error)) from None


widths: Domain = _Widths()


@dataclass(frozen=True)
class _Averages:
    text: str = "a mapping of names to averages: weights over the iterates x_0..x_T that sum to 1"

    def check(self, owner: str, name: str, value: Any) -> dict[str, NDArray[np.float64]]:
        if not isinstance(value, Mapping):
            raise complain(owner, name, self.text, value, TypeError)
        for word in value:
            if not isinstance(word, str):
                raise complain(owner, name, self.text, value, TypeError)
        return {
            word: one_dimensional(owner, f"{name}[{word!r}]", average.check(owner, f"{name}[{word!r}]", weights))
            for word, weights in value.items()
        }


averages: Domain = _Averages()


def one_dimensional(owner: str, name: str, value: Any) -> NDArray[np.float64]:
    """The values of a schedule or an average that must not be swept; lazy ones are computed."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 1:
        raise complain(owner, name, "1-D for a single run", f"shape {array.shape}")
    return array


def length(owner: str, name: str, array: NDArray[Any], wanted: int, meaning: str) -> None:
    """Refuse an array whose first axis has another length than ``wanted``."""
    if array.shape[0] != wanted:
        raise complain(owner, name, f"of length {wanted} ({meaning})", f"shape {array.shape}")
