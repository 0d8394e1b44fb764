r"""Where oscillations come to rest below the critical learning rate."""

from __future__ import annotations

from sgdynamics.domains import Numeric
from sgdynamics.formula import formula
from sgdynamics.models.uv.parameters import PARAMETERS


@formula(
    PARAMETERS,
    quantity="scaled kernel",
    status="asymptotic",
    symbolic=True,
    source="derived",
    assumptions=("two linear layers", "one example", "q to 1 from below", "unbalanced start well above the edge"),
)
def final_excess(fraction: Numeric) -> Numeric:
    r"""Final :math:`\eta\lambda - 2` of a run that starts well above the edge: :math:`-\frac{1-q^2}{2q^2}`.

    Near the edge, with :math:`e = l-2`, :math:`\rho = (1-q^2)/q^2` and :math:`X` a multiple of the squared amplitude,
    :math:`\dot X = 2X(e-X)` and :math:`\dot e = -(\rho+e)X`. The orbit follows :math:`X = 2e + \rho` and ends at
    :math:`-\rho e_0/(2e_0 + \rho)`, which tends to :math:`-\rho/2` like :math:`\rho/e_0` as the start rises above the
    edge (:func:`sgdynamics.theory.edge_of_stability.critical_end_excess`). In the limit the error is
    :math:`O((1-q)^2)`.

    Returns
    -------
    Numeric
        Negative. The gap to the edge itself, :math:`2/\eta - S > 0`, is
        :func:`sgdynamics.theory.edge_of_stability.end_gap`.

    Examples
    --------
    >>> final_excess(0.99)
    -0.01015...
    """
    return -(1 - fraction) * (1 + fraction) / (2 * fraction**2)
