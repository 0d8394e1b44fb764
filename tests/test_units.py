"""Every law in other units of curvature and of weights: what it says must change by the units it declares.

A problem is scaled by powers of four, which change no digit of its numbers: curvatures by c and learning rates by 1/c,
weights by w, losses by c w^2. A tolerance, a floor or a bracket that has a scale of its own is seen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from cases import merged
from cases.break_even import RUN
from cases.sharpest_directions import RUN as MEASURED
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics import formulas
from sgdynamics.models.break_even import SelfStabilizingModes
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.vocabulary import QUANTITIES

SOUND = merged("SOUND")
LAWS = {law.name: law for law in formulas(kind="law")}

# powers of the unit of curvature and of weight
UNITS = {
    "1": (0, 0),
    "1/curvature": (-1, 0),
    "learning rate": (-1, 0),
    "curvature": (1, 0),
    "1/learning rate": (1, 0),
    "weight": (0, 1),
    "parameter": (0, 1),
    "weight^2": (0, 2),
    "loss": (1, 2),
    "1/loss": (-1, -2),
    "squared gradient": (2, 2),
    "step": (0, 0),
    "1/step": (0, 0),
    "examples": (0, 0),
}


def symmetric(random: Any, size: int) -> Any:
    factor = random.normal(size=(size, size + 1))
    return factor @ factor.T


def diagonal(random: Any, c: float, w: float) -> MiniBatchQuadratic:
    curvature, variance, start = np.exp(random.normal(size=(3, 3)))
    return MiniBatchQuadratic(curvature * c, variance * w**2, displacement=start * w)


def full(random: Any, c: float, w: float) -> FullQuadratic:
    return FullQuadratic(symmetric(random, 2) * c, symmetric(random, 2) * w**2, displacement=random.normal(size=2) * w)


def examples(random: Any, c: float, w: float, **options: Any) -> FiniteSumQuadratic:
    hessians = np.array([symmetric(random, 2) for _ in range(4)])
    centers, start = random.normal(size=(4, 2)), random.normal(size=2)
    return FiniteSumQuadratic(hessians * c, centers * w, displacement=start * w, **options)


def line(random: Any, c: float, w: float, **options: Any) -> FiniteSumQuadratic:
    return FiniteSumQuadratic(np.exp(random.normal(size=4)) * c, random.normal(size=4) * w, **options)


def regression(random: Any, c: float, w: float) -> GaussianLeastSquares:
    return GaussianLeastSquares(np.exp(random.normal(size=3)) * c, c * w**2, displacement=w, batch_size=2)


def largest(model: Any) -> float:
    """A curvature that no batch exceeds by much, to choose rates by."""
    if isinstance(model, MiniBatchQuadratic):
        return float(model.curvature.max())
    if isinstance(model, GaussianLeastSquares):
        return 4 * float(model.feature_variance.sum())
    hessians = model.hessian if isinstance(model, FullQuadratic) else model.hessians
    return float(np.linalg.eigvalsh(np.reshape(hessians, (-1, model.modes, model.modes))).max())


def of_model(*kinds: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Arguments of a law of a model: one of some kinds, and what else it takes."""

    def arguments(random: Any, c: float, w: float) -> dict[str, Any]:
        model = kinds[random.integers(len(kinds))](random, c, w)
        made = {name: value(largest(model), c * w**2) if callable(value) else value for name, value in options.items()}
        return {"model": model, **made}

    return arguments


def rate(sharpest: float, _: float) -> float:
    return 0.3 / sharpest


def rates(sharpest: float, _: float) -> Any:
    return np.array([0.5, 0.25, 0.125]) / sharpest


def reshuffled(random: Any, c: float, w: float) -> FiniteSumQuadratic:
    return line(random, c, w, sampling="reshuffled", batch_size=2)


def scaled_from(name: str, **powers: tuple[float, float]) -> Callable[..., Any]:
    """The sound arguments of a law, some of them times powers of the two units."""

    def arguments(random: Any, c: float, w: float) -> dict[str, Any]:
        tilt = math.exp(random.normal() / 4)
        made = dict(SOUND[name])
        for parameter, (of_curvature, of_weight) in powers.items():
            made[parameter] = np.asarray(made[parameter]) * tilt * c**of_curvature * w**of_weight
            if not made[parameter].ndim:
                made[parameter] = float(made[parameter])
        return made

    return arguments


def ensemble(random: Any, c: float, w: float) -> dict[str, Any]:
    if random.integers(2):
        return {"features": random.normal(size=(4, 2)) * math.sqrt(c), "batch_size": 2}
    return {"hessians": np.array([symmetric(random, 2) for _ in range(4)]) * c, "batch_size": 2}


def self_stabilizing(random: Any, c: float, w: float) -> dict[str, Any]:
    relative = np.transpose([[0.5, 1.0, 1.5], [1.2, 0.6, 1.2]])
    options = {"sharpening": [0.02 * c**2, 0.01 * c**2], "start_curvature": c, "restoring": c**2 / w**2}
    floors = {"curvature_floor": 1e-3 * c, "oscillation_floor": 1e-6 * w, "start": 0.1 * w}
    return {"modes": SelfStabilizingModes(relative, **options, **floors), "learning_rate": 0.1 / c, "time": 100.0 / c}


def prediction(random: Any, c: float, w: float) -> dict[str, Any]:
    run = RUN.assign(
        sharpness=RUN.sharpness * c,
        curvature_variance=RUN.curvature_variance * c**2,
        gradient_variance=RUN.gradient_variance * c**2 * w**2,
        time=RUN.time / c,
    )
    return {"run": run, "learning_rate": 0.1 / c}


def crossing(random: Any, c: float, w: float) -> dict[str, Any]:
    made = dict(SOUND["theory.break_even.break_even_crossing"])
    shape = math.exp(random.normal() / 4)
    # the alignment is a gradient variance over a curvature
    own = {"start": w, "nearest": 1e-3 * w, "learning_rate": 0.1 / c, "alignment": 0.05 * c * w**2}
    return {**made, **own, "path": lambda distance: shape * c * (w / distance)}


def measured(random: Any, c: float, w: float) -> dict[str, Any]:
    data = MEASURED.assign(
        gradient_projection=MEASURED.gradient_projection * c * w,
        curvature=MEASURED.curvature * c,
        projection_second_moment=MEASURED.projection_second_moment * c**2 * w**2,
        batch_projection=MEASURED.batch_projection * c * w,
    )
    return {"data": data, "learning_rate": 0.1 / c, "blocks": 3, "dim": "measured_step"}


def trial_losses(random: Any, c: float, w: float) -> dict[str, Any]:
    tried = np.array([0.0, 0.1, 0.2])
    loss = 1 + (tried - random.normal(0.05, 0.01, (20, 1))) ** 2
    return {"loss": loss * c * w**2, "trial_rate": tried / c, "learning_rate": 0.1 / c, "seed": 0}


def gradients(random: Any, c: float, w: float) -> dict[str, Any]:
    return {name: random.normal(size=(20, 3)) * c * w for name in ("gradient", "independent_gradient")} | {"seed": 0}


def merge(random: Any, c: float, w: float) -> dict[str, Any]:
    model = diagonal(random, c, w)
    base = 0.5 / largest(model)
    return {
        "target_schedule": np.array([1.0, 0.5, 0.25, 0.125]) * base,
        "base_learning_rate": base,
        "checkpoints": [0, 2, 4],
        "rule": "risk",
        "model": model,
    }


def schedule_of(random: Any, c: float, w: float) -> dict[str, Any]:
    model = diagonal(random, c, w)
    return {"weights": [0.25, 0.25, 0.5], "base_learning_rate": np.full(2, 0.5 / largest(model)), "model": model}


MATRICES = (full, examples, regression)
QUADRATIC = (diagonal, *MATRICES)
EVENT = {"learning_rate": (-1, 0), "curvature": (1, 0), "slope": (1, 1), "batch_slope": (1, 1)}
PROBLEMS: dict[str, Callable[..., dict[str, Any]]] = {
    "theory.break_even.break_even_crossing": crossing,
    "theory.break_even.proof_conditions": crossing,
    "theory.break_even.clipped_modes": self_stabilizing,
    "theory.break_even.direction_edges": scaled_from("theory.break_even.direction_edges", curvatures=(1, 0)),
    "theory.break_even.kernel_norm_edge": scaled_from("theory.break_even.kernel_norm_edge", eigenvalues=(1, 0)),
    "theory.break_even.trace_rule_edge": scaled_from("theory.break_even.trace_rule_edge", eigenvalues=(1, 0)),
    "theory.break_even.mean_square_edge": ensemble,
    "theory.break_even.sharpest_direction_edge": ensemble,
    "theory.break_even.strict_edge": ensemble,
    "theory.break_even.predicted_break_even": prediction,
    "theory.diagnosis.half_rate_vertex": trial_losses,
    "theory.diagnosis.gradient_cosines": gradients,
    "theory.forecast.last_iterate_bound": scaled_from(
        "theory.forecast.last_iterate_bound", schedule=(-1, 0), distance=(0, 1), gradient_bound=(1, 1)
    ),
    "theory.quadratic.almost_sure_edge": of_model(line),
    "theory.quadratic.almost_sure_growth": of_model(line, learning_rate=rate, momentum=0.7),
    "theory.quadratic.autocovariance": of_model(*MATRICES, learning_rate=rate, lags=[0, 2]),
    "theory.quadratic.best_power_decay": of_model(diagonal, steps=6),
    "theory.quadratic.critical_rate": of_model(*QUADRATIC, schedule=rates),
    "theory.quadratic.forcing_and_memory": of_model(regression, schedule=rates),
    "theory.quadratic.greedy_schedule": of_model(diagonal, steps=4),
    "theory.quadratic.mean_edge": of_model(*QUADRATIC, momentum=0.7),
    "theory.quadratic.second_moment_edge": of_model(*QUADRATIC, momentum=0.7),
    "theory.quadratic.mean_square_growth": of_model(*MATRICES, learning_rate=rate, momentum=0.7),
    "theory.quadratic.moments": of_model(*QUADRATIC, schedule=rates),
    "theory.quadratic.noise_scale": of_model(*QUADRATIC, schedule=rates),
    "theory.quadratic.one_step_edge": of_model(*MATRICES),
    "theory.quadratic.optimal_schedule": of_model(diagonal, steps=2),
    "theory.quadratic.preconditioned": of_model(diagonal, exponent=0.5),
    "theory.quadratic.reshuffled_edge": of_model(reshuffled),
    "theory.quadratic.reshuffled_growth": of_model(reshuffled, learning_rate=rate),
    "theory.quadratic.stability": of_model(diagonal, learning_rate=rate),
    "theory.quadratic.stationary": of_model(*QUADRATIC, learning_rate=rate),
    "theory.quadratic.steps_to_target": of_model(diagonal, learning_rate=rate, target=lambda _, loss: 0.3 * loss),
    "theory.quadratic.tail_index": of_model(line, learning_rate=rate),
    "theory.quadratic.top_direction_edge": of_model(*MATRICES),
    "theory.quadratic.trace_edge": of_model(*MATRICES),
    "theory.schedules.gain_kept": scaled_from(
        "theory.schedules.gain_kept", target_schedule=(-1, 0), base_learning_rate=(-1, 0)
    ),
    "theory.schedules.merge_plan": merge,
    "theory.schedules.schedule_of_merge": schedule_of,
    "theory.schedules.update_weights": scaled_from(
        "theory.schedules.update_weights", schedule=(-1, 0), weight_decay=(1, 0)
    ),
    "theory.sharpest_directions.increases": scaled_from("theory.sharpest_directions.increases", **EVENT),
    "theory.sharpest_directions.overshoots": scaled_from("theory.sharpest_directions.overshoots", **EVENT),
    "theory.sharpest_directions.step_to_curvature": measured,
}

WITHOUT = {
    name: reason
    for reason, names in {
        "all arguments are pure numbers": """deep_linear.initial_ntk_moments quadratic.average_variance
            schedules.average_center_weights schedules.average_for_every_curvature schedules.average_to_gains
            schedules.binomial_average schedules.center_weights schedules.equivalence schedules.gains_from_weights
            schedules.gains_to_average schedules.schedule_free_weights schedules.wsm_average uv.catapult_final_ntk
            uv.fixed_points uv.jacobian uv.period_doubling_limit uv.period_doublings uv.two_cycle uv.regime
            edge_of_stability.error_budget edge_of_stability.fitted_order""",
        "units of its own, in the tests of its row": """deep_linear.balanced_spectrum deep_linear.mode_strength
            edge_of_stability.central_flow edge_of_stability.gradient_flow edge_of_stability.modified_flow
            edge_of_stability.oscillation_covariance uv.first_rise_rate diagnosis.diagnose diagnosis.distance_plateau
            diagnosis.fit_loss_curve forecast.best_schedule forecast.fit forecast.next_run forecast.predict
            forecast.quadratic_at regimes.time_regimes""",
        "cross entropy and labels fix the unit of outputs": """patterns.first_time_below patterns.gap_map
            patterns.population_dynamics patterns.predicted_learning patterns.reduced_dynamics
            patterns.reversal_conditions""",
    }.items()
    for name in (f"theory.{short}" for short in names.split())
}


def in_units(found: Any, units: str, c: float, w: float) -> dict[str, Any]:
    """The numbers of a result by name, freed of their units."""
    if isinstance(found, MiniBatchQuadratic):  # units of its own
        return {"gain spread": found.curvature / found.curvature.max()}
    if isinstance(found, xr.Dataset):
        return {str(key): in_units(part, "1", c, w)[""] for key, part in found.variables.items()}
    values = np.asarray(found)
    if values.dtype.kind not in "iuf":
        return {"": values.astype(str)}
    of_curvature, of_weight = UNITS[getattr(found, "attrs", {}).get("units", units)]
    return {"": values / (c**of_curvature * w**of_weight)}


@pytest.mark.parametrize("name", PROBLEMS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), curvature=st.integers(-20, 20), weight=st.integers(-20, 20))
def test_a_law_is_the_same_in_other_units(name, seed, curvature, weight):
    law, (c, w) = LAWS[name], (4.0**curvature, 4.0**weight)
    usual, other = (
        in_units(law(**PROBLEMS[name](np.random.default_rng(seed), *units)), QUANTITIES[law.quantity].units, *units)
        for units in ((1.0, 1.0), (c, w))
    )
    assert usual.keys() == other.keys()
    for part, value in usual.items():
        if value.dtype.kind == "U":
            assert value.tolist() == other[part].tolist()
        else:
            scale = np.max(abs(value), initial=0, where=np.isfinite(value))
            np.testing.assert_allclose(other[part], value, rtol=1e-7, atol=1e-9 * scale, err_msg=part)


def test_every_law_is_put_into_other_units_or_says_why_not():
    assert PROBLEMS.keys() | WITHOUT.keys() == LAWS.keys()
    assert not PROBLEMS.keys() & WITHOUT.keys()


def test_a_scale_of_its_own_is_seen():
    """Rates 0.1 beyond an edge, whatever its unit."""
    edges = [
        0.1 + float(LAWS["theory.quadratic.mean_edge"](diagonal(np.random.default_rng(0), c, 1.0))) for c in (1, 4)
    ]
    assert edges[1] != pytest.approx(edges[0] / 4, rel=1e-7)
