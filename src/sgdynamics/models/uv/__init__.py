r"""Two-layer linear network on one example: the maps of its gradient descent, its Hessian and the law of its start.

.. math:: f = a\,v\cdot(Ux), \qquad L = \tfrac12(f-y)^2, \qquad \kappa = a^2|x|^2, \qquad \lambda = |\nabla f|^2 =
    \kappa(|h|^2+|v|^2), \quad h = Ux/|x|.

Output :math:`f` and kernel :math:`\lambda` obey a closed map of two numbers at every width.

=============================================================  ===================================================
question                                                       where to look
=============================================================  ===================================================
the network, its start and its Hessian                         ``UVNetwork``, ``hessian_eigenvalues``
the same on several examples                                   ``MultiExampleUV``
one exact step in function space                               ``function_step``, ``cone_step``, ``log_cone_step``
from output and kernel to the coordinates of a step, and back  ``to_cone``, ``from_cone``
how random starts are spread                                   ``ntk_quantile``, ``alignment_quantile``,
                                                               ``start_ratio``
what keeps the two layers apart                                ``imbalance``
=============================================================  ===================================================
"""

from sgdynamics.models.uv.dynamics import cone_step, from_cone, function_step, imbalance, log_cone_step, to_cone
from sgdynamics.models.uv.hessian import hessian_eigenvalues
from sgdynamics.models.uv.multi_example import MultiExampleUV
from sgdynamics.models.uv.network import UVNetwork
from sgdynamics.models.uv.start import alignment_quantile, ntk_quantile, start_ratio

__all__ = [
    "SOURCES",
    "MultiExampleUV",
    "UVNetwork",
    "alignment_quantile",
    "cone_step",
    "from_cone",
    "function_step",
    "hessian_eigenvalues",
    "imbalance",
    "log_cone_step",
    "ntk_quantile",
    "start_ratio",
    "to_cone",
]

SOURCES = ("kalra2023", "lewkowycz2020", "kalra2025")
