r"""One direction whose curvature differs from batch to batch.

:math:`e_t = e_{t-1} - \eta h_t (e_{t-1} - \xi_t)` with independent curvatures of mean :math:`\bar h` and variance
:math:`s^2`, per batch. The gain is :math:`x = \eta \bar h`, the relative variance :math:`q = s^2/\bar h^2`. Variances
are second moments :math:`E e^2`: random curvature turns mean into variance, so that the variance alone obeys no
recursion.

Second moments at any step, for any batch size, centers that depend on the curvature and more than one direction:
:func:`moments` and :func:`stationary` of a :class:`FiniteSumQuadratic`.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric, positive, whole
from sgdynamics.formula import decay, formula, geometric_sum, stable_below
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.parameters import Parameter
from sgdynamics.theory.quadratic._kernel import below_the_edge, gradient_point_parts, kernel_parts, variance_edge_gain

_GAIN = Parameter("x", "learning rate times mean curvature", positive, 0.5)

__all__ = [
    "almost_sure_edge_gain",
    "mean_square_edge_gain",
    "mean_square_factor",
    "random_curvature_second_moment",
    "random_curvature_variance",
]


@formula(
    PARAMETERS,
    gain=_GAIN,
    quantity="factor",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("independent batches", "one direction", "plain SGD"),
)
def mean_square_factor(gain: Numeric, relative_variance: Numeric) -> Numeric:
    r"""Factor per step of the second moment of the error, without center noise.

    .. math:: E(1 - \eta h)^2 = (1-x)^2 + x^2 q

    Below 1 is stability in mean square, :math:`(1-\eta \bar h)^2 + \eta^2 s^2 < 1`. In several directions it is a lower
    bound of the factor of the whole second moment, so that at most 1 is necessary for stability and not sufficient
    (:func:`second_moment_edge`).

    Returns
    -------
    Numeric

    Examples
    --------
    >>> mean_square_factor(0.5, 0.25)
    0.3125
    """
    return (1 - gain) ** 2 + gain**2 * relative_variance


@formula(
    PARAMETERS,
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("independent batches", "one direction"),
)
def mean_square_edge_gain(relative_variance: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False) -> Numeric:
    r"""Gain at which the second moment ceases to be stable.

    Where :math:`q V'(x) = 1` with the additive-noise variance :math:`V'` of the points at which gradients are taken:
    the error that curvature noise makes then makes as much curvature noise again. For plain SGD and the heavy ball
    :math:`V'` is :func:`stationary_variance`.

    .. math:: x = \frac{2}{1+q}, \qquad \text{heavy ball: } \frac{2(1-\beta^2)}{(1-\beta) + q(1+\beta)}, \qquad
        \text{Nesterov: } \beta(1+2\beta)(1+q) x^2 + (1-\beta-4\beta^2+q(1+\beta)) x = 2(1-\beta^2).

    Divided by the mean curvature it is the largest stable learning rate; divided by the learning rate it is the
    curvature at which a run breaks even whose spread of curvatures is proportional to their mean, :math:`q = c_S
    \kappa^2`. Rank-one Hessians of Gaussian features have :math:`\kappa^2 = 2`.

    The heavy ball raises the edge of the mean from 2 to :math:`2(1+\beta)`; the edge in mean square it raises only
    where :math:`q < (1-\beta)/(1+\beta)`, and lowers it where curvature noise is stronger.

    Returns
    -------
    Numeric
        :math:`\eta \bar h` at the edge, dimensionless.

    Examples
    --------
    >>> mean_square_edge_gain(0.25)
    1.6
    """
    return variance_edge_gain(relative_variance, momentum, nesterov)


@formula(
    PARAMETERS,
    quantity="gain",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("independent batches", "one direction", "Cauchy law of the curvature"),
)
def almost_sure_edge_gain(relative_width: Numeric, *, momentum: Numeric = 0.0) -> Numeric:
    r"""Gain at which almost every path of the heavy ball ceases to be stable, for curvature noise with heavy tails.

    The ratio of two errors that follow each other obeys :math:`z' = 1 + \beta - \eta h_B - \beta/z`. Where the
    curvature of a batch has the Cauchy law of location :math:`\bar h` and half-width :math:`q \bar h`, so has z, and
    the growth per step is :math:`E \log|z| = \log|\zeta|` with the larger root of :math:`\zeta^2 - (1+\beta-x+iqx)
    \zeta + \beta`. It is 1 where :math:`\zeta` is on the unit circle:

    .. math:: x = \frac{2(1+\beta)(1-\beta)^2}{(1-\beta)^2 + q^2 (1+\beta)^2}, \qquad
        \frac{2}{1+q^2} \text{ for plain SGD}.

    The variance of such curvatures is infinite and no rate is stable in mean square; almost every path is stable all
    the same. Compare :func:`mean_square_edge_gain`: here too momentum raises the edge only where noise is weak. Other
    laws have no closed form with momentum: :func:`almost_sure_growth` bounds the growth of finitely many curvatures
    from both sides, and :func:`sgdynamics.simulate.quadratic.top_lyapunov_exponent` measures.

    Returns
    -------
    Numeric
        :math:`\eta \bar h` at the edge, dimensionless.

    Examples
    --------
    >>> almost_sure_edge_gain(0.5), almost_sure_edge_gain(0.5, momentum=0.5)
    (1.6, 0.923076...)
    """
    forget, raised = 1 - momentum, 1 + momentum
    return 2 * raised * forget**2 / (forget**2 + (relative_width * raised) ** 2)


@formula(
    PARAMETERS,
    gain=_GAIN,
    edge=stable_below(gain=variance_edge_gain),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("independent batches", "one direction", "center independent of the curvature", "stationary"),
)
def random_curvature_variance(
    gain: Numeric, relative_variance: Numeric, *, momentum: Numeric = 0.0, nesterov: bool = False
) -> Numeric:
    r"""Stationary variance where the curvature of a batch is random and independent of its center.

    .. math:: \frac{v}{\sigma^2} = \frac{(1+q) V(x)}{1 - q V'(x)} = \frac{x(1+q)}{2 - x(1+q)} \text{ for plain SGD}

    with :func:`stationary_variance` :math:`V`, and :math:`V'` the same for the points at which gradients are taken,
    which is :math:`V` but for Nesterov: :math:`x (1+\beta+\beta(1+2\beta)x) / [(1-\beta+\beta x) (2(1+\beta) -
    (1+2\beta)x)]`. Plain SGD at random curvature is plain SGD at the constant curvature
    :math:`E h^2/E h`.

    Returns
    -------
    Numeric
        In units of the center variance of one batch.

    Examples
    --------
    >>> random_curvature_variance(0.5, 1.0)
    1.0
    """
    numerator, denominator = kernel_parts(gain, gain, momentum, nesterov)
    ahead, _ = gradient_point_parts(gain, gain, momentum, nesterov)
    return below_the_edge((1 + relative_variance) * numerator, denominator - relative_variance * ahead)


@formula(
    PARAMETERS,
    gain=_GAIN,
    steps=Parameter("t", "number of steps", whole, 7.0),
    quantity="variance",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("independent batches", "one direction", "center independent of the curvature", "plain SGD"),
)
def random_curvature_second_moment(
    gain: Numeric, relative_variance: Numeric, steps: Numeric, start: Numeric
) -> Numeric:
    r"""Second moment of the error after any number of steps, at stable and unstable gains.

    .. math:: \frac{E e_t^2}{\sigma^2} = \rho^t \frac{E e_0^2}{\sigma^2} + x^2 (1+q) \frac{1-\rho^t}{1-\rho}, \qquad
        1 - \rho = x (2 - x(1+q)).

    Returns
    -------
    Numeric
        In units of the center variance of one batch.

    Examples
    --------
    >>> random_curvature_second_moment(0.5, 0.5, 1, 0.0)
    0.375
    """
    forget = gain * (2 - gain * (1 + relative_variance))
    return start * decay(forget, steps) + gain**2 * (1 + relative_variance) * geometric_sum(forget, steps)
