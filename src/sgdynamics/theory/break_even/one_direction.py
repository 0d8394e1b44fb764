r"""When SGD breaks even along one direction: stability in mean square of the sharpest direction, frozen as it is.

Along the top eigenvector of the Hessian examples have curvatures :math:`h_i` of mean :math:`\lambda` and variance
:math:`s^2` (divisor n) and one minimiser. With a fresh batch in every step

.. math:: \psi' = (1 - \eta h_B)\,\psi, \qquad E\psi'^2 = \rho\, E\psi^2, \qquad
    \rho = (1 - \eta\lambda)^2 + \eta^2 c_S s^2,

and :math:`\rho = 1` is the edge: :func:`sgdynamics.theory.quadratic.mean_square_factor` and
:func:`~sgdynamics.theory.quadratic.mean_square_edge_gain` of the gain :math:`\eta\lambda` and the relative variance
:math:`c_S s^2/\lambda^2`. How :math:`s` follows :math:`\lambda` while the run sharpens decides at which curvature the
edge is met: a closure.
"""

from __future__ import annotations

from sgdynamics._sampling import batch_factor
from sgdynamics.domains import Numeric
from sgdynamics.formula import formula, sqrt
from sgdynamics.models.break_even.parameters import PARAMETERS
from sgdynamics.theory._quotients import difference_of_quotients, quotient

__all__ = [
    "batch_variance_factor",
    "edge_curvature_at_distance",
    "edge_curvature_poisson",
    "gradient_noise_interaction",
    "non_uniformity_bound",
    "sharpness_bound",
]

_FROZEN = ("one direction", "frozen quadratic", "one minimiser for all examples", "independent batches")


@formula(
    PARAMETERS,
    quantity="ratio",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("simple random sample", "variance of the examples with divisor n"),
)
def batch_variance_factor(examples: Numeric, batch_size: Numeric, *, replacement: bool = False) -> Numeric:
    r"""Variance of a batch mean per variance of one example.

    .. math:: c_S = \frac{n-S}{S(n-1)}, \qquad \text{with replacement: } c_S = \frac1S

    with the variance over the :math:`n` examples taken with divisor n. The gradient of a batch hence has the covariance
    :math:`c_S K`, and its curvature along a direction the variance :math:`c_S s^2`. The full batch, drawn without
    replacement, has none; reshuffled batches of one epoch depend on each other and have another edge
    (:func:`sgdynamics.theory.quadratic.reshuffled_edge`).

    Returns
    -------
    Numeric

    Raises
    ------
    ValueError
        If the batch is larger than the set.

    Examples
    --------
    >>> batch_variance_factor(6, 2), batch_variance_factor(6, 2, replacement=True)
    (0.4, 0.5)
    """
    return batch_factor("batch_variance_factor", examples, batch_size, replacement)


@formula(PARAMETERS, quantity="curvature", status="exact", symbolic=True, source="derived", assumptions=_FROZEN)
def gradient_noise_interaction(curvature: Numeric, curvature_variance: Numeric, batch_factor: Numeric) -> Numeric:
    r"""Gradient-noise interaction in one direction, :math:`E[g_B \lambda g_B]/\bar g^2 = E h_B^2/E h_B`.

    .. math:: \mathrm{GNI} = \lambda + \frac{c_S s^2}{\lambda}

    :math:`\eta\,\mathrm{GNI} = 2` if and only if the second moment neither grows nor shrinks. Batch sharpness is
    another number at the same edge: as a mean of ratios :math:`\eta E h_B \le 2`, as a ratio of means
    :math:`\eta E h_B^3/E h_B^2`, which is at least 2 where no batch has a negative curvature (two equally likely
    batches of -2 and 3 have .225).

    Returns
    -------
    Numeric
        In units of curvature.

    Examples
    --------
    >>> gradient_noise_interaction(1.0, 0.25, 1.0)
    1.25
    """
    return curvature + quotient((batch_factor, curvature_variance), (curvature,))


@formula(
    PARAMETERS,
    quantity="curvature",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_FROZEN, "variance of the curvatures proportional to their mean"),
)
def edge_curvature_poisson(learning_rate: Numeric, batch_factor: Numeric, curvature_scale: Numeric) -> Numeric:
    r"""Curvature at the edge where the variance of curvatures is proportional to their mean, :math:`s^2 = k\lambda`.

    .. math:: \lambda = \frac2\eta - k c_S

    as for curvatures that are counts of events of size k. Not positive where no curvature is stable.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> edge_curvature_poisson(0.1, 0.5, 4.0)
    18.0
    """
    return difference_of_quotients((2,), (learning_rate,), (curvature_scale, batch_factor))


@formula(
    PARAMETERS,
    quantity="curvature",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=(*_FROZEN, "gradient variance along the direction proportional to the curvature"),
)
def edge_curvature_at_distance(
    learning_rate: Numeric, batch_factor: Numeric, alignment: Numeric, distance: Numeric
) -> Numeric:
    r"""Curvature at the edge where the gradient variance is proportional to the curvature, at a given distance.

    With a common minimiser at the distance :math:`\psi` the gradient variance along the direction is
    :math:`\psi^2 s^2`. If it is :math:`\alpha\lambda`, then :math:`s^2 = \alpha\lambda/\psi^2` and

    .. math:: \lambda = \frac2\eta - \frac{\alpha c_S}{\psi^2}.

    Not positive where no curvature is stable so near to the minimiser. Where the sharpest direction is, up to its sign,
    the top eigenvector of the gradient covariance, :math:`\alpha = \lambda_K/\lambda_H`, the ratio of both top
    eigenvalues. Where it is not, :math:`\alpha = e_H^TKe_H/\lambda_H` is smaller and the edge higher.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> edge_curvature_at_distance(0.1, 1.0, 0.05, 0.1)
    15.0
    """
    return difference_of_quotients((2,), (learning_rate,), (alignment, batch_factor), (distance, distance))


@formula(PARAMETERS, quantity="curvature", status="bound", symbolic=True, source="derived", assumptions=_FROZEN)
def sharpness_bound(learning_rate: Numeric) -> Numeric:
    r"""Curvature that no stable direction exceeds, whatever the spread: :math:`\lambda \le 2/\eta`.

    One of a pair of necessary conditions with :func:`non_uniformity_bound`; both together are not sufficient.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> sharpness_bound(0.1)
    20.0
    """
    return 2 / learning_rate


@formula(PARAMETERS, quantity="curvature", status="bound", symbolic=True, source="derived", assumptions=_FROZEN)
def non_uniformity_bound(learning_rate: Numeric, batch_factor: Numeric) -> Numeric:
    r"""Standard deviation of the curvatures that no stable direction exceeds: :math:`s \le 1/(\eta\sqrt{c_S})`.

    Reached at :math:`\lambda = 1/\eta`. +inf for the full batch.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> non_uniformity_bound(0.1, 0.25)
    20.0
    """
    return 1 / (learning_rate * sqrt(batch_factor))
