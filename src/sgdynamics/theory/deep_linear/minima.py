r"""Sharpness at minima of deep linear networks, and the learning rates that can stay there.

At a minimum the Hessian is :math:`J^\top J` and has the nonzero eigenvalues of :math:`J J^\top = \sum_j (B_j^\top B_j)
\otimes (A_j A_j^\top)`. Where the layers are balanced both factors are powers of the target's own singular values.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import Numeric, checked, complain, integer, is_symbolic, positive
from sgdynamics.formula import formula, geometric_sum, law, stable_below, where
from sgdynamics.models.deep_linear._domains import finite_matrix, input_covariance_matrix
from sgdynamics.models.deep_linear.parameters import PARAMETERS
from sgdynamics.models.uv._pointwise import hypotenuse
from sgdynamics.parameters import Parameter
from sgdynamics.theory._quotients import parts, total

_LARGEST = Parameter(
    "s_1", "the largest of the target; for a chain, its absolute target", positive, 2.0, "output/input"
)

_BALANCED = ("whitened inputs", "balanced global minimum", "hidden layers no narrower than the rank of the target")


def _flattest(value: Numeric, depth: Numeric) -> Numeric:
    return depth * value ** (2 - 2 / depth)


@formula(
    PARAMETERS,
    singular_value=_LARGEST,
    quantity="sharpness",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_BALANCED,
)
def balanced_sharpness(singular_value: Numeric, depth: Numeric) -> Numeric:
    r"""Sharpness at a balanced global minimum, which is the flattest one.

    .. math:: D\, s_1^{2 - 2/D}

    No other minimum is flatter. With top singular vectors :math:`u, v` and :math:`a_j = A_j^\top u`, :math:`b_j = B_j
    v`, the sharpness is at least :math:`\sum_j |a_j|^2 |b_j|^2`. As :math:`\langle a_j, b_{j+1} \rangle = s_1`, the
    product of these D terms is at least :math:`s_1^{2(D-1)}`, and their sum at least D times its D-th root. For a chain
    this is the inequality :math:`y^2 \sum_i w_i^{-2} \ge D y^{2-2/D}`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> balanced_sharpness(4.0, 2)
    8.0
    """
    return _flattest(singular_value, depth)


@formula(
    PARAMETERS,
    singular_value=_LARGEST,
    quantity="learning rate",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=_BALANCED,
)
def persistent_edge(singular_value: Numeric, depth: Numeric, *, momentum: Numeric = 0.0) -> Numeric:
    r"""Learning rate beyond which no minimum is stable: whatever survives stays at the edge of stability for good.

    .. math:: \eta_c = \frac{2(1+\beta)}{D\, s_1^{2 - 2/D}},

    :math:`2(1+\beta)` over the sharpness of the flattest minimum (:func:`balanced_sharpness`).

    Returns
    -------
    Numeric
        Learning rate.

    Examples
    --------
    >>> persistent_edge(4.0, 2)
    0.25
    """
    return 2 * (1 + momentum) / _flattest(singular_value, depth)


@formula(PARAMETERS, quantity="curvature", status="exact", symbolic=True, source="derived", assumptions=_BALANCED)
def balanced_eigenvalue(output_value: Numeric, input_value: Numeric, depth: Numeric) -> Numeric:
    r"""Eigenvalue of the Hessian at a balanced minimum that belongs to one output and one input direction.

    .. math:: \sum_{j=1}^{D} s_a^{2(D-j)/D} s_b^{2(j-1)/D}

    It is :math:`D s^{2-2/D}` for a direction of the target with itself. Directions with :math:`s = 0` are dealt with by
    :func:`balanced_spectrum`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> balanced_eigenvalue(4.0, 1.0, 2)
    5.0
    """
    if any(map(is_symbolic, (output_value, input_value, depth))):
        large, small = output_value ** (2 / depth), input_value ** (2 / depth)
        return large ** (depth - 1) * geometric_sum(1 - small / large, depth)
    low, high = np.minimum(output_value, input_value), np.maximum(output_value, input_value)
    # log(low/high), by a form that neither cancels nor underflows
    step = 2 * where(2 * low > high, np.log1p((low - high) / high), np.log(low) - np.log(high))
    terms = where(step == 0, depth, np.expm1(step) / where(step == 0, 1.0, np.expm1(step / depth)))
    return high ** (2 - 2 / depth) * terms


@law(quantity="spectrum")
@checked(target=finite_matrix, depth=integer(1), input_covariance=input_covariance_matrix)
def balanced_spectrum(target: ArrayLike, depth: int, *, input_covariance: ArrayLike | None = None) -> xr.DataArray:
    r"""Every eigenvalue of the Hessian at a balanced minimum, but for the zeros of directions that do not move the map.

    For output direction a the input directions have the eigenvalues of

    .. math:: \Sigma^{1/2} \Bigl[ \sum_{j=1}^{D} s_a^{2(D-j)/D} (A^\top A)^{(j-1)/D} \Bigr] \Sigma^{1/2} .

    Status: exact; the hidden layers are no narrower than the smaller dimension of the target.

    Parameters
    ----------
    target : array, shape (outputs, inputs)
        :math:`A`.
    depth : int
        :math:`D \ge 1` weight matrices.
    input_covariance : array, shape (inputs, inputs), optional
        :math:`\Sigma`; the identity where nothing is said. It need not share directions with the target.

    Returns
    -------
    xarray.DataArray
        Dims ``output`` (by descending singular value of the target) and ``input`` (eigenvalues, descending).

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    A zero singular value counts with :math:`0^0 = 1`: the first layer still sees its input, the last one its output.

    Examples
    --------
    >>> balanced_spectrum([[4.0, 0.0], [0.0, 1.0]], 2).values
    array([[8., 5.],
           [5., 2.]])
    """
    matrix = np.asarray(target)
    outputs, inputs = matrix.shape
    if input_covariance is None:
        covariance = np.eye(inputs)
    else:
        covariance = np.asarray(input_covariance)
        if covariance.shape != (inputs, inputs):
            text = f"of shape ({inputs}, {inputs})"
            raise complain("balanced_spectrum", "input_covariance", text, f"shape {covariance.shape}")
    with one_blas_thread():
        _, values, right = np.linalg.svd(matrix)
        of_outputs, of_inputs = np.zeros(outputs), np.zeros(inputs)
        of_outputs[: values.size] = of_inputs[: values.size] = values
        scales, axes = np.linalg.eigh(covariance)
        root = right @ (axes * np.sqrt(np.maximum(scales, 0.0))) @ axes.T  # the root, seen from the target's inputs
        spectrum = []
        for value in of_outputs:
            layers = [value ** (2 - 2 * j / depth) * of_inputs ** (2 * (j - 1) / depth) for j in range(1, depth + 1)]
            spectrum.append(np.linalg.eigvalsh(root.T @ (np.sum(layers, axis=0)[:, None] * root))[::-1])
    return xr.DataArray(
        np.array(spectrum),
        dims=("output", "input"),
        coords={"singular_value": ("output", of_outputs, {"long_name": "singular value of the target", "units": "1"})},
        attrs={"long_name": "Hessian eigenvalue at the balanced minimum", "units": "1/learning rate"},
    )


@formula(
    PARAMETERS,
    quantity="sharpness",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("a chain of equal weights", "the output is at least half the target"),
)
def equal_chain_sharpness(weight: Numeric, target: Numeric, depth: Numeric) -> Numeric:
    r"""Largest eigenvalue of the Hessian of a chain of equal weights, on the way up to its minimum.

    .. math:: \frac{f \bigl[ (2D-1) f - (D-1) y \bigr]}{w^2}, \qquad f = w^D

    It belongs to the direction in which all weights grow. The others have :math:`-f(f-y)/w^2`, which is larger only
    below :math:`f = y/2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> equal_chain_sharpness(1.0, 1.0, 5)
    5.0
    """
    if any(map(is_symbolic, (weight, target, depth))):
        return weight ** (depth - 2) * ((2 * depth - 1) * weight**depth - (depth - 1) * target)
    # a power in four parts, whose product may be beyond the numbers
    output, slope = weight ** (depth / 4), weight ** ((depth - 2) / 4)
    mantissa, exponent = total(parts((2.0, depth - 0.5, *[output] * 4)), parts((-1.0, depth - 1, target)))
    power = parts([slope] * 4)
    return np.ldexp(power[0] * mantissa, power[1] + exponent)


@formula(
    PARAMETERS,
    quantity="sharpness",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("a chain of two weights",),
)
def two_layer_flow_sharpness(imbalance: Numeric, target: Numeric) -> Numeric:
    r"""Sharpness of the gradient-flow solution of two layers.

    .. math:: S = \sqrt{\Delta^2 + 4 y^2}, \qquad \Delta = w_1^2 - w_2^2

    Gradient descent multiplies the imbalance by :math:`1 - \eta^2 (f-y)^2` (:func:`two_layer_imbalance_factor`), so
    that S does not increase exactly as long as :math:`\eta |f-y| \le \sqrt2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_layer_flow_sharpness(3.0, 2.0)
    5.0
    """
    return 2 * hypotenuse(imbalance / 2, target)


@formula(
    PARAMETERS,
    quantity="factor",
    status="exact",
    symbolic=True,
    source="derived",
    assumptions=("a chain of two weights",),
)
def two_layer_imbalance_factor(learning_rate: Numeric, residual: Numeric) -> Numeric:
    r"""Factor by which one step of gradient descent multiplies :math:`w_1^2 - w_2^2`: :math:`1 - \eta^2 (f-y)^2`.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> two_layer_imbalance_factor(0.5, 1.0)
    0.75
    """
    gain = learning_rate * residual
    return (1 - gain) * (1 + gain)


@formula(
    PARAMETERS,
    target=positive,
    edge=stable_below(learning_rate=lambda target, depth: 2 / _flattest(target, depth)),
    quantity="sharpness",
    status="heuristic",
    source="kreisler2023, abstract",
    assumptions=("a chain", "no weight changes sign", "the start is not balanced"),
)
def predicted_final_sharpness(
    flow_sharpness: Numeric, learning_rate: Numeric, target: Numeric, depth: Numeric
) -> Numeric:
    r"""Where gradient descent ends: at the minimum gradient flow would reach, or at the edge if that one is too sharp.

    .. math:: \min(S, 2/\eta)

    Finite learning rates end a little below either: every step lowers S, and from above the edge the run overshoots it
    by an amount that vanishes with :math:`\eta`. Beyond the persistent edge (:func:`persistent_edge`) no minimum is
    stable, and the result is +inf.

    Returns
    -------
    Numeric

    Examples
    --------
    >>> predicted_final_sharpness(10.0, 0.4, 1.0, 4), predicted_final_sharpness(4.5, 0.4, 1.0, 4)
    (5.0, 4.5)
    """
    edge = 2 / learning_rate
    return where(flow_sharpness < edge, flow_sharpness, edge)
