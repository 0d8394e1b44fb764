r"""The uv network: two linear layers, one output, one example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numeric,
    check_arguments,
    checked,
    closed_unit_interval,
    complain,
    count,
    integer,
    nonnegative,
    positive,
    real,
    unit_interval,
)
from sgdynamics.models.uv._pointwise import pointwise
from sgdynamics.models.uv.dynamics import function_step
from sgdynamics.models.uv.hessian import hessian_eigenvalues
from sgdynamics.models.uv.start import alignment_quantile, ntk_quantile


@dataclass(frozen=True, eq=False, repr=False)
class UVNetwork(Shown):
    r"""Two linear layers trained on one example with half the squared error.

    .. math:: f(x) = a\, v\cdot(Ux), \qquad L = \tfrac12 (f-y)^2, \qquad a = n^{-(1-p)/2},
        \qquad U_{ij}, v_i \sim N(0, \sigma^2 n^{-p}).

    :math:`p = 0` is the neural tangent parametrization, :math:`p = 1` mean-field. With :math:`h = Ux/|x|` everything
    is a function of :math:`h, v` and :math:`\kappa = a^2|x|^2`: output :math:`f = \sqrt\kappa\, v\cdot h`, kernel
    :math:`\lambda = \kappa(|h|^2+|v|^2)`. Directions of U orthogonal to x never move.

    Parameters
    ----------
    width : Numeric
        :math:`n \ge 1`, a whole number.
    target : Numeric
        :math:`y`.
    input_norm : Numeric
        :math:`|x| > 0`.
    init_scale : Numeric
        :math:`\sigma > 0`.
    parametrization : Numeric
        :math:`p` in [0, 1].

    Any of them may be an array or a DataArray; they broadcast.

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range.

    Examples
    --------
    >>> model = UVNetwork(64, target=2.0)
    >>> model.kappa, model.mean_ntk, model.loss(0.0)
    (0.015625, 2.0, 2.0)
    """

    width: Numeric
    _: KW_ONLY
    target: Numeric = 0.0
    input_norm: Numeric = 1.0
    init_scale: Numeric = 1.0
    parametrization: Numeric = 0.0

    domains: ClassVar[Mapping[str, Domain]] = {
        "width": count,
        "target": real,
        "input_norm": positive,
        "init_scale": positive,
        "parametrization": closed_unit_interval,
    }

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.domains}
        for name, value in check_arguments(type(self).__name__, self.domains, given).items():
            object.__setattr__(self, name, float(value) if isinstance(value, np.float64) else value)

    @property
    def kappa(self) -> Numeric:
        r"""Strength of the non-linearity, :math:`\kappa = |x|^2 n^{-(1-p)}`."""
        return self.input_norm**2 * self.width ** (self.parametrization - 1)

    @property
    def init_variance(self) -> Numeric:
        r"""Variance :math:`\sigma^2 n^{-p}` of every weight at the start."""
        return self.init_scale**2 * self.width**-self.parametrization

    @property
    def mean_ntk(self) -> Numeric:
        r"""Mean kernel at the start, :math:`2\sigma^2|x|^2` for every width and parametrization."""
        return 2 * self.init_scale**2 * self.input_norm**2

    @checked(output=real)
    def loss(self, output: Numeric) -> Numeric:
        r"""The loss :math:`\tfrac12 (f-y)^2`.

        Parameters
        ----------
        output : Numeric
            :math:`f`.

        Returns
        -------
        Numeric
        """
        (loss,) = pointwise(
            "loss", lambda output, target: ((output - target) ** 2 / 2,), 1, output=output, target=self.target
        )
        return loss

    @checked(alignment_probability=unit_interval, ntk_probability=unit_interval)
    def start(self, alignment_probability: Numeric, ntk_probability: Numeric) -> tuple[Numeric, Numeric]:
        r"""The start at two quantiles; two independent uniform numbers make it a draw from the law of the start.

        Parameters
        ----------
        alignment_probability : Numeric
            Quantile of the alignment :math:`\delta_0` of the two layers, in [0, 1).
        ntk_probability : Numeric
            Quantile of the kernel, in [0, 1).

        Returns
        -------
        output, ntk : Numeric
            :math:`f_0 = \delta_0\lambda_0/(2\sqrt\kappa)` and :math:`\lambda_0`.
        """
        ntk = self.mean_ntk * ntk_quantile(ntk_probability, self.width)
        alignment = alignment_quantile(alignment_probability, self.width)
        return alignment * ntk / (2 * self.kappa**0.5), ntk

    @checked(output=real, ntk=nonnegative, learning_rate=nonnegative)
    def step(self, output: Numeric, ntk: Numeric, learning_rate: Numeric) -> tuple[Numeric, Numeric]:
        r"""One step of gradient descent in function space, see :func:`function_step`.

        Parameters
        ----------
        output, ntk : Numeric
            :math:`f` and :math:`\lambda \ge 2\sqrt\kappa|f|`.
        learning_rate : Numeric
            :math:`\eta \ge 0`.

        Returns
        -------
        output, ntk : Numeric
        """
        return function_step(output, ntk, learning_rate, kappa=self.kappa, target=self.target)

    @checked(hidden=real, readout=real)
    def function_values(self, hidden: Numeric, readout: Numeric) -> tuple[Numeric, Numeric]:
        r"""Output and kernel of given weights.

        Parameters
        ----------
        hidden : Numeric, shape (..., width)
            :math:`h = Ux/|x|`.
        readout : Numeric, shape (..., width)
            :math:`v`.

        Returns
        -------
        output, ntk : Numeric, shape (...)
        """
        self._check_weights(hidden, readout)
        output = self.kappa**0.5 * np.sum(readout * hidden, axis=-1)
        ntk = self.kappa * (np.sum(hidden**2, axis=-1) + np.sum(readout**2, axis=-1))
        return output, ntk

    @checked(hidden=real, readout=real, learning_rate=nonnegative)
    def gradient_step(self, hidden: Numeric, readout: Numeric, learning_rate: float) -> tuple[Numeric, Numeric]:
        r"""One step of gradient descent in the weights: :math:`h' = h - \eta\sqrt\kappa\Delta v`, and v likewise.

        Parameters
        ----------
        hidden, readout : Numeric, shape (..., width)
            :math:`h = Ux/|x|` and :math:`v`.
        learning_rate : float
            :math:`\eta \ge 0`.

        Returns
        -------
        hidden, readout : Numeric, shape (..., width)
        """
        output, _ = self.function_values(hidden, readout)
        change = learning_rate * self.kappa**0.5 * (np.asarray(output) - self.target)[..., np.newaxis]
        return hidden - change * readout, readout - change * hidden

    def _check_weights(self, hidden: Numeric, readout: Numeric) -> None:
        for name, value in (("hidden", hidden), ("readout", readout)):
            if np.ndim(self.width) or np.shape(value)[-1:] != (int(self.width),):
                raise complain(
                    type(self).__name__,
                    name,
                    f"an array with one value per unit, {self.width}, along its last axis",
                    value,
                )

    @checked(output=real, ntk=nonnegative, inputs=integer(1))
    def hessian_spectrum(self, output: Numeric, ntk: Numeric, *, inputs: int = 1) -> xr.Dataset:
        r"""All Hessian eigenvalues with their multiplicities.

        :math:`\lambda^H_\pm` once each, :math:`\pm\sqrt\kappa(f-y)` :math:`n-1` times each, 0 :math:`n(d-1)` times for
        inputs in :math:`d` dimensions.

        Status: exact, at every point and width.

        Parameters
        ----------
        output, ntk : Numeric
            :math:`f` and :math:`\lambda \ge 2\sqrt\kappa|f|`.
        inputs : int
            Dimension :math:`d \ge 1` of the input.

        Returns
        -------
        xarray.Dataset
            ``curvature`` and ``multiplicity`` along ``mode``, and along the dims of what is swept as DataArrays.

        Examples
        --------
        >>> UVNetwork(4).hessian_spectrum(0.5, 2.0).multiplicity.values
        array([1., 1., 3., 3., 0.])
        """
        values = {"output": output, "ntk": ntk, "width": self.width, "target": self.target, "kappa": self.kappa}
        for name, value in values.items():
            if not isinstance(value, xr.DataArray) and np.ndim(value):
                raise ValueError(
                    f"hessian_spectrum: {name} must be a scalar or a DataArray, got an array of shape {np.shape(value)}"
                )
        top, bottom = hessian_eigenvalues(output, ntk, target=self.target, kappa=self.kappa)
        side = self.kappa**0.5 * (output - self.target)
        eigenvalues = [top, bottom, side, -side, 0 * side]
        multiplicity = [1.0, 1.0, self.width - 1, self.width - 1, self.width * (inputs - 1)]
        curvature = xr.concat(xr.broadcast(*map(xr.DataArray, eigenvalues)), "mode")
        counts = xr.concat(xr.broadcast(*map(xr.DataArray, multiplicity)), "mode")
        data = xr.Dataset({"curvature": curvature, "multiplicity": counts}).transpose(..., "mode")
        data = data.assign_coords(mode=["top", "bottom", "residual", "minus residual", "still"])
        data.curvature.attrs = {"long_name": "Hessian eigenvalue", "units": "1"}
        data.multiplicity.attrs = {"long_name": "multiplicity", "units": "1"}
        return data.assign_attrs(source="derived")
