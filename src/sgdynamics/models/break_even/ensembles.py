r"""Examples that differ in curvature, drawn from a seed."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import named_tuple_repr
from sgdynamics.domains import checked, choice, complain, flag, integer, nonnegative, one, optional, seeds
from sgdynamics.models._generators import generator_of

__all__ = ["ExampleEnsemble", "draw_ensemble", "gaussian_features"]

Array = NDArray[np.float64]

# What a part of the seed is for.
_CURVATURE, _FORCE = 0, 1


class ExampleEnsemble(NamedTuple):
    r"""Relative curvatures :math:`h_i` and forces :math:`b_i` of the examples.

    Attributes
    ----------
    relative_curvatures : array, shape (examples,) or (examples, modes)
        Of mean 1.
    forces : array, of the same shape
        Of mean 0.
    """

    relative_curvatures: Array
    forces: Array

    def __repr__(self) -> str:
        return named_tuple_repr(self)


@checked(
    examples=integer(2),
    relative_variance=one(nonnegative),
    force_deviation=one(nonnegative),
    law=choice("gaussian", "gamma"),
    modes=optional(integer(1)),
    exact_moments=flag,
    seed=seeds,
)
def draw_ensemble(
    examples: int,
    *,
    relative_variance: float,
    force_deviation: float = 0.0,
    law: Literal["gaussian", "gamma"] = "gaussian",
    modes: int | None = None,
    exact_moments: bool = True,
    seed: int | np.random.SeedSequence,
) -> ExampleEnsemble:
    r"""Per-example curvatures of mean 1 and variance :math:`\kappa^2`, forces of mean 0 and deviation :math:`\sigma`.

    The forces are Gaussian. With ``exact_moments`` the sample itself has these moments (divisor n) and no correlation
    between curvature and force: the draws are centered and scaled, the forces after their projection on the curvatures
    is taken out, for which it takes four examples where there is a force. The scaled curvatures of the Gamma law can
    then be slightly negative. Without it only the means are set, by dividing the curvatures by their mean and
    subtracting that of the forces, so that the sample variance of a heavy-tailed law scatters. Forces without deviation
    are 0 for any number of examples.

    Parameters
    ----------
    examples : int
        :math:`n \ge 2`; with a force and exact moments at least 4.
    relative_variance : float
        :math:`\kappa^2 \ge 0`; rank-one Hessians of Gaussian features have 2.
    force_deviation : float
        :math:`\sigma \ge 0`.
    law : {"gaussian", "gamma"}
        Law of the curvatures: Gaussian, some of them negative, or Gamma of shape :math:`1/\kappa^2`.
    modes : int, optional
        Draw that many independent ensembles, as columns. None: one, without a second axis.
    exact_moments : bool
        Whether the sample has exactly the given moments.
    seed : int or SeedSequence
        The same curvatures for every force deviation, and the other way round, up to what exact moments take out.

    Returns
    -------
    ExampleEnsemble
        ``relative_curvatures`` and ``forces``, (examples,) or (examples, modes).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or the relative variance so large that all draws of a Gamma law are 0.

    Examples
    --------
    >>> drawn = draw_ensemble(64, relative_variance=0.25, force_deviation=0.5, seed=0)
    >>> round(float(drawn.relative_curvatures.mean()), 12), round(float(drawn.relative_curvatures.var()), 12)
    (1.0, 0.25)
    >>> round(float(drawn.forces.std()), 12), abs(round(float(drawn.relative_curvatures @ drawn.forces), 12))
    (0.5, 0.0)
    """
    if exact_moments and force_deviation and examples < 4:
        raise complain("draw_ensemble", "examples", "an integer >= 4 for exact moments of a force", examples)
    shape = (examples, modes or 1)
    curvatures = _curvatures(generator_of(seed, _CURVATURE), shape, relative_variance, law, exact_moments)
    forces = np.zeros(shape)
    if force_deviation:
        forces = force_deviation * _forces(generator_of(seed, _FORCE), curvatures, exact_moments)
    if modes is None:
        return ExampleEnsemble(curvatures[:, 0], forces[:, 0])
    return ExampleEnsemble(curvatures, forces)


def _curvatures(
    generator: np.random.Generator, shape: tuple[int, int], variance: float, law: str, exact_moments: bool
) -> Array:
    if variance == 0:
        return np.ones(shape)
    if law == "gamma":
        drawn = generator.gamma(1 / variance, variance, shape)
        if not drawn.any(axis=0).all():
            text = f"small enough that of {shape[0]} draws from the Gamma law not all are 0"
            raise complain("draw_ensemble", "relative_variance", text, variance)
    else:
        drawn = 1 + math.sqrt(variance) * generator.standard_normal(shape)
    if not exact_moments:
        scaled: Array = drawn / drawn.mean(axis=0)
        return scaled
    return 1 + math.sqrt(variance) * _standard(drawn)


def _standard(drawn: Array) -> Array:
    centered = drawn - drawn.mean(axis=0)
    deviation = np.sqrt((centered**2).mean(axis=0))
    made: Array = centered / np.where(deviation == 0, 1.0, deviation)  # 0 where it is lost beside the mean
    return made


def _forces(generator: np.random.Generator, curvatures: Array, exact_moments: bool) -> Array:
    drawn: Array = generator.standard_normal(curvatures.shape)
    drawn = drawn - drawn.mean(axis=0)
    if not exact_moments:
        return drawn
    along = curvatures - curvatures.mean(axis=0)
    square = (along**2).sum(axis=0)
    drawn = drawn - along * ((along * drawn).sum(axis=0) / np.where(square == 0, 1.0, square))
    return _standard(drawn)


@checked(examples=integer(1), dimensions=integer(1), decay=one(nonnegative), seed=seeds)
def gaussian_features(
    examples: int, dimensions: int, *, decay: float = 0.0, seed: int | np.random.SeedSequence
) -> Array:
    r"""Gaussian features whose variances fall as a power, the square roots of per-example Hessians of rank one.

    .. math:: \phi_{ij} = j^{-p/2} z_{ij}, \qquad H_i = \phi_i \phi_i^\top, \qquad z_{ij} \sim N(0, 1)

    from NumPy's ``default_rng(seed)``, row by row. The mean Hessian has eigenvalues near :math:`j^{-p}`.

    Parameters
    ----------
    examples : int
        :math:`n \ge 1`.
    dimensions : int
        :math:`d \ge 1`.
    decay : float
        :math:`p \ge 0`; 0 is a flat spectrum.
    seed : int or SeedSequence

    Returns
    -------
    array, shape (examples, dimensions)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> features = gaussian_features(64, 10, decay=1.0, seed=0)
    >>> round(float((features.T @ features / 64).trace()), 3)
    2.857
    """
    normals = np.random.default_rng(seed).standard_normal((examples, dimensions))
    made: Array = normals * np.arange(1, dimensions + 1) ** (-decay / 2)
    return made
