"""Merge plans: their risks against unrolled runs, their optimality, and a table of numbers from elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.schedules import merge_plan

T = 200
STEP = np.arange(1, T + 1)
TARGETS = {
    "linear": 1 - STEP / T,
    "cosine": (1 + np.cos(np.pi * STEP / T)) / 2,
    "jump": np.where(STEP <= 100, 1.0, 0.1),
}
CURVATURE = np.geomspace(1e-3, 1, 40)
MODEL = MiniBatchQuadratic(CURVATURE, 1 / CURVATURE)


def planned(target, stride, rule):
    name, _, curvature = rule.partition(" ")
    options = {"curvature": float(curvature)} if curvature else {}
    return merge_plan(target, 1.0, np.arange(0, T + 1, stride), rule=name, model=MODEL, **options)


@pytest.mark.parametrize(
    ("target", "stride"), [("linear", 1), ("linear", 10), ("linear", 40), ("cosine", 1), ("jump", 1)]
)
def test_the_table_of_merging_rules(target, stride):
    risks, residuals = (elsewhere(name).under(target, stride).values for name in ("merge_risk", "merge_residual"))
    plans = {rule: planned(TARGETS[target], stride, rule) for rule in risks}
    assert {rule: float(plan.merged_risk) for rule, plan in plans.items()} == pytest.approx(risks, rel=1e-3)
    assert {rule: float(plans[rule].residual) for rule in residuals} == pytest.approx(residuals, rel=5e-3)
    assert float(plans["wsm"].base_risk) == pytest.approx(2.2201, abs=5e-5)


def test_residuals_of_emulating_a_linear_decay():
    linear = TARGETS["linear"]
    assert float(planned(linear, 1, "wsm").merged_risk) == pytest.approx(0.06908, abs=5e-6)
    assert float(planned(linear, 1, "wsm").residual) == pytest.approx(0.6067, abs=5e-5)
    assert float(planned(linear, 1, "lsq").residual) == pytest.approx(0.1734, abs=5e-5)
    assert float(planned(linear, 1, "lsq").smallest_weight) < 0
    assert float(planned(linear, 1, "lsq_nonneg").residual) == pytest.approx(0.1739, abs=5e-5)
    assert float(planned(linear, 40, "wsm").residual) == pytest.approx(2.6894, abs=5e-5)


def unrolled(rate, target, model_arrays, stationary, weights, checkpoints):
    """Risks of base, target and merged point and their distance, by the weights of every center, mode by mode."""
    totals = np.zeros(4)
    for h, c, e, n in zip(*model_arrays, strict=True):
        x = rate * h
        start = c * x / (2 - x) if stationary else e**2

        def coefficients(rates, h=h):
            rows = [np.eye(1, len(target) + 1)[0]]  # of (x_0, c_1..c_T)
            for j, one in enumerate(rates):
                row = (1 - one * h) * rows[-1]
                row[j + 1] += one * h
                rows.append(row)
            return np.array(rows)

        base, wanted = coefficients(np.full(len(target), rate)), coefficients(target)[-1]
        merged = weights @ base[checkpoints]
        scale = np.append(start, np.full(len(target), c))
        for i, row in enumerate((base[-1], wanted, merged, merged - wanted)):
            totals[i] += n * h / 2 * np.sum(scale * row**2)
    return totals


seeds = st.integers(0, 2**32 - 1)


@given(
    seed=seeds, displaced=st.booleans(), rule=st.sampled_from(["wsm", "exact", "binomial", "lsq", "lsq_nonneg", "risk"])
)
def test_risks_are_those_of_the_unrolled_runs_at_irregular_checkpoints(seed, displaced, rule):
    random = np.random.default_rng(seed)
    modes, steps = random.integers(1, 5), int(random.integers(3, 30))
    curvature = 10 ** random.uniform(-2, 0, modes)
    variance, multiplicity = random.uniform(0.1, 2, modes), random.uniform(0.5, 3, modes)
    displacement = random.uniform(0.1, 2, modes) if displaced else np.zeros(modes)
    rate, target = 0.9, 0.9 * np.sort(random.uniform(0, 1, steps))[::-1]
    inner = random.permutation(np.arange(1, steps))[: random.integers(0, steps - 1)]
    checkpoints = np.concatenate([[0], np.sort(inner), [steps]])
    model = MiniBatchQuadratic(curvature, variance, multiplicity=multiplicity, displacement=displacement)
    plan = merge_plan(target, rate, checkpoints, rule=rule, model=model, curvature=0.2)
    fields = (curvature, variance, displacement, multiplicity)
    weights = plan.weight.values
    base, wanted, merged, distance = unrolled(rate, target, fields, not displaced, weights, checkpoints)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert float(plan.base_risk) == pytest.approx(base, rel=1e-10)
    assert float(plan.target_risk) == pytest.approx(wanted, rel=1e-10)
    assert float(plan.merged_risk) == pytest.approx(merged, rel=1e-8)
    assert float(plan.residual) * wanted == pytest.approx(distance, rel=1e-6, abs=1e-9 * base)


@settings(max_examples=30)
@given(seed=seeds)
def test_the_best_weights_cannot_be_improved(seed):
    random = np.random.default_rng(seed)
    steps = 12
    target = np.sort(random.uniform(0, 1, steps))[::-1]
    curvature = 10 ** random.uniform(-2, 0, 6)
    model = MiniBatchQuadratic(curvature, 1.0)
    checkpoints = np.arange(0, steps + 1, 2)
    best = {
        rule: merge_plan(target, 1.0, checkpoints, rule=rule, model=model) for rule in ("lsq", "lsq_nonneg", "risk")
    }
    others = [merge_plan(target, 1.0, checkpoints, rule=rule, model=model) for rule in ("wsm", "binomial", "uniform")]
    for other in [*others, *best.values()]:
        assert best["risk"].merged_risk <= other.merged_risk * (1 + 1e-9)
        assert best["lsq"].residual <= other.residual + 1e-9
    assert (best["lsq_nonneg"].weight >= 0).all()
    for other in others:
        assert best["lsq_nonneg"].residual <= other.residual + 1e-9
    if (best["lsq"].weight >= 0).all():
        xr.testing.assert_allclose(best["lsq"].weight, best["lsq_nonneg"].weight, atol=1e-6)


def test_the_nonnegative_optimum_satisfies_its_conditions():
    # no mass can be moved from a used checkpoint to any other with profit
    weights = planned(TARGETS["linear"], 10, "lsq_nonneg").weight.values
    fields = (CURVATURE, 1 / CURVATURE, np.zeros(40), np.ones(40))
    checkpoints = np.arange(0, T + 1, 10)

    def distance(w):
        return unrolled(1.0, TARGETS["linear"], fields, True, w, checkpoints)[3]

    here, used = distance(weights), int(np.argmax(weights))
    for other in range(weights.size):
        moved = weights.copy()
        moved[used] -= 1e-4
        moved[other] += 1e-4
        assert distance(moved) >= here * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_nonnegative_optimum_is_the_best_of_all_choices_of_checkpoints(seed):
    random = np.random.default_rng(seed)
    steps, modes, momentum = 7, 4, 0.9
    target = random.uniform(0, 1.5, steps)  # up and down, so that some checkpoints are of no use
    curvature, variance = 10 ** random.uniform(-2, 0, modes), 10 ** random.uniform(-2, 2, modes)
    model = MiniBatchQuadratic(curvature, variance, displacement=random.uniform(0.1, 2, modes))
    plan = merge_plan(
        target, 1.0, np.arange(steps + 1), rule="lsq_nonneg", model=model, momentum=momentum, at_rest=True
    )
    # every checkpoint, and the target, by what the start and each center put into it
    scale = np.sqrt(curvature / 2) * np.vstack([model.displacement, np.tile(np.sqrt(variance), (steps, 1))])
    points = []
    for rates in (np.ones(steps), target):
        place, velocity = np.zeros((2, steps + 1, modes))
        place[0] = 1
        visited = [place]
        for step, rate in enumerate(rates, 1):
            gradient = curvature * place
            gradient[step] -= curvature
            velocity = momentum * velocity + gradient
            place = place - rate * velocity
            visited.append(place)
        points.append((scale * np.array(visited)).reshape(steps + 1, -1))
    points, wanted = points[0], points[1][-1]
    least = np.inf
    for size in range(1, steps + 2):
        for chosen in itertools.combinations(range(steps + 1), size):
            some, last = points[list(chosen[:-1])], points[chosen[-1]]
            weights = np.linalg.lstsq((some - last).T, wanted - last)[0]
            weights = np.append(weights, 1 - weights.sum())
            if (weights >= 0).all():
                least = min(least, np.sum((weights @ points[list(chosen)] - wanted) ** 2))
    assert float(plan.residual * plan.target_risk) == pytest.approx(least, rel=1e-7)


def test_claims_12_and_13_as_plans():
    falling = [0.075, 0.05, 0.025]
    steps = [0, 1, 2, 3]
    assert merge_plan(falling, 0.1, steps, rule="wsm").weight.values == pytest.approx([0.25] * 4)
    assert merge_plan(falling, 0.1, steps, rule="exact", curvature=1.0).weight.values == pytest.approx(
        [0.2315625, 0.2559375, 0.2625, 0.25], abs=1e-15
    )
    assert merge_plan(falling, 0.1, steps, rule="binomial").weight.values == pytest.approx(
        [0.09375, 0.40625, 0.40625, 0.09375]
    )
    rising = merge_plan([0.06, 0.27, 0.09], 0.3, steps, rule="exact", curvature=1.0)
    assert rising.weight.values == pytest.approx([0.53144, -0.44044, 0.609, 0.3])
    assert float(rising.smallest_weight) == pytest.approx(-0.44044)
    assert "merged_risk" not in rising


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoints": [1, 2, 3]}, "checkpoints must run from 0"),
        ({"checkpoints": [0, 2]}, "checkpoints must run from 0, the start of the window, to its end 3"),
        ({"rule": "lsq"}, "model must be given for rule 'lsq'"),
        ({"rule": "exact"}, "curvature must be given for rule 'exact'"),
        ({"checkpoints": [0, 1, 1, 3]}, "checkpoints must be an increasing 1-D array of steps"),
        ({"checkpoints": [0]}, "checkpoints must run from 0"),
        ({"checkpoints": [0.5, 3]}, "checkpoints must be an increasing 1-D array of steps"),
        ({"target_schedule": []}, "target_schedule must be a schedule"),
        ({"target_schedule": [[0.1, 0.1, 0.0]]}, "target_schedule must be one schedule"),
        ({"base_learning_rate": 0.0}, "base_learning_rate must be a number > 0"),
        ({"base_learning_rate": [0.1, 0.1]}, "base_learning_rate must be one number, or one for each of the 3 steps"),
        ({"rule": "linear"}, "rule must be one of 'auto', 'wsm'"),
        ({"rule": "exact", "curvature": 20.0}, "base_learning_rate must be below the stability edge 0.1 of the curvat"),
        ({"model": MiniBatchQuadratic([30.0], 1.0)}, "base_learning_rate must be below the stability edge"),
    ],
)
def test_plans_that_cannot_be_made_say_why(change, message):
    sound = {"target_schedule": [0.1, 0.05, 0.0], "base_learning_rate": 0.1, "checkpoints": [0, 1, 3], "rule": "wsm"}
    merge_plan(**sound)
    with pytest.raises(ValueError, match=message):
        merge_plan(**{**sound, **change})
