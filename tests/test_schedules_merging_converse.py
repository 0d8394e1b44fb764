"""The schedule of a merge: its residual against unrolled runs, its optimality, and numbers from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, swa, two_point
from sgdynamics.theory.schedules import average_to_gains, merge_plan, schedule_of_merge

T = 60
CURVATURE = np.geomspace(0.01, 1, 15)
MODEL = MiniBatchQuadratic(CURVATURE, 1 / CURVATURE)


def rows(rates, curvature):
    """What x_0 and c_1..c_T weigh in x_0..x_T."""
    made = [np.eye(len(rates) + 1)[0]]
    for j, rate in enumerate(rates, 1):
        made.append((1 - rate * curvature) * made[-1] + rate * curvature * np.eye(len(rates) + 1)[j])
    return np.array(made)


def distance_and_risks(weights, base, schedule, curvature, variance):
    """E |x_average - x_schedule|_H^2 / 2 and the risks of both, from the weights of every center."""
    totals = np.zeros(3)
    for h, c in zip(curvature, variance, strict=True):
        x = base[0] * h
        scale = np.append(c * x / (2 - x), np.full(len(base), c))
        mean, end = weights @ rows(base, h), rows(schedule, h)[-1]
        totals += [h / 2 * np.sum(scale * row**2) for row in (mean - end, mean, end)]
    return totals


@pytest.mark.parametrize(
    ("average", "name"), [(swa(T), "swa"), (two_point(T, 30), "two points 30"), (ema(0.9, T), "ema 0.9")]
)
def test_the_residuals_of_single_schedules(average, name):
    found = schedule_of_merge(average, constant(1.0, T), MODEL)
    assert float(found.residual) == pytest.approx(elsewhere("schedule_residual").values[name], abs=5e-4)
    assert float(found.residual) < float(found.start_residual)
    assert ((found.learning_rate >= 0) & (found.learning_rate <= 2)).all()


def test_the_residual_is_that_of_the_unrolled_runs_and_cannot_be_improved():
    average, base = ema(0.8, 12), np.linspace(0.9, 0.5, 12)
    curvature, variance = np.array([0.05, 0.4, 1.0]), np.array([2.0, 1.0, 0.3])
    found = schedule_of_merge(average, base, MiniBatchQuadratic(curvature, variance), largest=1.2)
    best = found.learning_rate.values
    gap, risk, own = distance_and_risks(average, base, best, curvature, variance)
    assert float(found.residual) == pytest.approx(gap / risk, rel=1e-9)
    assert float(found.average_risk) == pytest.approx(risk, rel=1e-9)
    assert float(found.schedule_risk) == pytest.approx(own, rel=1e-9)
    for j in range(12):
        for move in (-1e-3, 1e-3):
            other = best.copy()
            other[j] = np.clip(other[j] + move, 0, 1.2)
            assert distance_and_risks(average, base, other, curvature, variance)[0] >= gap * (1 - 1e-9)


@pytest.mark.parametrize("average", [swa(12), ema(0.8, 12), two_point(12, 4)], ids=["swa", "ema", "two"])
def test_the_search_begins_no_farther_than_schedules_that_are_exact_at_one_curvature(average):
    base, curvature = np.linspace(0.9, 0.5, 12), np.array([0.05, 0.2, 0.4, 0.6, 1.0])
    model = MiniBatchQuadratic(curvature, 0.0, displacement=1.0)
    found = schedule_of_merge(average, base, model, largest=3.0)
    wanted = np.array([average @ rows(base, h)[:, 0] for h in curvature])
    for at in (0.2, 0.4, 0.6):
        exact = np.clip(average_to_gains(average, base * at) / at, 3e-3, 3 - 3e-3)
        made = np.array([rows(exact, h)[-1, 0] for h in curvature])
        residual = np.sum(curvature * (made - wanted) ** 2) / np.sum(curvature * wanted**2)
        assert float(found.start_residual) <= residual * (1 + 1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), curvature=st.floats(0.2, 1.0))
def test_at_one_curvature_the_schedule_is_the_exact_one(seed, curvature):
    random = np.random.default_rng(seed)
    average = random.dirichlet(np.ones(9))
    base = random.uniform(0.3, 0.9, 8)
    found = schedule_of_merge(average, base, MiniBatchQuadratic([curvature], 1.0), largest=1 / curvature)
    assert float(found.residual) < 1e-6
    exact = average_to_gains(average, base * curvature) / curvature
    assert np.all((exact >= 0) & (exact <= 1 / curvature))


@pytest.mark.parametrize("unit", [2.0**-20, 2.0**10])
def test_the_search_has_no_unit_of_rates(unit):
    average, base, curvature = ema(0.8, 12), np.linspace(0.9, 0.5, 12), np.array([0.05, 0.4, 1.0])
    plain = schedule_of_merge(average, base, MiniBatchQuadratic(curvature, 1.0), largest=1.2)
    model = MiniBatchQuadratic(curvature / unit, 1.0)
    scaled = schedule_of_merge(average, base * unit, model, largest=1.2 * unit)
    np.testing.assert_allclose(scaled.learning_rate / unit, plain.learning_rate, rtol=1e-9)
    assert float(scaled.start_residual) == pytest.approx(float(plain.start_residual), rel=1e-9)
    assert float(scaled.residual) == pytest.approx(float(plain.residual), rel=1e-9)
    assert float(scaled.average_risk) * unit == pytest.approx(float(plain.average_risk), rel=1e-9)


def test_a_displaced_start_enters_as_bias():
    average, base, curvature = swa(6), constant(0.5, 6), np.array([0.3, 1.0])
    found = schedule_of_merge(average, base, MiniBatchQuadratic(curvature, 0.0, displacement=1.0))
    wanted = np.array([average @ rows(base, h)[:, 0] for h in curvature])
    made = np.array([rows(found.learning_rate.values, h)[-1, 0] for h in curvature])
    residual = np.sum(curvature * (made - wanted) ** 2) / np.sum(curvature * wanted**2)
    assert float(found.residual) == pytest.approx(residual, rel=1e-9)
    assert float(found.average_risk) == pytest.approx(np.sum(curvature * wanted**2) / 2)
    assert residual < 0.01


def test_a_merge_of_a_decay_leads_back_near_to_it():
    target = np.linspace(0.9, 0.0, 20)
    plan = merge_plan(target, 1.0, np.arange(21), rule="lsq_nonneg", model=MODEL)
    found = schedule_of_merge(plan.weight.values, constant(1.0, 20), MODEL)
    own = distance_and_risks(plan.weight.values, constant(1.0, 20), target, CURVATURE, 1 / CURVATURE)
    assert float(found.residual) <= own[0] / own[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [0.5, 0.6, 0.0]}, "weights must be weights over the iterates x_0..x_T that sum to 1"),
        ({"weights": [0.5, 0.5]}, "weights must be one average with one weight more"),
        ({"base_learning_rate": [2.5, 1.0]}, "base_learning_rate must be below the stability edge"),
        ({"base_learning_rate": [0.0, 0.0]}, "base_learning_rate must be > 0 in some step"),
        ({"base_learning_rate": [0.0, 1.0]}, "base_learning_rate must be > 0 in the first step"),
        ({"model": MiniBatchQuadratic([1.0], 0.0)}, "model must be one under which the average has an expected risk"),
    ],
)
def test_what_has_no_schedule_says_why(change, message):
    sound = {"weights": [0.2, 0.3, 0.5], "base_learning_rate": [1.0, 1.0], "model": MODEL}
    schedule_of_merge(**sound)
    with pytest.raises(ValueError, match=message):
        schedule_of_merge(**{**sound, **change})
