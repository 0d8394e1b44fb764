r"""A finite set of examples, each a quadratic of its own curvature around its own center."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    Numeric,
    check_arguments,
    checked,
    choice,
    integer,
    nonnegative,
    optional,
    real,
    sequence,
    summing_to_one,
    whole,
)
from sgdynamics.models.quadratic._matrices import Semidefinite, matrix_vector, square_matrix
from sgdynamics.models.quadratic._points import half_square, one_per_mode, one_start

__all__ = ["FiniteSumQuadratic"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class FiniteSumQuadratic(Shown):
    r"""Mini-batches drawn from n examples with losses :math:`\ell_i(x) = \tfrac12 (x - c_i)^\top H_i (x - c_i)`.

    A mini-batch is the mean over :math:`S` draws :math:`i_1..i_S`. A step of SGD is

    .. math:: x \leftarrow x - \eta \, \frac1S \sum_{s=1}^S H_{i_s} (x - c_{i_s} - \zeta_s),

    where every draw carries fresh Gaussian center noise :math:`\zeta_s \sim N(0, Z)`, independent of the example: an
    example that is drawn twice has two independent :math:`\zeta`. Center noise hence adds the gradient covariance
    :math:`\tfrac1S \operatorname{mean}(H_i Z H_i)`, whatever the sampling. Centers that belong to the examples make
    curvature and center dependent, center noise makes them independent.

    The population loss is the mean over the examples, weighted by ``probabilities`` if these are given. Its minimiser
    is :math:`\mu^* = \bar H^{-1} \operatorname{mean}(H_i c_i)`, not the mean center; errors are
    :math:`e = x - \mu^*`. A direction that is flat for every example is allowed: nothing ever moves along it and the
    minimiser has no component there.

    A random curvature of any discrete law, one independent draw per step, is this model with ``batch_size=1`` and
    ``sampling="replacement"``: the values are the ``hessians``, their probabilities the ``probabilities``.

    Parameters
    ----------
    hessians : float or array, shape (n,), (d, d) or (n, d, d)
        :math:`H_i`, symmetric positive semidefinite, not all 0. One number or matrix is shared by all examples, a
        number as that multiple of the identity; an array (n,) holds curvatures in one dimension.
    centers : float or array, shape (n,) or (n, d)
        :math:`c_i`; (n,) in one dimension. A number is the center of all examples in every coordinate.
    center_covariance : float or array, shape (d, d)
        :math:`Z`, symmetric positive semidefinite, per draw; a number stands for that multiple of the identity.
    displacement : float or array, shape (d,)
        Start :math:`e_0`, measured from :math:`\mu^*`.
    batch_size : int
        :math:`S \ge 1`, draws per step.
    sampling : {"replacement", "without_replacement", "reshuffled"}
        ``"replacement"``: S independent draws. ``"without_replacement"``: a fresh simple random sample of S different
        examples in every step, the default, as of runs and measurements; of one draw a step both are the same law.
        ``"reshuffled"``: every epoch is a random partition of all examples into n/S batches.
    probabilities : array, shape (n,), optional
        Probability of every example in one draw, summing to 1; they need ``sampling="replacement"``. Default: 1/n each.

    ``hessians`` (n, d, d), ``centers`` (n, d), ``center_covariance`` (d, d), ``displacement`` (d,) and
    ``probabilities`` (n,) are kept as float64 arrays of full shape. The dim ``mode`` of a result numbers the
    coordinates in which the matrices are given.

    Raises
    ------
    ValueError, TypeError
        If a matrix is not symmetric or has a negative eigenvalue beyond rounding (relative 1e-12), which is named; if
        S > n or S does not divide n where the sampling needs it; if a value is outside its range or shapes disagree.

    Examples
    --------
    >>> model = FiniteSumQuadratic([0.5, 1.5], [3.0, 1.0], batch_size=1)
    >>> model.minimizer, model.floor
    (array([1.5]), 0.375)
    """

    hessians: Any
    centers: Any = 0.0
    _: KW_ONLY
    center_covariance: Any = 0.0
    displacement: Any = 0.0
    batch_size: int = 1
    sampling: Literal["replacement", "without_replacement", "reshuffled"] = "without_replacement"
    probabilities: Any = None

    domains: ClassVar[Mapping[str, Domain]] = {
        "hessians": Semidefinite(
            "numbers >= 0 of shape () or (n,) or symmetric positive semidefinite matrices of shape (d, d) or "
            "(n, d, d), not all 0",
            (0, 1, 2, 3),
        ),
        "centers": real,
        "center_covariance": Semidefinite("a number >= 0 or a symmetric positive semidefinite matrix (d, d)", (0, 2)),
        "displacement": real,
        "batch_size": integer(1),
        "sampling": choice("replacement", "without_replacement", "reshuffled"),
        "probabilities": optional(sequence(nonnegative, "probabilities >= 0, one per example, that sum to 1")),
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        if not fields["hessians"].any():
            raise ValueError(f"{owner}: hessians must be {self.domains['hessians'].text}, got zeros")
        fields["hessians"], fields["centers"] = self._per_example(fields["hessians"], np.asarray(fields["centers"]))
        examples, size = fields["centers"].shape
        fields["center_covariance"] = square_matrix(owner, "center_covariance", fields["center_covariance"], size)
        fields["displacement"] = one_start(owner, fields["displacement"], size)
        fields["probabilities"] = self._weights(fields["probabilities"], examples, fields["sampling"])
        batch_size, sampling = fields["batch_size"], fields["sampling"]
        if sampling != "replacement" and batch_size > examples:
            raise ValueError(
                f"{owner}: batch_size must be at most the number of examples, {examples}, for sampling {sampling!r}, "
                f"got {batch_size}"
            )
        if sampling == "reshuffled" and examples % batch_size:
            raise ValueError(
                f"{owner}: batch_size must divide the number of examples, {examples}, for sampling 'reshuffled', "
                f"got {batch_size}"
            )
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _per_example(cls, hessians: Array, centers: Array) -> tuple[Array, Array]:
        """Hessians (n, d, d) and centers (n, d) from whatever of the two is shared."""
        if centers.ndim > 2:
            raise ValueError(f"{cls.__name__}: centers must have shape (), (n,) or (n, d), got {centers.shape}")
        own = hessians if hessians.ndim in (1, 3) else centers
        examples = len(own) if own.ndim else 1
        if hessians.ndim > 1:
            size = hessians.shape[-1]
        else:
            size = centers.shape[1] if centers.ndim == 2 and hessians.ndim == 0 else 1
        if centers.ndim == 1 and size == 1:
            centers = centers[:, None]
        if centers.ndim and centers.shape != (examples, size):
            raise ValueError(
                f"{cls.__name__}: centers must have one point per example, shape {(examples, size)}, "
                f"got {centers.shape}"
            )
        if hessians.ndim < 2:
            hessians = hessians[..., None, None] * np.eye(size)
        shape = (examples, size)
        return np.broadcast_to(hessians, (*shape, size)), np.broadcast_to(centers, shape)

    @classmethod
    def _weights(cls, probabilities: Any, examples: int, sampling: str) -> Array:
        if probabilities is None:
            return np.full(examples, 1 / examples)
        weights = np.asarray(probabilities, dtype=np.float64)
        if weights.shape != (examples,):
            raise ValueError(
                f"{cls.__name__}: probabilities must have one value per example, {examples}, got shape {weights.shape}"
            )
        if sampling != "replacement":
            raise ValueError(
                f"{cls.__name__}: probabilities must be None for sampling {sampling!r}, where every example is as "
                f"likely, got {weights.tolist()}"
            )
        made: Array = summing_to_one(cls.__name__, "probabilities", ">= 0 and sum to 1", weights)
        return made

    @property
    def examples(self) -> int:
        """Number of examples, n."""
        return len(self.hessians)

    @property
    def modes(self) -> int:
        """Number of coordinates, d."""
        return int(self.hessians.shape[-1])

    @property
    def start(self) -> Array:
        """The error at step 0, the displacement."""
        start: Array = self.displacement
        return start

    @cached_property
    def mean_hessian(self) -> Array:
        r"""Hessian :math:`\bar H` of the population loss, shape (d, d)."""
        mean: Array = np.einsum("n,nij->ij", self.probabilities, self.hessians)
        return mean

    @cached_property
    def minimizer(self) -> Array:
        r"""Minimiser :math:`\mu^* = \bar H^{-1} \operatorname{mean}(H_i c_i)` of the population loss, shape (d,).

        The one of least norm where :math:`\bar H` is singular.
        """
        pull = np.einsum("n,nij,nj->i", self.probabilities, self.hessians, self.centers)
        with one_blas_thread():
            minimizer: Array = np.linalg.lstsq(self.mean_hessian, pull, rcond=1e-12)[0]
        return minimizer

    @cached_property
    def offsets(self) -> Array:
        r"""Centers from the minimiser, :math:`c_i - \mu^*`, shape (n, d): what errors are compared with."""
        offsets: Array = self.centers - self.minimizer
        return offsets

    @cached_property
    def forces(self) -> Array:
        r"""Minus the gradient of every example at the minimiser, :math:`f_i = H_i (c_i - \mu^*)`; their mean is 0.

        Shape (n, d). A step is :math:`e \leftarrow e - \eta (\bar H_B e - \bar f_B)` plus center noise.
        """
        return matrix_vector(self.hessians, self.offsets)

    @property
    def floor(self) -> float:
        r"""Expected batch loss at the minimiser.

        :math:`\tfrac12 \operatorname{mean}[(c_i-\mu^*)^\top H_i (c_i-\mu^*)] + \tfrac12 \operatorname{tr}(\bar H Z)`,
        for any batch size.
        """
        own = np.einsum("n,ni,ni->", self.probabilities, self.offsets, self.forces)
        return float(0.5 * own + 0.5 * (self.mean_hessian * self.center_covariance).sum())

    @checked(error=real)
    def excess_risk(self, error: Numeric) -> Numeric:
        r"""Population loss above its minimum, :math:`\tfrac12 e^\top \bar H e`.

        Parameters
        ----------
        error : array, shape (..., d), or a DataArray with the dim ``mode``
            Distance from the minimiser.

        Returns
        -------
        Numeric, shape (...)
        """
        return half_square(type(self).__name__, self.mean_hessian, error)

    def _apart(self, error: Numeric, drawn: Numeric, center_noise: Numeric) -> tuple[Array, Array]:
        """Hessian of every draw, and the way from its center to the point."""
        owner = type(self).__name__
        indices = np.asarray(drawn).astype(np.int64)
        if indices.ndim == 0 or indices.max() >= self.examples:
            raise ValueError(
                f"{owner}: drawn must be an array of example numbers in 0..{self.examples - 1} along its last axis, "
                f"got {np.asarray(drawn).tolist()}"
            )
        point = one_per_mode(owner, "error", error, self.modes)
        noise = one_per_mode(owner, "center_noise", center_noise, self.modes)
        return self.hessians[indices], point[..., None, :] - self.offsets[indices] - noise

    @checked(error=real, drawn=whole, center_noise=real)
    def batch_loss(self, error: Numeric, drawn: Numeric, center_noise: Numeric = 0.0) -> float | Array:
        r"""Loss of a mini-batch, :math:`\tfrac1S \sum_s \tfrac12 (x - c_{i_s} - \zeta_s)^\top H_{i_s} (\dots)`.

        Parameters
        ----------
        error : array, shape (..., d)
            Distance of the iterate from the minimiser.
        drawn : array of int, shape (..., S)
            Numbers 0..n-1 of the examples in the batch; S may be any size here.
        center_noise : float or array, shape (..., S, d)
            :math:`\zeta_s`.

        Returns
        -------
        float or array, shape (...)
        """
        hessians, apart = self._apart(error, drawn, center_noise)
        loss = 0.5 * np.einsum("...si,...si->...s", apart, matrix_vector(hessians, apart)).mean(axis=-1)
        return float(loss) if np.ndim(loss) == 0 else loss

    @checked(error=real, drawn=whole, center_noise=real)
    def batch_gradient(self, error: Numeric, drawn: Numeric, center_noise: Numeric = 0.0) -> Array:
        r"""Gradient of the loss of a mini-batch, :math:`\tfrac1S \sum_s H_{i_s} (x - c_{i_s} - \zeta_s)`.

        Parameters
        ----------
        error : array, shape (..., d)
            Distance of the iterate from the minimiser.
        drawn : array of int, shape (..., S)
            Numbers 0..n-1 of the examples in the batch.
        center_noise : float or array, shape (..., S, d)
            :math:`\zeta_s`.

        Returns
        -------
        array, shape (..., d)
        """
        hessians, apart = self._apart(error, drawn, center_noise)
        gradient: Array = matrix_vector(hessians, apart).mean(axis=-2)
        return gradient

    @checked(error=real, drawn=whole, learning_rate=nonnegative, center_noise=real)
    def step(self, error: Numeric, drawn: Numeric, learning_rate: Numeric, center_noise: Numeric = 0.0) -> Array:
        r"""One step of SGD, :math:`e - \eta \nabla L_B(e)`.

        Parameters
        ----------
        error : array, shape (..., d)
            Distance of the iterate from the minimiser.
        drawn : array of int, shape (..., S)
            Numbers 0..n-1 of the examples in the batch.
        learning_rate : float or array that broadcasts against (..., d)
            :math:`\eta`.
        center_noise : float or array, shape (..., S, d)
            :math:`\zeta_s`.

        Returns
        -------
        array, shape (..., d)

        Examples
        --------
        >>> FiniteSumQuadratic([0.5, 1.5]).step([1.0], [1], 0.5)
        array([0.25])
        """
        gradient = self.batch_gradient(error, drawn, center_noise)
        stepped: Array = one_per_mode(type(self).__name__, "error", error, self.modes) - learning_rate * gradient
        return stepped
