r"""Mini-batch quadratic with random centers, diagonal.

Every mini-batch loss is a quadratic of the same curvature around its own center :math:`c_t`, drawn independently
around the minimiser of the population loss. The minimiser is the origin: iterates are errors :math:`e`, centers are
deviations :math:`\xi_t`. Per mode of curvature :math:`h`

.. math:: L_t(e) = \tfrac12 h (e - \xi_t)^2, \qquad \operatorname{Var} \xi_t = C/B, \qquad e_t = e_{t-1} - \eta_t h
    (e_{t-1} - \xi_t),

with :math:`C` the center variance at batch size 1 and :math:`B` the batch size. The gradient noise has variance
:math:`h^2 C/B`, not :math:`C`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import xarray as xr

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numeric,
    check_arguments,
    checked,
    count,
    instance_of,
    integer,
    nonnegative,
    optional,
    positive,
    real,
)

__all__ = ["MiniBatchQuadratic"]


@dataclass(frozen=True, eq=False, repr=False)
class MiniBatchQuadratic(Shown):
    r"""A mini-batch quadratic in the eigenbasis of its curvature.

    Parameters
    ----------
    curvature : Numeric, shape (modes,)
        Curvature :math:`h > 0` of every mode.
    center_variance : Numeric
        Variance :math:`C \ge 0` of the batch centers at batch size 1; scalar or one per mode.
    multiplicity : Numeric
        How many directions a mode stands for, > 0. Enters the risk only.
    displacement : Numeric
        Start :math:`e_0` of every mode, measured from the minimiser.
    batch_size : Numeric
        :math:`B \ge 1`.

    Any of them may be a DataArray, with the dim ``mode`` where it varies by mode and any other dims to sweep over;
    dask-backed ones stay lazy in everything that is computed from them.

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range or lengths disagree.

    Examples
    --------
    >>> model = MiniBatchQuadratic([1.0, 0.1], 1.0, displacement=2.0, batch_size=4)
    >>> model.floor, model.excess_risk(model.start)
    (0.1375, 2.2)
    """

    curvature: Numeric
    center_variance: Numeric
    _: KW_ONLY
    multiplicity: Numeric = 1.0
    displacement: Numeric = 0.0
    batch_size: Numeric = 1

    domains: ClassVar[Mapping[str, Domain]] = {
        "curvature": positive,
        "center_variance": nonnegative,
        "multiplicity": positive,
        "displacement": real,
        "batch_size": count,
    }

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.domains}
        fields = check_arguments(type(self).__name__, self.domains, given)
        if any(isinstance(value, xr.DataArray) for value in fields.values()):
            fields = {name: self._labelled(name, value) for name, value in fields.items()}
        else:
            fields = self._broadcast(fields)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _labelled(cls, name: str, value: Numeric) -> xr.DataArray:
        if isinstance(value, xr.DataArray):
            return value
        if np.ndim(value) > 1:
            raise ValueError(
                f"{cls.__name__}: {name} must be a scalar, 1-D or a DataArray, got shape {np.shape(value)}"
            )
        return xr.DataArray(value, dims=["mode"] if np.ndim(value) else [])

    @classmethod
    def _broadcast(cls, fields: Mapping[str, Numeric]) -> dict[str, Numeric]:
        size = np.size(fields["curvature"])
        if size == 1:
            size = max(np.size(value) for name, value in fields.items() if name != "batch_size")
        made = {}
        for name, value in fields.items():
            allowed = [(), (1,)] if name == "batch_size" else [(), (1,), (size,)]
            if np.shape(value) not in allowed:
                raise ValueError(
                    f"{cls.__name__}: {name} must be a scalar"
                    + ("" if name == "batch_size" else f" or have one value per mode, {size}")
                    + f", got shape {np.shape(value)}"
                )
            made[name] = int(np.squeeze(value)) if name == "batch_size" else np.broadcast_to(value, (size,))
        return made

    @property
    def modes(self) -> int:
        """Number of modes."""
        sizes = [value.sizes["mode"] for value in self.labelled() if "mode" in value.dims]
        return max(sizes, default=1)

    @property
    def batch_center_variance(self) -> Numeric:
        r"""Variance :math:`C/B` of the center of one mini-batch."""
        return self.center_variance / self.batch_size

    @property
    def start(self) -> Numeric:
        """The error at step 0, the displacement."""
        return self.displacement

    @property
    def floor(self) -> Numeric:
        r"""The irreducible part :math:`\tfrac12 \sum_i n_i h_i C_i/B` of the expected mini-batch loss."""
        return self._sum(0.5 * self.multiplicity * self.curvature * self.batch_center_variance)

    def labelled(self) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, xr.DataArray]:
        """Curvature, batch center variance, displacement and multiplicity as DataArrays with the dim ``mode``."""
        fields = (self.curvature, self.batch_center_variance, self.displacement, self.multiplicity)
        arrays = [value if isinstance(value, xr.DataArray) else xr.DataArray(value, dims="mode") for value in fields]
        if any("mode" in array.dims for array in arrays):
            size = max(array.sizes.get("mode", 1) for array in arrays)
        else:
            size = 1
        curvature, variance, displacement, multiplicity = (
            array if "mode" in array.dims else array.expand_dims(mode=size, axis=-1) for array in arrays
        )
        return curvature, variance, displacement, multiplicity

    def _fitting(self, name: str, value: Numeric) -> Numeric:
        """A point that has one value per mode, or one for all of them."""
        if isinstance(value, np.ndarray) and value.ndim and value.shape[-1] not in (1, self.modes):
            raise ValueError(
                f"{type(self).__name__}: {name} must have one value per mode, {self.modes}, got shape {value.shape}"
            )
        return value

    @staticmethod
    def _sum(per_mode: Numeric) -> Numeric:
        if isinstance(per_mode, xr.DataArray):
            return per_mode.sum("mode") if "mode" in per_mode.dims else per_mode
        total = per_mode.sum(axis=-1)
        return float(total) if np.ndim(total) == 0 else total

    @checked(error=real)
    def excess_risk(self, error: Numeric) -> Numeric:
        r"""Population loss above its minimum, :math:`\tfrac12 \sum_i n_i h_i e_i^2`.

        Parameters
        ----------
        error : Numeric, shape (..., modes) or a DataArray with the dim ``mode``
            Distance from the minimiser in every mode.

        Returns
        -------
        Numeric, shape (...)
        """
        return self._sum(0.5 * self.multiplicity * self.curvature * self._fitting("error", error) ** 2)

    @checked(error=real, center=real)
    def batch_loss(self, error: Numeric, center: Numeric) -> Numeric:
        r"""Loss of the mini-batch with the given center, :math:`\tfrac12 \sum_i n_i h_i (e_i - \xi_i)^2`.

        Parameters
        ----------
        error, center : Numeric, shape (..., modes)
            Iterate and batch center, both measured from the minimiser.

        Returns
        -------
        Numeric, shape (...)
        """
        return self.excess_risk(self._fitting("error", error) - self._fitting("center", center))

    @checked(error=real, center=real)
    def batch_gradient(self, error: Numeric, center: Numeric) -> Numeric:
        r"""Gradient of the mini-batch loss in every direction, :math:`h (e - \xi)`.

        Parameters
        ----------
        error, center : Numeric, shape (..., modes)
            Iterate and batch center, both measured from the minimiser.

        Returns
        -------
        Numeric, shape (..., modes)
        """
        return self.curvature * (self._fitting("error", error) - self._fitting("center", center))

    @checked(error=real, center=real, learning_rate=nonnegative)
    def step(self, error: Numeric, center: Numeric, learning_rate: Numeric) -> Numeric:
        r"""One step of SGD, :math:`e - \eta h (e - \xi)`.

        Parameters
        ----------
        error, center : Numeric, shape (..., modes)
            Iterate and batch center, both measured from the minimiser.
        learning_rate : Numeric
            :math:`\eta`.

        Returns
        -------
        Numeric, shape (..., modes)
        """
        return error - learning_rate * self.batch_gradient(error, center)

    @classmethod
    @checked(curvature=positive, center_variance=nonnegative, dimension=integer(1), displacement=real, batch_size=count)
    def isotropic(
        cls,
        curvature: float,
        center_variance: float,
        dimension: int,
        *,
        displacement: float = 0.0,
        batch_size: Numeric = 1,
    ) -> Self:
        """The same curvature and noise in ``dimension`` directions, kept as one mode of that multiplicity.

        Parameters
        ----------
        curvature, center_variance : float
            Of every direction.
        dimension : int
            Number of directions, >= 1.
        displacement : float
            Start of every direction.
        batch_size : Numeric
            >= 1.

        Returns
        -------
        MiniBatchQuadratic
        """
        return cls(curvature, center_variance, multiplicity=dimension, displacement=displacement, batch_size=batch_size)

    @classmethod
    @checked(modes=integer(1), exponent=nonnegative, batch_size=count)
    def noisy_quadratic(cls, modes: int, *, exponent: float = 1.0, batch_size: Numeric = 1) -> Self:
        r"""The noisy quadratic model: gradient noise of covariance :math:`H/B`, hence center variance :math:`1/(h B)`.

        Parameters
        ----------
        modes : int
            Number of modes, >= 1.
        exponent : float
            :math:`h_i = i^{-\text{exponent}}`.
        batch_size : Numeric
            >= 1.

        Returns
        -------
        MiniBatchQuadratic
            With displacement 1 in every mode, which has the second moment of a standard normal start.

        Notes
        -----
        Zhang et al. 2019, with :math:`h_i = 1/i`.
        """
        curvature = np.arange(1, modes + 1) ** -float(exponent)
        return cls(curvature, 1 / curvature, displacement=1.0, batch_size=batch_size)

    @classmethod
    @checked(
        modes=integer(1),
        curvature_exponent=positive,
        source_exponent=positive,
        center_variance=nonnegative,
        batch_size=count,
    )
    def power_law(
        cls,
        modes: int,
        curvature_exponent: float,
        source_exponent: float,
        *,
        center_variance: Numeric = 0.0,
        batch_size: Numeric = 1,
    ) -> Self:
        r"""Power laws in curvature and in the risk of the start: :math:`h_i = i^{-a}`, :math:`h_i e_{0,i}^2 = i^{-b}`.

        Parameters
        ----------
        modes : int
            Number of modes, >= 1.
        curvature_exponent, source_exponent : float
            :math:`a > 0` and :math:`b > 0`.
        center_variance : Numeric
            Scalar or one per mode.
        batch_size : Numeric
            >= 1.

        Returns
        -------
        MiniBatchQuadratic
        """
        index = np.arange(1.0, modes + 1)
        displacement = index ** ((curvature_exponent - source_exponent) / 2)
        return cls(index**-curvature_exponent, center_variance, displacement=displacement, batch_size=batch_size)

    @classmethod
    @checked(
        low=positive, high=positive, modes=integer(2), center_variance=nonnegative, displacement=real, batch_size=count
    )
    def log_uniform(
        cls,
        low: float,
        high: float,
        modes: int,
        *,
        center_variance: Numeric = 1.0,
        displacement: Numeric = 0.0,
        batch_size: Numeric = 1,
    ) -> Self:
        """Curvatures spaced evenly in their logarithm, the prior for an unknown spectrum.

        Parameters
        ----------
        low, high : float
            Smallest and largest curvature, 0 < low < high.
        modes : int
            Number of modes, >= 2.
        center_variance, displacement : Numeric
            Scalar or one per mode, from low to high.
        batch_size : Numeric
            >= 1.

        Returns
        -------
        MiniBatchQuadratic
        """
        if low >= high:
            raise ValueError(f"log_uniform: low must be smaller than high = {high}, got {low}")
        curvature = np.geomspace(low, high, modes)
        return cls(curvature, center_variance, displacement=displacement, batch_size=batch_size)

    @classmethod
    @checked(
        path=instance_of(str, os.PathLike, text="the path of a CSV file"),
        center_variance=optional(nonnegative),
        smallest=optional(positive),
        batch_size=count,
    )
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        center_variance: Numeric = None,
        smallest: float | None = None,
        batch_size: Numeric = 1,
    ) -> Self:
        """A measured spectrum: one row a mode, one column a field.

        Parameters
        ----------
        path : path
            A file whose header names its columns, of ``curvature``, ``center_variance``, ``multiplicity`` and
            ``displacement``; or a bare column of eigenvalues.
        center_variance : Numeric, optional
            Needed if the file has no such column, refused if it has.
        smallest : float, optional
            Drop the modes whose curvature is below this. Measured Hessians have eigenvalues <= 0, which the model
            cannot hold.
        batch_size : Numeric
            >= 1.

        Returns
        -------
        MiniBatchQuadratic

        Raises
        ------
        ValueError
            If the file is empty, names unknown columns, holds something that is not a number, or has curvatures <= 0
            with no ``smallest``.
        """
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
        if not rows:
            raise ValueError(
                f"from_csv: path must be a CSV file with at least one row, got an empty file {Path(path).name}"
            )
        header = [cell.strip() for cell in rows[0]]
        if header[0] in cls.domains:
            rows = rows[1:]
        elif len(header) == 1:
            header = ["curvature"]
        known = set(cls.domains) - {"batch_size"}
        if not set(header) <= known or "curvature" not in header:
            raise ValueError(
                f"from_csv: path must name columns among {sorted(known)}, curvature one of them, got {header}"
            )
        try:
            columns = dict(zip(header, np.array(rows, dtype=float).T, strict=True))
        except ValueError as error:
            raise ValueError(f"from_csv: path must hold one number per column in every row, got {error}") from None
        if ("center_variance" in columns) == (center_variance is not None):
            raise ValueError(
                "from_csv: center_variance must be given exactly once, as an argument or as a column of the file, "
                f"got {center_variance!r} and the columns {header}"
            )
        if smallest is not None:
            keep = columns["curvature"] >= smallest
            columns = {name: column[keep] for name, column in columns.items()}
        if center_variance is not None:
            columns["center_variance"] = center_variance
        return cls(**columns, batch_size=batch_size)
