"""How objects show themselves: what they are made of, on a few lines however large their arrays are."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import is_lazy

__all__ = ["Shown", "named_tuple_repr", "shown"]

# Values of an array that are written out, and characters of a line.
_WRITTEN, _WIDTH = 6, 110


def shown(value: Any) -> str:
    """A value on one line, a large array by its size and range."""
    if getattr(value, "size", None) == 1 and not is_lazy(value):
        return shown(value.item())
    if isinstance(value, xr.DataArray) or is_lazy(value):
        sizes = getattr(value, "sizes", None) or dict(enumerate(value.shape))
        axes = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        return f"<{'lazy, ' if is_lazy(value) else ''}{axes or 'one number'}{_range(value)}>"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, tuple | list) and any(isinstance(item, np.ndarray) for item in value):
        return f"<{len(value)} arrays: {', '.join('x'.join(map(str, np.shape(item))) for item in value)}>"
    text = repr(value)
    return text if len(text) <= _WIDTH else f"<{type(value).__name__}>"


def _array(value: np.ndarray[Any, Any]) -> str:
    if value.ndim == 1 and value.size <= _WRITTEN:
        return f"[{', '.join(map(shown, value.tolist()))}]"
    if value.size and value.dtype.kind in "iuf" and (value == value.flat[0]).all():
        return f"{shown(value.flat[0].item())} ({' x '.join(map(str, value.shape))} times)"
    many = f"{value.size} values" if value.ndim == 1 else " x ".join(map(str, value.shape))
    return f"<{many}{_range(value)}>"


def _range(value: Any) -> str:
    """From where to where numbers go, if that can be told without computing them."""
    if is_lazy(value) or not value.size or value.dtype.kind not in "iuf":
        return ""
    return f", {float(value.min()):.3g} to {float(value.max()):.3g}"


def _on_lines(name: str, parts: Iterable[tuple[str, Any]]) -> str:
    text = f"{name}({', '.join(f'{field}={shown(value)}' for field, value in parts)})"
    return textwrap.fill(text, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def named_tuple_repr(self: Any) -> str:
    """What a named tuple holds; for ``__repr__``."""
    return _on_lines(type(self).__name__, zip(self._fields, self, strict=True))


class Shown:
    """Base of frozen dataclasses that show themselves and are compared by value.

    Two are equal if they are of one class and their fields are: same values, same shapes, same labels.
    """

    def _parts(self) -> list[tuple[str, Any]]:
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return [(name, getattr(self, name)) for name in names]

    def __repr__(self) -> str:
        return _on_lines(type(self).__name__, self._parts())

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(shown(value))}</td></tr>"
            for name, value in self._parts()
        )
        return f"<table><caption><b>{escape(type(self).__name__)}</b></caption>{rows}</table>"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(value, getattr(other, name)) for name, value in self._parts())

    def __hash__(self) -> int:
        known = (value if isinstance(value, float | str) else np.shape(value) for _, value in self._parts())
        return hash((type(self), *known))


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, xr.DataArray):
        return isinstance(other, xr.DataArray) and one.identical(other)
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.shape(one) == np.shape(other) and bool(np.all(np.asarray(one) == np.asarray(other)))
    return bool(one == other)
