r"""How large a learning rate may be for almost every path, and how heavy the tails are where variances diverge.

A path feels only the mean logarithm of its multipliers. Between the edge in mean square and the almost-sure edge the
iterates have a stationary law of infinite variance, with the tail index of :func:`tail_index`. With momentum the
multipliers are matrices, and how fast their products grow is a number between two bounds.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sgdynamics.domains import Numeric, Value, checked, flag, instance_of, positive, swept, unit_interval
from sgdynamics.formula import law
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.theory._roots import bracketed_root
from sgdynamics.theory.quadratic._gradient_noise import (
    ANY_MODEL,
    MatrixModel,
    gradient_noise,
    require_independent_batches,
)
from sgdynamics.theory.quadratic._random_products import bounded_growth, estimated_growth, unevenness
from sgdynamics.theory.quadratic._scalar_law import CurvatureLaw, DiscreteLaw, curvature_law
from sgdynamics.theory.quadratic._sweep import over_points, unswept
from sgdynamics.theory.quadratic.edges import mean_edge, second_moment_edge

__all__ = ["almost_sure_edge", "almost_sure_growth", "tail_index"]

Array = NDArray[np.float64]

# Cells of the directions of a state with momentum: as many as keep cells times curvatures small, within these ends.
_FEWEST, _MOST, _PRODUCTS = 512, 2**13, 2**17
# Condition number of coordinates that are not taken: those of an update that is nearly defective.
_SKEWED = 1e6
# Factor between the rates at which the first crossing with momentum is bracketed.
_STRIDE = 1 + 1 / 32


def _one_curvature(model: Any, owner: str) -> CurvatureLaw | None:
    """Law of the curvature of a batch; None where all batches share one Hessian."""
    if isinstance(model, MiniBatchQuadratic | FullQuadratic):
        return None
    if isinstance(model, FiniteSumQuadratic) and not gradient_noise(model).random:
        return None
    if model.modes > 1:
        raise ValueError(
            f"{owner}: model must have one mode (the growth of products of larger random matrices has neither a closed "
            f"form nor bounds here) or one Hessian for all batches, got {model.modes} modes"
        )
    return curvature_law(model, owner)


def _cells(law: DiscreteLaw) -> int:
    return min(max(_PRODUCTS // law.values.size, _FEWEST), _MOST)


def _updates(law: DiscreteLaw, rate: float, momentum: float, nesterov: bool) -> Array:
    r"""Matrices of one update, one for each curvature, in the coordinates in which directions grow more alike.

    Of :math:`e_t` and :math:`\sqrt\beta e_{t-1}`, or turned so that that of the mean curvature is a rotation: close
    bounds where curvatures differ much, and where they differ little.
    """
    kept, root = 1 - rate * law.values, np.sqrt(momentum)
    updates = np.zeros((kept.size, 2, 2))
    updates[:, 0, 0] = (1 + momentum) * kept if nesterov else kept + momentum
    updates[:, 0, 1] = -root * (kept if nesterov else 1.0)
    updates[:, 1, 0] = root
    if np.any(np.linalg.det(updates) == 0):
        return updates
    mean = np.tensordot(law.probabilities, updates, 1)
    half = np.trace(mean) / 2
    turns = np.linalg.det(mean) - half**2  # square of the imaginary part of its eigenvalues, if they are complex
    if turns <= 0:
        return updates
    # real and imaginary part of an eigenvector whose first entry is real: in one phase, whatever is rounded
    frame = np.array([[mean[0, 1], 0.0], [half - mean[0, 0], np.sqrt(turns)]])
    if np.linalg.cond(frame) > _SKEWED:
        return updates
    turned: Array = np.linalg.solve(frame, updates @ frame)
    return min((updates, turned), key=lambda choice: unevenness(choice, law.probabilities))


def _growth(law: DiscreteLaw, rate: float, momentum: float, nesterov: bool) -> tuple[float, float, float]:
    """Growth per step of almost every path, and bounds of it from both sides."""
    if momentum == 0:
        mean = law.mean_log(rate)
        return mean, mean, mean
    updates = _updates(law, rate, momentum, nesterov)
    if len(updates) == 1:
        radius = float(np.log(np.abs(np.linalg.eigvals(updates[0])).max()))
        return radius, radius, radius
    if np.any(np.linalg.det(updates) == 0):  # Nesterov's at the reciprocal of a curvature: twice in a row it is 0
        return (-np.inf,) * 3
    low, high = bounded_growth(updates, law.probabilities, _cells(law))
    growth = estimated_growth(updates, law.probabilities, _cells(law))
    return min(max(growth, low), high), low, high


@law(PARAMETERS, quantity="report")
@checked(
    model=instance_of(FiniteSumQuadratic), learning_rate=swept(positive), momentum=swept(unit_interval), nesterov=flag
)
def almost_sure_growth(
    model: FiniteSumQuadratic, learning_rate: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> xr.Dataset:
    r"""Logarithm of the factor per step by which almost every path grows, in one direction.

    .. math:: \gamma = \lim_{t \to \infty} \tfrac1t \log \|A_t \cdots A_1 s\|, \qquad
        A = \begin{pmatrix} 1 + \beta - \eta h_B & -\beta \\ 1 & 0 \end{pmatrix}

    for the heavy ball, :math:`E \log |1 - \eta h_B|` without momentum. The top Lyapunov exponent of a product of random
    matrices has no closed form: it is the mean of :math:`l_A(v) = \log |A v|` where directions of the state are at
    rest. It is bounded without knowing their law, because for any function u of the direction

    .. math:: \min_v \{E\,l_A + E\,u(Av) - u(v)\} \le \gamma \le \max_v \{E\,l_A + E\,u(Av) - u(v)\}.

    Divided by :math:`\sqrt\beta` the matrices are those of a random chain of atoms, :math:`e_{t+1} + e_{t-1} =
    \tau e_t` with :math:`\tau = (1 + \beta - \eta h_B)/\sqrt\beta`. Where :math:`\tau = \pm 1` with equal
    probability, moduli are those of a random Fibonacci sequence, and :math:`\gamma = \tfrac12 \log\beta + \log
    1.13198824879` (Viswanath 2000).

    Status: exact, within bounds that come with it: they close like the reciprocal of the number of cells, up to 8192,
    in which directions are parted. Without momentum, or with one curvature, both are the value itself.

    Parameters
    ----------
    model : FiniteSumQuadratic
        Of one mode, with batches that are independent from step to step; its centers do not matter.

    Returns
    -------
    Dataset
        ``growth`` per step, between ``growth_low`` and ``growth_high``. -inf where products vanish. Where curvatures
        hardly differ, or a step nearly kills the error, the bounds are wide and ``growth`` is an estimate.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the model is reshuffled, has several modes, or more than 4096 different
        batches.

    Examples
    --------
    >>> found = almost_sure_growth(FiniteSumQuadratic([0.5, 1.5]), 2.4, momentum=0.4)
    >>> round(found.growth.item(), 4), round(found.growth_low.item(), 3), round(found.growth_high.item(), 3)
    (0.0731, 0.073, 0.073)
    """
    require_independent_batches(model, None, "almost_sure_growth")
    if model.modes > 1:
        raise ValueError(f"almost_sure_growth: model must have one mode, got {model.modes} modes")
    law = curvature_law(model, "almost_sure_growth")
    assert isinstance(law, DiscreteLaw)  # of a finite sum

    def core(rate: Array, momentum: Array) -> tuple[float, float, float]:
        return _growth(law, float(rate), float(momentum), nesterov)

    names = {
        "growth": "growth of almost every path",
        "growth_low": "lower bound of the growth",
        "growth_high": "upper bound of the growth",
    }
    made = over_points(core, [(learning_rate, []), (momentum, [])], [[], [], []], {})
    found = xr.Dataset(dict(zip(names, made, strict=True)), attrs={"source": "derived"})
    for name, long_name in names.items():
        found[name].attrs = {"long_name": long_name, "units": "1/step"}
    return found


@overload
def almost_sure_edge(model: MatrixModel, *, momentum: float | Value = 0.0, nesterov: bool = False) -> Value: ...
@overload
def almost_sure_edge(
    model: MiniBatchQuadratic, *, momentum: float | xr.DataArray = 0.0, nesterov: bool = False
) -> float | xr.DataArray: ...
@law(PARAMETERS, quantity="learning rate")
@checked(model=ANY_MODEL, momentum=swept(unit_interval), nesterov=flag)
def almost_sure_edge(
    model: MiniBatchQuadratic | MatrixModel, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> Numeric:
    r"""Learning rate at which almost every path ceases to be stable.

    In one direction a path of plain SGD is a product of independent factors: it contracts almost surely if and only if
    :math:`E \log |1 - \eta h_B| < 0`. With momentum the factors are matrices, and their product contracts while
    :func:`almost_sure_growth` is negative. By Jensen's inequality the edge is never below that in mean square. It is
    the first crossing: a rate close to the reciprocal of one of the curvatures, which then kills the error in one step,
    can be stable again beyond it.

    In several directions a path is a product of larger random matrices
    (:func:`sgdynamics.simulate.quadratic.top_lyapunov_exponent` measures). A reshuffled epoch of plain SGD has the same
    edge as batches drawn without replacement, since the logarithm of a product is a sum.

    Status: exact for plain SGD; with momentum the root of a growth that is known within bounds, the first crossing seen
    at rates 1/32 apart, from the edge in mean square on; that edge itself, a lower bound, where growth there cannot be
    told from 0.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Of one mode, or with the same Hessian for all batches, for which all edges agree. With momentum and random
        curvature a FiniteSumQuadratic with independent batches.

    Returns
    -------
    Numeric
        A float; for a swept MiniBatchQuadratic or momentum labelled as the sweep.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the model has several modes and random Hessians, more than 4096 different
        batches, or, with momentum, reshuffled batches or Gaussian features.

    Examples
    --------
    >>> model = FiniteSumQuadratic([0.5, 1.5])
    >>> round(almost_sure_edge(model), 10), round(almost_sure_edge(model, momentum=0.4), 3)
    (2.6666666667, 2.215)
    """
    law = _one_curvature(model, "almost_sure_edge")
    if law is None:
        return mean_edge(model, momentum=momentum, nesterov=nesterov)
    if np.any(np.asarray(momentum) > 0):
        require_independent_batches(model, None, "almost_sure_edge")
        if not isinstance(law, DiscreteLaw):
            raise ValueError(
                "almost_sure_edge: momentum must be 0 where features are Gaussian: bounds are those of finitely many "
                f"curvatures, got {momentum}"
            )

    def core(momentum: Array) -> float:
        if momentum == 0:
            return law.almost_sure_edge()
        assert isinstance(law, DiscreteLaw)
        below = float(second_moment_edge(model, momentum=float(momentum), nesterov=nesterov))
        return _first_crossing(law, below, float(momentum), nesterov)

    (made,) = over_points(core, [(momentum, [])], [[]], {})
    swept: Numeric = unswept(made)
    return swept


def _first_crossing(law: DiscreteLaw, below: float, momentum: float, nesterov: bool) -> float:
    """The first rate, of those that a path of rates below and above brackets, with growth 0."""
    cells = _cells(law)

    def growth(rate: float) -> float:
        updates = _updates(law, rate, momentum, nesterov)
        if np.any(np.linalg.det(updates) == 0):
            return -np.inf
        return estimated_growth(updates, law.probabilities, cells)

    if growth(below) >= 0:  # by Jensen's inequality it is not: the edge is closer than growth can be told from 0
        return below
    above = _STRIDE * below
    while growth(above) < 0:
        below, above = above, _STRIDE * above
    return bracketed_root(growth, below, above)


@overload
def tail_index(model: MatrixModel, learning_rate: float | Value) -> Value: ...
@overload
def tail_index(model: MiniBatchQuadratic, learning_rate: float | xr.DataArray) -> float | xr.DataArray: ...
@law(PARAMETERS, quantity="exponent")
@checked(model=ANY_MODEL, learning_rate=swept(positive))
def tail_index(model: MiniBatchQuadratic | MatrixModel, learning_rate: Numeric) -> Numeric:
    r"""Tail index of the stationary law in one direction of random curvature.

    The positive solution :math:`\kappa` of :math:`E |1 - \eta h_B|^\kappa = 1`, for plain SGD: then :math:`P(|e| > t)`
    decays like :math:`t^{-\kappa}` (Kesten's theorem on random affine recursions, for noise that does not vanish and
    multipliers whose logarithms are not all multiples of one number). The variance is infinite from :math:`\kappa = 2`
    on, which is the edge in mean square.

    Status: exact.

    Parameters
    ----------
    model : MiniBatchQuadratic, FullQuadratic, FiniteSumQuadratic or GaussianLeastSquares
        Of one mode, or with the same Hessian for all batches, which has no power-law tail.

    Returns
    -------
    Numeric
        A float, or labelled as the sweep. +inf if no batch expands the error, 0 where the mean
        logarithm is not negative and no stationary law exists, as at the almost-sure edge; at rates beyond it that
        are stable again it is positive again.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, the model is reshuffled, has several modes and random Hessians, or more
        than 4096 different batches.

    Examples
    --------
    >>> round(tail_index(FiniteSumQuadratic([0.5, 1.5]), 1.45), 4)
    4.2858
    """
    require_independent_batches(model, None, "tail_index")
    law = _one_curvature(model, "tail_index")
    if law is None:
        edge = mean_edge(model)

        def core(rate: Array) -> float:
            return np.inf if rate < edge else 0.0
    else:

        def core(rate: Array) -> float:
            return law.tail_index(float(rate))

    (made,) = over_points(core, [(learning_rate, [])], [[]], {})
    return unswept(made)
