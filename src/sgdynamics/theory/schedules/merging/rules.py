r"""The weights of every rule."""

from __future__ import annotations

import numpy as np

from sgdynamics.domains import complain
from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.emulation import binomial_coefficients, tail_sums
from sgdynamics.theory.schedules.merging.quadratic_form import Kept, QuadraticForm, Steps
from sgdynamics.theory.schedules.weights import gains_to_average

RULES = ("wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk", "uniform")
NEEDS_MODEL = ("lsq", "lsq_nonneg", "risk")

# When tail sums may be taken without being asked for: no step loses more than this fraction of the base learning rate,
# or the weight of one checkpoint keeps its noise; and no more than this is left at the end.
LARGEST_DROP = 0.25
LARGEST_END = 0.05


def smooth_decay(fractions: Array) -> bool:
    """Whether fractions fall from 1 to about 0 without a jump."""
    drops = tail_sums(fractions)[:-1]
    return bool((drops >= 0).all() and (drops <= LARGEST_DROP).all() and fractions[-1] <= LARGEST_END)


def chosen_rule(target: Array, base: Array, known_spectrum: bool) -> str:
    """What ``rule="auto"`` stands for."""
    if known_spectrum:
        return "lsq_nonneg"
    if (base > 0).all() and smooth_decay(target / base):
        return "wsm"
    raise ValueError(
        "merge_plan: model must be given where the rule is 'auto' and the target is no smooth decay to about 0, "
        "got None: measure a spectrum (models.spectra), or take a broad prior such as "
        "MiniBatchQuadratic.log_uniform(1e-4 / rate, 1 / rate, 40), which then is merged by 'lsq_nonneg'"
    )


def _per_block(values: Array, checkpoints: Steps) -> Array:
    made: Array = np.add.reduceat(values, checkpoints[:-1])
    return made


def _movements(target: Array, base: Array, checkpoints: Steps) -> tuple[Array, Array, Kept]:
    """Sums of the rates between checkpoints, and where the base run moves; a decay cannot move where it does not."""
    wanted, moved = _per_block(target, checkpoints), _per_block(base, checkpoints)
    stuck = np.flatnonzero((moved == 0) & (wanted > 0))
    if stuck.size:
        first, last = checkpoints[stuck[0]] + 1, checkpoints[stuck[0] + 1]
        raise complain("merge_plan", "base_learning_rate", f"> 0 where the target moves, in steps {first}..{last}", 0.0)
    return wanted, moved, moved > 0


def _on_checkpoints(weights: Array, moving: Kept) -> Array:
    """Weights of the start and of the ends of the moving blocks; what a still block ends on has been counted."""
    everywhere = np.zeros(moving.size + 1)
    everywhere[np.append(True, moving)] = weights
    return everywhere


def exact_average(target: Array, base: Array, checkpoints: Steps, curvature: float) -> Array:
    """Match bias and noise of every block at one curvature."""
    moving = _movements(target, base, checkpoints)[2]
    gains, base_gains = (
        1 - np.multiply.reduceat(1 - rates * curvature, checkpoints[:-1]) for rates in (target, base)
    )  # fmt: skip
    return _on_checkpoints(gains_to_average(gains[moving], base_gains[moving]), moving)


def exact_momentum_average(target: Array, base: Array, curvature: float, momentum: float) -> Array:
    r"""Match bias and noise of every step at one curvature.

    With :math:`w_j = -h v_j` the adjoint :math:`v_j` of the velocity is known for every step, hence, from
    :math:`v_j = \beta v_{j+1} - \eta_j \lambda_j`, the adjoint :math:`\lambda_j` of the base run's point, which
    :math:`\alpha_j` adds to: the triangular system, solved without writing it down.
    """
    pulls, point, pull = np.zeros(target.size + 1), 1.0, 0.0
    for j in range(target.size - 1, -1, -1):
        pulls[j] = pull - target[j] * point
        point, pull = point + curvature * pulls[j], momentum * pulls[j]
    points = (momentum * pulls[1:] - pulls[:-1]) / base
    handed_down = points + curvature * pulls[:-1]  # by step j to x_{j-1}
    made: Array = np.append(point, points) - np.append(handed_down, 0.0)
    return made


def average_of_rule(
    rule: str,
    target: Array,
    base: Array,
    checkpoints: Steps,
    *,
    form: QuadraticForm | None,
    curvature: float | None,
    momentum: float,
) -> Array:
    """Weights of the checkpoints."""
    if rule == "uniform":
        return np.full(checkpoints.size, 1 / checkpoints.size)
    if rule in ("wsm", "binomial"):
        wanted, moved, moving = _movements(target, base, checkpoints)
        made = (tail_sums if rule == "wsm" else binomial_coefficients)(wanted[moving] / moved[moving])
        return _on_checkpoints(made, moving)
    if rule == "exact":
        assert curvature is not None
        if momentum:
            return exact_momentum_average(target, base, curvature, momentum)
        return exact_average(target, base, checkpoints, curvature)
    assert form is not None
    return {"lsq": form.closest, "lsq_nonneg": form.closest_nonnegative, "risk": form.lowest}[rule]()
