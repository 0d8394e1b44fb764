r"""The Hessian of the uv network's loss at any point, from output and kernel alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdynamics.domains import Value, checked, is_symbolic, nonnegative, positive, real
from sgdynamics.formula import sqrt, where
from sgdynamics.models.uv._pointwise import pointwise
from sgdynamics.models.uv.dynamics import cone_sides, inside_cone, squared_imbalance


@checked(output=real, ntk=nonnegative, target=real, kappa=positive)
def hessian_eigenvalues(
    output: float | Value, ntk: float | Value, *, target: float | Value, kappa: float | Value
) -> tuple[Value, Value]:
    r"""The two Hessian eigenvalues that curve the function, the upper of which is the sharpness.

    .. math::

        \lambda^H_\pm = \tfrac12\bigl[\lambda \pm \sqrt{4\kappa(2f-y)^2 + D}\bigr], \qquad D = \lambda^2 - 4\kappa f^2,
        \qquad \lambda^H_+ \lambda^H_- = -\kappa (f-y)(3f-y).

    They add up to the kernel, which is the trace of the Hessian. The other eigenvalues are :math:`\pm\sqrt\kappa(f-y)`
    and 0, none above :math:`\lambda^H_+`; see :meth:`UVNetwork.hessian_spectrum`.

    Status: exact, at every point and width; free of cancellation.

    Parameters
    ----------
    output, ntk : Numeric
        :math:`f` and :math:`\lambda \ge 2\sqrt\kappa|f|`.
    target : Numeric
        :math:`y`.
    kappa : Numeric
        :math:`\kappa > 0`.

    Returns
    -------
    top, bottom : Numeric
        :math:`\lambda^H_+ \ge 0` and :math:`\lambda^H_-`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, no weights have such an output and kernel, or shapes do not broadcast.

    Examples
    --------
    >>> hessian_eigenvalues(1.0, 2.0, target=0.0, kappa=1.0)
    (3.0, -1.0)
    """

    def core(output: Any, ntk: Any, target: Any, kappa: Any) -> tuple[Any, Any]:
        inside_cone("hessian_eigenvalues", output, ntk, kappa)
        reach = 2 * sqrt(kappa) * (2 * output - target)
        if any(map(is_symbolic, (output, ntk, target, kappa))):
            root = sqrt(reach**2 + squared_imbalance(output, ntk, kappa))
            return (ntk + root) / 2, (ntk - root) / 2
        lower, upper = cone_sides(output, ntk, kappa)
        # two roots and a hypotenuse, because the squares of a diverging run overflow long before it does
        root = np.hypot(reach, np.sqrt(lower) * np.sqrt(upper))
        top = (ntk + root) / 2
        residual = sqrt(kappa) * (output - target)
        bottom = where(top == 0, 0.0, -residual * (sqrt(kappa) * (3 * output - target) / where(top == 0, 1.0, top)))
        return top, bottom

    made = pointwise("hessian_eigenvalues", core, 2, output=output, ntk=ntk, target=target, kappa=kappa)
    return made[0], made[1]
