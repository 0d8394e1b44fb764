r"""Optimisers that scale the gradient: fixed powers of the curvature, Adam at rest, and the sign alone."""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import Numeric, checked, instance_of, one, positive, real
from sgdynamics.formula import formula, law, sqrt
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.quadratic.parameters import PARAMETERS
from sgdynamics.parameters import Parameter

__all__ = ["adam_gain", "adam_momentum_gain", "preconditioned", "sign_descent_variance"]


@law(quantity="model")
@checked(model=instance_of(MiniBatchQuadratic), exponent=one(real))
def preconditioned(model: MiniBatchQuadratic, exponent: Numeric) -> MiniBatchQuadratic:
    r"""The quadratic on which plain SGD is SGD with the fixed preconditioner :math:`H^{-p}` on this one.

    :math:`e \leftarrow e - \eta H^{-p} H (e - \xi)` has the gains :math:`\eta h^{1-p}`; as many directions as :math:`n
    h^p` in the place of :math:`n` give it the same risk. Every law, run and plan of a quadratic so holds for
    preconditioned ones, with momentum too. :math:`p = 1/2` is what Adam does where the gradient noise has the
    covariance H, :math:`p = 1` Newton's method: all directions at one gain, and all equally noisy.

    Status: exact, for preconditioners that commute with the curvature and do not change during the run.

    Parameters
    ----------
    model : MiniBatchQuadratic
    exponent : Numeric
        :math:`p`; 0 leaves the model as it is.

    Returns
    -------
    MiniBatchQuadratic

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> newton = preconditioned(MiniBatchQuadratic([1.0, 0.25], 1.0, displacement=2.0), 1.0)
    >>> newton.curvature, newton.multiplicity, newton.excess_risk(newton.start)
    (array([1., 1.]), array([1.  , 0.25]), 2.5)
    """
    return MiniBatchQuadratic(
        model.curvature ** (1 - exponent),
        model.center_variance,
        multiplicity=model.multiplicity * model.curvature**exponent,
        displacement=model.displacement,
        batch_size=model.batch_size,
    )


@formula(
    PARAMETERS,
    quantity="gain",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("one direction, or coordinates that are eigenvectors", "beta_1 = 0", "beta_2 -> 1", "stationary"),
)
def adam_gain(relative_rate: Numeric) -> Numeric:
    r"""Gain of Adam at rest, without its momentum: it divides by the gradients that its own noise makes.

    At rest :math:`E g^2 = h^2 \sigma^2 (1 + V)` with :math:`V = x/(2-x)`, so that the gain :math:`x = \eta h/\sqrt{E
    g^2}` solves :math:`x^2 = r^2 (2-x)/2`:

    .. math:: x = \frac{4r}{r + \sqrt{r^2+16}}, \qquad r = \frac{\eta}{\sigma}.

    The curvature drops out, and the gain stays below 2 at any learning rate: where there is noise, Adam in one
    direction has no edge. Small rates have the gain :math:`\eta/\sigma` and the variance :math:`\eta\sigma/2`.
    Directions that are no coordinates share their scale; the law is then a heuristic.

    Returns
    -------
    Numeric
        :math:`x` in (0, 2); the variance is :func:`stationary_variance` of it.

    Examples
    --------
    >>> adam_gain(0.1), round(adam_gain(3.0), 12)
    (0.0975312..., 1.5)
    """
    return 4 * relative_rate / (relative_rate + sqrt(relative_rate**2 + 16))


# Newton's method from above on a convex cubic: six halvings to the root, and then digits double.
_NEWTON = 40


@formula(
    PARAMETERS,
    quantity="gain",
    status="asymptotic",
    source="derived",
    assumptions=("one direction, or coordinates that are eigenvectors", "beta_2 -> 1", "stationary"),
)
def adam_momentum_gain(relative_rate: Numeric, *, momentum: Numeric = 0.0) -> Numeric:
    r"""Gain of Adam at rest with its momentum :math:`\beta = \beta_1`, the root of a cubic.

    Divided by a constant, Adam is the heavy ball at :math:`(1-\beta)x`, with :math:`x = \eta h/\sqrt{E g^2}`. It leaves
    :math:`V = (1+\beta)x/(2(1+\beta) - (1-\beta)x)`, and :math:`E g^2 = h^2\sigma^2(1 + V)` closes the circle:

    .. math:: 2x^2 (1 + \beta + \beta x) = r^2 \bigl(2(1+\beta) - (1-\beta)x\bigr), \qquad r = \frac{\eta}{\sigma}.

    The left side rises and the right side falls: there is one positive root, at any rate below the edge
    :math:`2(1+\beta)/(1-\beta)` of the heavy ball. Without momentum it is :func:`adam_gain`; small rates have the
    gain r with any momentum.

    Exact where the second moment is a constant, in the limit of a long memory :math:`1/(1-\beta_2)`. The error is of
    the order of :math:`1-\beta_2`: of the mean square at rest a few percent at 0.9 and one or less at 0.99, either way.

    Returns
    -------
    Numeric
        :math:`x`; the variance is :func:`stationary_variance` of :math:`(1-\beta)x` with this momentum.

    Examples
    --------
    >>> round(adam_momentum_gain(3.0), 12), round(adam_momentum_gain(3.0, momentum=0.9), 4)
    (1.5, 2.0722)
    """
    # w = r/x solves w^3 = forget w^2 + w + remembered; the sum of what each term alone would give is above the root
    forget = relative_rate * (1 - momentum) / (2 * (1 + momentum))
    remembered = relative_rate * momentum / (1 + momentum)
    above = forget + 1 + np.cbrt(remembered)
    second, first, last = forget / above, 1 / above**2, remembered / above**3
    share: Numeric = 1.0 + 0 * above
    for _ in range(_NEWTON):
        value = ((share - second) * share - first) * share - last
        share = share - value / ((3 * share - 2 * second) * share - first)
    return relative_rate / above / share


@formula(
    PARAMETERS,
    learning_rate=Parameter(r"\eta", "in the unit of the weights", positive, 0.25, "weight"),
    quantity="second moment",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("one direction", "logistic centers", "stationary"),
)
def sign_descent_variance(learning_rate: Numeric, scale: Numeric) -> Numeric:
    r"""Stationary mean square error of descent by the sign of the gradient.

    A step is :math:`e \leftarrow e - \eta \operatorname{sign}(e - \xi)`. Batch centers with the logistic law of scale s
    (variance :math:`\pi^2 s^2/3`) leave the density

    .. math:: p(e) \propto \cosh\frac{e}{2s}\, \exp\Bigl(-\frac{e^2}{2\eta s}\Bigr),

    two normal laws of variance :math:`\eta s` around :math:`\pm\eta/2`: steps up and down balance between any two
    points that are one step apart. Hence

    .. math:: E e^2 = \eta s + \tfrac14 \eta^2.

    Linear in the learning rate and in the spread of the centers, as Adam's, where plain SGD has their squares; the
    curvature drops out.

    A run stays on the points that are whole steps away from its start. Its own mean square differs from this one, the
    mean over starts drawn from p, by a share of some :math:`8\pi^2 (s/\eta) \exp(-2\pi^2 s/\eta)`: nothing, unless the
    rate is larger than the spread of the centers. Without noise a run alternates between two points.

    Returns
    -------
    Numeric
        In the unit of squared weights.

    Examples
    --------
    >>> sign_descent_variance(0.2, 1.0)
    0.21
    """
    return learning_rate * scale + learning_rate**2 / 4
