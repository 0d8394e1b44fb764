"""Eigenvalues and what stands beside them, out of files and arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdynamics.domains import complain
from sgdynamics.logs.formats import Unreadable, table_of

Array = NDArray[np.float64]

KINDS = ("eigenvalues", "weights", "density", "multiplicities")
# Names under which files hold eigenvalues, and what may stand beside them.
_VALUES = ("eigenvalues", "eigenvals", "evals", "values", "curvature", "density_eigen", "grid", "eigenvalue")
_BESIDE = {
    "weights": ("weights", "density_weight", "weight"),
    "density": ("density",),
    "multiplicities": ("multiplicity", "multiplicities", "counts", "count"),
}
_SUM_TOLERANCE = 1e-3  # of single-precision weights that should sum to 1
_INTEGRAL_TOLERANCE = 0.05  # of a smoothed density on a finite grid


class Source:
    """The domain of whatever holds a spectrum."""

    text = "the path of a .csv, .txt, .npy or .npz file, eigenvalues, or (eigenvalues, weights or a density)"

    def check(self, owner: str, name: str, value: Any) -> Any:
        """A path of a known kind, or something like an array."""
        if isinstance(value, str | os.PathLike):
            if Path(value).suffix not in (".csv", ".txt", ".npy", ".npz"):
                raise complain(owner, name, self.text, value)
            return Path(value)
        if not isinstance(value, list | tuple) and not getattr(value, "shape", ()):
            raise complain(owner, name, self.text, value, TypeError)
        return value


def parts_of(owner: str, source: Any) -> tuple[Array, Array | None, str | None]:
    """Eigenvalues, what stands beside them, and its kind if it has a name."""
    if isinstance(source, Path):
        columns = _columns(owner, source)
        named = [name for name in _VALUES if name in columns]
        if not named:
            raise complain(owner, "source", f"a file with one of {', '.join(_VALUES)}", sorted(columns))
        for kind, names in _BESIDE.items():
            for name in names:
                if name in columns:
                    return _numbers(owner, columns[named[0]]), _numbers(owner, columns[name]), kind
        return parts_of(owner, columns[named[0]])
    if isinstance(source, tuple) and len(source) == 2 and not np.isscalar(source[0]):
        values = _numbers(owner, source[0])
        if _is_vectors(values, source[1]):
            return values, None, "eigenvalues"
        return values, _numbers(owner, source[1]), None
    values = _numbers(owner, source)
    if values.ndim > 1:
        text = "eigenvalues in one row, or a tuple of two arrays: eigenvalues and what stands beside them"
        raise complain(owner, "source", text, f"shape {values.shape}")
    return values, None, "eigenvalues"


def _is_vectors(values: Array, other: Any) -> bool:
    """Whether the second of a pair holds one vector, or a list of tensors, for each eigenvalue."""
    try:
        # one row a vector, or one column, as numpy and scipy return them
        return bool(np.ndim(other) > values.ndim and {len(other), np.shape(other)[-1]} & set(values.shape))
    except ValueError:  # ragged: the tensors of a network
        return True


def _columns(owner: str, path: Path) -> dict[str, Any]:
    known = {*_VALUES, *sum(_BESIDE.values(), ())}
    if path.suffix == ".npy":
        return {"eigenvalues": np.load(path, allow_pickle=False)}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name in known}
    try:
        table = table_of(path, alone="eigenvalues")
        columns = {name: table.numbers(name) for name in table.columns if name in known}
    except Unreadable as error:
        raise error.complaint(owner, "source", "a file", path) from None
    for name, (_, blank) in columns.items():
        if blank.any():
            place = f"row {int(np.argmax(blank)) + 1}"
            raise complain(owner, "source", f"a file with a number in every row of {name!r}: {path.name}", place)
    return {name: numbers for name, (numbers, _) in columns.items()} or table.columns


def _numbers(owner: str, value: Any) -> Array:
    text = "finite real numbers, at least one"
    try:
        array = np.asarray(value)
    except ValueError:
        raise complain(owner, "source", f"{text}, as many in every row", value) from None
    if array.dtype.kind == "c":  # some routines return real eigenvalues as complex numbers
        if np.abs(array.imag).max(initial=0.0) > 1e-6 * np.abs(array.real).max(initial=0.0):
            raise complain(owner, "source", f"{text}, without imaginary parts", value)
        array = array.real
    if array.dtype.kind not in "iuf":
        raise complain(owner, "source", text, value, TypeError)
    if array.size == 0 or not np.isfinite(array).all():
        raise complain(owner, "source", text, value)
    return np.atleast_1d(array).astype(np.float64)


def guessed_kind(owner: str, values: Array, beside: Array | None) -> str:
    """What the numbers beside the eigenvalues are, by what they add up to."""
    if beside is None:
        return "eigenvalues"
    if values.shape == beside.shape and (beside >= 0).all():
        if np.allclose(beside.sum(axis=-1), 1, rtol=0, atol=_SUM_TOLERANCE):
            return "weights"
        increasing = values.ndim == 1 and values.size > 1 and (np.diff(values) > 0).all()
        if increasing and abs(float(np.trapezoid(beside, values)) - 1) <= _INTEGRAL_TOLERANCE:
            return "density"
    raise complain(
        owner,
        "kind",
        "given where the second array neither sums to 1 in every row (weights) nor integrates to 1 (a density)",
        None,
    )
