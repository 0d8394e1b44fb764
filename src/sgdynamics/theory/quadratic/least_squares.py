r"""Linear regression on fresh features: curvature noise whose strength is one number.

With Gaussian features of variances :math:`\lambda_i`, label noise of variance :math:`\sigma^2` and batches of :math:`S`

.. math:: v_i' = (1 - \eta\lambda_i)^2 v_i + \frac{\eta^2}{S} \Bigl[ \lambda_i^2 v_i
    + \lambda_i \bigl( \textstyle\sum_j \lambda_j v_j + \sigma^2 \bigr) \Bigr].

Directions talk to each other through the expected squared prediction error :math:`\sum_j \lambda_j v_j` alone, so
that the stationary law and its edge are sums over directions. Without the two terms in v in the bracket this is the
model of additive noise with center variance :math:`\sigma^2/\lambda_i`; that is the limit of large batches at a fixed
learning rate, where :math:`\sum_j r_j \to 0`.

Of independent features that are not Gaussian only the kurtosis :math:`\kappa` is seen: :math:`(\kappa-2) \lambda_i^2
v_i` takes the place of :math:`\lambda_i^2 v_i`.
"""

from __future__ import annotations

from sgdynamics.domains import Numeric, positive
from sgdynamics.formula import formula, stable_below, where
from sgdynamics.models.quadratic.parameters import PARAMETERS, at_least_one
from sgdynamics.parameters import Parameter
from sgdynamics.theory.quadratic._kernel import below_the_edge, gradient_point_parts, variance_edge_gain

__all__ = ["trace_rule_term"]


def _edge(batch_size: Numeric, momentum: Numeric, nesterov: bool, kurtosis: Numeric) -> Numeric:
    excess = where(kurtosis > 2, kurtosis - 2, 0.0)  # otherwise the mean is what becomes unstable
    return variance_edge_gain(excess / batch_size, momentum, nesterov)


@formula(
    PARAMETERS,
    gain=Parameter("x_i", "learning rate times feature variance", positive, 0.5),
    batch_size=Parameter(
        "S",
        "for batches of different examples from a finite set :math:`1/c_S`, with "
        ":func:`sgdynamics.theory.break_even.batch_variance_factor`",
        at_least_one,
        4.0,
    ),
    kurtosis=at_least_one,
    edge=stable_below(gain=_edge),
    quantity="share",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("independent features", "fresh examples", "stationary"),
)
def trace_rule_term(
    gain: Numeric,
    batch_size: Numeric = 1,
    *,
    momentum: Numeric = 0.0,
    nesterov: bool = False,
    kurtosis: Numeric = 3.0,
) -> Numeric:
    r"""What one direction adds to the trace rule of least squares.

    .. math:: r_i = \frac{V'(x_i)}{S - (\kappa-2) V'(x_i)} = \frac{x_i}{2S - (S+\kappa-2) x_i} \text{ for plain SGD},
        \qquad x_i = \eta\lambda_i,

    with the additive-noise variance :math:`V'` of the points at which gradients are taken, which is
    :func:`stationary_variance` but for Nesterov (see :func:`random_curvature_variance`). The second moment is stable
    if and only if :math:`\sum_i r_i < 1`. Then :math:`\sigma^2 \sum_i r_i/(1 - \sum_i r_i)` is the expected squared
    prediction error at these points; for plain SGD and the heavy ball that is twice the excess risk, and
    :math:`v_i = \sigma^2 r_i/(\lambda_i (1 - \sum_j r_j))`. One direction alone reaches 1 at the edge of relative
    variance :math:`(\kappa-1)/S`, many equal ones at a trace of about :math:`2S`: for flat spectra the trace, not the
    top curvature, sets the edge, and the kurtosis of the features hardly matters.

    Features must be independent of each other and symmetric, or Gaussian. A common random length, as of elliptical
    laws, couples directions more strongly.

    Returns
    -------
    Numeric
        :math:`r_i`, dimensionless.

    Examples
    --------
    >>> trace_rule_term(0.5, 1), trace_rule_term(0.5, 4)
    (0.5, 0.0909090...)
    >>> trace_rule_term(0.5, 1, kurtosis=1.0)
    0.25
    """
    numerator, denominator = gradient_point_parts(gain, gain, momentum, nesterov)
    return below_the_edge(numerator, batch_size * denominator - (kurtosis - 2) * numerator)
