r"""What one and several self-stabilising directions share: everything that is said direction by direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sgdynamics._sampling import batch_factor
from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numeric,
    check_arguments,
    checked,
    choice,
    complain,
    integer,
    nonnegative,
    one,
    optional,
    positive,
    real,
    whole,
)

__all__ = ["Stabilizing", "plain"]

Array = NDArray[np.float64]

# Means of curvatures and forces are 1 and 0 up to this.
_ROUNDING = 1e-9


def plain(value: Any) -> Any:
    """A float where there is one number."""
    return float(value) if np.ndim(value) == 0 and not hasattr(value, "dims") else value


@dataclass(frozen=True, eq=False, repr=False)
class Stabilizing(Shown):
    """Per-example curvatures and forces, along the first axis, and the rates of the directions."""

    relative_curvatures: Any
    forces: Any = 0.0
    _: KW_ONLY
    sharpening: Any
    restoring: float = 1.0
    batch_size: int = 1
    sampling: Literal["without_replacement", "replacement"] = "without_replacement"
    start: Any = 0.1
    start_curvature: Any = 1.0
    oscillation_floor: float = 1e-6
    curvature_floor: float = 1e-3

    domains: ClassVar[Mapping[str, Domain]] = {
        "relative_curvatures": real,
        "forces": real,
        "sharpening": nonnegative,
        "restoring": one(positive),
        "batch_size": integer(1),
        "sampling": choice("without_replacement", "replacement"),
        "start": real,
        "start_curvature": positive,
        "oscillation_floor": one(nonnegative),
        "curvature_floor": one(nonnegative),
    }
    # Number of axes of the per-example arrays.
    _axes: ClassVar[int]

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        curvatures = np.asarray(fields["relative_curvatures"])
        if curvatures.ndim != self._axes:
            axes = "(examples,)" if self._axes == 1 else "(examples, modes)"
            raise complain(
                owner, "relative_curvatures", f"an array of shape {axes} of mean 1", self.relative_curvatures
            )
        try:
            forces = np.broadcast_to(fields["forces"], curvatures.shape)
        except ValueError:
            raise complain(owner, "forces", f"of the shape {curvatures.shape} of the curvatures", self.forces) from None
        if np.max(np.abs(curvatures.mean(axis=0) - 1)) > _ROUNDING * np.max(np.abs(curvatures)):
            raise complain(owner, "relative_curvatures", "of mean 1 over the examples", self.relative_curvatures)
        if np.max(np.abs(forces.mean(axis=0))) > _ROUNDING * np.max(np.abs(forces)):
            raise complain(owner, "forces", "of mean 0 over the examples", self.forces)
        fields["relative_curvatures"], fields["forces"] = curvatures, forces
        for name in ("sharpening", "start", "start_curvature"):
            if np.ndim(fields[name]) and np.shape(fields[name]) != curvatures.shape[1:]:
                raise complain(owner, name, f"a number or of the shape {curvatures.shape[1:]}", getattr(self, name))
            fields[name] = plain(np.broadcast_to(fields[name], curvatures.shape[1:]))
        if fields["batch_size"] > len(curvatures) and fields["sampling"] == "without_replacement":
            raise complain(owner, "batch_size", f"at most the number of examples, {len(curvatures)}", self.batch_size)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def examples(self) -> int:
        """Number of examples, n."""
        return len(self.relative_curvatures)

    @property
    def batch_factor(self) -> float:
        r""":math:`c_S`, variance of a batch mean per variance of one example.

        :math:`\frac{n-S}{S(n-1)}` without replacement, :math:`1/S` with.
        """
        owner, again = type(self).__name__, self.sampling == "replacement"
        return float(batch_factor(owner, self.examples, self.batch_size, again))

    @cached_property
    def relative_variance(self) -> Any:
        r""":math:`\kappa^2`, variance of the relative curvatures, divisor n; one per mode where there are several."""
        return plain(self.relative_curvatures.var(axis=0))

    @cached_property
    def force_variance(self) -> Any:
        r""":math:`\sigma^2`, variance of the forces, divisor n; one per mode where there are several."""
        return plain(self.forces.var(axis=0))

    @cached_property
    def curvature_force_covariance(self) -> Any:
        """Covariance of relative curvature and force, divisor n; one per mode where there are several."""
        return plain(((self.relative_curvatures - 1) * self.forces).mean(axis=0))

    @checked(x=real, curvature=real)
    def gradient(self, x: Numeric, curvature: Numeric) -> tuple[Any, Any]:
        r"""Gradient of the mean loss in :math:`(x, v)`: :math:`yx` and :math:`(\tfrac12\beta x^2 - a)/\sqrt\beta`.

        Parameters
        ----------
        x : Numeric
            The oscillating weights, along the last axis where there are several modes.
        curvature : Numeric
            :math:`y`, their curvatures.

        Returns
        -------
        tuple of Numeric
        """
        pull = (0.5 * self.restoring * x * x - self.sharpening) / self.restoring**0.5
        return plain(curvature * x), plain(pull + 0 * curvature)

    @checked(x=real, curvature=real)
    def projection_variance(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Variance over examples of the gradient along x, :math:`\operatorname{Var}_i(h_i y x - b_i)`, divisor n.

        .. math:: K_{11} = \kappa^2 y^2 x^2 - 2 y x \operatorname{Cov}(h, b) + \sigma^2

        Parameters
        ----------
        x : Numeric
            The oscillating weights, along the last axis where there are several modes.
        curvature : Numeric
            :math:`y`, their curvatures.

        Returns
        -------
        Numeric
            One per mode.
        """
        return plain(self._own_projection_variance(x, curvature))

    @checked(x=real, curvature=real)
    def curvature_variance(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Variance over examples of the curvature along x, :math:`\kappa^2 y^2`, divisor n.

        Parameters
        ----------
        x : Numeric
            The oscillating weights, on which it does not depend.
        curvature : Numeric
            :math:`y`, their curvatures.

        Returns
        -------
        Numeric
            One per mode.
        """
        return plain(curvature * curvature * self.relative_variance + 0 * x)

    def _own_sharpness(self, x: Numeric, curvature: Numeric) -> Any:
        return 0.5 * (curvature + np.hypot(curvature, 2 * self.restoring**0.5 * x))

    def _own_projection_variance(self, x: Numeric, curvature: Numeric) -> Any:
        slope = curvature * x
        spread = slope * slope * self.relative_variance + self.force_variance
        return spread - 2 * slope * self.curvature_force_covariance

    def _own_gradient_variance(self, x: Numeric, curvature: Numeric) -> Any:
        along = self._own_projection_variance(x, curvature)
        return along + 0.25 * self.restoring * (x * x) ** 2 * self.relative_variance

    def _drawn(self, owner: str, drawn: Any) -> tuple[Any, Any]:
        """Mean relative curvature and force of a batch; 1 and 0 for the full batch."""
        if drawn is None:
            return 1.0, 0.0
        indices = np.asarray(drawn).astype(np.int64)
        if indices.ndim == 0 or indices.max() >= self.examples:
            raise complain(owner, "drawn", f"example numbers in 0..{self.examples - 1} along the last axis", drawn)
        axis = -self._axes
        return self.relative_curvatures[indices].mean(axis=axis), self.forces[indices].mean(axis=axis)

    @checked(x=real, curvature=real, learning_rate=nonnegative, drawn=optional(whole))
    def step(
        self, x: Numeric, curvature: Numeric, learning_rate: Numeric, drawn: Numeric | None = None
    ) -> tuple[Any, Any]:
        r"""One step of SGD, floors included.

        .. math:: x' = x - \eta (h_B y x - b_B), \qquad y' = y + \eta \bigl(a - \tfrac12 \beta h_B x^2\bigr),

        then :math:`|x'|` is raised to the oscillation floor, with its sign (+ where it is 0), and :math:`y'` to the
        curvature floor.

        Parameters
        ----------
        x : Numeric
            The oscillating weights, along the last axis where there are several modes.
        curvature : Numeric
            :math:`y`, their curvatures.
        learning_rate : Numeric
            :math:`\eta \ge 0`.
        drawn : array of int, shape (..., S), optional
            Numbers 0..n-1 of the examples in the batch; None is the full batch.

        Returns
        -------
        tuple of Numeric
            The new x and curvature.
        """
        relative, force = self._drawn("step", drawn)
        moved = x - learning_rate * (relative * curvature * x - force)
        grown = curvature + learning_rate * (self.sharpening - 0.5 * self.restoring * relative * x * x)
        kept = np.copysign(np.maximum(np.abs(moved), self.oscillation_floor), moved)
        return plain(kept), plain(np.maximum(grown, self.curvature_floor))

    @checked(x=real, curvature=real)
    def dead(self, x: Numeric, curvature: Numeric) -> Any:
        r"""Whether a mode lies dead: its curvature on the floor, and held there by its oscillation.

        After a rare large kick :math:`\tfrac12\beta x^2 > a` at a curvature on its floor :math:`y_f`. The next
        curvature is then on the floor again on average, and :math:`x` decays by :math:`\eta y_f` a step only: it takes
        :math:`\log(\beta x^2/2a)/(2\eta y_f)` steps to come back, for all practical purposes never. Small
        :math:`\kappa^2`, large batches and small learning rates keep modes alive; a simulation should count the dead.

        Parameters
        ----------
        x : Numeric
            The oscillating weights, along the last axis where there are several modes.
        curvature : Numeric
            :math:`y`, their curvatures.

        Returns
        -------
        bool or array of bool
        """
        found = (curvature <= self.curvature_floor) & (0.5 * self.restoring * x * x > self.sharpening)
        return bool(found) if np.ndim(found) == 0 else found
